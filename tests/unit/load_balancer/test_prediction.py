"""Check mode predicts what the real run does, from the task's arguments to the files on the host."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.action import load_balancer as balancer_action
from ansible_collections.katago.fleet.plugins.action import load_balancer_address as address_action
from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import commands, unit_state
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    haproxy,
    in_force,
    loaded,
    units,
)
from ansible_collections.katago.fleet.plugins.modules import load_balancer, load_balancer_address
from tests.ports import free_ports
from tests.stubs import action_result, module_result

SANDBOX = {"ProtectSystem": "strict", "ReadWritePaths": ["/run", "/tmp"]}
SETTINGS: dict[str, Any] = {
    "sandbox": SANDBOX,
    "listen_addresses": ["127.0.0.1"],
    "https_port": 443,
    "metrics_address": "127.0.0.1",
    "max_connections": 2000,
    "max_connections_per_server": 2000,
    "max_request_bytes": 1000,
    "rate_limit": 200,
    "queue_timeout": 10,
    "idle_timeout": 60,
    "reload_timeout": 960,
}
ADDRESS: dict[str, Any] = {
    "sandbox": SANDBOX,
    "address": "192.0.2.200/24",
    "interface": "lo",
    "router_id": 51,
    "password": "s3cr3t00",
    "metrics_address": "127.0.0.1",
    "metrics_port": 8404,
}


class Host:
    """A load balancer whose files are below a directory, and whose systemd and HAProxy are stand-ins."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, server: int) -> None:
        self.root = root
        self.monkeypatch = monkeypatch
        self.state = {"ActiveState": "inactive", "UnitFileState": "enabled", "InvocationID": ""}
        self.verbs: list[str] = []
        self.failing = ""
        self.problems: list[str] = []
        self.variables: dict[str, Any] = {
            "inventory_hostname": "balancer-1",
            "groups": {"katago": ["katago-1"], "load_balancer": ["balancer-1", "balancer-2"]},
            "hostvars": {
                "katago-1": {
                    "fleet_address": "127.0.0.1",
                    "katago_mcp_port": server,
                    "katago_mcp_tokens": ["a"],
                },
                "balancer-1": {"fleet_address": "192.0.2.1"},
                "balancer-2": {
                    "fleet_address": "192.0.2.2",
                    "load_balancer_virtual_address": "192.0.2.200/24",
                    "load_balancer_vrrp_password": "s3cr3t00",
                },
            },
        }
        self.places()
        monkeypatch.setattr(haproxy, "problems", lambda *_: self.problems)
        monkeypatch.setattr(load_balancer_address, "rejection", lambda _: "")
        monkeypatch.setattr(in_force, "running_problem", lambda *_: "")
        monkeypatch.setattr(in_force, "is_loaded", lambda *_: True)
        monkeypatch.setattr(unit_state, "properties", lambda *_: self.state)
        monkeypatch.setattr(commands, "ask", self._ask)

    def places(self) -> None:
        """Have every path below the directory."""
        for name in (
            *("SYSTEM_UNITS", "LOAD_BALANCER_DIRECTORY", "LOAD_BALANCER_SETTINGS", "ROTATION"),
            *("LOAD_BALANCER_CHECK", "HAPROXY_CONFIG", "HAPROXY_SOCKET", "KEEPALIVED_CONFIG", "LOADED"),
        ):
            self.monkeypatch.setattr(paths, name, self.root / str(getattr(paths, name)).lstrip("/"))
        for name in ("HAPROXY", "KEEPALIVED"):
            self.monkeypatch.setattr(paths, name, Path("/bin/true"))

    def _ask(self, command: list[str], *_: float) -> tuple[int, str]:
        if command[0] == "systemctl":
            self.verbs.append(command[1])
            if command[1] in ("start", "restart"):
                self.state |= {"ActiveState": "active", "ExecMainStartTimestamp": "@32503680000"}
                self.state["InvocationID"] += "1"
            if command[1] == self.failing:
                return 1, "it does not start"
        return 0, ""

    def run(
        self, action: ModuleType, module: ModuleType, arguments: Mapping[str, Any], *, check: bool = False
    ) -> dict[str, Any]:
        """Run a task on the control node and on the host."""
        return action_result(
            self.monkeypatch,
            action,
            lambda _, given: module_result(self.monkeypatch, module, check=check, **given),
            self.variables,
            check=check,
            **arguments,
        )

    def files(self) -> dict[str, tuple[str, int]]:
        """The content and the mode of every file."""
        return {
            str(path.relative_to(self.root)): (path.read_text(), path.stat().st_mode & 0o777)
            for path in self.root.rglob("*")
            if path.is_file() and path.suffix != ".lock"
        }


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A bare load balancer, in front of one server that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Host(tmp_path, monkeypatch, server.getsockname()[1])


