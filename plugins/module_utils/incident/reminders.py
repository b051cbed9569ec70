"""Reminders of an incident, from a host that goes on when the control node and its people are gone.

Each incident has a plan in the state directory, made by the control node: alarms with the message that is
sent when nothing took them back before their time. A timer runs `main` every minute. What was done is in
a file of JSON lines beside the plan.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files, shape
from ansible_collections.katago.fleet.plugins.module_utils.incident import (
    channels,
    delivery,
    messages,
    reminder_timer,
)
from ansible_collections.katago.fleet.plugins.module_utils.incident import state as incident_state

REMINDERS = 8
RETRIED_FOR = timedelta(minutes=10)

# What can be reached from another machine than the control node.
_REACHABLE = ("webhook", "slack", "smtp")


@dataclass(frozen=True)
class Alarm:
    """What is sent at a time. `due`: the time of an update that did not come, empty for other alarms."""

    at: str
    due: str
    message: messages.Message


@dataclass(frozen=True)
class Plan:
    """The alarms of an incident."""

    incident: str
    severity: str
    alarms: tuple[Alarm, ...]


def plan(
    incident: incident_state.Incident, contact: messages.Contact | None, setting: messages.Setting
) -> Plan:
    """The alarms that nothing has made needless yet; none for a closed incident."""
    if not incident.is_open:
        return Plan(incident.id, incident.severity, ())
    first, every = timestamps.parse(incident.update_due), incident_state.UPDATE_EVERY[incident.severity]
    alarms = [
        Alarm(
            timestamps.stamp(first + number * every),
            incident.update_due,
            messages.overdue(incident, number + 1, setting),
        )
        for number in range(REMINDERS)
    ]
    if incident_state.awaits_restoration(incident) and not incident_state.is_helped(incident):
        at = timestamps.parse(incident.opened_at) + incident_state.RESTORED_WITHIN
        alarms.append(Alarm(timestamps.stamp(at), "", messages.not_restored(incident, contact, setting)))
    return Plan(incident.id, incident.severity, tuple(alarms))


def as_text(made: Plan) -> str:
    """A plan as its file has it."""
    return json.dumps(asdict(made), indent=1) + "\n"


def as_plan(text: str) -> Plan:
    """What `as_text` wrote. Raises ValueError for anything else."""
    return shape.record(Plan, json.loads(text))


def reachable(given: object) -> list[dict[str, Any]]:
    """The groups of the inventory with those of their sinks that a host reaches."""
    groups, _ = channels.groups(given)
    found = [
        {
            "group": group.name,
            "audience": group.audience,
            "sinks": [
                {"name": sink.name, "kind": sink.kind, **sink.options}
                for sink in group.sinks
                if sink.kind in _REACHABLE
            ],
        }
        for group in groups
        if group.audience != "public"
    ]
    return [group for group in found if group["sinks"]]


def tick(
    path: Path, groups: Sequence[channels.Group], now: datetime, send: delivery.Send = channels.send
) -> delivery.Report:
    """Send what is due of the plan in a file, and record it beside it.

    An alarm that nobody took is tried again for `RETRIED_FOR`; of several that came due while the host
    was down, all are sent.
    """
    made = as_plan(path.read_text())
    book = path.with_suffix(".jsonl")
    done = reminder_timer.read(book)
    known = {line["key"]: line["event"] for line in done if "key" in line}
    begun = {line["name"]: timestamps.parse(line["at"]) for line in done if line["event"] == "alarm"}

    def note(outcome: incident_state.Outcome, key: str, why: str) -> None:
        event = {"event": outcome, "key": key, **({"why": why} if why else {})}
        files.append_events(book, event, at=timestamps.stamp(now), who=reminder_timer.WHO)

    report = delivery.Report()
    for alarm in made.alarms:
        name = alarm.message.name
        if timestamps.parse(alarm.at) > now or now - begun.get(name, now) > RETRIED_FOR:
            continue
        if name not in begun:
            event = {"event": "alarm", "name": name, "due": alarm.due}
            files.append_events(book, event, at=timestamps.stamp(now), who=reminder_timer.WHO)
        letter = delivery.Letter(made.incident, made.severity, alarm.message)
        report += delivery.deliver([letter], groups, known, note, send=send)
    return report


def main() -> int:
    """Go through all plans; 1 when somebody could not be told, or a plan cannot be read."""
    state = Path(os.environ["STATE_DIRECTORY"])
    given = json.loads(Path(os.environ["CREDENTIALS_DIRECTORY"], "sinks").read_text())
    groups, _ = channels.groups(given)
    status = 0
    for path in sorted(state.glob("*.json")):
        try:
            report = tick(path, groups, datetime.now(UTC))
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            status = 1
            continue
        for sentence in report.sent:
            print(f"{path.stem}: sent {sentence}")
        for sentence in (*report.passed, *report.problems):
            print(f"{path.stem}: {sentence}", file=sys.stderr)
        status = 1 if report.problems else status
    return status
