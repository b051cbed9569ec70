"""What people add to a review: answers and action items, in a file that they edit and nothing overwrites."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

import yaml

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import state, wording
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks

FILE = "answers.yml"
DUE_WITHIN = timedelta(hours=48)
LONGEST = 4000
"""Characters of an answer."""

PRIORITIES = ("High", "Medium", "Low")
STATUSES = ("open", "done", "dropped")


@dataclass(frozen=True)
class Question:
    """One of the runbook's questions. `optional`: what the records answer, or what does not apply."""

    name: str
    words: str
    part: Literal["Timeline", "Impact", "Root cause"]
    optional: str = ""


QUESTIONS = (
    Question("started", "When did the incident start?", "Timeline", "computed"),
    Question("trigger", "What triggered it?", "Timeline"),
    Question("detected", "When was it detected?", "Timeline", "computed"),
    Question("actions", "What actions were taken?", "Timeline", "computed"),
    Question("resolved", "When was it resolved?", "Timeline", "computed"),
    Question("duration", "Duration of impact", "Impact", "computed"),
    Question("requests", "Number of affected requests", "Impact", "computed"),
    Question("customer_impact", "Customer impact", "Impact"),
    Question("revenue_impact", "Revenue impact (if applicable)", "Impact", "if applicable"),
    Question("cause", "What was the underlying cause?", "Root cause"),
    Question("not_caught", "Why wasn't it caught earlier?", "Root cause"),
    Question("allowed", "What allowed it to happen?", "Root cause"),
)
_ANSWERS = tuple(question.name for question in QUESTIONS)
_TOP = ("lead", "concluded", "answers", "action_items", "no_action_items")
_ITEM = ("what", "owner", "due", "priority", "status", "done_on")
_NEEDED = ("what", "owner", "due", "priority")


class AnswersError(Exception):
    """The file cannot be used; the message has a line for everything that is wrong with it."""


@dataclass(frozen=True)
class ActionItem:
    """Something to be done. `number` is its place in the file, from 1."""

    number: int
    what: str
    owner: str
    due: date
    priority: str
    status: str = "open"
    done_on: date | None = None

    def is_open(self, on: date) -> bool:
        """Whether it was not ended by the end of a day."""
        return self.status == "open" or (self.done_on is not None and self.done_on > on)

    def is_overdue(self, on: date) -> bool:
        """Whether it was open after its date."""
        return self.is_open(on) and self.due < on


@dataclass(frozen=True)
class Answers:
    """What people said; empty for what they did not. `secrets`: where something looks like a secret."""

    lead: str = ""
    concluded: date | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    action_items: tuple[ActionItem, ...] = ()
    no_action_items: str = ""
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """How far a review is: what is unanswered, by whom and by when, and whether it was ended too late."""

    unanswered: tuple[str, ...]
    who: str
    due: str
    concluded: date | None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to answer."""
        return not self.unanswered

    @property
    def late(self) -> bool:
        """Whether it was concluded after the day on which it was due."""
        return bool(self.due) and self.concluded is not None and self.concluded > _day(self.due)

    def is_overdue(self, now: str) -> bool:
        """Whether it is open after it was due; `now` in UTC as records carry times."""
        return not self.complete and bool(self.due) and now > self.due


def due(incident: state.Incident) -> str:
    """When the review is due; empty for an incident that is open."""
    if incident.is_open:
        return ""
    return timestamps.stamp(timestamps.parse(incident.closed_at) + DUE_WITHIN)


def standing(incident: state.Incident, said: Answers) -> Standing:
    """How far the review of an incident is."""
    left = [
        question.words
        for question in QUESTIONS
        if not question.optional and wording.is_filler(said.answers.get(question.name, ""))
    ]
    if incident.is_open:
        left.append("The incident itself: it is not closed")
    if not said.action_items and wording.is_filler(said.no_action_items):
        left.append("Action items, or why none is needed (no_action_items)")
    if said.concluded is None:
        left.append("The day on which the review was concluded (concluded)")
    who = said.lead or incident.lead or "nobody (give lead)"
    return Standing(tuple(left), who, due(incident), said.concluded)


def template(incident: state.Incident) -> str:
    """The file as it is given to people, without an answer."""
    lines = [
        f"# The review of {incident.id}: people's part. Nothing overwrites it; after each change:",
        f"#   ansible-playbook playbooks/review.yml -e incident={incident.id}",
        '# An answer of several lines begins with "|" and is indented below. No secrets in here.',
        "",
        "# Who sees to it that this is answered; the incident's lead when blank.",
        'lead: ""',
        "# The day on which it was concluded, such as 2026-01-31; until then the review is open.",
        'concluded: ""',
        "",
        "answers:",
    ]
    part = ""
    for question in QUESTIONS:
        if question.part != part:
            part = question.part
            lines.append(f"  # {part}")
        hint = {
            "computed": " The records answer it; write only what they do not have.",
            "if applicable": "",
            "": "",
        }[question.optional]
        lines += [f"  # {question.words}{hint}", f'  {question.name}: ""']
    lines += [
        "",
        f"# Each with what, owner, due, priority ({', '.join(PRIORITIES)}), status ({', '.join(STATUSES)}),",
        "# and done_on, the day on which it was done or dropped:",
        "#   - what: Alert when the disk is 90 % full",
        "#     owner: Anna",
        "#     due: 2026-01-31",
        "#     priority: High",
        "#     status: open",
        "action_items: []",
        "# Without any, why none is needed.",
        'no_action_items: ""',
    ]
    return "\n".join(lines) + "\n"


def parse(text: str, name: str) -> Answers:
    """What a file says; `name` is the file's, for errors.

    Raises:
        AnswersError: with a line for every problem: file, line, field, and what is accepted.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise AnswersError(f"{name}: {' '.join(str(error).split())}") from error
    reader = _Reader(name)
    if root is None:
        return Answers()
    top = reader.mapping(root, "the file", _TOP)
    answers = reader.mapping(top.get("answers"), "answers", _ANSWERS)
    said = Answers(
        lead=reader.text(top.get("lead"), "lead"),
        concluded=reader.day(top.get("concluded"), "concluded"),
        answers={key: reader.text(node, f"answers.{key}") for key, node in answers.items()},
        action_items=tuple(reader.items(top.get("action_items"))),
        no_action_items=reader.text(top.get("no_action_items"), "no_action_items"),
        secrets=tuple(reader.secrets),
    )
    if reader.problems:
        raise AnswersError("\n".join(reader.problems))
    return said


