"""Whether an incident may end: every host of it stayed well, watched, since it was last changed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.incident.state import Incident
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import watch_table

# Results of a procedure that has changed its host, or may have.
_CHANGED = ("changed", "partial", "unknown")
# What these leave on a host is no change of the service.
_READING = (watch_table.PROCEDURE, "evidence", "backup", "baseline")


def changes(events: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """By host: when the last procedure that changed it was begun, and its name.

    One without an end was killed, or is at work: it counts. An end belongs to a beginning of its own run;
    where a record of an earlier version names none, to the newest, and a refusal to none.
    """
    found: dict[str, tuple[str, str]] = {}
    begun: dict[tuple[str, str, str], list[str]] = {}
    for event in events:
        host, procedure = str(event.get("host")), str(event.get("procedure") or "")
        if not procedure or procedure in _READING:
            continue
        run, result = str(event.get("run") or ""), event.get("result")
        mine = begun.setdefault((host, procedure, run), [])
        if result == "begun":
            mine.append(str(event["at"]))
            continue
        at = mine[-1] if mine else str(event["at"])
        if run:
            mine.clear()
        elif result != "refused":
            del mine[-1:]
        if result in _CHANGED:
            found[host] = max(found.get(host, ("", "")), (at, procedure))
    for (host, procedure, _), times in begun.items():
        for at in times:
            found[host] = max(found.get(host, ("", "")), (at, procedure))
    return found


def hosts(incident: Incident, events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Those that were ill or unknown when an incident was opened or joined, and that were changed since."""
    return sorted({*incident.ill, *changes(events)})


def unmet(incident: Incident, events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why it is not known of the hosts of an incident that they recovered, a clause each; [] when it is.

    `events`: its timeline, the oldest first. An incident without hosts has nothing that could be watched.
    What was allowed to end without a watch stays so until a host is changed.
    """
    changed = changes(events)
    if incident.without_watch and all(at < incident.without_watch for at, _ in changed.values()):
        return []
    newest = {
        str(event["host"]): event[watch_table.PROCEDURE]
        for event in events
        if event.get("procedure") == watch_table.PROCEDURE and watch_table.PROCEDURE in event
    }
    return list(_problems(hosts(incident, events), newest, changed, incident.ill))


def _problems(
    hosts: Iterable[str],
    newest: Mapping[str, Mapping[str, Any]],
    changed: Mapping[str, tuple[str, str]],
    ill: Mapping[str, str],
) -> Iterator[str]:
    for host in hosts:
        seen = newest.get(host)
        at, procedure = changed.get(host, ("", ""))
        if seen is None:
            yield f"{host} was not watched"
        elif seen["verdict"] != "recovered":
            yield f"{host} is {seen['verdict']} ({seen['why']})"
        elif seen["began"] < at:
            yield f"{host} was watched from {seen['began']}, and changed by {procedure} at {at}"
        elif seen["ended"] < ill.get(host, ""):
            yield f"{host} was watched until {seen['ended']}, and ill at {ill[host]}"
