"""Visits a second through the server, compared with the bare engine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from mcp import Client

from tests.bench import games, subjects
from tests.bench.report import Figure, Report, median, paired, ratio

CLIENTS = (1, 4, 16)
LEAST_RATIO = 0.95
_QUERIES_MIN = 8

Ask = Callable[[dict[str, Any]], Awaitable[int]]
"""Analyses a position and returns the visits that were searched."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--visits", type=int, default=50, help="visits of a query (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs (default: %(default)s)")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=CLIENTS, help="clients at a time (default: 1 4 16)"
    )


async def measure(kit: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Alternately request uncached analyses from an engine and from the server that owns it."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        program, socket = subjects.shared(kit, directory)
        katago = {"binaryPath": str(program)}
        made = subjects.site(kit, directory, callers=max(arguments.clients), katago=katago)
        with subjects.serving(made) as running:
            async with subjects.beside(socket) as engine:
                for clients in arguments.clients:
                    figures += await _compare(engine, running.url, clients, arguments)
    setting = f"{arguments.visits} visits a query, 19x19, nothing cached; {arguments.rounds} pairs of runs"
    return Report("throughput", setting, tuple(figures))


async def _compare(
    engine: subjects.Bare, url: str, clients: int, arguments: argparse.Namespace
) -> list[Figure]:
    async with contextlib.AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(subjects.client(url, subjects.token(caller)))
            for caller in range(clients)
        ]
        through = [_through(session, arguments.visits) for session in sessions]
        direct = [_direct(engine, arguments.visits)] * clients

        async def served(turn: int) -> float:
            await engine.ask({"action": "clear_cache"})
            return await _speed(through, _positions(clients, turn))

        async def bare(turn: int) -> float:
            await engine.ask({"action": "clear_cache"})
            return await _speed(direct, _positions(clients, turn))

        # Not counted: the first answers of a new engine are slow.
        await paired(1, lambda _: served(arguments.rounds), lambda _: bare(arguments.rounds))
        pairs = await paired(arguments.rounds, served, bare)
    name = f"{clients} client" + "s" * (clients > 1)
    return [
        median(f"{name}, bare engine", [speed for _, speed in pairs], "visits/s"),
        median(f"{name}, through MCP", [speed for speed, _ in pairs], "visits/s"),
        ratio(f"{name}, MCP / bare", pairs, at_least=LEAST_RATIO),
    ]


def _positions(clients: int, turn: int) -> list[dict[str, Any]]:
    count = max(_QUERIES_MIN, 2 * clients)
    return [games.position(10_000 * clients + 100 * turn + number) for number in range(count)]


def _direct(engine: subjects.Bare, visits: int) -> Ask:
    async def ask(position: dict[str, Any]) -> int:
        (reply,) = await engine.ask(subjects.query(position, visits))
        return int(reply["rootInfo"]["visits"])

    return ask


def _through(session: Client, visits: int) -> Ask:
    async def ask(position: dict[str, Any]) -> int:
        answer = await subjects.call(session, "analyzePosition", {"position": position, "maxVisits": visits})
        if answer["cached"]:
            raise RuntimeError("the server answered a new position from the cache")
        return int(answer["visits"])

    return ask


async def _speed(asks: Sequence[Ask], positions: Sequence[dict[str, Any]]) -> float:
    """Visits a second, if every client requests the next position as soon as it has an answer."""
    remaining = iter(positions)
    visits: list[int] = []

    async def work(ask: Ask) -> None:
        for position in remaining:
            visits.append(await ask(position))

    started = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for ask in asks:
            tasks.create_task(work(ask))
    return sum(visits) / (time.monotonic() - started)
