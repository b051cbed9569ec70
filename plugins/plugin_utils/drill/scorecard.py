"""The scorecard of a drill: JSON for programs, and a document with a timeline chart for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import charts, questions, score
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.compare import FEWEST, Comparison
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Mode, Outcome, Record, Times
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import Scenario
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks

SCHEMA = 1
STEM = "scorecard"
"""The files are STEM.json, STEM.md and STEM.html in the directory of the drill."""

GOOD = 80
"""From this score on, a page shows it as good."""

_PHASES: tuple[tuple[Literal["detect", "acknowledge", "mitigate", "recover"], str], ...] = (
    ("detect", "Detected"),
    ("acknowledge", "Acknowledged"),
    ("mitigate", "Mitigated"),
    ("recover", "Recovered"),
)
_MODES: dict[Mode, str] = {
    "unattended": "unattended: procedures and self-healing alone",
    "person": "with people",
    "tabletop": "tabletop: without a fault",
}
_NONE = "-"


class PartScore(TypedDict):
    """The points of a part of the score. `of`: the points that were graded."""

    points: float
    of: int


class CriterionScore(TypedDict):
    """The points of a criterion. They do not count if it is not `graded`."""

    id: str
    part: str
    title: str
    points: float
    of: int
    graded: bool
    reason: str


class Recovery(TypedDict):
    """The recovery beside earlier ones, in seconds. `median` and `limit`: null with fewer than FEWEST."""

    earlier: int
    median: float | None
    limit: float | None
    slower: bool


class Card(TypedDict):
    """The content of scorecard.json. `score`: 0 to 100, or null; then `reasons` has the reason."""

    schema: int
    id: str
    scenario: str
    title: str
    level: str
    mode: Mode
    outcome: Outcome
    fleet: str
    hosts: list[str]
    participants: list[str]
    started: str
    ended: str | None
    score: int | None
    reasons: list[str]
    parts: dict[str, PartScore]
    criteria: list[CriterionScore]
    times: Times
    targets: Times
    recovery: Recovery


def card(record: Record, scenario: Scenario, graded: score.Score, comparison: Comparison) -> Card:
    """The scorecard for programs. Apparent secrets in notes of people are redacted."""
    criteria: list[CriterionScore] = [
        {
            "id": each.criterion.id,
            "part": each.criterion.part,
            "title": each.criterion.title,
            "points": each.earned,
            "of": each.criterion.points,
            "graded": each.credit is not None,
            "reason": blocks.clean(each.reason),
        }
        for each in graded.grades
    ]
    return {
        "schema": SCHEMA,
        "id": record["id"],
        "scenario": record["scenario"],
        "title": scenario.title,
        "level": record["level"],
        "mode": record["mode"],
        "outcome": record["outcome"],
        "fleet": record["fleet"],
        "hosts": record["hosts"],
        "participants": record["participants"],
        "started": record["started"],
        "ended": record["ended"],
        "score": graded.value,
        "reasons": [blocks.clean(reason) for reason in graded.reasons],
        "parts": _parts(graded),
        "criteria": criteria,
        "times": record["times"],
        "targets": record["targets"],
        "recovery": {
            "earlier": comparison.earlier,
            "median": comparison.median,
            "limit": comparison.limit,
            "slower": comparison.slower,
        },
    }


def as_json(content: Card) -> str:
    """The scorecard as the text of its file."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def document(
    record: Record, scenario: Scenario, graded: score.Score, comparison: Comparison
) -> blocks.Document:
    """The scorecard for people."""
    has_fault = record["fault"]["injected"] is not None
    content = [
        *_headline(record, graded),
        _facts(record, scenario),
        *_score(graded),
        *(_timeline(record) if has_fault else ()),
        *(_comparison(record, comparison) if has_fault else ()),
        *(_response(record) if has_fault else ()),
        *(_impact(record) if has_fault else ()),
        *_questions(record, scenario),
    ]
    return blocks.Document(f"Scorecard of {record['id']}: {scenario.title}", content)


def verdict(graded: score.Score) -> str:
    """The score as a sentence."""
    return f"No score: {graded.why_none}." if graded.value is None else f"Score: {graded.value} of 100."


