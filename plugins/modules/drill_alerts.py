#!/usr/bin/python
"""Reads the alerts that fire in the Alertmanager of a monitoring host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_alerts
short_description: End a drill when an alert fires that it does not cause
description:
  - Runs on the monitoring hosts, whose Alertmanagers listen on the loopback interface only, in a run of
    Ansible of its own that C(katago.fleet.drill_start) starts. Ends with the drill.
  - An alert ends the drill if it has the severity P0, P1 or P2, started after the drill, is not silenced, and
    is about another host or of a kind that the fault does not cause. The record gets the alert, its host and
    the command to run next.
  - A monitoring host that cannot be reached, or an Alertmanager that does not answer, is noted once for the
    record. The drill continues.
options:
  drill:
    description: The drill's id.
    type: str
    required: true
  seconds:
    description: Seconds after which the watch ends even if the drill has not ended.
    type: float
    required: true
  port:
    description: Alertmanager's port on the loopback interface.
    type: int
    default: 9093
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: End the drill when a real alert fires
  katago.fleet.drill_alerts:
    records_dir: records
    drill: drill-2026-11-30-1
    seconds: 1500
"""

RETURN = r"""
aborted:
  description: Why the drill had to end; empty if nothing ended it early.
  type: str
  returned: success
"""

from datetime import UTC, datetime

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.monitoring import alertmanager


def main() -> None:
    """Report the alerts that fire, and the time of this host, which is that of the alerts."""
    module = AnsibleModule(
        argument_spec={"port": {"type": "int", "required": True}}, supports_check_mode=True
    )
    try:
        alerts = alertmanager.Api(module.params["port"]).firing()
    except alertmanager.AlertmanagerError as error:
        module.fail_json(msg=f"{error}.")
    module.exit_json(changed=False, now=datetime.now(UTC).isoformat(), alerts=alerts)


if __name__ == "__main__":
    main()
