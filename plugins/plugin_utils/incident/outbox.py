"""Renders the messages that an incident needs now, or reports why one cannot be rendered."""

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
    """What messages are made from, in addition to the incident.

    `all`: all incidents, for the status page. `title_problems`: why its title must not be published.
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
    """The newest message of each kind, and a sentence for each that cannot be sent.

    `events`: the incident's timeline. A newer message of a kind replaces the older ones.
    """
    rendered, problems = [], []
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
                f"{name} was not sent: incident_page_title cannot be published ({why}). Change the title."
            )
            continue
        if message.audience == "public":
            published = [statuspage.published(each) for each in desk.all]
            page = statuspage.render(published, desk.page_title, desk.now)
        rendered.append(delivery.Letter(incident.id, incident.severity, message, page))
    return rendered, problems


def read_timeline(path: Path) -> list[dict[str, Any]]:
    """The valid events of a timeline. Lines that a killed writer left incomplete are skipped."""
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
    actions = [*procedures, *messages.reported_actions(incident)]
    if not incident.is_open:
        yield "stand-down", lambda: messages.stand_down(incident, actions, desk.setting)
    else:
        yield "declaration", lambda: messages.declaration(incident, desk.setting)
        if incident.updates:
            earlier = incident.updates[-2].at if len(incident.updates) > 1 else incident.opened_at
            recent = messages.timeline_actions(events, after=earlier)
            yield "update", lambda: messages.update(incident, recent, desk.setting)
        last_update = incident.updates[-1].at if incident.updates else ""
        if incident.worsened and incident.worsened[-1] > last_update:
            recent = messages.timeline_actions(events, after=last_update or incident.opened_at)
            yield "update on the raised severity", partial(messages.worsened, incident, recent, desk.setting)
        # Only the newest call that a person ordered, but all automatic ones: each has its own reason.
        owed = {each.number if each.automatic else 0: each for each in incident.escalations}
        for call in owed.values():
            yield "escalation", partial(_escalation, incident, call, actions, desk)
    if incident.public:
        yield "status page", lambda: messages.public(incident)


def _escalation(
    incident: state.Incident,
    call: state.Escalation,
    actions: Sequence[messages.Action],
    desk: Desk,
) -> messages.Message:
    contact = incident_roster.contact(desk.roster, call.to)
    return messages.escalation(incident, call, actions, contact, desk.now, desk.setting)
