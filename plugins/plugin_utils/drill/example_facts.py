"""Facts of triage of a healthy host and a healthy load balancer: examples for training and for tests.

Entries by fact, as `katago.fleet.triage` returns them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

Entries = dict[str, dict[str, Any]]
MACHINE = {"name": "katago-1", "device": "4 x AMD EPYC", "processors": 4}


def healthy(now: datetime) -> Entries:
    """A host that is healthy, idle, and as fast as its baseline."""
    values: dict[str, Any] = {
        "unit": {
            "load": "loaded",
            "active": "active",
            "sub": "running",
            "result": "success",
            "exit_status": 0,
            "pid": 100,
            "process_state": "S",
            "restarts": 0,
            "started_at": now.timestamp() - 7200,
            "drop_ins": [],
        },
        "ports": [],
        "sandbox": [],
        "max_visits": 1000,
        "clients": {"address": "", "error": ""},
        "health": {
            "status": 200,
            "body": {"status": "ok", "uptimeSeconds": 7200.0, "engine": {"state": "ready"}, "overlay": None},
            "seconds": 3.0,
        },
        "ready": {"status": 200, "body": {"ready": True, "reason": None}, "seconds": 3.0},
        "undeployed": "",
        "release": {"name": "0.1.0-aa", "damage": []},
        "config": {"ok": True, "problems": []},
        "limits": {"open_files_limit": 8192, "open_files": 40, "open_files_expected": 8192},
        "filesystems": [
            {
                "paths": ["/", "/opt", "/var", "/var/lib/katago-mcp", "/var/cache/katago-mcp"],
                "device": 7,
                "free_bytes": 1 << 35,
                "free_percent": 50.0,
                "free_inodes_percent": 50.0,
                "read_only": False,
            }
        ],
        "consumers": [{"path": "/var/log/journal", "device": 7, "bytes": 300 << 20, "inodes": 12}],
        "memory": {
            "total_bytes": 1 << 34,
            "available_bytes": 1 << 33,
            "available_percent": 50.0,
            "swap_free_bytes": 0,
        },
        "pressure": {"memory": {"full": {"avg10": 0.0, "avg60": 0.0}}},
        "load": {"averages": [0.1, 0.1, 0.1], "processors": 4},
        "system": {"untested": ""},
        "gpu": None,
        "clock": now.timestamp(),
        "processes": {"engines": [101], "others": [], "processors": 4, "unit": None, "disks": []},
        "journal": {"groups": [], "unstructured": 0, "cache_trouble": None, "lines": 10, "truncated": False},
        "journal_view": {"blind": "", "gaps": []},
        "engine_journal": {"failures": 0},
        "runs": {"started": [now.timestamp() - 7200], "failed": []},
        "last_lines": ["{}"],
        "security": {"mode": None, "isolated": None},
        "lock": None,
        "history": {"records": [], "switch": None, "way_back": "0.1.0-old"},
        "packages": [],
        "baseline": {
            "found": {"identity": "same", "machine": MACHINE, "median_seconds": 0.5},
            "identity": "same",
            "manifest": {"name": "0.1.0-aa", "version": "0.1.0", "engine_version": "1.18.1"},
            "network": "net.bin.gz",
            "machine": MACHINE,
            "visits": 32,
        },
        "probe": {
            "asked": 5,
            "visits": 32,
            "error": None,
            "answers": [{"status": "ok", "seconds": 0.5, "problems": []} for _ in range(5)],
        },
        "traffic": {
            "served": True,
            "seconds": 10.0,
            "requests": {"ok": 5.0},
            "refused": {"unauthenticated": 0.0, "forbidden": 0.0, "misdirected": 0.0},
            "engine_up": 1.0,
            "engine_failures": 0.0,
            "engine_failures_since_start": None,
            "latency_seconds": {"p50": 0.4, "p95": 0.6, "p99": 0.7},
            "analyses": 5.0,
            "hit_rate": 0.0,
            "cache_errors": 0.0,
            "cache_bytes": 0.0,
            "cache_max_bytes": float(256 << 20),
            "overlay_active": 0.0,
        },
    }
    return {name: {"value": value, "seconds": 0.1} for name, value in values.items()}


def balancer_unit(now: datetime) -> dict[str, Any]:
    """A unit of a load balancer that runs."""
    return {
        "load": "loaded",
        "active": "active",
        "sub": "running",
        "result": "success",
        "restarts": 0,
        "started_at": now.timestamp() - 7200,
    }


def server(**changes: Any) -> dict[str, Any]:
    """A server that HAProxy sends requests to, with some keys changed."""
    up = {"address": "10.20.0.21:8080", "status": "UP", "weight": 100, "sessions": 0, "check": ""}
    return {**up, **changes}


def load_balancer(now: datetime, hosts: Sequence[str], load_balancers: Sequence[str]) -> Entries:
    """A load balancer that has the virtual address and sends requests to all hosts."""
    of_host, unit = healthy(now), balancer_unit(now)
    kept = ("filesystems", "memory", "pressure", "load", "system", "packages", "lock", "last_lines", "clock")
    values: dict[str, Any] = {
        "haproxy": {**unit, "silent": ""},
        "haproxy_config": {"problems": [], "edited": False, "in_use": True},
        "rotation": {"out": {}, "servers": {host: server() for host in hosts}},
        "virtual_address": {
            "address": "10.20.0.200",
            "interface": "eth0",
            "unit": unit,
            "held": "always",
            "refused": "",
        },
        "certificate": {"pem": "", "ends_at": now.timestamp() + 90 * 86400},
        "fleet": {"hosts": list(hosts), "load_balancers": list(load_balancers)},
    }
    return {
        **{name: of_host[name] for name in kept},
        **{name: {"value": value, "seconds": 0.1} for name, value in values.items()},
    }
