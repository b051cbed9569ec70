"""Calls and sessions while every server behind a load balancer is replaced, in order and by SIGKILL.

Three servers with a scripted engine and one session key stand behind HAProxy. Official clients of both
protocol generations call without a pause. Each server is taken out of rotation, drained, stopped, started and
admitted again. Then each is killed; what it had in flight may fail.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from pathlib import Path

from support import ANALYZE_TOKEN, Running, Site, free_ports
from tests.balancer import Balancer
from tests.bench import subjects
from tests.bench.report import Figure, Report
from tests.traffic import GENERATIONS, Tally, Traffic

SERVERS = 3
SESSION_KEY = "the session key of all servers of this benchmark"
_SETTLE_SECONDS = 2.0
_DRAIN_SECONDS = 20.0
_SHOWN = 20


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--clients", type=int, default=4, help="clients of each generation (default: %(default)s)"
    )


class _Rolling:
    def __init__(self, sites: list[Site], balancer: Balancer) -> None:
        self._sites = sites
        self._balancer = balancer
        self._stacks = [contextlib.ExitStack() for _ in sites]
        self._servers: list[Running] = []
        self.adopted = 0.0
        self.drained: dict[str, Tally] = {}
        self.killed: dict[str, Tally] = {}

    async def run(self, clients: int) -> None:
        """Replace every server twice while clients call."""
        for stack, site in zip(self._stacks, self._sites, strict=True):
            self._servers.append(await asyncio.to_thread(stack.enter_context, site.serving()))
        with contextlib.ExitStack() as cleanup:
            for stack in self._stacks:
                cleanup.callback(stack.close)
            with self._balancer.running():
                await asyncio.sleep(_SETTLE_SECONDS)
                traffic = Traffic(
                    self._balancer.url, ANALYZE_TOKEN, clients=clients, seconds=subjects.START_SECONDS
                )
                callers = asyncio.create_task(traffic.run())
                for number in range(len(self._sites)):
                    self._balancer.runtime.leave(_name(number))
                    await self._drain(number)
                    self._balancer.runtime.out(_name(number))
                    await self._count_adopted(number)
                    await self._restart(number)
                    self._balancer.runtime.check(_name(number))
                    await asyncio.to_thread(
                        self._balancer.runtime.await_checked, _name(number), _DRAIN_SECONDS
                    )
                    self._balancer.runtime.join(_name(number))
                    await asyncio.sleep(_SETTLE_SECONDS)
                self.drained = traffic.take()
                for number, server in enumerate(list(self._servers)):
                    await self._count_adopted(number)
                    server.process.kill()
                    await self._restart(number)
                    await asyncio.sleep(_SETTLE_SECONDS)
                traffic.stop()
                await callers
                self.killed = traffic.take()
                for number in range(len(self._sites)):
                    await self._count_adopted(number)

    async def _drain(self, number: int) -> None:
        end = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < end:
            answer = await asyncio.to_thread(self._servers[number].get, "/ready")
            if answer.json()["inFlight"] == 0:
                return
            await asyncio.sleep(0.1)

    async def _count_adopted(self, number: int) -> None:
        """Count the sessions that a server continued; its next process counts from zero."""
        value = await asyncio.to_thread(self._servers[number].metric, "katago_mcp_sessions_adopted_total")
        self.adopted += value or 0

    async def _restart(self, number: int) -> None:
        await asyncio.to_thread(self._stacks[number].close)
        serving = self._sites[number].serving()
        self._servers[number] = await asyncio.to_thread(self._stacks[number].enter_context, serving)


async def measure(_: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Replace all servers under load, and count what failed."""
    with tempfile.TemporaryDirectory() as scratch:
        sites = [site(Path(scratch, f"s{number}")) for number in range(SERVERS)]
        servers = {_name(number): each.port for number, each in enumerate(sites)}
        first, second, third, fourth = free_ports(4)
        rolling = _Rolling(sites, Balancer(Path(scratch), servers, (first, second, third, fourth)))
        started = time.monotonic()
        await rolling.run(arguments.clients)
        seconds = time.monotonic() - started
    figures = []
    problems = []
    for title, tallies in (("drained", rolling.drained), ("killed", rolling.killed)):
        for mode, version in GENERATIONS.items():
            tally, what = tallies[mode], f"servers {title}, protocol {version}"
            most = 0 if title == "drained" else None
            figures.append(Figure(f"calls, {what}", tally.calls))
            figures.append(Figure(f"failed, {what}", len(tally.failures), at_most=most))
            figures.append(Figure(f"sessions lost, {what}", len(tally.lost), at_most=most))
            if title == "drained":
                problems += tally.problems
    figures.append(Figure("sessions continued by another server", rolling.adopted))
    setting = (
        f"{SERVERS} servers, each replaced twice in {seconds:.0f} s; {arguments.clients} clients of each "
        "protocol generation; scripted engine, analyses of 50 ms"
    )
    return Report("rolling", setting, tuple(figures), tuple(problems[:_SHOWN]))


def _name(number: int) -> str:
    """The name of a server in the load balancer."""
    return f"katago-{number + 1}"


def site(directory: Path) -> Site:
    """A server with a scripted engine, whose analyses take 50 ms, and the session key of all servers."""
    directory.mkdir()
    made = Site(directory)
    made.write_tokens()
    made.behave(delay=0.05)
    (directory / "session.key").write_text(SESSION_KEY)
    made.write(auth={"sessionKeyFile": "session.key"})
    return made
