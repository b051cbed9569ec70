"""Many mixed requests by several callers, while the engine is killed repeatedly.

Every request must have exactly one outcome within the deadline: the right answer, the expected error, an
error about the engine while there is none, or its own cancellation. The server must count every request,
and its memory must not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, MCPError

from support import Running
from tests.bench import subjects
from tests.bench.asks import Asker
from tests.bench.ledger import Absence, Ask, Ledger, quarters
from tests.bench.report import Figure, Report, median

CALLERS = 4
SESSIONS_EACH = 2
REQUESTS_OF_A_SESSION = 50
DEADLINE = 120.0
"""Seconds after which a request without an outcome counts as hung."""

MOST_GROWTH_MB = 4.0
"""The most growth of resident memory, from the second to the last quarter, in MiB."""

WARM_REQUESTS = 4000
"""The fewest requests for a verdict on memory. With fewer, buffers and caches still fill."""

MOST_FILES = 8
_SAMPLES = 40
_POLL = 0.05
_PAUSE = 0.25
_SHOWN = 20

KILLED = frozenset({"engine_restarted", "engine_backoff", "engine_starting"})
STOPPED = frozenset({"engine_stopped", "engine_starting"})


def options(parser: argparse.ArgumentParser) -> None:
    """Add the soak's options."""
    parser.add_argument(
        "--requests", type=int, default=10_000, help="number of requests (default: %(default)s)"
    )
    parser.add_argument(
        "--kill-every", type=int, default=500, help="requests between two kills (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the random requests (default: %(default)s)"
    )


