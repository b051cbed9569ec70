"""Procedures on a host that was never deployed: refused in one sentence with the command, nothing locked."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.action import host_lock as host_lock_action
from ansible_collections.katago.fleet.plugins.action import watch as watch_action
from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed
from ansible_collections.katago.fleet.plugins.modules import host_lock, service_validate
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import table
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import watch_table
from tests.stubs import action_result, module_result

NEVER = "katago-mcp is not deployed on this host"
COMMAND = "ansible-playbook playbooks/deploy.yml -l katago-1"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a host without the service."""
    monkeypatch.setattr(paths, "RELEASE_ROOT", tmp_path)
    monkeypatch.setattr(paths, "SERVICE_UNIT_FILE", tmp_path / "katago-mcp.service")
    monkeypatch.setattr(paths, "HOST_LOCK", tmp_path / "lock")
    monkeypatch.setattr(security_mode, "standing", lambda *_: None)
    return tmp_path


def taken(monkeypatch: pytest.MonkeyPatch, procedure: str, *, check: bool = False) -> dict[str, Any]:
    claim = {
        "owner": "anna@control",
        "run": "boot/1:2:3",
        "instead_of": None,
        "going_on": False,
        "session": "",
    }
    return module_result(monkeypatch, host_lock, check=check, state="held", procedure=procedure, **claim)


@pytest.mark.parametrize("procedure", sorted(deployed.NEEDS_RELEASE))
def test_procedure_that_needs_the_service_does_not_get_the_lock(
    bare: Path, monkeypatch: pytest.MonkeyPatch, procedure: str
) -> None:
    answer = taken(monkeypatch, procedure)
    assert answer == {"changed": False, "holder": None, "undeployed": NEVER}
    assert not paths.HOST_LOCK.exists()


@pytest.mark.parametrize("procedure", ["deploy", "evidence", "gpu_driver", "restore", "security_on"])
def test_procedure_that_does_not_need_the_service_gets_the_lock(
    bare: Path, monkeypatch: pytest.MonkeyPatch, procedure: str
) -> None:
    assert taken(monkeypatch, procedure)["holder"]["procedure"] == procedure
    assert paths.HOST_LOCK.exists()


def test_damaged_deployment_gets_the_lock(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "current").symlink_to("releases/gone")
    assert taken(monkeypatch, "rollback")["holder"]["procedure"] == "rollback"


def test_check_mode_of_a_first_deployment_predicts_the_backup(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taken(monkeypatch, "backup", check=True)["holder"]["procedure"] == "backup"
    assert taken(monkeypatch, "restart", check=True)["undeployed"] == NEVER


def refused(monkeypatch: pytest.MonkeyPatch, plugin: ModuleType, **task_arguments: Any) -> Any:
    """The control node's result for a host that answers that it is not deployed."""
    answer = {"changed": False, "holder": None, "undeployed": NEVER, "present": True}
    return action_result(monkeypatch, plugin, answer, **task_arguments)


def test_refusal_of_the_lock_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    result = refused(monkeypatch, host_lock_action, state="held", procedure="restart", who="anna")
    assert (result["failed"], result["refused"]) == (True, True)
    assert result["msg"] == deployed.refusal(NEVER, "katago-1")
    assert result["msg"].endswith(COMMAND)


def test_refusal_of_a_watch_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    result = refused(monkeypatch, watch_action, minutes=15, who="anna")
    assert (result["failed"], result["refused"]) == (True, True)
    assert f"NEXT: {COMMAND}" in watch_table.render({"katago-1": watch_table.read(result)})


def test_validation_says_that_the_host_is_not_deployed(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = module_result(monkeypatch, service_validate, release=None)
    assert answer["msg"] == f"There is nothing to validate: {NEVER}. Deploy one with playbooks/deploy.yml."


def test_evidence_of_a_host_that_is_not_deployed_says_so() -> None:
    result = {"directory": "/records/x", "items": [], "seconds": 1, "complete": True, "undeployed": NEVER}
    assert NEVER in table.outcome(result)[1]
    assert NEVER not in table.outcome({**result, "undeployed": ""})[1]