def compared(comparison: Comparison, seconds: float | None) -> str:
    """The comparison as a sentence."""
    if comparison.median is None or comparison.limit is None:
        return (
            f"Not compared: {messages.counted(comparison.earlier, 'earlier drill')} of this scenario and"
            f" mode; {FEWEST} are needed."
        )
    usual = (
        f"the median of the last {comparison.earlier} drills is {score.duration(comparison.median)},"
        f" and up to {score.duration(comparison.limit)} is usual"
    )
    if seconds is None:
        return f"The service did not recover; {usual}."
    how = "SLOWER THAN USUAL" if comparison.slower else "As usual or faster"
    return f"{how}: recovered in {score.duration(seconds)}; {usual}."


def _parts(graded: score.Score) -> dict[str, PartScore]:
    parts: dict[str, PartScore] = {}
    for part in score.PARTS:
        counted = [each for each in graded.grades if each.criterion.part == part and each.credit is not None]
        if counted:
            points = sum(each.criterion.points * (each.credit or 0.0) for each in counted)
            of = sum(each.criterion.points for each in counted)
            parts[part] = {"points": round(points, 1), "of": of}
    return parts


def _headline(record: Record, graded: score.Score) -> Iterator[blocks.Block]:
    good = graded.value is not None and graded.value >= GOOD and record["outcome"] == "passed"
    result = "Tabletop" if record["mode"] == "tabletop" else record["outcome"].capitalize()
    yield blocks.Paragraph(f"{result}. {verdict(graded)}", "good" if good else "warning")
    # Without a score, the verdict has the reason.
    if record["reason"] and graded.value is not None:
        yield blocks.Paragraph(record["reason"])
    yield from (blocks.Paragraph(note) for note in record.get("notes", []))


def _facts(record: Record, scenario: Scenario) -> blocks.Facts:
    fault, undo = record["fault"], record["undo"]
    rows = [
        ("Scenario", record["scenario"] + (", drawn at random and sealed" if record["sealed"] else "")),
        ("Level", record["level"]),
        ("Mode", _MODES[record["mode"]]),
        ("Fleet", record["fleet"]),
        ("Hosts", ", ".join(record["hosts"]) or _NONE),
        ("Participants", ", ".join(record["participants"]) or _NONE),
        ("Incident", record["incident"] or _NONE),
        ("Started", _time(record["started"])),
        ("Ended", _time(record["ended"])),
    ]
    if fault["injected"]:
        rows += [
            ("Fault injected", _time(fault["injected"])),
            ("Fault landed", f"{_time(fault['landed'])}: {fault['seen'] or 'nothing was seen'}"),
            ("Fault undone", f"{_time(undo['done'])}" + (f", by {undo['by']}" if undo["by"] else "")),
        ]
    return blocks.Facts(tuple(rows))


def _score(graded: score.Score) -> Iterator[blocks.Block]:
    if not graded.grades:
        return
    yield blocks.Heading("Score")
    if parts := _parts(graded):
        rows = [(part, f"{each['points']:g}", str(each["of"])) for part, each in parts.items()]
        yield blocks.Table(("Part", "Points", "Of"), tuple(rows))
    if graded.value is not None:
        yield blocks.Bullets(tuple(graded.reasons) or ("No points were lost.",))


def _timeline(record: Record) -> Iterator[blocks.Block]:
    start = _seconds(record["fault"]["injected"] or record["started"])
    phases = [
        charts.Phase(title, record["times"][name], record["targets"][name])
        for name, title in _PHASES
        if record["times"][name] is not None or record["targets"][name] is not None
        if record["mode"] != "unattended" or name != "acknowledge"
    ]
    actions = [
        charts.Event(_seconds(each["time"]) - start, number, failed=each["outcome"] != "done")
        for number, each in enumerate(record["actions"], 1)
    ]
    sent = [
        charts.Event(_seconds(each["time"]) - start, number)
        for number, each in enumerate(record["messages"], 1)
    ]
    lanes = [("Actions", actions)]
    if record["mode"] == "person" or sent:
        lanes.append(("Messages", sent))
    ended = _seconds(record["ended"]) - start if record["ended"] else 0.0
    yield blocks.Heading("Timeline")
    yield blocks.Figure(
        charts.timeline("The response over time", phases, lanes, ended),
        "Time since the fault. On the chart, a stroke is a target, and ▸ a target beyond it.",
        tuple(_events(record, phases, start)),
    )
    rows = []
    for phase in phases:
        late = phase.seconds is None or (phase.target is not None and phase.seconds > phase.target)
        rows.append(
            (
                phase.title,
                "did not happen" if phase.seconds is None else score.duration(phase.seconds),
                _NONE if phase.target is None else score.duration(phase.target),
                "no target" if phase.target is None else "missed" if late else "met",
            )
        )
    yield blocks.Table(("Phase", "After", "Target", "Result"), tuple(rows))


