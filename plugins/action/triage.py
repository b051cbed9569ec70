"""The control node's part of `katago.fleet.triage`: computes the verdict from the host's measurements."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import certificates
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import failures, fleet_hosts, inputs, runs

CONNECT_SECONDS = 3.0


class ActionModule(ActionBase):
    """Returns a verdict on every host. A host without facts is unknown."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Measure the host and compute the verdict."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments = dict(self._task.args)
        breach = inputs.switch(arguments, "breach", "triage_breach", default=False)
        arguments.pop("breach", None)
        address = str(arguments.pop("client_address", "") or "")
        try:
            measured = self._execute_module(
                module_name="katago.fleet.triage", module_args=arguments, task_vars=task_vars
            )
            why = failures.reason(measured)
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            measured, why = {}, str(error)
        now = datetime.now(UTC)
        if facts := measured.get("facts"):
            if address:
                facts["clients"] = {"value": {"address": address, "error": _connection_error(address)}}
            facts["lock"] = runs.lock_seen_from_here(facts.get("lock") or {})
            if "haproxy" in facts:
                facts |= _seen_from_here(facts, (task_vars or {}).get("groups") or {})
            # An exception in one rule must not discard the results of the others.
            verdict = triage_verdict.judge(triage_facts.read(facts), now=now, breach=breach, contain=True)
        else:
            verdict = triage_verdict.unreachable(
                f"the host was reached, but the checks did not run: {why.strip() or 'no reason given'}",
                now=now,
                breach=breach,
            )
        return {**result, "changed": False, "verdict": triage_verdict.as_dict(verdict), "facts": facts or {}}


def _seen_from_here(facts: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Facts about a load balancer that need the inventory, or a library of the control node."""
    fleet = {
        "hosts": sorted(groups.get(fleet_hosts.GROUP) or []),
        "load_balancers": sorted(groups.get(fleet_hosts.LOAD_BALANCERS) or []),
    }
    added: dict[str, Any] = {"fleet": {"value": fleet}}
    entry = facts.get("certificate") or {}
    if isinstance(value := entry.get("value"), dict):
        end = certificates.end(str(value.get("pem") or ""))
        added["certificate"] = {**entry, "value": {**value, "ends_at": end and end.timestamp()}}
    return added


def _connection_error(address: str) -> str:
    """Why the control node cannot connect to HOST:PORT, "" if it can."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            return ""
    except ValueError:
        return "triage_client_address is not HOST:PORT"
    except OSError as error:
        return error.strerror or str(error)
