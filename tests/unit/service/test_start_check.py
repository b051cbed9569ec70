"""What would keep the service from starting again is found before it is stopped."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import disk, transient_unit
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.release import links
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    host_secrets,
    start_check,
    unit,
)
from tests.unit.release.test_layout import built

VALID = {"ok": True, "checks": [{"name": "config", "ok": True, "message": "valid"}]}


@pytest.fixture
def ports() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two listening sockets, of the test itself."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        yield one, two


class Fake:
    """A host below a directory, with an intact release. `report`: what the release's own check prints."""

    def __init__(self, root: Path, config: str) -> None:
        self.layout = release_layout.Layout(root)
        self.report: object = VALID
        self.directory = built(root, config)
        self.unit = root / "katago-mcp.service"
        self.unit.write_text("[Service]\nUser=katago-mcp\n")

    def link(self) -> None:
        for path, target in links.of_host(self.layout, self.directory.name).items():
            if path != self.unit:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(target)

    def findings(self) -> start_check.Findings:
        return start_check.current(self.layout)

    def messages(self) -> list[str]:
        return [problem.message for problem in self.findings().problems]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ports: tuple[socket.socket, socket.socket]) -> Fake:
    config = {
        section: {"host": "127.0.0.1", "port": each.getsockname()[1]}
        for section, each in zip(("server", "metrics"), ports, strict=True)
    }
    fake = Fake(tmp_path, json.dumps(config))
    monkeypatch.setattr(paths, "CONFIG", tmp_path / "etc" / "config.json")
    monkeypatch.setattr(paths, "COMMAND", tmp_path / "bin" / "katago-mcp")
    monkeypatch.setattr(paths, "SERVICE_UNIT_FILE", fake.unit)
    monkeypatch.setattr(start_check, "DIRECTORY_ROOTS", {"CacheDirectory": tmp_path / "cache"})
    monkeypatch.setattr(links, "of_host", lambda layout, release: _links(tmp_path, release))
    monkeypatch.setattr(disk, "obstacles", lambda **_: iter(()))
    monkeypatch.setattr(unit, "control_group", lambda: "group")
    monkeypatch.setattr(unit, "processes", lambda _: [{"pid": os.getpid(), "name": "test"}])
    monkeypatch.setattr(host_secrets, "redacted", lambda value: value)

    def watched(command: list[str], *_: Any, **__: Any) -> transient_unit.Run:
        assert "--property=User=katago-mcp" in command
        output = fake.report if isinstance(fake.report, str) else json.dumps(fake.report)
        return transient_unit.Run(0, output, "", "it exited with status 0", None)

    monkeypatch.setattr(transient_unit, "watched", watched)
    fake.link()
    return fake


def _links(root: Path, release: str) -> dict[Path, str]:
    return {
        root / "etc" / "config.json": str(root / "current" / "config.json"),
        root / "current": f"releases/{release}",
    }


def test_service_that_would_start_again_is_not_refused(host: Fake) -> None:
    findings = host.findings()
    assert findings == start_check.Findings([], [])
    assert start_check.refusal(findings, starts=True, allow_changed_files=False) is None


def test_own_check_of_the_release_is_quoted_with_the_procedure_that_repairs_it(host: Fake) -> None:
    host.report = {
        "ok": False,
        "checks": [{"name": "config", "ok": False, "message": "server.port: must be a number"}],
    }
    refusal = start_check.refusal(host.findings(), starts=True, allow_changed_files=False)
    assert refusal is not None
    first, reason, repair, option = refusal.splitlines()
    assert first == "Refused; nothing was changed on this host. The service would not start again:"
    assert reason == "- server.port: must be a number"
    assert "playbooks/deploy.yml -l HOST" in repair
    assert "playbooks/restore.yml -l HOST" in repair
    assert option == "To continue anyway: -e without_start_check=true"
    assert start_check.refusal(host.findings(), starts=False, allow_changed_files=False) is None


def test_own_check_that_does_not_run_is_a_problem(host: Fake) -> None:
    host.report = "Traceback"
    (message,) = host.messages()
    assert message.startswith("the release's own check failed: it exited with status 0.")


def test_certificate_that_only_expired_does_not_keep_the_service_from_starting(host: Fake) -> None:
    expired = {"name": "certificate", "ok": False, "message": "tls.crt expired at 2026-01-01: renew it"}
    broken = {"name": "certificate", "ok": False, "message": "tls.crt is not a certificate in PEM"}
    host.report = {"ok": False, "checks": [expired]}
    assert host.messages() == []
    host.report = {"ok": False, "checks": [broken]}
    assert host.messages() == ["tls.crt is not a certificate in PEM"]


