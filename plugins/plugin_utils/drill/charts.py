"""Draws a drill's timeline, and recoveries over months, as SVG that follows a reader's dark setting.

Pure: the same values always give the same drawing. Each chart is drawn twice, for wide and for narrow
screens; the page shows the one that fits. What colours say, positions and texts also say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDE, _NARROW = 720, 340
_LEFT, _RIGHT, _TOP = 8, 16, 20
_LANE, _BAR = 46, 12
_TICKS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200),
    *(86400 * days for days in (1, 2, 5, 10, 30, 90)),
)
_RADIUS = 8
_HEIGHT, _FLOOR, _AXIS = 220, 190, 46

_STYLE = """\
<style>
.chart{--ink:#1c1c1c;--paper:#fff;--quiet:#595959;--rule:#d4d4d4;--good:#1a7f37;--late:#b35900;--mark:#0a5fa8;\
min-width:0;font:12px system-ui,sans-serif}
.chart.narrow{display:none}
@media screen and (max-width:40rem){.chart.wide{display:none}.chart.narrow{display:block}}
@media screen and (prefers-color-scheme:dark){
.chart{--ink:#e6e6e6;--paper:#161616;--quiet:#a6a6a6;--rule:#444;--good:#57ab5a;--late:#e69138;--mark:#6cb6ff}
}
.chart text{fill:var(--ink)}
.chart .quiet{fill:var(--quiet)}
.chart .rule{stroke:var(--rule)}
.chart .target{stroke:var(--ink);stroke-width:2}
.chart .never{fill:none;stroke:var(--late);stroke-dasharray:4 3}
.chart .good{fill:var(--good)}
.chart .late{fill:var(--late)}
.chart .mark{fill:var(--mark)}
.chart .number{fill:var(--paper);font-size:11px;font-weight:600}
</style>"""


@dataclass(frozen=True)
class Phase:
    """A phase of the response. Seconds from the fault; `seconds` None: it did not happen."""

    title: str
    seconds: float | None
    target: float | None


@dataclass(frozen=True)
class Event:
    """An action or a message, marked with its number in the table. `failed`: it had no success."""

    seconds: float
    number: int
    failed: bool = False


@dataclass(frozen=True)
class Dot:
    """A recovery. `days`: since the start of the period. `share`: of its target, 1 is on target."""

    days: float
    share: float


def timeline(
    title: str, phases: Sequence[Phase], lanes: Sequence[tuple[str, Sequence[Event]]], ended: float
) -> str:
    """The phases as bars with their targets, then a lane with marks for each kind of event.

    `ended`: when the drill ended, in seconds from the fault.
    """
    return _both(lambda width: _timeline(title, phases, lanes, ended, width))


def recoveries(title: str, dots: Sequence[Dot], days: int, labels: Sequence[tuple[float, str]]) -> str:
    """Recoveries as shares of their targets over a period. `labels`: days from its start, with their text."""
    return _both(lambda width: _recoveries(title, dots, days, labels, width))


def span(seconds: float) -> str:
    """A duration for an axis: `0.5 s`, `90 s`, `5 min`, `2 h`."""
    if abs(seconds) < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if abs(seconds) < 7200 else f"{seconds / 3600:g} h"


def _both(draw: Callable[[int], str]) -> str:
    return f"{_STYLE}\n{draw(_WIDE)}\n{draw(_NARROW)}"


def _opening(title: str, width: int, height: int) -> str:
    kind = "wide" if width == _WIDE else "narrow"
    return (
        f'<svg class="chart {kind}" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(title)}">\n<title>{escape(title)}</title>'
    )


def _timeline(
    title: str,
    phases: Sequence[Phase],
    lanes: Sequence[tuple[str, Sequence[Event]]],
    ended: float,
    width: int,
) -> str:
    happened = [phase.seconds for phase in phases if phase.seconds is not None]
    events = [event.seconds for _, each in lanes for event in each]
    if len(happened) < len(phases):
        happened.append(ended)
    first, last = min([0.0, *events]), max([1.0, *happened, *events])
    length = (last - first) * 1.04

    def x(seconds: float) -> float:
        inside = min(max(seconds, first), first + length)
        return _LEFT + (inside - first) / length * (width - _LEFT - _RIGHT)

    floor = _TOP + (len(phases) + len(lanes)) * _LANE
    parts = [_opening(title, width, floor + 30), *_scale(x, first, first + length, floor, width)]
    for number, phase in enumerate(phases):
        parts += _phase(phase, x, _TOP + number * _LANE, width)
    for number, (name, marks) in enumerate(lanes, len(phases)):
        top = _TOP + number * _LANE
        parts.append(f'<text x="{_LEFT}" y="{top + 4}">{escape(name)}{"" if marks else ": none"}</text>')
        parts += _marks(marks, x, top + 21)
    return "\n".join([*parts, "</svg>"])


def _scale(x: Callable[[float], float], first: float, last: float, floor: int, width: int) -> Iterator[str]:
    most = 9 if width == _WIDE else 5
    step = next((each for each in _TICKS if (last - first) / each <= most), _TICKS[-1])
    for number in range(int(-(-first // step)), int(last // step) + 1):
        place = f"{x(number * step):.1f}"
        yield f'<line class="rule" x1="{place}" x2="{place}" y1="{_TOP - 12}" y2="{floor}"/>'
        anchor = "middle" if x(number * step) > _LEFT + 12 else "start"
        yield (
            f'<text class="quiet" x="{place}" y="{floor + 16}" text-anchor="{anchor}">'
            f"{span(round(number * step, 6))}</text>"
        )


def _phase(phase: Phase, x: Callable[[float], float], top: int, width: int) -> Iterator[str]:
    is_late = phase.seconds is None or (phase.target is not None and phase.seconds > phase.target)
    took = "did not happen" if phase.seconds is None else span(round(phase.seconds, 1))
    aim = "" if phase.target is None else f", target {span(phase.target)}"
    text = f"{phase.title}: {took}{aim}{' (late)' if is_late else ''}"
    yield f'<text x="{_LEFT}" y="{top + 4}">{escape(text)}</text>'
    bar = top + 15
    if phase.seconds is None:
        length = width - _RIGHT - x(0)
        yield f'<rect class="never" x="{x(0):.1f}" y="{bar}" width="{length:.1f}" height="{_BAR}"/>'
    else:
        yield (
            f'<rect class="{"late" if is_late else "good"}" x="{x(0):.1f}" y="{bar}"'
            f' width="{max(1.5, x(phase.seconds) - x(0)):.1f}" height="{_BAR}"/>'
        )
    if phase.target is None:
        return
    place = x(phase.target)
    if place < x(float("inf")):
        yield f'<line class="target" x1="{place:.1f}" x2="{place:.1f}" y1="{bar - 4}" y2="{bar + _BAR + 4}"/>'
    else:
        yield (f'<text x="{width - 2}" y="{bar + _BAR - 1}" text-anchor="end" aria-hidden="true">▸</text>')


def _marks(events: Iterable[Event], x: Callable[[float], float], middle: int) -> Iterator[str]:
    """Numbered circles. One that would cover the previous one moves to the right."""
    last = 0.0
    for event in sorted(events, key=lambda each: (each.seconds, each.number)):
        place = max(x(event.seconds), last + 2 * _RADIUS + 2, _LEFT + float(_RADIUS))
        last = place
        kind = "late" if event.failed else "mark"
        yield f'<circle class="{kind}" cx="{place:.1f}" cy="{middle}" r="{_RADIUS}"/>'
        label = f'x="{place:.1f}" y="{middle + 4}" text-anchor="middle"'
        yield f'<text class="number" {label}>{event.number}</text>'


def _recoveries(
    title: str, dots: Sequence[Dot], days: int, labels: Sequence[tuple[float, str]], width: int
) -> str:
    top = max([1.25, *(dot.share * 1.1 for dot in dots)])

    def x(day: float) -> float:
        return _AXIS + day / max(1, days) * (width - _AXIS - _RIGHT)

    def y(share: float) -> float:
        return _FLOOR - share / top * (_FLOOR - _TOP)

    parts = [_opening(title, width, _HEIGHT)]
    step = next(each for each in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000, top) if top / each <= 6)
    for number in range(int(top // step) + 1):
        share = number * step
        label = f'x="{_AXIS - 6}" y="{y(share) + 4:.1f}" text-anchor="end"'
        parts.append(
            f'<line class="rule" x1="{_AXIS}" x2="{width - _RIGHT}" y1="{y(share):.1f}" y2="{y(share):.1f}"/>'
            f'<text class="quiet" {label}>{100 * share:.0f} %</text>'
        )
    parts.append(
        f'<line class="target" x1="{_AXIS}" x2="{width - _RIGHT}" y1="{y(1):.1f}" y2="{y(1):.1f}"'
        ' stroke-dasharray="6 3"/>'
    )
    for day, label in labels:
        parts.append(f'<text class="quiet" x="{x(day):.1f}" y="{_FLOOR + 18}">{escape(label)}</text>')
    parts += [
        f'<circle class="{"late" if dot.share > 1 else "good"}" cx="{x(dot.days):.1f}"'
        f' cy="{y(dot.share):.1f}" r="4"/>'
        for dot in dots
    ]
    return "\n".join([*parts, "</svg>"])
