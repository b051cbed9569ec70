"""How long a restore of everything takes, step by step, against a bare `restic restore` of the same snapshot.

python -m tests.bench.restore HOST VARIABLES

HOST is a lab host with a verified backup, VARIABLES the file of extra variables that it was made with.
Everything that the release stands on is moved away first, so that all of it is restored.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from lab import paths, runtime
from tests import fleet

STEPS = {
    "The damage is assessed": "assess",
    "What is needed is fetched and checked": "fetch and check",
    "The service is stopped, and nothing of it runs": "stop",
    "What was fetched is in its place": "put in place",
    "The service runs": "start",
    "The service analyses known positions": "validate",
}
RESTIC = (
    "restic --repository-file=/etc/katago-backup/repository --password-file=/etc/katago-backup/password"
    " --no-lock --no-cache"
)
SFTP = (
    "--option=sftp.command='ssh -o UserKnownHostsFile=/etc/katago-backup/known_hosts"
    " -o IdentityFile=/etc/katago-backup/ssh_key vault@katago-2 -s sftp'"
)


def bare_restore(container: str, *, sftp: bool) -> float:
    """Seconds of `restic restore` into an empty directory of the host."""
    command = f"{RESTIC} {SFTP if sftp else ''} restore latest --host=$(hostname) --target=/var/tmp/bare"
    begun = time.monotonic()
    runtime.exec_in(container, ["sh", "-c", f"rm -rf /var/tmp/bare; {command}; sync -f /var/tmp"])
    seconds = time.monotonic() - begun
    runtime.exec_in(container, ["rm", "-rf", "/var/tmp/bare"])
    return seconds


def timed_tasks(host: str, variables: Path) -> tuple[list[tuple[str, float]], float]:
    """Every task of restore.yml with its seconds, and the seconds of the whole run."""
    process = subprocess.Popen(
        ["ansible-playbook", "playbooks/restore.yml", f"--limit={host}", f"--extra-vars=@{variables}"],
        cwd=paths.ROOT,
        env={**os.environ, "LAB_NAME": fleet.LAB.name, "ANSIBLE_FORCE_COLOR": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    begun = time.monotonic()
    starts: list[tuple[str, float]] = []
    for line in process.stdout or ():
        if line.startswith(("TASK [", "PLAY RECAP")):
            starts.append((line.partition("[")[2].partition("]")[0].rpartition(" : ")[2], time.monotonic()))
    if process.wait() != 0:
        sys.exit("the restore failed; run it by hand to see why")
    ends = [at for _, at in starts[1:]] + [time.monotonic()]
    tasks = [(name, end - at) for (name, at), end in zip(starts, ends, strict=True)]
    return tasks, time.monotonic() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("variables", type=Path)
    arguments = parser.parse_args()
    container = fleet.host_named(arguments.host).container
    sftp = runtime.exec_in(container, ["cat", "/etc/katago-backup/repository"]).startswith("sftp:")
    rows = [("bare restic restore", bare_restore(container, sftp=sftp))]
    runtime.exec_in(
        container,
        ["sh", "-c", "mkdir /var/tmp/away && mv /opt/katago/* /opt/katago-mcp/releases/* /var/tmp/away/"],
    )
    tasks, whole = timed_tasks(arguments.host, arguments.variables)
    runtime.exec_in(container, ["rm", "-rf", "/var/tmp/away"])
    rows += [(f"restore.yml: {STEPS[name]}", seconds) for name, seconds in tasks if name in STEPS]
    rows.append(("restore.yml: all of it", whole))
    for name, seconds in rows:
        print(f"{name:<32} {seconds:8.1f} s")


if __name__ == "__main__":
    main()
