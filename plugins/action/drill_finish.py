"""Ends a drill: stops the prober, and completes the record from what all hosts returned."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.drill import snapshot
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import log
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import (
    alert_watch,
    closing,
    communication,
    known_writes,
    listing,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.observer import Landing, Recovery
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import (
    Action,
    Difference,
    Record,
    Undo,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecordError, DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records as evidence_records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import outbox
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store as incident_store
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, fleet_hosts
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import prober

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node, whatever failed before.

    Reads from the variables of each host what the tasks of the role registered.
    """

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the record; return its outcome."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, known = arguments.validated(self), task_vars or {}
        records = DrillRecords(Path(given["records_dir"]))
        try:
            record = records.load(given["drill"])
            path = records.prober(record["id"])
            if running := prober.running(path):
                running.stop()
            hosts = {host: known["hostvars"][host] for host in dict.fromkeys(record["hosts"])}
            observed = self._observed(Path(given["records_dir"]), record, given, hosts, path)
            monitors = known["groups"].get(fleet_hosts.MONITORING) or []
            notes = list(alert_watch.problems(records, record["id"], monitors))
            observed = replace(observed, notes=notes, aborted=records.abort_requested(record["id"]))
            closed = closing.close(record, observed, timestamps.now())
            records.save(closed)
        except (DrillRecordError, prober.ProberError, shape.ShapeError, OSError) as error:
            raise AnsibleActionFail(f"The record of the drill was not completed: {error}") from error
        return {
            **result,
            "changed": True,
            "outcome": closed["outcome"],
            "reason": closed["reason"],
            "summary": listing.summary(closed),
        }

    def _observed(
        self,
        root: Path,
        record: Record,
        given: Mapping[str, Any],
        hosts: Mapping[str, Mapping[str, Any]],
        path: Path,
    ) -> closing.Observed:
        injected, since = given["injected"] or None, given["since"]
        start = record["fault"]["injected"] or record["started"]
        outages = prober.outages(path, since) if injected else []
        before = {host: _lines(each.get("drill_writes_before")) for host, each in hosts.items()}
        after = {host: _lines(each.get("drill_writes_after")) for host, each in hosts.items()}
        return closing.Observed(
            injected=injected,
            landings=[Landing(**each) for each in _returned(hosts, "drill_landing", "landing")],
            recoveries=[
                Recovery(**{**each, "problems": tuple(each["problems"])})
                for each in _returned(hosts, "drill_recovery", "recovery")
            ],
            outages=[closing.Outage(each.start, each.end) for each in outages],
            traffic=cast("Any", prober.summary(path, since)) if injected else None,
            actions=list(_actions(root, record, hosts, start)),
            messages=communication.messages(_state(root, record["incident"])),
            differences=list(_differences(hosts)),
            data=known_writes.lost(before, after, start) if injected else None,
            undo=_undo(record, hosts),
            failure=given["failure"],
        )


def _returned(hosts: Mapping[str, Mapping[str, Any]], variable: str, key: str) -> Iterator[Any]:
    for each in hosts.values():
        if value := (each.get(variable) or {}).get(key):
            yield value


def _actions(
    root: Path, record: Record, hosts: Mapping[str, Mapping[str, Any]], since: str
) -> Iterator[Action]:
    for host, each in hosts.items():
        events = log.parsed(_content(each.get("drill_repairs")))
        yield from communication.repairs(events, host, since)
    if record["mode"] == "unattended":
        for each in hosts.values():
            yield from (each.get("drill_recovery") or {}).get("runs") or []
        return
    timeline = evidence_records.Records(root, record["incident"]).timeline
    yield from communication.actions(outbox.read_timeline(timeline), since)


def _state(root: Path, incident: str) -> Iterator[Mapping[str, Any]]:
    """The lines of the incident's state. Raises ShapeError and OSError."""
    if not incident:
        return
    path = incident_store.IncidentRecords(root).state(incident)
    for line in path.read_bytes().splitlines():
        yield shape.mapping(shape.parsed(line), str(path))


def _differences(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[Difference]:
    for host, each in hosts.items():
        before = (each.get("drill_snapshot_before") or {}).get("snapshot")
        after = (each.get("drill_snapshot_after") or {}).get("snapshot")
        if before and after:
            for difference in snapshot.compare(before, after):
                yield Difference(
                    host=host,
                    what=difference["what"],
                    before=difference["before"],
                    after=difference["after"],
                )
        elif before:
            yield Difference(
                host=host, what="the host", before="answered", after="does not answer, so it was not compared"
            )


def _undo(record: Record, hosts: Mapping[str, Mapping[str, Any]]) -> Undo:
    """When the last fault was undone, and by whom; not done while any host did not confirm it."""
    last = [(each.get("drill_undone") or {}).get("active") or {} for each in hosts.values()]
    if not all(each.get("phase") == "undone" for each in last):
        return record["undo"]
    by_host = any(each.get("undone_by") == "expiry" for each in last)
    return {**record["undo"], "done": timestamps.now(), "by": "expiry" if by_host else "drill"}


def _lines(answer: object) -> tuple[str, ...]:
    return tuple(_content(answer).decode(errors="replace").splitlines())


def _content(answer: object) -> bytes:
    """The content of a file that `ansible.builtin.slurp` returned; empty if it did not."""
    content = answer.get("content") if isinstance(answer, Mapping) else None
    return base64.b64decode(str(content)) if content else b""
