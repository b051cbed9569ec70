"""Schedules the engine: callers share its slots round-robin.

A slot is the right to have one query in the engine. Every caller (a token's name) has its own queue, and a
free slot goes to the next caller in turn. So a hundred calls of one client delay the single call of another
client by one turn only. A review of a whole game takes many slots one after another, each for a chunk of
its turns. Such long work cannot hold all slots. Abandoned work, whose answer nobody can receive, continues
only while nobody waits.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

_WEIGHT = 0.2
"""Weight of the most recently released slot in the average seconds of a visit."""


class Full(Exception):
    """The queue is full. The caller must retry later."""


class Overdue(Exception):
    """No slot was free within the maximum waiting time."""


@dataclass(frozen=True)
class Effort:
    """What work needs of one slot: visits to search, and seconds after which the search ends anyway."""

    visits: int
    seconds: float


@dataclass(eq=False)
class _Ticket:
    claim: "Claim"
    granted: asyncio.Future[None]
    since: float = 0.0

    @property
    def long(self) -> bool:
        return self.claim.long


@dataclass(eq=False)
class Claim:
    """The callers of a piece of work: one at first, more when identical calls join.

    Its tickets are in the queue of each caller. The first granted turn serves all of them.
    """

    callers: list[str]
    effort: Effort
    long: bool
    give_way: Callable[[], None] | None = None
    """Ends the work; set while the work is abandoned."""
    tickets: list[_Ticket] = field(default_factory=list)
    unused: _Ticket | None = None


class Slots:
    """`total` slots, and the queues of callers that wait for them.

    At most `max_queued` tickets wait. A caller without a waiting ticket is admitted even then, so that one
    client cannot block the others. Long work holds at most all slots but one, or the only slot.
    """

    def __init__(self, total: int, max_queued: int, changed: Callable[[], None]) -> None:
        self.running = 0
        self.queued = 0
        self._total = total
        self._max_queued = max_queued
        self._long_running = 0
        self._seconds_per_visit: float | None = None
        self._held: set[_Ticket] = set()
        self._abandoned: list[Claim] = []
        self._changed = changed
        self._queues: OrderedDict[str, deque[_Ticket]] = OrderedDict()

    @property
    def saturated(self) -> bool:
        """Whether a caller that already waits would be rejected."""
        return self.running >= self._total and self.queued >= self._max_queued

    def expected_wait(self) -> float:
        """Estimated seconds until a new caller gets a slot: what runs and waits now, divided by the slots.

        The estimate of a search is its visits times the recent average seconds of a visit, and at most its
        limit of seconds. Before the first search has ended, it is the limit.
        """
        now = time.monotonic()
        running = sum(max(0.0, self._estimate(held.claim) - (now - held.since)) for held in self._held)
        waiting = {ticket for queue in self._queues.values() for ticket in queue}
        return (running + sum(self._estimate(ticket.claim) for ticket in waiting)) / self._total

    def _estimate(self, claim: Claim) -> float:
        if self._seconds_per_visit is None:
            return claim.effort.seconds
        return min(claim.effort.seconds, claim.effort.visits * self._seconds_per_visit)

    def resize(self, total: int, max_queued: int) -> None:
        """Change the limits. Held slots and waiting tickets are kept."""
        self._total, self._max_queued = total, max_queued
        self._grant()

    def claim(self, caller: str, effort: Effort, *, long: bool) -> Claim:
        """Admit new work, and queue it for its first slot.

        Raises:
            Full: if the queue is full and the caller already waits, or nothing may wait.
        """
        if self.saturated and (self._max_queued == 0 or caller in self._queues):
            raise Full
        claim = Claim([caller], effort, long)
        claim.unused = self._enqueue(claim)
        return claim

    def join(self, claim: Claim, caller: str) -> None:
        """Add a caller to a claim. Its waiting tickets are queued for this caller too."""
        if caller not in claim.callers:
            claim.callers.append(caller)
            for ticket in claim.tickets:
                if not ticket.granted.done():
                    self._queues.setdefault(caller, deque()).append(ticket)

    @contextlib.asynccontextmanager
    async def slot(self, claim: Claim, patience: float | None = None) -> AsyncIterator[None]:
        """Wait for a slot, at most `patience` seconds, and hold it while the context lasts.

        Raises:
            Overdue: if no slot was free in that time.
        """
        ticket = claim.unused or self._enqueue(claim)
        claim.unused = None
        try:
            try:
                async with asyncio.timeout(patience):
                    await ticket.granted
            except TimeoutError as error:
                raise Overdue from error
            yield
        finally:
            self._release(claim, ticket)

    def abandon(self, claim: Claim, give_way: Callable[[], None]) -> None:
        """Note that nobody can receive the answer. `give_way` is called as soon as other work waits."""
        claim.give_way = give_way
        self._abandoned.append(claim)
        self._make_room()

    def resume(self, claim: Claim) -> None:
        """Note that somebody waits for the answer again."""
        claim.give_way = None
        if claim in self._abandoned:
            self._abandoned.remove(claim)

    def withdraw(self, claim: Claim) -> None:
        """Release the unused ticket of work that has ended."""
        self.resume(claim)
        if claim.unused is not None:
            self._release(claim, claim.unused)
            claim.unused = None

    def _enqueue(self, claim: Claim) -> _Ticket:
        ticket = _Ticket(claim, asyncio.get_running_loop().create_future())
        for caller in claim.callers:
            self._queues.setdefault(caller, deque()).append(ticket)
        claim.tickets.append(ticket)
        self.queued += 1
        self._grant()
        return ticket

    def _release(self, claim: Claim, ticket: _Ticket) -> None:
        if ticket.granted.done() and not ticket.granted.cancelled():
            self.running -= 1
            self._long_running -= ticket.long
            self._held.discard(ticket)
            self._learn((time.monotonic() - ticket.since) / claim.effort.visits)
        else:
            self._forget(ticket)
        claim.tickets.remove(ticket)
        self._grant()

    def _learn(self, seconds_per_visit: float) -> None:
        known = self._seconds_per_visit
        self._seconds_per_visit = (
            seconds_per_visit if known is None else known + _WEIGHT * (seconds_per_visit - known)
        )

    def _make_room(self) -> None:
        """End abandoned work, one for each waiting ticket. Work that holds a slot comes first."""
        waiting = {
            ticket
            for queue in self._queues.values()
            for ticket in queue
            if not ticket.granted.done() and ticket.claim.give_way is None
        }
        holding = {held.claim for held in self._held}
        for claim in sorted(self._abandoned, key=lambda claim: claim not in holding)[: len(waiting)]:
            give_way = claim.give_way
            self.resume(claim)
            if give_way is not None:
                give_way()

    def _grant(self) -> None:
        while self.running < self._total and (upcoming := self._next()) is not None:
            caller, ticket = upcoming
            self._queues.move_to_end(caller)
            self._forget(ticket)
            self.running += 1
            self._long_running += ticket.long
            ticket.since = time.monotonic()
            self._held.add(ticket)
            ticket.granted.set_result(None)
        self._make_room()
        self._changed()

    def _next(self) -> tuple[str, _Ticket] | None:
        may_be_long = self._long_running < max(1, self._total - 1)
        for caller, queue in self._queues.items():
            for ticket in queue:
                # Skip tickets of cancelled work, which are about to be released.
                if not ticket.granted.done() and (may_be_long or not ticket.long):
                    return caller, ticket
        return None

    def _forget(self, ticket: _Ticket) -> None:
        self.queued -= 1
        for caller in [caller for caller, queue in self._queues.items() if ticket in queue]:
            self._queues[caller].remove(ticket)
            if not self._queues[caller]:
                del self._queues[caller]