@pytest.fixture
def settings() -> dict[str, Any]:
    """The arguments of the task, with ports that nobody uses."""
    names = ("http_port", "metrics_port", "peers_port", "relay_port")
    return {**SETTINGS, **dict(zip(names, free_ports(len(names)), strict=True))}


def predicted(result: dict[str, Any]) -> dict[str, Any]:
    """What check mode must predict."""
    return {name: result.get(name) for name in ("changed", "action", "diff", "failed", "msg")}


def test_haproxy_is_configured_as_predicted(host: Host, settings: dict[str, Any]) -> None:
    steps: list[tuple[dict[str, Any], str]] = [
        ({}, "started"),
        ({}, "kept"),
        ({"rate_limit": 77}, "reloaded"),
        ({"sandbox": {"ProtectSystem": "full"}}, "restarted"),
    ]
    for changes, action in steps:
        arguments = {**settings, **changes}
        before = host.files()
        prediction = host.run(balancer_action, load_balancer, arguments, check=True)
        assert (host.files(), prediction["action"]) == (before, action)
        done = host.run(balancer_action, load_balancer, arguments)
        assert predicted(done) == predicted(prediction)
        settings = arguments
    assert host.files()["etc/systemd/system/haproxy.service.d/katago.conf"] == (
        "#\n# Ansible managed\n#\n[Service]\nProtectSystem=full\n",
        0o644,
    )
    assert host.verbs.count("reload") == 1
    assert host.verbs.count("restart") == 2


def test_rejected_configuration_changes_nothing(host: Host, settings: dict[str, Any]) -> None:
    host.problems = ["line 3, `x`: unknown keyword"]
    for check in (True, False):
        result = host.run(balancer_action, load_balancer, settings, check=check)
        assert result["refused"] is True
        assert "HAProxy rejects the configuration: line 3, `x`: unknown keyword" in result["msg"]
    assert (host.files(), host.verbs) == ({}, [])


def test_server_that_cannot_be_reached_is_refused_except_in_check_mode_of_the_whole_run(
    host: Host, settings: dict[str, Any]
) -> None:
    host.variables["hostvars"]["katago-1"]["katago_mcp_port"] = 1
    result = host.run(balancer_action, load_balancer, settings)
    assert result["refused"] is True
    assert "katago-1 (127.0.0.1 port 1): Connection refused" in result["msg"]
    assert (host.files(), host.verbs) == ({}, [])
    host.variables["ansible_check_mode"] = True
    assert host.run(balancer_action, load_balancer, settings, check=True)["changed"] is True


def test_keepalived_is_configured_as_predicted(host: Host) -> None:
    steps: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({}, False),
        # The program by which keepalived checks HAProxy has this port.
        ({"metrics_port": 9404}, True),
        ({"address": ""}, True),
        ({"address": ""}, False),
    ]
    for changes, changed in steps:
        arguments = {**ADDRESS, **changes}
        before = host.files()
        prediction = host.run(address_action, load_balancer_address, arguments, check=True)
        assert (host.files(), prediction["changed"]) == (before, changed)
        done = host.run(address_action, load_balancer_address, arguments)
        assert predicted(done) == predicted(prediction)
        assert "s3cr3t00" not in str(done)
    assert host.files() == {}


