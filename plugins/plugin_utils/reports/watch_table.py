"""The verdicts of a watch on all hosts of a play: as people read them, and as the timeline has them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_table

PROCEDURE = "watch"
# What each verdict is among the results of procedures.
RESULTS = {"recovered": "ok", "watching": "begun", "breached": "partial", "unknown": "unknown"}
_NEXT = {
    "watching": "watch.yml",
    "breached": "triage.yml",
    "unknown": "watch.yml",
}
_WIDTH = 118
_SAME_SECONDS = 5
_RESETS_SHOWN = 5


def verdict(found: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict on a host and a sentence on it; `found` is the result of its task."""
    if "verdict" in found:
        return str(found["verdict"]["verdict"]), str(found["verdict"]["why"])
    if found.get("refused"):
        return "refused", str(found["msg"])
    said = str(found.get("msg") or "it was not asked").strip().splitlines()
    return "unknown", f"no answer: {said[-1]}" if found.get("unreachable") else said[-1]


def render(hosts: Mapping[str, Mapping[str, Any]], inventory: Sequence[str] = ()) -> str:
    """One line for each host, then what its window went through and the command to run next."""
    rows = [("HOST", "VERDICT", "LEFT", "WHY")]
    for host, found in hosts.items():
        name, why = verdict(found)
        left = (found.get("verdict") or {}).get("left")
        rows.append((host, name, "-" if not left else f"{left / 60:.1f} min", why))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    for host, found in hosts.items():
        if details := list(_details(found)):
            lines += ["", host, *details]
        if found.get("next_step"):
            lines.append(f"  NEXT: {found['next_step']}")
        elif step := _NEXT.get(verdict(found)[0]):
            lines.append(f"  NEXT: {triage_table.command(step, host, inventory)}")
    return "\n".join(["", *lines, ""])


def _details(found: Mapping[str, Any]) -> Iterator[str]:
    seen = found.get("verdict") or {}
    for reset in list(seen.get("resets", ()))[-_RESETS_SHOWN:]:
        anew = f"began anew {reset['began_anew']}" if reset["began_anew"] else "has not begun anew"
        yield from _wrapped(f"{reset['at']} {reset['kind']}: {reset['why']}; the window {anew}")
    for note in (found.get("untested_system"), *seen.get("notes", ())):
        if note:
            yield from _wrapped(f"note: {note}")


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(
        words, _WIDTH, initial_indent="  ", subsequent_indent=" " * 6, break_on_hyphens=False
    )


def event(host: str, found: Mapping[str, Any], now: datetime, who: str) -> dict[str, Any]:
    """The line of a verdict in the timeline; the window's times by the control node's clock."""
    name, why = verdict(found)
    seen = found.get("verdict") or {}

    def at(seconds: float | None) -> str:
        if seconds is None or "now" not in found:
            return ""
        return timestamps.stamp(now - timedelta(seconds=float(found["now"]) - seconds))

    return {
        "at": timestamps.stamp(now),
        "host": host,
        "who": who,
        "procedure": PROCEDURE,
        "result": RESULTS[name],
        "message": f"{name}: {why}",
        PROCEDURE: {
            "verdict": name,
            "why": why,
            "minutes": int(found.get("minutes") or 0),
            "began": at(seen.get("began")),
            "ended": at(seen.get("ended")),
        },
    }


def is_told(line: Mapping[str, Any], timeline: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the newest line on a host says the same already."""
    newest = next(
        (
            each
            for each in reversed(list(timeline))
            if each.get("procedure") == PROCEDURE and each.get("host") == line["host"] and PROCEDURE in each
        ),
        None,
    )
    if newest is None or newest[PROCEDURE]["verdict"] != line[PROCEDURE]["verdict"]:
        return False
    began = [each[PROCEDURE]["began"] for each in (newest, line)]
    if "" in began:
        return bool(began[0] == began[1] and newest["message"] == line["message"])
    apart = timestamps.parse(began[0]) - timestamps.parse(began[1])
    return bool(abs(apart.total_seconds()) <= _SAME_SECONDS)
