"""The messages that an incident still owes: rendered from its state, or the reason why one cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.incident import delivery, messages, state
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import roster as incident_roster
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import statuspage


@dataclass(frozen=True)
class Desk:
    """What messages are made from besides the incident.

    `all` are all incidents, for the status page; `title_problems` are why its title cannot be told.
    """

    now: datetime
    setting: messages.Setting
    page_title: str
    roster: object
    all: Sequence[state.Incident]
    title_problems: Sequence[str] = ()


def letters(
    incident: state.Incident, events: Sequence[Mapping[str, Any]], desk: Desk
) -> tuple[list[delivery.Letter], list[str]]:
    """The newest message of each kind, and a sentence for each that cannot be sent as it is.

    `events`: the incident's timeline. A message that a newer one of its kind follows is owed no more.
    """
    found, problems = [], []
    for name, make in _owed(incident, events, desk):
        try:
            message = make()
        except (messages.MissingError, incident_roster.RosterError) as error:
            problems.append(f"{name} was not sent: {error}.")
            continue
        page = ""
        if message.audience == "public" and desk.title_problems:
            why = "; ".join(desk.title_problems)
            problems.append(
                f"{name} was not sent: incident_page_title is refused, {why}. Give another title."
            )
            continue
        if message.audience == "public":
            told = [statuspage.told(each) for each in desk.all]
            page = statuspage.render(told, desk.page_title, desk.now)
        found.append(delivery.Letter(incident.id, incident.severity, message, page))
    return found, problems


def read_timeline(path: Path) -> list[dict[str, Any]]:
    """The events of a timeline that can be read; many write to it, and any of them may be killed."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("at"), str):
            events.append(event)
    return events


def _owed(incident: state.Incident, events: Sequence[Mapping[str, Any]], desk: Desk) -> Iterator[Any]:
    procedures = messages.timeline_actions(events, before=incident.closed_at)
    done = [*procedures, *messages.told_actions(incident)]
    if not incident.is_open:
        yield "stand-down", lambda: messages.stand_down(incident, done, desk.setting)
    else:
        yield "declaration", lambda: messages.declaration(incident, desk.setting)
        if incident.updates:
            earlier = incident.updates[-2].at if len(incident.updates) > 1 else incident.opened_at
            recent = messages.timeline_actions(events, after=earlier)
            yield "update", lambda: messages.update(incident, recent, desk.setting)
        told = incident.updates[-1].at if incident.updates else ""
        if incident.worsened and incident.worsened[-1] > told:
            recent = messages.timeline_actions(events, after=told or incident.opened_at)
            yield "worsening", partial(messages.worsened, incident, recent, desk.setting)
        # Of what people order, the newest; what nobody ordered has a reason of its own each time.
        owed = {each.number if each.automatic else 0: each for each in incident.escalations}
        for call in owed.values():
            yield "escalation", partial(_escalation, incident, call, done, desk)
    if incident.public:
        yield "status", lambda: messages.public(incident)


def _escalation(
    incident: state.Incident,
    call: state.Escalation,
    done: Sequence[messages.Action],
    desk: Desk,
) -> messages.Message:
    contact = incident_roster.contact(desk.roster, call.to)
    return messages.escalation(incident, call, done, contact, desk.now, desk.setting)
