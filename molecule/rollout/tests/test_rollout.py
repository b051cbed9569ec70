"""A rollout visits only hosts that need a change, starts with a canary, and stops at the first failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import bad_releases, fleet, hosts

FIRST, SECOND, THIRD = (host.name for host in fleet.LAB.hosts())
NAMES = (FIRST, SECOND, THIRD)
SOAK = {"soak_minutes": 0.5}


@pytest.fixture(scope="module")
def connections() -> dict[str, Any]:
    return {name: hosts.connect(name) for name in NAMES}


def states(connections: dict[str, Any]) -> dict[str, Any]:
    return {name: hosts.untouched(host) for name, host in connections.items()}


def releases(connections: dict[str, Any]) -> list[str]:
    return [hosts.current(host) for host in connections.values()]


def summary() -> dict[str, Any]:
    """The summary of the last rollout."""
    made: dict[str, Any] = json.loads((fleet.LAB.directory / "records" / "rollout_result.json").read_text())
    return made


def test_fleet_that_needs_no_change_is_validated_and_not_visited(connections: dict[str, Any]) -> None:
    before = states(connections)
    run = fleet.play("deploy.yml")
    assert run.returncode == 0, run.output
    assert "deploy: no host needs a change" in run.output
    assert run.output.count("runs and is validated.") == 3
    assert "Keep the evidence" not in run.output
    assert states(connections) == before


def test_check_mode_shows_the_plan_and_changes_nothing(connections: dict[str, Any]) -> None:
    before = states(connections)
    run = fleet.play("deploy.yml", "--check", variables={"katago_mcp_max_visits": 991, **SOAK})
    assert run.returncode == 0, run.output
    assert "deploy: 3 of 3 hosts change (predicted)" in run.output
    assert f"canary   {FIRST}: " in run.output
    assert f"30 s, compared with {SECOND}, {THIRD}" in run.output
    assert run.output.count("Would run release") == 3
    assert states(connections) == before


def test_canary_that_is_no_host_is_refused_before_any_switch(connections: dict[str, Any]) -> None:
    before = releases(connections)
    run = fleet.play("deploy.yml", variables={"katago_mcp_max_visits": 991, "canary": "katago-9"})
    assert run.returncode != 0
    assert "canary is katago-9, which is not a host of this run" in run.output
    assert releases(connections) == before


@pytest.mark.parametrize("fault", bad_releases.FAULTS)
def test_canary_that_fails_its_soak_is_rolled_back_and_the_rest_is_untouched(
    connections: dict[str, Any], tmp_path: Path, fault: str
) -> None:
    before = states(connections)
    variables = {"katago_mcp_server": str(bad_releases.that_misbehaves(tmp_path, fault)), **SOAK}
    run = fleet.play("deploy.yml", variables=variables)
    assert run.returncode != 0
    assert "The soak failed: " in run.output, run.output
    after = states(connections)
    assert after[FIRST][0] == before[FIRST][0]
    assert [after[name] for name in (SECOND, THIRD)] == [before[name] for name in (SECOND, THIRD)]
    _, good, bad, back, again = after[FIRST][2][len(before[FIRST][2]) - 1 :][-5:]
    assert (good["verdict"], bad["verdict"], again["verdict"]) == ("good", "bad", "good")
    assert (back["release"], back["how"]) == (before[FIRST][0], "rollback")
    made = summary()
    assert (made["failed"], made["not_touched"]) == ([FIRST], [SECOND, THIRD])
    assert made["soak"]["state"] == "failed"
    assert fleet.play("validate.yml").returncode == 0


def test_run_that_is_killed_in_the_soak_repeats_the_soak(connections: dict[str, Any]) -> None:
    before = releases(connections)
    variables = {"katago_mcp_max_visits": 992, **SOAK}
    killed = fleet.play("deploy.yml", variables=variables, kill_before=2, counts_from="Sample the service")
    assert killed.returncode == -9, killed.output
    switched = hosts.current(connections[FIRST])
    assert switched != before[0]
    assert releases(connections)[1:] == before[1:]
    process = hosts.main_pid(connections[FIRST])
    run = fleet.play("deploy.yml", variables=variables)
    assert run.returncode == 0, run.output
    assert f"soak     {FIRST} again, which an interrupted run has switched, 30 s" in run.output
    assert hosts.main_pid(connections[FIRST]) == process
    made = summary()
    assert (made["changed"], list(made["skipped"])) == ([SECOND, THIRD], [FIRST])
    assert made["soak"]["state"] == "passed"
    assert "Rollout: batch 1 of 2: " in run.output


def test_rollout_killed_between_tasks_is_continued_by_the_same_command(connections: dict[str, Any]) -> None:
    """Every fourth task: each attempt works on three hosts."""
    variables = {"katago_mcp_max_visits": 994, "soak_minutes": 0}
    switches = {name: len(hosts.history(host)) for name, host in connections.items()}

    def attempt(tasks: int) -> fleet.Run:
        return fleet.play(
            "deploy.yml",
            variables=variables,
            kill_before=4 * tasks,
            counts_from="Install the hashed tokens and the certificate",
        )

    fleet.killed_everywhere(attempt, 20)
    for name, host in connections.items():
        switched, verdict = hosts.history(host)[switches[name] :]
        assert (switched["verdict"], verdict["verdict"]) == (None, "good")
        assert not host.file(hosts.LOCK).exists


def test_rollback_of_a_fleet_goes_back_one_release_on_every_host(connections: dict[str, Any]) -> None:
    before = releases(connections)
    run = fleet.play("rollback.yml")
    assert run.returncode == 0, run.output
    assert f"canary   {FIRST}: {before[0]} -> " in run.output
    assert "there is no soak (soak_minutes is 0)" in run.output
    assert not set(releases(connections)) & set(before)


def test_rollback_that_was_killed_does_not_go_further_back(connections: dict[str, Any]) -> None:
    """The canary and the first batch are done, and only the third host is left."""
    assert (
        fleet.play("deploy.yml", variables={"katago_mcp_max_visits": 995, "soak_minutes": 0}).returncode == 0
    )
    before = releases(connections)
    killed = fleet.play("rollback.yml", kill_before=1, counts_from="Stop when an earlier host failed")
    assert killed.returncode == -9, killed.output
    first = hosts.current(connections[FIRST])
    assert first != before[0]
    run = fleet.play("rollback.yml")
    assert run.returncode == 0, run.output
    assert hosts.current(connections[FIRST]) == first
    assert not set(releases(connections)) & set(before)
