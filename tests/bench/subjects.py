"""The subjects of the benchmarks: the bare KataGo and the server, and clients for both."""

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
"""The most seconds for the start of an engine on a busy machine."""

ANSWER_SECONDS = 900.0
"""The most seconds for one answer. After that the run fails."""

MAX_TIME = 600.0
"""The most seconds of a search. High, so that visits limit the search also on a busy machine."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Kit:
    """This machine's engine, its network, and its home directory with tuning results."""

    binary: Path
    network: Path
    home: Path


def kit(environ: Mapping[str, str]) -> Kit:
    """The engine that `python -m lab engine` found.

    Raises:
        LookupError: if an environment variable is missing.
    """
    names = ("KATAGO_TEST_BINARY", "KATAGO_TEST_NETWORK", "KATAGO_TEST_HOME")
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise LookupError(f"{', '.join(missing)} not set. Run bin/bench, which sets them")
    return Kit(*(Path(environ[name]) for name in names))


def machine() -> str:
    """A short description of this machine, for the reader of the figures."""
    processors = len(os.sched_getaffinity(0))
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    model = models[0].split(":", 1)[1].strip() if models else "unknown"
    return f"{processors} processors ({model}), no GPU, load {os.getloadavg()[0]:.1f}"


def sized() -> sizing.Sizing:
    """The engine settings that the fleet would use on this machine."""
    memory_mb = os.sysconf("SC_PHYS_PAGES") * _PAGE >> 20
    return sizing.size(processors=len(os.sched_getaffinity(0)), memory_mb=memory_mb, gpu=False)


def analysis_config() -> str:
    """The engine configuration, as roles/katago writes it."""
    settings = sized()
    return f"""\
logToStderr = true
logAllRequests = false
logAllResponses = false
logErrorsAndWarnings = true
logSearchInfo = false
reportAnalysisWinratesAs = BLACK
numAnalysisThreads = {settings.num_analysis_threads}
numSearchThreadsPerAnalysisThread = {settings.num_search_threads_per_analysis_thread}
nnMaxBatchSize = {settings.nn_max_batch_size}
nnCacheSizePowerOfTwo = {settings.nn_cache_size_power_of_two}
nnMutexPoolSizePowerOfTwo = 16
nnRandomize = true
"""


def query(position: Mapping[str, Any], visits: int) -> dict[str, Any]:
    """The query that the server sends for analyzePosition with only maxVisits."""
    checked = check(Position.model_validate(position))
    query = checked.query() | options_of(visits, MAX_TIME)
    return query | {
        "analysisPVLen": 14,
        "includeOwnership": False,
        "includeMovesOwnership": False,
        "includePolicy": False,
    }


class Bare:
    """A running KataGo without the server. `prefix` is the prefix of its query ids."""

    def __init__(
        self, replies: asyncio.StreamReader, queries: asyncio.StreamWriter, prefix: str = ""
    ) -> None:
        self._lines, self._queries, self._prefix = replies, queries, prefix
        self._names = itertools.count()
        self._replies: dict[str, asyncio.Queue[dict[str, Any]]] = {}

    async def ask(self, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Send a query. Return its final replies: one, or one for each of `analyzeTurns`.

        Raises:
            RuntimeError: if the engine answers with an error.
        """
        name = f"{self._prefix}b{next(self._names)}"
        replies = self._replies[name] = asyncio.Queue()
        self._queries.write(json.dumps({**fields, "id": name}).encode() + b"\n")
        await self._queries.drain()
        expected = len(fields.get("analyzeTurns", [0]))
        async with asyncio.timeout(ANSWER_SECONDS):
            answers = [await replies.get() for _ in range(expected)]
        del self._replies[name]
        for reply in answers:
            if "error" in reply:
                raise RuntimeError(f"the engine rejected the query: {reply['error']}")
        return answers

    async def read(self) -> None:
        """Deliver replies to their queries until the engine exits."""
        async for line in self._lines:
            reply = json.loads(line)
            self._replies[reply["id"]].put_nowait(reply)


@contextlib.asynccontextmanager
async def bare(kit: Kit, directory: Path) -> AsyncIterator[Bare]:
    """Start KataGo as the server starts it, with cold caches."""
    config = directory / "bare.cfg"
    config.write_text(analysis_config())
    command = Command(kit.binary, kit.network, config, kit.home)
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


def shared(kit: Kit, directory: Path) -> tuple[Path, Path]:
    """Write a program that the server uses as engine and a benchmark through a socket. Return both paths."""
    program, socket = directory / "shared-engine", directory / "engine.socket"
    command = shlex.join([sys.executable, shared_engine.__file__, str(kit.binary), str(socket)])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return program, socket


@contextlib.asynccontextmanager
async def beside(socket: Path) -> AsyncIterator[Bare]:
    """Connect to the engine of a running server at its socket."""
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


def site(kit: Kit, directory: Path, *, callers: int = 1, **sections: Mapping[str, object]) -> Site:
    """Configure a server as a deployment does: one token for each caller, and a cache on disk."""
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
            "binaryPath": str(kit.binary),
            "modelPath": str(kit.network),
            "homeDataDir": str(kit.home),
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
    """Run the server in a separate process, ready, while the context lasts."""
    with made.serving(ready=False) as running:
        deadline = time.monotonic() + START_SECONDS
        while running.answers("/ready") != 200:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {START_SECONDS} s: {running.log.read_text()}")
            time.sleep(0.05)
        yield running


@contextlib.asynccontextmanager
async def client(url: str, secret: str, *, mode: str = "auto") -> AsyncIterator[Client]:
    """The official client with its own session. `mode` "legacy" uses the older protocol."""
    headers = {"Authorization": f"Bearer {secret}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(ANSWER_SECONDS)) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, cache=None) as session,
    ):
        yield session


async def call(session: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool and return its structuredContent.

    Raises:
        RuntimeError: if the call failed.
    """
    answer = await session.call_tool(tool, arguments)
    if answer.is_error or answer.structured_content is None:
        raise RuntimeError(f"{tool} failed: {answer.content}")
    content: dict[str, Any] = answer.structured_content
    return content


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, in seconds.

    Reads the process's CPU-time clock [clock_getcpuclockid(3)]. Python has no name for the clock of another
    process; its id is the complement of the process id above three bits (2: per process, from the scheduler).
    The counters of /proc have a resolution of only 10 ms.
    """
    return time.clock_gettime(~pid << 3 | 2)


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MiB (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / (1 << 20)


def open_files(pid: int) -> int:
    """The number of open file descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
