"""No unit test reads the machine that it runs on: what lies there would decide its result."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

# Where the fleet keeps its files on a host, which a developer's machine may be too.
_PLACES = re.compile(r"/(?:etc|opt|run|var/cache|var/lib)/katago")
# What Python says before it opens a file or lists a directory [sys.addaudithook, audit events table].
_EVENTS = frozenset({"open", "os.listdir", "os.scandir"})

_opened: list[str] = []


class OwnHostError(Exception):
    """A test opens what the host that it runs on has of the fleet."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    path = os.fsdecode(arguments[0])
    if _PLACES.match(path):
        # Kept too, since the code under test may take the error for one of its own.
        _opened.append(path)
        raise OwnHostError(f"{path} is of the host that the test runs on: pass a path below tmp_path")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def own_host() -> Iterator[list[str]]:
    """Fail a test that opened what this machine has of the fleet; what it opened until now."""
    _opened.clear()
    yield _opened
    if _opened:
        pytest.fail(f"it reads the host that it runs on: {', '.join(sorted(set(_opened)))}")
