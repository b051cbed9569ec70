"""Time of a triage of many hosts, compared with few. Triage checks all hosts at the same time."""

from __future__ import annotations

import argparse
import time

from tests import fleet
from tests.bench.report import Report, median, ratio

MOST_RATIO = 1.5


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--few", type=int, default=2, help="hosts of the smaller triage (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs (default: %(default)s)")
    parser.add_argument("--window", type=int, default=10, help="triage_window (default: %(default)s)")


def measure(arguments: argparse.Namespace) -> Report:
    """Alternately triage all hosts of the lab and a few of them, including the start of Ansible."""
    names = [host.name for host in fleet.LAB.hosts()]
    few = names[: arguments.few]
    if len(names) <= len(few):
        raise RuntimeError(
            f"the lab has {len(names)} hosts, but needs more than --few {arguments.few}: bin/lab up --count N"
        )
    pairs = [
        (_seconds(names, arguments.window), _seconds(few, arguments.window)) for _ in range(arguments.rounds)
    ]
    figures = (
        median(f"{len(few)} hosts", [seconds for _, seconds in pairs], "s"),
        median(f"{len(names)} hosts", [seconds for seconds, _ in pairs], "s"),
        ratio(f"{len(names)} hosts / {len(few)} hosts", pairs, at_most=MOST_RATIO),
    )
    setting = f"triage_window {arguments.window} s; {arguments.rounds} pairs of runs"
    return Report("triage", setting, figures)


def _seconds(hosts: list[str], window: int) -> float:
    started = time.monotonic()
    run = fleet.play("triage.yml", f"--limit={','.join(hosts)}", variables={"triage_window": window})
    if run.returncode != 0:
        raise RuntimeError(run.output)
    return time.monotonic() - started
