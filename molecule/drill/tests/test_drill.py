"""R40: drills on a fleet behind two load balancers: every scenario, and everything that can go wrong.

The tests depend on their order. Molecule has run site.yml before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from lab import paths, runtime
from lab.hosts import FLEET, LOAD_BALANCER
from tests import browser, fleet, loopback

TARGET = fleet.LAB.of_group(FLEET)[0]
HOSTS = (*fleet.LAB.of_group(FLEET), *fleet.LAB.of_group(LOAD_BALANCER))
ROOT = fleet.LAB.directory / "records"
RECORDS = DrillRecords(ROOT)
# The lab's hosts share the processors of this machine, so checks need long deadlines.
SLOW = {"triage_patience": 60, "drill_landing_seconds": 60}
REPOSITORY = {"backup_repository": "/srv/katago", "backup_password": "a password of the test"}
# A container has no clock of its own. During the game day, the hosts have no TLS.
IMPOSSIBLE = frozenset({"clock_skewed", "certificate_expired"})
INJECTED_WITHIN = 180


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    """The hosts repair themselves, and have backups."""
    for playbook in ("self_healing.yml", "backup.yml"):
        done = fleet.play(playbook, variables=REPOSITORY)
        assert done.returncode == 0, done.output


def drills() -> dict[str, Record]:
    records, problems = RECORDS.load_all()
    assert problems == []
    return {each["id"]: each for each in records}


def practise(scenario: str, **variables: Any) -> tuple[fleet.Run, Record]:
    """Run a drill; its output and its record."""
    before = drills()
    run = fleet.play("drill.yml", variables={"scenario": scenario, "minutes": 3, **SLOW, **variables})
    (new,) = [each for name, each in drills().items() if name not in before]
    return run, new


@contextlib.contextmanager
def injected(scenario: str, minutes: float = 5) -> Iterator[tuple[subprocess.Popen[bytes], Record]]:
    """A drill whose fault is injected, and which nothing recovers."""
    before = drills()
    variables = {
        "scenario": scenario,
        "minutes": minutes,
        "drill_responds": False,
        "drill_settle_seconds": 600,
        **SLOW,
    }
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
        "LAB_NAME": fleet.LAB.name,
    }
    process = subprocess.Popen(
        ["ansible-playbook", "playbooks/drill.yml", f"--extra-vars={json.dumps(variables)}"],
        cwd=paths.ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        fleet.eventually(
            lambda: any(each["fault"]["injected"] for name, each in drills().items() if name not in before),
            within=INJECTED_WITHIN,
            what="the fault is injected",
        )
        (new,) = [each for name, each in drills().items() if name not in before]
        yield process, new
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def fault_of(host: Any = TARGET) -> dict[str, Any]:
    """What the host remembers of its last drill."""
    text = runtime.exec_in(host.container, ["cat", "/var/lib/katago-drill/drill.json"])
    content: dict[str, Any] = json.loads(text)["drill"]
    return content


def expect_clean() -> None:
    """Expect that no host has a timer of a drill, and that the fleet is validated."""
    for host in HOSTS:
        units = runtime.exec_in(
            host.container, ["systemctl", "list-units", "--all", "--plain", "katago-drill*"]
        )
        assert "katago-drill-undo.timer" not in units, host.name
    done = fleet.play("validate.yml")
    assert done.returncode == 0, done.output


def test_drill_is_refused_on_production_and_on_an_unhealthy_fleet() -> None:
    run = fleet.play("drill.yml", variables={"scenario": "service_down", "drill_environment": "production"})
    assert run.returncode != 0
    assert "drill_allow_production" in run.output
    runtime.exec_in(TARGET.container, ["systemctl", "stop", "katago-mcp.service"])
    try:
        run = fleet.play("drill.yml", variables={"scenario": "service_down", **SLOW})
        assert run.returncode != 0
        assert "The fleet is not healthy" in run.output
    finally:
        runtime.exec_in(TARGET.container, ["systemctl", "start", "katago-mcp.service"])
    assert drills() == {}
    fleet.eventually(lambda: fleet.get(TARGET, "/ready")[0] == 200, within=120, what="the host is ready")


def test_injector_that_does_nothing_makes_the_drill_invalid() -> None:
    run, drill = practise("engine_hung", drill_injects=False, drill_landing_seconds=5)
    assert run.returncode != 0
    assert drill["outcome"] == "invalid"
    expect_clean()


def test_response_that_is_disabled_makes_the_drill_fail() -> None:
    run, drill = practise("error_burst", drill_responds=False, drill_settle_seconds=5)
    assert run.returncode != 0
    assert drill["outcome"] == "failed"
    assert drill["undo"]["by"] == "drill"
    expect_clean()


def test_abort_undoes_everything_and_ends_the_drill() -> None:
    with injected("error_burst") as (process, drill):
        run = fleet.play("drill_abort.yml")
        assert run.returncode == 0, run.output
        assert fault_of()["phase"] == "undone"
        process.wait(timeout=120)
    assert drills()[drill["id"]]["outcome"] == "aborted"
    expect_clean()


def test_run_that_is_killed_leaves_hosts_that_undo_themselves() -> None:
    with injected("error_burst", minutes=1) as (process, drill):
        os.killpg(process.pid, signal.SIGKILL)
        armed = time.monotonic()
        ttl = fault_of()["ttl"]
        fleet.eventually(
            lambda: fault_of()["phase"] == "undone", within=ttl + 5, what="the host undoes the fault"
        )
        assert fault_of()["undone_by"] == "expiry"
        assert time.monotonic() - armed < ttl + 5
    assert drills()[drill["id"]]["outcome"] == "running"
    run = fleet.play("drill_abort.yml")
    assert run.returncode == 0, run.output
    assert drills()[drill["id"]]["outcome"] == "aborted"
    shown = fleet.play("incident_show.yml")
    assert "No incident is open." in shown.output
    expect_clean()


def test_game_day_recovers_from_every_scenario_unattended() -> None:
    before = drills()
    run = fleet.play("drill_game_day.yml", variables={"minutes": 4, **SLOW, **REPOSITORY})
    print(run.output)
    new = {each["scenario"]: each for name, each in drills().items() if name not in before}
    assert new.keys() == SCENARIOS.keys()
    outcomes = {name: each["outcome"] for name, each in new.items()}
    assert {
        name for name, outcome in outcomes.items() if outcome == "passed"
    } == SCENARIOS.keys() - IMPOSSIBLE, {
        name: each["reason"] for name, each in new.items() if each["outcome"] != "passed"
    }
    for name, drill in new.items():
        if name not in IMPOSSIBLE:
            assert drill["fault"]["seen"], name
            assert drill["data"]["lost"] == 0, name
    (table,) = (ROOT / "reports").glob("game-day-*.md")
    assert table.read_text().count("| passed |") == len(SCENARIOS) - len(IMPOSSIBLE)
    expect_clean()


def test_expired_certificate_is_replaced_unattended() -> None:
    authority = loopback.Authority()
    certificate, key = authority.issue("katago.example.org")
    secured = {
        "katago_mcp_tls_certificate": certificate,
        "katago_mcp_tls_key": key,
        "load_balancer_server_ca": authority.pem,
        "soak_minutes": 0,
    }
    deployed = fleet.play("deploy.yml", variables=secured)
    assert deployed.returncode == 0, deployed.output
    del secured["soak_minutes"]
    run, drill = practise("certificate_expired", **secured)
    assert run.returncode == 0, run.output
    assert drill["outcome"] == "passed", drill["reason"]
    assert drill["fault"]["seen"]
    deployed = fleet.play("deploy.yml", variables={"soak_minutes": 0})
    assert deployed.returncode == 0, deployed.output
    expect_clean()


def test_pages_of_all_drills_in_a_real_browser(tmp_path: Path) -> None:
    run = fleet.play("drill_report.yml")
    assert run.returncode == 0, run.output
    titles = {ROOT / "drills" / name / "scorecard.html": f"Scorecard of {name}" for name in drills()}
    reports = list((ROOT / "reports").glob("drills-*.html"))
    assert reports
    titles |= dict.fromkeys(reports, "Drills in")
    with browser.started(tmp_path) as chromium:
        for page, title in titles.items():
            for width in (390, 1280):
                for dark in (False, True):
                    shown = chromium.show(page, width, dark=dark)
                    assert title in shown.text
                    assert shown.page_width <= width
                    assert (shown.asked, shown.trouble) == ([page.as_uri()], [])
