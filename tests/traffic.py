"""Clients of both protocol generations that call a service without a pause, and what they see.

A failed call, a connection that cannot be opened and a session that ends are failures. So after a run without
failures, nobody noticed what was done to the servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

GENERATIONS = {"legacy": "up to 2025-11-25", "auto": "2026-07-28"}
"""The modes of the official client, and the protocol versions that they use."""
# A client that failed tries again after this time, as a user would, and not thousands of times a second.
_RETRY_SECONDS = 0.2
_START_SECONDS = 120
_COLUMNS = "ABCDEFGHJ"


@dataclass
class Tally:
    """What the clients of one generation saw.

    `calls`: those that succeeded. `failures`: those that did not. `lost`: why a client had to connect again.
    `slowest`: the longest call, in seconds.
    """

    calls: int = 0
    failures: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def problems(self) -> list[str]:
        """All failed calls and lost sessions."""
        return [*self.failures, *(f"session lost: {why}" for why in self.lost)]


class Traffic:
    """Clients that call one URL until they are stopped.

    Args:
        url: the address of the MCP endpoint.
        token: the token of all clients.
        clients: the number of clients of each generation.
        pause: seconds between two calls of a client.
        visits: the visits of an analysis; None for the server's default.
        seconds: the time limit of a request.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        clients: int = 4,
        pause: float = 0.0,
        visits: int | None = None,
        seconds: float = 60,
    ) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._clients = clients
        self._pause = pause
        self._visits = visits
        self._seconds = seconds
        self._stopped = threading.Event()
        self._tallies = self._new()

    @staticmethod
    def _new() -> dict[str, Tally]:
        return {mode: Tally() for mode in GENERATIONS}

    def take(self) -> dict[str, Tally]:
        """What the clients saw since the last call, by generation."""
        taken, self._tallies = self._tallies, self._new()
        return taken

    @property
    def calls(self) -> int:
        """The calls since the last `take`."""
        return sum(tally.calls for tally in self._tallies.values())

    def stop(self) -> None:
        """Let every client finish its call and disconnect."""
        self._stopped.set()

    async def run(self) -> None:
        """Call until `stop` is called from any thread."""
        clients = [self._call(mode, seed) for seed in range(self._clients) for mode in GENERATIONS]
        await asyncio.gather(*clients)

    @contextlib.contextmanager
    def running(self) -> Iterator[Traffic]:
        """Run it in a thread while the context lasts; every client has called once when it begins."""
        thread = threading.Thread(target=lambda: asyncio.run(self.run()), name="traffic")
        thread.start()
        try:
            self._wait_for_first_calls()
            yield self
        finally:
            self.stop()
            thread.join()

    def _wait_for_first_calls(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while not all(tally.calls >= self._clients for tally in self._tallies.values()):
            if time.monotonic() > end:
                problems = [problem for tally in self._tallies.values() for problem in tally.problems]
                raise AssertionError(f"the clients did not start: {problems[:3]}")
            time.sleep(0.1)

    async def _call(self, mode: str, seed: int) -> None:
        dice = random.Random(seed)
        while not self._stopped.is_set():
            http = httpx2.AsyncClient(headers=self._headers, timeout=self._seconds)
            try:
                async with Client(streamable_http_client(self._url, http_client=http), mode=mode) as client:
                    await self._call_until_stopped(client, mode, dice)
            except (MCPError, httpx2.HTTPError, ExceptionGroup) as error:
                self._tallies[mode].lost.append(_described(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _call_until_stopped(self, client: Client, mode: str, dice: random.Random) -> None:
        """Call in one session. Raises the error of the second of two calls that failed in a row."""
        failed = False
        while not self._stopped.is_set():
            try:
                await self._ask(client, mode, dice)
                failed = False
            except (MCPError, httpx2.HTTPError) as error:
                if failed:
                    raise
                failed = True
                self._tallies[mode].failures.append(_described(error))
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(self._pause)

    async def _ask(self, client: Client, mode: str, dice: random.Random) -> None:
        move = ("B", f"{dice.choice(_COLUMNS)}{dice.randint(1, 9)}")
        arguments: dict[str, object] = {"position": {"moves": [move], "boardXSize": 9, "boardYSize": 9}}
        if self._visits is not None:
            arguments["maxVisits"] = self._visits
        began = time.monotonic()
        answer = await client.call_tool("analyzePosition", arguments)
        tally = self._tallies[mode]
        tally.slowest = max(tally.slowest, time.monotonic() - began)
        if answer.is_error:
            tally.failures.append(str(answer.content))
        else:
            tally.calls += 1


def _described(error: BaseException) -> str:
    """When an error happened, what it is, and the errors that it groups."""
    inner = "; ".join(repr(each) for each in getattr(error, "exceptions", ()))
    return f"{time.strftime('%H:%M:%S')} {error!r}" + (f": {inner}" if inner else "")
