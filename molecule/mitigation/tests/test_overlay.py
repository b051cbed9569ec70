"""Limits are lowered without a restart, refused when they are none, and given back by the host alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab import runtime
from lab.hosts import Host
from tests import fleet
from tests.clients import call, limits

FIRST, SECOND = fleet.LAB.hosts()
OVERLAY = "/var/lib/katago-mcp/overlay.json"
UNITS = [f"/etc/systemd/system/katago-mcp-overlay-expiry.{kind}" for kind in ("service", "timer")]
LIMITS = {"visits": 4, "seconds": 10, "concurrent": 1, "cache_mb": 64, "review_visits": 500}
LOWERED = {
    "katago.maxVisits": 4,
    "katago.defaultVisits": 4,
    "katago.maxTime": 10,
    "katago.maxReviewVisits": 500,
    "cache.maxSizeBytes": 64 << 20,
}
WHY = "the queue is long"


def on(target: Host, command: str) -> str:
    """What a shell on a host prints."""
    return runtime.exec_in(target.container, ["sh", "-c", command])


def health(target: Host) -> dict[str, Any]:
    status, body = fleet.get(target, "/health")
    assert status == 200
    answer: dict[str, Any] = json.loads(body)
    return answer


def unchanged(target: Host) -> dict[str, str]:
    """What no mitigation changes: the server's process, and the configuration by its digest."""
    return {
        "pid": on(target, "systemctl show katago-mcp.service --property=MainPID --value"),
        "config": on(target, "sha256sum /etc/katago-mcp/config.json /opt/katago-mcp/current/*.*"),
    }


def left(target: Host) -> str:
    """What lies on a host of a mitigation."""
    return on(target, f"ls {OVERLAY} {' '.join(UNITS)} 2>/dev/null || true").strip()


def is_ready(target: Host) -> bool:
    return fleet.get(target, "/ready")[0] == 200


CONFIGURED = {"maxVisits": 1000, "defaultVisits": 200, "maxTime": 30, "maxReviewVisits": 200_000}


@pytest.mark.parametrize(
    ("variables", "messages"),
    [
        (
            {"visits": "many", "seconds": 0, "minutes": 100_000},
            [
                "visits is 'many'; give a whole number from 1.",
                "seconds is 0; give a number from 1.",
                "minutes is 100000; give a number from 0.1 to 1440.",
                "why has 0 characters; give the reason",
            ],
        ),
        ({"why": WHY}, ["No limit is given: give one or more of visits, default_visits, seconds"]),
        (
            {"visits": 1001, "cache_mb": 4096, "why": WHY},
            [
                "visits is 1001, and katago.maxVisits is configured as 1000: give less.",
                "cache_mb is 4096, and cache.maxSizeBytes is configured as 256: give less.",
            ],
        ),
        ({"visits": 1000, "why": WHY}, ["Nothing would be lowered: katago.maxVisits is 1000 already."]),
        ({"visits": 10, "minuts": 5, "why": WHY}, ["did you mean minutes?"]),
        ({"undo": True, "visits": 10}, ["undo gives all limits back and takes none: visits is given."]),
    ],
    ids=["nonsense", "no limit", "above", "no change", "misspelt", "undo"],
)
def test_bad_input_is_refused_with_nothing_changed(variables: dict[str, Any], messages: list[str]) -> None:
    before = unchanged(FIRST)
    run = fleet.play("mitigate.yml", f"--limit={FIRST.name}", variables=variables)
    assert run.returncode != 0
    output = " ".join(run.output.split())
    assert "Refused; nothing was changed on this host." in output
    for message in messages:
        assert message in output
    assert unchanged(FIRST) == before
    assert left(FIRST) == ""
    assert health(FIRST)["overlay"] is None


def test_check_mode_shows_the_difference_and_changes_nothing() -> None:
    before = unchanged(FIRST)
    run = fleet.play(
        "mitigate.yml", f"--limit={FIRST.name}", "--check", "--diff", variables={**LIMITS, "why": WHY}
    )
    assert run.returncode == 0, run.output
    for line in ("-katago.maxVisits: 1000", "+katago.maxVisits: 4", "+cache.maxSizeBytes: 67108864"):
        assert line in run.output.splitlines(), run.output
    assert (unchanged(FIRST), left(FIRST)) == (before, "")


def test_killed_between_any_two_tasks_and_repeated_it_lowers_and_gives_back() -> None:
    before = unchanged(FIRST)
    until_done(visits=300, why=WHY)
    assert health(FIRST)["overlay"]["keys"] == {"katago.maxVisits": 300}
    assert left(FIRST).split() == sorted([OVERLAY, *UNITS])
    assert on(FIRST, "systemctl is-active katago-mcp-overlay-expiry.timer") == "active"
    assert unchanged(FIRST) == before
    until_done(undo=True)
    assert health(FIRST)["overlay"] is None
    assert (unchanged(FIRST), left(FIRST)) == (before, "")
    assert limits(FIRST) == CONFIGURED


def until_done(**given: Any) -> None:
    """Have every run of mitigate.yml killed one task later than the one before, until one is at its end."""
    limit = f"--limit={FIRST.name}"
    fleet.killed_everywhere(
        lambda tasks: fleet.play("mitigate.yml", limit, variables=given, kill_before=tasks), 40
    )


