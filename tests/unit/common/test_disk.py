"""A disk on which the service cannot write is found, also if root still can."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import disk


@pytest.mark.parametrize(
    ("blocks", "available", "obstacles"),
    [
        (1000, 1000, []),
        (1000, 0, ["{} cannot be written by the service: No space left on device"]),
        # Some file systems count no blocks.
        (0, 0, []),
    ],
)
def test_blocks_that_are_reserved_for_root_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, available: int, obstacles: list[str]
) -> None:
    status = SimpleNamespace(f_blocks=blocks, f_bavail=available, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    assert list(disk.obstacles([tmp_path])) == [text.format(tmp_path) for text in obstacles]


def test_directory_that_is_missing_is_skipped(tmp_path: Path) -> None:
    assert list(disk.obstacles([tmp_path / "nowhere"])) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_does_not_count_for_a_procedure_that_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fail)
    assert list(disk.obstacles([tmp_path])) == [f"{tmp_path} cannot be written: {os.strerror(number)}"]
    assert list(disk.obstacles([tmp_path], full=False)) == []


def test_failing_disk_counts_for_every_procedure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EROFS, "no")

    monkeypatch.setattr(os, "fsync", fail)
    assert list(disk.obstacles([tmp_path], full=False)) == [
        f"{tmp_path} cannot be written: Read-only file system"
    ]
