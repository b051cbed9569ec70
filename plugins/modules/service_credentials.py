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
options: {}
extends_documentation_fragment: [katago.fleet.credentials]
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

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.service import credential_files, credentials


def main() -> None:
    """Create what is missing and replace what differs."""
    module = AnsibleModule(argument_spec=dict(credential_files.ARGUMENTS), supports_check_mode=True)
    directory, group = Path(module.params["directory"]), credentials.group_id(module.params["group"])
    if group is None and not module.check_mode:
        module.fail_json(msg=f"Nothing was changed: this host has no group {module.params['group']}.")
    required = credential_files.required(module.params, group)
    tokens = directory / paths.TOKENS
    replaced = credentials.content(tokens) != required[tokens].content.encode()
    wrong = credential_files.wrong(required)
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
