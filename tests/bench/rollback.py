"""Time without service during a rollback, compared with `systemctl restart`."""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from lab import runtime
from lab.hosts import Host
from tests import fleet
from tests.bench.report import Figure, Report, median, ratio

MOST_RATIO = 1.15
_INTERVAL = 0.02
_READY_SECONDS = 120
# The limit is part of a release, so these values make two releases.
_LIMITS = (960, 970)


@dataclass
class Watch:
    """Samples of a client: the time in seconds of a monotonic clock, and whether the service was ready."""

    samples: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def gap(self) -> float:
        """Seconds from the first failure to the first success after the last failure; 0 without a failure.

        Raises:
            ValueError: if the service was not ready again at the end.
        """
        failures = [at for at, ready in self.samples if not ready]
        if not failures:
            return 0.0
        recoveries = [at for at, ready in self.samples if ready and at > failures[-1]]
        if not recoveries:
            raise ValueError("the service was not ready again")
        return recoveries[0] - failures[0]


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=5, help="pairs (default: %(default)s)")


def measure(arguments: argparse.Namespace) -> Report:
    """Alternately restart and roll back the last host of the lab."""
    host = fleet.LAB.hosts()[-1]
    restarts, rollbacks, walls = [], [], []
    for limit in _LIMITS:
        _deploy(host, limit)
    for _ in range(arguments.rounds):
        restarts.append(_gap(host, lambda: _restart(host)))
        started = time.monotonic()
        rollbacks.append(_gap(host, lambda: _play(host, "rollback.yml")))
        walls.append(time.monotonic() - started)
        _deploy(host, _LIMITS[-1])
    figures: list[Figure] = [
        median("not ready, systemctl restart", restarts, "s"),
        median("not ready, rollback.yml", rollbacks, "s"),
        ratio(
            "rollback.yml / systemctl restart",
            list(zip(rollbacks, restarts, strict=True)),
            at_most=MOST_RATIO,
        ),
        median("rollback.yml, whole run with validation", walls, "s"),
    ]
    setting = f"/ready of one host, requested every {_INTERVAL * 1000:g} ms; {arguments.rounds} pairs"
    return Report("rollback", setting, tuple(figures))


def _gap(host: Host, act: Callable[[], None]) -> float:
    with watched(host) as watch:
        act()
        _await_ready(watch.samples)
    return watch.gap


@contextlib.contextmanager
def watched(host: Host) -> Iterator[Watch]:
    """Ask for `/ready` of a host all the time, from outside."""
    watch, ended = Watch(), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            at = time.monotonic()
            watch.samples.append((at, fleet.get(host, "/ready", seconds=1)[0] == 200))
            ended.wait(_INTERVAL)

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield watch
    finally:
        ended.set()
        client.join()


def _await_ready(samples: Sequence[tuple[float, bool]]) -> None:
    started = time.monotonic()
    fleet.eventually(
        lambda: bool(samples) and samples[-1][0] > started and samples[-1][1],
        within=_READY_SECONDS,
        what="the service is ready",
    )


def _restart(host: Host) -> None:
    runtime.exec_in(host.container, ["systemctl", "restart", "katago-mcp.service"])


def _deploy(host: Host, limit: int) -> None:
    _play(host, "deploy.yml", katago_mcp_max_visits=limit)


def _play(host: Host, playbook: str, **variables: int) -> None:
    run = fleet.play(playbook, f"--limit={host.name}", variables=variables)
    if run.returncode != 0:
        raise RuntimeError(run.output)
