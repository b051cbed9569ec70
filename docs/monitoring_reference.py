"""The reference of alerts, of recording rules, and of the metrics that monitoring itself writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ansible_collections.katago.fleet.plugins.module_utils.common.exposition import Metric
from ansible_collections.katago.fleet.plugins.module_utils.monitoring import host_metrics, prober
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import fleet, rules
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS, SUBJECTS, Alert
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.recordings import (
    OBJECTIVES,
    RECORDINGS,
    Recording,
)

_TEMPLATE = re.compile(r"\{\{ \$(?:labels\.)?(?P<name>\w+)(?: \| \w+)? \}\}")
_NAMES = {"instance": "HOST", "value": "VALUE"}


def alerts(notice: str) -> str:
    """Every alert with its severity, its expression, what it means, and the command to run next."""
    lines = ["# Alerts", "", notice, ""]
    lines += [
        "`runbook_url` of each alert leads to its section here, and `command` is what to run next.",
        "[Monitoring](../monitoring.md) explains how they are notified and tested. Severities are those of"
        " the runbook.",
    ]
    for subject in SUBJECTS:
        lines += ["", f"## {subject} alerts"]
        for alert in ALERTS:
            if alert.subject == subject:
                lines += _alert(alert)
    return "\n".join(lines) + "\n"


def metrics(notice: str) -> str:
    """The metrics of hosts, of the prober and of the inventory, and the recording rules."""
    lines = ["# Metrics of monitoring", "", notice, ""]
    lines += [
        "Besides these, Prometheus has the [metrics of the server](metrics.md), those of node exporter, of"
        " the",
        "blackbox exporter, of HAProxy, and its own.",
    ]
    for title, declared in (
        ("Hosts", host_metrics.METRICS),
        ("Prober", prober.METRICS),
        ("Inventory", fleet.METRICS),
    ):
        lines += ["", f"## {title}", "", *_table(declared)]
    lines += ["", "## Objectives", "", "| Objective | Share of good events in 30 days |", "|---|---|"]
    lines += [f"| {each.name} | {each.share:.1%} |" for each in OBJECTIVES]
    lines += ["", "## Recording rules"]
    for recording in RECORDINGS:
        lines += _recording(recording)
    return "\n".join(lines) + "\n"


def _alert(alert: Alert) -> Iterator[str]:
    yield from ("", f"### {alert.name}", "")
    severity = alert.severity if alert.severity != "none" else "no severity"
    waits = f"after {alert.for_}" if alert.for_ else "at once"
    command = rules.command_line(alert.command, "HOST")
    yield f"{_readable(alert.summary)}. {severity}, {waits}. Next: `{command}`"
    yield from ("", "```promql", *_wrapped(alert.expression), "```", "")
    yield _readable(alert.meaning)


def _recording(recording: Recording) -> Iterator[str]:
    labels = "".join(f'{{{name}="{value}"}}' for name, value in recording.labels.items())
    yield from ("", f"`{recording.name}{labels}`", "")
    yield from ("```promql", *_wrapped(recording.expression), "```")


def _wrapped(expression: str) -> list[str]:
    """An expression with a line for each of its parts."""
    return re.sub(r" (?=(?:and|or|unless) )", "\n  ", expression).split("\n")


def _table(metrics: Iterable[Metric]) -> Iterator[str]:
    yield from ("| Name | Labels | Description |", "|---|---|---|")
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.name}` | {labels} | {metric.description} |"


def _readable(text: str) -> str:
    """A text with names instead of Prometheus' templates."""
    return _TEMPLATE.sub(lambda match: _NAMES.get(match["name"], match["name"].upper()), text)
