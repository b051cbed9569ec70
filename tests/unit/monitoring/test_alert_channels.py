"""Channels of incidents as receivers of Alertmanager: what is sent, where secrets are, what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.modules import monitoring_config
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import (
    alert_channels,
    configuration,
)
from tests import loopback
from tests.unit.monitoring import alertmanagers

needs_alertmanager = pytest.mark.skipif(
    not alertmanagers.PROGRAM.exists(), reason="Alertmanager is not installed"
)
PATIENCE = 60.0
EVERY = ["P0", "P1", "P2", "P3"]
CHAT: dict[str, Any] = {"name": "chat", "kind": "slack", "url": "https://chat.fleet.test/hooks/s3cret"}
HOOK: dict[str, Any] = {
    "name": "hook",
    "kind": "webhook",
    "url": "https://hook.fleet.test/alerts",
    "headers": {"Authorization": "Bearer t0ken"},
}
MAIL: dict[str, Any] = {
    "name": "mail",
    "kind": "smtp",
    "host": "mail.fleet.test",
    "from": "alerts@fleet.test",
    "to": ["go@fleet.test", "lead@fleet.test"],
    "username": "ops",
    "password": "passw0rd",
}


def used(*channels: dict[str, Any], audience: str = "team", **route: Any) -> alert_channels.Channels:
    groups = [{"group": "team", "audience": audience, "channels": list(channels)}]
    return alert_channels.used([{"group": "team", "severities": EVERY, **route}], groups)


def rendered(found: alert_channels.Channels) -> str:
    """Alertmanager's file with these receivers."""
    ports = configuration.Ports(9095, 9093, 9115, 9177)
    files = configuration.files(
        [], monitor="mon-1", ports=ports, receivers=found.receivers, heartbeat="", reference="a.md", name="go"
    )
    return files["alertmanager.yml"]


def test_secrets_are_in_files_and_not_in_the_configuration() -> None:
    found = used(CHAT, HOOK, MAIL)
    assert found.problems == []
    assert found.secrets == {
        "team-chat.url": CHAT["url"],
        "team-hook.authorization": "t0ken",
        "team-mail.password": "passw0rd",
    }
    text = rendered(found)
    for secret in ("s3cret", "t0ken", "passw0rd"):
        assert secret not in text
    for name in found.secrets:
        assert f"/run/credentials/katago-alertmanager.service/{name}" in text


def test_unit_loads_every_secret_and_its_lines_have_none() -> None:
    groups = [{"group": "team", "audience": "team", "channels": [CHAT, MAIL]}]
    lines = alert_channels.credentials([{"group": "team", "severities": EVERY}], groups)
    assert lines == [
        f"{name}:/etc/katago-monitoring/current/secrets/{name}"
        for name in ("team-chat.url", "team-mail.password")
    ]


def test_secrets_are_readable_by_root_only(tmp_path: Path) -> None:
    monitoring_config.write(tmp_path / "configs" / "1", {"secrets/team-chat.url": "x", "rules.yml": ""})
    assert (tmp_path / "configs/1/secrets/team-chat.url").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not Path("/usr/bin/amtool").exists(), reason="amtool is not installed")
def test_alertmanager_accepts_every_kind(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    with_ca = {"ca_file": str(tmp_path / "ca.pem")}
    (tmp_path / "alertmanager.yml").write_text(
        rendered(used(CHAT | with_ca, HOOK | with_ca, MAIL | with_ca, MAIL | {"name": "m2", "port": 25}))
    )
    (check,) = (each for each in monitoring_config.CHECKS if each[0].endswith("amtool"))
    assert monitoring_config.rejected(tmp_path, (check,)) == ""


@pytest.mark.parametrize(
    ("channel", "problem"),
    [
        ({"name": "log", "kind": "file", "path": "/var/log/a"}, "Alertmanager does not write files"),
        ({"name": "site", "kind": "page", "path": "/srv/a"}, "Alertmanager does not write status pages"),
        ({**HOOK, "headers": {"X-Key": "t0ken"}}, "no header but Authorization, and it has X-Key"),
        ({**MAIL, "to": []}, "does not know the contacts of the roster"),
        ({**MAIL, "security": "tls", "port": 587}, "TLS from the start on port 465 only"),
        ({**MAIL, "port": 465}, "set security to tls"),
        ({**CHAT, "url": "ftp://x/s3cret"}, "url is not an http or https address"),
        ({**CHAT, "ca_file": "/nonexistent/ca.pem"}, "ca_file of team/"),
    ],
)
def test_what_alertmanager_cannot_do_is_refused_without_secrets(
    channel: dict[str, Any], problem: str
) -> None:
    found = used(channel)
    (text,) = found.problems
    assert problem in text
    assert f"team/{channel['name']}" in text
    assert found.receivers == []
    assert not any(secret in text for secret in ("s3cret", "t0ken", "passw0rd"))


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ({"group": "ops"}, "has no group ops; its groups: team"),
        ({"channel": "pager"}, "team has no channel pager; its channels: chat"),
        ({"severities": ["P9"]}, "needs `severities`"),
        ({"severities": "P1"}, "needs `severities`"),
        ({"channels": ["chat"]}, "unknown key channels"),
        ({"group": ""}, "needs `group`"),
    ],
)
def test_entry_that_names_nothing_is_refused(route: dict[str, Any], problem: str) -> None:
    (text,) = used(CHAT, **route).problems
    assert problem in text


