#!/usr/bin/python
"""Keeps the service's hashed tokens for it to read, and its certificate; key and own token for root alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_credentials
short_description: Keep the service's tokens, hashed, and its certificate
description:
  - Writes C(<directory>/tokens.json), which the running service reads again when it changes; its group may
    read it. It holds the sha256 of every token, never a token.
  - Makes C(<directory>/operator.token) once, a token of the host's own for its validation and its
    operators. It is made on the host and does not leave it.
  - Without tokens the service is open on its loopback address; C(tokens.json) then holds the host's own
    alone, for the return to an earlier release that is handed it.
  - Writes the certificate, where there is one, beside the directory as C(tls.crt) for everybody on
    the host to pin, and its key as C(<directory>/tls.key). Without one, what an earlier release may
    need to be returned to is left.
options:
  tokens:
    description: The tokens as the filter C(katago.fleet.hashed_tokens) gives them; name, scopes, sha256.
    type: list
    elements: dict
    required: true
  certificate:
    description: The service's certificate with its chain, in PEM; empty without TLS.
    type: str
    default: ""
  key:
    description: The certificate's key, in PEM.
    type: str
    default: ""
  directory:
    description: Where credentials are kept on the host.
    type: path
    default: /etc/katago-mcp/credentials
  group:
    description: The service's group. It must exist, but in check mode.
    type: str
    default: katago-mcp
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The tokens are in place
  katago.fleet.service_credentials:
    tokens: "{{ katago_mcp_tokens | katago.fleet.hashed_tokens }}"
"""

RETURN = r"""
names:
  description: The names of the tokens that clients hold.
  type: list
  elements: str
  returned: always
replaced:
  description: Whether C(tokens.json) was replaced by another content, or will be.
  type: bool
  returned: always
"""

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials

OPERATOR = "operator"


def tokens_file(tokens: list[dict[str, Any]], operator: str) -> str:
    """The content of tokens.json: the given tokens and the host's own."""
    own = {"name": OPERATOR, "scopes": ["analyze", "admin"], "sha256": digest.of_text(operator)}
    return json.dumps({"tokens": [*tokens, own]}, indent=1) + "\n"


@dataclass(frozen=True)
class Kept:
    """A file as it must be: its content, its mode, and the numeric id of its group; it is the own user's."""

    content: str
    mode: int
    group: int

    def lies_at(self, path: Path) -> bool:
        """Whether a file is so."""
        return is_access(path, self.mode, self.group) and path.read_text() == self.content

    def write(self, path: Path) -> None:
        """Replace or create the file."""
        common_files.write(path, self.content.encode(), mode=self.mode, group=self.group)


def is_access(path: Path, mode: int, group: int) -> bool:
    """Whether something is there with this mode and this group, and is the own user's."""
    if not path.exists():
        return False
    status = path.stat()
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, os.geteuid(), group)


def files(
    directory: Path, tokens: str, operator: str, certificate: str, key: str, group: int
) -> dict[Path, Kept]:
    """Every file that must be there, no certificate and key without one. `group`: the service's."""
    own = os.getegid()
    found = {
        directory / paths.OPERATOR_TOKEN: Kept(f"{operator}\n", 0o600, own),
        directory / paths.TOKENS: Kept(tokens, credentials.TOKENS_MODE, group),
    }
    if certificate:
        found[directory / paths.KEY] = Kept(key, 0o600, own)
        found[directory.parent / paths.CERTIFICATE] = Kept(certificate, 0o644, own)
    return found


def main() -> None:
    """Make what is missing, replace what differs."""
    module = AnsibleModule(
        argument_spec={
            "tokens": {"type": "list", "elements": "dict", "required": True, "no_log": False},
            "certificate": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": True},
            "directory": {"type": "path", "default": str(paths.CREDENTIALS)},
            "group": {"type": "str", "default": paths.SERVICE_GROUP},
        },
        supports_check_mode=True,
    )
    directory, group = Path(module.params["directory"]), credentials.group_id(module.params["group"])
    if group is None and not module.check_mode:
        module.fail_json(msg=f"There is no group {module.params['group']} on this host. Nothing was changed.")
    operator = directory / paths.OPERATOR_TOKEN
    tokens = directory / paths.TOKENS
    token = operator.read_text().strip() if operator.exists() else secrets.token_urlsafe(32)
    content = tokens_file(module.params["tokens"], token)
    # In check mode there may be no such group yet, and so no file that is its.
    found = files(
        directory,
        content,
        token,
        module.params["certificate"],
        module.params["key"],
        -1 if group is None else group,
    )
    replaced = not tokens.exists() or tokens.read_text() != content
    wrong = {path: kept for path, kept in found.items() if not kept.lies_at(path)}
    closed = group is not None and is_access(directory, credentials.CREDENTIALS_MODE, group)
    if group is not None and not module.check_mode:
        directory.parent.mkdir(exist_ok=True, mode=0o755)
        directory.mkdir(exist_ok=True, mode=0o700)
        if not closed:
            credentials.open_directory(directory, group)
        for path, kept in wrong.items():
            kept.write(path)
    module.exit_json(
        changed=bool(wrong) or not closed,
        names=[entry["name"] for entry in module.params["tokens"]],
        replaced=replaced,
    )


if __name__ == "__main__":
    main()
