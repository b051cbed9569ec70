"""What preflight refuses before a driver is installed, and its place in `site.yml`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.action import preflight

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
DEBIAN = {
    "os": {"id": "debian", "version": "12"},
    "architecture": "x86_64",
    "python": [3, 11, 2],
    "systemd": 252,
}


class Host(preflight.ActionModule):
    """The action with these measured facts of a host."""

    def __init__(self, measured: dict[str, Any], **arguments: Any) -> None:
        self._task = SimpleNamespace(args={"scope": "system", **arguments})
        self._measured = measured

    def _execute_module(self, **_: Any) -> dict[str, Any]:
        return self._measured


@pytest.fixture(autouse=True)
def _without_ansible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})


def test_tested_system_is_accepted_without_any_variable() -> None:
    assert Host({"host": DEBIAN}).run() == {"changed": False, "host": DEBIAN}


def test_untested_system_is_refused() -> None:
    ubuntu = {**DEBIAN, "os": {"id": "ubuntu", "version": "24.04"}}
    result = Host({"host": ubuntu}).run()
    assert result["failed"]
    assert "The host runs ubuntu 24.04; tested: Debian 12 and 13." in result["msg"]
    assert "preflight_untested_system: true" in result["msg"]


@pytest.mark.parametrize("accepted", [True, "true", "yes"])
def test_accepted_untested_system_gives_a_warning(accepted: object) -> None:
    ubuntu = {**DEBIAN, "os": {"id": "ubuntu", "version": "24.04", "like": ["debian"]}}
    result = Host({"host": ubuntu}, untested_system=accepted).run()
    assert result["warnings"] == ["untested system: ubuntu 24.04; tested: Debian 12 and 13"]
    assert not result.get("failed")


def test_host_that_cannot_be_measured_fails() -> None:
    assert Host({"unreachable": True}).run()["unreachable"]


def test_no_driver_is_installed_before_all_hosts_pass_preflight() -> None:
    plays = yaml.safe_load((PLAYBOOKS / "site.yml").read_text())
    imported = [play.get("ansible.builtin.import_playbook") for play in plays]
    first = plays[0]
    assert imported.index("gpu_driver.yml") > 0
    assert first["any_errors_fatal"] is True
    assert first["tasks"][1]["ansible.builtin.include_role"] == {
        "name": "katago.fleet.preflight",
        "tasks_from": "system",
    }
