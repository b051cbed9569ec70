"""The lock of a program in the background, while the program starts and ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import file_lock
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import background


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "probes.jsonl.lock"


def test_holder_is_known_as_long_as_the_program_runs(lock: Path) -> None:
    assert background.holder(lock) is None
    with background.held(lock):
        assert background.holder(lock) == os.getpid()
    assert background.holder(lock) is None


def test_holder_that_has_not_written_its_pid_is_waited_for(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: lock.write_text("4711\n"))
    with file_lock.locked(lock, 0):
        assert background.holder(lock) == 4711


def test_program_waits_for_a_process_that_looks_for_a_holder(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.touch()
    looking = os.open(lock, os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
    with background.held(lock):
        assert background.holder(lock) == os.getpid()
    os.close(looking)
