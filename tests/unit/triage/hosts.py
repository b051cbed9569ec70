"""Facts of triage for tests: a healthy host, and a healthy host with some keys changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
Facts = dict[str, dict[str, Any]]
MACHINE = {"name": "katago-1", "device": "4 x AMD EPYC", "processors": 4}


def healthy() -> Facts:
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
            "started_at": NOW.timestamp() - 7200,
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
        "clock": NOW.timestamp(),
        "processes": {"engines": [101], "others": [], "processors": 4, "unit": None, "disks": []},
        "journal": {"groups": [], "unstructured": 0, "cache_trouble": None, "lines": 10, "truncated": False},
        "journal_view": {"blind": "", "gaps": []},
        "engine_journal": {"failures": 0},
        "runs": {"started": [NOW.timestamp() - 7200], "failed": []},
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


def having(**changes: dict[str, Any]) -> Facts:
    """A healthy host with some keys of some facts changed."""
    facts = healthy()
    for name, change in changes.items():
        facts[name]["value"] = {**facts[name]["value"], **change}
    return facts
