"""What a benchmark measured, and whether it reaches its targets. No clock and no process in here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "MISSED", ""]
Measurement = Callable[[int], Awaitable[float]]


@dataclass(frozen=True)
class Figure:
    """One row of a table: a value, in `unit`, and the target that it has to reach, if any.

    `spread` is the least and the greatest of the values whose median `value` is.
    """

    what: str
    value: float
    unit: str = ""
    spread: tuple[float, float] | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the target is reached; empty without one. NaN reaches none."""
        if self.at_least is None and self.at_most is None:
            return ""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return "ok" if low <= self.value <= high else "MISSED"

    @property
    def measured(self) -> str:
        """The value as a reader wants it, with its spread."""
        text = f"{number(self.value)} {self.unit}".rstrip()
        if self.spread is not None:
            text += f" ({number(self.spread[0])} to {number(self.spread[1])})"
        return text

    @property
    def target(self) -> str:
        """The target in words."""
        bounds = [("at least", self.at_least), ("at most", self.at_most)]
        return ", ".join(f"{words} {number(bound)}" for words, bound in bounds if bound is not None)


@dataclass(frozen=True)
class Report:
    """The outcome of one benchmark.

    `setting` says in a line what the figures hold for; `notes` are lines to read beside them.
    `problems` are findings that no figure shows; one is enough to fail.
    """

    name: str
    setting: str
    figures: tuple[Figure, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every target is reached and nothing is wrong."""
        return not self.problems and all(figure.verdict != "MISSED" for figure in self.figures)

    def as_text(self) -> str:
        """The setting, the table in Markdown, and the problems."""
        rows = [("What", "Measured", "Target", "")]
        rows += [(figure.what, figure.measured, figure.target, figure.verdict) for figure in self.figures]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in rows
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        wrong = [f"WRONG: {text}" for text in self.problems]
        return "\n".join([f"{self.name}: {self.setting}", "", *lines, *self.notes, *wrong])

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        figures = [asdict(figure) | {"verdict": figure.verdict} for figure in self.figures]
        return {
            "name": self.name,
            "setting": self.setting,
            "ok": self.ok,
            "figures": figures,
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


def number(value: float) -> str:
    """A number with four digits that count, and none behind the point from a thousand on."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of the values that `percent` (0 to 100) of them do not exceed (nearest rank).

    Raises:
        ValueError: without values, or for a percentage outside of the range.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"no percentile {percent:g} of {len(values)} values")
    rank = max(1, math.ceil(percent / 100 * len(values)))
    return sorted(values)[rank - 1]


def ratio(
    what: str,
    pairs: Sequence[tuple[float, float]],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """The median of first / second over pairs that were measured one right after the other.

    What else happens on the machine changes from minute to minute, and so hits both of a pair.
    """
    ratios = [first / second for first, second in pairs]
    return Figure(what, statistics.median(ratios), "", (min(ratios), max(ratios)), at_least, at_most)


def median(what: str, values: Sequence[float], unit: str) -> Figure:
    """The median of values, without a target."""
    return Figure(what, statistics.median(values), unit, (min(values), max(values)))


async def paired(rounds: int, first: Measurement, second: Measurement) -> list[tuple[float, float]]:
    """Measure two subjects one right after the other, `rounds` times, each with the round's number.

    The order changes from round to round, so that drift favours neither.
    """
    pairs = []
    for turn in range(rounds):
        if turn % 2:
            later = await second(turn)
            pairs.append((await first(turn), later))
        else:
            pairs.append((await first(turn), await second(turn)))
    return pairs
