"""Generates load: starts calls at a rate or by a number of clients, and measures them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import pacing, positions
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import (
    OK,
    Client,
    Generation,
    Result,
    Target,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.load import (
    MOST_RUNNING,
    SCHEMA,
    Bar,
    Ended,
    Order,
    Report,
    Settings,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.statistics import Guard, Statistics

_NAME = "katago-load"
# With a rate, so many clients share the calls of a target in a generation.
_SHARED_CLIENTS = 8
# A client whose call failed waits, as a person would. Otherwise it would call thousands of times a second.
_RETRY_SECONDS = 0.2
# After an interruption, calls that run get so long to finish.
_FINISH_SECONDS = 3.0
_MOST_BARS = 16


class Generator:
    """Runs one order. `stop` may be called from any thread and from a signal handler."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._stopped = threading.Event()
        self._ended: Ended = "running"
        self._reason = ""
        self._lock = threading.Lock()
        self._statistics = Statistics()
        self._guard = Guard(order.overload_seconds)
        self._slots = threading.Semaphore(MOST_RUNNING)
        self._clients: list[Client] = []
        self._began = time.monotonic()
        self._seconds: float | None = None
        self._started = timestamps.now()

    def stop(self, ended: Ended, reason: str) -> None:
        """Start no more calls. The first reason counts."""
        if not self._stopped.is_set():
            self._ended, self._reason = ended, reason
            self._stopped.set()

    def run(self) -> None:
        """Call until the order's time is over or `stop`, and wait for the calls that run."""
        self._began = time.monotonic()
        pool = ThreadPoolExecutor(MOST_RUNNING)
        if self._order.rate:
            self._call_at_rate(pool)
        else:
            self._call_without_pause(pool)
        self.stop("done", f"the run of {self._order.seconds:g} s is complete")
        self._wait(self._order.deadline if self._ended == "done" else _FINISH_SECONDS)
        self._seconds = time.monotonic() - self._began
        wait([pool.submit(client.close) for client in self._clients], _FINISH_SECONDS)
        pool.shutdown(wait=False, cancel_futures=True)

    def _call_at_rate(self, pool: ThreadPoolExecutor) -> None:
        """Start calls at fixed times until the run is over."""
        order = self._order
        shared: dict[tuple[Target, Generation], Iterator[Client]] = {}
        ticks = pacing.ticks(1 / order.rate, order.seconds, self._stopped)
        for key, _ in zip(self._mix(), ticks, strict=False):
            if key not in shared:
                shared[key] = itertools.cycle([self._client(*key) for _ in range(_SHARED_CLIENTS)])
            client = next(shared[key])
            if self._slots.acquire(blocking=False):
                pool.submit(self._call, client)
            else:
                self._add(client, Result("not_started", 0.0, reason=f"{MOST_RUNNING} calls were running"))

    def _call_without_pause(self, pool: ThreadPoolExecutor) -> None:
        """Let clients call until the run is over."""
        for key in itertools.islice(self._mix(), self._order.clients):
            client = self._client(*key)
            self._slots.acquire()
            pool.submit(self._loop, client)
        self._stopped.wait(self._order.seconds)

    def _wait(self, seconds: float) -> None:
        """Wait until no call runs, for at most `seconds`."""
        end = time.monotonic() + seconds
        for _ in range(MOST_RUNNING):
            self._slots.acquire(timeout=max(0.0, end - time.monotonic()))

    def _mix(self) -> Iterator[tuple[Target, Generation]]:
        """All targets in turn, and the generations in the ordered shares, evenly spread."""
        percent = self._order.session_percent
        for number, target in enumerate(itertools.cycle(self._order.targets)):
            # Shifted by the round, so that every target gets both generations.
            share = number // len(self._order.targets) + number % len(self._order.targets)
            is_session = (share + 1) * percent // 100 > share * percent // 100
            yield target, "session" if is_session else "stateless"

    def _client(self, target: Target, generation: Generation) -> Client:
        client = Client(target, generation, self._order.token, name=_NAME)
        self._clients.append(client)
        return client

    def _loop(self, client: Client) -> None:
        try:
            while not self._stopped.is_set():
                result = self._request(client)
                self._add(client, result)
                if result.kind != OK:
                    self._stopped.wait(_RETRY_SECONDS)
        finally:
            self._slots.release()

    def _call(self, client: Client) -> None:
        try:
            self._add(client, self._request(client))
        finally:
            self._slots.release()

    def _request(self, client: Client) -> Result:
        order = self._order
        return positions.call(client, order.tool, order.visits, order.deadline)

    def _add(self, client: Client, result: Result) -> None:
        with self._lock:
            at = time.monotonic() - self._began
            self._statistics.add(
                result,
                at,
                generation=client.generation,
                target=client.target.name,
                client=id(client),
            )
            harm = self._guard.add(result, at)
        if harm:
            self.stop("overload", harm)

    def report(self) -> Report:
        """What was measured so far."""
        order = self._order
        with self._lock:
            counted = self._statistics
            seconds = time.monotonic() - self._began if self._seconds is None else self._seconds
            return Report(
                schema=SCHEMA,
                started=self._started,
                seconds=round(seconds, 2),
                ended=self._ended if self._seconds is not None else "running",
                reason=self._reason,
                settings=Settings(
                    targets={target.name: target.url for target in order.targets},
                    rate=order.rate,
                    clients=0 if order.rate else order.clients,
                    session_percent=order.session_percent,
                    seconds=order.seconds,
                    tool=order.tool,
                    visits=order.visits,
                ),
                total=counted.total.row(),
                generations={name: tally.row() for name, tally in sorted(counted.generations.items())},
                hosts={name: tally.row() for name, tally in sorted(counted.hosts.items())},
                width=counted.timeline.width,
                periods=counted.timeline.periods(),
                bars=[
                    Bar(above=above, to=to, calls=calls)
                    for above, to, calls in counted.total.histogram.bars(_MOST_BARS)
                ],
                reasons={str(kind): reason for kind, reason in counted.reasons.items()},
            )
