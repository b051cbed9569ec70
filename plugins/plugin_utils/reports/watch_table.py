"""The verdicts of a watch on all hosts of a play: as a table for people, and as timeline events."""

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
# The procedure result that each verdict maps to.
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
    """Why a window was restarted. `began_anew`: when the next window started, empty if it has not yet."""

    at: str
    kind: str
    why: str
    began_anew: str


class Verdict(TypedDict):
    """The verdict on a host as returned by `katago.fleet.watch`: `window.Verdict` in plain values."""

    verdict: Result
    why: str
    began: NotRequired[float | None]
    ended: NotRequired[float | None]
    left: NotRequired[float]
    resets: NotRequired[list[Reset]]
    notes: NotRequired[list[str]]


class HostResult(TypedDict, total=False):
    """The result of a host's task; empty if the task did not run.

    `now`: seconds since the host booted. `minutes`: the window's length. `msg`: why there is no verdict.
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
    """Validate the result of a host's task. A malformed result becomes one with a reason and no verdict."""
    try:
        return shape.typed(HostResult, content, "watch_result")
    except shape.ShapeError as error:
        return {"msg": f"the host's result is malformed: {error}"}


def verdict(result: HostResult) -> tuple[str, str]:
    """The verdict on a host, and the reason for it."""
    if "verdict" in result:
        return result["verdict"]["verdict"], result["verdict"]["why"]
    lines = ((result.get("msg") or "").strip() or "the task did not run on this host").splitlines()
    if result.get("refused"):
        return "refused", "\n".join(lines)
    return "unknown", f"no answer: {lines[-1]}" if result.get("unreachable") else lines[-1]


def render(hosts: Mapping[str, HostResult], inventory: Sequence[str] = ()) -> str:
    """One line for each host, then for each host the restarts of its window, notes and the next command."""
    rows = [("HOST", "VERDICT", "LEFT", "WHY")]
    for host, result in hosts.items():
        name, why = verdict(result)
        left = result["verdict"].get("left") if "verdict" in result else None
        rows.append((host, name, "-" if not left else f"{left / 60:.1f} min", why))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    for host, result in hosts.items():
        if details := list(_details(result)):
            lines += ["", host, *details]
        if result.get("next_step"):
            lines.append(f"  NEXT: {result['next_step']}")
        elif step := _NEXT.get(verdict(result)[0]):
            lines.append(f"  NEXT: {triage_table.command(step, host, inventory)}")
    return "\n".join(["", *lines, ""])


def _details(result: HostResult) -> Iterator[str]:
    resets = result["verdict"].get("resets", []) if "verdict" in result else []
    notes = result["verdict"].get("notes", []) if "verdict" in result else []
    for reset in resets[-_RESETS_SHOWN:]:
        state = f"restarted at {reset['began_anew']}" if reset["began_anew"] else "has not restarted yet"
        yield from _wrapped(f"{reset['at']} {reset['kind']}: {reset['why']}; the window {state}")
    for note in (result.get("untested_system"), *notes):
        if note:
            yield from _wrapped(f"note: {note}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent=" " * 6, break_on_hyphens=False)


def event(host: str, result: HostResult, now: datetime, who: str) -> dict[str, Any]:
    """The timeline event of a verdict. The window's times are converted to the control node's clock."""
    name, why = verdict(result)
    window = result.get("verdict")

    def at(seconds: float | None) -> str:
        if seconds is None or "now" not in result:
            return ""
        return timestamps.stamp(now - timedelta(seconds=result["now"] - seconds))

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
            "minutes": result.get("minutes", 0),
            "began": at(window.get("began") if window else None),
            "ended": at(window.get("ended") if window else None),
        },
    }


def is_told(line: Mapping[str, Any], timeline: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the host's newest watch event in the timeline has the same verdict on the same window."""
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
