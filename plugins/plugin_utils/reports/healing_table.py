"""Self-healing of all hosts and of the fleet as a table, and as plain values. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.incident import wording
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.overview import Healing

_HEAD = ("HEALING", "STATE", "LEFT (HOUR, DAY)", "LAST REPAIR")
_LONGEST = 300


def gather(results: Mapping[str, Mapping[str, Any]], fleet: Collection[str]) -> dict[str, Any]:
    """What is shown, as plain values: `fleet` by monitoring host, and `hosts` by name.

    `results`: of `healing_info`. `fleet`: the names of the fleet's hosts, which repair themselves.
    """
    return {
        "fleet": {
            name: _part(each, "fleet")
            for name, each in results.items()
            if isinstance(each.get("fleet"), Mapping) and each["fleet"].get("installed")
        },
        "hosts": {name: _part(each, "host") for name, each in results.items() if name in fleet},
    }


def _part(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The facts of a host, or why there are none."""
    if not isinstance(result.get(name), Mapping):
        lines = str(result.get("msg") or "no answer").strip().splitlines()
        return {"unknown": lines[-1][-_LONGEST:]}
    try:
        shape.record(Healing, result[name], "its answer")
    except shape.ShapeError as error:
        return {"unknown": f"its answer is malformed: {error}"}
    return dict(result[name])


def render(report: Mapping[str, Any]) -> str:
    """A row for the fleet and for each host, and below them why something is not active."""
    rows: list[tuple[str, ...]] = [_HEAD]
    details: list[str] = []
    parts = [(f"fleet, by {name}", each) for name, each in sorted(report["fleet"].items())]
    if not parts:
        details.append("The fleet is not healed. To set that up: docs/self-healing.md.")
    parts += sorted(report["hosts"].items())
    for name, part in parts:
        rows.append((name, _state(part), _left(part), _last(part)))
        details += [wording.one_line(f"{name}: {each}") for each in _details(part)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(["", *lines, *(["", *details] if details else []), ""])


def _state(part: Mapping[str, Any]) -> str:
    if "unknown" in part or part["problem"]:
        return "unknown"
    if not part["installed"]:
        return "off"
    for name in ("stopped", "paused"):
        if part[name]:
            return name
    return str(part["mode"])


def _left(part: Mapping[str, Any]) -> str:
    left = part.get("left") or {}
    return f"{left['hour']}, {left['day']}" if {"hour", "day"} <= left.keys() else ""


def _last(part: Mapping[str, Any]) -> str:
    repairs = part.get("repairs") or ()
    if not repairs:
        return ""
    last = repairs[0]
    of_host = f" of {last['host']}" if last["host"] else ""
    return wording.one_line(f"{last['repair']}{of_host}, {last['at']}: {last['result']}")


def _details(part: Mapping[str, Any]) -> Iterator[str]:
    if reason := part.get("unknown") or part.get("problem"):
        yield str(reason)
        return
    if not part["installed"]:
        return
    for name in ("stopped", "paused"):
        if part[name]:
            yield str(part[name])
    if part["status"] not in ("idle", "stopped", "paused"):
        yield f"{part['status']}: {part['why']}"