def test_triage_finds_a_host_well_whose_limits_are_lowered(tmp_path: Path) -> None:
    limit, path = f"--limit={FIRST.name}", tmp_path / "triage.json"
    patient = {"triage_window": 2, "triage_patience": 60, "triage_baseline_uptime": 1}
    on(FIRST, "journalctl --quiet --rotate; journalctl --quiet --vacuum-time=1s")
    recorded = fleet.play("baseline.yml", limit, variables=patient)
    assert recorded.returncode == 0, recorded.output
    run = fleet.play("mitigate.yml", limit, variables={"visits": 10, "why": WHY})
    assert run.returncode == 0, run.output
    try:
        assert limits(FIRST)["maxVisits"] == 10
        run = fleet.play("triage.yml", limit, variables={**patient, "triage_json": str(path)})
        refused = fleet.play("baseline.yml", limit, variables=patient)
    finally:
        undone = fleet.play("mitigate.yml", limit, variables={"undo": True})
        on(FIRST, "rm /var/lib/katago-mcp/baseline.json")
    assert (run.returncode, undone.returncode) == (0, 0), run.output + undone.output
    found = json.loads(path.read_text())["hosts"][FIRST.name]
    assert {"P0", "P1"}.isdisjoint(reason["level"] for reason in found["reasons"]), found["reasons"]
    assert "probe" not in [reason["rule"] for reason in found["reasons"]]
    assert "restart.yml" not in str(found["command"])
    assert found["facts"]["probe"]["value"]["visits"] == 10
    assert any("a probe has 10 visits, the baseline has 32" in note for note in found["notes"])
    assert refused.returncode != 0
    assert "a probe has 10 visits, the baseline has 32" in " ".join(refused.output.split())


@pytest.fixture(scope="module")
def lowered() -> dict[str, dict[str, str]]:
    """Both hosts with limits lowered for an hour; what was there before, by host."""
    before = {target.name: unchanged(target) for target in (FIRST, SECOND)}
    run = fleet.play("mitigate.yml", variables={**LIMITS, "why": WHY})
    assert run.returncode == 0, run.output
    assert run.output.count("Lowered until") >= 2
    return before


@pytest.mark.parametrize("target", [FIRST, SECOND], ids=lambda host: host.name)
def test_lowered_limits_show_everywhere_and_nothing_was_restarted(
    lowered: dict[str, dict[str, str]], target: Host
) -> None:
    shown = health(target)["overlay"]
    assert {key: shown["keys"][key] for key in LOWERED} == LOWERED
    assert shown["why"] == WHY
    assert fleet.metric(target, "katago_mcp_overlay_active") == 1
    assert fleet.metric(target, "katago_cache_max_size_bytes") == 64 << 20
    assert limits(target) == {"maxVisits": 4, "defaultVisits": 4, "maxTime": 10, "maxReviewVisits": 500}
    assert unchanged(target) == lowered[target.name]
    timer = on(target, "systemctl show katago-mcp-overlay-expiry.timer --property=UnitFileState,ActiveState")
    assert set(timer.split()) == {"UnitFileState=enabled", "ActiveState=active"}


@pytest.mark.usefixtures("lowered")
def test_request_above_the_lowered_limit_is_refused_with_what_is_accepted() -> None:
    refused = call(FIRST, "analyzePosition", {"position": {"boardXSize": 9, "boardYSize": 9}, "maxVisits": 5})
    assert refused.is_error
    assert refused.content[0].text.startswith("limit_exceeded: ")
    assert "1 to 4" in refused.content[0].text


def test_restart_keeps_what_was_lowered_and_says_so(lowered: dict[str, dict[str, str]]) -> None:
    run = fleet.play("restart.yml", f"--limit={FIRST.name}")
    assert run.returncode == 0, run.output
    assert "limits are lowered until" in run.output
    assert limits(FIRST)["maxVisits"] == 4
    assert unchanged(FIRST)["config"] == lowered[FIRST.name]["config"]


def test_undo_gives_the_limits_back_and_leaves_nothing(lowered: dict[str, dict[str, str]]) -> None:
    before = unchanged(FIRST)
    run = fleet.play("mitigate.yml", f"--limit={FIRST.name}", variables={"undo": True})
    assert run.returncode == 0, run.output
    assert (unchanged(FIRST), left(FIRST)) == (before, "")
    assert before["config"] == lowered[FIRST.name]["config"]
    assert health(FIRST)["overlay"] is None
    assert limits(FIRST) == CONFIGURED


def test_mitigation_outlives_a_reboot_and_then_ends_without_the_controller(
    lowered: dict[str, dict[str, str]],
) -> None:
    """The second host is down when its time is over, the first one is up; nobody is connected to either."""
    runtime.podman("restart", "--time=5", SECOND.container)
    fleet.eventually(lambda: is_ready(SECOND), within=90, what="the service is ready after the boot")
    assert health(SECOND)["overlay"]["keys"]["katago.maxVisits"] == 4
    assert on(SECOND, "systemctl is-active katago-mcp-overlay-expiry.timer") == "active"

    run = fleet.play("mitigate.yml", variables={"visits": 300, "why": WHY, "minutes": 0.7})
    assert run.returncode == 0, run.output
    before = unchanged(FIRST)
    for target in (FIRST, SECOND):
        assert health(target)["overlay"]["keys"] == {"katago.maxVisits": 300}
    runtime.podman("kill", SECOND.container)
    fleet.eventually(lambda: left(FIRST) == "", within=60, what="the first host has removed all of it")
    assert unchanged(FIRST) == before
    assert before["config"] == lowered[FIRST.name]["config"]
    assert health(FIRST)["overlay"] is None
    assert limits(FIRST) == CONFIGURED
    runtime.podman("start", SECOND.container)
    fleet.eventually(lambda: is_ready(SECOND), within=90, what="the service is ready after the second boot")
    fleet.eventually(lambda: left(SECOND) == "", within=30, what="the second host has removed all of it")
    assert unchanged(SECOND)["config"] == lowered[SECOND.name]["config"]
    assert limits(SECOND) == CONFIGURED
