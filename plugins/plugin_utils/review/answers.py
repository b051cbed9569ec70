"""Reads what people add to a review: answers and action items. Their file is never overwritten."""

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
"""The most characters that an answer may have."""

PRIORITIES = ("High", "Medium", "Low")
STATUSES = ("open", "done", "dropped")


@dataclass(frozen=True)
class Question:
    """One of the runbook's questions. `optional`: `computed` (the records answer it) or `if applicable`."""

    name: str
    text: str
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
    """The file is not valid. The message has a line for each problem."""


@dataclass(frozen=True)
class ActionItem:
    """An action item. `number`: its place in the file, from 1."""

    number: int
    what: str
    owner: str
    due: date
    priority: str
    status: str = "open"
    done_on: date | None = None

    def is_open(self, on: date) -> bool:
        """Whether it was still open at the end of a day."""
        return self.status == "open" or (self.done_on is not None and self.done_on > on)

    def is_overdue(self, on: date) -> bool:
        """Whether it was still open on a day after its due date."""
        return self.is_open(on) and self.due < on


@dataclass(frozen=True)
class Answers:
    """The content of the file; empty for blanks. `secrets`: the places of apparent secrets."""

    lead: str = ""
    concluded: date | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    action_items: tuple[ActionItem, ...] = ()
    no_action_items: str = ""
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """The progress of a review: the open questions, the responsible person, the due date."""

    unanswered: tuple[str, ...]
    who: str
    due: str
    concluded: date | None

    @property
    def complete(self) -> bool:
        """Whether all questions are answered."""
        return not self.unanswered

    @property
    def late(self) -> bool:
        """Whether it was concluded after its due date."""
        return bool(self.due) and self.concluded is not None and self.concluded > _day(self.due)

    def is_overdue(self, now: str) -> bool:
        """Whether it is still open after its due date. `now`: in UTC, in the format of records."""
        return not self.complete and bool(self.due) and now > self.due


def due(incident: state.Incident) -> str:
    """When the review is due; empty for an open incident."""
    if incident.is_open:
        return ""
    return timestamps.stamp(timestamps.parse(incident.closed_at) + DUE_WITHIN)


def standing(incident: state.Incident, answer_set: Answers) -> Standing:
    """The progress of an incident's review."""
    unanswered = [
        question.text
        for question in QUESTIONS
        if not question.optional and wording.is_filler(answer_set.answers.get(question.name, ""))
    ]
    if incident.is_open:
        unanswered.append("The close of the incident: it is still open")
    if not answer_set.action_items and wording.is_filler(answer_set.no_action_items):
        unanswered.append("Action items, or the reason for having none (no_action_items)")
    if answer_set.concluded is None:
        unanswered.append("The day on which the review was concluded (concluded)")
    who = answer_set.lead or incident.lead or "nobody (set lead)"
    return Standing(tuple(unanswered), who, due(incident), answer_set.concluded)


def template(incident: state.Incident) -> str:
    """The file with all questions and no answers."""
    lines = [
        f"# Answers for the review of {incident.id}. After each change, run:",
        f"#   ansible-playbook playbooks/review.yml -e incident={incident.id}",
        '# This file is never overwritten. Do not write secrets here. Start a multi-line answer with "|".',
        "",
        "# The person responsible for the review. Blank: the incident's lead.",
        'lead: ""',
        "# The day on which the review was concluded, such as 2026-01-31. Blank: the review is still open.",
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
            "computed": " The records answer this. Add only what they lack.",
            "if applicable": "",
            "": "",
        }[question.optional]
        lines += [f"  # {question.text}{hint}", f'  {question.name}: ""']
    lines += [
        "",
        f"# Each has what, owner, due, priority ({', '.join(PRIORITIES)}), status ({', '.join(STATUSES)}).",
        "# Unless it is open, it also has done_on, the day on which it was done or dropped. Example:",
        "#   - what: Alert when the disk is 90 % full",
        "#     owner: Anna",
        "#     due: 2026-01-31",
        "#     priority: High",
        "#     status: open",
        "action_items: []",
        "# If there are no action items, the reason.",
        'no_action_items: ""',
    ]
    return "\n".join(lines) + "\n"