@pytest.mark.parametrize("content", [None, ""])
def test_credential_that_systemd_cannot_pass_is_found(
    host: Fake, tmp_path: Path, content: str | None
) -> None:
    key = tmp_path / "tls.key"
    if content is not None:
        key.write_text(content)
    host.unit.write_text(f"[Service]\nUser=katago-mcp\nLoadCredential=tls.key:{key}\n")
    assert host.messages() == [f"{key} is missing or empty, and the unit passes it to the service as tls.key"]


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "venv/cli.py"])
def test_missing_file_of_the_release_keeps_the_service_from_starting(host: Fake, name: str) -> None:
    (host.directory / name).unlink()
    assert any(name in message for message in host.messages())
    assert host.findings().changed == []


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "venv/cli.py"])
def test_changed_file_is_refused_unless_it_is_allowed_by_name(host: Fake, name: str) -> None:
    (host.directory / name).write_text("{}")
    findings = host.findings()
    assert findings.changed
    refusal = start_check.refusal(findings, starts=False, allow_changed_files=False)
    assert refusal is not None
    assert name in refusal
    assert "-e allow_changed_files=true" in refusal
    assert "security_on.yml -l HOST" in refusal
    assert start_check.refusal(findings, starts=False, allow_changed_files=True) is None


def test_configuration_that_replaced_its_link_is_a_changed_file(host: Fake) -> None:
    paths.CONFIG.unlink()
    paths.CONFIG.write_text((host.directory / "config.json").read_text())
    assert [line.partition(" is not")[0] for line in host.findings().changed] == [str(paths.CONFIG)]
    paths.CONFIG.unlink()
    assert f"the release is damaged: {paths.CONFIG} is missing" in host.messages()


def test_full_disk_is_the_only_reason_when_nothing_else_can_be_checked(
    host: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.report = "Traceback"
    problem = "/var/lib cannot be written: No space left"
    monkeypatch.setattr(disk, "obstacles", lambda full=True: iter([problem] if full else []))
    assert host.messages() == [problem]
    assert start_check.current(host.layout, makes_room=True).problems == []


def test_symlink_in_place_of_a_directory_of_the_unit_is_the_only_reason(host: Fake, tmp_path: Path) -> None:
    host.report = "Traceback"
    host.unit.write_text("[Service]\nUser=katago-mcp\nCacheDirectory=katago-mcp more/inner:alias\n")
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "cache" / "more" / "inner"
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    (problem,) = host.findings().problems
    assert problem.message == (
        f"{path} is a symlink to {tmp_path}/elsewhere, which systemd does not follow (CacheDirectory)"
    )
    assert "mount that disk there" in problem.repair
    path.unlink()
    path.mkdir()
    host.report = VALID
    assert host.messages() == []


def test_port_of_another_process_is_found_and_its_own_is_not(
    host: Fake, monkeypatch: pytest.MonkeyPatch, ports: tuple[socket.socket, socket.socket]
) -> None:
    assert host.messages() == []
    monkeypatch.setattr(unit, "processes", lambda _: [])
    server, metrics = host.messages()
    assert f"port {ports[0].getsockname()[1]} (server.port): Address already in use by" in server
    assert f"(PID {os.getpid()})" in server
    assert "(metrics.port)" in metrics


def test_address_that_the_host_no_longer_has_is_found(host: Fake) -> None:
    config = json.dumps({"server": {"host": "192.0.2.1", "port": 18080}, "metrics": {"enabled": False}})
    (problem,) = start_check.port_problems(config.encode())
    assert problem.startswith(
        "the service cannot listen on 192.0.2.1 port 18080 (server.port): Cannot assign"
    )


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"server": 1}', b'{"server": {"port": "80"}}'])
def test_damaged_configuration_has_no_ports(host: Fake, content: bytes) -> None:
    assert list(start_check.port_problems(content)) == []


def test_host_without_the_service_is_told_to_install_it(host: Fake) -> None:
    host.unit.unlink()
    refusal = start_check.refusal(host.findings(), starts=True, allow_changed_files=False)
    assert refusal is not None
    assert "is missing or a broken symlink" in refusal
    assert "playbooks/deploy.yml -l HOST" in refusal
