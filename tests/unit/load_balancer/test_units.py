"""What HAProxy and keepalived need to use their files, and what is left after a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import commands, unit_state
from ansible_collections.katago.fleet.plugins.module_utils.common.file_set import File
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import units
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError

UNIT = "haproxy.service"
START = 1_700_000_000


class Host:
    """A unit with a sandbox and a configuration, and what systemctl is asked to do."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.state = {
            "ActiveState": "active",
            "ExecMainStartTimestamp": f"@{START}",
            "UnitFileState": "enabled",
        }
        self.verbs: list[str] = []
        self.failing = ""
        self.sandbox = File(root / "haproxy.service.d" / "katago.conf", b"sandbox")
        self.config = File(root / "etc" / "haproxy.cfg", b"config", 0o600)
        monkeypatch.setattr(unit_state, "properties", lambda *_: self.state)
        monkeypatch.setattr(commands, "ask", self._ask)

    def _ask(self, command: list[str], _: float) -> tuple[int, str]:
        if command[0] != "systemctl":
            return 0, "the last line of the log"
        self.verbs.append(command[1])
        return (1, "it does not start") if command[1] == self.failing else (0, "")

    def write(self, sandbox: str = "sandbox", config: str = "config", changed_at: float = START) -> None:
        """Write the files, the sandbox at a time."""
        for file, text in ((self.sandbox, sandbox), (self.config, config)):
            file.path.parent.mkdir(exist_ok=True)
            file.path.write_text(text)
            file.path.chmod(file.mode)
        os.utime(self.sandbox.path, (changed_at, changed_at))

    def plan(self, *, is_new: bool = False, is_loaded: bool = True) -> units.Plan:
        return units.plan(UNIT, self.sandbox, [self.config], is_new=is_new, is_loaded=is_loaded)

    def content(self) -> dict[str, str]:
        """The content of every file."""
        return {path.name: path.read_text() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A unit that runs with its files."""
    made = Host(tmp_path, monkeypatch)
    made.write()
    return made


def works() -> None:
    """The unit uses its files."""


def fails() -> None:
    """The unit does not use its files."""
    raise LoadBalancerError("HAProxy was reloaded, but it does not listen on port 8444.")


def test_unit_that_uses_its_files_is_left_alone(host: Host) -> None:
    assert host.plan() == units.Plan(UNIT, (), "kept", enables=False, was_active=True)
    assert not host.plan().changes


@pytest.mark.parametrize(
    ("files", "state", "options", "action"),
    [
        ({}, {"ActiveState": "failed"}, {}, "started"),
        # It runs with the configuration of its package.
        ({}, {}, {"is_new": True}, "started"),
        ({"sandbox": "other"}, {}, {}, "restarted"),
        # A run was killed after it had written the sandbox.
        ({"changed_at": START + 60}, {}, {}, "restarted"),
        ({"config": "edited by hand"}, {}, {}, "reloaded"),
        ({}, {}, {"is_loaded": False}, "reloaded"),
        ({}, {"UnitFileState": "disabled"}, {}, "kept"),
    ],
)
def test_unit_is_disturbed_only_as_far_as_needed(
    host: Host, files: dict[str, object], state: dict[str, str], options: dict[str, bool], action: str
) -> None:
    host.write(**files)  # type: ignore[arg-type]
    host.state |= state
    plan = host.plan(**options)
    assert (plan.action, plan.changes) == (action, True)


def test_files_are_replaced_and_used(host: Host) -> None:
    host.write("other", "other")
    units.apply(host.plan(), works)
    assert host.verbs == ["daemon-reload", "enable", "restart"]
    assert host.content() == {"katago.conf": "sandbox", "haproxy.cfg": "config"}
    assert host.config.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("failing", ["", "restart"])
def test_failure_restores_every_file_and_uses_it_again(host: Host, failing: str) -> None:
    host.write("previous sandbox", "previous")
    host.failing = failing
    with pytest.raises(LoadBalancerError, match=r"The previous configuration was restored") as raised:
        units.apply(host.plan(), fails)
    assert ("but haproxy.service does not use it" in str(raised.value)) is bool(failing)
    assert host.content() == {"katago.conf": "previous sandbox", "haproxy.cfg": "previous"}
    assert host.verbs == ["daemon-reload", "enable", "restart", "daemon-reload", "restart"]


def test_first_configuration_that_fails_leaves_no_file_and_no_unit(host: Host) -> None:
    for file in (host.sandbox, host.config):
        file.path.unlink()
    host.state["ActiveState"] = "inactive"
    with pytest.raises(LoadBalancerError, match="port 8444"):
        units.apply(host.plan(is_new=True), fails)
    assert host.content() == {}
    assert host.verbs[-2:] == ["daemon-reload", "stop"]


def test_removed_unit_has_no_file(host: Host) -> None:
    units.remove(UNIT, [File(host.sandbox.path, None), File(host.config.path, None)])
    assert host.content() == {}
    assert host.verbs == ["disable", "daemon-reload"]
