"""The cache of answers that several hosts share.

- A lookup uses an answer only if this fleet signed it for this key, and if the shared cache still has the
  generation that this server knows (`shared_generation`). Everything else is a miss.
- A lookup waits for `sharedCache.timeoutSeconds`. Writes always happen in the background, and are dropped if
  too many wait.
- Clearing a cache ends the answers of all hosts. It works while the shared cache is down: until this server
  has started another generation there, it uses none of its answers.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.shared_connection import CLOSE_SECONDS, Connection, Request
from katago_mcp.shared_entries import ENTRY_BYTES, GENERATION_BYTES, LARGEST, Shared, Signer
from katago_mcp.shared_generation import Generation, order_another

if TYPE_CHECKING:
    import redis.asyncio

_SECOND = 1_000_000
_CLOCKS_DIFFER = 300 * _SECOND
"""Microseconds that the clock of another host may be ahead."""
_QUEUED_MAX = 256
_QUEUED_BYTES = 16 * LARGEST
_ORDERS_EVERY = 5.0
"""Seconds between two looks for an order of another process, while no lookup looks for one."""

_FOREIGN = b"not signed"
_log = Log(__name__)


class SharedAnswers:
    """The shared cache as one server uses it. `run` must run beside it.

    `keys`: returns the keys; the first one is used. `directory`: the directory of the cache on disk. `ttl`:
    returns the seconds for which an answer is valid.
    """

    def __init__(
        self,
        connection: Connection,
        keys: Callable[[], Sequence[bytes]],
        directory: Path,
        ttl: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._directory = directory
        self._generation = Generation(directory)
        self._ttl = ttl
        self._metrics = metrics
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_QUEUED_MAX)
        self._queued_bytes = 0
        self._unsettled = asyncio.Event()
        self._settled = asyncio.Event()
        self._is_written = True

    async def get(self, key: str) -> Shared | None:
        """The answer that any host stored under a key; None without one, or while the cache is not usable."""
        if not self._is_usable():
            return None
        signer, generation = self._signer(), self._generation.number

        async def read(client: "redis.asyncio.Redis") -> list[Any]:
            async with client.pipeline(transaction=False) as pipeline:
                # At most so much is read of an entry that is too large.
                pipeline.getrange(signer.name(key, generation), 0, ENTRY_BYTES - 1)
                pipeline.getrange(signer.generation_name, 0, GENERATION_BYTES)
                replies = await pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception) and not _is_of_another_type(reply):
                    raise reply
            return list(replies)

        replies = await self._connection.look_up(read)
        if replies is None:
            return None
        content, current = _content(replies[0]), signer.opened_generation(_content(replies[1]))
        answer = None
        if self._generation.is_over or current != generation:
            # What is stored from now on is of the current generation.
            self._adopt(current)
            self._unsettled.set()
        elif content:
            answer = self._verified(signer, key, generation, content)
        (self._metrics.shared_misses if answer is None else self._metrics.shared_hits).inc()
        return answer

    def put(self, key: str, value: bytes) -> None:
        """Store an answer in the background. Nothing happens while the cache is not usable."""
        if len(value) > LARGEST or not self._is_usable():
            return
        signer, generation = self._signer(), self._generation.number
        content = signer.sealed(key, generation, Shared(value, _now()))
        try:
            if self._queued_bytes + len(content) > _QUEUED_BYTES:
                raise asyncio.QueueFull
            self._queue.put_nowait((signer.name(key, generation), content))
        except asyncio.QueueFull:
            self._metrics.shared_errors.labels("dropped").inc()
            return
        self._queued_bytes += len(content)

    def end(self) -> None:
        """Use no answer any more that was stored until now; until the server ends, or `order_end` works."""
        self._generation.end()
        self._unsettled.set()

    def order_end(self) -> None:
        """Use no answer any more that was stored until now. Blocks. Raises OSError."""
        order_another(self._directory)

    async def ended(self) -> None:
        """Wait a moment until no host uses the answers that were ended."""
        self._settled.clear()
        self._unsettled.set()
        if self._connection.is_up:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._settled.wait()

    async def run(self) -> None:
        """Connect again, agree on the generation, and write what is waiting. Runs as long as the server."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._connection.run(self._agree))
            tasks.create_task(self._settle())
            tasks.create_task(self._write())

    async def flush(self) -> None:
        """Wait a moment until nothing waits to be written."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._queue.join()

    def _is_usable(self) -> bool:
        if not self._connection.is_up:
            return False
        if self._generation.is_over:
            self._unsettled.set()
            return False
        return True

    def _signer(self) -> Signer:
        return Signer(self._keys()[0])

    def _verified(self, signer: Signer, key: str, generation: int, content: bytes) -> Shared | None:
        """The answer in an entry; None if it is not one that this fleet wrote under this key, or too old."""
        shared = signer.opened(key, generation, content)
        if shared is None:
            self._metrics.shared_errors.labels("entry").inc()
            _log.warning("shared_cache_entry_refused", bytes=len(content))
            return None
        now = _now()
        is_recent = now - round(_SECOND * self._ttl()) < shared.created <= now + _CLOCKS_DIFFER
        return shared if is_recent else None

    async def _agree(self, client: "redis.asyncio.Redis") -> None:
        """Adopt the generation of the shared cache, or start one there.

        Another one starts if it was ordered here, or if the cache has none or an earlier one: it lost it, and
        nobody knows what its entries are.
        """
        signer, order = self._signer(), self._generation.order
        content = await _current(client, signer)
        current = signer.opened_generation(content)
        if content and current is None:
            self._metrics.shared_errors.labels("entry").inc()
        self._adopt(current)
        if self._generation.is_over or current != self._generation.number:
            number = self._generation.number + 1
            await client.set(signer.generation_name, signer.sealed_generation(number))
            self._generation.start(number, order)
            self._is_written = False
            self._unsettled.set()

    def _adopt(self, current: int | None) -> None:
        """Use the generation of the shared cache if it is a later one than that of this server."""
        known = self._generation.number
        if current is None or current <= known:
            return
        self._generation.adopt(current)
        self._is_written = False
        self._unsettled.set()
        if known:
            _log.info("shared_cache_cleared_elsewhere")

    async def _settle(self) -> None:
        """Agree on the generation whenever that is necessary, and keep it on disk."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ORDERS_EVERY):
                    await self._unsettled.wait()
            if not self._unsettled.is_set() and not self._generation.is_over:
                continue
            self._unsettled.clear()
            if not self._is_written:
                await self._keep_generation()
            is_agreed = self._connection.is_up and await self._connection.tell(self._agree)
            if is_agreed and not self._generation.is_over:
                self._settled.set()

    async def _keep_generation(self) -> None:
        self._is_written = True
        try:
            await asyncio.to_thread(self._generation.write)
        except OSError as error:
            # The next start of the server starts another generation.
            _log.warning("shared_cache_generation_not_kept", reason=str(error))

    async def _write(self) -> None:
        while True:
            name, content = await self._queue.get()
            try:
                # What waits while the cache is down is old by the time it answers again.
                if self._connection.is_up:
                    await self._connection.tell(_storing(name, content, self._ttl()))
            finally:
                self._queued_bytes -= len(content)
                self._queue.task_done()


def _storing(name: str, content: bytes, seconds: float) -> Request[object]:
    """A request that stores an entry for so many seconds."""

    async def store(client: "redis.asyncio.Redis") -> None:
        await client.set(name, content, px=max(1, round(1000 * seconds)))

    return store


async def _current(client: "redis.asyncio.Redis", signer: Signer) -> bytes:
    """The entry with the generation; empty without one."""
    try:
        return _content(await client.getrange(signer.generation_name, 0, GENERATION_BYTES))
    except ResponseError as error:
        if not _is_of_another_type(error):
            raise
        return _FOREIGN


def _content(reply: object) -> bytes:
    """The content of an entry; of one that is a list, for example, something that nobody signed."""
    return reply if isinstance(reply, bytes) else _FOREIGN


def _is_of_another_type(reply: Exception) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


def _now() -> int:
    """The time in microseconds since 1970."""
    return time.time_ns() // 1000
