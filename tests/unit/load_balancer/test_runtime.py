"""What is read from HAProxy's socket, and what its commands do to a running HAProxy."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    config,
    in_force,
    rotation,
    runtime,
    server_state,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.server_state import ServerState
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    Server,
    Settings,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.target import Target
from ansible_collections.katago.fleet.plugins.modules import load_balancer_rotation as module
from tests.stubs import module_result

HEADER = "# pxname,svname,scur,status,weight,check_status,check_code\n"


def test_servers_are_read_from_the_statistics() -> None:
    text = (
        f"{HEADER}"
        "mcp,katago-1,3,UP,100,L7OK,200\n"
        "mcp,katago-2,0,MAINT,100,,\n"
        "mcp,katago-3,0,DOWN 1/2,0,* L4CON,\n"
        "mcp,BACKEND,3,UP,100,,\n"
        "other,katago-9,0,UP,1,,\n"
    )
    one, two, three = server_state.parsed(text).values()
    assert (one.status, one.weight, one.sessions) == ("UP", 100, 3)
    assert [each.is_served for each in (one, two, three)] == [True, False, False]
    assert [each.is_in_maintenance for each in (one, two, three)] == [False, True, False]
    assert str(three) == "DOWN 1/2 (weight 0, last check: the connection was refused or failed)"


@pytest.mark.parametrize("text", ["", "No such proxy.\n", HEADER])
def test_haproxy_without_the_fleet_is_an_error_with_the_remedy(text: str) -> None:
    with pytest.raises(LoadBalancerError, match=r"no backend mcp.*playbooks/load_balancer\.yml"):
        server_state.parsed(text)


def test_unknown_form_is_an_error() -> None:
    with pytest.raises(LoadBalancerError, match="unknown form"):
        server_state.parsed("# pxname,svname,scur\nmcp,katago-1,0\n")


def test_missing_socket_means_that_haproxy_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(runtime.NotRunningError, match="systemctl start haproxy"):
        runtime.Runtime(tmp_path / "admin.sock").servers()


def test_haproxy_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_ANSWER_SECONDS", 0.1)
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(LoadBalancerError, match="did not answer `show stat mcp 4 -1` in time"):
            runtime.Runtime(path).servers()


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer every check, as soon as the server may."""
        self.server.may_answer.wait(60)  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


class Balancer:
    """A running HAProxy with two servers on the loopback interface, and the files of a load balancer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.backends = [ThreadingHTTPServer(("127.0.0.1", 0), _Ready) for _ in range(2)]
        for backend in self.backends:
            backend.status = 200  # type: ignore[attr-defined]
            backend.may_answer = threading.Event()  # type: ignore[attr-defined]
            backend.may_answer.set()  # type: ignore[attr-defined]
            threading.Thread(target=backend.serve_forever, daemon=True).start()
        self.socket = root / "admin.sock"
        servers = tuple(
            Server(f"katago-{number}", number, "127.0.0.1", backend.server_port)
            for number, backend in enumerate(self.backends, start=1)
        )
        Settings(version=1, local_name="balancer-1", servers=servers).write(root / "settings.json")
        running = root / "running.cfg"
        running.write_text(
            f"global\n stats socket {self.socket} level admin\n"
            "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n"
            # A slow answer must not take a server down: without it, a check may take as long as `inter`.
            " timeout check 60s\n"
            "backend mcp\n option httpchk GET /ready\n"
            " default-server check inter 100ms fall 2 rise 1 weight 100\n"
            + "".join(f" server {each.name} 127.0.0.1:{each.port} id {each.id}\n" for each in servers)
        )
        # The file that the module renders again; this test's HAProxy does not read it.
        (root / "haproxy.cfg").write_text("")
        self.process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(running)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    @property
    def runtime(self) -> runtime.Runtime:
        return runtime.Runtime(self.socket)

    @property
    def rendered(self) -> list[str]:
        """The names of the servers that the rendered configuration keeps out."""
        lines = (self.root / "haproxy.cfg").read_text().splitlines()
        return [line.split()[1] for line in lines if line.startswith("  server ") and " disabled" in line]

    def leave(self, name: str, state: str = "leaving", *, check: bool = False, **given: Any) -> bool:
        return module.leave(self.runtime, self._asked(name, state, given), check=check).changed

    def admit(self, name: str, *, check: bool = False, **given: Any) -> bool:
        return module.admit(self.runtime, self._asked(name, "in", given), check=check).changed

    def out(self) -> list[str]:
        return list(rotation.read(self.root / "rotation.json"))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        for backend in self.backends:
            backend.shutdown()
            backend.server_close()

    @staticmethod
    def _asked(name: str, state: str, given: dict[str, Any]) -> dict[str, Any]:
        asked = {"procedure": "restart", "who": "anna@ops", "why": "x", "least": "50%", "force": False}
        return {"name": name, "state": state, "deadline": 60, "server": None, "ca": "", **asked, **given}


@pytest.fixture
def balancer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Balancer]:
    """A load balancer whose two servers are up."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    monkeypatch.setattr(paths, "ROTATION", tmp_path / "rotation.json")
    monkeypatch.setattr(paths, "HAPROXY_CONFIG", tmp_path / "haproxy.cfg")
    monkeypatch.setattr(paths, "LOAD_BALANCER_SETTINGS", tmp_path / "settings.json")
    running = Balancer(tmp_path)
    try:
        _await(lambda: all(each.check == "HTTP status 200" for each in running.runtime.servers().values()))
        yield running
    finally:
        running.close()


