"""Benchmarks of the MCP server, and its soak, with the engine of this machine.

Without a name all benchmarks run, with their defaults; the soak runs by its name only. Targets are
ratios of what was measured in turns, so that a busy machine spreads them and does not shift them.
Exit status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from tests.bench import cached, latency, review, soak, subjects, throughput
from tests.bench.report import Report

Measure = Callable[[subjects.Kit, argparse.Namespace], Coroutine[Any, Any, Report]]
BENCHMARKS = {"throughput": throughput, "review": review, "cached": cached, "latency": latency}
EVERYTHING = {**BENCHMARKS, "soak": soak}


def _parser() -> argparse.ArgumentParser:
    general = argparse.ArgumentParser(add_help=False)
    general.add_argument("--json", action="store_true", help="print a JSON object instead of a table")
    parser = argparse.ArgumentParser(
        prog="bin/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = parser.add_subparsers(dest="name", metavar="NAME")
    for name, module in EVERYTHING.items():
        summary = str(module.__doc__).splitlines()[0]
        module.options(names.add_parser(name, help=summary, description=summary, parents=[general]))
    names.add_parser("all", help="All benchmarks, without the soak (the default).", parents=[general])
    return parser


def main() -> int:
    """Run what the command line asks for, and say whether every target is reached."""
    parser = _parser()
    asked = parser.parse_args(sys.argv[1:] or ["all"])
    chosen = {asked.name: asked}
    if asked.name == "all":
        chosen = {name: parser.parse_args([name]) for name in BENCHMARKS}
    found = subjects.kit(os.environ)
    reports = []
    for name, arguments in chosen.items():
        measure: Measure = EVERYTHING[name].measure
        report = asyncio.run(measure(found, arguments))
        reports.append(report)
        if asked.json:
            print(json.dumps({"machine": subjects.machine(), **report.as_dict()}), flush=True)
        else:
            print(f"{subjects.machine()}\n{report.as_text()}\n", flush=True)
    return 0 if all(report.ok for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
