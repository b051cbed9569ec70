#!/usr/bin/python
"""Creates a private key with its certificate or public key on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: key_pair
short_description: Create a private key that never leaves the host, and its certificate or public key
description:
  - Creates both files if one of them is missing or damaged, or if they do not belong together, as after a run
    that was killed. Otherwise it only corrects their modes.
  - Both files are replaced atomically. The directory must exist.
options:
  kind:
    description:
      - C(certificate) creates a self-signed certificate for C(name), valid for ten years, with C(openssl).
      - C(ssh) creates an Ed25519 key with the comment C(name), with C(ssh-keygen).
    type: str
    choices: [certificate, ssh]
    required: true
  key:
    description: The file of the private key, which only root can read.
    type: path
    required: true
  public:
    description: The file of the certificate or the public key, which all users can read.
    type: path
    required: true
  name:
    description: The name in the certificate, or the comment of the key.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Create the key and the certificate of the gateway
  katago.fleet.key_pair:
    kind: certificate
    key: /etc/katago-exporters/tls.key
    public: /etc/katago-exporters/tls.crt
    name: katago-exporters
"""

RETURN = r"""
content:
  description: The content of C(public); empty in check mode if the pair would be created.
  type: str
  returned: success
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.common import key_pair


def main() -> None:
    """Create the pair unless it is complete."""
    module = AnsibleModule(
        argument_spec={
            "kind": {"choices": ["certificate", "ssh"], "required": True},
            "key": {"type": "path", "required": True, "no_log": False},
            "public": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    pair = key_pair.Pair(given["kind"], Path(given["key"]), Path(given["public"]), given["name"])
    try:
        changed = key_pair.ensure(pair, check=module.check_mode)
        content = pair.public.read_text() if pair.is_complete() else ""
    except (OSError, key_pair.KeyPairError) as error:
        module.fail_json(
            msg=f"{pair.key} and {pair.public} were not created: {error}. Repair this, and run again."
        )
    module.exit_json(changed=changed, content=content)


if __name__ == "__main__":
    main()
