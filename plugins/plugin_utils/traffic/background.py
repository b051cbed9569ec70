"""Starts programs of this package: in the background, where they are found and stopped, or attached.

A program in the background outlives the process that starts it. It gets its order through a pipe, since the
order may contain a token, and reports on another pipe that it runs. A lock on a file shows that it still
does; the file has its PID.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from ansible_collections.katago.fleet.plugins.module_utils.common import endings, file_lock

READY = "ready"
"""What a program prints as soon as it runs; any other line is the reason why it does not."""

_PACKAGES = next(each.parent for each in Path(__file__).parents if each.name == "ansible_collections")
_PACKAGE = __name__.rpartition(".")[0]
_KILL_SECONDS = 5.0
# Whoever asks for the holder of a lock holds it for a moment.
_LOOK_SECONDS = 1.0
_WRITE_SECONDS = 5.0


class NotStartedError(Exception):
    """A program did not start. The message says why."""


def start(program: str, order: str, arguments: Sequence[str]) -> int:
    """Start a module of this package as a program, pass it its order, and return its PID once it runs.

    Raises:
        NotStartedError: it ended, or reported a problem.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading) as reports, os.fdopen(os.memfd_create("order"), "w+") as stdin:
        with os.fdopen(writing, "wb") as output:
            stdin.write(order)
            stdin.seek(0)
            process = subprocess.Popen(
                argv(program, arguments),
                stdin=stdin,
                stdout=output,
                stderr=output,
                env=environment(),
                cwd="/",
                start_new_session=True,
            )
        report = reports.readline()
        if report.strip() != READY:
            raise NotStartedError(endings.describe(report + reports.read(), status=process.wait()))
    # `stop` waits for it, or the init process if this process ends before.
    process.returncode = 0
    return process.pid


@contextlib.contextmanager
def attached(program: str, arguments: Sequence[str]) -> Iterator[tuple[IO[str], IO[str]]]:
    """Run a module of this package while the context lasts; gives its input, and its output with its errors.

    At the end of the context its input ends, and the program is waited for.
    """
    with subprocess.Popen(
        argv(program, arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=environment(),
        cwd="/",
    ) as process:
        yield cast(IO[str], process.stdin), cast(IO[str], process.stdout)


def argv(program: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a module of this package as a program."""
    return [sys.executable, "-P", "-m", f"{_PACKAGE}.{program}", *arguments]


def environment() -> dict[str, str]:
    """The environment of such a program."""
    return os.environ | {
        "PYTHONPATH": str(_PACKAGES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
    }


def report_ready() -> None:
    """Report that this program runs, and leave the pipes of the process that started it."""
    print(READY, flush=True)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a running program while the context lasts. Raises OSError, TimeoutError."""
    with file_lock.locked(path, _LOOK_SECONDS):
        path.write_text(f"{os.getpid()}\n")
        try:
            yield
        finally:
            path.write_text("")


def holder(path: Path) -> int | None:
    """The PID of the program that holds a lock; None if no program does. Raises OSError."""
    end = time.monotonic() + _WRITE_SECONDS
    while _is_held(path):
        # A program that has just taken the lock has not written its PID yet.
        if pid := path.read_text().strip():
            return int(pid)
        if time.monotonic() > end:
            raise TimeoutError(f"the program that holds {path} did not write its PID")
        time.sleep(0.01)
    return None


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def stop(pid: int, lock: Path, seconds: float) -> None:
    """Let a program finish, for at most `seconds`; kill it after that. Raises OSError."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, _KILL_SECONDS)):
        # A PID may have been given to another process. The lock shows that it was not.
        if holder(lock) != pid:
            break
        os.kill(pid, number)
        with contextlib.suppress(TimeoutError), file_lock.locked(lock, patience):
            break
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0 if holder(lock) != pid else os.WNOHANG)
