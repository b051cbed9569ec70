"""The verdicts of a watch on all hosts of a play: as people read them, and as the timeline has them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.watch.window import Result
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


class Reset(TypedDict):
    """Why a window ended before its time; `began_anew`: when the next one began, empty for not yet."""

    at: str
    kind: str
    why: str
    began_anew: str


class Verdict(TypedDict):
    """The verdict on a host, as `katago.fleet.watch` returns it: `window.Verdict` as plain values."""

    verdict: Result
    why: str
    began: NotRequired[float | None]
    ended: NotRequired[float | None]
    left: NotRequired[float]
    resets: NotRequired[list[Reset]]
    notes: NotRequired[list[str]]


class HostResult(TypedDict, total=False):
    """What the task of a host returned; nothing when it was not asked.

    `now`: seconds since the host's boot. `minutes`: the window's length. `msg`: why there is no verdict.
    """

    verdict: Verdict
    now: float
    minutes: int
    joined: bool
    msg: str
    refused: bool
    unreachable: bool
    next_step: str
    untested_system: str


def read(content: object) -> HostResult:
    """The result of a host's task. One of another shape is a host without a verdict, and says why."""
    try:
        return shape.typed(HostResult, content, "watch_result")
    except shape.ShapeError as error:
        return {"msg": f"its result cannot be used: {error}"}


def verdict(found: HostResult) -> tuple[str, str]:
    """The verdict on a host and a sentence on it."""
    if "verdict" in found:
        return found["verdict"]["verdict"], found["verdict"]["why"]
    lines = ((found.get("msg") or "").strip() or "it was not asked").splitlines()
    if found.get("refused"):
        return "refused", "\n".join(lines)
    return "unknown", f"no answer: {lines[-1]}" if found.get("unreachable") else lines[-1]


def render(hosts: Mapping[str, HostResult], inventory: Sequence[str] = ()) -> str:
    """One line for each host, then what its window went through and the command to run next."""
    rows = [("HOST", "VERDICT", "LEFT", "WHY")]
    for host, found in hosts.items():
        name, why = verdict(found)
        left = found["verdict"].get("left") if "verdict" in found else None
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


def _details(found: HostResult) -> Iterator[str]:
    resets = found["verdict"].get("resets", []) if "verdict" in found else []
    notes = found["verdict"].get("notes", []) if "verdict" in found else []
    for reset in resets[-_RESETS_SHOWN:]:
        anew = f"began anew {reset['began_anew']}" if reset["began_anew"] else "has not begun anew"
        yield from _wrapped(f"{reset['at']} {reset['kind']}: {reset['why']}; the window {anew}")
    for note in (found.get("untested_system"), *notes):
        if note:
            yield from _wrapped(f"note: {note}")


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(
        words, _WIDTH, initial_indent="  ", subsequent_indent=" " * 6, break_on_hyphens=False
    )


def event(host: str, found: HostResult, now: datetime, who: str) -> dict[str, Any]:
    """The line of a verdict in the timeline; the window's times by the control node's clock."""
    name, why = verdict(found)
    window = found.get("verdict")

    def at(seconds: float | None) -> str:
        if seconds is None or "now" not in found:
            return ""
        return timestamps.stamp(now - timedelta(seconds=found["now"] - seconds))

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
            "minutes": found.get("minutes", 0),
            "began": at(window.get("began") if window else None),
            "ended": at(window.get("ended") if window else None),
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
