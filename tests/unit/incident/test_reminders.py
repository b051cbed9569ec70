"""A host reminds by itself of what did not happen: at the time, once, past dead sinks, after a reboot."""

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
            "told_at": timestamps.stamp(NOW),
            "severity": "P1",
            "worst": "P1",
        },
        **{"severity_by": "triage", "respond_by": "2026-01-31T08:30:00Z", "lead": "Anna"},
    }
    return incident_state.Incident(**{**values, **changed})


def plan(**changed: Any) -> reminders.Plan:
    return reminders.plan(incident(**changed), BO, Setting("KataGo MCP Server"))


class Host:
    """A timekeeper: a directory with one plan, and a server that is told."""

    def __init__(self, directory: Path, made: reminders.Plan, *urls: str) -> None:
        self.path = directory / "i-1.json"
        self.path.write_text(reminders.as_text(made))
        members = tuple(
            channels.Sink(f"s{number}", "slack", {"url": url, "patience": 2})
            for number, url in enumerate(urls)
        )
        self.groups = [channels.Group("team", "team", members)]

    def tick(self, **span: float) -> Any:
        """The timer's minute, that long after the opening."""
        return reminders.tick(self.path, self.groups, NOW + timedelta(**span))

    def events(self) -> list[str]:
        return [line["event"] for line in reminder_timer.read(self.path.with_suffix(".jsonl"))]


def url(server: loopback.Http) -> str:
    return f"http://127.0.0.1:{server.port}/{SECRET}"


def firsts(server: loopback.Http) -> list[str]:
    """The first line of each text that a server was sent."""
    return [body["text"].splitlines()[0] for _, _, body in server.requests]


def test_update_that_did_not_come_is_an_event_and_a_reminder(tmp_path: Path) -> None:
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
def test_service_that_is_not_restored_in_ten_minutes_calls_a_senior(
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


def test_update_takes_the_reminder_back(tmp_path: Path) -> None:
    with loopback.http() as server:
        host = Host(tmp_path, plan(), url(server))
        later = plan(told_at="2026-01-31T08:14:00Z", status="monitoring")
        host.path.write_text(reminders.as_text(later))
        host.tick(minutes=28)
        assert server.requests == []
        host.tick(minutes=29)
    assert len(server.requests) == 1


def test_closed_incident_has_no_alarms() -> None:
    assert plan(closed_at="2026-01-31T08:30:00Z").alarms == ()


def test_dead_sink_is_passed_and_recorded_without_its_secret(tmp_path: Path) -> None:
    with loopback.http(status=500) as dead, loopback.http() as well:
        host = Host(tmp_path, plan(status="monitoring"), url(dead), url(well))
        host.tick(minutes=15)
    assert host.events() == ["alarm", "sending", "failed", "sending", "sent"]
    assert SECRET not in host.path.with_suffix(".jsonl").read_text() + host.path.read_text()


def test_alarm_that_nobody_took_is_tried_for_ten_minutes(tmp_path: Path) -> None:
    with loopback.http(status=500) as server:
        host = Host(tmp_path, plan(status="monitoring"), url(server))
        for minute in (15, 16, 25, 26, 29):
            host.tick(minutes=minute)
    assert len(server.requests) == 3
    assert host.events().count("alarm") == 1


def test_host_that_was_down_tells_what_came_due_meanwhile(tmp_path: Path) -> None:
    with loopback.http() as server:
        host = Host(tmp_path, plan(), url(server))
        host.tick(hours=5)
        host.tick(hours=6)
    assert len(server.requests) == reminders.REMINDERS + 1


def test_plan_survives_its_file() -> None:
    assert reminders.as_plan(reminders.as_text(plan())) == plan()


def test_only_sinks_that_a_host_reaches_are_handed_over() -> None:
    team = {"name": "a", "kind": "slack", "url": "https://go.net/x"}
    given = [
        {"group": "team", "audience": "team", "sinks": [team, {"name": "b", "kind": "file", "path": "/x"}]},
        {"group": "page", "audience": "public", "sinks": [team]},
        {"group": "none", "audience": "team", "sinks": [{"name": "b", "kind": "file", "path": "/x"}]},
    ]
    assert reminders.reachable(given) == [{"group": "team", "audience": "team", "sinks": [team]}]


def test_program_runs_with_nothing_but_python(tmp_path: Path) -> None:
    program = tmp_path / "timekeeper"
    program.write_bytes(zipapps.pack("incident.reminders"))
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    state.mkdir()
    credentials.mkdir()
    with loopback.http() as server:
        sink = {"name": "s", "kind": "slack", "url": url(server)}
        (credentials / "sinks").write_text(
            json.dumps([{"group": "team", "audience": "team", "sinks": [sink]}])
        )
        made = reminders.plan(incident(status="monitoring"), None, Setting("KataGo"))
        (state / "i-1.json").write_text(reminders.as_text(made))
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
    # A plan that is damaged costs the others nothing.
    assert done.returncode == 1
    assert "damaged.json" in done.stderr
    assert len(server.requests) == reminders.REMINDERS
    assert SECRET not in done.stdout + done.stderr


class Systemd:
    """What a host was asked to do."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        monkeypatch.setattr(paths, "INCIDENT_STATE", directory / "state")
        monkeypatch.setattr(paths, "INCIDENT_CHANNELS", directory / "etc" / "sinks.json")
        units = {directory / path.name: text for path, text in reminder_timer.units().items()}
        monkeypatch.setattr(reminder_timer, "units", lambda: units)
        monkeypatch.setattr(
            incident_reminders, "systemctl", lambda *words, **_: self.asked.append(" ".join(words))
        )


def test_timer_comes_with_the_first_incident_and_goes_with_the_last(
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
    assert systemd.asked[:2] == ["daemon-reload", f"enable --now {paths.REMINDER_TIMER}"]
    assert incident_reminders.disarm(plans[0], check=False)
    assert paths.INCIDENT_CHANNELS.exists()
    assert incident_reminders.disarm(plans[1], check=False)
    assert not paths.INCIDENT_CHANNELS.exists()
    assert not any(path.exists() for path in reminder_timer.units())
    assert f"disable --now {paths.REMINDER_TIMER}" in systemd.asked
    assert not incident_reminders.disarm(plans[1], check=False)


def test_unit_hands_the_secrets_over_and_keeps_everything_else_out() -> None:
    service = next(text for path, text in reminder_timer.units().items() if path.suffix == ".service")
    assert f"LoadCredential=sinks:{paths.INCIDENT_CHANNELS}" in service
    assert "CapabilityBoundingSet=\n" in service
    assert "ProtectSystem=strict" in service
