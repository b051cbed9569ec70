"""Scores the response to a drill: 0 to 100, with a reason for every point that was lost.

Pure. A criterion that does not apply is not graded, and does not count in the total. The table of criteria is
the one in docs/drills.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import state
from ansible_collections.katago.fleet.plugins.module_utils.severity import RESPONSE
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import communication, questions
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Action, Message, Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import Scenario
from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures

Part = Literal["Response time", "Actions", "Communication", "Impact", "Cleanliness", "Answers"]
PARTS: tuple[Part, ...] = get_args(Part)

SELF_HEALING = "self-healing"
"""The `by` of an action that a host took by its own program."""

_HARMLESS: tuple[procedures.Situation, ...] = (
    "Find out what is wrong",
    "Manage an incident",
    "Review and report",
    "Practise",
)
_INFORMS = ("opened", "update", "status", "closed")
_UPDATES = ("opened", "update", "closed")
_DECLARES = ("opened", "acknowledged", "update")
_NOT_BY_PROGRAMS = "only people do this"


@dataclass(frozen=True)
class Criterion:
    """What is graded. `points`: at most. `people`: an unattended drill is not graded for it."""

    id: str
    part: Part
    title: str
    points: int
    people: bool = False


CRITERIA = (
    Criterion("detect", "Response time", "Detected", 8),
    Criterion("acknowledge", "Response time", "Acknowledged", 6, people=True),
    Criterion("mitigate", "Response time", "Mitigated", 10),
    Criterion("recover", "Response time", "Recovered", 16),
    Criterion("right", "Actions", "Right procedure", 8),
    Criterion("order", "Actions", "Right order", 3),
    Criterion("evidence", "Actions", "Evidence first", 4),
    Criterion("harmless", "Actions", "Nothing harmful", 6),
    Criterion("needed", "Actions", "Nothing needless", 4),
    Criterion("declared", "Communication", "Declared", 4, people=True),
    Criterion("updated", "Communication", "Updated in time", 4, people=True),
    Criterion("audience", "Communication", "Right audience", 3, people=True),
    Criterion("stand_down", "Communication", "Stand-down complete", 4, people=True),
    Criterion("requests", "Impact", "Requests failed", 5),
    Criterion("sessions", "Impact", "Sessions lost", 4),
    Criterion("data", "Impact", "Data lost", 6),
    Criterion("clean", "Cleanliness", "Nothing left behind", 5),
)
"""All criteria. Their points sum to 100. The answers of people are added to them."""

_BY_ID = {each.id: each for each in CRITERIA}


@dataclass(frozen=True)
class Grade:
    """The result of a criterion. `credit`: the share of its points, 0 to 1; None if it is not graded."""

    criterion: Criterion
    credit: float | None
    reason: str

    @property
    def earned(self) -> float:
        """The points, rounded to one decimal."""
        return round(self.criterion.points * (self.credit or 0.0), 1)


@dataclass(frozen=True)
class Score:
    """The score of a drill. `value`: 0 to 100, or None with the reason in `why_none`."""

    value: int | None
    grades: tuple[Grade, ...] = ()
    why_none: str = ""

    @property
    def reasons(self) -> list[str]:
        """A sentence for every criterion that lost points, and the criteria that are not graded."""
        if self.value is None:
            return [f"No score: {self.why_none}."]
        lost = [
            f"{each.criterion.title}: {each.earned:g} of {each.criterion.points} points. {each.reason}."
            for each in self.grades
            if each.credit is not None and each.credit < 1
        ]
        skipped: dict[str, list[str]] = {}
        for each in self.grades:
            if each.credit is None:
                skipped.setdefault(each.reason, []).append(_short(each.criterion))
        return lost + [f"Not graded: {', '.join(titles)} ({why})." for why, titles in skipped.items()]


def _short(criterion: Criterion) -> str:
    """The title of a criterion; the ID of a question, whose text is long."""
    return criterion.id if criterion.part == "Answers" else criterion.title


def timely(seconds: float | None, target: float) -> float:
    """The credit for a time: 1 up to the target, then less in a straight line, 0 from three times the target.

    `seconds`: None if it did not happen, which has no credit.
    """
    if seconds is None:
        return 0.0
    if seconds <= target:
        return 1.0
    return max(0.0, 1 - (seconds - target) / (2 * target)) if target > 0 else 0.0


def grade(record: Record, scenario: Scenario) -> Score:
    """The score of a drill of this scenario."""
    if record["outcome"] == "running":
        return Score(None, why_none="the drill has not ended")
    if record["outcome"] in ("invalid", "aborted"):
        reason = record["reason"].rstrip(".") or "no reason is recorded"
        return Score(None, why_none=f"the drill is {record['outcome']}: {reason}")
    if record["mode"] == "tabletop":
        return _tabletop(record, scenario)
    grades = [
        *_times(record),
        *_actions(record, scenario),
        *_communication(record, scenario),
        *_impact(record, scenario),
        _clean(record),
    ]
    if record["mode"] == "unattended":
        grades = [_without_people(each) for each in grades]
    else:
        grades += _answers(record, questions.of(scenario))
    return _total(grades)


def duration(seconds: float) -> str:
    """A duration: `41.2 s`, from two minutes on `15 min` or `2 min 10 s`."""
    if seconds < 120:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def _total(grades: Sequence[Grade]) -> Score:
    graded = [each for each in grades if each.credit is not None]
    possible = sum(each.criterion.points for each in graded)
    if not possible:
        return Score(None, tuple(grades), "nothing was graded")
    earned = sum(each.criterion.points * (each.credit or 0.0) for each in graded)
    # Half a point counts as one. The rounding before it removes the error of the sum.
    return Score(math.floor(round(100 * earned / possible, 6) + 0.5), tuple(grades))


def _tabletop(record: Record, scenario: Scenario) -> Score:
    asked = questions.of(scenario, tabletop=True)
    grades = list(_answers(record, asked))
    missing = len(asked) - sum(each.credit is not None for each in grades)
    if missing or not asked:
        why = f"{missing} of {len(asked)} answers are not marked" if asked else "there are no questions"
        return Score(None, tuple(grades), why)
    return _total(grades)


def _without_people(grade: Grade) -> Grade:
    return Grade(grade.criterion, None, _NOT_BY_PROGRAMS) if grade.criterion.people else grade


def _grade(name: str, credit: float | None, reason: str) -> Grade:
    return Grade(_BY_ID[name], credit, reason)


def _times(record: Record) -> Iterator[Grade]:
    times, targets = record["times"], record["targets"]
    for name, seconds, target in (
        ("detect", times["detect"], targets["detect"]),
        ("acknowledge", times["acknowledge"], targets["acknowledge"]),
        ("mitigate", times["mitigate"], targets["mitigate"]),
        ("recover", times["recover"], targets["recover"]),
    ):
        if target is None:
            yield _grade(name, None, "the scenario has no target for it")
            continue
        took = "It did not happen" if seconds is None else f"It took {duration(seconds)}"
        yield _grade(name, timely(seconds, target), f"{took}; the target is {duration(target)}")


def _changes(name: str) -> bool:
    """Whether a procedure changes a host. An unknown one may."""
    known = procedures.PROCEDURES.get(name)
    return known is None or known.situation not in _HARMLESS


def _locks(name: str) -> bool:
    """Whether a procedure takes the lock of a host, which keeps evidence first. An unknown one may not."""
    known = procedures.PROCEDURES.get(name)
    return known is None or known.locks


def _actions(record: Record, scenario: Scenario) -> Iterator[Grade]:
    actions = sorted(record["actions"], key=lambda each: each["time"])
    done = [each["procedure"] for each in actions if each["outcome"] == "done"]
    # The allow-list of self-healing decides what a host does, not the responder.
    changing = [each for each in actions if _changes(each["procedure"]) and each["by"] != SELF_HEALING]
    best = _nearest(scenario.right_procedures, done, acted=bool(changing))
    right = {name for alternative in scenario.right_procedures for name in alternative}
    recovered = record["times"]["recover"] is not None

    if not best:
        credit = 1.0 if recovered and not changing else 0.0
        reason = "Nobody needed to do anything" if credit else "The right procedure was not run"
        yield _grade("right", credit, reason)
    else:
        run = [name for name in best if name in done]
        text = f"Right would be {', then '.join(best)}; done: {', '.join(run) or 'nothing of it'}"
        yield _grade("right", len(run) / len(best), text)
    yield _order(best, done)
    yield _evidence(actions, scenario)

    harmful = _names(each for each in actions if each["procedure"] in scenario.harmful_procedures)
    text = f"Harmful here: {', '.join(harmful)}" if harmful else "Nothing harmful was run"
    yield _grade("harmless", 0.0 if harmful else 1.0, text)
    needless = _names(
        each for each in changing if each["procedure"] not in {*right, *scenario.harmful_procedures}
    )
    text = f"Needless here: {', '.join(needless)}" if needless else "Nothing needless was run"
    yield _grade("needed", max(0.0, 1 - len(needless) / 2), text)


def _names(actions: Iterable[Action]) -> list[str]:
    return list(dict.fromkeys(each["procedure"] for each in actions))


def _nearest(alternatives: Sequence[tuple[str, ...]], done: Sequence[str], *, acted: bool) -> tuple[str, ...]:
    """The right response that is nearest to what was done: most of it done, the longest, in its order."""

    def nearness(alternative: tuple[str, ...]) -> tuple[float, int, int]:
        if not alternative:
            return (0.0 if acted else 1.0), 0, 0
        places = [done.index(name) for name in alternative if name in done]
        return len(places) / len(alternative), len(alternative), _longest_rising(places)

    return max(alternatives, key=nearness, default=())


def _order(best: Sequence[str], done: Sequence[str]) -> Grade:
    run = [name for name in best if name in done]
    if len(run) < 2:
        return _grade("order", None, "fewer than two procedures have an order here")
    in_order = _longest_rising([done.index(name) for name in run])
    # One procedure alone is always in order, so it earns nothing.
    credit = (in_order - 1) / (len(run) - 1)
    return _grade("order", credit, f"The right order is {', then '.join(run)}")


def _longest_rising(numbers: Sequence[int]) -> int:
    lengths: list[int] = []
    for place, number in enumerate(numbers):
        earlier = [lengths[at] for at in range(place) if numbers[at] < number]
        lengths.append(1 + max(earlier, default=0))
    return max(lengths, default=0)


def _evidence(actions: Sequence[Action], scenario: Scenario) -> Grade:
    if not scenario.evidence_first:
        return _grade("evidence", None, "the scenario leaves no evidence to keep first")
    # Other procedures, such as rotation_out, leave the service of a host as it is.
    touching = [each for each in actions if _locks(each["procedure"])]
    if not touching:
        return _grade("evidence", None, "no procedure changed a host")
    first = touching[0]
    is_known = first["procedure"] in procedures.PROCEDURES
    refused = first["arguments"].get("without_evidence", "").lower() in ("true", "yes", "1")
    before = any(
        each["procedure"] == "evidence" and each["outcome"] == "done" and each["time"] <= first["time"]
        for each in actions
    )
    itself = first["by"] == SELF_HEALING or (is_known and not refused)
    kept = before or itself
    text = "was kept before" if kept else "was not kept before"
    return _grade("evidence", float(kept), f"Evidence {text} the first change, {first['procedure']}")


def _seconds(text: str) -> float:
    return timestamps.parse(text).timestamp()


def _communication(record: Record, scenario: Scenario) -> Iterator[Grade]:
    start = _seconds(record["fault"]["injected"] or record["started"])
    until = record["undo"]["done"] or record["ended"] or record["started"]
    messages = sorted(
        (
            each
            for each in record["messages"]
            if start <= _seconds(each["time"]) <= _seconds(until) and each["by"] != communication.DRILL
        ),
        key=lambda each: each["time"],
    )
    level = scenario.level
    declared = [_seconds(each["time"]) for each in messages if each["kind"] in _DECLARES]
    target = RESPONSE[level].total_seconds()
    if declared:
        took = declared[0] - start
        text = f"Declared after {duration(took)}; {level} has a target of {duration(target)}"
        yield _grade("declared", timely(took, target), text)
    else:
        yield _grade("declared", 0.0, "Nobody declared or updated an incident")
    yield _updated(messages, _seconds(until), state.UPDATE_EVERY[level])

    expected = set(scenario.audience)
    called = {name for each in messages if each["kind"] == "escalated" for name in each["audience"]}
    # Whoever is called to help is not called without need.
    reached = _informed(messages) | (called & expected)
    differing = [
        *(f"not informed: {name}" for name in sorted(expected - reached)),
        *(f"informed without need: {name}" for name in sorted(reached - expected)),
    ]
    either = reached | expected
    share = len(reached & expected) / len(either) if either else 1.0
    yield _grade("audience", share, "; ".join(differing).capitalize() or "Everybody was informed")
    yield _stand_down(record, messages, start)


def _informed(messages: Iterable[Message]) -> set[str]:
    return {name for each in messages if each["kind"] in _INFORMS for name in each["audience"]}


def _updated(messages: Sequence[Message], until: float, every: timedelta) -> Grade:
    times = [_seconds(each["time"]) for each in messages if each["kind"] in _UPDATES]
    if not times:
        return _grade("updated", 0.0, "Nobody was updated")
    if not any(each["kind"] == "closed" for each in messages):
        times.append(until)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    limit = every.total_seconds()
    late = [gap for gap in gaps if gap > limit]
    if not late:
        return _grade("updated", 1.0, f"No gap was longer than {duration(limit)}")
    text = f"The longest gap was {duration(max(late))}; an update is due every {duration(limit)}"
    return _grade("updated", 1 - len(late) / len(gaps), text)


def _stand_down(record: Record, messages: Sequence[Message], start: float) -> Grade:
    closing = [each for each in messages if each["kind"] == "closed"]
    recover = record["times"]["recover"]
    if not closing:
        return _grade("stand_down", 0.0, "The incident was not closed")
    # Messages have whole seconds.
    if recover is None or _seconds(closing[-1]["time"]) + 1 < start + recover:
        return _grade("stand_down", 0.0, "The incident was closed before the service had recovered")
    informed = _informed(messages)
    # The status page gets a message of its own.
    reached = _informed(each for each in messages if each["time"] >= closing[-1]["time"])
    missing = sorted(informed - reached)
    text = f"No stand-down for {', '.join(missing)}" if missing else "Everybody who was informed got it"
    return _grade("stand_down", 1 - len(missing) / len(informed) if informed else 0.0, text)


def _impact(record: Record, scenario: Scenario) -> Iterator[Grade]:
    traffic, data, targets = record["traffic"], record["data"], record["targets"]
    target = targets["mitigate"] if targets["mitigate"] is not None else targets["recover"]
    if not traffic["requests"]:
        yield _grade("requests", None, "the prober sent no request")
    else:
        failing = traffic["failed"] * traffic["interval"]
        text = (
            f"{traffic['failed']} of {traffic['requests']} requests failed, {duration(failing)} of requests;"
            f" the target is {duration(target or 0.0)}"
        )
        yield _grade("requests", timely(failing, target or 0.0), text)
    if not traffic["sessions"]:
        yield _grade("sessions", None, "the prober had no session")
    else:
        kept = 1 - traffic["sessions_lost"] / traffic["sessions"]
        text = f"{traffic['sessions_lost']} of {traffic['sessions']} sessions were lost"
        yield _grade("sessions", max(0.0, kept), text)
    if not data["writes"]:
        yield _grade("data", None, "nothing was written before the fault")
        return
    age = f"; the oldest is {duration(data['rpo_seconds'])} old" if data["rpo_seconds"] is not None else ""
    text = f"{data['lost']} of {data['writes']} known writes were lost{age if data['lost'] else ''}"
    if scenario.lossless:
        yield _grade("data", float(data["lost"] == 0), f"{text}; the scenario is lossless")
    else:
        yield _grade("data", None, f"the scenario may lose what is newer than the backup; {text}")


def _clean(record: Record) -> Grade:
    undo, differences = record["undo"], record["differences"]
    if undo["armed"] and not undo["done"]:
        return _grade("clean", 0.0, "The fault was not undone")
    if differences:
        text = "; ".join(f"{each['host']}: {each['what']}" for each in differences)
        return _grade("clean", max(0.0, 1 - len(differences) / 2), f"Left behind: {text}")
    return _grade("clean", 1.0, "The hosts are as they were before")


def _answers(record: Record, asked: Sequence[questions.Marked]) -> Iterator[Grade]:
    for each in asked:
        criterion = Criterion(each.id, "Answers", each.text, each.weight, people=True)
        answer = record["answers"].get(each.id, "")
        if mark := questions.mark(answer):
            yield Grade(criterion, questions.MARKS[mark], f"Marked {answer}")
        else:
            yield Grade(criterion, None, "no answer was marked")
