"""The control node's part of `katago.fleet.evidence`: stores the evidence of a host, tier by tier."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.evidence import items, runner
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import bundle, records, signing
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import failures, fleet_hosts, inputs, runs

display = Display()


class IncompleteError(Exception):
    """The host did not return the whole tier. The message says why."""


def clock(sent: float, began: float, ended: float, received: float) -> dict[str, float]:
    """The offset of the host's clock from the control node's, and its uncertainty, in seconds.

    A positive offset means that the host's clock is ahead. `sent` and `received` are by the control node's
    clock, `began` and `ended` by the host's (RFC 5905, section 8).
    """
    offset = ((began - sent) + (ended - received)) / 2
    uncertainty = ((received - sent) - (ended - began)) / 2
    return {
        "clock_offset_seconds": round(offset, 3),
        "clock_uncertainty_seconds": round(abs(uncertainty), 3),
    }


class ActionModule(ActionBase):
    """Collects and stores evidence. Refuses the procedure if the evidence cannot be stored."""

    TRANSFERS_FILES = False
    _undeployed = ""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Create the directory, then collect: evidence that cannot be stored need not be collected."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments = self._task.args
        if self._task.check_mode:
            return {**result, "changed": False, "skipped": True}
        optional = inputs.switch(arguments, "optional", "procedure_without_evidence", default=False)
        began = time.monotonic()
        evidence: bundle.Evidence | None = None
        try:
            evidence = self._create_evidence(arguments, task_vars or {})
            self._store(evidence, arguments, task_vars)
            why = ""
        except AnsibleConnectionFailure as error:
            if not optional:
                raise
            why = str(error)
        except (records.RecordError, signing.SigningError, IncompleteError, OSError, AnsibleError) as error:
            why = str(error)
        if evidence is not None:
            result |= {"directory": str(evidence.directory), "items": evidence.items, "complete": not why}
            result["undeployed"] = self._undeployed
        result |= {"changed": False, "seconds": round(time.monotonic() - began, 1)}
        if not why:
            return result
        if optional:
            self._continue_without(why, (task_vars or {})["inventory_hostname"])
            return {**result, "without": why}
        message = (
            f"Refused; nothing was changed on this host. The evidence cannot be stored: {why.rstrip('.')}."
            " To run the procedure without evidence: -e without_evidence=true"
        )
        return {**result, "failed": True, "refused": True, "msg": message}

    def _continue_without(self, why: str, host: str) -> None:
        arguments = self._task.args
        display.warning(f"[{host}] The evidence cannot be stored. Continuing without it: {why}")
        if not arguments.get("procedure"):
            return
        event = {
            "at": timestamps.now(),
            "host": host,
            "who": str(arguments["who"]),
            "run": runs.this_run(),
            "procedure": str(arguments["procedure"]),
            "result": "begun",
            "message": f"Continues without evidence because of -e without_evidence=true: {why}",
        }
        root, incident = Path(arguments["records_dir"]), str(arguments["incident"] or "")
        if why := records.add_event(root, incident, event):
            display.warning(f"[{host}] The incident's timeline lacks this result: {why}")

    def _create_evidence(self, arguments: Mapping[str, Any], task_vars: Mapping[str, Any]) -> bundle.Evidence:
        incident_records = records.Records(Path(arguments["records_dir"]), str(arguments["incident"] or ""))
        key = Path(arguments.get("key") or signing.default_path()).expanduser()
        return incident_records.begin_evidence(
            task_vars["inventory_hostname"],
            timestamps.now(),
            items.names(*self._tiers(), of_parts=self._parts(task_vars)),
            signing.Signer.load(key),
        )

    def _parts(self, task_vars: Mapping[str, Any]) -> tuple[items.Part, ...]:
        """What the host has, by its groups in the inventory."""
        host, groups = task_vars["inventory_hostname"], task_vars.get("groups") or {}
        if host in fleet_hosts.only_load_balancers(groups):
            return ("host", "load_balancer")
        return items.PARTS if host in groups.get(fleet_hosts.LOAD_BALANCERS, ()) else ("host", "service")

    def _tiers(self) -> tuple[items.Tier, ...]:
        return items.TIERS if self._task.args.get("tier") == "full" else items.TIERS[:1]

    def _store(
        self, evidence: bundle.Evidence, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None
    ) -> None:
        """Store each tier before collecting the next one. Always close the manifest, also after an error."""
        why = "the run stopped before all items were collected"
        try:
            for tier in self._tiers():
                self._store_tier(evidence, tier, task_vars)
            why = ""
        except Exception as error:
            why = f"{type(error).__name__}: {error}" if not isinstance(error, IncompleteError) else str(error)
            raise
        finally:
            evidence.close(complete=not why, why=why)

    def _store_tier(
        self, evidence: bundle.Evidence, tier: items.Tier, task_vars: dict[str, Any] | None
    ) -> None:
        parts = self._parts(task_vars or {})
        sent = time.time()
        answer = self._execute_module(
            module_name="katago.fleet.evidence",
            module_args={"tier": tier, "parts": list(parts)},
            task_vars=task_vars,
        )
        received = time.time()
        if answer.get("failed") or "packed" not in answer:
            raise IncompleteError(f"the host could not collect it: {failures.reason(answer)}")
        self._undeployed = str(answer.get("undeployed") or "")
        times = {
            **clock(sent, answer["began"], answer["ended"], received),
            "tier_seconds": round(answer["seconds"], 3),
            "tier_deadline_seconds": answer["deadline"],
        }
        requested = {collector.name: collector for collector in items.of(tier, parts)}
        for item in answer["packed"]:
            # Only requested items are written to files.
            collector = requested.pop(str(item.get("name")), None)
            if collector is not None:
                self._store_item(evidence, collector, item, times)

    def _store_item(
        self,
        evidence: bundle.Evidence,
        collector: items.Collector,
        item: Mapping[str, Any],
        times: Mapping[str, float],
    ) -> None:
        withheld = str(item.get("withheld") or "")
        content = None
        if not withheld:
            try:
                # Redaction marks may be longer than the secrets that they replace.
                content = runner.unpack(str(item["content"]), 4 * collector.limit)
            except (KeyError, ValueError) as error:
                withheld = f"the data from the host is damaged: {error}"
        evidence.keep(
            {
                "name": collector.name,
                "tier": collector.tier,
                "exit": item.get("exit"),
                "began": item.get("began") or None,
                "seconds": item.get("seconds"),
                "deadline_seconds": item.get("deadline"),
                "source_bytes": item.get("source_bytes"),
                "problem": item.get("problem") or None,
                "redacted": item.get("redacted") or 0,
                "withheld": withheld or None,
                **times,
            },
            content,
        )
