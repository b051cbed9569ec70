"""Calls a second through the load balancer, compared with the server itself."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mcp import Client

from support import ANALYZE_TOKEN, free_ports
from tests.balancer import Balancer
from tests.bench import games, rolling, subjects
from tests.bench.report import Report, median, paired, ratio

LEAST_RATIO = 0.95


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--clients", type=int, default=4, help="clients at a time (default: %(default)s)")
    parser.add_argument(
        "--calls", type=int, default=40, help="calls of a client in a run (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=8, help="pairs of runs (default: %(default)s)")


async def measure(_: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Alternately call one server with a scripted engine directly and through HAProxy."""
    with tempfile.TemporaryDirectory() as scratch:
        site = rolling.site(Path(scratch, "server"))
        first, second, third, fourth = free_ports(4)
        balancer = Balancer(Path(scratch), {"katago-1": site.port}, (first, second, third, fourth))
        with site.serving(), balancer.running():
            async with contextlib.AsyncExitStack() as stack:
                direct, through = [
                    [
                        await stack.enter_async_context(subjects.client(url, ANALYZE_TOKEN))
                        for _ in range(arguments.clients)
                    ]
                    for url in (f"http://127.0.0.1:{site.port}/mcp", balancer.url)
                ]
                seeds = iter(range(1_000_000))

                async def run(sessions: Sequence[Client]) -> float:
                    lists = [[next(seeds) for _ in range(arguments.calls)] for _ in sessions]
                    started = time.monotonic()
                    await asyncio.gather(*map(_call, sessions, lists))
                    return float(len(sessions) * arguments.calls / (time.monotonic() - started))

                await run(direct)
                await run(through)
                pairs = await paired(arguments.rounds, lambda _: run(through), lambda _: run(direct))
    setting = (
        f"{arguments.clients} clients, {arguments.calls} calls of each in a run, {arguments.rounds} pairs of"
        " runs; scripted engine, analyses of 50 ms"
    )
    figures = (
        median("calls, through the load balancer", [pair[0] for pair in pairs], "1/s"),
        median("calls, directly", [pair[1] for pair in pairs], "1/s"),
        ratio("through / directly", pairs, at_least=LEAST_RATIO),
    )
    return Report("balanced", setting, figures)


async def _call(session: Client, seeds: Sequence[int]) -> None:
    for seed in seeds:
        await subjects.call(session, "analyzePosition", {"position": games.position(seed)})