def _await(condition: Any) -> None:
    end = time.monotonic() + 60
    while True:
        # HAProxy's socket exists before HAProxy listens on it.
        with contextlib.suppress(runtime.NotRunningError):
            if condition():
                return
        assert time.monotonic() < end
        time.sleep(0.05)


def test_host_leaves_with_weight_0_and_is_out_with_maintenance(balancer: Balancer) -> None:
    assert balancer.leave("katago-1")
    server = balancer.runtime.servers()["katago-1"]
    assert (server.status, server.weight) == ("UP", 0)
    assert balancer.out() == balancer.rendered == ["katago-1"]
    assert balancer.leave("katago-1", "out")
    assert balancer.runtime.servers()["katago-1"].status.startswith("MAINT")
    # Repeated, nothing changes.
    assert not balancer.leave("katago-1")
    assert not balancer.leave("katago-1", "out")
    assert balancer.runtime.servers()["katago-1"].status.startswith("MAINT")


def test_admitted_host_gets_requests_when_the_module_returns(balancer: Balancer) -> None:
    balancer.leave("katago-1", "out")
    assert balancer.admit("katago-1")
    server = balancer.runtime.servers()["katago-1"]
    assert (server.status, server.weight) == ("UP", 100)
    assert balancer.out() == balancer.rendered == []
    assert not balancer.admit("katago-1")


def test_admitted_host_gets_no_requests_before_it_has_passed_a_check(balancer: Balancer) -> None:
    balancer.leave("katago-1", "out")
    may_answer: threading.Event = balancer.backends[0].may_answer  # type: ignore[attr-defined]
    may_answer.clear()
    admitting = threading.Thread(target=balancer.admit, args=("katago-1",))
    admitting.start()
    _await(lambda: not balancer.runtime.servers()["katago-1"].status.startswith("MAINT"))
    assert balancer.runtime.servers()["katago-1"].weight == 0
    assert balancer.out() == ["katago-1"]
    may_answer.set()
    admitting.join()
    assert balancer.runtime.servers()["katago-1"].is_served
    assert balancer.out() == []


def test_second_host_may_not_leave_unless_forced(balancer: Balancer) -> None:
    balancer.leave("katago-1")
    with pytest.raises(module.RefusedError, match="-e without_drain=true"):
        balancer.leave("katago-2")
    assert (balancer.out(), balancer.runtime.servers()["katago-2"].weight) == (["katago-1"], 100)
    assert balancer.leave("katago-2", force=True)
    assert balancer.out() == ["katago-1", "katago-2"]


def test_check_mode_predicts_and_refuses_without_a_change(balancer: Balancer) -> None:
    assert balancer.leave("katago-1", check=True)
    assert balancer.out() == []
    assert balancer.runtime.servers()["katago-1"].weight == 100
    balancer.leave("katago-1")
    with pytest.raises(module.RefusedError):
        balancer.leave("katago-2", check=True)
    assert balancer.admit("katago-1", check=True)
    assert balancer.out() == ["katago-1"]


def test_host_of_somebody_else_stays_out(balancer: Balancer) -> None:
    balancer.leave("katago-1", "out", procedure="rotation_out", who="bo@ops")
    assert not balancer.leave("katago-1")
    assert not balancer.admit("katago-1")
    assert balancer.runtime.servers()["katago-1"].status.startswith("MAINT")
    assert balancer.admit("katago-1", procedure="rotation_in")