async def measure(kit: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Run the soak and judge it."""
    with tempfile.TemporaryDirectory() as scratch:
        made = subjects.site(
            kit,
            Path(scratch),
            callers=CALLERS,
            katago={"restartBackoffSeconds": 0.1, "restartBackoffMaxSeconds": 0.5, "restartBudget": 1000},
            cache={"maxItems": 1_000_000},
        )
        with subjects.serving(made) as running:
            soak = Soak(running, arguments.requests, arguments.kill_every, arguments.seed)
            started = time.monotonic()
            await soak.run()
            seconds = time.monotonic() - started
            await soak.reconcile()
        if running.process.returncode != 0:
            soak.ledger.problems.append(f"the server exited with status {running.process.returncode}")
        soak.ledger.problems += [
            f"the server logged an error: {event}" for event in running.events() if event["level"] == "error"
        ]
    setting = (
        f"{arguments.requests} requests by {CALLERS} callers in {CALLERS * SESSIONS_EACH} sessions of both "
        f"protocols, 9x9, in {seconds:.0f} s"
    )
    shown = tuple(soak.ledger.problems[:_SHOWN])
    return Report("soak", setting, tuple(soak.figures()), shown, tuple(soak.notes()))


class Soak:
    """The run: workers that send requests, a task that kills and stops the engine, and the samples."""

    def __init__(self, running: Running, requests: int, kill_every: int, seed: int) -> None:
        self.ledger = Ledger()
        self._running = running
        self._requests = requests
        self._kill_every = kill_every
        self._asker = Asker(seed)
        self._started = 0
        self._ended = 0
        self._disturbing = asyncio.Lock()
        self._disturbances: list[asyncio.Task[None]] = []
        self._back: list[float] = []
        self._kills = 0
        self._operators = 0
        self._memory: list[float] = []
        self._files: list[int] = []
        self._sample_every = max(1, requests // _SAMPLES)

    async def run(self) -> None:
        """Send all requests, and wait until each has an outcome."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(CALLERS * SESSIONS_EACH):
                tasks.create_task(self._work(number))
        await asyncio.gather(*self._disturbances)

    async def _work(self, number: int) -> None:
        while self._started < self._requests:
            mode = "legacy" if number % 2 else "auto"
            async with subjects.client(
                self._running.url, subjects.token(number // SESSIONS_EACH), mode=mode
            ) as session:
                for _ in range(REQUESTS_OF_A_SESSION):
                    if self._started >= self._requests:
                        break
                    self._started += 1
                    outcome = await self._one(session, self._asker.next())
                    self._count(outcome)
                    if outcome == "away":
                        await asyncio.sleep(_PAUSE)

    async def _one(self, session: Client, ask: Ask) -> str:
        self.ledger.tools[ask.tool] += 1
        started = time.monotonic()
        call = asyncio.create_task(session.call_tool(ask.tool, ask.arguments))
        patience = DEADLINE if ask.cancelled_after is None else ask.cancelled_after
        await asyncio.wait({call}, timeout=patience)
        if not call.done():
            call.cancel()
            await asyncio.wait({call}, timeout=DEADLINE)
            if not call.done() or ask.cancelled_after is None:
                self.ledger.problems.append(f"{ask.name[:200]} had no outcome within {DEADLINE:g} s")
                return "hung"
        if call.cancelled():
            return "cancelled"
        try:
            answer = call.result()
        except (MCPError, httpx2.HTTPError, RuntimeError) as error:
            self.ledger.problems.append(f"{ask.name[:200]} failed with an error that has no code: {error!r}")
            return "broken"
        if answer.structured_content is None:
            self.ledger.problems.append(f"{ask.name[:200]} has no structuredContent: {answer.content}")
            return "broken"
        return self.ledger.judge(ask, answer.structured_content, started, time.monotonic())

    def _count(self, outcome: str) -> None:
        self.ledger.outcomes[outcome] += 1
        self._ended += 1
        if self._ended % self._sample_every == 0:
            pid = self._running.process.pid
            self._memory.append(subjects.resident_mb(pid))
            self._files.append(subjects.open_files(pid))
        if self._ended % self._kill_every == 0:
            self._disturb(self._kill)
        elif (
            self._ended % self._kill_every == self._kill_every // 2
            and self._ended // self._kill_every % 4 == 1
        ):
            self._disturb(self._stop_and_start)

    def _disturb(self, how: Callable[[], Awaitable[None]]) -> None:
        async def one_at_a_time() -> None:
            async with self._disturbing:
                await how()

        self._disturbances.append(asyncio.create_task(one_at_a_time()))

    async def _kill(self) -> None:
        """Kill the engine, and wait until the next one is ready."""
        before = (await self._health())["engine"]
        absence = Absence(KILLED, time.monotonic())
        self.ledger.absences.append(absence)
        os.kill(before["pid"], signal.SIGKILL)
        self._kills += 1
        await self._until(lambda engine: engine["state"] == "ready" and engine["pid"] != before["pid"])
        absence.ended = time.monotonic()
        self._back.append(absence.ended - absence.started)

    async def _stop_and_start(self) -> None:
        """Stop the engine as an operator does, and start it again."""
        async with subjects.client(self._running.url, subjects.ADMIN) as session:
            absence = Absence(STOPPED, time.monotonic())
            self.ledger.absences.append(absence)
            await subjects.call(session, "stopEngine", {})
            await self._until(lambda engine: engine["state"] == "stopped")
            await subjects.call(session, "startEngine", {})
            self._operators += 2
            await self._until(lambda engine: engine["state"] == "ready")
            absence.ended = time.monotonic()

    async def _until(self, holds: Callable[[Mapping[str, Any]], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not holds((await self._health())["engine"]):
                await asyncio.sleep(_POLL)

    async def _health(self) -> dict[str, Any]:
        async with httpx2.AsyncClient(timeout=DEADLINE) as http:
            body: dict[str, Any] = (await http.get(self._running.url.replace("/mcp", "/health"))).json()
            return body

    async def reconcile(self) -> None:
        """Wait until the server is idle, then compare its counters with the ledger."""
        deadline = time.monotonic() + DEADLINE
        while (ready := (await asyncio.to_thread(self._running.get, "/ready")).json())["inFlight"]:
            if time.monotonic() > deadline:
                self.ledger.problems.append(f"the server still works after all requests ended: {ready}")
                break
            await asyncio.sleep(_POLL)
        samples = await asyncio.to_thread(self._running.scrape)
        counted = _sum(samples, "katago_requests_total")
        sent = self._requests + self._operators
        # A call can be cancelled before it reaches the server.
        least = sent - self.ledger.outcomes["cancelled"]
        self._note(least <= counted <= sent, f"the server counted {counted:g} calls, not {least} to {sent}")
        for status in ("error", "timeout"):
            count = _sum(samples, "katago_requests_total", status=status)
            self._note(count == 0, f"the server counted {count:g} calls with the status {status}")
        restarts = _sum(samples, "katago_engine_restarts_total")
        self._note(restarts == self._kills, f"{restarts:g} restarts of the engine after {self._kills} kills")
        troubles = _sum(samples, "katago_cache_errors_total")
        misses = self.ledger.unexpected_misses
        self._note(
            misses <= troubles,
            f"{misses} answers were missing from the cache, but it counted only {troubles:g} errors",
        )
        absent = {"queries_in_flight", "queries_queued"}
        for name in absent:
            left = _sum(samples, f"katago_engine_{name}")
            self._note(left == 0, f"katago_engine_{name} is {left:g} at the end")

    def _note(self, holds: bool, text: str) -> None:
        if not holds:
            self.ledger.problems.append(text)

    def figures(self) -> Iterator[Figure]:
        """The rows of the table."""
        outcomes = self.ledger.outcomes
        yield Figure("answered correctly", outcomes["right"])
        yield Figure("failed with the expected error", outcomes["refused"])
        yield Figure("failed while there was no engine", outcomes["away"])
        yield Figure("cancelled by their caller", outcomes["cancelled"])
        yield Figure("wrong, hung, lost or unexplained", len(self.ledger.problems), at_most=0)
        yield Figure("engine killed", self._kills, "times")
        if self._back:
            yield median("ready again after", self._back, "s")
        early, late = quarters(self._memory)
        if early:
            judged = self._requests >= WARM_REQUESTS
            growth = statistics.median(late) - statistics.median(early)
            yield median("resident memory, second quarter", early, "MiB")
            yield median("resident memory, last quarter", late, "MiB")
            yield Figure("its growth", growth, "MiB", at_most=MOST_GROWTH_MB if judged else None)
            fewer, more = quarters(self._files)
            files = statistics.median(more) - statistics.median(fewer)
            yield Figure("growth of open files", files, at_most=MOST_FILES)

    def notes(self) -> Iterator[str]:
        """The number of requests by tool, and all samples of resident memory."""
        yield "requests: " + ", ".join(f"{tool} {count}" for tool, count in sorted(self.ledger.tools.items()))
        yield "resident memory, MiB: " + " ".join(f"{size:.1f}" for size in self._memory)


def _sum(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """The sum of a metric's samples that have the labels."""
    return sum(
        value
        for (metric, carried), value in samples.items()
        if metric == name and frozenset(labels.items()) <= carried
    )
