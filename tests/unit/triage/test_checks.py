"""The checks of triage on a host return the types that `facts.py` declares."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import shape, workers
from ansible_collections.katago.fleet.plugins.module_utils.release import history, layout
from ansible_collections.katago.fleet.plugins.module_utils.service import endpoints
from ansible_collections.katago.fleet.plugins.module_utils.triage import checks, facts


class Service(endpoints.Endpoints):
    """A service that answers with the requested visits, as far as its override allows them."""

    def probe(self, path: str, seconds: float = 0) -> tuple[int, dict[str, Any]]:
        assert path == "/health"
        keys = {"katago.maxVisits": 10}
        return 200, {"status": "ok", "overlay": {"keys": keys} if self.host == "lowered" else None}

    def call(self, command: Path, calls: Sequence[Mapping[str, Any]], deadline: float) -> dict[str, Any]:
        visits = [each["arguments"]["maxVisits"] for each in calls]
        analysis = {"scoreLead": 70.0, "winrate": 0.99, "cached": False, "moves": [{"move": "E6"}]}
        return {
            "results": [
                {
                    "ok": True,
                    "text": "",
                    "error": None,
                    "seconds": 0.1,
                    "structured": {**analysis, "visits": each},
                }
                for each in visits
            ]
        }


@pytest.mark.parametrize(
    ("config", "host", "visits"),
    [
        ('{"katago": {"maxVisits": 1000}}', "as configured", 32),
        ('{"katago": {"maxVisits": 20}}', "as configured", 20),
        ('{"katago": {"maxVisits": 1000}}', "lowered", 10),
        ('{"katago": {"maxVisits": 5}}', "as configured", 5),
        ("{", "as configured", 32),
        ("[]", "lowered", 32),
    ],
)
def test_visits_of_a_probe_are_capped_to_the_limit(
    config: str, host: str, visits: int, tmp_path: Path
) -> None:
    release = tmp_path / "releases" / "r"
    release.mkdir(parents=True)
    (release / "config.json").write_text(config)
    (tmp_path / "current").symlink_to("releases/r")
    place = layout.Layout(tmp_path)
    found = checks.probes(Service(host=host), place, count=3, visits=32, seconds=30)
    assert found["visits"] == visits
    assert [answer["problems"] for answer in found["answers"]] == [[], [], []]


def test_restore_of_the_same_release_does_not_count_as_a_switch() -> None:
    deployed = history.Record("2026-11-23T02:00:00Z", "anna", "0.2.0-bb", "0.1.0-aa", "deployment")
    restored = history.Record(
        "2026-11-24T02:30:00Z", "anna", "0.2.0-bb", "0.2.0-bb", "damaged", how="restore"
    )
    assert checks.newest_switch([deployed, restored]) == deployed
    assert checks.newest_switch([restored]) is None


PROC = Path("/proc")


@pytest.mark.parametrize(
    "check",
    [
        lambda: checks.memory(PROC),
        lambda: checks.pressure(PROC),
        lambda: checks.load(PROC),
        lambda: checks.filesystems(["/", "/nonexistent"]),
        lambda: checks.processes(0.01, PROC, Path("/nonexistent")),
    ],
    ids=["memory", "pressure", "load", "filesystems", "processes"],
)
def test_measurements_have_the_declared_types(check: Callable[[], Any]) -> None:
    """On any Linux host. Each check raises ShapeError otherwise."""
    assert json.loads(json.dumps(check())) is not None


def test_host_without_a_release_has_neither_baseline_nor_network(tmp_path: Path) -> None:
    found = checks.baseline(layout.Layout(tmp_path), 32, recorded=tmp_path / "baseline.json", proc=PROC)
    assert (found["found"], found["network"], found["manifest"]["name"]) == (None, None, None)
    assert checks.release(layout.Layout(tmp_path)) == {"name": None, "damage": []}


def test_damaged_baseline_is_an_error_unless_it_is_ignored(tmp_path: Path) -> None:
    damaged = tmp_path / "baseline.json"
    damaged.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        checks.baseline(layout.Layout(tmp_path), 32, recorded=damaged, proc=PROC)
    assert checks.baseline(layout.Layout(tmp_path), 32, recorded=None, proc=PROC)["found"] is None


def test_running_engines_exclude_zombies_and_children_of_engines(tmp_path: Path) -> None:
    engines, proc = tmp_path / "engines", tmp_path / "proc"
    members: list[facts.ProcessUse] = []
    for pid, parent, state, program in (
        (10, 1, "S", "/usr/bin/python3"),
        (11, 10, "R", f"{engines}/aa/katago"),
        (12, 11, "S", f"{engines}/aa/katago"),
        (13, 10, "Z", f"{engines}/aa/katago"),
    ):
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "exe").symlink_to(program)
        use = {
            "pid": pid,
            "parent": parent,
            "name": "x",
            "state": state,
            "cpu_percent": 0.0,
            "memory_bytes": 1,
        }
        members.append(shape.typed(facts.ProcessUse, use))
    assert checks.running_engines(members, proc, engines) == [11]


METRICS = """\
process_start_time_seconds 1000
katago_requests_total{tool="a",status="ok"} %d
katago_engine_up 1
katago_cache_errors_total 0
"""


def test_traffic_is_the_difference_of_two_scrapes() -> None:
    found = checks.traffic(METRICS % 3, METRICS % 8, 10.04)
    assert found["served"]
    assert (found["seconds"], found["requests"], found["engine_up"]) == (10.0, {"ok": 5.0}, 1.0)
    assert (found["refused"], found["latency_seconds"], found["engine_failures_since_start"]) == (None,) * 3


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (None, METRICS % 1, "is not served"),
        (METRICS % 1, None, "is not served"),
        (METRICS % 1, "<html>", "is not in the exposition format"),
    ],
)
def test_traffic_without_usable_metrics_has_a_reason(before: str | None, after: str | None, why: str) -> None:
    found = checks.traffic(before, after, 10)
    assert not found["served"]
    assert found["why"].startswith(why)


def test_hidden_processes_are_unknown_and_not_missing(tmp_path: Path) -> None:
    with pytest.raises(workers.NoResult, match="hides the processes of other users"):
        checks.processes(0, tmp_path, tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "cgroup").write_text("0::/init.scope\n")
    checks.require_processes(tmp_path)


def test_missing_package_log_is_unknown_and_not_a_host_without_changes(tmp_path: Path) -> None:
    running = workers.Measuring()
    running.start("packages", lambda: checks.packages(tmp_path / "dpkg.log"), 10)
    assert running.results()["packages"]["unknown"] == f"{tmp_path}/dpkg.log does not exist"


@pytest.mark.parametrize(("enabled", "why"), [(True, "is not served"), (False, "is off")])
def test_metrics_that_are_off_say_so(enabled: bool, why: str) -> None:
    config = {
        "server": {"host": "127.0.0.1", "port": 1},
        "metrics": {"host": "127.0.0.1", "port": 1, "enabled": enabled},
    }
    assert endpoints.Endpoints.of(config).unserved.startswith(why)
