"""The program of the load generator. It stops when the process that started it ends, or on a signal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import load_page, load_table
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.generator import Generator
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.load import REPORT, Order, Report

_PROGRESS_SECONDS = 5.0
# So often the report is written during a run, so that a program that is killed leaves one.
_KEEP_SECONDS = 60.0
_INTERRUPTED = "interrupted"


def main(arguments: Sequence[str]) -> int:
    """Run an order, the first line of stdin. Exit status 2: the order is not valid."""
    parser = argparse.ArgumentParser(prog="loading", description=__doc__)
    parser.add_argument("--json", type=Path, help="a file for the report")
    parser.add_argument("--html", type=Path, help="a file for the page")
    parser.add_argument("--text", type=Path, help="a file for the table, written at the end")
    options = parser.parse_args(arguments)
    try:
        generator = Generator(Order.parse(sys.stdin.readline()))
        _write(options, generator.report())
    except (OSError, ValueError) as error:
        print(error)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: generator.stop("interrupted", _INTERRUPTED))
    threading.Thread(target=_stop_with_parent, args=(generator,), daemon=True).start()
    finished = threading.Event()
    threading.Thread(target=_report_progress, args=(generator, options, finished), daemon=True).start()
    generator.run()
    finished.set()
    report = generator.report()
    table = load_table.render(report)
    _print(table)
    _print(f"{REPORT}{json.dumps(report)}")
    try:
        _write(options, report)
        if options.text is not None:
            files.write(options.text, f"{table}\n".encode(), mode=0o600)
    except OSError as error:
        _print(f"the report was not written: {error}")
    # A call that hangs would otherwise delay the end until its deadline.
    os._exit(0)


def _stop_with_parent(generator: Generator) -> None:
    sys.stdin.read()
    generator.stop("interrupted", _INTERRUPTED)


def _report_progress(generator: Generator, options: argparse.Namespace, finished: threading.Event) -> None:
    seconds = 0.0
    while not finished.wait(_PROGRESS_SECONDS):
        report = generator.report()
        seconds += _PROGRESS_SECONDS
        _print(progress(report))
        if seconds % _KEEP_SECONDS == 0:
            with contextlib.suppress(OSError):
                _write(options, report)


def progress(report: Report) -> str:
    """A line about a run that is not finished."""
    total, seconds = report["total"], report["seconds"]
    failed = sum(total["failed"].values())
    rate, p95 = total["calls"] / max(seconds, 1), load_table.duration(total["latency"]["p95"])
    return f"{seconds:.0f} s: {total['calls']} calls, {failed} failed, {rate:.1f} calls/s, p95 {p95}"


def _print(text: str) -> None:
    # The process that reads it may have ended; the files are written anyway.
    with contextlib.suppress(OSError):
        print(text, flush=True)


def _write(options: argparse.Namespace, report: Report) -> None:
    if options.json is not None:
        files.write(options.json, (json.dumps(report, indent=1) + "\n").encode(), mode=0o600)
    if options.html is not None:
        files.write(options.html, load_page.render(report).encode(), mode=0o600)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
