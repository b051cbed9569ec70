"""Latency of short requests while other clients review whole games."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from mcp import Client

from tests.bench import games, subjects
from tests.bench.report import Figure, Report, percentile

REVIEWS = 8


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--visits", type=int, default=10, help="visits of a request (default: %(default)s)")
    parser.add_argument(
        "--review-visits", type=int, default=50, help="visits of each turn of a review (default: %(default)s)"
    )
    parser.add_argument(
        "--requests", type=int, default=100, help="requests, alone and beside reviews (default: %(default)s)"
    )


async def measure(kit: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Time the short requests of one caller, alone and while eight others wait for reviews."""
    requests = arguments.requests
    with tempfile.TemporaryDirectory() as scratch:
        made = subjects.site(kit, Path(scratch), callers=REVIEWS + 1)
        with subjects.serving(made) as running:
            async with subjects.client(running.url, subjects.token(REVIEWS)) as session:
                await _time(session, range(3), arguments.visits)
                alone = await _time(session, range(1000, 1000 + requests), arguments.visits)
                async with _reviews(running.url, arguments.review_visits):
                    loaded = await _time(session, range(2000, 2000 + requests), arguments.visits)
    figures = [
        Figure(f"{name}, {when}", percentile(times, percent), "s")
        for percent, name in ((50, "median"), (99, "99th percentile"))
        for when, times in (("alone", alone), (f"beside {REVIEWS} reviews", loaded))
    ]
    figures += [
        Figure(f"{name}, beside reviews / alone", percentile(loaded, percent) / percentile(alone, percent))
        for percent, name in ((50, "median"), (99, "99th percentile"))
    ]
    setting = (
        f"{requests} requests of {arguments.visits} visits one after the other, 19x19; reviews with "
        f"{arguments.review_visits} visits a turn, each with its own token"
    )
    return Report("latency", setting, tuple(figures))


async def _time(session: Client, seeds: range, visits: int) -> list[float]:
    times = []
    for seed in seeds:
        arguments = {"position": games.position(seed), "maxVisits": visits}
        started = time.monotonic()
        await subjects.call(session, "analyzePosition", arguments)
        times.append(time.monotonic() - started)
    return times


@contextlib.asynccontextmanager
async def _reviews(url: str, visits: int) -> AsyncIterator[None]:
    """Let different callers review different games while the context lasts."""
    async with contextlib.AsyncExitStack() as stack:
        tasks = []
        for caller in range(REVIEWS):
            session = await stack.enter_async_context(subjects.client(url, subjects.token(caller)))
            tasks.append(asyncio.create_task(_keep_reviewing(session, caller, visits)))
        try:
            yield
        finally:
            ended = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


async def _keep_reviewing(session: Client, caller: int, visits: int) -> None:
    seed = 10_000 * (caller + 1)
    while True:
        arguments = {"position": games.position(seed, moves=200), "maxVisits": visits}
        await subjects.call(session, "findMistakes", arguments)
        seed += 1
