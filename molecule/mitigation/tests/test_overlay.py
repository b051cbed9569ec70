"""Limits are lowered without a restart, invalid ones are refused, and the host itself restores them."""

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
    """The output of a shell command on a host."""
    return runtime.exec_in(target.container, ["sh", "-c", command])


def health(target: Host) -> dict[str, Any]:
    status, body = fleet.get(target, "/health")
    assert status == 200
    answer: dict[str, Any] = json.loads(body)
    return answer


def unchanged(target: Host) -> dict[str, str]:
    """What a mitigation must not change: the server's process, and the digests of the configuration."""
    return {
        "pid": on(target, "systemctl show katago-mcp.service --property=MainPID --value"),
        "config": on(target, "sha256sum /etc/katago-mcp/config.json /opt/katago-mcp/current/*.*"),
    }


def left(target: Host) -> str:
    """The files of a mitigation on a host."""
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
                "-e visits is 'many'; give a whole number.",
                "-e seconds is 0; give 1 or more.",
                "-e minutes is 100000; give a number from 0.1 to 1440.",
                "mitigate needs -e why: the reason, which is recorded.",
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
        ({"visits": 10, "minuts": 5, "why": WHY}, ["Did you mean minutes?"]),
        ({"undo": True}, ["-e undo was replaced. Run playbooks/mitigate_undo.yml instead."]),
    ],
    ids=["nonsense", "no limit", "above", "no change", "misspelt", "undo"],
)
def test_invalid_input_is_refused_and_nothing_changes(variables: dict[str, Any], messages: list[str]) -> None:
    before = unchanged(FIRST)
    run = fleet.play("mitigate.yml", f"--limit={FIRST.name}", variables=variables)
    assert run.returncode != 0
    output = " ".join(run.output.split())
    assert "Refused; nothing was changed" in output
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


def test_mitigation_and_its_undo_are_finished_by_the_next_run_wherever_they_are_killed() -> None:
    before = unchanged(FIRST)
    until_done("mitigate.yml", visits=300, why=WHY)
    assert health(FIRST)["overlay"]["keys"] == {"katago.maxVisits": 300}
    assert left(FIRST).split() == sorted([OVERLAY, *UNITS])
    assert on(FIRST, "systemctl is-active katago-mcp-overlay-expiry.timer") == "active"
    assert unchanged(FIRST) == before
    until_done("mitigate_undo.yml")
    assert health(FIRST)["overlay"] is None
    assert (unchanged(FIRST), left(FIRST)) == (before, "")
    assert limits(FIRST) == CONFIGURED


def until_done(playbook: str, **given: Any) -> None:
    """Run the playbook again and again, each time killed one task later, until a run finishes."""
    limit = f"--limit={FIRST.name}"
    fleet.killed_everywhere(lambda tasks: fleet.play(playbook, limit, variables=given, kill_before=tasks), 40)


def test_triage_finds_no_fault_on_a_host_with_lowered_limits(tmp_path: Path) -> None:
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
        undone = fleet.play("mitigate_undo.yml", limit)
        on(FIRST, "rm /var/lib/katago-mcp/baseline.json")
    assert (run.returncode, undone.returncode) == (0, 0), run.output + undone.output
    report = json.loads(path.read_text())["hosts"][FIRST.name]
    assert {"P0", "P1"}.isdisjoint(reason["level"] for reason in report["reasons"]), report["reasons"]
    assert "probe" not in [reason["rule"] for reason in report["reasons"]]
    assert "restart.yml" not in str(report["command"])
    assert report["facts"]["probe"]["value"]["visits"] == 10
    assert any("a probe has 10 visits, the baseline has 32" in note for note in report["notes"])
    assert refused.returncode != 0
    assert "a probe has 10 visits, the baseline has 32" in " ".join(refused.output.split())


@pytest.fixture(scope="module")
def lowered() -> dict[str, dict[str, str]]:
    """Lowers the limits of both hosts for an hour; the earlier result of `unchanged`, by host."""
    before = {target.name: unchanged(target) for target in (FIRST, SECOND)}
    run = fleet.play("mitigate.yml", variables={**LIMITS, "why": WHY})
    assert run.returncode == 0, run.output
    assert run.output.count("Lowered until") >= 2
    return before


@pytest.mark.parametrize("target", [FIRST, SECOND], ids=lambda host: host.name)
def test_lowered_limits_show_in_every_interface_and_nothing_was_restarted(
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


def test_restart_keeps_lowered_limits_and_reports_them(lowered: dict[str, dict[str, str]]) -> None:
    run = fleet.play("restart.yml", f"--limit={FIRST.name}")
    assert run.returncode == 0, run.output
    assert "limits are lowered until" in run.output
    assert limits(FIRST)["maxVisits"] == 4
    assert unchanged(FIRST)["config"] == lowered[FIRST.name]["config"]


def test_undo_restores_the_limits_and_leaves_no_files(lowered: dict[str, dict[str, str]]) -> None:
    before = unchanged(FIRST)
    run = fleet.play("mitigate_undo.yml", f"--limit={FIRST.name}")
    assert run.returncode == 0, run.output
    assert (unchanged(FIRST), left(FIRST)) == (before, "")
    assert before["config"] == lowered[FIRST.name]["config"]
    assert health(FIRST)["overlay"] is None
    assert limits(FIRST) == CONFIGURED


def test_mitigation_survives_a_reboot_and_ends_without_the_control_node(
    lowered: dict[str, dict[str, str]],
) -> None:
    """At the end, the first host is up, the second one is down, and no control node is connected."""
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
