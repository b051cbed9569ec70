"""What a procedure silences while it works on a host: the alerts that its work causes, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS

MOST_MINUTES = 240
"""The longest time for which a silence is set at once. A run that is killed leaves it for as long."""
CAUSED = (
    "AnalysesWait",
    "AnalysisSlow",
    "EngineDown",
    "EngineRestarting",
    "ErrorRateCritical",
    "ErrorRateHigh",
    "ErrorRateRaised",
    "ExporterSilent",
    "HostDown",
    "HostReadingsOld",
    "LoadBalancerServerDown",
    "ProbeFailed",
    "ProbeSlow",
    "ReleaseNotRunning",
    "ServiceDown",
    "ServiceMetricsMissing",
)
"""The alerts about a host that an interruption of its service, or its reboot, causes. Not those about its
data, its security, its disks or its backups: they are news during a procedure too."""
_BY_NAME = {alert.name: alert for alert in ALERTS}
_NEVER = "P0"


def problems(host: str, alerts: Sequence[str], minutes: int) -> Iterator[str]:
    """Why no silence can be set, as sentences."""
    if not host:
        yield "host is empty. Name the host whose alerts are silenced."
    if not 1 <= minutes <= MOST_MINUTES:
        yield f"minutes is {minutes}; a silence lasts 1 to {MOST_MINUTES} minutes, and can be extended."
    for name in alerts:
        if name not in _BY_NAME:
            yield f"alerts: there is no alert {name}. docs/reference/alerts.md has their names."
        elif _BY_NAME[name].severity in (_NEVER, "none"):
            yield f"alerts: {name} is about the whole fleet and is never silenced. Leave it out."


def comment(*, procedure: str, host: str, who: str, incident: str, run: str) -> str:
    """The comment of a silence, by which the run finds it again."""
    return f"{_beginning(procedure, host)}{who}{_incident(incident)} (run {run}). It ends with the procedure."


def parts_of_any_run(*, procedure: str, host: str, incident: str) -> list[str]:
    """What is in the comments of the silences that any run of a procedure has set for an incident."""
    return [_beginning(procedure, host), f"{_incident(incident)} (run "]


def _beginning(procedure: str, host: str) -> str:
    return f"{procedure} works on {host}, started by "


def _incident(incident: str) -> str:
    return f", incident {incident}" if incident else ""


def matchers(host: str, alerts: Sequence[str]) -> list[list[dict[str, Any]]]:
    """The matchers of each silence. `alerts`: their names; `CAUSED` if empty."""
    names = sorted(alerts or CAUSED)
    found = []
    for of in ("instance", "server"):
        if own := [name for name in names if label(name) == of]:
            found.append(
                [
                    _matcher(of, host),
                    _matcher("alertname", "|".join(own), is_regex=True),
                    _matcher("severity", _NEVER, is_equal=False),
                ]
            )
    return found


def label(name: str) -> str:
    """The label with the host that an alert is about: `server` if a load balancer reports it."""
    return "server" if name in _BY_NAME and "$labels.server" in _BY_NAME[name].summary else "instance"


def _matcher(name: str, value: str, *, is_regex: bool = False, is_equal: bool = True) -> dict[str, Any]:
    return {"name": name, "value": value, "isRegex": is_regex, "isEqual": is_equal}
