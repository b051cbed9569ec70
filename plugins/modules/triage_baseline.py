#!/usr/bin/python
"""Records how fast a host's service is while all is well."""

from __future__ import annotations

DOCUMENTATION = r"""
module: triage_baseline
short_description: Record the speed of a service that is well
description:
  - Writes C(/var/lib/katago-mcp/baseline.json) from what C(katago.fleet.triage) measured, whole or
    not at all.
  - Refuses a host whose verdict is not C(healthy), and a service that is not warmed up. Nothing is
    written then.
options:
  triage:
    description: The result of C(katago.fleet.triage) on this host.
    type: dict
    required: true
  least_uptime:
    description: Seconds that the service must be up.
    type: int
    default: 60
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The baseline of a host that is well is recorded
  katago.fleet.triage_baseline:
    triage: "{{ triage_result }}"
"""

RETURN = r"""
baseline:
  description:
    - "What was recorded; at, identity, release, version, engine_version, network, machine, visits,
      probes, median_seconds, fastest_seconds, slowest_seconds, visits_per_second."
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline


def main() -> None:
    """Write what the control node found fit."""
    module = AnsibleModule(
        argument_spec={"baseline": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    try:
        recorded = baseline.check(module.params["baseline"], "baseline")
        if not module.check_mode:
            baseline.write(recorded, paths.BASELINE)
    except shape.ShapeError as error:
        module.fail_json(msg=f"{error}. {paths.BASELINE} is as it was.")
    except OSError as error:
        module.fail_json(
            msg=f"{paths.BASELINE} cannot be written: {error.strerror}. The old one is as it was."
        )
    module.exit_json(changed=True, baseline=recorded)


if __name__ == "__main__":
    main()
