"""Commands of the server's command line in processes that do not import everything again.

The imports take more than a second. One process imports the server; each command is a fork of it.
"""

import functools
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from katago_mcp import cli

SOURCE = Path(__file__).parent.parent / "src"


@functools.cache
def _parent() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["katago_mcp.cli", "katago_mcp.serve"])
    with pytest.MonkeyPatch.context() as patch:
        # Python 3.11 preloads only what can be imported without the path of this process.
        patch.setenv("PYTHONPATH", str(SOURCE))
        forkserver.ensure_running()
    return context


def _run(arguments: Sequence[str], environ: Mapping[str, str], stderr: Path) -> None:
    with stderr.open("ab") as log:
        os.dup2(log.fileno(), 2)
    os.environ.clear()
    os.environ.update(environ)
    sys.exit(cli.main(arguments))


class Command:
    """A command that runs, with the interface of `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], stderr: Path) -> None:
        stderr.write_bytes(b"")
        self._process = _parent().Process(target=_run, args=(arguments, dict(environ), stderr), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit status. Raises TimeoutError if it still runs."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if the command still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()
