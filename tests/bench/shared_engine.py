"""Shares one KataGo: the process that started it uses its pipes, a benchmark uses a socket.

python shared_engine.py BINARY SOCKET ARGUMENTS...

Two processes of the same engine differ in speed by a few percent from start to start. With one process, both
clients measure the same engine.
"""

from __future__ import annotations

import asyncio
import sys

PREFIX = "bare:"
"""The prefix of the ids of the benchmark's queries."""
_MARK = f'"id":"{PREFIX}'.encode()
_LINE_LIMIT = 1 << 24


async def run(binary: str, socket: str, *arguments: str) -> int:
    """Relay queries and replies until the engine exits. Return its exit status."""
    pipe = asyncio.subprocess.PIPE
    engine = await asyncio.create_subprocess_exec(
        binary, *arguments, stdin=pipe, stdout=pipe, limit=_LINE_LIMIT
    )
    if engine.stdin is None or engine.stdout is None:
        raise RuntimeError("the engine has no pipes")
    queries, replies = engine.stdin, engine.stdout
    benchmark: list[asyncio.StreamWriter] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        benchmark[:] = [writer]
        async for line in reader:
            queries.write(line)

    async def take_from_starter() -> None:
        async for line in await _stdin():
            queries.write(line)
        queries.close()

    async with await asyncio.start_unix_server(take, socket, limit=_LINE_LIMIT):
        starter = asyncio.create_task(take_from_starter())
        async for line in replies:
            if _MARK in line:
                benchmark[0].write(line)
            else:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
        starter.cancel()
    return await engine.wait()


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


if __name__ == "__main__":
    sys.exit(asyncio.run(run(*sys.argv[1:])))
