"""Joins identical running requests: one search answers all of them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from katago_mcp.scheduling import Claim, Effort, Slots

_T = TypeVar("_T")

Report = Callable[[int, int], Awaitable[None]]
"""Progress callback, called with (done, total): visits of a search, turns of a review."""


@dataclass(eq=False)
class _Flight:
    claim: Claim
    passengers: int = 0
    present: int = 0
    """Passengers whose client can still receive the answer."""
    progress: tuple[int, int] | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def note(self, done: int, total: int) -> None:
        self.progress = done, total
        self.moved.set()
        self.moved = asyncio.Event()


class GaveWay(Exception):
    """The work ended because nobody could receive its answer and other work waited."""


class Flights:
    """The running work, by a key over everything that affects the result.

    A caller that requests running work waits for the same result and receives the same progress. If a
    caller gives up, the work continues for the others. When the last caller gives up, it is cancelled. When
    the clients of all callers have left, the work continues, for the cache, until other work waits.
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
        effort: Effort,
        left: asyncio.Event | None = None,
        long: bool = False,
    ) -> _T:
        """The result of `work`, started now or by the first caller that requested `name`.

        `long` work takes many slots. It leaves one slot free if there are several. `left` is set when the
        caller's client can no longer receive the answer.

        Raises:
            Full: if the work is new and the queue is full.
            GaveWay: if no client could receive the answer, and other work needed the slot.
            Exception: any exception of `work`, for all callers that wait.
        """
        running = self._flights.get(name)
        if running is None:
            running = self._start(name, self._slots.claim(caller, effort, long=long), work)
        else:
            self._slots.join(running[0].claim, caller)
        flight, task = running
        flight.passengers += 1
        flight.present += 1
        self._slots.resume(flight.claim)
        leaving = None if left is None else asyncio.create_task(self._leave(name, flight, task, left))
        try:
            await _wait(flight, task, report)
        finally:
            flight.passengers -= 1
            if left is None or not left.is_set():
                flight.present -= 1
            if leaving is not None:
                leaving.cancel()
            if not flight.passengers and not task.done():
                # No caller may join work that is about to be cancelled.
                del self._flights[name]
                task.cancel()
        if task.cancelled():
            raise GaveWay
        result: _T = task.result()
        return result

    async def _leave(
        self, name: str, flight: _Flight, task: "asyncio.Task[Any]", left: asyncio.Event
    ) -> None:
        """Abandon a flight when the client of its last present passenger leaves."""

        def give_way() -> None:
            if self._flights.get(name) == (flight, task):
                del self._flights[name]
            task.cancel()

        await left.wait()
        flight.present -= 1
        if not flight.present and not task.done():
            self._slots.abandon(flight.claim, give_way)

    def _start(
        self, name: str, claim: Claim, work: Callable[[Claim, Report], Awaitable[_T]]
    ) -> tuple[_Flight, "asyncio.Task[_T]"]:
        flight = _Flight(claim)

        async def run() -> _T:
            return await work(claim, flight.note)

        def landed(task: "asyncio.Task[_T]") -> None:
            self._tasks.discard(task)
            self._slots.withdraw(claim)
            # After a cancellation, new work may already run under the same name.
            if self._flights.get(name) == (flight, task):
                del self._flights[name]
            if not task.cancelled():
                # Retrieve the exception, so that asyncio does not log it as never retrieved.
                task.exception()
            self._changed()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        self._flights[name] = flight, task
        task.add_done_callback(landed)
        self._changed()
        return flight, task


async def _wait(flight: _Flight, task: "asyncio.Task[Any]", report: Report | None) -> None:
    """Wait until a flight ends. Report only its latest progress meanwhile."""
    reported: tuple[int, int] | None = None
    while not task.done():
        if report is not None and flight.progress is not None and flight.progress != reported:
            reported = flight.progress
            await report(*reported)
            continue
        moved = asyncio.ensure_future(flight.moved.wait())
        try:
            await asyncio.wait({task, moved}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()
