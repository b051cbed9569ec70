#!/usr/bin/python
"""Measures everything that tells how well a host and its service are; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: triage
short_description: Measure a host and judge how bad it is
description:
  - Measures the service, its engine and the host in one pass, every check at the same time, in a
    process and with a deadline of its own. A check that hangs costs its own entry, which is unknown.
  - Has a few positions analysed through MCP within the window, since a quiet service has no traffic
    that would tell whether it works.
  - The control node judges what was measured by the runbook's levels. A host that cannot be reached,
    and one that cannot be measured, is unknown. Neither fails the task.
  - Reads only.
options:
  window:
    description: Seconds between the two scrapes of the metrics.
    type: int
    default: 10
  probes:
    description: Analyses to ask for within the window; at least 1.
    type: int
    default: 5
  visits:
    description: Visits of each of them; as many as are allowed where those are fewer.
    type: int
    default: 32
  patience:
    description:
      - Seconds for each of the slow checks; release, configuration, probes. Every other check has a
        third of that, an answer over HTTP a sixth.
    type: int
    default: 30
  breach:
    description: Whether an operator knows of a security breach.
    type: bool
    default: false
  without_baseline:
    description: Whether to judge as if there were no baseline.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Every host is measured and judged
  katago.fleet.triage:
    window: 10
  register: triage_result
"""

RETURN = r"""
verdict:
  description:
    - "The verdict; verdict (P0 to P3, healthy, unknown), respond_by, reasons, undecided, escalate,
      changes, notes, proposals, next."
  type: dict
  returned: when the host was reached
facts:
  description: Every check; value, or unknown with the reason, and seconds.
  type: dict
  returned: when the host was measured
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
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
    """Measure and return."""
    module = AnsibleModule(
        argument_spec={
            "window": {"type": "int", "default": 10},
            "probes": {"type": "int", "default": 5},
            "visits": {"type": "int", "default": 32},
            "patience": {"type": "int", "default": 30},
            "without_baseline": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = Options(**module.params)
    if options.probes < 1 or options.window < 1:
        module.fail_json(msg="window and probes must be 1 or more: without them nothing is measured.")
    module.exit_json(changed=False, facts=measure(options, PLACES))


if __name__ == "__main__":
    main()
