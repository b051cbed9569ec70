"""A disk on which the service cannot write is found, also if root still can."""

from __future__ import annotations

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
