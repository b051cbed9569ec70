"""What the module `load_balancer` decides: settings, files, and what HAProxy needs."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.common.file_set import File
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    config,
    in_force,
    rotation,
    units,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.rotation import Entry
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.runtime import Runtime
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.server_state import ServerState
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    Server,
    Settings,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.target import (
    Target,
    calling,
    requested,
)
from ansible_collections.katago.fleet.plugins.modules import load_balancer
from tests import loopback

ENTRY = Entry("rotation_out", "anna@ops", "2026-01-31T08:05:00Z", "disk")
PEM = "-----BEGIN CERTIFICATE-----\none\n-----END CERTIFICATE-----\n"
REQUEST: dict[str, Any] = {
    "settings": {"local_name": "balancer-1", "http_port": 8180, "https_port": 8443, "rate_limit": 0},
    "servers": [
        {"name": "katago-1", "address": "127.0.0.1", "port": 8080, "tls": False},
        {"name": "katago-2", "address": "127.0.0.1", "port": 8081, "tls": False},
    ],
    "certificate": "",
    "ca": "",
}


def wanted(out: tuple[str, ...] = (), previous: Settings | None = None, **changes: Any) -> Target:
    return requested({**REQUEST, **changes}, previous, dict.fromkeys(out, ENTRY))


@pytest.fixture
def etc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The directories of the configuration."""
    for name in ("etc", "haproxy"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(paths, "LOAD_BALANCER_DIRECTORY", tmp_path / "etc")
    monkeypatch.setattr(paths, "LOAD_BALANCER_SETTINGS", tmp_path / "etc" / "settings.json")
    monkeypatch.setattr(paths, "HAPROXY_CONFIG", tmp_path / "haproxy" / "haproxy.cfg")
    return tmp_path


def test_servers_keep_their_numbers_when_a_host_is_removed() -> None:
    before = wanted().settings
    after = wanted(previous=before, servers=REQUEST["servers"][1:]).settings
    assert [(server.name, server.id) for server in after.servers] == [("katago-2", 2)]


def test_hosts_out_of_rotation_stay_out_and_removed_ones_are_ignored() -> None:
    target = wanted(out=("katago-1", "gone"))
    assert target.out == {"katago-1"}
    assert "server katago-1 127.0.0.1:8080 id 1 disabled" in target.text


@pytest.mark.usefixtures("etc")
def test_certificate_is_private_and_named_by_its_content() -> None:
    one, other = (wanted(certificate=f"PEM {number}") for number in (1, 2))
    assert one.settings.certificate != other.settings.certificate
    assert one.files()[0] == File(Path(one.settings.certificate), b"PEM 1", 0o600)
    assert b"PEM 1" not in one.settings.content()
    assert "PEM 1" not in one.text


@pytest.mark.usefixtures("etc")
def test_settings_come_before_the_configuration_that_needs_them() -> None:
    places = [file.path for file in wanted(certificate="PEM", ca="CA").files()]
    assert places[-2:] == [paths.LOAD_BALANCER_SETTINGS, paths.HAPROXY_CONFIG]


@pytest.mark.usefixtures("etc")
def test_replaced_configuration_is_kept_beside_the_new_one() -> None:
    paths.HAPROXY_CONFIG.write_text("before")
    target = wanted()
    previous = paths.HAPROXY_CONFIG.with_name("haproxy.cfg.previous")
    assert File(previous, b"before") in target.files()
    paths.HAPROXY_CONFIG.write_text(target.text)
    assert previous not in [file.path for file in target.files()]


def test_invalid_value_is_named() -> None:
    with pytest.raises(shape.ShapeError, match="names is 'a b'"):
        wanted(settings={**REQUEST["settings"], "names": ["a b"]})


def test_port_of_another_process_is_named_with_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = replace(wanted().settings, metrics_port=port)
        (problem,) = load_balancer.host_problems(settings, paths.PROC)
    assert f"127.0.0.1 port {port}: Address already in use by " in problem
    assert f"(PID {os.getpid()})" in problem
    assert "change load_balancer_metrics_port" in problem


def test_address_that_cannot_be_resolved_is_named() -> None:
    servers = [{**REQUEST["servers"][0], "address": "no-such-host.invalid"}]
    (problem,) = load_balancer.host_problems(wanted(servers=servers).settings, paths.PROC)
    assert "The address of katago-1, no-such-host.invalid, cannot be resolved" in problem
    assert "Set fleet_address of katago-1" in problem


def test_address_of_another_host_is_named_with_its_variable() -> None:
    settings = replace(wanted().settings, listen_addresses=("192.0.2.77",))
    problems = load_balancer.host_problems(settings, paths.PROC)
    assert len(problems) == 1
    assert "HAProxy cannot listen on 192.0.2.77" in problems[0]
    assert "Set load_balancer_listen_addresses to addresses that this host always has" in problems[0]


def test_servers_that_nobody_reaches_are_named_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        servers = [{**REQUEST["servers"][0], "port": port}, REQUEST["servers"][1]]
        assert load_balancer.server_problems(wanted(servers=servers), None) == []
        # The other one is not expected to answer.
        servers[1] = {**servers[1], "port": 1}
        down = wanted(("katago-1",), servers=servers)
        (problem,) = load_balancer.server_problems(down, None)
    assert "katago-2 (127.0.0.1 port 1): Connection refused" in problem
    assert "katago-1" not in problem
    assert load_balancer.server_problems(wanted(("katago-1", "katago-2"), servers=servers), None) == []


class Served:
    """A server with TLS and one without, on loopback. `secured`: whether katago-1 is the one with TLS."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.authority, self.other = loopback.Authority("one"), loopback.Authority("two")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        file = directory / "pair.pem"
        file.write_text("".join(self.authority.issue("katago.example.org")))
        context.load_cert_chain(file)
        self.servers = {
            tls: ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) for tls in (False, True)
        }
        self.servers[True].socket = context.wrap_socket(self.servers[True].socket, server_side=True)
        for server in self.servers.values():
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        for server in self.servers.values():
            server.shutdown()
            server.server_close()

    def called(self, *, tls: bool, at: bool, ca: str = "", name: str = "") -> Target:
        """What HAProxy shall have to call katago-1 with TLS or without, at the port of one of the servers."""
        server = {**REQUEST["servers"][0], "tls": tls, "port": self.servers[at].server_port, "tls_name": name}
        target = wanted(ca=ca if tls else "", servers=[server])
        if target.ca:
            Path(target.settings.ca_file).write_text(target.ca)
        return target


@pytest.fixture
def served(etc: Path) -> Iterator[Served]:
    made = Served(etc)
    yield made
    made.stop()


@pytest.mark.parametrize("tls", [True, False])
def test_server_that_is_not_deployed_yet_is_refused(served: Served, *, tls: bool) -> None:
    ca = served.authority.pem
    now = served.called(tls=tls, at=tls, ca=ca).settings
    (problem,) = load_balancer.server_problems(served.called(tls=not tls, at=tls, ca=ca), now)
    how, otherwise = ("with", "without") if tls else ("without", "with")
    assert problem.startswith(f"katago-1 still serves {how} TLS at 127.0.0.1 port {now.servers[0].port}")
    assert f"and not {otherwise} TLS at 127.0.0.1" in problem
    assert "Deploy it first: ansible-playbook playbooks/deploy.yml" in problem
    # Deployed; and one that answers in neither way is a matter of health checks.
    assert load_balancer.server_problems(served.called(tls=not tls, at=not tls, ca=ca), now) == []
    silent = served.called(tls=not tls, at=tls, ca=ca).settings
    assert load_balancer.server_problems(served.called(tls=not tls, at=tls, ca=f"{ca}\n"), silent) == []


def test_certificate_that_is_not_deployed_yet_is_refused(served: Served) -> None:
    old, new = served.authority.pem, served.other.pem
    now = served.called(tls=True, at=True, ca=old).settings
    (problem,) = load_balancer.server_problems(served.called(tls=True, at=True, ca=new), now)
    assert problem.startswith("katago-1 still has a certificate by the previous load_balancer_server_ca, and")
    assert load_balancer.server_problems(served.called(tls=True, at=True, ca=old + new), now) == []
    named = served.called(tls=True, at=True, ca=old, name="katago.example.org")
    assert load_balancer.server_problems(named, now) == []
    other = served.called(tls=True, at=True, ca=old, name="other.example.org")
    (problem,) = load_balancer.server_problems(other, named.settings)
    assert "and a certificate for katago.example.org by" in problem
    assert "and a certificate for other.example.org by load_balancer_server_ca, as its variables" in problem


class TestCalling:
    """One server is called in another way."""

    @staticmethod
    def server(settings: Settings, **changes: Any) -> Server:
        return replace(settings.servers[0], **changes)

    @pytest.mark.usefixtures("etc")
    def test_only_this_server_changes(self) -> None:
        before = wanted(out=("katago-2",)).settings
        target = calling(self.server(before, tls=True, tls_name="a"), PEM, before, {"katago-2": ENTRY})
        assert target is not None
        assert target.ca == PEM
        assert [server.tls for server in target.settings.servers] == [True, False]
        assert f"ssl verify required ca-file {target.settings.ca_file} verifyhost a" in target.text
        assert "server katago-2 127.0.0.1:8081 id 2 disabled" in target.text
        assert replace(target.settings, servers=before.servers, ca_file="") == before

    @pytest.mark.usefixtures("etc")
    def test_authorities_that_other_servers_need_are_kept(self) -> None:
        settings = wanted().settings
        first = calling(self.server(settings, tls=True), PEM, settings, {})
        assert first is not None
        for file in first.files():
            file.path.write_bytes(file.content or b"")
        other = PEM.replace("one", "other")
        second = calling(first.settings.servers[0], other, first.settings, {})
        assert second is not None
        assert second.ca == PEM + other
        for file in second.files():
            file.path.write_bytes(file.content or b"")
        assert calling(first.settings.servers[0], other, second.settings, {}) is None
        # A host that still uses TLS when the variable is removed is called as before.
        assert calling(first.settings.servers[0], "", second.settings, {}) is None
        plain = calling(settings.servers[0], "", second.settings, {})
        assert plain is not None
        assert plain.settings.ca_file == second.settings.ca_file

    def test_nothing_is_to_be_done_for_the_same_server(self) -> None:
        settings = wanted().settings
        assert calling(settings.servers[0], "", settings, {}) is None

    @pytest.mark.usefixtures("etc")
    def test_certificates_stay_apart_if_a_file_does_not_end_with_a_line_break(self) -> None:
        before = wanted(ca=PEM.strip()).settings
        Path(before.ca_file).write_text(PEM.strip())
        other = PEM.replace("one", "other")
        target = calling(self.server(before, tls=True), other, before, {})
        assert target is not None
        assert target.ca == PEM + other

    def test_another_port_needs_no_certificate(self) -> None:
        settings = wanted().settings
        target = calling(self.server(settings, port=9000), "", settings, {})
        assert target is not None
        assert "server katago-1 127.0.0.1:9000 id 1" in target.text

    def test_server_with_tls_needs_an_authority(self) -> None:
        settings = wanted().settings
        with pytest.raises(LoadBalancerError, match=r"load_balancer_server_ca is empty.*rotation_in\.yml"):
            calling(self.server(settings, tls=True), "", settings, {})

    def test_unusable_name_is_an_error_of_the_server(self) -> None:
        settings = wanted().settings
        with pytest.raises(LoadBalancerError, match=r"cannot call katago-1: .*tls_name is 'a b'"):
            calling(self.server(settings, tls=True, tls_name="a b"), PEM, settings, {})


class _Runtime(Runtime):
    """A running HAProxy with prepared answers."""

    def __init__(self, digest: str | None, status: str) -> None:
        self._digest = digest
        self._status = status

    def digest(self) -> str:
        if self._digest is None:
            raise LoadBalancerError("HAProxy does not run")
        return self._digest

    def servers(self) -> dict[str, ServerState]:
        return {"katago-1": ServerState("katago-1", "10.0.0.1:8080", self._status, 100, 0)}


@pytest.mark.parametrize(
    ("digest", "status", "loaded"),
    [
        (None, "UP", False),
        ("other", "UP", False),
        # A host is out of rotation, but the running process sends requests to it.
        ("same", "UP", False),
        ("same", "MAINT", True),
    ],
)
def test_running_process_must_use_the_settings_and_keep_hosts_out(
    digest: str | None, status: str, *, loaded: bool
) -> None:
    target = wanted(out=("katago-1",))
    running = _Runtime(config.digest(target.settings) if digest == "same" else digest, status)
    assert in_force.is_loaded(target, running) is loaded


@pytest.mark.parametrize(("action", "expected"), [("reloaded", 2), ("restarted", 0)])
def test_lost_reload_is_repeated(
    monkeypatch: pytest.MonkeyPatch, action: units.Action, expected: int
) -> None:
    problems = ["the running process still uses other settings"] * 2 + [""]
    reloads: list[str] = []
    monkeypatch.setattr(in_force, "running_problem", lambda *_: problems.pop(0))
    monkeypatch.setattr(in_force, "RELOAD_SECONDS", -1)
    monkeypatch.setattr(units, "reload", reloads.append)
    in_force.verify(wanted(), action)
    assert reloads == ["haproxy.service"] * expected


def test_record_of_a_removed_host_is_forgotten_with_its_server(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROTATION", etc / "rotation.json")
    removed = replace(ENTRY, procedure="remove_host")
    entries = {"katago-1": removed, "katago-2": ENTRY, "gone": removed, "taken-out": ENTRY}
    target = requested(REQUEST, None, entries)
    kept = {name: entry for name, entry in entries.items() if name != "gone"}
    assert target.record == rotation.record(etc / "rotation.json", kept)
    assert target.record in target.files()
    assert target.out == {"katago-1", "katago-2"}
    unchanged = requested(REQUEST, None, kept)
    assert unchanged.record is None
    assert len(unchanged.files()) == len(target.files()) - 1