def parse(text: str, name: str) -> Answers:
    """Parse and check the file. `name`: the file's name, for errors.

    Raises:
        AnswersError: with a line for each problem: file, line, field, and what is accepted.
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
    answer_set = Answers(
        lead=reader.text(top.get("lead"), "lead"),
        concluded=reader.day(top.get("concluded"), "concluded"),
        answers={key: reader.text(node, f"answers.{key}") for key, node in answers.items()},
        action_items=tuple(reader.items(top.get("action_items"))),
        no_action_items=reader.text(top.get("no_action_items"), "no_action_items"),
        secrets=tuple(reader.secrets),
    )
    if reader.problems:
        raise AnswersError("\n".join(reader.problems))
    return answer_set


class _Reader:
    """Reads the YAML nodes, so that each problem has its line number."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.problems: list[str] = []
        self.secrets: list[str] = []

    def mapping(self, node: Any, where: str, keys: Sequence[str]) -> dict[str, Any]:
        """The nodes of a mapping by key; {} for a blank."""
        if _is_blank(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, f"{where} must be a mapping with {', '.join(keys)}")
            return {}
        nodes: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name not in keys:
                nearest = difflib.get_close_matches(name, keys, n=1)
                hint = f"did you mean {nearest[0]}?" if nearest else f"accepted: {', '.join(keys)}"
                self._problem(key, f"{where} has the unknown key {name!r}; {hint}")
            elif name in nodes:
                self._problem(key, f"{where} has the key {name} twice")
            else:
                nodes[name] = value
        return nodes

    def text(self, node: Any, where: str) -> str:
        """A text; empty for a blank."""
        if _is_blank(node):
            return ""
        if not isinstance(node, yaml.ScalarNode):
            self._problem(node, f"{where} must be text, in quotes or indented below a |")
            return ""
        text = str(node.value).strip()
        if len(text) > LONGEST:
            self._problem(node, f"{where} has {len(text)} characters; the limit is {LONGEST}")
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
            self._problem(node, f"{where} is {text!r}; give a day such as 2026-01-31")
            return None

    def choice(self, node: Any, where: str, accepted: Sequence[str], default: str) -> str:
        """One of the accepted values."""
        text = self.text(node, where) or default
        if text and text not in accepted:
            self._problem(node, f"{where} is {text!r}; accepted: {', '.join(accepted)}")
        return text

    def items(self, node: Any) -> Iterator[ActionItem]:
        """The valid action items."""
        if _is_blank(node):
            return
        if not isinstance(node, yaml.SequenceNode):
            self._problem(node, f"action_items must be a list of entries with {', '.join(_NEEDED)}")
            return
        for number, entry in enumerate(node.value, 1):
            where = f"action_items[{number}]"
            before = len(self.problems)
            fields = self.mapping(entry, where, _ITEM)
            for name in _NEEDED:
                blank = name not in fields or _is_blank(fields[name])
                if blank or (name in ("what", "owner") and wording.is_filler(self._raw(fields[name]))):
                    self._problem(fields.get(name) or entry, f"{where}.{name} is required")
            what = self.text(fields.get("what"), f"{where}.what")
            owner = self.text(fields.get("owner"), f"{where}.owner")
            due_on = self.day(fields.get("due"), f"{where}.due")
            priority = self.choice(fields.get("priority"), f"{where}.priority", PRIORITIES, "")
            status = self.choice(fields.get("status"), f"{where}.status", STATUSES, "open")
            done_on = self.day(fields.get("done_on"), f"{where}.done_on")
            if status != "open" and done_on is None:
                problem = f"{where}.status is {status}, so done_on is required; give the day"
                self._problem(fields.get("status") or entry, problem)
            if status == "open" and done_on is not None:
                problem = f"{where}.done_on is set, but status is open; set status to done or dropped"
                self._problem(fields["done_on"], problem)
            if len(self.problems) == before and due_on is not None:
                yield ActionItem(number, what, owner, due_on, priority, status, done_on)

    def _raw(self, node: Any) -> str:
        return str(node.value) if isinstance(node, yaml.ScalarNode) else "-"

    def _place(self, node: Any) -> str:
        return f"{self._name}, line {node.start_mark.line + 1}"

    def _problem(self, node: Any, problem: str) -> None:
        self.problems.append(f"{self._place(node)}: {problem}.")


def _is_blank(node: Any) -> bool:
    return node is None or (
        isinstance(node, yaml.ScalarNode) and (node.tag == "tag:yaml.org,2002:null" or not node.value.strip())
    )


def _day(at: str) -> date:
    return timestamps.parse(at).date()