def _events(record: Record, phases: Sequence[charts.Phase], start: float) -> Iterator[str]:
    """All events of the chart in the order of time."""
    events = [(each.seconds, each.title.lower()) for each in phases if each.seconds is not None]
    events += [
        (_seconds(each["time"]) - start, f"{each['procedure']} by {each['by']}: {each['outcome']}")
        for each in record["actions"]
    ]
    events += [
        (_seconds(each["time"]) - start, f"{each['kind']}, for {', '.join(each['audience']) or 'nobody'}")
        for each in record["messages"]
    ]
    for seconds, text in sorted(events, key=lambda each: each[0]):
        yield f"{_elapsed(seconds)}: {text}"


def _comparison(record: Record, comparison: Comparison) -> Iterator[blocks.Block]:
    yield blocks.Paragraph(
        compared(comparison, record["times"]["recover"]), "warning" if comparison.slower else "plain"
    )


def _response(record: Record) -> Iterator[blocks.Block]:
    start = record["fault"]["injected"] or record["started"]
    yield blocks.Heading("Actions")
    if record["actions"]:
        yield blocks.Table(
            ("No.", "After", "Procedure", "Hosts", "By", "Outcome"),
            tuple(
                (
                    *(str(number), _after(start, each["time"])),
                    _command(each["procedure"], each["arguments"]),
                    *(", ".join(each["hosts"]) or _NONE, each["by"], each["outcome"]),
                )
                for number, each in enumerate(record["actions"], 1)
            ),
        )
    else:
        yield blocks.Paragraph("No procedure was run.")
    if record["messages"]:
        yield blocks.Heading("Messages")
        yield blocks.Table(
            ("No.", "After", "Kind", "Audience", "By"),
            tuple(
                (
                    *(str(number), _after(start, each["time"]), each["kind"]),
                    *(", ".join(each["audience"]) or _NONE, each["by"]),
                )
                for number, each in enumerate(record["messages"], 1)
            ),
        )


def _impact(record: Record) -> Iterator[blocks.Block]:
    traffic, data = record["traffic"], record["data"]
    yield blocks.Heading("Impact")
    rows = [
        ("Requests failed", f"{traffic['failed']} of {traffic['requests']}"),
        ("Sessions lost", f"{traffic['sessions_lost']} of {traffic['sessions']}"),
        ("Writes lost", f"{data['lost']} of {data['writes']}"),
    ]
    if data["rpo_seconds"] is not None:
        rows.append(("Oldest lost write", score.duration(data["rpo_seconds"])))
    yield blocks.Facts(tuple(rows))
    yield blocks.Heading("What the drill left behind")
    if record["differences"]:
        yield blocks.Table(
            ("Host", "What", "Before", "After"),
            tuple(
                (each["host"], each["what"], each["before"], each["after"]) for each in record["differences"]
            ),
        )
    else:
        yield blocks.Paragraph("Nothing: the hosts are as they were before.")


def _questions(record: Record, scenario: Scenario) -> Iterator[blocks.Block]:
    if record["mode"] == "unattended":
        return
    asked = questions.of(scenario, tabletop=record["mode"] == "tabletop")
    if asked:
        yield blocks.Heading("Questions")
    for each in asked:
        yield blocks.Heading(each.text, 3)
        yield blocks.Paragraph(each.answer)
        answer = record["answers"].get(each.id)
        yield blocks.Paragraph(f"Marked: {answer}" if answer else f"Not marked yet (ID {each.id}).")


def _command(procedure: str, arguments: dict[str, str]) -> str:
    return " ".join([procedure, *(f"{name}={value}" for name, value in sorted(arguments.items()))])


def _seconds(at: str) -> float:
    return timestamps.parse(at).timestamp()


def _after(start: str, at: str) -> str:
    return _elapsed(_seconds(at) - _seconds(start))


def _elapsed(seconds: float) -> str:
    return f"-{score.duration(-seconds)}" if seconds < 0 else score.duration(seconds)


def _time(at: str | None) -> str:
    return at.replace("T", " ").removesuffix("Z") + " UTC" if at else _NONE
