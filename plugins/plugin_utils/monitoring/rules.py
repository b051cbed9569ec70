"""Prometheus' rule files, rendered from the tables of recordings and alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import (
    ALERTS,
    REFERENCE,
    SUBJECTS,
    Alert,
    Command,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.recordings import RECORDINGS, Recording
from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures


def rendered(
    alerts: Sequence[Alert] = ALERTS,
    recordings: Sequence[Recording] = RECORDINGS,
    reference: str = REFERENCE,
) -> str:
    """The rule file as YAML. `reference`: where people find the reference, a path or a URL."""
    groups = [{"name": "recordings", "rules": [_recording(each) for each in recordings]}]
    for subject in SUBJECTS:
        rules = [_alert(each, reference) for each in alerts if each.subject == subject]
        if rules:
            groups.append({"name": subject.lower().replace(" ", "_").replace("-", "_"), "rules": rules})
    return yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)


def command_line(command: Command, host: str) -> str:
    """The command as an operator types it. `host`: the limit of a command that is run on one host."""
    procedure = procedures.PROCEDURES[command.procedure]
    limit = ["-l", host] if command.is_of_host else []
    options = [
        f"--{name.replace('_', '-')} {_quoted(value)}" for name, value in _ordered(command, procedure.name)
    ]
    return " ".join(["bin/fleet", *procedure.command, *limit, *options])


def _ordered(command: Command, procedure: str) -> Iterable[tuple[str, str]]:
    """The inputs in the order of the table of procedures."""
    order = list(procedures.inputs_of(procedure))
    return sorted(command.inputs.items(), key=lambda each: order.index(each[0]))


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value


def _recording(recording: Recording) -> dict[str, Any]:
    labels: Mapping[str, str] = recording.labels
    return {
        "record": recording.name,
        "expr": recording.expression,
        **({"labels": dict(labels)} if labels else {}),
    }


def _alert(alert: Alert, reference: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        **({"for": alert.for_} if alert.for_ else {}),
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.meaning,
            "runbook_url": f"{reference}#{alert.anchor}",
            "command": command_line(alert.command, "{{ $labels.instance }}"),
        },
    }
