"""What is measured: KataGo with nothing around it, the server under test, and how both are asked."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from ansible_collections.katago.fleet.plugins.module_utils.release import sizing
from katago_mcp.desk import options_of
from katago_mcp.engine import LINE_LIMIT, Command
from katago_mcp.positions import Position, check
from support import Running, Site
from tests.bench import shared_engine

START_SECONDS = 300
"""How long an engine may take to start on a busy machine."""

ANSWER_SECONDS = 900.0
"""How long one answer may take before the run is given up."""

MAX_TIME = 600.0
"""Seconds that a search may take: visits bound it, also on a busy machine."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Kit:
    """The engine of this machine, its network, and the home in which it is tuned."""

    binary: Path
    network: Path
    home: Path


def kit(environ: Mapping[str, str]) -> Kit:
    """What `python -m lab engine` found.

    Raises:
        LookupError: if the environment does not name it.
    """
    names = ("KATAGO_TEST_BINARY", "KATAGO_TEST_NETWORK", "KATAGO_TEST_HOME")
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise LookupError(f"{', '.join(missing)} not set: run bin/bench, which finds an engine")
    return Kit(*(Path(environ[name]) for name in names))


def machine() -> str:
    """This machine in a few words; no figure is worth anything without."""
    processors = len(os.sched_getaffinity(0))
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    model = models[0].split(":", 1)[1].strip() if models else "unknown"
    return f"{processors} processors ({model}), no GPU, load {os.getloadavg()[0]:.1f}"


def sized() -> sizing.Sizing:
    """The engine's settings as the fleet would choose them for this machine."""
    memory_mb = os.sysconf("SC_PHYS_PAGES") * _PAGE >> 20
    return sizing.size(processors=len(os.sched_getaffinity(0)), memory_mb=memory_mb, gpu=False)


def analysis_config() -> str:
    """The engine's configuration, as roles/katago writes it."""
    found = sized()
    return f"""\
logToStderr = true
logAllRequests = false
logAllResponses = false
logErrorsAndWarnings = true
logSearchInfo = false
reportAnalysisWinratesAs = BLACK
numAnalysisThreads = {found.num_analysis_threads}
numSearchThreadsPerAnalysisThread = {found.num_search_threads_per_analysis_thread}
nnMaxBatchSize = {found.nn_max_batch_size}
nnCacheSizePowerOfTwo = {found.nn_cache_size_power_of_two}
nnMutexPoolSizePowerOfTwo = 16
nnRandomize = true
"""


def query(position: Mapping[str, Any], visits: int) -> dict[str, Any]:
    """The query that the server makes of a call of analyzePosition with nothing but visits."""
    checked = check(Position.model_validate(position))
    query = checked.query() | options_of(visits, MAX_TIME)
    return query | {
        "analysisPVLen": 14,
        "includeOwnership": False,
        "includeMovesOwnership": False,
        "includePolicy": False,
    }


