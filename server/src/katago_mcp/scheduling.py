"""Who may use the engine next: slots shared round-robin by the callers.

A slot is the right to have one query in the engine. Every caller (a token's name) has a queue of
its own, and a free slot goes to the next caller in turn, so that a hundred calls of one client
delay another client's only call by one turn. A review of a whole game takes many slots one after
the other, each for a chunk of its turns; such long work is kept from holding all slots.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

_WEIGHT = 0.2
"""Of the latest slot given back in the mean time that slots are held."""


class Full(Exception):
    """So many wait already that the caller has to come back later."""


class Overdue(Exception):
    """No turn came within the time that a caller may wait for one."""


@dataclass(eq=False)
class _Ticket:
    long: bool
    granted: asyncio.Future[None]
    since: float = 0.0


@dataclass(eq=False)
class Claim:
    """For whom a piece of work is done: at first one caller, and more as identical calls join it.

    Its tickets stand in the queue of each of these callers; the first turn that comes serves all.
    """

    callers: list[str]
    long: bool
    tickets: list[_Ticket] = field(default_factory=list)
    unused: _Ticket | None = None


class Slots:
    """`total` slots, and the queues before them.

    At most `max_queued` tickets wait; a caller of whom nothing waits yet is let in beyond that, so
    that one client cannot fill the queue for the others. Long work holds at most all slots but
    one, or the only one there is.
    """

    def __init__(self, total: int, max_queued: int, changed: Callable[[], None]) -> None:
        self.running = 0
        self.queued = 0
        self._total = total
        self._max_queued = max_queued
        self._long_running = 0
        self._held: float | None = None
        self._changed = changed
        self._queues: OrderedDict[str, deque[_Ticket]] = OrderedDict()

    @property
    def saturated(self) -> bool:
        """Whether a caller of whom something waits already would be refused."""
        return self.running >= self._total and self.queued >= self._max_queued

    def expected_wait(self, unknown: float) -> float:
        """Seconds until somebody who came now would probably get a slot.

        It is the number of rounds that those who wait need, each as long as a slot was held lately;
        `unknown` seconds as long as none was given back.
        """
        rounds = (self.queued + 1) / self._total
        return rounds * (unknown if self._held is None else self._held)

    def resize(self, total: int, max_queued: int) -> None:
        """Change the bounds. Who holds a slot keeps it, and who waits goes on waiting."""
        self._total, self._max_queued = total, max_queued
        self._grant()

    def claim(self, caller: str, *, long: bool) -> Claim:
        """Let a new piece of work in, and queue it for its first slot.

        Raises:
            Full: if the queue is full, and the caller has a share in that.
        """
        if self.saturated and (self._max_queued == 0 or caller in self._queues):
            raise Full
        claim = Claim([caller], long)
        claim.unused = self._enqueue(claim)
        return claim

    def join(self, claim: Claim, caller: str) -> None:
        """Let a caller stand behind a claim too: its waiting tickets are queued for this caller as well."""
        if caller not in claim.callers:
            claim.callers.append(caller)
            for ticket in claim.tickets:
                if not ticket.granted.done():
                    self._queues.setdefault(caller, deque()).append(ticket)

    @contextlib.asynccontextmanager
    async def slot(self, claim: Claim, patience: float | None = None) -> AsyncIterator[None]:
        """Hold a slot while the context lasts, after waiting for a turn, `patience` seconds at most.

        Raises:
            Overdue: if no turn came in that time.
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
            self._give_back(claim, ticket)

    def withdraw(self, claim: Claim) -> None:
        """Give back what work that has ended did not come to use."""
        if claim.unused is not None:
            self._give_back(claim, claim.unused)
            claim.unused = None

    def _enqueue(self, claim: Claim) -> _Ticket:
        ticket = _Ticket(claim.long, asyncio.get_running_loop().create_future())
        for caller in claim.callers:
            self._queues.setdefault(caller, deque()).append(ticket)
        claim.tickets.append(ticket)
        self.queued += 1
        self._grant()
        return ticket

    def _give_back(self, claim: Claim, ticket: _Ticket) -> None:
        if ticket.granted.done() and not ticket.granted.cancelled():
            self.running -= 1
            self._long_running -= ticket.long
            held = time.monotonic() - ticket.since
            self._held = held if self._held is None else self._held + _WEIGHT * (held - self._held)
        else:
            self._forget(ticket)
        claim.tickets.remove(ticket)
        self._grant()

    def _grant(self) -> None:
        while self.running < self._total and (found := self._next()) is not None:
            caller, ticket = found
            self._queues.move_to_end(caller)
            self._forget(ticket)
            self.running += 1
            self._long_running += ticket.long
            ticket.since = time.monotonic()
            ticket.granted.set_result(None)
        self._changed()

    def _next(self) -> tuple[str, _Ticket] | None:
        may_be_long = self._long_running < max(1, self._total - 1)
        for caller, queue in self._queues.items():
            for ticket in queue:
                # A ticket whose holder was cancelled a moment ago is about to be given back.
                if not ticket.granted.done() and (may_be_long or not ticket.long):
                    return caller, ticket
        return None

    def _forget(self, ticket: _Ticket) -> None:
        self.queued -= 1
        for caller in [caller for caller, queue in self._queues.items() if ticket in queue]:
            self._queues[caller].remove(ticket)
            if not self._queues[caller]:
                del self._queues[caller]
