#!/usr/bin/python
"""Records the speed of a healthy service as the baseline of its host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: triage_baseline
short_description: Record the speed of a healthy service
description:
  - Writes C(/var/lib/katago-mcp/baseline.json) atomically, from the measurements of C(katago.fleet.triage).
  - Refuses a host whose verdict is not C(healthy), and a service that is not warmed up. Then it writes
    nothing.
options:
  triage:
    description: The result of C(katago.fleet.triage) on this host.
    type: dict
    required: true
  least_uptime:
    description: Minimum uptime of the service in seconds.
    type: int
    default: 60
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Record the baseline
  katago.fleet.triage_baseline:
    triage: "{{ triage_result }}"
"""

RETURN = r"""
baseline:
  description:
    - "The recorded baseline, with the keys at, identity, release, version, engine_version, network, machine,
      visits, probes, median_seconds, fastest_seconds, slowest_seconds, spread_seconds and visits_per_second."
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline


def main() -> None:
    """Write the baseline that the control node built."""
    module = AnsibleModule(
        argument_spec={"baseline": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    try:
        recorded = baseline.check(module.params["baseline"], "baseline")
        if not module.check_mode:
            baseline.write(recorded, paths.BASELINE)
    except shape.ShapeError as error:
        module.fail_json(msg=f"{error}. {paths.BASELINE} was not changed.")
    except OSError as error:
        module.fail_json(
            msg=f"{paths.BASELINE} cannot be written: {error.strerror}. The old baseline was not changed."
        )
    module.exit_json(changed=True, baseline=recorded)


if __name__ == "__main__":
    main()
