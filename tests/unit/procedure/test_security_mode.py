"""The security mode: its record, the procedures that it blocks, and the isolation of the host."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.action import incident_reminders as incident_reminders_module
from ansible_collections.katago.fleet.plugins.action import watch as watch_module
from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import restic, run
from ansible_collections.katago.fleet.plugins.module_utils.backup import settings as backup_settings
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, sockets
from ansible_collections.katago.fleet.plugins.module_utils.procedure import isolation, security_mode
from ansible_collections.katago.fleet.plugins.module_utils.procedure.security_mode import Mode, RefusedError
from ansible_collections.katago.fleet.plugins.module_utils.watch import sampler, samples
from ansible_collections.katago.fleet.plugins.modules import host_program, incident_reminders, watch
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import watch_table
from tests.stubs import module_result

ROOT = Path(__file__).resolve().parents[3]
MODE = Mode("2026-11-24T02:00:00Z", "anna@ops", "odd logins", "2026-11-24-1")


@pytest.mark.parametrize("there", [("volatile",), ("lasting",), ("volatile", "lasting")])
def test_either_record_puts_the_host_into_the_mode(tmp_path: Path, there: tuple[str, ...]) -> None:
    for name in there:
        (tmp_path / name).write_text(security_mode.as_text(MODE))
    assert security_mode.standing(tmp_path / "volatile", tmp_path / "lasting") == MODE


def test_host_without_records_is_not_in_the_mode(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert security_mode.standing(tmp_path / "none", tmp_path / "file" / "none") is None


@pytest.mark.parametrize("content", [b"", b'{"since": "20', b"[]", b'{"who": 1}', b"\xff\xfe"])
def test_unreadable_record_counts_as_the_mode_and_a_readable_one_is_preferred(
    tmp_path: Path, content: bytes
) -> None:
    volatile, lasting = tmp_path / "volatile", tmp_path / "lasting"
    volatile.write_bytes(content)
    mode = security_mode.standing(volatile, lasting)
    assert mode is not None
    assert (mode.who, mode.isolated) == ("unknown", False)
    assert str(volatile) in mode.why
    lasting.write_text(security_mode.as_text(MODE))
    assert security_mode.standing(volatile, lasting) == MODE


def enter(before: Mode | None, **given: Any) -> Mode:
    values = {"now": "later", "who": "bo", "why": "again", "incident": "", "isolated": True, "egress": False}
    return security_mode.entered(before, **{**values, **given})


def test_starting_the_mode_again_keeps_its_record_and_never_reduces_isolation() -> None:
    mode = enter(MODE, isolated=False, egress=True)
    assert (mode.since, mode.who, mode.why) == (MODE.since, MODE.who, MODE.why)
    assert (mode.isolated, mode.egress) == (True, True)
    again = enter(mode, isolated=False, egress=False)
    assert again == mode


@pytest.mark.parametrize("why", ["", "  \n ", "x" * 1001])
def test_reason_is_required(why: str) -> None:
    with pytest.raises(RefusedError, match="give the reason"):
        enter(None, why=why)


def test_reason_is_one_line() -> None:
    assert enter(None, why=" odd\n\x0blogins ").why == "odd logins"


def test_refusal_shows_the_record_and_the_command_that_ends_the_mode() -> None:
    message = security_mode.refusal(asdict(MODE), "katago-1", "restart")
    assert message.startswith("Refused; nothing was changed on this host. katago-1 is in security mode since")
    for part in (MODE.since, MODE.who, MODE.why, MODE.incident, "security_off.yml -l katago-1 -e 'why="):
        assert part in message


@pytest.mark.parametrize("user", [None, 999])
def test_ruleset_accepts_ssh_before_it_drops_and_does_not_affect_the_host_itself(user: int | None) -> None:
    text = isolation.ruleset({9090, 8080}, {22, 2222}, user)
    for chain, direction in (("input", "dport"), ("output", "sport")):
        lines = text.partition(f"chain {chain} {{")[2].partition("}\n\n")[0].splitlines()
        rules = [line.strip() for line in lines]
        accept = rules.index(f"tcp {direction} {{ 22, 2222 }} accept")
        assert accept < rules.index(f"tcp {direction} {{ 8080, 9090 }} drop")
    assert ("meta skuid 999 drop" in text) == (user is not None)
    assert "policy drop" not in text
    assert text.splitlines()[1] == "delete table inet katago_security"


def test_listening_ports_of_a_process_are_found() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as two,
    ):
        ports = {one.getsockname()[1], two.getsockname()[1]}
        with socket.create_connection(one.getsockname()):
            assert sockets.ports_of([os.getpid()], Path("/proc")) >= ports
            assert sockets.ports_of([2**22 + 1], Path("/proc")) == set()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 2222"}, {2222}),
        ({"SSH_CONNECTION": "nonsense"}, {22}),
        ({}, {22}),
    ],
)
def test_port_of_the_operators_connection_is_known(
    tmp_path: Path, environment: dict[str, str], expected: set[int]
) -> None:
    assert isolation.ssh_ports(environment, tmp_path) == expected


def test_unit_loads_the_table_after_nftables_and_before_the_network() -> None:
    unit = isolation.unit()
    assert "After=nftables.service" in unit
    assert "Before=network-pre.target katago-mcp.service" in unit
    assert f"ConditionPathExists={paths.SECURITY_MODE_LASTING}" in unit


def test_backup_forgets_nothing_in_the_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security_mode, "standing", lambda *_: MODE)
    messages: list[str] = []
    settings = backup_settings.Settings(
        host="katago-1",
        assets=True,
        engine=True,
        keep={"daily": 1},
        read_data="all",
        scratch=str(tmp_path),
        metrics="",
        lock_wait=1,
        deadline=1,
    )
    # The repository does not exist, so that every use of it fails.
    repository = restic.Repository.__new__(restic.Repository)
    run.Backup(
        settings,
        backup_settings.State(),
        repository,
        repository,
        messages.append,
        root=tmp_path,
        temporary=tmp_path,
        state_file=tmp_path / "state.json",
    )._forget()
    assert messages == [f"No snapshot is removed: the host is in security mode {MODE}"]


def answered(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, *, check: bool = False, **parameters: Any
) -> dict[str, Any]:
    """The result of a module on a host in the mode."""
    monkeypatch.setattr(security_mode, "standing", lambda *_: MODE)
    return module_result(monkeypatch, module, check=check, **parameters)


TERMS = asdict(samples.Terms(minutes=15))
WATCHED = {"terms": TERMS, "restart": True, "incident": "", "who": "anna"}


@pytest.mark.parametrize("check", [False, True])
def test_host_in_the_mode_is_not_watched(monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    monkeypatch.setattr(watch, "start", lambda order: pytest.fail(f"started: {order}"))
    monkeypatch.setattr(watch, "look", lambda: (None, watch.NEVER, False))
    monkeypatch.setattr(sampler, "take", lambda *_: pytest.fail("sampled"))
    answer = answered(monkeypatch, watch, check=check, fetch=False, **WATCHED)
    assert answer == {"changed": False, "security_mode": asdict(MODE)}
    answer = answered(monkeypatch, watch, check=check, fetch=True, **WATCHED)
    assert answer["verdict"]["verdict"] == "unknown"


def test_no_program_is_installed_on_a_host_in_the_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "program"
    source = tmp_path / "source"
    source.write_bytes(b"new")
    parameters: dict[str, Any] = {
        "path": str(path),
        "sha256": digest.of_bytes(b"new"),
        "source": str(source),
    }
    assert answered(monkeypatch, host_program, **parameters)["security_mode"] == asdict(MODE)
    assert not path.exists()


@pytest.mark.parametrize(
    ("before", "plan"), [("", "new"), ("old", "new"), ("old", ""), ("new", "new"), ("", "")]
)
def test_host_of_the_reminder_timer_in_the_mode_is_unchanged_and_reports_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, plan: str
) -> None:
    monkeypatch.setattr(paths, "INCIDENT_STATE", tmp_path)
    for name in ("arm", "disarm"):
        monkeypatch.setattr(incident_reminders, name, lambda *_, **__: pytest.fail("changed"))
    if before:
        (tmp_path / "i.json").write_text(before)
    done = {"at": MODE.since, "event": "overdue", "name": "update"}
    (tmp_path / "i.jsonl").write_text(json.dumps(done) + "\n")
    answer = answered(monkeypatch, incident_reminders, incident="i", plan=plan, channels="[]")
    assert answer["done"] == [done]
    assert answer["changed"] is False
    assert answer.get("security_mode") == (None if before == plan else asdict(MODE))


CHAT = {"name": "chat", "kind": "slack", "url": "https://go.net/x"}
CHANNELS = [{"group": "team", "audience": "team", "channels": [CHAT]}]


class Timekeeper(incident_reminders_module.ActionModule):
    """The control node's half of the module, for a host in the mode."""

    def __init__(self, directory: Path, plan: str) -> None:
        clock = {"incident": "i", "plan": plan}
        arguments = {"clock": clock, "channels": CHANNELS, "records_dir": str(directory)}
        self._task = SimpleNamespace(delegate_to=None, check_mode=False, args=arguments)

    def deliver_program(self, *_: Any) -> dict[str, Any]:
        """The program is not installed."""
        return {"changed": False, "present": False, "security_mode": asdict(MODE)}

    def _execute_module(self, **_: Any) -> dict[str, Any]:
        done = [{"at": MODE.since, "event": "overdue", "name": "update"}]
        return {"changed": False, "done": done, "security_mode": asdict(MODE)}


