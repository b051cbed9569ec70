#!/usr/bin/python
"""Sets, extends and ends the silence of a procedure in the Alertmanager of a monitoring host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_silence
short_description: Silence the alerts that a procedure causes, in the Alertmanager of a monitoring host
description:
  - Runs on a monitoring host, whose Alertmanager listens on the loopback interface only.
  - Silences only the alerts about one host that an interruption of its service causes. Alerts about other
    hosts, and those with the severity P0, are never silenced.
  - A silence always has an end. The same run extends it by the same task, and ends it. If the run is killed,
    the silence expires, or another run ends it with C(any_run).
  - Never fails. A monitoring host that cannot be reached, or an Alertmanager that does not answer, is a
    warning, because a recovery must not depend on monitoring.
options:
  state:
    description:
      - C(present) sets the silence, or extends it if this run has set it.
      - C(absent) ends it.
    type: str
    choices: [present, absent]
    required: true
  host:
    description: The host, by its name in the inventory.
    type: str
    required: true
  procedure:
    description: The procedure that works on the host.
    type: str
    required: true
  who:
    description: Who runs the procedure.
    type: str
    required: true
  incident:
    description: The incident that the procedure belongs to; empty for none.
    type: str
    default: ""
  alerts:
    description:
      - The names of the alerts to silence.
      - Without names, those that an interruption of the service causes.
    type: list
    elements: str
    default: []
  minutes:
    description: Minutes until the silence expires, counted from now, 1 to 240.
    type: int
    default: 30
  grace:
    description: Seconds for which the silence still lasts when it is ended, so that alerts can resolve.
    type: int
    default: 0
  any_run:
    description:
      - Whether C(absent) ends the silences of this procedure, host and incident, whichever run has set them.
      - Needs C(incident). C(alerts) has no effect then.
    type: bool
    default: false
  port:
    description: Alertmanager's port on the loopback interface.
    type: int
    default: 9093
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Silence what the restart causes
  katago.fleet.alert_silence:
    state: present
    host: "{{ inventory_hostname }}"
    procedure: restart
    who: "{{ lookup('katago.fleet.actor') }}"
  delegate_to: mon-1
"""

RETURN = r"""
silences:
  description: The ids of the silences that were set, extended or ended.
  type: list
  elements: str
  returned: always
reached:
  description: Whether Alertmanager answered.
  type: bool
  returned: always
"""

from datetime import UTC, datetime, timedelta

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.monitoring import alertmanager


def main() -> None:
    """Set, extend or end the silences. The clock of this host counts, which is that of Alertmanager."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["present", "absent"], "required": True},
            "matchers": {"type": "list", "elements": "list", "required": True},
            "comment": {"type": "str", "required": True},
            "parts": {"type": "list", "elements": "str", "default": []},
            "who": {"type": "str", "required": True},
            "minutes": {"type": "int", "required": True},
            "grace": {"type": "int", "required": True},
            "port": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    # A silence changes nothing of the fleet, so it is never reported as a change.
    if module.check_mode:
        module.exit_json(changed=False, silences=[])
    api = alertmanager.Api(given["port"])
    silences = [
        alertmanager.Silence(tuple(each), given["who"], given["comment"]) for each in given["matchers"]
    ]
    try:
        if given["state"] == "present":
            ids = alertmanager.hold(api, silences, datetime.now(UTC) + timedelta(minutes=given["minutes"]))
        elif given["parts"]:
            ids = alertmanager.end_of_any_run(api, given["parts"], timedelta(seconds=given["grace"]))
        else:
            ids = alertmanager.end(api, silences, timedelta(seconds=given["grace"]))
    except alertmanager.AlertmanagerError as error:
        module.fail_json(msg=f"{error}.")
    module.exit_json(changed=False, silences=ids)


if __name__ == "__main__":
    main()
