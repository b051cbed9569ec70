"""The service is enabled without showing its unit's environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Reports the unit as enabled or not, and records every other command.
SYSTEMCTL = """#!/bin/sh
case "$1" in
  is-enabled) test -e ENABLED ;;
  *)
    echo "$1" >> ORDERS
    test ! -e BROKEN || { echo 'Read-only: password=canary-Zq8x, see the journal' >&2; exit 1; } ;;
esac
"""


class Host:
    """A host with a scripted systemctl."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        program = directory / "systemctl"
        text = SYSTEMCTL
        for name in ("ENABLED", "ORDERS", "BROKEN"):
            text = text.replace(name, str(directory / name))
        program.write_text(text)
        program.chmod(0o755)

    def run(self, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
        """The module's result, and the commands that systemctl got."""
        done = subprocess.run(
            [sys.executable, "-m", "ansible_collections.katago.fleet.plugins.modules.service_enable"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env={
                **os.environ,
                "PATH": f"{self.directory}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT / "collections"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert "canary-Zq8x" not in done.stdout + done.stderr
        orders = self.directory / "ORDERS"
        return json.loads(done.stdout), orders.read_text().split() if orders.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_enabled_unit_is_not_enabled_again(host: Host) -> None:
    answer, orders = host.run()
    assert (answer["changed"], orders) == (True, ["enable"])
    (host.directory / "ENABLED").touch()
    answer, orders = host.run()
    assert (answer["changed"], orders) == (False, ["enable"])


def test_check_mode_changes_nothing(host: Host) -> None:
    answer, orders = host.run(_ansible_check_mode=True)
    assert (answer["changed"], orders) == (True, [])


def test_failure_has_systemds_message_without_secrets(host: Host) -> None:
    (host.directory / "BROKEN").touch()
    answer, _ = host.run()
    assert answer["failed"]
    assert answer["msg"] == ("katago-mcp.service was not enabled: Read-only: password=[redacted]")
