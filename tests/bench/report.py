"""The figures of a benchmark and their targets. Uses no clock and no process."""

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
    """One row of a table: a value in `unit`, and its target, if any.

    If `value` is a median, `spread` is the smallest and the largest of the values.
    """

    what: str
    value: float
    unit: str = ""
    spread: tuple[float, float] | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the target is reached; empty without a target. NaN misses every target."""
        if self.at_least is None and self.at_most is None:
            return ""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return "ok" if low <= self.value <= high else "MISSED"

    @property
    def measured(self) -> str:
        """The value as text, with its unit and its spread."""
        text = f"{number(self.value)} {self.unit}".rstrip()
        if self.spread is not None:
            text += f" ({number(self.spread[0])} to {number(self.spread[1])})"
        return text

    @property
    def target(self) -> str:
        """The target as text."""
        bounds = [("at least", self.at_least), ("at most", self.at_most)]
        return ", ".join(f"{words} {number(bound)}" for words, bound in bounds if bound is not None)


@dataclass(frozen=True)
class Report:
    """The outcome of one benchmark.

    `setting` describes the conditions in one line. `notes` are further lines for the reader.
    `problems` are findings that no figure shows. The report fails if there is one.
    """

    name: str
    setting: str
    figures: tuple[Figure, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every target is reached and there are no problems."""
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
        """The report as plain values, for JSON."""
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
    """A number with four significant digits, without decimals from 1000 on."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` (0 to 100) of the values do not exceed (nearest rank).

    Raises:
        ValueError: if there are no values, or if the percentage is out of range.
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
    """The median of first / second over pairs that were measured directly after each other.

    Other load on the machine changes from minute to minute, so it affects both values of a pair.
    """
    ratios = [first / second for first, second in pairs]
    return Figure(what, statistics.median(ratios), "", (min(ratios), max(ratios)), at_least, at_most)


def median(what: str, values: Sequence[float], unit: str) -> Figure:
    """The median of values, without a target."""
    return Figure(what, statistics.median(values), unit, (min(values), max(values)))


async def paired(rounds: int, first: Measurement, second: Measurement) -> list[tuple[float, float]]:
    """Measure two subjects directly after each other, `rounds` times. Both get the number of the round.

    The order changes with every round, so that drift favours neither.
    """
    pairs = []
    for turn in range(rounds):
        if turn % 2:
            later = await second(turn)
            pairs.append((await first(turn), later))
        else:
            pairs.append((await first(turn), await second(turn)))
    return pairs
