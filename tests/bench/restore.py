"""Time of a full restore and of its steps, compared with a bare `restic restore` of the same snapshot."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import tempfile
import time
from pathlib import Path

from lab import paths, runtime
from lab.hosts import Host
from tests import fleet
from tests.bench.report import Figure, Report, median, ratio

STEPS = {
    "Assess the damage": "assess",
    "Fetch and check the files to restore": "fetch and check",
    "Stop the service and all its processes": "stop",
    "Install the fetched files": "put in place",
    "Start the restored service": "start",
    "Analyse known positions through MCP": "validate",
}
_RESTIC = (
    "restic --repository-file=/etc/katago-backup/repository --password-file=/etc/katago-backup/password"
    " --no-lock --no-cache"
)

_BANNERS = {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "1"}
"""Makes Ansible print the name of a task when it starts, not at the first result that is not skipped."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=3, help="pairs of restores (default: %(default)s)")


def measure(arguments: argparse.Namespace) -> Report:
    """Back up the lab's last host to its own disk. Then alternate bare and full restores."""
    host = fleet.LAB.hosts()[-1]
    steps: dict[str, list[float]] = {name: [] for name in STEPS}
    pairs = []
    with tempfile.TemporaryDirectory() as scratch:
        variables = Path(scratch) / "variables.json"
        variables.touch(mode=0o600)
        repository = {"backup_repository": "/srv/katago-bench", "backup_password": secrets.token_urlsafe(24)}
        variables.write_text(json.dumps(repository))
        run = fleet.play("backup.yml", f"--limit={host.name}", f"--extra-vars=@{variables}")
        if run.returncode != 0:
            raise RuntimeError(run.output)
        for _ in range(arguments.rounds):
            bare = _bare_restore(host)
            tasks, whole = _restore(host, variables)
            pairs.append((whole, bare))
            for name, seconds in steps.items():
                seconds.append(tasks[name])
    figures: list[Figure] = [
        median("bare restic restore", [bare for _, bare in pairs], "s"),
        median("restore.yml", [whole for whole, _ in pairs], "s"),
        *(median(f"of it: {STEPS[name]}", seconds, "s") for name, seconds in steps.items()),
        ratio("restore.yml / bare restic restore", pairs),
    ]
    setting = f"a repository on the host's disk, one host; {arguments.rounds} pairs of restores"
    return Report("restore", setting, tuple(figures))


def _bare_restore(host: Host) -> float:
    """Seconds of `restic restore` into an empty directory on the host."""
    restore = f"{_RESTIC} restore latest --host={host.name} --target=/var/tmp/bare"
    started = time.monotonic()
    runtime.exec_in(host.container, ["sh", "-c", f"{restore} && sync -f /var/tmp"])
    seconds = time.monotonic() - started
    runtime.exec_in(host.container, ["rm", "-rf", "/var/tmp/bare"])
    return seconds


def _restore(host: Host, variables: Path) -> tuple[dict[str, float], float]:
    """Remove releases and assets and restore them. Return the seconds of every task and of the whole run."""
    lose = "mkdir /var/tmp/away && mv /opt/katago/* /opt/katago-mcp/releases/* /var/tmp/away/"
    runtime.exec_in(host.container, ["sh", "-c", lose])
    process = subprocess.Popen(
        ["ansible-playbook", "playbooks/restore.yml", f"--limit={host.name}", f"--extra-vars=@{variables}"],
        cwd=paths.ROOT,
        env={**os.environ, "LAB_NAME": fleet.LAB.name, **_BANNERS},
        stdout=subprocess.PIPE,
        text=True,
    )
    started = time.monotonic()
    starts: list[tuple[str, float]] = []
    output = []
    for line in process.stdout or ():
        output.append(line)
        if line.startswith(("TASK [", "PLAY RECAP")):
            starts.append((line.partition("[")[2].partition("]")[0].rpartition(" : ")[2], time.monotonic()))
    if process.wait() != 0:
        raise RuntimeError("".join(output))
    whole = time.monotonic() - started
    runtime.exec_in(host.container, ["rm", "-rf", "/var/tmp/away"])
    ends = [at for _, at in starts[1:]]
    return {name: end - at for (name, at), end in zip(starts[:-1], ends, strict=True)}, whole
