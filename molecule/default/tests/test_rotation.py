"""A deployment rotates tokens without a restart of the service."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from lab.hosts import Host
from tests import fleet
from tests.hosts import connect

PLACE = "/etc/katago-mcp/credentials"
SHOW = "systemctl show katago-mcp.service --property=MainPID,NRestarts,ExecMainStartTimestampMonotonic"


@pytest.fixture
def target() -> Host:
    return fleet.LAB.hosts()[0]


@pytest.fixture
def on(target: Host) -> Any:
    """The same host, from inside."""
    return connect(target.name)


def status(target: Host, token: str) -> int:
    """The status of an MCP request without a message; 401 means that the token is unknown."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return fleet.get(target, "/mcp", method="POST", headers=headers)[0]


def deploy(target: Host, tokens: list[dict[str, object]]) -> fleet.Run:
    return fleet.play("deploy.yml", f"--limit={target.name}", variables={"katago_mcp_tokens": tokens})


def test_deployments_rotate_tokens_without_a_restart(target: Host, on: Any) -> None:
    old, new = fleet.token(), secrets.token_urlsafe(32)
    admin = [token for token in fleet.LAB.tokens() if token["name"] != "lab"]
    added: dict[str, object] = {"name": "lab-2", "scopes": ["analyze"], "token": new}
    before = on.check_output(SHOW)
    accepted = status(target, old)
    assert (accepted not in (0, 401), status(target, new)) == (True, 401)
    try:
        run = deploy(target, [*fleet.LAB.tokens(), added])
        assert run.returncode == 0, run.output
        assert "new tokens were loaded without a restart" in run.output
        assert (status(target, old), status(target, new)) == (accepted, accepted)
        run = deploy(target, [*admin, added])
        assert run.returncode == 0, run.output
        assert (status(target, old), status(target, new)) == (401, accepted)
    finally:
        back = fleet.play("deploy.yml", f"--limit={target.name}")
    assert back.returncode == 0, back.output
    assert (status(target, old), status(target, new)) == (accepted, 401)
    assert on.check_output(SHOW) == before


@pytest.mark.long
def test_deployment_fails_if_the_service_does_not_load_its_tokens(target: Host, on: Any) -> None:
    """The service alone sees an empty directory in place of its credentials."""
    old, new = fleet.token(), secrets.token_urlsafe(32)
    before, accepted = on.check_output(SHOW), status(target, old)
    within = "nsenter --mount --target $(systemctl show katago-mcp.service --property=MainPID --value)"
    on.check_output(f"{within} mount -t tmpfs none {PLACE}")
    try:
        run = deploy(target, [{"name": "lab-2", "scopes": ["analyze"], "token": new}])
        assert run.returncode != 0, run.output
        assert "did not load the tokens file and keeps its previous tokens" in run.output
        assert f"{PLACE}/tokens.json cannot be read (No such file or directory)" in run.output
        assert (status(target, old), status(target, new)) == (accepted, 401)
    finally:
        on.check_output(f"{within} umount {PLACE}")
        back = fleet.play("deploy.yml", f"--limit={target.name}")
    assert back.returncode == 0, back.output
    assert on.check_output(SHOW) == before


def test_deployment_repairs_changed_permissions_of_credentials(target: Host, on: Any) -> None:
    shown = f"stat --format='%a %U %G' {PLACE} {PLACE}/tokens.json {PLACE}/operator.token"
    before = on.check_output(shown)
    on.check_output(f"chmod 0700 {PLACE} && chgrp root {PLACE} {PLACE}/tokens.json")
    on.check_output(f"chmod 0644 {PLACE}/operator.token")
    run = fleet.play("deploy.yml", f"--limit={target.name}")
    assert run.returncode == 0, run.output
    assert on.check_output(shown) == before
