"""Time to keep the evidence of a host, the volatile part and all of it, compared with `sos report`."""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from lab import paths, runtime
from lab.hosts import Host
from tests import fleet
from tests.bench.report import Figure, Report, median, ratio

MOST_RATIO = 1 / 3
HOT_SECONDS, ALL_SECONDS = 10, 60
_SOS = "sos report --batch --quiet --tmp-dir=/var/tmp/sos"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--rounds", type=int, default=3, help="runs of each, alternately (default: %(default)s)"
    )


def measure(arguments: argparse.Namespace) -> Report:
    """Alternately run sos report on the lab's last host, and keep its evidence."""
    host = fleet.LAB.hosts()[-1]
    runtime.exec_in(
        host.container, ["sh", "-c", "apt-get update -qq && apt-get install -qq --yes sosreport >/dev/null"]
    )
    hot, whole, sos = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(arguments.rounds):
            sos.append(_sos(host))
            hot.append(_hot(host, Path(scratch)))
            whole.append(_all(host, Path(scratch)))
    figures = (
        _at_most(median("volatile part", hot, "s"), HOT_SECONDS),
        _at_most(median("evidence.yml", whole, "s"), ALL_SECONDS),
        median("sos report --batch", sos, "s"),
        ratio("evidence.yml / sos report", list(zip(whole, sos, strict=True)), at_most=MOST_RATIO),
    )
    setting = f"one host, including the start of Ansible and the signing; {arguments.rounds} rounds"
    return Report("evidence", setting, figures)


def _at_most(figure: Figure, seconds: float) -> Figure:
    return Figure(figure.what, figure.value, figure.unit, figure.spread, at_most=seconds)


def _sos(host: Host) -> float:
    script = f"mkdir -p /var/tmp/sos && {_SOS} >/dev/null"
    started = time.monotonic()
    runtime.exec_in(host.container, ["sh", "-c", script])
    seconds = time.monotonic() - started
    runtime.exec_in(host.container, ["rm", "-rf", "/var/tmp/sos"])
    return seconds


def _hot(host: Host, scratch: Path) -> float:
    """Seconds to keep only the volatile evidence, the first step of every procedure that changes a host."""
    arguments = f"records_dir={scratch}/records incident=bench key={scratch}/key.pem tier=hot"
    started = time.monotonic()
    run = subprocess.run(
        ["ansible", host.name, "--module-name=katago.fleet.evidence", f"--args={arguments}"],
        cwd=paths.ROOT,
        env={**os.environ, "LAB_NAME": fleet.LAB.name, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise RuntimeError(run.stdout + run.stderr)
    return time.monotonic() - started


def _all(host: Host, scratch: Path) -> float:
    variables = {
        "incident": "bench",
        "katago_records_dir": f"{scratch}/records",
        "evidence_key": f"{scratch}/key.pem",
    }
    started = time.monotonic()
    run = fleet.play("evidence.yml", f"--limit={host.name}", variables=variables)
    if run.returncode != 0:
        raise RuntimeError(run.output)
    return time.monotonic() - started
