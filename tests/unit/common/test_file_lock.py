"""Exclusive locks on files, between processes."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import file_lock

FORK = multiprocessing.get_context("fork")


def test_lock_is_free_again_after_its_block_and_after_the_death_of_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    is_locked = FORK.Event()

    def hold() -> None:
        with file_lock.locked(path):
            is_locked.set()
            FORK.Event().wait(60)

    holder = FORK.Process(target=hold)
    holder.start()
    assert is_locked.wait(60)
    with pytest.raises(TimeoutError, match=r"locked it for 0 s; find it with `fuser .*/lock`"):
        file_lock.locked(path, 0).__enter__()
    holder.kill()
    holder.join()
    for _ in range(2):
        with file_lock.locked(path, 10):
            assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("seconds", [None, 60])
def test_lock_is_waited_for(tmp_path: Path, seconds: float | None) -> None:
    path = tmp_path / "lock"
    is_locked, may_end = FORK.Event(), FORK.Event()

    def hold() -> None:
        with file_lock.locked(path):
            is_locked.set()
            may_end.wait(60)

    # A process of its own, because a forked one would inherit the open file and with it the lock.
    holder = FORK.Process(target=hold)
    holder.start()
    assert is_locked.wait(60)
    threading.Timer(0.3, may_end.set).start()
    with file_lock.locked(path, seconds):
        assert may_end.is_set()
    holder.join(60)
