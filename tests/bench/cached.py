"""What a call that the cache answers costs the server, against a tool that does nothing."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client

from lab import paths
from support import CLEAN_ENVIRON, free_port
from tests.bench import games, subjects
from tests.bench.report import Figure, Report, median, paired, ratio

MOST_RATIO = 1.5
MOVES = (10, 60, 150)
_VISITS = 20
_MILLI = 1000.0


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--calls", type=int, default=300, help="calls of a run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs (default: %(default)s)")


async def measure(found: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Call a trivial tool and analyzePosition with its answer in the cache, in turns."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        made = subjects.site(found, Path(scratch))
        with subjects.serving(made) as running, _trivial() as (url, pid):
            async with (
                subjects.client(running.url, subjects.token(0)) as ours,
                subjects.client(url, subjects.token(0)) as theirs,
            ):

                async def trivial(_: int) -> float:
                    return await _cost(theirs, pid, "add", {"one": 1, "other": 2}, arguments.calls)

                for moves in MOVES:
                    asked = {"position": games.position(moves, moves=moves), "maxVisits": _VISITS}
                    await subjects.call(ours, "analyzePosition", asked)

                    async def cached(_: int, asked: dict[str, Any] = asked) -> float:
                        server = running.process.pid
                        return await _cost(ours, server, "analyzePosition", asked, arguments.calls)

                    pairs = await paired(arguments.rounds, cached, trivial)
                    name = f"analyzePosition from the cache, {moves} moves"
                    figures += [
                        median(name, [cost for cost, _ in pairs], "ms"),
                        median("trivial tool", [cost for _, cost in pairs], "ms"),
                        ratio(f"{name} / trivial tool", pairs, at_most=MOST_RATIO),
                    ]
    setting = f"processor time of the server for a call; {arguments.rounds} pairs of {arguments.calls} calls"
    return Report("cached", setting, tuple(figures))


async def _cost(session: Client, pid: int, tool: str, asked: dict[str, Any], calls: int) -> float:
    """Milliseconds of processor time of a process for each of so many calls."""
    before = subjects.cpu_seconds(pid)
    for _ in range(calls):
        answer = await subjects.call(session, tool, asked)
        if answer.get("cached") is False:
            raise RuntimeError("a call was not answered from the cache")
    return (subjects.cpu_seconds(pid) - before) / calls * _MILLI


@contextlib.contextmanager
def _trivial() -> Iterator[tuple[str, int]]:
    """The trivial server while the context lasts: its address and its process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    environ = CLEAN_ENVIRON | {"PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.trivial", str(port)], cwd=paths.ROOT, env=environ
    )
    try:
        deadline = time.monotonic() + subjects.START_SECONDS
        while not _listens(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the trivial server does not listen")
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
