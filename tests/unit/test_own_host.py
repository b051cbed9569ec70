"""A unit test that reads the machine it runs on fails, even if the code under test handles the error."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import OwnHostError


@pytest.mark.parametrize(
    "path",
    [
        "/etc/katago-mcp/config.json",
        "/opt/katago/engines",
        "/opt/katago-mcp/current/manifest.json",
        "/run/katago-mcp.lock",
        "/var/cache/katago-mcp/answers.sqlite3",
        "/var/lib/katago-backup/state.json",
    ],
)
@pytest.mark.parametrize(
    "reading",
    [open, Path.read_bytes, os.listdir, os.scandir, lambda path: os.open(path, os.O_RDONLY)],
    ids=["open", "read", "list", "scan", "descriptor"],
)
def test_fleet_file_of_this_machine_cannot_be_opened(
    own_host: list[str], reading: Callable[[Any], object], path: str
) -> None:
    with pytest.raises(OwnHostError, match="pass a path below tmp_path"):
        reading(Path(path))
    assert own_host == [path]
    own_host.clear()


def test_error_that_the_code_handles_is_recorded(own_host: list[str]) -> None:
    with contextlib.suppress(Exception):
        Path("/etc/katago-mcp/config.json").read_text()
    assert own_host == ["/etc/katago-mcp/config.json"]
    own_host.clear()


def test_file_in_another_place_can_be_opened(own_host: list[str], tmp_path: Path) -> None:
    place = tmp_path / "etc" / "katago-mcp"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    assert [path.name for path in place.iterdir()] == ["config.json"]
    assert own_host == []
