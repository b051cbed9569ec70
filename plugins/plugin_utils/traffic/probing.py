"""The program of the prober: calls in turn at fixed times, and appends a line to its record for each call."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import (
    background,
    pacing,
    positions,
    prober,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import Client, Result
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.positions import Tool
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.prober import Call, Order

_NAME = "katago-drill-prober"


class Record:
    """Appends lines to a file. What cannot be written now, as on a full disk, is written later."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._waiting = b""

    def add(self, call: Call) -> None:
        """Append a call."""
        line = json.dumps(call).encode() + b"\n"
        with self._lock:
            self._waiting += line
            try:
                written = os.write(self._descriptor, self._waiting)
            except OSError:
                return
            self._waiting = self._waiting[written:]


class Prober:
    """Calls until `stop`. A call that hangs delays no other one."""

    def __init__(self, order: Order, record: Record) -> None:
        self._order, self._record = order, record
        self._stopped = threading.Event()
        self._running = threading.Semaphore(order.most_running)
        self._clients = [
            [
                Client(target, generation, order.token, name=_NAME)
                for _ in range(order.sessions if generation == "session" else 1)
            ]
            for target in order.targets
            for generation in order.generations
        ]

    def stop(self) -> None:
        """Start no more calls."""
        self._stopped.set()

    def run(self) -> None:
        """Call at fixed times until `stop`, or for the order's time. Then wait for the calls that run."""
        order = self._order
        in_turn = self._in_turn()
        with ThreadPoolExecutor(order.most_running) as pool:
            for number, _ in enumerate(pacing.ticks(order.interval, order.seconds, self._stopped)):
                client = next(in_turn)
                is_analysis = number // len(self._clients) % order.analysis_every == 0
                tool: Tool = "analyzePosition" if is_analysis else "getEngineStatus"
                if self._running.acquire(blocking=False):
                    pool.submit(self._probe, client, tool)
                else:
                    reason = f"{order.most_running} calls were running, which is the limit"
                    self._add(client, tool, time.monotonic(), Result("not_started", 0.0, reason=reason))
        with ThreadPoolExecutor() as pool:
            for clients in self._clients:
                pool.map(Client.close, clients)

    def _in_turn(self) -> Iterator[Client]:
        """All targets and generations in turn, and the sessions of each of them."""
        return itertools.chain.from_iterable(zip(*map(itertools.cycle, self._clients), strict=False))

    def _probe(self, client: Client, tool: Tool) -> None:
        began = time.monotonic()
        try:
            result = positions.call(client, tool, self._order.visits, self._order.deadline)
            self._add(client, tool, began, result)
        finally:
            self._running.release()

    def _add(self, client: Client, tool: Tool, began: float, result: Result) -> None:
        call = Call(
            time=round(time.time() - (time.monotonic() - began), 4),
            monotonic=round(began, 4),
            seconds=round(result.seconds, 4),
            target=client.target.name,
            generation=client.generation,
            tool=tool,
            outcome=result.kind,
            status=result.status,
            session=result.session,
            session_lost=result.session_lost,
        )
        if result.host:
            call["host"] = result.host
        if result.reason:
            call["reason"] = result.reason
        self._record.add(call)


def main(arguments: Sequence[str]) -> int:
    """Run an order from stdin, with the path of the record as argument. Exit status 2: it cannot run."""
    path = Path(arguments[0])
    lock = prober.lock_of(path)
    try:
        order = Order.parse(sys.stdin.read())
        with background.held(lock):
            running = Prober(order, Record(path))
            signal.signal(signal.SIGTERM, lambda *_: running.stop())
            background.report_ready()
            running.run()
    except TimeoutError:
        print(f"another prober writes to it; stop that one first (PID {background.holder(lock)})")
        return 2
    except (OSError, ValueError) as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
