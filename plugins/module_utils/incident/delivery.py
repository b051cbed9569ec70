"""Delivers each message once to each group: to the first channel that accepts it. Records every step.

`sending` is recorded before each attempt, and `sent`, `failed` or `unknown` after it. A `sending` without
a result comes from a run that was killed. Whether that message went out is unknown, so it is sent again
only on request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ansible_collections.katago.fleet.plugins.module_utils.incident import channels, messages
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import Outcome

Send = Callable[[channels.Channel, channels.Parcel], str]


class Note(Protocol):
    """Records the outcome of one attempt to send a message to a channel."""

    def __call__(self, outcome: Outcome, key: str, why: str) -> None:
        """Return when the outcome is on disk."""


@dataclass(frozen=True)
class Letter:
    """A message, with the incident's id and severity and, for the status page, its HTML."""

    incident: str
    severity: str
    message: messages.Message
    page: str = ""


@dataclass(frozen=True)
class Report:
    """The result of a delivery, in sentences.

    `sent`: what was sent, and to which channel. `passed`: channels that failed or reached only some
    recipients, while another one delivered the message. `problems`: what may have reached nobody.
    """

    sent: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __add__(self, other: Report) -> Report:
        return Report(self.sent + other.sent, self.passed + other.passed, self.problems + other.problems)


def key(letter: Letter, group: channels.Group, channel: channels.Channel) -> str:
    """The key that identifies a message for one channel in the record."""
    return f"{letter.incident}/{letter.message.name}/{group.name}/{channel.name}"


def receivers(message: messages.Message, groups: Sequence[channels.Group]) -> list[channels.Group]:
    """The groups with the message's audience. Without a group for escalations, the team gets them."""
    receiving = [group for group in groups if group.audience == message.audience]
    if not receiving and message.audience == "escalation":
        receiving = [group for group in groups if group.audience == "team"]
    return receiving


def deliver(
    letters: Sequence[Letter],
    groups: Sequence[channels.Group],
    outcomes: Mapping[str, Outcome],
    note: Note,
    *,
    resend: bool = False,
    send: Send = channels.send,
) -> Report:
    """Send the messages that were not sent yet. `outcomes`: the recorded outcome of each key so far."""
    report = Report()
    for letter in letters:
        receiving = receivers(letter.message, groups)
        if not receiving and letter.message.audience != "public":
            problem = (
                f"{letter.message.name} was not sent: incident_channels has no group with the audience"
                f" {letter.message.audience}."
            )
            report += Report(problems=(problem,))
        for group in receiving:
            report += _deliver_to_group(letter, group, outcomes, note, resend, send)
    return report


def _deliver_to_group(
    letter: Letter,
    group: channels.Group,
    outcomes: Mapping[str, Outcome],
    note: Note,
    resend: bool,
    send: Send,
) -> Report:
    """Deliver one message to one group: to the first channel that accepts it."""
    name = letter.message.name
    keys = {channel.name: key(letter, group, channel) for channel in group.channels}
    earlier = {each: outcomes.get(of) for each, of in keys.items()}
    if "sent" in earlier.values():
        return Report()
    # Writing the status page twice does no harm.
    killed = [
        channel.name
        for channel in group.channels
        if earlier[channel.name] == "sending" and channel.kind != "page"
    ]
    if killed and not resend:
        problem = (
            f"{name}: it is unknown whether {group.name}/{killed[0]} has it, because the run that sent it was"
            " killed. Check the channel. To send it again, add -e resend=true."
        )
        return Report(problems=(problem,))
    passed: list[str] = []
    for channel in group.channels:
        place = f"{group.name}/{channel.name}"
        if earlier[channel.name] == "unknown" and not resend:
            passed.append(f"{name}: it is unknown whether {place} has it. It was not sent there again.")
            continue
        note("sending", keys[channel.name], "")
        parcel = channels.Parcel(
            keys[channel.name], letter.incident, letter.severity, letter.message, letter.page
        )
        try:
            omission = send(channel, parcel)
        except channels.FailedError as error:
            note("failed", keys[channel.name], str(error))
            passed.append(f"{name}: {place} failed: {error}.")
        except channels.UnknownError as error:
            note("unknown", keys[channel.name], str(error))
            passed.append(f"{name}: it is unknown whether {place} has it: {error}.")
        else:
            note("sent", keys[channel.name], omission)
            if omission:
                passed.append(f"{name}: {place} has it, but {omission}.")
            return Report((f"{name} to {place}",), tuple(passed))
    return Report(problems=(*passed, f"{name}: no channel of the group {group.name} confirmed it."))