def test_the_public_never_gets_alerts() -> None:
    (text,) = used(CHAT, audience="public").problems
    assert "the readers of team are the public" in text


def test_channel_that_is_named_twice_is_refused() -> None:
    groups = [{"group": "team", "audience": "team", "channels": [CHAT]}]
    routes = [
        {"group": "team", "severities": ["P0"]},
        {"group": "team", "channel": "chat", "severities": ["P1"]},
    ]
    (text,) = alert_channels.used(routes, groups).problems
    assert "team/chat is named twice" in text


def test_only_the_named_channel_of_a_group_is_used() -> None:
    log = {"name": "log", "kind": "file", "path": "/var/log/a"}
    found = used(log, CHAT, channel="chat", severities=["P0"])
    assert [(each.name, each.severities) for each in found.receivers] == [("team/chat", ("P0",))]
    assert found.problems == []


def test_without_channels_the_ones_of_incidents_are_not_checked() -> None:
    assert alert_channels.used([], "nonsense") == alert_channels.Channels()


def eventually(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@needs_alertmanager
def test_every_kind_of_channel_gets_the_alert_and_its_command(tmp_path: Path) -> None:
    with (
        loopback.http() as chat,
        loopback.http() as hook,
        loopback.smtp(tmp_path, password="passw0rd") as mail,
    ):
        found = used(
            {**CHAT, "url": f"http://127.0.0.1:{chat.port}/hooks/s3cret"},
            {**HOOK, "url": f"http://127.0.0.1:{hook.port}/alerts"},
            {**MAIL, "host": "127.0.0.1", "port": mail.port, "ca_file": str(mail.ca_file)},
        )
        assert found.problems == []
        credentials = tmp_path / "credentials"
        credentials.mkdir()
        for name, content in found.secrets.items():
            (credentials / name).write_text(content)
        config = yaml.safe_load(
            rendered(found).replace("/run/credentials/katago-alertmanager.service", str(credentials))
        )
        config["route"]["group_wait"] = "0s"
        with alertmanagers.alertmanager(tmp_path / "alertmanager", yaml.safe_dump(config)) as port:
            alert = {
                "labels": {"alertname": "HostDown", "severity": "P1", "instance": "katago-1"},
                "annotations": {
                    "summary": "katago-1 does not answer at all",
                    "command": "bin/fleet triage -l katago-1",
                    "runbook_url": "docs/reference/alerts.md#hostdown",
                },
            }
            alertmanagers.ask(port, "/api/v2/alerts", [alert])
            for server, what in ((chat.requests, "chat"), (hook.requests, "webhook"), (mail.mails, "mail")):
                eventually(lambda server=server: server, f"{what} got no message")  # type: ignore[misc]
    (path, _, message), *_ = chat.requests
    assert path == "/hooks/s3cret"
    assert "bin/fleet triage -l katago-1" in json.dumps(message)
    _, headers, document = hook.requests[0]
    assert headers["Authorization"] == "Bearer t0ken"
    assert document["alerts"][0]["annotations"]["command"] == "bin/fleet triage -l katago-1"
    recipients, text, encrypted = mail.mails[0]
    assert (recipients, encrypted) == (["go@fleet.test", "lead@fleet.test"], True)
    assert "FIRING P1: katago-1 does not answer at all" in text
    assert "bin/fleet triage -l katago-1" in text
