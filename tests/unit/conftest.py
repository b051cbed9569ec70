"""Prevents unit tests from reading the machine that they run on, whose files would change their results."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")

# The directories of the fleet on a host. A developer's machine may be such a host.
_PLACES = re.compile(r"/(?:etc|opt|run|var/cache|var/lib)/katago")
# The audit events before Python opens a file or lists a directory [sys.addaudithook, audit events table].
_EVENTS = frozenset({"open", "os.listdir", "os.scandir"})

_opened: list[str] = []


class OwnHostError(Exception):
    """A test opens a fleet file of the machine that it runs on."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    path = os.fsdecode(arguments[0])
    if _PLACES.match(path):
        # Recorded too, because the code under test may handle the error.
        _opened.append(path)
        raise OwnHostError(f"{path} belongs to the machine that runs the test: pass a path below tmp_path")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def own_host() -> Iterator[list[str]]:
    """Fail a test that opened fleet files of this machine. Yield the paths that it has opened."""
    _opened.clear()
    yield _opened
    if _opened:
        pytest.fail(f"the test reads files of the machine that runs it: {', '.join(sorted(set(_opened)))}")
