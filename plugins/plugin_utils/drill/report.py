"""The report on the drills of a month or a quarter, and their part of the quarterly report.

Pure. Like the quarterly report, it shows the state at the end of a day and ignores later drills, so that the
same records always give the same bytes. Marks of people have no dates; their current state is used.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Protocol

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import charts, compare, score, trends
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.archive import Archive, day_of
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Mode, Outcome, Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import Scenario
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks, quarterly

SCHEMA = 1
_MONTH = re.compile(r"(?P<year>20\d\d)-(?P<number>0[1-9]|1[0-2])")
_MODES: tuple[Mode, ...] = ("unattended", "person", "tabletop")
_MODE_NAMES: Mapping[Mode, str] = {
    "unattended": "unattended",
    "person": "with people",
    "tabletop": "tabletop",
}
_OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "invalid", "aborted", "running")
_SEALED = "sealed until the end"
_NONE = "-"


class PeriodError(Exception):
    """A month or a day is not valid. The message names it and shows a valid one."""


class Period(Protocol):
    """A month or a quarter: its name, its first and its last day."""

    @property
    def name(self) -> str: ...
    @property
    def first(self) -> date: ...
    @property
    def last(self) -> date: ...


@dataclass(frozen=True)
class Month:
    """A month. `number`: 1 to 12."""

    year: int
    number: int

    @property
    def name(self) -> str:
        """The name, such as 2026-11."""
        return f"{self.year}-{self.number:02}"

    @property
    def first(self) -> date:
        """Its first day."""
        return date(self.year, self.number, 1)

    @property
    def last(self) -> date:
        """Its last day."""
        return (self.first + timedelta(days=31)).replace(day=1) - timedelta(days=1)

    @property
    def before(self) -> Month:
        """The previous month."""
        day = self.first - timedelta(days=1)
        return Month(day.year, day.month)


def parse_month(text: str) -> Month:
    """The month of a text such as 2026-11. Raises PeriodError for anything else."""
    match = _MONTH.fullmatch(text)
    if match is None:
        raise PeriodError(f"-e month is {text!r}. Give a month such as 2026-11.")
    return Month(int(match["year"]), int(match["number"]))


def default_as_of(archive: Archive, period: Period) -> date:
    """The period's last day or, while the period continues, the day of the newest drill."""
    newest = max(map(day_of, archive.drills), default=period.last)
    return min(period.last, max(newest, period.first))


def periods(
    archive: Archive, month: str, quarter: str, as_of: str
) -> list[tuple[Month | quarterly.Quarter, date]]:
    """The periods that are reported on, with their reporting dates.

    Texts are empty if they were not given. Without a period, those of the newest drill.

    Raises:
        PeriodError: for an invalid month or day.
        QuarterError: for an invalid quarter.
    """
    day = _day(as_of)
    chosen: list[Month | quarterly.Quarter] = []
    if month:
        chosen.append(parse_month(month))
    if quarter:
        chosen.append(quarterly.parse(quarter))
    if not chosen:
        newest = day or max(map(day_of, archive.drills), default=None)
        if newest is None:
            raise PeriodError("There are no drills to choose a month from. Give it: -e month=2026-11.")
        chosen += [Month(newest.year, newest.month), quarterly.of_day(newest)]
    for period in chosen:
        if day and day < period.first:
            raise PeriodError(
                f"-e as_of is {day}, but {period.name} starts on {period.first}. Give a later day."
            )
    return [(period, day or default_as_of(archive, period)) for period in chosen]


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return timestamps.parse_day(text)
    except ValueError:
        raise PeriodError(f"-e as_of is {text!r}. Give a day such as 2026-12-31.") from None


@dataclass(frozen=True)
class _Graded:
    """A drill with its score and its comparison. `scenario`: its title; sealed while it runs."""

    record: Record
    scenario: str
    score: int | None
    comparison: compare.Comparison


@dataclass(frozen=True)
class Report:
    """The drills of a period, with the state at the end of a day. `before`: those of the period before."""

    period: Period
    as_of: date
    now: tuple[_Graded, ...]
    before: tuple[Record, ...]
    due: tuple[trends.Due, ...]
    levels: Mapping[str, str]
    unread: tuple[str, ...]

    @property
    def overdue(self) -> list[trends.Due]:
        """What was overdue at the end of the day."""
        return [each for each in self.due if each.is_overdue(self.as_of)]

    @property
    def records(self) -> list[Record]:
        """The drills of the period."""
        return [each.record for each in self.now]

    @property
    def slower(self) -> list[_Graded]:
        """The drills with a recovery that was slower than usual."""
        return [each for each in self.now if each.comparison.slower]


