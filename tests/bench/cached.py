"""Processor time of a call that the cache answers, compared with a tool that does nothing."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client

from lab import paths
from support import CLEAN_ENVIRON, free_ports
from tests.bench import games, subjects
from tests.bench.report import Figure, Report, median, paired, ratio

MOST_RATIO = 1.5
MOVES = (10, 60, 150)
_VISITS = 20
_TURN = 10
"""Calls of one tool before calls of the other: the speed of a machine changes within a second."""
_MILLI = 1000.0


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--calls", type=int, default=300, help="calls of each tool (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions (default: %(default)s)")


async def measure(kit: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Alternately call a trivial tool, and analyzePosition with its answer in the cache."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        made = subjects.site(kit, Path(scratch))
        with subjects.serving(made) as running, _trivial() as (url, pid):
            async with (
                subjects.client(running.url, subjects.token(0)) as ours,
                subjects.client(url, subjects.token(0)) as theirs,
            ):
                for moves in MOVES:
                    request = {"position": games.position(moves, moves=moves), "maxVisits": _VISITS}
                    await subjects.call(ours, "analyzePosition", request)
                    answered = _Subject(ours, running.process.pid, "analyzePosition", request)
                    trivial = _Subject(theirs, pid, "add", {"one": 1, "other": 2})
                    # Not counted: the first calls of a new process are the slowest.
                    await _compare(answered, trivial, arguments.calls)
                    pairs = [
                        await _compare(answered, trivial, arguments.calls) for _ in range(arguments.rounds)
                    ]
                    name = f"analyzePosition from the cache, {moves} moves"
                    figures += [
                        median(name, [cost for cost, _ in pairs], "ms"),
                        median("trivial tool", [cost for _, cost in pairs], "ms"),
                        ratio(f"{name} / trivial tool", pairs, at_most=MOST_RATIO),
                    ]
    setting = (
        f"processor time of the server for a call; {arguments.rounds} times {arguments.calls} calls of each, "
        "alternately"
    )
    return Report("cached", setting, tuple(figures))


@dataclass(frozen=True)
class _Subject:
    """A call to measure, and the process whose time is measured."""

    session: Client
    pid: int
    tool: str
    request: dict[str, Any]

    async def cost(self, calls: int) -> float:
        """Seconds of processor time of that many calls."""
        before = subjects.cpu_seconds(self.pid)
        for _ in range(calls):
            answer = await subjects.call(self.session, self.tool, self.request)
            if answer.get("cached") is False:
                raise RuntimeError("the server did not answer a call from the cache")
        return subjects.cpu_seconds(self.pid) - before


async def _compare(one: _Subject, other: _Subject, calls: int) -> tuple[float, float]:
    """Milliseconds of processor time of a call of each, measured alternately."""
    turns = max(1, calls // _TURN)
    costs = await paired(turns, lambda _: one.cost(_TURN), lambda _: other.cost(_TURN))
    made = turns * _TURN / _MILLI
    return sum(cost for cost, _ in costs) / made, sum(cost for _, cost in costs) / made


@contextlib.contextmanager
def _trivial() -> Iterator[tuple[str, int]]:
    """Run the trivial server. Yield its URL and its process id."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/mcp"
    environ = CLEAN_ENVIRON | {"PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.trivial", str(port)], cwd=paths.ROOT, env=environ
    )
    try:
        deadline = time.monotonic() + subjects.START_SECONDS
        while not _listens(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the trivial server did not start to listen")
            time.sleep(0.05)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def _listens(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == httpx2.codes.UNAUTHORIZED
    except httpx2.TransportError:
        return False
