#!/usr/bin/python
"""Installs the service's credentials: hashed tokens, the host's own token, certificate and key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_credentials
short_description: Install the service's hashed tokens, certificate and key
description:
  - Writes C(<directory>/tokens.json), which the service's group may read. The running service reloads the
    file when it changes. It has the sha256 of every token, never a token.
  - Creates C(<directory>/operator.token) once. This is the host's own token, for its validation and its
    operators. It is made on the host and never leaves it.
  - Writes C(<directory>/session.key), with which the service signs the ids of sessions. The service's group
    may read it. Hosts with the same key continue each other's sessions. Without a key, creates one once, so
    that sessions continue after a restart of the host. The running service reloads the file when it changes.
  - Without tokens, the service is open on its loopback address, and C(tokens.json) has only the host's own
    token. A rollback to a release that uses tokens needs this file.
  - With a certificate, writes it beside the directory as C(tls.crt), readable by all users of the host, and
    writes its key to C(<directory>/tls.key). Without one, leaves existing files for a rollback to a
    release that uses TLS.
options:
  tokens:
    description: The tokens, as the filter C(katago.fleet.hashed_tokens) returns them; name, scopes, sha256.
    type: list
    elements: dict
    required: true
  session_key:
    description: The key that signs the ids of sessions, or several, one a line; empty for the host's own.
    type: str
    default: ""
  certificate:
    description: The service's certificate with its chain, in PEM; empty without TLS.
    type: str
    default: ""
  key:
    description: The certificate's key, in PEM.
    type: str
    default: ""
  directory:
    description: The directory of credentials on the host.
    type: path
    default: /etc/katago-mcp/credentials
  group:
    description: The service's group. It must exist, except in check mode.
    type: str
    default: katago-mcp
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Install the tokens
  katago.fleet.service_credentials:
    tokens: "{{ katago_mcp_tokens | katago.fleet.hashed_tokens }}"
"""

RETURN = r"""
names:
  description: The names of the clients' tokens.
  type: list
  elements: str
  returned: always
replaced:
  description: Whether the content of C(tokens.json) changed; in check mode, whether it would change.
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
SHORTEST_TOKEN = 20


def tokens_file(tokens: list[dict[str, Any]], operator: str) -> str:
    """The content of tokens.json: the tokens `tokens` and the host's own token."""
    own = {"name": OPERATOR, "scopes": ["analyze", "admin"], "sha256": digest.of_text(operator)}
    return json.dumps({"tokens": [*tokens, own]}, indent=1) + "\n"


def own_session_key(path: Path) -> str:
    """The key that the host has; a new one if it has none that is long enough."""
    present = (credentials.content(path) or b"").decode(errors="replace").strip()
    return present if len(present) >= credentials.SHORTEST_SESSION_KEY else secrets.token_hex(32)


@dataclass(frozen=True)
class Kept:
    """The required state of a file: content, mode, and numeric group id. The current user owns the file."""

    content: str
    mode: int
    group: int

    def lies_at(self, path: Path) -> bool:
        """Whether the file at `path` is in this state."""
        return is_access(path, self.mode, self.group) and credentials.content(path) == self.content.encode()

    def write(self, path: Path) -> None:
        """Replace or create the file."""
        common_files.write(path, self.content.encode(), mode=self.mode, group=self.group)


def is_access(path: Path, mode: int, group: int) -> bool:
    """Whether `path` exists, with this mode and group, and the current user owns it."""
    if not path.exists():
        return False
    status = path.stat()
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, os.geteuid(), group)


def present_token(path: Path) -> str | None:
    """The host's own token; None if its file is missing or damaged, a truncated one for example."""
    token = (credentials.content(path) or b"").decode(errors="replace").strip()
    return token if len(token) >= SHORTEST_TOKEN and token.isascii() and token.isprintable() else None


def files(
    directory: Path, tokens: str, operator: str, session_key: str, certificate: str, key: str, group: int
) -> dict[Path, Kept]:
    """Every required file; certificate and key only if there is a certificate. `group`: the service's."""
    own = os.getegid()
    required = {
        directory / paths.OPERATOR_TOKEN: Kept(f"{operator}\n", 0o600, own),
        directory / paths.TOKENS: Kept(tokens, credentials.TOKENS_MODE, group),
        directory / paths.SESSION_KEY: Kept(f"{session_key}\n", credentials.TOKENS_MODE, group),
    }
    if certificate:
        required[directory / paths.KEY] = Kept(key, 0o600, own)
        required[directory.parent / paths.CERTIFICATE] = Kept(certificate, 0o644, own)
    return required


def main() -> None:
    """Create what is missing and replace what differs."""
    module = AnsibleModule(
        argument_spec={
            "tokens": {"type": "list", "elements": "dict", "required": True, "no_log": False},
            "session_key": {"type": "str", "default": "", "no_log": True},
            "certificate": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": True},
            "directory": {"type": "path", "default": str(paths.CREDENTIALS)},
            "group": {"type": "str", "default": paths.SERVICE_GROUP},
        },
        supports_check_mode=True,
    )
    directory, group = Path(module.params["directory"]), credentials.group_id(module.params["group"])
    if group is None and not module.check_mode:
        module.fail_json(msg=f"Nothing was changed: this host has no group {module.params['group']}.")
    operator = directory / paths.OPERATOR_TOKEN
    tokens = directory / paths.TOKENS
    token = present_token(operator) or secrets.token_urlsafe(32)
    content = tokens_file(module.params["tokens"], token)
    # In check mode the group may not exist yet; then no file can have it.
    required = files(
        directory,
        content,
        token,
        module.params["session_key"].strip() or own_session_key(directory / paths.SESSION_KEY),
        module.params["certificate"],
        module.params["key"],
        -1 if group is None else group,
    )
    replaced = credentials.content(tokens) != content.encode()
    wrong = {path: file for path, file in required.items() if not file.lies_at(path)}
    corrected = group is None or credentials.open_directory(directory, group, check=module.check_mode)
    if group is not None and not module.check_mode:
        try:
            for path, file in wrong.items():
                file.write(path)
        except OSError as error:
            module.fail_json(msg=f"The service's credentials cannot be written: {error}. Repair this first.")
    module.exit_json(
        changed=bool(wrong) or corrected,
        names=[entry["name"] for entry in module.params["tokens"]],
        replaced=replaced,
    )


if __name__ == "__main__":
    main()
