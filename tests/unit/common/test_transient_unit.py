"""A program in a transient unit runs until it exits or makes no progress; its exit is always described."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run, transient_unit

UNIT = "trial.service"
RUN = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
# Reports no control group, so that only the processes of systemd-run are checked.
CTL = """#!/bin/sh
echo "$@" >> ORDERS
case "$1" in
  show) case "$3" in *Result*) cat RESULT ;; esac ;;
  kill) kill -9 $(cat PID) ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with fake systemd-run and systemctl, and the result that systemctl reports."""
    for name, text in (("systemd-run", RUN), ("systemctl", CTL)):
        for word in ("ORDERS", "RESULT", "PID"):
            text = text.replace(word, str(tmp_path / word))
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "RESULT").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def run(host: Path, code: str, patience: float = 60, deadline: float = 600) -> transient_unit.Run:
    text = f"import os; open({str(host / 'PID')!r}, 'w').write(str(os.getpid())); {code}"
    command = systemd_run.command({}, [sys.executable, "-S", "-c", text], unit=UNIT, collect=False)
    return transient_unit.watched(command, UNIT, patience=patience, deadline=deadline)


def test_exit_and_output_of_a_program_are_returned(host: Path) -> None:
    done = run(host, "import sys; print('out'); print('log', file=sys.stderr); sys.exit(3)")
    assert (done.status, done.output, done.log, done.stopped) == (3, "out\n", "log\n", None)
    assert done.words() == "it exited with status 3. Last log lines: log"


def test_exit_of_a_silent_program_is_described(host: Path) -> None:
    assert run(host, "os.kill(os.getpid(), 15)").words() == "it was killed by SIGTERM. It wrote nothing."


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("Result=oom-kill\nExecMainCode=2\nExecMainStatus=9\n", "the host ran out of memory"),
        ("Result=signal\nExecMainCode=2\nExecMainStatus=11\n", "it was killed by SIGSEGV"),
        ("Result=timeout\nExecMainCode=2\nExecMainStatus=15\n", "because it ran too long"),
        ("Result=exit-code\nExecMainCode=1\nExecMainStatus=203\n", "could not execute the program"),
    ],
)
def test_result_reported_by_systemd_is_described(host: Path, result: str, words: str) -> None:
    (host / "RESULT").write_text(result)
    assert words in run(host, "raise SystemExit(1)").words()


def test_program_without_progress_is_stopped(host: Path) -> None:
    done = run(host, "import time; print('started', flush=True); time.sleep(600)", patience=1.0)
    assert "it was stopped because it wrote no output and used no CPU time for" in done.words()
    assert done.words().endswith("Last log lines: started")
    assert f"kill --signal=KILL {UNIT}" in (host / "ORDERS").read_text()


@pytest.mark.parametrize(
    "code",
    [
        "import time; [(print(n, flush=True), time.sleep(0.3)) for n in range(12)]",
        "import time; [None for _ in iter(lambda: time.process_time() > 3.5, True)]",
    ],
    ids=["lines", "processor time"],
)
def test_program_that_makes_progress_is_not_stopped(host: Path, code: str) -> None:
    done = run(host, code, patience=1.0)
    assert (done.status, done.stopped) == (0, None)


def test_working_program_is_stopped_at_its_deadline(host: Path) -> None:
    done = run(
        host, "import time; [(print(n, flush=True), time.sleep(0.1)) for n in range(9999)]", deadline=1.0
    )
    assert "while it was still working" in done.words()


def test_expected_line_stops_the_program(host: Path) -> None:
    command = systemd_run.command(
        {}, ["sh", "-c", f"echo $$ > {host}/PID; echo found it; exec sleep 600"], unit=UNIT
    )
    done = transient_unit.watched(
        command, UNIT, patience=60, deadline=600, is_enough=lambda line: "found" in line
    )
    assert (done.output, done.stopped) == ("found it\n", None)


def test_unit_is_cleared_before_and_after_the_run(host: Path) -> None:
    run(host, "pass")
    orders = (host / "ORDERS").read_text()
    assert orders.count(f"reset-failed {UNIT}") == 2
