"""Calls and sessions while every server behind a load balancer is replaced, in order and by SIGKILL.

Three servers with a scripted engine and one session key stand behind HAProxy. Official clients of both
protocol generations call without a pause. Each server is taken out of rotation, drained, stopped, started and
admitted again. Then each is killed; what it had in flight may fail.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from support import ANALYZE_TOKEN, Running, Site, free_ports
from tests.bench import subjects
from tests.bench.report import Figure, Report

SERVERS = 3
SESSION_KEY = "the session key of all servers of this benchmark"
_SETTLE_SECONDS = 2.0
_DRAIN_SECONDS = 20.0
_SHOWN = 20
_COLUMNS = "ABCDEFGHJ"
_GENERATIONS = {"legacy": "up to 2025-11-25", "auto": "2026-07-28"}

_CONFIG = """\
global
  stats socket {socket} level admin
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout http-request 10s
  timeout http-keep-alive 10s
  retries 3
  retry-on conn-failure
  option redispatch 1
frontend mcp
  bind 127.0.0.1:{port}
  default_backend mcp
backend mcp
  balance leastconn
  option httpchk GET /ready
  stick-table type string len 64 size 100k expire 1h
  stick store-response res.hdr(mcp-session-id)
  stick match req.hdr(mcp-session-id)
  default-server check inter 500ms fall 2 rise 1 pool-purge-delay 5s
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--clients", type=int, default=4, help="clients of each generation (default: %(default)s)"
    )


@dataclass
class _Tally:
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    """Failed calls, and lost sessions."""


class _Balancer:
    """A running HAProxy, and its runtime socket."""

    def __init__(self, directory: Path, servers: list[Site]) -> None:
        (self.port,) = free_ports(1)
        self._socket = directory / "admin.sock"
        self._config = directory / "haproxy.cfg"
        lines = [f"  server s{number} 127.0.0.1:{site.port}\n" for number, site in enumerate(servers)]
        self._config.write_text(_CONFIG.format(socket=self._socket, port=self.port) + "".join(lines))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run it while the context lasts."""
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def set_state(self, number: int, state: str) -> None:
        """Take a server out of rotation (`maint`), or admit it (`ready`).

        Not `drain`: in that state, HAProxy still sends sticky sessions to the server, although any other one
        would continue them.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(f"set server mcp/s{number} state {state}\n".encode())
            connection.recv(4096)


class _Rolling:
    def __init__(self, sites: list[Site], balancer: _Balancer) -> None:
        self._sites = sites
        self._balancer = balancer
        self._stacks = [contextlib.ExitStack() for _ in sites]
        self._servers: list[Running] = []
        self._stopped = False
        self.adopted = 0.0
        self.drained = {mode: _Tally() for mode in _GENERATIONS}
        self.killed = {mode: _Tally() for mode in _GENERATIONS}
        self._tally = self.drained

    async def run(self, clients: int) -> None:
        """Replace every server twice while clients call."""
        for stack, site in zip(self._stacks, self._sites, strict=True):
            self._servers.append(await asyncio.to_thread(stack.enter_context, site.serving()))
        with contextlib.ExitStack() as cleanup:
            for stack in self._stacks:
                cleanup.callback(stack.close)
            with self._balancer.running():
                await asyncio.sleep(_SETTLE_SECONDS)
                callers = [
                    asyncio.create_task(self._call(mode, seed))
                    for seed in range(clients)
                    for mode in _GENERATIONS
                ]
                for number in range(len(self._sites)):
                    self._balancer.set_state(number, "maint")
                    await self._drain(number)
                    await self._count_adopted(number)
                    await self._restart(number)
                    self._balancer.set_state(number, "ready")
                    await asyncio.sleep(_SETTLE_SECONDS)
                self._tally = self.killed
                for number, server in enumerate(list(self._servers)):
                    await self._count_adopted(number)
                    server.process.kill()
                    await self._restart(number)
                    await asyncio.sleep(_SETTLE_SECONDS)
                self._stopped = True
                await asyncio.gather(*callers)
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

    async def _call(self, mode: str, seed: int) -> None:
        dice = random.Random(seed)
        headers = {"Authorization": f"Bearer {ANALYZE_TOKEN}"}
        url = f"http://127.0.0.1:{self._balancer.port}/mcp"
        while not self._stopped:
            http = httpx2.AsyncClient(headers=headers, timeout=subjects.START_SECONDS)
            try:
                async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                    while not self._stopped:
                        move = ("B", f"{dice.choice(_COLUMNS)}{dice.randint(1, 9)}")
                        position = {"moves": [move], "boardXSize": 9, "boardYSize": 9}
                        answer = await client.call_tool("analyzePosition", {"position": position})
                        self._tally[mode].calls += 1
                        if answer.is_error:
                            self._tally[mode].failures.append(str(answer.content))
            except (MCPError, httpx2.HTTPError, ExceptionGroup) as error:
                self._tally[mode].failures.append(repr(error))


async def measure(_: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Replace all servers under load, and count what failed."""
    if shutil.which("haproxy") is None:
        raise LookupError("haproxy is not installed. Install it: apt-get install haproxy")
    with tempfile.TemporaryDirectory() as scratch:
        sites = [_site(Path(scratch, f"s{number}")) for number in range(SERVERS)]
        rolling = _Rolling(sites, _Balancer(Path(scratch), sites))
        started = time.monotonic()
        await rolling.run(arguments.clients)
        seconds = time.monotonic() - started
    figures = []
    problems = []
    for title, tallies in (("drained", rolling.drained), ("killed", rolling.killed)):
        for mode, version in _GENERATIONS.items():
            tally, what = tallies[mode], f"servers {title}, protocol {version}"
            most = 0 if title == "drained" else None
            figures.append(Figure(f"calls, {what}", tally.calls))
            figures.append(Figure(f"failed, {what}", len(tally.failures), at_most=most))
            if title == "drained":
                problems += tally.failures
    figures.append(Figure("sessions continued by another server", rolling.adopted))
    setting = (
        f"{SERVERS} servers, each replaced twice in {seconds:.0f} s; {arguments.clients} clients of each "
        "protocol generation; scripted engine, analyses of 50 ms"
    )
    return Report("rolling", setting, tuple(figures), tuple(problems[:_SHOWN]))


def _site(directory: Path) -> Site:
    directory.mkdir()
    site = Site(directory)
    site.write_tokens()
    site.behave(delay=0.05)
    (directory / "session.key").write_text(SESSION_KEY)
    site.write(auth={"sessionKeyFile": "session.key"})
    return site
