#!/usr/bin/python
"""Reports how load balancers must call a host. Completed by plugins/action/rotation_server.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_server
short_description: Report how load balancers must call a host
description:
  - Reads the port and the certificate of the running service, which may be those of an earlier release. The
    control node adds the CA with which each load balancer verifies the certificate. Changes nothing.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Read how the host serves
  katago.fleet.rotation_server:
  register: seen
"""

RETURN = r"""
server:
  description:
    - C(port), C(tls), and C(tls_name), the name by which load balancers verify the certificate. Null if the
      service does not run.
  type: dict
  returned: success
cas:
  description: The C(load_balancer_server_ca) of each load balancer in PEM, by its name.
  type: dict
  returned: success
certificate:
  description: The certificate of the service in PEM; empty without TLS.
  type: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.service import admin, http


def look() -> dict[str, Any]:
    """How the running service is reached. Raises OSError if its certificate cannot be read."""
    config = admin.running_config()
    port = config["server"].get("port") if config else None
    if config is None or not isinstance(port, int):
        return {"server": None, "certificate": ""}
    tls = http.secured(config)
    certificate = paths.PINNED_CERTIFICATE.read_text() if tls else ""
    return {"server": {"port": port, "tls": tls, "tls_name": ""}, "certificate": certificate}


def main() -> None:
    """Look, and report."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        module.exit_json(changed=False, cas={}, **look())
    except OSError as error:
        module.fail_json(msg=f"The certificate of the service cannot be read: {error}")


if __name__ == "__main__":
    main()
