"""Sends reminders of an incident from a host, also while the control node is down.

The control node writes a plan for each incident to the host's state directory. A plan is a list of alarms;
each has a time and a message. The message is sent at that time unless the plan was replaced before. A timer
runs `main` every minute. It records what it sent in a file of JSON lines next to the plan.
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

# Kinds of channels that work from any machine, not only from the control node.
_REACHABLE = ("webhook", "slack", "smtp")


@dataclass(frozen=True)
class Alarm:
    """A message and when to send it. `due`: when the update was due; empty for other alarms."""

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
    """The alarms that an incident needs from now on; none for a closed incident."""
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


def as_text(plan: Plan) -> str:
    """The content of a plan's file."""
    return json.dumps(asdict(plan), indent=1) + "\n"


def as_plan(text: str) -> Plan:
    """The plan in a text that `as_text` made. Raises ValueError for anything else."""
    return shape.record(Plan, json.loads(text))


def reachable(value: object) -> list[dict[str, Any]]:
    """The groups in `incident_channels`, as the host's file has them: only channels that a host can reach."""
    groups, _ = channels.groups(value)
    entries = [
        {
            "group": group.name,
            "audience": group.audience,
            channels.HOST_KEY: [
                {"name": channel.name, "kind": channel.kind, **channel.options}
                for channel in group.channels
                if channel.kind in _REACHABLE
            ],
        }
        for group in groups
        if group.audience != "public"
    ]
    return [entry for entry in entries if entry[channels.HOST_KEY]]


def tick(
    path: Path, groups: Sequence[channels.Group], now: datetime, send: delivery.Send = channels.send
) -> delivery.Report:
    """Send the alarms of a plan that are due, and record the outcomes next to it.

    If no channel accepts an alarm, it is tried again for `RETRIED_FOR`. All alarms that came due while the
    host was down are sent.
    """
    due_plan = as_plan(path.read_text())
    record = path.with_suffix(".jsonl")
    events = reminder_timer.read(record)
    outcomes = {line["key"]: line["event"] for line in events if "key" in line}
    first_tried = {line["name"]: timestamps.parse(line["at"]) for line in events if line["event"] == "alarm"}

    def note(outcome: incident_state.Outcome, key: str, why: str) -> None:
        event = {"event": outcome, "key": key, **({"why": why} if why else {})}
        files.append_events(record, event, at=timestamps.stamp(now), who=reminder_timer.WHO)

    report = delivery.Report()
    for alarm in due_plan.alarms:
        name = alarm.message.name
        if timestamps.parse(alarm.at) > now or now - first_tried.get(name, now) > RETRIED_FOR:
            continue
        if name not in first_tried:
            event = {"event": "alarm", "name": name, "due": alarm.due}
            files.append_events(record, event, at=timestamps.stamp(now), who=reminder_timer.WHO)
        letter = delivery.Letter(due_plan.incident, due_plan.severity, alarm.message)
        report += delivery.deliver([letter], groups, outcomes, note, send=send)
    return report


def main() -> int:
    """Handle all plans. Return 1 if a message could not be delivered or a plan could not be read."""
    state = Path(os.environ["STATE_DIRECTORY"])
    value = json.loads(Path(os.environ["CREDENTIALS_DIRECTORY"], "sinks").read_text())
    groups, _ = channels.groups(value, channels.HOST_KEY)
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
