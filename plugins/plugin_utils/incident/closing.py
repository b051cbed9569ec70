"""Checks whether an incident may be resolved: a watch confirmed each host after its last change. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.incident.state import Incident
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import watch_table

# Results of a procedure that has changed its host, or may have.
_CHANGED = ("changed", "partial", "unknown")
# Procedures that do not change the service.
_READING = (watch_table.PROCEDURE, "evidence", "backup", "baseline")


def changes(events: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """By host: when the last procedure that changed it started, and the procedure's name.

    A procedure without a result is still running or was killed. It counts as a change. A result belongs to
    a start of the same run. Records of earlier versions name no run: there a result belongs to the newest
    start, and a refusal to none.
    """
    latest: dict[str, tuple[str, str]] = {}
    started: dict[tuple[str, str, str], list[str]] = {}
    for event in events:
        host, procedure = str(event.get("host")), str(event.get("procedure") or "")
        if not procedure or procedure in _READING:
            continue
        run, result = str(event.get("run") or ""), event.get("result")
        starts = started.setdefault((host, procedure, run), [])
        if result == "begun":
            starts.append(str(event["at"]))
            continue
        at = starts[-1] if starts else str(event["at"])
        if run:
            starts.clear()
        elif result != "refused":
            del starts[-1:]
        if result in _CHANGED:
            latest[host] = max(latest.get(host, ("", "")), (at, procedure))
    for (host, procedure, _), times in started.items():
        for at in times:
            latest[host] = max(latest.get(host, ("", "")), (at, procedure))
    return latest


def hosts(
    incident: Incident, events: Iterable[Mapping[str, Any]], unwatched: Collection[str] = ()
) -> list[str]:
    """The incident's hosts: unhealthy or unknown when an alert opened or joined it, or changed since.

    `unwatched`: hosts without the service, which have no watch.
    """
    return sorted({*incident.unhealthy, *changes(events)} - {*unwatched})


def unmet(
    incident: Incident, events: Sequence[Mapping[str, Any]], unwatched: Collection[str] = ()
) -> list[str]:
    """One clause for each host whose recovery is not confirmed; [] if all are confirmed.

    `events`: the incident's timeline, the oldest first. `unwatched`: as in `hosts`. An incident without hosts
    needs no watch. Permission to end without a watch is valid until a host is changed.
    """
    changed = changes(events)
    if incident.without_watch and all(at < incident.without_watch for at, _ in changed.values()):
        return []
    newest = {
        str(event["host"]): event[watch_table.PROCEDURE]
        for event in events
        if event.get("procedure") == watch_table.PROCEDURE and watch_table.PROCEDURE in event
    }
    return list(_problems(hosts(incident, events, unwatched), newest, changed, incident.unhealthy))


def _problems(
    hosts: Iterable[str],
    newest: Mapping[str, Mapping[str, Any]],
    changed: Mapping[str, tuple[str, str]],
    unhealthy: Mapping[str, str],
) -> Iterator[str]:
    for host in hosts:
        watch = newest.get(host)
        at, procedure = changed.get(host, ("", ""))
        if watch is None:
            yield f"{host} was not watched"
        elif watch["verdict"] != "recovered":
            yield f"{host} is {watch['verdict']} ({watch['why']})"
        elif watch["began"] < at:
            yield f"the watch of {host} started at {watch['began']}, before {procedure} changed it at {at}"
        elif watch["ended"] < unhealthy.get(host, ""):
            yield (
                f"the watch of {host} ended at {watch['ended']}, before it was unhealthy again at"
                f" {unhealthy[host]}"
            )