class _Reader:
    """Goes through the nodes of a document, so that each problem is told with its line."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.problems: list[str] = []
        self.secrets: list[str] = []

    def mapping(self, node: Any, where: str, known: Sequence[str]) -> dict[str, Any]:
        """The nodes of a mapping by key; {} for a blank."""
        if _is_blank(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, f"{where} must be a mapping of {', '.join(known)}")
            return {}
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name not in known:
                nearest = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {nearest[0]}?" if nearest else f"; known: {', '.join(known)}"
                self._problem(key, f"{where} has no {name!r}{hint}")
            elif name in found:
                self._problem(key, f"{where} has {name} twice")
            else:
                found[name] = value
        return found

    def text(self, node: Any, where: str) -> str:
        """A text; empty for a blank."""
        if _is_blank(node):
            return ""
        if not isinstance(node, yaml.ScalarNode):
            self._problem(node, f"{where} must be text; in quotes, or indented below a |")
            return ""
        text = str(node.value).strip()
        if len(text) > LONGEST:
            self._problem(node, f"{where} has {len(text)} characters; at most {LONGEST} are accepted")
        if blocks.looks_secret(text):
            self.secrets.append(f"{self._place(node)}: {where}")
        return text

    def day(self, node: Any, where: str) -> date | None:
        """A day; None for a blank."""
        text = self.text(node, where)
        if not text:
            return None
        try:
            return timestamps.parse_day(text)
        except ValueError:
            self._problem(node, f"{where} is {text!r}; a day such as 2026-01-31 is accepted")
            return None

    def choice(self, node: Any, where: str, accepted: Sequence[str], default: str) -> str:
        """One of a few words."""
        text = self.text(node, where) or default
        if text and text not in accepted:
            self._problem(node, f"{where} is {text!r}; one of {', '.join(accepted)} is accepted")
        return text

    def items(self, node: Any) -> Iterator[ActionItem]:
        """The action items, without those that have a problem."""
        if _is_blank(node):
            return
        if not isinstance(node, yaml.SequenceNode):
            self._problem(node, f"action_items must be a list, each with {', '.join(_NEEDED)}")
            return
        for number, entry in enumerate(node.value, 1):
            where = f"action_items[{number}]"
            before = len(self.problems)
            given = self.mapping(entry, where, _ITEM)
            for name in _NEEDED:
                blank = name not in given or _is_blank(given[name])
                if blank or (name in ("what", "owner") and wording.is_filler(self._raw(given[name]))):
                    self._problem(given.get(name) or entry, f"{where}.{name} is blank; it is needed")
            what = self.text(given.get("what"), f"{where}.what")
            owner = self.text(given.get("owner"), f"{where}.owner")
            due_on = self.day(given.get("due"), f"{where}.due")
            priority = self.choice(given.get("priority"), f"{where}.priority", PRIORITIES, "")
            status = self.choice(given.get("status"), f"{where}.status", STATUSES, "open")
            done_on = self.day(given.get("done_on"), f"{where}.done_on")
            if status != "open" and done_on is None:
                words = f"{where}.done_on is blank, and status is {status}; give the day"
                self._problem(given.get("status") or entry, words)
            if status == "open" and done_on is not None:
                words = f"{where}.done_on is given, and status is open; done or dropped is accepted"
                self._problem(given["done_on"], words)
            if len(self.problems) == before and due_on is not None:
                yield ActionItem(number, what, owner, due_on, priority, status, done_on)

    def _raw(self, node: Any) -> str:
        return str(node.value) if isinstance(node, yaml.ScalarNode) else "-"

    def _place(self, node: Any) -> str:
        return f"{self._name}, line {node.start_mark.line + 1}"

    def _problem(self, node: Any, words: str) -> None:
        self.problems.append(f"{self._place(node)}: {words}.")


def _is_blank(node: Any) -> bool:
    return node is None or (
        isinstance(node, yaml.ScalarNode) and (node.tag == "tag:yaml.org,2002:null" or not node.value.strip())
    )


def _day(at: str) -> date:
    return timestamps.parse(at).date()
