#!/usr/bin/python
"""Keeps the service's tokens, its certificate and its key on a host, secrets readable by root alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: credentials
short_description: Keep the service's tokens, hashed, and its certificate
description:
  - Writes C(<directory>/tokens.json), which systemd hands to the service. It holds the sha256 of
    every token, never a token.
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
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The tokens are in place
  katago.fleet.credentials:
    tokens: "{{ katago_mcp_tokens | katago.fleet.hashed_tokens }}"
"""

RETURN = r"""
names:
  description: The names of the tokens that clients hold.
  type: list
  elements: str
  returned: always
"""

import json
import secrets
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import atomic, digest, service

OPERATOR = "operator"


def tokens_file(tokens: list[dict[str, Any]], operator: str) -> str:
    """The content of tokens.json: the given tokens and the host's own."""
    own = {"name": OPERATOR, "scopes": ["analyze", "admin"], "sha256": digest.of_text(operator)}
    return json.dumps({"tokens": [*tokens, own]}, indent=1) + "\n"


def tls_files(directory: Path, certificate: str, key: str) -> dict[Path, tuple[str, int]]:
    """Content and mode of the files of a certificate; none without one."""
    if not certificate:
        return {}
    return {
        directory / service.KEY: (key, 0o600),
        directory.parent / service.CERTIFICATE: (certificate, 0o644),
    }


def is_file(path: Path, content: str, mode: int) -> bool:
    """Whether a file has this content and this mode."""
    return path.is_file() and path.read_text() == content and path.stat().st_mode & 0o777 == mode


def main() -> None:
    """Make what is missing, replace what differs."""
    module = AnsibleModule(
        argument_spec={
            "tokens": {"type": "list", "elements": "dict", "required": True, "no_log": False},
            "certificate": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": True},
            "directory": {"type": "path", "default": str(service.CREDENTIALS)},
        },
        supports_check_mode=True,
    )
    directory = Path(module.params["directory"])
    operator = directory / service.OPERATOR_TOKEN
    tokens = directory / service.TOKENS
    token = operator.read_text().strip() if operator.exists() else secrets.token_urlsafe(32)
    content = tokens_file(module.params["tokens"], token)
    wrong_mode = directory.exists() and directory.stat().st_mode & 0o077 != 0
    pair = tls_files(directory, module.params["certificate"], module.params["key"])
    changed = (
        any(not is_file(path, content, mode) for path, (content, mode) in pair.items())
        or wrong_mode
        or any(not path.exists() or path.stat().st_mode & 0o177 for path in (operator, tokens))
        or tokens.read_text() != content
    )
    if changed and not module.check_mode:
        directory.parent.mkdir(exist_ok=True, mode=0o755)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
        atomic.write(operator, f"{token}\n".encode(), mode=0o600)
        atomic.write(tokens, content.encode(), mode=0o600)
        for path, (text, mode) in pair.items():
            atomic.write(path, text.encode(), mode=mode)
    module.exit_json(changed=changed, names=[entry["name"] for entry in module.params["tokens"]])


if __name__ == "__main__":
    main()
