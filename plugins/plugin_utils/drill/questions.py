"""The questions of a drill: what no program can see, and people mark after they read the right answer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import Scenario

MARKS: Mapping[str, float] = {"right": 1.0, "partly": 0.5, "wrong": 0.0}
"""The share of a question's points by its mark."""

SCENARIO_WEIGHT = 5
"""The points of each question of a scenario."""

LONGEST_NOTE = 500


class AnswerError(Exception):
    """An answer is not valid. The message names it and what is accepted."""


@dataclass(frozen=True)
class Marked:
    """A question with its right answer. `weight`: its points."""

    id: str
    text: str
    answer: str
    weight: int


COMMON = (
    Marked(
        "runbook",
        "Did the responders find the procedure in the documentation, without help?",
        "The row of docs/runbook.md, or the NEXT line of triage. If not: fix the documentation.",
        3,
    ),
    Marked(
        "roles",
        "Was it clear at any time who leads, who acts and who informs?",
        "One lead, named when the incident is declared. The lead does not type.",
        2,
    ),
    Marked(
        "lessons",
        "Was at least one improvement recorded, with an owner and a day?",
        "An action item in answers.yml of the drill's incident.",
        2,
    ),
)
"""What people are asked after every drill with a fault."""


def of(scenario: Scenario, *, tabletop: bool = False) -> tuple[Marked, ...]:
    """The questions of a scenario and, after a drill with a fault, those that every drill has."""
    own = tuple(Marked(each.id, each.text, each.answer, SCENARIO_WEIGHT) for each in scenario.questions)
    return own if tabletop else (*own, *COMMON)


def mark(answer: str) -> str:
    """The mark of an answer such as `right` or `partly: named the unit, not the signal`; empty for none."""
    name = answer.partition(":")[0].strip().lower()
    return name if name in MARKS else ""


def parse(entries: Iterable[str], questions: Iterable[Marked]) -> dict[str, str]:
    """The answers of a person by the question's ID, from entries such as `cause=right`.

    A note may follow the mark: `cause=partly: named the unit, not the signal`.

    Raises:
        AnswerError: for an unknown ID, an ID that occurs twice, or an answer without a mark.
    """
    ids = [each.id for each in questions]
    answers: dict[str, str] = {}
    for entry in filter(None, map(str.strip, entries)):
        name, separator, answer = (part.strip() for part in entry.partition("="))
        if not separator:
            raise AnswerError(f"-e answers has {entry!r}. Give ID=MARK, for example {ids[0]}=right.")
        if name not in ids:
            nearest = difflib.get_close_matches(name, ids, n=1)
            hint = f"Did you mean {nearest[0]}?" if nearest else f"The IDs are {', '.join(ids)}."
            raise AnswerError(f"-e answers has the unknown question {name!r}. {hint}")
        if name in answers:
            raise AnswerError(f"-e answers has {name} twice. Give each question one mark.")
        if not mark(answer):
            raise AnswerError(
                f"-e answers has {entry!r}. The mark is one of {', '.join(MARKS)}; a note may follow a colon."
            )
        if len(answer) > LONGEST_NOTE:
            raise AnswerError(
                f"-e answers: the answer to {name} has {len(answer)} characters. The limit is {LONGEST_NOTE}."
            )
        answers[name] = answer
    return answers
