"""Runs the role's restore on this machine, which has no record of a driver change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_original_error_is_reported_even_if_the_service_does_not_restart(tmp_path: Path) -> None:
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {
            "ansible_python_interpreter": sys.executable,
            "gpu_driver_vendor": "none",
            "_gpu_driver_service_was_running": True,
            # Fails before anything on this machine is restarted.
            "katago_mcp_force": "neither",
        },
        "tasks": [
            {
                "block": [{"ansible.builtin.fail": {"msg": "The module cannot be loaded."}}],
                "rescue": [
                    {
                        "ansible.builtin.include_role": {
                            "name": "katago.fleet.gpu_driver",
                            "tasks_from": "restore",
                        }
                    }
                ],
            }
        ],
    }
    path = tmp_path / "play.yml"
    path.write_text(json.dumps([play]))
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "--inventory=localhost,", str(path)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    output = run.stdout + run.stderr
    assert run.returncode != 0, output
    message = output.rpartition("Fail with the error and the result of the restore")[2]
    assert "The module cannot be loaded." in message, output
    assert "0 packages were removed again" in message
    assert "The service does not run on the previous driver" in message
    assert "neither" in message
