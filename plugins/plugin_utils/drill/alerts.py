"""The alerts of a drill: those that its faults cause, and those that end it because they are real."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import silences

ABORTING = ("P0", "P1", "P2")
"""The severities of alerts that end a drill."""
_UNKNOWN_COMMAND = "bin/fleet triage"
_HEALING = ("HealingEscalated", "HealingRepaired", "HealingStopped", "UnitFailed")
_OF_SERVICE = (*silences.CAUSED, *_HEALING)

CAUSED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "service_down",
            "service_killed",
            "engine_crash_loop",
            "engine_hung",
            "engine_slow",
            "host_frozen",
            "network_cut",
            "host_lost",
            "control_node_lost",
        ),
        _OF_SERVICE,
    ),
    "error_burst": (*_OF_SERVICE, "CallsRejected"),
    "release_bad": (*_OF_SERVICE, "ReleaseChanged", "ReleaseRejected", "ReleaseUnvalidated"),
    "config_corrupted": (*_OF_SERVICE, "ReleaseChanged"),
    "cache_corrupted": (*_OF_SERVICE, "CacheErrors"),
    "disk_full": (*_OF_SERVICE, "CacheErrors", "DiskFillsUp", "DiskFull"),
    "inodes_full": (*_OF_SERVICE, "CacheErrors", "InodesFull", "InodesRunOut"),
    "backup_repository_lost": (*_HEALING, "BackupFailed"),
    "credentials_rotated": (*_OF_SERVICE, "LoginsRefused"),
    "certificate_expired": (*_OF_SERVICE, "CertificateExpires", "CertificateExpiresSoon"),
    "clock_skewed": (*_OF_SERVICE, "ClockNotSynchronised", "ClockWrong"),
    "load_balancer_down": ("LoadBalancerDown", "ProbeFailed", "ProbeSlow", "UnitFailed"),
}
"""The alerts about its host that a fault, or the response to it, causes; by the name of the fault."""


@dataclass(frozen=True)
class Alert:
    """An alert that fires and that nobody has silenced. `host`: that it is about; empty for the fleet."""

    name: str
    severity: str
    host: str
    started: datetime
    summary: str
    command: str


def read(documents: Iterable[object]) -> Iterator[Alert]:
    """The alerts of an answer of `katago.fleet.drill_alerts`. Raises shape.ShapeError."""
    for document in documents:
        content = shape.mapping(document, "alert")
        labels = shape.mapping(content.get("labels"), "alert.labels")
        annotations = shape.mapping(content.get("annotations"), "alert.annotations")
        name = str(labels.get("alertname", ""))
        try:
            started = datetime.fromisoformat(str(content.get("startsAt")))
        except ValueError as error:
            raise shape.ShapeError(f"alert.startsAt of {name}: {error}") from error
        yield Alert(
            name=name,
            severity=str(labels.get("severity", "")),
            host=str(labels.get(silences.label(name), "")),
            started=started,
            summary=str(annotations.get("summary", "")),
            command=str(annotations.get("command", "")) or _UNKNOWN_COMMAND,
        )


def real(alerts: Iterable[Alert], drill: Record, since: datetime) -> Alert | None:
    """The most severe alert that the drill does not explain, and that started after `since`; None without."""
    caused = {name for use in SCENARIOS[drill["scenario"]].faults for name in CAUSED[use.fault]}
    found = [
        alert
        for alert in alerts
        if alert.severity in ABORTING
        and alert.started > since
        and not (alert.host in drill["hosts"] and alert.name in caused)
    ]
    return min(found, key=lambda each: (each.severity, each.started), default=None)


def since(drill: Record, here: datetime, there: datetime) -> datetime:
    """When the drill started, by the clock of a monitoring host.

    `here`, `there`: the time of the control node and of the monitoring host at the same moment.
    """
    return timestamps.parse(drill["started"]) + (there - here)


def reason(alert: Alert) -> str:
    """Why an alert ends the drill, as part of a sentence that ends with the command to run next."""
    about = f"of {alert.host}" if alert.host else "of the whole fleet"
    return (
        f"the alert {alert.name} {about} fires ({alert.severity}, since {timestamps.stamp(alert.started)}:"
        f" {alert.summary}), and the drill does not cause it; run next: {alert.command}"
    )