def test_host_that_haproxy_does_not_have_is_left_alone(balancer: Balancer) -> None:
    assert not balancer.leave("katago-9")
    assert not balancer.admit("katago-9")
    assert balancer.out() == []
    with pytest.raises(LoadBalancerError, match=r"HAProxy has no server katago-9.*load_balancer\.yml"):
        balancer.runtime.leave("katago-9")


def test_host_that_fails_its_checks_is_reported(balancer: Balancer, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_down() -> bool:
        return balancer.runtime.servers()["katago-1"].status.startswith("DOWN")

    balancer.leave("katago-1", "out")
    balancer.backends[0].status = 503  # type: ignore[attr-defined]
    while_joining(balancer, monkeypatch, lambda: _await(is_down))
    with pytest.raises(module.NotServingError, match=r"admitted, but .* sees it DOWN"):
        balancer.admit("katago-1", deadline=1)
    assert balancer.out() == []


def test_host_that_was_changed_by_hand_is_admitted_by_an_operator_only(balancer: Balancer) -> None:
    balancer.runtime.leave("katago-1")
    assert not balancer.admit("katago-1")
    assert balancer.admit("katago-1", procedure="rotation_in")
    assert balancer.runtime.servers()["katago-1"].is_up


@pytest.mark.parametrize(("state", "failing"), [("leaving", "leave"), ("out", "leave"), ("out", "out")])
def test_nothing_is_changed_if_haproxy_refuses(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch, state: str, failing: str
) -> None:
    def fail(*_: Any) -> None:
        raise LoadBalancerError("no")

    monkeypatch.setattr(runtime.Runtime, failing, fail)
    with pytest.raises(LoadBalancerError, match="no"):
        balancer.leave("katago-1", state)
    assert balancer.out() == balancer.rendered == []
    assert balancer.runtime.servers()["katago-1"].is_served


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that cannot be replaced."""
    names: list[str] = []
    rename = Path.rename

    def fail(scratch: Path, target: Path) -> Path:
        if Path(target).name in names and not scratch.name.endswith(".kept"):
            raise OSError(errno.EROFS, "Read-only file system", str(target))
        return rename(scratch, target)

    monkeypatch.setattr(Path, "rename", fail)
    return names


@pytest.mark.parametrize("name", ["rotation.json", "haproxy.cfg"])
def test_record_configuration_and_haproxy_agree_after_a_failed_write(
    balancer: Balancer, unwritable: list[str], name: str
) -> None:
    balancer.leave("katago-2", force=True)
    unwritable.append(name)
    with pytest.raises(OSError, match="Read-only"):
        balancer.leave("katago-1", force=True)
    assert balancer.out() == balancer.rendered == ["katago-2"]
    assert balancer.runtime.servers()["katago-1"].is_served
    with pytest.raises(OSError, match="Read-only"):
        balancer.admit("katago-2")
    assert balancer.out() == balancer.rendered == ["katago-2"]
    assert balancer.runtime.servers()["katago-2"].weight == 0


def while_joining(balancer: Balancer, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once while a host is waited for, as another run may."""
    wait = runtime.Runtime.await_checked
    acts = [act]

    def interrupted(self: runtime.Runtime, name: str, seconds: float) -> ServerState | None:
        if acts:
            acts.pop()()
        return wait(self, name, seconds)

    monkeypatch.setattr(runtime.Runtime, "await_checked", interrupted)


def test_host_that_an_operator_takes_out_while_it_joins_stays_out(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer.leave("katago-1", "out")
    taken: dict[str, Any] = {"procedure": "rotation_out", "who": "bo@ops", "force": True}
    while_joining(balancer, monkeypatch, lambda: balancer.leave("katago-1", **taken))
    assert not balancer.admit("katago-1")
    assert balancer.out() == balancer.rendered == ["katago-1"]
    assert balancer.runtime.servers()["katago-1"].weight == 0


def test_host_joins_although_a_reload_ended_its_checks(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer.leave("katago-1", "out")
    while_joining(balancer, monkeypatch, lambda: balancer.runtime.out("katago-1"))
    assert balancer.admit("katago-1")
    assert balancer.runtime.servers()["katago-1"].is_served
    assert balancer.out() == []


def test_settings_that_were_replaced_meanwhile_are_used(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer.leave("katago-1", "out")
    path = balancer.root / "settings.json"
    newer = replace(Settings.load(path), rate_limit=77)
    while_joining(balancer, monkeypatch, lambda: newer.write(path))
    balancer.admit("katago-1")
    assert (balancer.root / "haproxy.cfg").read_text() == config.render(newer, ())


def test_haproxy_that_does_not_run_starts_without_the_host(balancer: Balancer) -> None:
    balancer.process.terminate()
    balancer.process.wait()
    balancer.socket.unlink(missing_ok=True)
    assert balancer.leave("katago-1")
    assert balancer.out() == balancer.rendered == ["katago-1"]
    assert not balancer.leave("katago-9")
    assert balancer.admit("katago-1")
    assert balancer.out() == balancer.rendered == []


class TestHostThatServesInAnotherWay:
    """The port of katago-1 has changed since it left."""

    @pytest.fixture
    def changed(self, balancer: Balancer, monkeypatch: pytest.MonkeyPatch) -> list[Target]:
        """What HAProxy was to use."""
        used: list[Target] = []
        monkeypatch.setattr(in_force, "call", used.append)
        balancer.leave("katago-1", "out")
        return used

    @staticmethod
    def server(port: int) -> dict[str, Any]:
        return {"port": port, "tls": False, "tls_name": ""}

    def test_it_is_called_there_before_it_joins(self, balancer: Balancer, changed: list[Target]) -> None:
        present = balancer.backends[0].server_port
        assert balancer.admit("katago-1", check=True, server=self.server(9))
        assert changed == []
        assert balancer.admit("katago-1", server=self.server(9))
        (used,) = changed
        assert {server.name: server.port for server in used.settings.servers}["katago-1"] == 9
        assert used.out == {"katago-1"}
        # In the way in which it is called already, nothing is reloaded.
        balancer.leave("katago-1")
        assert balancer.admit("katago-1", server=self.server(present))
        assert len(changed) == 1

    def test_module_takes_it_from_the_task(
        self, balancer: Balancer, changed: list[Target], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paths, "HAPROXY_SOCKET", balancer.socket)
        asked: dict[str, Any] = {"name": "katago-1", "procedure": "restart", "who": "anna@ops"}
        # Without it, HAProxy calls the host as before.
        assert module_result(monkeypatch, module, state="in", **asked)["changed"]
        assert module_result(monkeypatch, module, state="leaving", **asked)["changed"]
        assert changed == []
        assert module_result(monkeypatch, module, state="in", server=self.server(9), **asked)["changed"]
        assert [used.settings.servers[0].port for used in changed] == [9]

    def test_host_in_rotation_is_not_touched(self, balancer: Balancer, changed: list[Target]) -> None:
        assert not balancer.admit("katago-2", server=self.server(9))
        assert changed == []

    @pytest.mark.usefixtures("changed")
    def test_it_stays_out_if_haproxy_does_not_use_that(
        self, balancer: Balancer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: Target) -> None:
            raise LoadBalancerError("HAProxy rejects the configuration")

        monkeypatch.setattr(in_force, "call", refuse)
        with pytest.raises(LoadBalancerError, match="rejects the configuration"):
            balancer.admit("katago-1", server=self.server(9))
        assert balancer.out() == ["katago-1"]
        assert balancer.runtime.servers()["katago-1"].is_out

    def test_haproxy_that_does_not_run_starts_with_it(
        self, balancer: Balancer, changed: list[Target]
    ) -> None:
        balancer.process.terminate()
        balancer.process.wait()
        assert balancer.admit("katago-1", server=self.server(9))
        assert changed == []
        assert "server katago-1 127.0.0.1:9 id 1" in (balancer.root / "haproxy.cfg").read_text()
        assert balancer.rendered == balancer.out() == []


def test_only_a_host_that_was_in_rotation_must_join_again_after_a_refusal(balancer: Balancer) -> None:
    def leave(procedure: str) -> module.Change:
        asked = {"procedure": procedure, "who": "anna@ops", "why": "x", "least": "50%", "force": False}
        request = {"name": "katago-1", "state": "leaving", **asked}
        return module.leave(balancer.runtime, request, check=False)

    assert leave("restart") == module.Change(changed=True, left=True)
    assert leave("restart") == module.Change()
    # It continues what a killed run left.
    assert leave("rollback") == module.Change(changed=True, left=False)


def test_report_shows_every_host(balancer: Balancer) -> None:
    balancer.leave("katago-1", procedure="rotation_out", why="disk")
    report = module.look(
        balancer.runtime.servers(), {"name": "katago-1", "procedure": "restart", "who": "anna@ops"}
    )
    assert report["entry"]["why"] == "disk"
    assert report["is_own"] is False
    assert report["servers"]["katago-2"]["serves"] is True
    assert list(report["out"]) == ["katago-1"]
