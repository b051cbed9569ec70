"""The list of drills for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS

SEALED = "sealed"


def lines(drills: Sequence[Record]) -> Iterator[str]:
    """One line for each drill, the running ones last; a sealed scenario stays secret until the end."""
    if not drills:
        yield "No drill is recorded."
    for drill in sorted(drills, key=lambda each: each["outcome"] == "running"):
        yield " ".join(_parts(drill))


def summary(record: Record) -> str:
    """What a drill showed, in sentences, for the end of its run."""
    times = ", ".join(
        f"{word} after {seconds:g} s"
        for word, seconds in (
            ("detected", record["times"]["detect"]),
            ("acknowledged", record["times"]["acknowledge"]),
            ("mitigated", record["times"]["mitigate"]),
            ("recovered", record["times"]["recover"]),
        )
        if seconds is not None
    )
    traffic, data = record["traffic"], record["data"]
    parts = [
        f"{record['id']}: {title(record['scenario'])}: {record['outcome'].upper()}. {record['reason']}",
        f"{times[:1].upper()}{times[1:]}." if times else "",
        f"{traffic['failed']} of {traffic['requests']} requests failed,"
        f" {traffic['sessions_lost']} of {traffic['sessions']} sessions and"
        f" {data['lost']} of {data['writes']} known writes were lost.",
        f"Self-healing and procedures: {_actions(record)}.",
        f"{len(record['differences'])} differences are left on the hosts." if record["differences"] else "",
        *record.get("notes", ()),
    ]
    return " ".join(part for part in parts if part)


def title(scenario: str) -> str:
    """The title of a scenario; its name if a later version has removed it."""
    return SCENARIOS[scenario].title if scenario in SCENARIOS else scenario


def _actions(record: Record) -> str:
    return ", ".join(f"{each['procedure']} ({each['by']})" for each in record["actions"]) or "none"


def _parts(drill: Record) -> Iterator[str]:
    is_secret = drill["sealed"] and drill["outcome"] == "running"
    yield f"{drill['id']}:"
    yield SEALED if is_secret else title(drill["scenario"])
    if not is_secret:
        yield f"on {', '.join(drill['hosts'])}"
    yield f"({drill['mode']}{': ' + ', '.join(drill['participants']) if drill['participants'] else ''}),"
    yield f"started {drill['started']}, {drill['outcome']}"
    if (recover := drill["times"]["recover"]) is not None:
        yield f"after {recover:g} s"
