"""What preflight refuses before a driver is installed, and its place in `site.yml`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.action import preflight
from ansible_collections.katago.fleet.plugins.modules import preflight as preflight_module
from tests.stubs import action_result

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
DEBIAN = {
    "os": {"id": "debian", "version": "12"},
    "architecture": "x86_64",
    "python": [3, 11, 2],
    "systemd": 252,
}


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The action's result for these measured facts of a host."""

    def check(measured: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        return action_result(monkeypatch, preflight, measured, scope="system", **arguments)

    return check


def test_tested_system_is_accepted_without_any_variable(checked: Callable[..., dict[str, Any]]) -> None:
    assert checked({"host": DEBIAN}) == {"changed": False, "host": DEBIAN}


def test_untested_system_is_refused(checked: Callable[..., dict[str, Any]]) -> None:
    ubuntu = {**DEBIAN, "os": {"id": "ubuntu", "version": "24.04"}}
    result = checked({"host": ubuntu})
    assert result["failed"]
    assert "The host runs ubuntu 24.04; tested: Debian 12 and 13." in result["msg"]
    assert "preflight_untested_system: true" in result["msg"]


@pytest.mark.parametrize("accepted", [True, "true", "yes"])
def test_accepted_untested_system_gives_a_warning(
    checked: Callable[..., dict[str, Any]], accepted: object
) -> None:
    ubuntu = {**DEBIAN, "os": {"id": "ubuntu", "version": "24.04", "like": ["debian"]}}
    result = checked({"host": ubuntu}, untested_system=accepted)
    assert result["warnings"] == ["untested system: ubuntu 24.04; tested: Debian 12 and 13"]
    assert not result.get("failed")


def test_host_that_cannot_be_measured_fails(checked: Callable[..., dict[str, Any]]) -> None:
    assert checked({"unreachable": True})["unreachable"]


def test_only_directories_of_the_system_are_judged_for_other_users() -> None:
    """Ours are corrected by the deployment."""
    above = {str(parent) for path in preflight_module.OURS for parent in path.parents}
    assert above == {
        *("/", "/etc", "/opt", "/usr", "/usr/local", "/usr/local/bin", "/var", "/var/cache", "/var/lib")
    }


def test_no_driver_is_installed_before_all_hosts_pass_preflight() -> None:
    plays = yaml.safe_load((PLAYBOOKS / "site.yml").read_text())
    imported = [play.get("ansible.builtin.import_playbook") for play in plays]
    first = plays[0]
    assert imported.index("gpu_driver.yml") > 0
    assert first["any_errors_fatal"] is True
    assert {"name": "katago.fleet.preflight", "tasks_from": "system"} in [
        task.get("ansible.builtin.import_role") for task in first["tasks"]
    ]
