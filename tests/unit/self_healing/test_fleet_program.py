"""The program of the fleet and its units: it survives what procedures print, and systemd waits for it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import program

UNIT = Path(__file__).resolve().parents[3] / "roles/fleet_healing/templates/katago-healing.service.j2"


def test_output_of_a_procedure_may_have_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "ansible-playbook"
    stub.write_text("#!/bin/sh\nprintf 'fatal: caf\\351\\n'\nexit 2\n")
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv(program.INVENTORY, "inventory.json")
    ran = program.run(["katago.fleet.triage"])
    assert ran.status == 2
    assert "fatal: caf" in ran.output


def test_systemd_waits_longer_than_all_procedures_of_a_run_take() -> None:
    (seconds,) = re.findall(r"^TimeoutStartSec=(\d+)$", UNIT.read_text(), re.M)
    assert int(seconds) > program.MOST_PROCEDURES * program.DEADLINE


def test_program_that_fails_is_started_again_after_a_pause_and_without_a_limit() -> None:
    lines = UNIT.read_text().splitlines()
    # The message that waits would start it at once, until the limit ends that permanently.
    assert {"Restart=on-failure", "RestartSec=60", "StartLimitIntervalSec=0"} <= set(lines)
