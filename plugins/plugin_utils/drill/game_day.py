"""The table of a game day, in which every scenario is practised once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS

_HEADINGS = (
    *("Scenario", "Outcome", "Detected", "Mitigated", "Recovered"),
    *("Requests failed", "Sessions lost", "Data lost", "Score"),
)
_LAST_LINES = 15


@dataclass(frozen=True)
class Row:
    """A scenario of a game day. `record`: None if the drill was refused, for `reason`."""

    scenario: str
    record: Record | None
    score: float | None = None
    reason: str = ""


def table(rows: Sequence[Row]) -> str:
    """The table as Markdown. Times are in seconds from the injection."""
    lines = [_line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
    lines += [_line(_cells(row)) for row in rows]
    notes = [f"- {_title(row)}: {_reason(row)}" for row in rows if _reason(row)]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def line(row: Row) -> str:
    """A drill of the game day in one line, while it runs."""
    return ", ".join(cell for cell in _cells(row) if cell != "-")


def refusal(output: str, errors: str) -> str:
    """Why a drill was refused: the end of the output of its run, else its errors, in one line."""
    _, heading, shown = output.rpartition("\nRESULT ")
    result = shown.partition("\n")[2] if heading else ""
    lines = (result or errors or output).strip().splitlines()
    return " ".join(" ".join(lines[-_LAST_LINES:]).split())


def totals(rows: Sequence[Row]) -> Mapping[str, int]:
    """How many drills had each outcome; `refused` for those without a record."""
    counts: dict[str, int] = {}
    for row in rows:
        outcome = row.record["outcome"] if row.record else "refused"
        counts[outcome] = counts.get(outcome, 0) + 1
    return counts


def _cells(row: Row) -> Iterator[str]:
    yield _title(row)
    if row.record is None:
        yield "refused"
        yield from ["-"] * (len(_HEADINGS) - 2)
        return
    record = row.record
    yield record["outcome"]
    for name in ("detect", "mitigate", "recover"):
        value = record["times"][name]
        yield "-" if value is None else f"{value:.1f} s"
    traffic, data = record["traffic"], record["data"]
    yield f"{traffic['failed']} of {traffic['requests']}"
    yield f"{traffic['sessions_lost']} of {traffic['sessions']}"
    yield f"{data['lost']} of {data['writes']} writes"
    yield "-" if row.score is None else f"{row.score:.0f}"


def _title(row: Row) -> str:
    return SCENARIOS[row.scenario].title


def _reason(row: Row) -> str:
    if row.record is None:
        return row.reason
    return "" if row.record["outcome"] == "passed" else row.record["reason"]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
