"""Runs checks in parallel, each in its own process with its own deadline.

A check that hangs, even in the kernel on a dead disk, makes only its own entry unknown: its process is killed
and not waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

Entry = dict[str, Any]
"""The result of a check: `value`, or else `unknown` with the reason; and `seconds`, its duration."""

_LONGEST_MESSAGE = 2000
# Exceptions that only a bug in the code raises, since external values are validated on input.
_DEFECTS = (AssertionError, AttributeError, NameError, TypeError)
DEFECT = "a bug in this check of katago-mcp-fleet, not a problem of the host; report it"


class NoResult(Exception):
    """A check has no result. The message is the reason, complete for people."""


@dataclass
class _Running:
    name: str
    pid: int
    pipe: int
    began: float
    deadline: float
    received: bytearray = field(default_factory=bytearray)


class Measuring:
    """Running checks. `entries` has the results of those that have finished."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._running: dict[str, _Running] = {}
        self.entries: dict[str, Entry] = {}

    def start(self, name: str, check: Callable[[], Any], deadline: float) -> None:
        """Run `check`, which returns a JSON value, for at most `deadline` seconds."""
        began = time.monotonic()
        reading, writing = os.pipe()
        try:
            pid = fork(lambda: _measure(check, writing))
        except OSError as error:
            os.close(reading)
            os.close(writing)
            why = f"no process could be started: {error.strerror}"
            self.entries[name] = {"unknown": why, "seconds": 0.0}
            return
        os.close(writing)
        self._running[name] = running = _Running(name, pid, reading, began, began + deadline)
        self._selector.register(reading, selectors.EVENT_READ, running)

    def wait(self, names: Collection[str], at_most: float) -> None:
        """Wait until these checks have finished, for at most `at_most` seconds."""
        end = time.monotonic() + at_most
        while self._running.keys() & names and (now := time.monotonic()) < end:
            soonest = min(end, *(running.deadline for running in self._running.values()))
            for key, _ in self._selector.select(max(0.0, soonest - now)):
                self._read(key.data)
            now = time.monotonic()
            for running in [each for each in self._running.values() if each.deadline <= now]:
                self._end(running, {"unknown": f"no answer within {running.deadline - running.began:g} s"})

    def results(self) -> dict[str, Entry]:
        """Wait for all checks or their deadlines, and return their entries."""
        while self._running:
            self.wait(list(self._running), max(each.deadline for each in self._running.values()))
        return self.entries

    def _read(self, running: _Running) -> None:
        block = os.read(running.pipe, 1 << 16)
        if block:
            running.received += block
            return
        try:
            entry = json.loads(running.received)
        except ValueError:
            entry = {"unknown": "the process of this check died"}
        self._end(running, entry)

    def _end(self, running: _Running, entry: Entry) -> None:
        self._selector.unregister(running.pipe)
        os.close(running.pipe)
        del self._running[running.name]
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(running.pid, os.WNOHANG)
        self.entries[running.name] = {**entry, "seconds": round(time.monotonic() - running.began, 2)}


def reap() -> None:
    """Reap dead checks. A killed check that hangs in the kernel may exit much later."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _measure(check: Callable[[], Any], pipe: int) -> None:
    """Run the check and write its entry to the pipe as one JSON object."""
    try:
        entry: Entry = {"value": check()}
        text = json.dumps(entry, allow_nan=False)
    except Exception as error:
        text = json.dumps({"unknown": _reason(error)})
    write_all(pipe, text.encode())


def _reason(error: Exception) -> str:
    """Why a value is unknown. A bug in the check is marked as such, since it is no finding about the host."""
    kind, message = type(error).__name__, str(error)
    if isinstance(error, NoResult):
        return message
    # A long message is dropped, not cut: redaction would not find half of a secret.
    reason = f"{kind}: {message}" if len(message) <= _LONGEST_MESSAGE else kind
    if not isinstance(error, _DEFECTS):
        return reason
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{DEFECT} ({Path(frame.filename).name}, line {frame.lineno}): {reason}"


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a new process that leads its own process group; return its PID.

    Its exit status is 0 if `work` returned. It inherits the open pipes of this process.

    Raises:
        OSError: no process could be started.
    """
    pid = os.fork()
    if pid == 0:
        _run_as_child(work)
    # Parent and child both call setpgid, since either may run first.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    return pid


def write_all(pipe: int, content: bytes) -> None:
    """Write the whole content to the pipe."""
    left = memoryview(content)
    while left:
        left = left[os.write(pipe, left) :]


def _run_as_child(work: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        work()
        status = 0
    finally:
        os._exit(status)
