"""Series of a made-up fleet: three hosts, a load balancer and a monitoring host, over 12 hours."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from tests.unit.monitoring.prometheuses import Values

HOSTS = ("katago-1", "katago-2", "katago-3")
SECONDS = 13 * 3600
_OUTAGE = range(2 * 3600, 3 * 3600)
_DAYS = 86400.0


def series() -> Mapping[str, float | Values]:
    """All series. katago-2 is down, katago-3 was down two to three hours ago and is out of rotation."""
    found: dict[str, float | Values] = {}
    for number, host in enumerate(HOSTS):
        found |= _host(host, number)
    for host in (*HOSTS, "lb-1", "mon-1"):
        found |= {
            f'katago_inventory_target{{instance="{host}",prober="mon-1",scrape="node"}}': 1,
            f'probe_success{{instance="{host}",job="reach"}}': 1,
            f'node_memory_MemAvailable_bytes{{instance="{host}"}}': 5e9,
            f'node_memory_MemTotal_bytes{{instance="{host}"}}': 8e9,
            f'node_filesystem_avail_bytes{{instance="{host}",mountpoint="/",fstype="ext4"}}': 3e10,
            f'node_filesystem_size_bytes{{instance="{host}",mountpoint="/",fstype="ext4"}}': 1e11,
        }
    for name, missed in (("availability", 0.002), ("latency", 0.021)):
        found |= {
            f'katago:objective_missed:ratio5m{{objective="{name}"}}': lambda age, missed=missed: (  # type: ignore[misc]
                missed * (8 if age in _OUTAGE else 1)
            ),
            f'katago:objective_missed:ratio30d{{objective="{name}"}}': missed,
            f'katago:objective_budget:left{{objective="{name}"}}': 0.58,
        }
    found |= {
        'haproxy_backend_active_servers{instance="lb-1",proxy="mcp"}': 1,
        'haproxy_server_status{instance="lb-1",proxy="mcp",server="katago-3",state="MAINT"}': 1,
        'haproxy_backend_http_responses_total{instance="lb-1",proxy="mcp",code="2xx"}': lambda age: (
            1e6 - 3 * age
        ),
    }
    # mon-1 repairs the fleet in a dry run, and has been paused for 26 hours.
    own = 'instance="mon-1"'
    found |= {
        f"katago_host_fleet_healing_set_up{{{own}}}": 1,
        f"katago_host_fleet_healing_running{{{own}}}": 1,
        f"katago_host_fleet_healing_paused{{{own}}}": 1,
        f"katago_host_fleet_healing_paused_since_timestamp_seconds{{{own}}}": time.time() - 26 * 3600,
        f"katago_host_fleet_healing_stopped{{{own}}}": 0,
        f"katago_host_fleet_healing_dry_run{{{own}}}": 1,
        f"katago_host_fleet_healing_escalated{{{own}}}": 0,
        f'katago_host_fleet_healing_budget_left{{{own},period="day"}}': 6,
        f'katago_host_fleet_healing_repairs_total{{{own},result="failed"}}': 3,
    }
    for labels in (
        'alertname="ServiceDown",instance="katago-2",severity="P1"',
        'alertname="DiskFillsUp",instance="katago-1",mountpoint="/var/lib/katago-mcp",severity="P3"',
        'alertname="ErrorBudgetBurns",objective="availability",severity="P2"',
    ):
        found |= {
            f'ALERTS{{{labels},alertstate="firing"}}': lambda age: 1 if age < 900 else None,
            f"ALERTS_FOR_STATE{{{labels}}}": lambda age: time.time() - 900 if age < 900 else None,
        }
    return found


def _host(host: str, number: int) -> dict[str, float | Values]:
    own = f'instance="{host}"'
    is_up = 0.0 if host == "katago-2" else 1.0

    def up(age: float) -> float:
        return 0.0 if (host == "katago-2" and age < 900) or (host == "katago-3" and age in _OUTAGE) else 1.0

    def wave(age: float) -> float:
        return 1.2 + math.sin(age / 6000 + number)

    return {
        f'katago_inventory_host{{{own},prober="mon-1",backup="yes"}}': 1,
        f'katago_probe_success{{{own},prober="mon-1"}}': up,
        f'katago_probe_correct{{{own},prober="mon-1"}}': 1,
        f'katago_probe_duration_seconds{{{own},prober="mon-1"}}': lambda age: 0.4 * wave(age),
        f"katago_engine_up{{{own}}}": up,
        f'katago_engine_state{{{own},state="ready"}}': is_up,
        f"katago_engine_queries_queued{{{own}}}": lambda age: round(2 * wave(age)),
        f'katago_requests_total{{{own},tool="analyzePosition",status="ok"}}': lambda age: (
            1e6 - age * (2 + number)
        ),
        f"instance:katago_requests_failed:ratio5m{{{own}}}": lambda age: 0.2 if not up(age) else 0.001,
        f'instance:katago_analysis_seconds:p95_5m{{{own},tool="analyzePosition"}}': lambda age: (
            4 * wave(age) if up(age) else None
        ),
        f"instance:katago_cache_hits:ratio1h{{{own}}}": 0.35,
        f"katago_cache_size_bytes{{{own}}}": 9e8,
        f"katago_cache_max_size_bytes{{{own}}}": 1e9,
        f'katago_host_release_info{{{own},release="0.2.0-3f9a12c0",version="0.2.0"}}': 1,
        f'katago_host_release_verdict{{{own},verdict="validated"}}': 1,
        f"katago_host_service_active{{{own}}}": is_up,
        f"katago_host_reboot_required{{{own}}}": float(number == 1),
        f"katago_host_backup_verified_timestamp_seconds{{{own}}}": time.time() - 0.6 * _DAYS,
        f"instance:certificate_expiry:seconds{{{own}}}": 40 * _DAYS,
        f"katago_host_lock_since_timestamp_seconds{{{own}}}": time.time() - 60 if number == 1 else 0.0,
        f"katago_host_override_active{{{own}}}": 0,
        f"katago_host_security_mode{{{own}}}": 0,
        f"katago_host_failed_units{{{own}}}": 0,
        f'katago_host_healing_status{{{own},status="idle"}}': float(number != 0),
        f'katago_host_healing_status{{{own},status="paused"}}': float(number == 0),
        f'katago_host_healing_budget_left{{{own},period="day"}}': 4.0 - number,
    }
