"""Benchmarks of the MCP server with this machine's engine, its soak, and benchmarks of the procedures.

Without a name, the benchmarks of the server run with their defaults. The others run only by name.
Benchmarks of procedures need a lab: LAB_NAME=bench bin/lab up, then LAB_NAME=bench bin/bench NAME.
Targets are ratios of two subjects that are measured alternately. A busy machine makes the range of a
ratio wider, but does not shift the ratio. Exit status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from tests import fleet
from tests.bench import (
    balanced,
    cached,
    distribution,
    evidence,
    healing,
    latency,
    restore,
    review,
    rollback,
    rolling,
    scale,
    soak,
    subjects,
    throughput,
    triage,
)
from tests.bench.report import Report

Measure = Callable[[subjects.Kit, argparse.Namespace], Coroutine[Any, Any, Report]]
BENCHMARKS = {"throughput": throughput, "review": review, "cached": cached, "latency": latency}
OF_SERVER = {**BENCHMARKS, "soak": soak, "rolling": rolling, "balanced": balanced}
OF_PROCEDURES = {
    "rollback": rollback,
    "triage": triage,
    "restore": restore,
    "evidence": evidence,
    "distribution": distribution,
    "scale": scale,
    "healing": healing,
}


def _parser() -> argparse.ArgumentParser:
    general = argparse.ArgumentParser(add_help=False)
    general.add_argument("--json", action="store_true", help="print a JSON object instead of a table")
    parser = argparse.ArgumentParser(
        prog="bin/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = parser.add_subparsers(dest="name", metavar="NAME")
    for name, module in {**OF_SERVER, **OF_PROCEDURES}.items():
        summary = str(module.__doc__).splitlines()[0]
        module.options(names.add_parser(name, help=summary, description=summary, parents=[general]))
    names.add_parser("all", help="All benchmarks of the server (the default).", parents=[general])
    return parser


def _measured(name: str, arguments: argparse.Namespace) -> Report:
    if name in OF_PROCEDURES:
        of_procedure: Callable[[argparse.Namespace], Report] = OF_PROCEDURES[name].measure
        return of_procedure(arguments)
    of_server: Measure = OF_SERVER[name].measure
    return asyncio.run(of_server(subjects.kit(os.environ), arguments))


def main() -> int:
    """Run the benchmarks of the command line. Return 1 if a target is missed, else 0."""
    parser = _parser()
    selected = parser.parse_args(sys.argv[1:] or ["all"])
    chosen = {selected.name: selected}
    if selected.name == "all":
        chosen = {name: parser.parse_args([name]) for name in BENCHMARKS}
    if chosen.keys() & OF_PROCEDURES.keys() and not fleet.LAB.hosts():
        lab = fleet.LAB.name
        parser.error(
            f"the lab {lab!r} has no hosts. Boot them: LAB_NAME={lab} bin/lab up."
            " Or set LAB_NAME to another lab."
        )
    reports = []
    for name, arguments in chosen.items():
        report = _measured(name, arguments)
        reports.append(report)
        if selected.json:
            print(json.dumps({"machine": subjects.machine(), **report.as_dict()}), flush=True)
        else:
            print(f"{subjects.machine()}\n{report.as_text()}\n", flush=True)
    return 0 if all(report.ok for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
