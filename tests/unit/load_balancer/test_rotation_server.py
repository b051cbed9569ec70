"""How a host reports the way in which load balancers must call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.service import admin
from ansible_collections.katago.fleet.plugins.modules import rotation_server
from tests.stubs import module_result


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The configuration of the running service."""
    config: dict[str, Any] = {"server": {"host": "0.0.0.0", "port": 8443}}
    monkeypatch.setattr(admin, "running_config", lambda: config)
    monkeypatch.setattr(paths, "PINNED_CERTIFICATE", tmp_path / "tls.crt")
    return config


def test_running_service_decides_and_not_the_inventory(
    running: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = module_result(monkeypatch, rotation_server)
    assert seen["server"] == {"port": 8443, "tls": False, "tls_name": ""}
    assert seen["certificate"] == ""
    running["tls"] = {"enabled": True}
    paths.PINNED_CERTIFICATE.write_text("PEM")
    seen = module_result(monkeypatch, rotation_server)
    assert seen["server"]["tls"]
    assert seen["certificate"] == "PEM"


def test_missing_certificate_is_named(running: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    running["tls"] = {"enabled": True}
    seen = module_result(monkeypatch, rotation_server)
    assert seen["failed"]
    assert "tls.crt" in seen["msg"]


@pytest.mark.parametrize("config", [None, {"server": {}}])
def test_service_that_does_not_run_reports_nothing(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any] | None
) -> None:
    monkeypatch.setattr(admin, "running_config", lambda: config)
    assert module_result(monkeypatch, rotation_server)["server"] is None
