"""A share: the bundle, the sandbox, what a run records, and what a host that cannot share does not stop."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import constants
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.action import asset_share as action
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, files
from ansible_collections.katago.fleet.plugins.modules import asset_share
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import host_files, sharing

NETWORK = "f" * 64


def test_bundle_has_the_files_one_after_the_other(tmp_path: Path) -> None:
    sources = {}
    for content in (b"one", b"", b"three"):
        path = tmp_path / digest.of_bytes(content)
        path.write_bytes(content)
        sources[path.name] = path
    parts = asset_share.bundle(sources, tmp_path / "bundle")
    assert list(parts.values()) == [(0, 3), (3, 0), (3, 5)]
    assert (tmp_path / "bundle").read_bytes() == b"onethree"


def test_damaged_file_is_not_shared(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"damaged")
    with pytest.raises(asset_share.ShareError, match=f"not {NETWORK}"):
        asset_share.bundle({NETWORK: tmp_path / "file"}, tmp_path / "bundle")


def test_unit_has_a_user_a_time_limit_and_no_other_client() -> None:
    sandbox = asset_share.directives(Path("/tmp/bundle"), {"10.0.0.2", "10.0.0.1"}, 60)
    assert sandbox["DynamicUser"] is True
    assert sandbox["RuntimeMaxSec"] == "60"
    assert sandbox["StandardInput"] == "file:/tmp/bundle"
    assert (sandbox["IPAddressDeny"], sandbox["IPAddressAllow"]) == ("any", ["10.0.0.1", "10.0.0.2"])


def test_names_of_hosts_become_addresses_and_unknown_ones_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(name: str, *_: object, **__: object) -> list[tuple[Any, ...]]:
        if name.endswith(".invalid"):
            raise OSError("no address")
        return [(2, 1, 6, "", (name, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    addresses, unknown = asset_share.resolved(["127.0.0.1", "::ffff:127.0.0.2", "no.such.host.invalid"])
    assert (addresses, unknown) == ({"127.0.0.1", "127.0.0.2"}, ["no.such.host.invalid"])


class Action(action.ActionModule):
    """The action with scripted answers of the asset host."""

    def __init__(self, answers: dict[str, Any], *, check_mode: bool = False, **given: Any) -> None:
        self._task = SimpleNamespace(args={"state": "started", **given}, check_mode=check_mode)
        self._answers = answers
        self._connection = SimpleNamespace(
            _shell=SimpleNamespace(tmpdir="/remote", join_path=lambda *parts: "/".join(parts))
        )
        self.calls: list[dict[str, Any]] = []
        self.sent: list[tuple[str, str]] = []

    def _execute_module(self, **parameters: Any) -> dict[str, Any]:
        self.calls.append(parameters["module_args"])
        answer: dict[str, Any] = self._answers[parameters["module_args"]["step"]]
        return answer

    def _transfer_file(self, local: str, remote: str) -> None:
        self.sent.append((local, remote))

    def _remove_tmp_path(self, path: str, force: bool = False) -> None:
        pass


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the run, without Ansible around it."""
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(
        arguments,
        "validated",
        lambda each: {"host": "", "direct_hosts": 2, "port": 0, "time_limit": 9, **each._task.args},
    )
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path), raising=False)
    return tmp_path


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the action warned of."""
    shown: list[str] = []
    monkeypatch.setattr(action.display, "warning", shown.append)
    return shown


def fleet(*names: str, **more: Any) -> dict[str, Any]:
    """The variables of a run on hosts that lack a network."""
    facts = {
        "engine": None,
        "network": {"path": "/cache/net", "sha256": NETWORK, "name": "net"},
        "host": {"lacks": ["network"]},
    }
    return {
        "groups": {"katago": list(names)},
        "ansible_play_hosts": list(names),
        "ansible_play_batch": list(names),
        "inventory_hostname": names[0],
        "hostvars": {
            name: {"preflight_facts": facts, "ansible_host": f"10.0.0.{number}", **more}
            for number, name in enumerate(names)
        },
    }


WORKS = {"probe": {"intact": []}, "start": {"port": 8000, "unknown": []}, "stop": {}}


def test_network_is_sent_once_and_recorded_for_the_run(run_directory: Path) -> None:
    made = Action(WORKS)
    assert made.run(None, fleet("a", "b", "c")) == {"changed": False, "shared": ["net"]}
    assert made.sent == [("/cache/net", f"/remote/{NETWORK}")]
    share = sharing.read(run_directory)
    assert share is not None
    assert (share.host, share.files) == ("a", (NETWORK,))
    token = share.address.removeprefix("http://10.0.0.0:8000/")
    assert len(token) > 40
    assert made.calls[1]["clients"] == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
    assert made.calls[1]["token_sha256"] == digest.of_text(token)
    assert token not in str(made.calls)


def test_installed_network_of_the_asset_host_is_not_sent() -> None:
    made = Action({**WORKS, "probe": {"intact": [NETWORK]}})
    made.run(None, fleet("a", "b", "c"))
    assert made.sent == []
    assert made.calls[1]["sources"] == {NETWORK: f"/opt/katago/networks/{NETWORK}/net"}


def test_two_hosts_get_their_files_from_the_control_node() -> None:
    made = Action(WORKS)
    assert made.run(None, fleet("a", "b"))["shared"] == []
    assert made.calls == []


def test_hosts_with_a_mirror_do_not_count() -> None:
    made = Action(WORKS)
    assert made.run(None, fleet("a", "b", "c", katago_asset_mirror="https://m/x"))["shared"] == []


def test_check_mode_predicts_and_contacts_no_host(
    run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(action.display, "display", shown.append)
    made = Action(WORKS, check_mode=True)
    assert made.run(None, fleet("a", "b", "c")) == {"changed": False, "shared": ["net"]}
    assert (made.calls, sharing.read(run_directory)) == ([], None)
    assert shown == ["[a] Would share net (3 hosts)"]


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ({"probe": {"refused": "it is in security mode since today"}}, "security mode"),
        ({"probe": {"unreachable": True, "msg": "No route to host"}}, "No route to host"),
        ({**WORKS, "start": {"refused": "port 80 cannot be used"}}, "port 80"),
    ],
)
def test_host_that_cannot_share_is_only_a_warning(
    answers: dict[str, Any], cause: str, warnings: list[str], run_directory: Path
) -> None:
    assert Action(answers).run(None, fleet("a", "b", "c")) == {"changed": False, "shared": []}
    assert cause in warnings[0]
    assert "The control node sends the files to each host instead." in warnings[0]
    assert sharing.read(run_directory) is None


def test_share_that_cannot_be_recorded_is_stopped(
    warnings: list[str], run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    made = Action({**WORKS, "stop": {"changed": True}})
    assert made.run(None, fleet("a", "b", "c")) == {"changed": False, "shared": []}
    assert made.calls[-1]["step"] == "stop"
    assert made.calls[-1]["unit"] == made.calls[-2]["unit"]
    assert "No space left on device" in warnings[0]
    assert sharing.read(run_directory) is None


def test_share_is_stopped_once(run_directory: Path) -> None:
    Action(WORKS).run(None, fleet("a", "b", "c"))
    share = sharing.read(run_directory)
    for stopped in (1, 0):
        made = Action(WORKS, state="stopped")
        made.run(None, fleet("a", "b", "c"))
        assert [call["step"] for call in made.calls] == ["stop"] * stopped
    assert share is not None
    assert sharing.read(run_directory) is None


def test_unit_that_cannot_be_stopped_is_named_with_its_time_limit(warnings: list[str]) -> None:
    Action(WORKS).run(None, fleet("a", "b", "c"))
    made = Action({"stop": {"unreachable": True, "msg": "gone"}}, state="stopped")
    assert not made.run(None, fleet("a", "b", "c")).get("failed")
    assert "gone. It ends at its time limit" in warnings[0]


class Delivery(host_files.AssetAction):
    """A delivery to a host that lacks a file; `fetched`: the answer to an attempt to fetch it."""

    def __init__(self, fetched: dict[str, Any], *, check_mode: bool = False) -> None:
        self._task = SimpleNamespace(check_mode=check_mode)
        self._connection = SimpleNamespace(
            _shell=SimpleNamespace(tmpdir="/remote", join_path=lambda *parts: "/".join(parts))
        )
        self._fetched = fetched
        self.calls: list[str] = []

    def _execute_module(self, **parameters: Any) -> dict[str, Any]:
        name = str(parameters["module_name"])
        self.calls.append(name)
        if name == "katago.fleet.asset_fetch":
            return self._fetched
        return {"changed": "source" in parameters["module_args"], "present": False}

    def _transfer_file(self, local: str, remote: str) -> None:
        self.calls.append(f"sent {local}")

    def _remove_tmp_path(self, path: str, force: bool = False) -> None:
        pass


@pytest.fixture
def network(tmp_path: Path) -> Path:
    file = tmp_path / "net"
    file.write_bytes(b"weights")
    return file


SOURCE = sharing.Source("http://10.0.0.1/token/x", "the asset host a", direct=True)


def deliver(made: Delivery, network: Path) -> dict[str, Any]:
    return made.deliver("network", {"sha256": NETWORK}, str(network), {"inventory_hostname": "b"}, [SOURCE])


def test_fetched_file_is_not_sent(network: Path) -> None:
    made = Delivery({"fetched": True})
    assert deliver(made, network)["changed"]
    assert made.calls == ["network", "katago.fleet.asset_fetch", "network"]


def test_control_node_sends_what_a_host_could_not_fetch(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(host_files.display, "warning", shown.append)
    made = Delivery({"fetched": False, "reason": "Connection refused"})
    assert deliver(made, network)["changed"]
    assert made.calls == ["network", "katago.fleet.asset_fetch", f"sent {network}", "network"]
    assert shown == [
        "[b] ffffffffffff was not fetched from the asset host a: Connection refused."
        " The control node sends its own copy."
    ]


def test_nothing_is_fetched_in_check_mode(network: Path) -> None:
    made = Delivery({"fetched": True}, check_mode=True)
    assert deliver(made, network)["changed"]
    assert made.calls == ["network"]


def test_file_without_a_source_and_without_a_checksum_is_sent(network: Path) -> None:
    made = Delivery({"fetched": True})
    assert made.deliver("release_build", {"name": "0.2.0-aa"}, str(network), {"inventory_hostname": "b"})[
        "changed"
    ]
    assert made.calls == ["release_build", f"sent {network}", "release_build"]