class Bare:
    """A running KataGo, asked without anything between; `prefix` begins the ids of its queries."""

    def __init__(
        self, replies: asyncio.StreamReader, queries: asyncio.StreamWriter, prefix: str = ""
    ) -> None:
        self._lines, self._queries, self._prefix = replies, queries, prefix
        self._names = itertools.count()
        self._replies: dict[str, asyncio.Queue[dict[str, Any]]] = {}

    async def ask(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The final replies to a query: one, or one for each of its `analyzeTurns`.

        Raises:
            RuntimeError: if the engine answers with an error.
        """
        name = f"{self._prefix}b{next(self._names)}"
        replies = self._replies[name] = asyncio.Queue()
        self._queries.write(json.dumps({**asked, "id": name}).encode() + b"\n")
        await self._queries.drain()
        wanted = len(asked.get("analyzeTurns", [0]))
        async with asyncio.timeout(ANSWER_SECONDS):
            found = [await replies.get() for _ in range(wanted)]
        del self._replies[name]
        for reply in found:
            if "error" in reply:
                raise RuntimeError(f"the engine refused: {reply['error']}")
        return found

    async def read(self) -> None:
        """Hand out replies until the engine ends."""
        async for line in self._lines:
            reply = json.loads(line)
            self._replies[reply["id"]].put_nowait(reply)


@contextlib.asynccontextmanager
async def bare(found: Kit, directory: Path) -> AsyncIterator[Bare]:
    """KataGo, started as the server starts it, with caches as cold as a new process has them."""
    config = directory / "bare.cfg"
    config.write_text(analysis_config())
    command = Command(found.binary, found.network, config, found.home)
    process = await asyncio.create_subprocess_exec(
        *command.argv(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=command.environment(os.environ),
        limit=LINE_LIMIT,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the engine has no pipes")
    engine = Bare(process.stdout, process.stdin)
    reader = asyncio.create_task(engine.read())
    try:
        async with asyncio.timeout(START_SECONDS):
            await engine.ask({"action": "query_version"})
        yield engine
    finally:
        process.kill()
        await process.wait()
        await reader


def shared(found: Kit, directory: Path) -> tuple[Path, Path]:
    """A program that is the engine to a server and takes queries at a socket too; both paths."""
    program, socket = directory / "shared-engine", directory / "engine.socket"
    command = shlex.join([sys.executable, shared_engine.__file__, str(found.binary), str(socket)])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return program, socket


@contextlib.asynccontextmanager
async def beside(socket: Path) -> AsyncIterator[Bare]:
    """The engine of a running server, asked at its socket."""
    replies, queries = await asyncio.open_unix_connection(socket, limit=LINE_LIMIT)
    engine = Bare(replies, queries, shared_engine.PREFIX)
    reader = asyncio.create_task(engine.read())
    try:
        yield engine
    finally:
        queries.close()
        reader.cancel()


def token(caller: int) -> str:
    """The secret of a caller's token."""
    return f"token-of-caller-{caller:04d}"


ADMIN = "token-of-the-operator"


def site(found: Kit, directory: Path, *, callers: int = 1, **sections: Mapping[str, object]) -> Site:
    """A configured server, as deployed: with tokens, one for each caller, and a cache on disk."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Site(directory)
    made.engine_config.write_text(analysis_config())
    tokens: list[dict[str, object]] = [
        {"name": f"caller-{caller}", "scopes": ["analyze"], "token": token(caller)}
        for caller in range(callers)
    ]
    tokens.append({"name": "operator", "scopes": ["analyze", "admin"], "token": ADMIN})
    (directory / "tokens.json").write_text(json.dumps({"tokens": tokens}))
    made.write(
        katago={
            "binaryPath": str(found.binary),
            "modelPath": str(found.network),
            "homeDataDir": str(found.home),
            "startTimeoutSeconds": START_SECONDS,
            "restartBackoffSeconds": 1,
            "maxTime": MAX_TIME,
            "maxReviewTime": 3600,
            "maxConcurrent": sized().num_analysis_threads,
        },
        health={"heartbeatIntervalSeconds": 2, "heartbeatTimeoutSeconds": 60},
        auth={"tokensFile": "tokens.json"},
    )
    made.write(**sections)
    return made


@contextlib.contextmanager
def serving(made: Site) -> Iterator[Running]:
    """The server in a process of its own, ready, while the context lasts."""
    with made.serving(ready=False) as running:
        deadline = time.monotonic() + START_SECONDS
        while running.answers("/ready") != 200:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {START_SECONDS} s: {running.log.read_text()}")
            time.sleep(0.05)
        yield running


@contextlib.asynccontextmanager
async def client(url: str, secret: str, *, mode: str = "auto") -> AsyncIterator[Client]:
    """The official client with a session of its own; `mode` "legacy" speaks the older protocol."""
    headers = {"Authorization": f"Bearer {secret}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(ANSWER_SECONDS)) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, cache=None) as session,
    ):
        yield session


async def call(session: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The structured answer of a tool.

    Raises:
        RuntimeError: if the call failed.
    """
    answer = await session.call_tool(tool, arguments)
    if answer.is_error or answer.structured_content is None:
        raise RuntimeError(f"{tool} failed: {answer.content}")
    found: dict[str, Any] = answer.structured_content
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used with all of its threads.

    By its processor-time clock [clock_getcpuclockid(3)], which Python cannot name for another process:
    the complement of its number, above the three bits that say "of a process, from the scheduler". Counts of
    /proc are in hundredths of a second.
    """
    return time.clock_gettime(~pid << 3 | 2)


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MiB (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / (1 << 20)


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
