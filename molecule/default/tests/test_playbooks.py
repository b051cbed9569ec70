"""A second run finds nothing to do, the check mode knows it, and the defaults work too."""

from __future__ import annotations

from tests import fleet


def test_check_mode_predicts_no_change() -> None:
    run = fleet.play("site.yml", "--check", "--diff")
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}, run.output


def test_second_run_changes_and_downloads_nothing() -> None:
    run = fleet.play("site.yml")
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}, run.output
    assert "Fetching" not in run.output
    assert "Building" not in run.output


def test_validation_names_the_release() -> None:
    run = fleet.play("validate.yml")
    assert run.returncode == 0, run.output
    assert run.output.count("works: ") == len(fleet.LAB.hosts())


def test_service_with_the_defaults_is_open_to_its_own_host_alone() -> None:
    defaults = {
        "katago_mcp_listen_address": "127.0.0.1",
        "katago_mcp_metrics_listen_address": "127.0.0.1",
        "katago_mcp_allowed_hosts": [],
        "katago_mcp_allowed_clients": ["localhost"],
        "katago_mcp_tokens": [],
    }
    host = fleet.LAB.hosts()[0]
    limit = f"--limit={host.name}"
    try:
        run = fleet.play("deploy.yml", limit, variables=defaults)
        assert run.returncode == 0, run.output
        assert fleet.get(host, "/health")[0] == 0
    finally:
        back = fleet.play("deploy.yml", limit)
    assert back.returncode == 0, back.output
    assert fleet.get(host, "/mcp", method="POST", headers={"Content-Type": "application/json"})[0] == 401
