#!/usr/bin/python
"""Measures the health of a host and its service; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: triage
short_description: Measure a host and determine its severity level
description:
  - Measures the service, its engine and the host in one pass. The checks run in parallel, each in its own
    process with its own deadline. If a check hangs, only its own entry is unknown.
  - Sends a few probe analyses through MCP, since an idle service has no traffic that shows whether it works.
  - The control node applies the runbook's severity levels to the measurements. A host that cannot be reached
    or measured gets the verdict C(unknown); the task does not fail.
  - Reads only.
options:
  window:
    description: Seconds between the two scrapes of the metrics.
    type: int
    default: 10
  probes:
    description: Number of probe analyses within the window; at least 1.
    type: int
    default: 5
  visits:
    description: Visits of each probe analysis, capped to what the service allows.
    type: int
    default: 32
  patience:
    description:
      - Deadline in seconds of each slow check (release, configuration, probes). Every other check gets a
        third of it, an HTTP request a sixth.
    type: int
    default: 30
  breach:
    description: Whether an operator reports a security breach.
    type: bool
    default: false
  client_address:
    description:
      - The address, HOST:PORT, at which clients reach the service. The control node connects to it, so a
        firewall or a wrong listen address is found. Not checked when it is empty.
    type: str
    default: ""
  without_baseline:
    description: Whether to ignore the recorded baseline.
    type: bool
    default: false
  probe_again:
    description:
      - Whether to always send a second round of probes, C(window) seconds after the first. Otherwise it is
        sent only if the first round was slower than the baseline.
    type: bool
    default: false
  service:
    description: Whether the host runs the service.
    type: bool
    default: true
  load_balancer:
    description:
      - Whether the host is a load balancer. Without the service, the checks of HAProxy, keepalived and the
        host's resources are all.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Measure every host
  katago.fleet.triage:
    window: 10
  register: triage_result
"""

RETURN = r"""
verdict:
  description:
    - "The verdict on the host, with the keys verdict (P0 to P3, healthy or unknown), respond_by, reasons,
      undecided, escalate, changes, notes, proposals and next."
  type: dict
  returned: when the host was reached
facts:
  description: The result of every check, with C(value) or else C(unknown) (the reason), and C(seconds).
  type: dict
  returned: when the host was measured
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.triage import measure_load_balancer
from ansible_collections.katago.fleet.plugins.module_utils.triage.measure import Options, Places, measure

PLACES = Places(
    releases=paths.RELEASE_ROOT,
    engines=paths.ASSETS / "engines",
    config=paths.CONFIG,
    state=paths.STATE,
    history=paths.HISTORY,
    baseline=paths.BASELINE,
    proc=paths.PROC,
    package_log=Path("/var/log/dpkg.log"),
    os_release=paths.OS_RELEASE,
    pci_devices=paths.PCI_DEVICES,
    kernel_modules=paths.KERNEL_MODULES,
    written=("/", "/opt", "/var", "/var/lib/katago-mcp", "/var/cache/katago-mcp"),
)


def main() -> None:
    """Run all checks and return their entries."""
    module = AnsibleModule(
        argument_spec={
            "window": {"type": "int", "default": 10},
            "probes": {"type": "int", "default": 5},
            "visits": {"type": "int", "default": 32},
            "patience": {"type": "int", "default": 30},
            "without_baseline": {"type": "bool", "default": False},
            "probe_again": {"type": "bool", "default": False},
            "service": {"type": "bool", "default": True},
            "load_balancer": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    parameters = dict(module.params)
    has_service, is_load_balancer = parameters.pop("service"), parameters.pop("load_balancer")
    options = Options(**parameters)
    if options.probes < 1 or options.window < 1:
        module.fail_json(
            msg=f"window is {options.window} and probes is {options.probes}; both must be at least 1."
        )
    entries = measure_load_balancer.measure(options, PLACES) if is_load_balancer else {}
    module.exit_json(changed=False, facts={**entries, **(measure(options, PLACES) if has_service else {})})


if __name__ == "__main__":
    main()