@pytest.mark.parametrize("plan", ["new", ""])
def test_incident_continues_if_the_host_of_its_reminder_timer_is_in_the_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(incident_reminders_module.display, "warning", messages.append)
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    result = Timekeeper(tmp_path, plan).run(None, {"inventory_hostname": "katago-1"})
    assert not result.get("failed")
    words = [*result["problems"], *messages]
    assert len(words) == 1
    assert f"The reminder host katago-1 is in security mode {MODE}" in words[0]
    assert bool(result["problems"]) is bool(plan)
    assert "overdue" in (tmp_path / "incidents" / "i" / "timeline.jsonl").read_text()


class Watcher(watch_module.ActionModule):
    """The control node's half of a watch, for a host with or without the sampler."""

    def __init__(self, *, has_sampler: bool) -> None:
        arguments = {"minutes": 15, "who": "anna"}
        self._task = SimpleNamespace(check_mode=False, args=arguments)
        self._has_sampler = has_sampler

    def _execute_module(self, module_name: str, **_: Any) -> dict[str, Any]:
        if module_name.endswith(".program") and self._has_sampler:
            return {"changed": False, "present": True}
        return {"changed": False, "present": False, "security_mode": asdict(MODE)}


@pytest.mark.parametrize("has_sampler", [False, True])
def test_watch_of_a_host_in_the_mode_is_refused_with_the_common_message(
    monkeypatch: pytest.MonkeyPatch, has_sampler: bool
) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    result = Watcher(has_sampler=has_sampler).run(None, {"inventory_hostname": "katago-1"})
    assert (result["failed"], result["refused"]) == (True, True)
    assert result["msg"] == security_mode.refusal(asdict(MODE), "katago-1", "watch")
    table = watch_table.render({"katago-1": watch_table.read(result)})
    assert "NEXT: ansible-playbook playbooks/security_show.yml -l katago-1" in table
