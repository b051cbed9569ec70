"""Messages to groups of sinks: each once, past the sinks that are dead, with every step on record.

Before a sink is tried `sending` is recorded, after it `sent`, `failed` or `unknown`. A `sending` that
nothing followed is of a run that was killed: whether the message went out cannot be known, so it is not
sent again unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ansible_collections.katago.fleet.plugins.module_utils.incident import channels, messages
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import Outcome

Send = Callable[[channels.Sink, channels.Parcel], str]


class Note(Protocol):
    """Records, durably, how it stands with a message and a sink."""

    def __call__(self, outcome: Outcome, key: str, why: str) -> None:
        """Return when it is on disk."""


@dataclass(frozen=True)
class Letter:
    """A message with what sinks need besides: its incident's name and severity, the status page."""

    incident: str
    severity: str
    message: messages.Message
    page: str = ""


@dataclass(frozen=True)
class Report:
    """What became of messages, in sentences: sent; passed over, or not had by all; what nobody may have."""

    sent: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __add__(self, other: Report) -> Report:
        return Report(self.sent + other.sent, self.passed + other.passed, self.problems + other.problems)


def key(letter: Letter, group: channels.Group, sink: channels.Sink) -> str:
    """What tells a message at a sink from all others."""
    return f"{letter.incident}/{letter.message.name}/{group.name}/{sink.name}"


def receivers(message: messages.Message, groups: Sequence[channels.Group]) -> list[channels.Group]:
    """The groups that a message goes to: those of its audience; an escalation that has none, to the team."""
    found = [group for group in groups if group.audience == message.audience]
    if not found and message.audience == "escalation":
        found = [group for group in groups if group.audience == "team"]
    return found


def deliver(
    letters: Sequence[Letter],
    groups: Sequence[channels.Group],
    known: Mapping[str, Outcome],
    note: Note,
    *,
    resend: bool = False,
    send: Send = channels.send,
) -> Report:
    """Send what was not sent yet. `known`: how it stood with every key before."""
    report = Report()
    for letter in letters:
        wanted = receivers(letter.message, groups)
        if not wanted and letter.message.audience != "public":
            words = f"{letter.message.name}: incident_sinks has no group that it goes to"
            report += Report(problems=(words,))
        for group in wanted:
            report += _one(letter, group, known, note, resend, send)
    return report


def _one(
    letter: Letter,
    group: channels.Group,
    known: Mapping[str, Outcome],
    note: Note,
    resend: bool,
    send: Send,
) -> Report:
    """Deliver one message to one group: the first sink that takes it."""
    name = letter.message.name
    keys = {sink.name: key(letter, group, sink) for sink in group.sinks}
    stands = {each: known.get(of) for each, of in keys.items()}
    if "sent" in stands.values():
        return Report()
    # A page is what it is, however often it is written.
    killed = [sink.name for sink in group.sinks if stands[sink.name] == "sending" and sink.kind != "page"]
    if killed and not resend:
        words = (
            f"{name}: unknown whether {group.name}/{killed[0]} has it, since the run that sent it was killed."
            " Look there; to send it again: -e resend=true"
        )
        return Report(problems=(words,))
    passed: list[str] = []
    for sink in group.sinks:
        if stands[sink.name] == "unknown" and not resend:
            passed.append(f"{name}: unknown whether {group.name}/{sink.name} has it; not sent again")
            continue
        note("sending", keys[sink.name], "")
        parcel = channels.Parcel(
            keys[sink.name], letter.incident, letter.severity, letter.message, letter.page
        )
        try:
            undone = send(sink, parcel)
        except channels.FailedError as error:
            note("failed", keys[sink.name], str(error))
            passed.append(f"{name}: {group.name}/{sink.name} failed: {error}")
        except channels.UnknownError as error:
            note("unknown", keys[sink.name], str(error))
            passed.append(f"{name}: unknown whether {group.name}/{sink.name} has it: {error}")
        else:
            note("sent", keys[sink.name], undone)
            if undone:
                passed.append(f"{name}: {group.name}/{sink.name} has it, but {undone}")
            return Report((f"{name} to {group.name}/{sink.name}",), tuple(passed))
    return Report(problems=(*passed, f"{name}: nobody in {group.name} has it for certain"))
