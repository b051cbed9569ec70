"""How long clients are without a host's service while it is rolled back, against `systemctl restart`."""

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
# Two releases to go between: the limit is part of a release.
_LIMITS = (960, 970)


@dataclass
class Watch:
    """What a client saw: when it asked, in seconds of a steady clock, and whether the service was ready."""

    seen: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def gap(self) -> float:
        """Seconds from the first refusal to the first answer after the last one; 0 without a refusal.

        Raises:
            ValueError: if the service was not back when the client stopped asking.
        """
        refused = [at for at, ready in self.seen if not ready]
        if not refused:
            return 0.0
        back = [at for at, ready in self.seen if ready and at > refused[-1]]
        if not back:
            raise ValueError("the service was not back")
        return back[0] - refused[0]


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=5, help="pairs (default: %(default)s)")


def measure(arguments: argparse.Namespace) -> Report:
    """Restart and roll back in turns, on the last host of the lab."""
    host = fleet.LAB.hosts()[-1]
    restarts, rollbacks, walls = [], [], []
    for limit in _LIMITS:
        _deploy(host, limit)
    for _ in range(arguments.rounds):
        restarts.append(_gap(host, lambda: _restart(host)))
        begun = time.monotonic()
        rollbacks.append(_gap(host, lambda: _play(host, "rollback.yml")))
        walls.append(time.monotonic() - begun)
        _deploy(host, _LIMITS[-1])
    figures: list[Figure] = [
        median("not ready, systemctl restart", restarts, "s"),
        median("not ready, rollback.yml", rollbacks, "s"),
        ratio(
            "rollback.yml / systemctl restart",
            list(zip(rollbacks, restarts, strict=True)),
            at_most=MOST_RATIO,
        ),
        median("rollback.yml, from the command to its end, validated", walls, "s"),
    ]
    setting = f"/ready of one host asked every {_INTERVAL * 1000:g} ms; {arguments.rounds} pairs"
    return Report("rollback", setting, tuple(figures))


def _gap(host: Host, act: Callable[[], None]) -> float:
    with _watched(host) as watch:
        act()
        _await_ready(watch.seen)
    return watch.gap


@contextlib.contextmanager
def _watched(host: Host) -> Iterator[Watch]:
    watch, ended = Watch(), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            at = time.monotonic()
            watch.seen.append((at, fleet.get(host, "/ready", seconds=1)[0] == 200))
            ended.wait(_INTERVAL)

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield watch
    finally:
        ended.set()
        client.join()


def _await_ready(seen: Sequence[tuple[float, bool]]) -> None:
    begun = time.monotonic()
    fleet.eventually(
        lambda: bool(seen) and seen[-1][0] > begun and seen[-1][1],
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
