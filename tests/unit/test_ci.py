"""What CI runs for every change, and at night."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("nightly", "arguments"), [(None, ""), ("false", ""), ("true", "all")])
def test_long_scenarios_run_at_night(nightly: str | None, arguments: str, tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    test = tmp_path / "bin/test"
    test.write_text('#!/bin/sh\necho "ran $*"\n')
    test.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CI_NIGHTLY"}
    if nightly is not None:
        environment["CI_NIGHTLY"] = nightly
    done = subprocess.run([tmp_path / ".ci/run"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"ran {arguments}".strip()