def build(
    archive: Archive,
    scenarios: Mapping[str, Scenario],
    period: Month | quarterly.Quarter,
    as_of: date,
) -> Report:
    """The report on a period, with the state at the end of a day."""
    archive = archive.as_of(as_of)
    now, before = (
        [each for each in archive.drills if one.first <= day_of(each) <= one.last]
        for one in (period, period.before)
    )
    return Report(
        period,
        as_of,
        tuple(_graded(each, archive, scenarios) for each in now),
        tuple(before),
        tuple(trends.due(archive.drills, scenarios)),
        {name: scenario.level for name, scenario in scenarios.items()},
        archive.unread,
    )


def document(report: Report) -> blocks.Document:
    """The report for people."""
    unfinished = " (before its end)" if report.as_of < report.period.last else ""
    content = [
        blocks.Facts(
            (
                ("Period", f"{report.period.first} to {report.period.last}"),
                ("As of", f"end of {report.as_of}{unfinished}"),
                ("Times", "UTC"),
            )
        ),
        *_summary(report),
        *_due(report),
        *_by_scenario(report),
        *_all(report),
        *_slower(report),
        *_trends(report),
        *_people(report),
    ]
    if report.unread:
        content += [blocks.Heading("Records that are not counted"), blocks.Bullets(report.unread)]
    return blocks.Document(f"Drills in {report.period.name}", content)


def quarter_blocks(report: Report) -> list[blocks.Block]:
    """The part of the quarterly report that is about drills."""
    if not report.now and all(each.last is None for each in report.due):
        return [blocks.Paragraph("No scored drills. The runbook asks for a drill every month.", "warning")]
    content = [*_summary(report)]
    if report.overdue:
        content.append(blocks.Bullets(tuple(overdue_texts(report))))
    share, before = trends.of_target(report.records), trends.of_target(report.before)
    if share is not None:
        was = "no earlier recovery" if before is None else f"{100 * before:.0f} % in the period before"
        text = f"Median recovery: {100 * share:.0f} % of the scenario's target ({was})."
        content.append(blocks.Paragraph(text))
    content += [
        blocks.Paragraph(f"{each.record['id']} ({each.scenario}) recovered slower than usual.", "warning")
        for each in report.slower
    ]
    return content


def overdue_texts(report: Report) -> Iterator[str]:
    """A sentence for everything that is overdue; one for all that was never drilled."""
    for each in report.overdue:
        if each.last:
            yield f"{each.name}: last on {each.last}, due on {each.due} (every {each.days} days)"
    if never := [each.name for each in report.overdue if each.last is None]:
        yield f"Never drilled: {', '.join(never)}"


