"""Identical requests in flight, joined: one search, and everybody who asked gets its answer."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from katago_mcp.scheduling import Claim, Slots

_T = TypeVar("_T")

Report = Callable[[int, int], Awaitable[None]]
"""Called with what is done and what there is to do: visits of a search, turns of a review."""


@dataclass(eq=False)
class _Flight:
    claim: Claim
    passengers: int = 0
    progress: tuple[int, int] | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def note(self, done: int, total: int) -> None:
        self.progress = done, total
        self.moved.set()
        self.moved = asyncio.Event()


class Flights:
    """The pieces of work under way, by a key over everything that changes their result.

    Whoever asks for what is under way already waits for the same result and hears of the same
    progress. A caller that gives up leaves the work to the others; the last one cancels it.
    """

    def __init__(self, slots: Slots, changed: Callable[[], None]) -> None:
        self._slots = slots
        self._changed = changed
        self._flights: dict[str, tuple[_Flight, asyncio.Task[Any]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def join(
        self,
        name: str,
        caller: str,
        work: Callable[[Claim, Report], Awaitable[_T]],
        report: Report | None,
        *,
        long: bool = False,
    ) -> _T:
        """The result of `work`, begun now or by whoever asked for `name` first.

        `long` work takes many slots, and never the last free one where there are several.

        Raises:
            Full: if the work is new and the queue is full.
            Exception: what `work` raises, for everybody who waits.
        """
        found = self._flights.get(name)
        if found is None:
            found = self._begin(name, self._slots.claim(caller, long=long), work)
        else:
            self._slots.join(found[0].claim, caller)
        flight, task = found
        flight.passengers += 1
        try:
            await _ride(flight, task, report)
        finally:
            flight.passengers -= 1
            if not flight.passengers and not task.done():
                # Nobody may join what is about to end without a result.
                del self._flights[name]
                task.cancel()
        result: _T = task.result()
        return result

    def _begin(
        self, name: str, claim: Claim, work: Callable[[Claim, Report], Awaitable[_T]]
    ) -> tuple[_Flight, "asyncio.Task[_T]"]:
        flight = _Flight(claim)

        async def run() -> _T:
            return await work(claim, flight.note)

        def landed(task: "asyncio.Task[_T]") -> None:
            self._tasks.discard(task)
            self._slots.withdraw(claim)
            # What was abandoned may have a successor under the same name.
            if self._flights.get(name) == (flight, task):
                del self._flights[name]
            if not task.cancelled():
                # Retrieved here, so that a failure nobody waits for any more is not reported.
                task.exception()
            self._changed()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        self._flights[name] = flight, task
        task.add_done_callback(landed)
        self._changed()
        return flight, task


async def _ride(flight: _Flight, task: "asyncio.Task[Any]", report: Report | None) -> None:
    """Wait for the end of a flight, and tell of its progress on the way, the latest only."""
    told: tuple[int, int] | None = None
    while not task.done():
        if report is not None and flight.progress is not None and flight.progress != told:
            told = flight.progress
            await report(*told)
            continue
        moved = asyncio.ensure_future(flight.moved.wait())
        try:
            await asyncio.wait({task, moved}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()