def killed_before(step: str, host: Host, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the task of keepalived in a process that is killed instead of the step."""
    child = os.fork()
    if not child:
        module = loaded.Loaded if step == "remember" else units
        monkeypatch.setattr(module, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        host.run(address_action, load_balancer_address, arguments)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.parametrize("step", ["_use", "remember"])
def test_run_that_was_killed_before_the_reload_of_keepalived_is_completed_by_the_next_one(
    host: Host, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    host.run(address_action, load_balancer_address, ADDRESS)
    arguments = {**ADDRESS, "metrics_port": 9404}
    killed_before(step, host, arguments, monkeypatch)
    host.verbs.clear()
    assert host.run(address_action, load_balancer_address, arguments, check=True)["changed"] is True
    assert host.run(address_action, load_balancer_address, arguments)["changed"] is True
    assert host.verbs == ["daemon-reload", "enable", "reload"]
    assert not [name for name in host.files() if Path(name).name.startswith(".")]
    assert host.run(address_action, load_balancer_address, arguments)["changed"] is False


@pytest.mark.parametrize(("started", "reloads"), [("@32503680000", False), ("@1", True)])
def test_keepalived_that_was_restarted_meanwhile_has_read_what_is_older(
    host: Host, monkeypatch: pytest.MonkeyPatch, started: str, reloads: bool
) -> None:
    host.run(address_action, load_balancer_address, ADDRESS)
    arguments = {**ADDRESS, "metrics_port": 9404}
    killed_before("_use", host, arguments, monkeypatch)
    host.state |= {"InvocationID": "that of the restart", "ExecMainStartTimestamp": started}
    host.verbs.clear()
    host.run(address_action, load_balancer_address, arguments)
    assert bool({"reload", "restart"}.intersection(host.verbs)) is reloads


@pytest.mark.parametrize("removed", [1, 2, 3])
def test_removal_of_keepalived_that_was_killed_is_completed_by_the_next_one(
    host: Host, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    host.run(address_action, load_balancer_address, ADDRESS)
    unlink, left = Path.unlink, [removed]

    def counted(path: Path, *, missing_ok: bool = False) -> None:
        if path.exists() and not path.name.startswith("."):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        unlink(path, missing_ok=missing_ok)

    child = os.fork()
    if not child:
        monkeypatch.setattr(Path, "unlink", counted)
        host.run(address_action, load_balancer_address, {**ADDRESS, "address": ""})
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert host.run(address_action, load_balancer_address, {**ADDRESS, "address": ""})["changed"] is True
    assert host.files() == {}


def test_configuration_of_keepalived_is_private_and_names_the_peers(host: Host) -> None:
    host.run(address_action, load_balancer_address, ADDRESS)
    text, mode = host.files()["etc/keepalived/keepalived.conf"]
    assert mode == 0o600
    assert "unicast_peer {\n    192.0.2.2\n  }" in text


def test_failed_reload_of_keepalived_restores_its_check_too(host: Host) -> None:
    host.run(address_action, load_balancer_address, ADDRESS)
    before = host.files()
    host.failing = "reload"
    result = host.run(address_action, load_balancer_address, {**ADDRESS, "metrics_port": 9404})
    assert "`systemctl reload keepalived.service` failed" in result["msg"]
    assert "s3cr3t00" not in result["msg"]
    assert host.files() == before


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"router_id": 52}, "load_balancer_router_id is 52 for balancer-1, but 51 for balancer-2"),
        ({"address": "192.0.2.2/24"}, "but balancer-2 has the address 192.0.2.2"),
        ({"interface": "../lo"}, "load_balancer_interface is '../lo', which this host does not have. It has"),
        ({"address": "nowhere"}, "load_balancer_virtual_address is 'nowhere'"),
    ],
)
def test_wrong_address_is_refused_before_anything_is_changed(
    host: Host, changes: dict[str, Any], problem: str
) -> None:
    result = host.run(address_action, load_balancer_address, {**ADDRESS, **changes})
    assert result["refused"] is True
    assert problem in result["msg"]
    assert (host.files(), host.verbs) == ({}, [])


def test_configuration_of_somebody_else_is_not_replaced(host: Host) -> None:
    paths.KEEPALIVED_CONFIG.parent.mkdir(parents=True)
    paths.KEEPALIVED_CONFIG.write_text("vrrp_instance theirs {}\n")
    result = host.run(address_action, load_balancer_address, ADDRESS)
    assert "was not written by this playbook. Move the file away" in result["msg"]
    host.run(address_action, load_balancer_address, {**ADDRESS, "address": ""})
    assert paths.KEEPALIVED_CONFIG.read_text() == "vrrp_instance theirs {}\n"
