"""What people and hosts did during a drill, from the records of its incident and of self-healing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils.self_healing import log
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Action, Message

TEAM = "team"
STATUS_PAGE = "status page"
SELF_HEALING = "self-healing"
DRILL = "drill"
"""Who sends what the drill itself announces: that it begins, and that it has ended."""
_ANNOUNCEMENT = "DRILL drill-"
_NOT_A_RESPONSE = frozenset({"drill", "incident_open", "incident_close"})
_OUTCOMES: Mapping[str, Literal["done", "failed", "unknown"]] = {
    "ok": "done",
    "changed": "done",
    "refused": "failed",
    "partial": "failed",
}
_PROCEDURES = {
    "restart": "restart",
    "roll_back": "rollback",
    "quarantine_cache": "purge_cache",
    "lower_limits": "mitigate",
    "free_disk": "purge_cache",
}
"""The procedure with which a person does what a repair of self-healing does."""
_KINDS: Mapping[str, Literal["opened", "update", "escalated", "closed"]] = {
    "opened": "opened",
    "updated": "update",
    "escalated": "escalated",
    "closed": "closed",
}


def actions(timeline: Iterable[Mapping[str, Any]], since: str) -> list[Action]:
    """The procedures that were run since a time, one entry for each run, in order of their start."""
    runs: dict[tuple[str, str], Action] = {}
    for event in timeline:
        procedure, at = str(event.get("procedure", "")), str(event.get("at", ""))
        if not procedure or procedure in _NOT_A_RESPONSE or procedure == log.PROCEDURE or at < since:
            continue
        key = str(event.get("run", "")), procedure
        new = Action(
            time=at,
            procedure=procedure,
            hosts=[],
            arguments={},
            by=str(event.get("who", "")),
            outcome="unknown",
        )
        action = runs.setdefault(key, new)
        if (host := str(event.get("host", ""))) and host not in action["hosts"]:
            action["hosts"].append(host)
        outcome = _OUTCOMES.get(str(event.get("result")), "unknown")
        # One host on which it failed makes the run a failure.
        if action["outcome"] != "failed" and outcome != "unknown":
            action["outcome"] = outcome
    return sorted(runs.values(), key=lambda each: each["time"])


def repairs(events: Iterable[log.Event], host: str, since: str) -> list[Action]:
    """The repairs that a host made itself since a time."""
    started: dict[str, Action] = {}
    for event in events:
        if event.at < since or not event.repair:
            continue
        action = started.setdefault(
            event.id,
            Action(
                time=event.at,
                procedure=_PROCEDURES.get(event.repair, event.repair),
                hosts=[host],
                arguments={},
                by=SELF_HEALING,
                outcome="unknown",
            ),
        )
        if event.event != "started":
            action["outcome"] = _OUTCOMES.get(log.RESULTS[event.event], "unknown")
    return list(started.values())


def messages(state: Iterable[Mapping[str, Any]]) -> list[Message]:
    """The steps of communication, from the lines of the incident's `state.jsonl`."""
    return list(_messages(state))


def _messages(state: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    for event in state:
        kind = _KINDS.get(str(event.get("event")))
        if kind is None:
            continue
        text = str(event.get("summary" if kind == "opened" else "resolution") or "")
        at, who = str(event["at"]), DRILL if text.startswith(_ANNOUNCEMENT) else str(event["who"])
        audience = [str(event["to"])] if kind == "escalated" else [TEAM]
        yield Message(time=at, kind=kind, audience=audience, by=who)
        if event.get("public"):
            yield Message(time=at, kind="status", audience=[STATUS_PAGE], by=who)


def acknowledged(taken: Iterable[Action], sent: Iterable[Message], since: str) -> str | None:
    """When somebody first responded after a time: an action, or an update of the incident; None if nobody."""
    times = [each["time"] for each in taken]
    times += [each["time"] for each in sent if each["kind"] in ("acknowledged", "update", "escalated")]
    return min((each for each in times if each >= since), default=None)
