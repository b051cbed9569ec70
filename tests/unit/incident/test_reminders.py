"""The reminder host sends reminders on time, once, by the next channel if one fails, and after a reboot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import unit_state
from ansible_collections.katago.fleet.plugins.module_utils.incident import channels, reminder_timer, reminders
from ansible_collections.katago.fleet.plugins.module_utils.incident import state as incident_state
from ansible_collections.katago.fleet.plugins.module_utils.incident.messages import Contact, Setting
from ansible_collections.katago.fleet.plugins.modules import incident_reminders
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import zipapps
from tests import loopback

SECRET = "c4n4ry-s3cr3t"
NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
BO = Contact("senior", "Bo", "bo@go.net")


def incident(**changed: Any) -> incident_state.Incident:
    values: dict[str, Any] = {
        **{"id": "i-1", "opened_at": timestamps.stamp(NOW), "opened_by": "anna@control"},
        **{
            "started": timestamps.stamp(NOW),
            "last_update_at": timestamps.stamp(NOW),
            "severity": "P1",
            "worst": "P1",
        },
        **{"severity_by": "triage", "respond_by": "2026-01-31T08:30:00Z", "lead": "Anna"},
    }
    return incident_state.Incident(**{**values, **changed})


def plan(**changed: Any) -> reminders.Plan:
    return reminders.plan(incident(**changed), BO, Setting("KataGo MCP Server"))


class Host:
    """A reminder host: a directory with one plan, and a server that receives messages."""

    def __init__(self, directory: Path, plan: reminders.Plan, *urls: str) -> None:
        self.path = directory / "i-1.json"
        self.path.write_text(reminders.as_text(plan))
        members = tuple(
            channels.Channel(f"s{number}", "slack", {"url": url, "patience": 2})
            for number, url in enumerate(urls)
        )
        self.groups = [channels.Group("team", "team", members)]

    def tick(self, **span: float) -> Any:
        """Run the timer once, this long after the incident was opened."""
        return reminders.tick(self.path, self.groups, NOW + timedelta(**span))

    def events(self) -> list[str]:
        return [line["event"] for line in reminder_timer.read(self.path.with_suffix(".jsonl"))]


def url(server: loopback.Http) -> str:
    return f"http://127.0.0.1:{server.port}/{SECRET}"


def firsts(server: loopback.Http) -> list[str]:
    """The first line of each text that a server was sent."""
    return [body["text"].splitlines()[0] for _, _, body in server.requests]


def test_overdue_update_is_recorded_and_reminded(tmp_path: Path) -> None:
    with loopback.http() as server:
        host = Host(tmp_path, plan(status="monitoring"), url(server))
        host.tick(minutes=14)
        assert host.events() == []
        host.tick(minutes=15)
        host.tick(minutes=16)
        assert host.events() == ["alarm", "sending", "sent"]
        host.tick(minutes=31)
    assert firsts(server) == ["OVERDUE: update of the KataGo MCP Server incident"] * 2
    line = reminder_timer.read(host.path.with_suffix(".jsonl"))[0]
    assert line["due"] == "2026-01-31T08:15:00Z"


@pytest.mark.parametrize(
    ("changed", "called"),
    [
        ({}, True),
        ({"status": "identified"}, True),
        ({"status": "monitoring"}, False),
        ({"status": "resolved"}, False),
        ({"severity": "P2", "worst": "P2"}, False),
        ({"escalations": [incident_state.Escalation(1, "2026-01-31T08:01:00Z", "senior", "stuck")]}, False),
    ],
)
def test_senior_is_called_if_the_service_is_not_restored_in_ten_minutes(
    tmp_path: Path, changed: dict[str, Any], called: bool
) -> None:
    with loopback.http() as server:
        host = Host(tmp_path, plan(**changed), url(server))
        host.tick(minutes=9, seconds=59)
        assert server.requests == []
        host.tick(minutes=10)
    assert firsts(server) == (["ESCALATION NEEDED: KataGo MCP Server incident"] if called else [])
    if called:
        assert "Next person: Bo (senior)" in server.requests[0][2]["text"]


def test_update_replaces_the_reminder(tmp_path: Path) -> None:
    with loopback.http() as server:
        host = Host(tmp_path, plan(), url(server))
        later = plan(last_update_at="2026-01-31T08:14:00Z", status="monitoring")
        host.path.write_text(reminders.as_text(later))
        host.tick(minutes=28)
        assert server.requests == []
        host.tick(minutes=29)
    assert len(server.requests) == 1


def test_closed_incident_has_no_alarms() -> None:
    assert plan(closed_at="2026-01-31T08:30:00Z").alarms == ()


def test_failed_channel_is_recorded_without_its_secret(tmp_path: Path) -> None:
    with loopback.http(status=500) as failing, loopback.http() as working:
        host = Host(tmp_path, plan(status="monitoring"), url(failing), url(working))
        host.tick(minutes=15)
    assert host.events() == ["alarm", "sending", "failed", "sending", "sent"]
    assert SECRET not in host.path.with_suffix(".jsonl").read_text() + host.path.read_text()


def test_undelivered_alarm_is_tried_again_for_ten_minutes(tmp_path: Path) -> None:
    with loopback.http(status=500) as server:
        host = Host(tmp_path, plan(status="monitoring"), url(server))
        for minute in (15, 16, 25, 26, 29):
            host.tick(minutes=minute)
    assert len(server.requests) == 3
    assert host.events().count("alarm") == 1


def test_host_that_was_down_sends_everything_that_came_due(tmp_path: Path) -> None:
    with loopback.http() as server:
        host = Host(tmp_path, plan(), url(server))
        host.tick(hours=5)
        host.tick(hours=6)
    assert len(server.requests) == reminders.REMINDERS + 1


def test_plan_can_be_read_back_from_its_file() -> None:
    assert reminders.as_plan(reminders.as_text(plan())) == plan()


def test_only_channels_that_a_host_can_reach_are_passed_to_it() -> None:
    team = {"name": "a", "kind": "slack", "url": "https://go.net/x"}
    given = [
        {
            "group": "team",
            "audience": "team",
            "channels": [team, {"name": "b", "kind": "file", "path": "/x"}],
        },
        {"group": "page", "audience": "public", "channels": [team]},
        {"group": "none", "audience": "team", "channels": [{"name": "b", "kind": "file", "path": "/x"}]},
    ]
    # The file on the host keeps the key that its first version had.
    assert reminders.reachable(given) == [{"group": "team", "audience": "team", "sinks": [team]}]


def test_program_needs_only_python(tmp_path: Path) -> None:
    program = tmp_path / "reminders"
    program.write_bytes(zipapps.pack("incident.reminders"))
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    state.mkdir()
    credentials.mkdir()
    with loopback.http() as server:
        chat = {"name": "s", "kind": "slack", "url": url(server)}
        (credentials / "sinks").write_text(
            json.dumps([{"group": "team", "audience": "team", "sinks": [chat]}])
        )
        plan = reminders.plan(incident(status="monitoring"), None, Setting("KataGo"))
        (state / "i-1.json").write_text(reminders.as_text(plan))
        (state / "damaged.json").write_text("{")
        done = subprocess.run(
            [sys.executable, "-I", str(program)],
            env={
                **{name: value for name, value in os.environ.items() if name == "PATH"},
                "STATE_DIRECTORY": str(state),
                "CREDENTIALS_DIRECTORY": str(credentials),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    # A damaged plan does not affect the others.
    assert done.returncode == 1
    assert "damaged.json" in done.stderr
    assert len(server.requests) == reminders.REMINDERS
    assert SECRET not in done.stdout + done.stderr


class Systemd:
    """Records the systemctl commands."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands: list[str] = []
        monkeypatch.setattr(paths, "INCIDENT_STATE", directory / "state")
        monkeypatch.setattr(paths, "INCIDENT_CHANNELS", directory / "etc" / "sinks.json")
        units = {directory / path.name: text for path, text in reminder_timer.units().items()}
        monkeypatch.setattr(reminder_timer, "units", lambda: units)
        monkeypatch.setattr(
            incident_reminders, "systemctl", lambda *words, **_: self.commands.append(" ".join(words))
        )
        monkeypatch.setattr(unit_state, "is_timer_current", lambda *_: "enable --now" in str(self.commands))