def as_json(report: Report) -> str:
    """The report for programs. Times are UTC, durations seconds."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "period": report.period.name,
        "first": str(report.period.first),
        "last": str(report.period.last),
        "as_of": str(report.as_of),
        "outcomes": _outcomes(report),
        "due": [
            {
                "name": each.name,
                "every_days": each.days,
                "last": str(each.last) if each.last else None,
                "due": str(each.due) if each.due else None,
                "overdue": each.is_overdue(report.as_of),
            }
            for each in report.due
        ],
        "drills": [
            {
                "id": each.record["id"],
                "scenario": _SEALED if _is_sealed(each.record) else each.record["scenario"],
                "mode": each.record["mode"],
                "level": each.record["level"],
                "started": each.record["started"],
                "outcome": each.record["outcome"],
                "times": each.record["times"],
                "score": each.score,
                "slower": each.comparison.slower,
            }
            for each in report.now
        ],
        "trends": [
            {
                "scenario": each.scenario,
                "mode": each.mode,
                "drills": each.drills,
                "median_recovery": each.now,
                "median_recovery_before": each.before,
                "target": each.target,
            }
            for each in trends.recoveries(report.records, report.before)
        ],
        "participants": trends.participants(report.records),
        "unread": list(report.unread),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _graded(record: Record, archive: Archive, scenarios: Mapping[str, Scenario]) -> _Graded:
    scenario = scenarios.get(record["scenario"])
    title = _SEALED if _is_sealed(record) else record["scenario"]
    value = score.grade(record, scenario).value if scenario else None
    return _Graded(record, title, value, compare.of(record, archive.drills))


def _is_sealed(record: Record) -> bool:
    """Whether the scenario of a drill is still secret."""
    return record["sealed"] and record["outcome"] == "running"


def _outcomes(report: Report) -> dict[str, int]:
    counts = Counter(each["outcome"] for each in report.records)
    return {outcome: counts[outcome] for outcome in _OUTCOMES if counts[outcome]}


def _summary(report: Report) -> Iterator[blocks.Block]:
    total = messages.counted(len(report.now), "drill")
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in _outcomes(report).items())
    overdue = len(report.overdue)
    yield blocks.Paragraph(
        f"{total}{f': {outcomes}' if outcomes else ''}. {overdue or 'Nothing'} overdue.",
        "warning" if overdue else "plain",
    )


def _due(report: Report) -> Iterator[blocks.Block]:
    yield blocks.Heading("Due")
    yield blocks.Table(
        ("Drill", "Level", "Every", "Last", "Due", "Status"),
        tuple(
            (
                *(each.name, report.levels.get(each.name, _NONE), f"{each.days} days"),
                *(str(each.last or "never"), str(each.due or "now")),
                "overdue" if each.is_overdue(report.as_of) else "in time",
            )
            for each in report.due
        ),
    )
    yield blocks.Paragraph(
        "Tabletop, invalid and aborted drills do not count. The monthly drill counts only with people."
    )


def _by_scenario(report: Report) -> Iterator[blocks.Block]:
    yield blocks.Heading("By scenario")
    if not report.now:
        yield blocks.Paragraph("No drills in this period.")
        return
    rows = []
    for name in sorted({each.scenario for each in report.now}):
        of_it = [each for each in report.now if each.scenario == name]
        modes = Counter(each.record["mode"] for each in of_it)
        outcomes = Counter(each.record["outcome"] for each in of_it)
        scores = [each.score for each in of_it if each.score is not None]
        rows.append(
            (
                name,
                *(str(modes[mode]) for mode in _MODES),
                *(str(outcomes[outcome]) for outcome in _OUTCOMES[:4]),
                f"{statistics.median(scores):g}" if scores else _NONE,
            )
        )
    head = ("Scenario", "Unattended", "With people", "Tabletop")
    yield blocks.Table((*head, "Passed", "Failed", "Invalid", "Aborted", "Median score"), tuple(rows))


def _all(report: Report) -> Iterator[blocks.Block]:
    if not report.now:
        return
    yield blocks.Heading("All drills")
    yield blocks.Table(
        ("Drill", "Scenario", "Mode", "Outcome", "Detected", "Mitigated", "Recovered", "Score"),
        tuple(
            (
                *(each.record["id"], each.scenario, _MODE_NAMES[each.record["mode"]], each.record["outcome"]),
                *(_seconds(each.record["times"][name]) for name in ("detect", "mitigate", "recover")),
                _NONE if each.score is None else str(each.score),
            )
            for each in report.now
        ),
    )


def _slower(report: Report) -> Iterator[blocks.Block]:
    if not report.slower:
        return
    yield blocks.Heading("Slower than usual")
    yield blocks.Bullets(
        tuple(
            f"{each.record['id']} ({each.scenario}): {_seconds(each.record['times']['recover'])}; the median"
            f" of the last {each.comparison.earlier} is {_seconds(each.comparison.median)}, and up to"
            f" {_seconds(each.comparison.limit)} is usual"
            for each in report.slower
        )
    )


def _trends(report: Report) -> Iterator[blocks.Block]:
    rows = trends.recoveries(report.records, report.before)
    if not rows:
        return
    yield blocks.Heading("Trends")
    yield blocks.Table(
        ("Scenario", "Mode", "Drills", "Median recovery", "Period before", "Change", "Target"),
        tuple(
            (
                *(each.scenario, _MODE_NAMES[each.mode], str(each.drills)),
                *(_seconds(each.now), _seconds(each.before)),
                _NONE
                if each.now is None or each.before is None
                else quarterly.change_text(each.now, each.before),
                _seconds(each.target),
            )
            for each in rows
        ),
    )
    first = report.period.first
    dots = [
        charts.Dot((day_of(each) - first).days, share)
        for each in report.records
        if (share := trends.share_of_target(each)) is not None
    ]
    if dots:
        days = (report.period.last - first).days
        yield blocks.Figure(
            charts.recoveries("Recoveries against their targets", dots, days, _labels(first, days)),
            "Each dot is a drill: its recovery as a share of the scenario's target, by day.",
            (),
        )


def _labels(first: date, days: int) -> list[tuple[float, str]]:
    every = 7 if days < 40 else 28
    return [
        (float(day), (first + timedelta(days=day)).isoformat()[5:])
        for day in range(0, days - every // 2, every)
    ]


def _people(report: Report) -> Iterator[blocks.Block]:
    yield blocks.Heading("Who took part")
    people = trends.participants(report.records)
    if not people:
        yield blocks.Paragraph("Nobody. The runbook asks for the person on call and the backup, every month.")
        return
    yield blocks.Table(
        ("Person", "Drills with people", "Tabletop"),
        tuple(
            (name, str(modes.get("person", 0)), str(modes.get("tabletop", 0)))
            for name, modes in people.items()
        ),
    )


def _seconds(value: float | None) -> str:
    return _NONE if value is None else score.duration(value)
