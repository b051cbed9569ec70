"""Draws graphs over time as SVG. Each value is a horizontal step; periods without data are gaps.

Pure: the same values always give the same drawing. Lines differ in dashes as well as in colour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

_WIDTH, _HEIGHT = 720, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 26, 50
# Okabe and Ito's colours, which colour-blind people can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_TICKS = (5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 604800)
_MOST_TICKS = 9

_Place = Callable[[float], float]


@dataclass(frozen=True)
class Step:
    """A value from one time to another, in seconds since the epoch."""

    begin: float
    end: float
    value: float


@dataclass(frozen=True)
class Mark:
    """An event, marked with its number. The text below the graph explains the numbers."""

    at: float
    number: int


@dataclass(frozen=True)
class Frame:
    """The period that the graph shows, and the part of it that is shaded."""

    begin: float
    end: float
    shaded: tuple[float, float]


def steps(
    title: str, unit: str, series: Mapping[str, Sequence[Step]], frame: Frame, marks: Sequence[Mark] = ()
) -> str:
    """A graph with a line for each name. `unit`: the unit of the values, which must not be negative."""
    top = _nice(max((step.value for each in series.values() for step in each), default=0.0))
    span = max(1.0, frame.end - frame.begin)

    def x(at: float) -> float:
        inside = min(max(at, frame.begin), frame.end)
        return _LEFT + (inside - frame.begin) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - min(value, top) / top * (_HEIGHT - _TOP - _BOTTOM)

    floor, ceiling = y(0), y(top)
    left, right = x(frame.shaded[0]), x(frame.shaded[1])
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}"'
        ' font-family="system-ui,sans-serif" font-size="12" fill="#1c1c1c">',
        f"<title>{escape(title)}</title>",
        f'<rect x="{left:.1f}" y="{ceiling:.1f}" width="{right - left:.1f}" height="{floor - ceiling:.1f}"'
        ' fill="#fbeee0"/>',
    ]
    for part in range(5):
        value = top * part / 4
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
            ' stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}{escape(unit)}</text>'
        )
    for at in _ticks(frame.begin, frame.end):
        parts.append(
            f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{floor:.1f}" y2="{floor + 4:.1f}" stroke="#777"/>'
            f'<text x="{x(at):.1f}" y="{floor + 17:.1f}" text-anchor="middle">'
            f"{_clock(at, span)}</text>"
        )
    parts += _marks(marks, x, floor, ceiling)
    for number, (name, line) in enumerate(series.items()):
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
        style = f'stroke="{colour}" stroke-width="2"' + (f' stroke-dasharray="{dash}"' if dash else "")
        if path := _path(line, x, y):
            parts.append(f'<path d="{path}" fill="none" {style}/>')
        place = _LEFT + number % 4 * 165
        row = _HEIGHT - 14 + number // 4 * 14
        parts.append(
            f'<line x1="{place}" x2="{place + 24}" y1="{row - 4}" y2="{row - 4}" {style}/>'
            f'<text x="{place + 30}" y="{row}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def _path(line: Sequence[Step], x: _Place, y: _Place) -> str:
    """The steps as one path, with a gap where a step does not start at the end of the previous one."""
    drawn, pen = [], None
    for step in sorted(line, key=lambda each: each.begin):
        drawn.append(f"{'L' if pen == step.begin else 'M'}{x(step.begin):.1f} {y(step.value):.1f}")
        drawn.append(f"L{x(step.end):.1f} {y(step.value):.1f}")
        pen = step.end
    return "".join(drawn)


def _marks(marks: Sequence[Mark], x: _Place, floor: float, ceiling: float) -> list[str]:
    """Vertical lines with numbers. A number that would overlap the previous one moves to the right."""
    parts, last = [], 0.0
    for mark in marks:
        label = max(x(mark.at), last + 15)
        last = label
        parts.append(
            f'<line x1="{x(mark.at):.1f}" x2="{x(mark.at):.1f}" y1="{ceiling:.1f}" y2="{floor:.1f}"'
            ' stroke="#777" stroke-dasharray="1 2"/>'
            f'<text x="{label:.1f}" y="{ceiling - 8:.1f}" text-anchor="middle">{mark.number}</text>'
        )
    return parts


def _nice(value: float) -> float:
    """The smallest of 1, 2, 4, 5 or 10 times a power of ten that is not below the value."""
    scale = 1e-3
    while scale < 1e9:
        for step in (1, 2, 4, 5):
            if value <= step * scale:
                return step * scale
        scale *= 10
    return value


def _ticks(begin: float, end: float) -> list[float]:
    width = next((each for each in _TICKS if (end - begin) / each <= _MOST_TICKS), _TICKS[-1])
    first = -(-begin // width) * width
    return [first + width * number for number in range(int((end - first) // width) + 1)]


def _clock(at: float, span: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    if span > 86400:
        return f"{moment:%m-%d %H:%M}"
    return f"{moment:%H:%M:%S}" if span < _MOST_TICKS * 60 else f"{moment:%H:%M}"