def test_timer_is_installed_with_the_first_incident_and_removed_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = Systemd(tmp_path, monkeypatch)
    plans = [paths.INCIDENT_STATE / f"i-{number}.json" for number in (1, 2)]
    assert incident_reminders.arm(plans[0], "plan", SECRET, check=True)
    assert not paths.INCIDENT_CHANNELS.exists()
    for each in plans:
        assert incident_reminders.arm(each, "plan", SECRET, check=False)
        assert not incident_reminders.arm(each, "plan", SECRET, check=False)
    assert paths.INCIDENT_CHANNELS.stat().st_mode & 0o777 == 0o600
    assert systemd.commands[:2] == ["daemon-reload", f"enable --now {paths.REMINDER_TIMER}"]
    assert incident_reminders.disarm(plans[0], check=False)
    assert paths.INCIDENT_CHANNELS.exists()
    assert incident_reminders.disarm(plans[1], check=False)
    assert not paths.INCIDENT_CHANNELS.exists()
    assert not any(path.exists() for path in reminder_timer.units())
    assert f"disable --now {paths.REMINDER_TIMER}" in systemd.commands
    assert not incident_reminders.disarm(plans[1], check=False)


def test_timer_that_a_killed_run_has_not_started_is_started_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = Systemd(tmp_path, monkeypatch)
    plan = paths.INCIDENT_STATE / "i-1.json"
    incident_reminders.arm(plan, "plan", SECRET, check=False)
    systemd.commands.clear()
    assert incident_reminders.arm(plan, "plan", SECRET, check=True)
    assert incident_reminders.arm(plan, "plan", SECRET, check=False)
    assert systemd.commands == ["daemon-reload", f"enable --now {paths.REMINDER_TIMER}"]
    assert not incident_reminders.arm(plan, "plan", SECRET, check=False)


def test_unit_passes_the_secrets_as_a_credential_and_is_hardened() -> None:
    service = next(text for path, text in reminder_timer.units().items() if path.suffix == ".service")
    assert f"LoadCredential=sinks:{paths.INCIDENT_CHANNELS}" in service
    assert "CapabilityBoundingSet=\n" in service
    assert "ProtectSystem=strict" in service
