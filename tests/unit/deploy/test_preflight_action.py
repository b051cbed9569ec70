"""What a preflight refuses before a driver is installed, and that `site.yml` asks for it first."""

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
    """The action with a host that was measured so."""

    def __init__(self, measured: dict[str, Any], **arguments: Any) -> None:
        self._task = SimpleNamespace(args={"scope": "system", **arguments})
        self._measured = measured

    def _execute_module(self, **_: Any) -> dict[str, Any]:
        return self._measured


@pytest.fixture(autouse=True)
def _without_ansible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})


def test_system_that_the_service_runs_on_is_fit_without_any_variable() -> None:
    assert Host({"host": DEBIAN}).run() == {"changed": False, "host": DEBIAN}


def test_other_system_is_refused() -> None:
    ubuntu = {**DEBIAN, "os": {"id": "ubuntu", "version": "24.04"}}
    result = Host({"host": ubuntu}).run()
    assert result["failed"]
    assert "The host runs ubuntu 24.04; tested: Debian 12 and 13." in result["msg"]
    assert "preflight_untested_system: true" in result["msg"]


@pytest.mark.parametrize("accepted", [True, "true", "yes"])
def test_other_system_that_is_accepted_is_warned_of(accepted: object) -> None:
    ubuntu = {**DEBIAN, "os": {"id": "ubuntu", "version": "24.04", "like": ["debian"]}}
    result = Host({"host": ubuntu}, untested_system=accepted).run()
    assert result["warnings"] == ["untested system: ubuntu 24.04; tested: Debian 12 and 13"]
    assert not result.get("failed")


def test_host_that_cannot_be_measured_has_failed() -> None:
    assert Host({"unreachable": True}).run()["unreachable"]


def test_no_driver_is_installed_before_all_hosts_were_found_fit() -> None:
    plays = yaml.safe_load((PLAYBOOKS / "site.yml").read_text())
    imported = [play.get("ansible.builtin.import_playbook") for play in plays]
    first = plays[0]
    assert imported.index("gpu_driver.yml") > 0
    assert first["any_errors_fatal"] is True
    assert first["tasks"][0]["ansible.builtin.include_role"] == {
        "name": "katago.fleet.preflight",
        "tasks_from": "system",
    }
