"""The overview on real hosts: nothing to report on a healthy fleet, and every planted finding otherwise."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lab import paths
from tests import browser, fleet, hosts
from tests.browser import PROGRAM

from .conftest import FIRST, SECOND, Vault

STATE = "/var/lib/katago-backup/state.json"


def overview(vault: Vault, directory: Path, **variables: Any) -> tuple[dict[str, Any], fleet.Run]:
    """The overview as JSON, and the run."""
    file = directory / "fleet.json"
    run = vault.play("fleet.yml", fleet_json=str(file), fleet_html=str(directory / "fleet.html"), **variables)
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}
    content: dict[str, Any] = json.loads(file.read_text())
    return content, run


def texts(content: dict[str, Any], host: str) -> list[str]:
    return [f"{each['kind']}: {each['text']}" for each in content["hosts"][host]["findings"]]


def test_there_is_nothing_to_report_about_a_healthy_fleet(deployed: Vault, tmp_path: Path) -> None:
    content, run = overview(deployed, tmp_path, drift=True)
    assert "2 hosts: nothing to report." in run.output, run.output
    for name in (FIRST, SECOND):
        row = content["hosts"][name]["row"]
        host = hosts.connect(name)
        assert (row["state"], row["release"], row["rotation"]) == ("ready", hosts.current(host), "-")
        assert content["hosts"][name]["built"] == hosts.current(host)
        assert content["hosts"][name]["facts"]["release"]["value"]["verdict"] == "good"


@pytest.fixture
def planted(deployed: Vault, first: Any, second: Any, tmp_path: Path) -> Any:
    """Plant a finding of every kind that needs no load balancer; remove them afterwards."""
    server = tmp_path / "server"
    shutil.copytree(paths.ROOT / "server", server, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for file, name in (("pyproject.toml", "version"), ("src/katago_mcp/__init__.py", "__version__")):
        text = (server / file).read_text()
        changed = re.sub(rf'^{name} = ".*"$', f'{name} = "0.1.9"', text, count=1, flags=re.M)
        assert changed != text
        (server / file).write_text(changed)
    run = deployed.play(
        "deploy.yml", f"--limit={SECOND}", katago_mcp_server=str(server), katago_mcp_max_visits=999
    )
    assert run.returncode == 0, run.output
    run = deployed.play("mitigate.yml", f"--limit={FIRST}", visits=50, minutes=30, why="a test")
    assert run.returncode == 0, run.output
    first.check_output(f'cp {STATE} {STATE}.kept && sed -i \'s/"at": "20[0-9]*/"at": "2020/\' {STATE}')
    lock = {"owner": "berta@elsewhere", "procedure": "rollback", "run": "another/1:42:47"}
    lock["since"] = first.check_output("date --utc --date='25 minutes ago' +%Y-%m-%dT%H:%M:%SZ")
    first.check_output(f"cat > {hosts.LOCK} <<'END'\n{json.dumps(lock)}\nEND")
    second.check_output("touch /run/reboot-required && echo libc6 > /run/reboot-required.pkgs")
    yield
    first.check_output(f"mv {STATE}.kept {STATE} && rm {hosts.LOCK}")
    second.check_output("rm /run/reboot-required /run/reboot-required.pkgs")
    for playbook, limit in (("mitigate_undo.yml", FIRST), ("deploy.yml", SECOND)):
        run = deployed.play(playbook, f"--limit={limit}")
        assert run.returncode == 0, run.output


@pytest.mark.usefixtures("planted")
def test_every_planted_finding_is_reported(deployed: Vault, tmp_path: Path) -> None:
    content, run = overview(deployed, tmp_path)
    found = texts(content, FIRST)
    for start in (
        "backup: the last verified backup is",
        "limits: limits are lowered until",
        "lock: locked by berta@",
    ):
        assert any(each.startswith(start) for each in found), (start, found)
    found = texts(content, SECOND)
    for start in (
        "drift: the server has version 0.1.9",
        "drift: katago.maxVisits is 999",
        "reboot: the system asks for a reboot because of libc6",
        "mixed: it has server 0.1.9",
    ):
        assert any(each.startswith(start) for each in found), (start, found)
    assert (
        max(map(len, run.output[run.output.index("\nHOST ") : run.output.index("PLAY RECAP")].splitlines()))
        <= 150
    )
    page = (tmp_path / "fleet.html").read_text()
    assert "locked by berta@elsewhere" in page
    if shutil.which(PROGRAM):
        profile = tmp_path / "profile"
        profile.mkdir()
        with browser.started(profile) as opened:
            for width in (390, 1280):
                for dark in (False, True):
                    shown = opened.show(tmp_path / "fleet.html", width, dark=dark)
                    assert shown.page_width <= width
                    assert shown.asked == [(tmp_path / "fleet.html").as_uri()]
                    assert shown.trouble == []
                    assert SECOND in shown.text


def test_frozen_and_undeployed_hosts_are_rows(deployed: Vault, tmp_path: Path) -> None:
    with fleet.frozen(fleet.host_named(FIRST)):
        content, run = overview(deployed, tmp_path)
    assert content["hosts"][FIRST]["row"]["state"] == "unreachable"
    assert content["hosts"][SECOND]["row"]["state"] == "ready"
    assert "1 with urgent findings" in run.output
