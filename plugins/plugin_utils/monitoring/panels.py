"""What the dashboard and the console pages show: one expression for each panel, with a series for each host.

The names are those of the alerts, so that a person who follows an alert sees the same figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Unit = Literal["per second", "seconds", "ratio", "number", "celsius"]
Section = Literal[
    "Objectives",
    "Service",
    "Requests",
    "Cache",
    "Host",
    "GPU",
    "Self-healing",
    "Fleet healing",
    "Load balancers",
]
SECTIONS: tuple[Section, ...] = get_args(Section)

HOST = "$host"
"""Stands for a regular expression of host names in the expressions."""
_OF_HOST = f'instance=~"{HOST}"'
_DISK = f'fstype!~"tmpfs|ramfs|fuse.*",{_OF_HOST}'
_MCP = 'proxy="mcp"'
_REPAIRS_FLEET = "and on (instance) katago_host_fleet_healing_set_up == 1"


@dataclass(frozen=True)
class Panel:
    """A figure over time. `legend`: the label that tells its series apart."""

    title: str
    section: Section
    unit: Unit
    expression: str
    meaning: str
    legend: str = "instance"


PANELS = (
    Panel(
        "Error budget left",
        "Objectives",
        "ratio",
        "katago:objective_budget:left",
        "What is left of the misses that the objective allows in 30 days.",
        "objective",
    ),
    Panel(
        "Objectives missed",
        "Objectives",
        "ratio",
        "katago:objective_missed:ratio5m",
        "Calls that failed, and analyses that took longer than 10 s, of all of the last 5 minutes.",
        "objective",
    ),
    Panel(
        "Probes answered",
        "Service",
        "ratio",
        f"max by (instance) (katago_probe_success{{{_OF_HOST}}})",
        "1 if the prober, which calls the service as a client does, got an answer.",
    ),
    Panel(
        "Probe duration",
        "Service",
        "seconds",
        f"avg by (instance) (katago_probe_duration_seconds{{{_OF_HOST}}})",
        "How long the prober's small analysis took.",
    ),
    Panel(
        "Engine ready",
        "Service",
        "ratio",
        f"katago_engine_up{{{_OF_HOST}}}",
        "1 if the engine is ready, else 0.",
    ),
    Panel(
        "Calls",
        "Requests",
        "per second",
        f"sum by (instance) (rate(katago_requests_total{{{_OF_HOST}}}[5m]))",
        "Completed tool calls, whatever their result.",
    ),
    Panel(
        "Failed calls",
        "Requests",
        "ratio",
        f"instance:katago_requests_failed:ratio5m{{{_OF_HOST}}}",
        "Share of calls that failed because of the service. No value without calls.",
    ),
    Panel(
        "Analysis, 95th percentile",
        "Requests",
        "seconds",
        f'max by (instance) (instance:katago_analysis_seconds:p95_5m{{tool="analyzePosition",{_OF_HOST}}})',
        "95 % of the analyses of one position took at most this long.",
    ),
    Panel(
        "Waiting analyses",
        "Requests",
        "number",
        f"katago_engine_queries_queued{{{_OF_HOST}}}",
        "Analyses that wait for the engine.",
    ),
    Panel(
        "Hit rate",
        "Cache",
        "ratio",
        f"instance:katago_cache_hits:ratio1h{{{_OF_HOST}}}",
        "Share of hits among the lookups of the last hour. No value without lookups.",
    ),
    Panel(
        "Cache used",
        "Cache",
        "ratio",
        f"katago_cache_size_bytes{{{_OF_HOST}}} / katago_cache_max_size_bytes{{{_OF_HOST}}}",
        "A full cache is normal.",
    ),
    Panel(
        "Memory available",
        "Host",
        "ratio",
        f"node_memory_MemAvailable_bytes{{{_OF_HOST}}} / node_memory_MemTotal_bytes{{{_OF_HOST}}}",
        "Memory that programs can get.",
    ),
    Panel(
        "Disk free",
        "Host",
        "ratio",
        f"min by (instance) (node_filesystem_avail_bytes{{{_DISK}}} / node_filesystem_size_bytes{{{_DISK}}})",
        "Of the disk with the least free space.",
    ),
    Panel(
        "GPU temperature",
        "GPU",
        "celsius",
        f"max by (instance) (katago_host_gpu_temperature_celsius{{{_OF_HOST}}})",
        "Of the hottest GPU. No value without a GPU.",
    ),
    Panel(
        "GPU memory used",
        "GPU",
        "ratio",
        f"max by (instance) (katago_host_gpu_memory_used_bytes{{{_OF_HOST}}}"
        f" / katago_host_gpu_memory_bytes{{{_OF_HOST}}})",
        "Of the GPU with the least free memory.",
    ),
    Panel(
        "Automatic repairs",
        "Self-healing",
        "number",
        f"sum by (instance) (increase(katago_host_healing_repairs_total{{{_OF_HOST}}}[1h]))",
        "Finished repairs of the last hour, whatever their result.",
    ),
    Panel(
        "Repairs left today",
        "Self-healing",
        "number",
        f'max by (instance) (katago_host_healing_budget_left{{period="day",{_OF_HOST}}})',
        "What the budget still allows.",
    ),
    Panel(
        "Repairs of the fleet",
        "Fleet healing",
        "number",
        "sum by (result) (increase(katago_host_fleet_healing_repairs_total[1h]))",
        "Finished repairs of the last hour, by result.",
        "result",
    ),
    Panel(
        "Repairs of the fleet left today",
        "Fleet healing",
        "number",
        f'katago_host_fleet_healing_budget_left{{period="day"}} {_REPAIRS_FLEET}',
        "What the budget of the fleet still allows.",
    ),
    Panel(
        "Fleet healing ready",
        "Fleet healing",
        "ratio",
        "katago_host_fleet_healing_running * (1 - katago_host_fleet_healing_paused)"
        " * (1 - katago_host_fleet_healing_stopped) * (1 - katago_host_fleet_healing_dry_run)"
        f" {_REPAIRS_FLEET}",
        "0 while it is paused, has stopped, only reports, or does not run.",
    ),
    Panel(
        "Fleet healing paused",
        "Fleet healing",
        "seconds",
        "time() - (katago_host_fleet_healing_paused_since_timestamp_seconds > 0)",
        "How long it has been paused. No value while it is not.",
    ),
    Panel(
        "Hosts in rotation",
        "Load balancers",
        "number",
        f"haproxy_backend_active_servers{{{_MCP}}}",
        "Hosts to which the load balancer sends requests.",
    ),
    Panel(
        "Responses",
        "Load balancers",
        "per second",
        f"sum by (instance) (rate(haproxy_backend_http_responses_total{{{_MCP}}}[5m]))",
        "All responses of the load balancer.",
    ),
)
"""All panels, by section."""


def of(section: Section) -> tuple[Panel, ...]:
    """The panels of a section."""
    return tuple(panel for panel in PANELS if panel.section == section)
