"""Parts of the plan of a rollout, for `hosts` and `serial` of plays."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
short_description: A part of the plan of a rollout, for C(hosts) and C(serial) of plays
description:
  - Reads the plan that M(katago.fleet.rollout_plan) made earlier in the run. Use it in plays only.
  - Returns a pattern that selects no host if that part of the rollout has none.
author: The katago-mcp-fleet maintainers
options:
  _terms:
    description:
      - C(skipped), the hosts that need no change. C(canary), the canary. C(soak), it and the hosts that it is
        compared with. C(failed), the canary if it failed its soak. C(batches), the hosts of all batches, in
        order.
      - C(sizes), the sizes of the batches, for C(serial).
    type: list
    elements: str
    choices: [skipped, canary, soak, failed, batches, sizes]
    required: true
"""

EXAMPLES = r"""
- name: Switch the others
  hosts: "{{ lookup('katago.fleet.rollout', 'batches') }}"
  serial: "{{ lookup('katago.fleet.rollout', 'sizes') }}"
"""

RETURN = r"""
_raw:
  description: One host pattern, or one list of numbers.
  type: list
  elements: raw
"""

from collections.abc import Mapping
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.katago.fleet.plugins.plugin_utils.rollout import parts
from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts


class LookupModule(LookupBase):
    """`lookup('katago.fleet.rollout', 'batches')`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return one value."""
        (part,) = terms
        known = variables or {}
        hostvars: Mapping[str, Any] = known.get("hostvars") or {}
        # Without a run, as for --syntax-check, there are hosts of the group that have no variables.
        groups = {} if fleet_hosts.only_reads() else known.get("groups") or {}
        planned = (hostvars[host].get("rollout_plan") for host in groups.get(fleet_hosts.GROUP, []))
        plan = next((made["plan"] for made in planned if made and "plan" in made), None)
        # Only the hosts that soaked have the verdict.
        soaking = hostvars[plan["soaking"]] if plan and plan["soaking"] else {}
        verdict = (soaking.get("rollout_soak") or {}).get("verdict")
        try:
            return [parts.part(part, plan, verdict, check=bool(context.CLIARGS.get("check")))]
        except ValueError as error:
            raise AnsibleError(str(error)) from None
