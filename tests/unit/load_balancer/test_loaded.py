"""What keepalived has loaded is known, also after a run that was killed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common.file_set import File
from ansible_collections.katago.fleet.plugins.module_utils.common.unit_state import State
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import loaded
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.loaded import Loaded

RUNS = State(active=True, enabled=True, needs_reload=False, started=1000.0, invocation="a")


def test_record_holds_for_one_run_of_a_unit_and_its_files(tmp_path: Path) -> None:
    file = tmp_path / "a.conf"
    file.touch()
    os.utime(file, (2000, 2000))
    first, second = (Loaded("x.service", [File(file, text)], tmp_path / "run") for text in (b"1", b"2"))
    # Nothing is recorded: the file is newer than the process.
    assert not first.matches(RUNS)
    first.remember(RUNS)
    assert (first.matches(RUNS), second.matches(RUNS)) == (True, False)
    restarted = replace(RUNS, invocation="b", started=3000.0)
    assert (first.matches(restarted), second.matches(restarted)) == (True, True)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"invocation": 1}'])
def test_damaged_record_counts_as_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.conf"
    file.touch()
    loaded.record("x.service", tmp_path).write_text(content)
    configured = Loaded("x.service", [File(file, b"")], tmp_path)
    assert not configured.matches(RUNS)
    assert configured.matches(replace(RUNS, started=file.stat().st_mtime))
