"""Time, processor time and tasks of procedures on 1, 2, 4 hosts and so on, and the calculated time for more.

Needs deployed hosts. `site.yml` then changes nothing. The processor time is that of the control node: of
ansible-playbook, its workers and its SSH clients.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests import fleet
from tests.bench.report import Figure, Report, number

_RECAP = re.compile(r"^\S+\s+: (?P<counts>(?:\w+=\d+\s*)+)$", re.M)
# A task that was skipped by `when` costs a host time too.
_COUNTED = ("ok", "failed", "skipped", "rescued", "ignored")
# On two processors, which the lab's hosts use too.
_COMPARED = 8
_MOST_RATIO = 2.5


@dataclass(frozen=True)
class Sample:
    """One run. `tasks`: those of the host that had most. `headers`: the tasks that Ansible printed."""

    hosts: int
    wall: float
    cpu: float
    tasks: int
    headers: int


@dataclass(frozen=True)
class Line:
    """A cost in seconds that grows with the hosts: `base` once, and `each` for every host."""

    base: float
    each: float

    def at(self, hosts: int) -> float:
        """The cost for a number of hosts."""
        return self.base + self.each * hosts


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--procedures", default="triage,site", help="names of playbooks, with commas (default: %(default)s)"
    )
    parser.add_argument(
        "--hosts", default="", help="numbers of hosts, with commas (default: 1,2,4,... to all)"
    )
    parser.add_argument("--window", type=int, default=10, help="triage_window (default: %(default)s)")
    parser.add_argument(
        "--for", dest="most", type=int, default=1000, help="calculate for (default: %(default)s)"
    )


def measure(arguments: argparse.Namespace) -> Report:
    """Run each procedure on growing parts of the lab, and fit a line through the times."""
    names = [host.name for host in fleet.LAB.hosts()]
    sizes = [int(size) for size in arguments.hosts.split(",") if size] or doubled(len(names))
    if max(sizes) > len(names):
        raise RuntimeError(f"the lab has {len(names)} hosts, but --hosts asks for {max(sizes)}")
    figures: list[Figure] = []
    rows = ["", "| Procedure | Hosts | Wall time | Processor time | Tasks per host | Task headers |"]
    rows.append("|---|---|---|---|---|---|")
    for procedure in arguments.procedures.split(","):
        samples = [_sample(procedure, names[:size], arguments.window) for size in sizes]
        rows += [
            f"| `{procedure}.yml` | {each.hosts} | {number(each.wall)} s | {number(each.cpu)} s |"
            f" {each.tasks} | {each.headers} |"
            for each in samples
        ]
        walls = {each.hosts: each.wall for each in samples}
        if {1, _COMPARED} <= walls.keys():
            figures.append(
                Figure(
                    f"{procedure}.yml: wall time, {_COMPARED} hosts / 1 host",
                    walls[_COMPARED] / walls[1],
                    at_most=_MOST_RATIO,
                )
            )
        if len(samples) > 1:
            cpu = fitted([(each.hosts, each.cpu) for each in samples])
            figures += [
                Figure(f"{procedure}.yml: processor time, once", cpu.base, "s"),
                Figure(f"{procedure}.yml: processor time, each host", cpu.each, "s"),
                Figure(
                    f"{procedure}.yml: calculated for {arguments.most} hosts", cpu.at(arguments.most), "s"
                ),
            ]
    setting = f"{', '.join(map(str, sizes))} hosts; triage_window {arguments.window} s"
    return Report("scale", setting, tuple(figures), notes=tuple(rows))


def doubled(most: int) -> list[int]:
    """1, 2, 4 and so on, and the number of all hosts."""
    sizes = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return [*sizes, most]


def fitted(points: Sequence[tuple[int, float]]) -> Line:
    """The line of least squares through (hosts, seconds)."""
    slope, intercept = statistics.linear_regression(*zip(*points, strict=True))
    return Line(intercept, slope)


def counted(output: str) -> tuple[int, int]:
    """The tasks of the host that had most, and the task headers, in the output of ansible-playbook."""
    tasks = [
        sum(int(value) for name, value in re.findall(r"(\w+)=(\d+)", recap["counts"]) if name in _COUNTED)
        for recap in _RECAP.finditer(output)
    ]
    return max(tasks, default=0), len(re.findall(r"^(?:TASK|RUNNING HANDLER) \[", output, re.M))


def _sample(procedure: str, hosts: list[str], window: int) -> Sample:
    before, started = os.times(), time.monotonic()
    variables = {"triage_window": window} if procedure == "triage" else {}
    run = fleet.play(f"{procedure}.yml", f"--limit={','.join(hosts)}", variables=variables)
    wall, after = time.monotonic() - started, os.times()
    if run.returncode != 0:
        raise RuntimeError(run.output)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Sample(len(hosts), wall, cpu, *counted(run.output))
