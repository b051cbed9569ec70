"""The control node's half of `katago.fleet.evidence`: keeps what the host sends, tier by tier."""

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
from ansible_collections.katago.fleet.plugins.plugin_utils.run import failures, inputs, runs

display = Display()


class CutShortError(Exception):
    """The host's answer is not all of the tier; the message says why."""


def clock(sent: float, began: float, ended: float, received: float) -> dict[str, float]:
    """How far the host's clock is ahead of the control node's, and by how much that may be wrong, in seconds.

    `sent` and `received` by the control node's clock, `began` and `ended` by the host's (RFC 5905,
    section 8).
    """
    offset = ((began - sent) + (ended - received)) / 2
    uncertainty = ((received - sent) - (ended - began)) / 2
    return {
        "clock_offset_seconds": round(offset, 3),
        "clock_uncertainty_seconds": round(abs(uncertainty), 3),
    }


class ActionModule(ActionBase):
    """Collects and keeps; refuses a procedure whose evidence cannot be kept."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make the directory first: what cannot be kept need not be collected."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        if self._task.check_mode:
            return {**result, "changed": False, "skipped": True}
        optional = inputs.switch(arguments, "optional", "procedure_without_evidence", default=False)
        began = time.monotonic()
        kept: bundle.Evidence | None = None
        try:
            kept = self._begun(arguments, task_vars or {})
            self._keep(kept, arguments, task_vars)
            why = ""
        except AnsibleConnectionFailure as error:
            if not optional:
                raise
            why = str(error)
        except (records.RecordError, signing.SigningError, CutShortError, OSError, AnsibleError) as error:
            why = str(error)
        if kept is not None:
            result |= {"directory": str(kept.directory), "items": kept.items, "complete": not why}
        result |= {"changed": False, "seconds": round(time.monotonic() - began, 1)}
        if not why:
            return result
        if optional:
            self._go_on_without(why, (task_vars or {})["inventory_hostname"])
            return {**result, "without": why}
        message = (
            f"Refused; nothing was changed on this host. The evidence cannot be kept: {why.rstrip('.')}."
            " Procedures go on without it with -e without_evidence=true"
        )
        return {**result, "failed": True, "refused": True, "msg": message}

    def _go_on_without(self, why: str, host: str) -> None:
        arguments = self._task.args
        display.warning(f"[{host}] The evidence cannot be kept, and it goes on without: {why}")
        if not arguments.get("procedure"):
            return
        event = {
            "at": timestamps.now(),
            "host": host,
            "who": str(arguments["who"]),
            "run": runs.this_run(),
            "procedure": str(arguments["procedure"]),
            "result": "begun",
            "message": f"It goes on without evidence, as -e without_evidence=true says: {why}",
        }
        root, incident = Path(arguments["records_dir"]), str(arguments["incident"] or "")
        if why := records.add_event(root, incident, event):
            display.warning(f"[{host}] The event is not in the timeline: {why}")

    def _begun(self, arguments: Mapping[str, Any], task_vars: Mapping[str, Any]) -> bundle.Evidence:
        kept = records.Records(Path(arguments["records_dir"]), str(arguments["incident"] or ""))
        key = Path(arguments.get("key") or signing.default_path()).expanduser()
        return kept.begin_evidence(
            task_vars["inventory_hostname"],
            timestamps.now(),
            items.names(*self._tiers()),
            signing.Signer.load(key),
        )

    def _tiers(self) -> tuple[items.Tier, ...]:
        return items.TIERS if self._task.args.get("tier") == "full" else items.TIERS[:1]

    def _keep(
        self, kept: bundle.Evidence, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None
    ) -> None:
        """Keep a tier before the next one is collected; whatever happens, say at the end what is missing."""
        why = "it ended before all was collected"
        try:
            for tier in self._tiers():
                self._keep_tier(kept, tier, task_vars)
            why = ""
        except Exception as error:
            why = f"{type(error).__name__}: {error}" if not isinstance(error, CutShortError) else str(error)
            raise
        finally:
            kept.close(complete=not why, why=why)

    def _keep_tier(self, kept: bundle.Evidence, tier: items.Tier, task_vars: dict[str, Any] | None) -> None:
        sent = time.time()
        answer = self._execute_module(
            module_name="katago.fleet.evidence", module_args={"tier": tier}, task_vars=task_vars
        )
        received = time.time()
        if answer.get("failed") or "packed" not in answer:
            raise CutShortError(f"the host could not collect it: {failures.reason(answer)}")
        times = {
            **clock(sent, answer["began"], answer["ended"], received),
            "tier_seconds": round(answer["seconds"], 3),
            "tier_deadline_seconds": answer["deadline"],
        }
        wanted = {collector.name: collector for collector in items.of(tier)}
        for item in answer["packed"]:
            # Only what was asked for becomes a file.
            collector = wanted.pop(str(item.get("name")), None)
            if collector is not None:
                self._keep_item(kept, collector, item, times)

    def _keep_item(
        self,
        kept: bundle.Evidence,
        collector: items.Collector,
        item: Mapping[str, Any],
        times: Mapping[str, float],
    ) -> None:
        withheld = str(item.get("withheld") or "")
        content = None
        if not withheld:
            try:
                # Marks may be longer than what they stand for.
                content = runner.unpack(str(item["content"]), 4 * collector.limit)
            except (KeyError, ValueError) as error:
                withheld = f"what the host sent is damaged: {error}"
        kept.keep(
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
