"""Times a triage of some hosts of the lab and of all of them: one pass must not take longer for more hosts.

LAB_NAME=bench bin/lab hosts --count 8    bare hosts: what the pass itself costs
LAB_NAME=bench bin/lab up --count 8       with the service: on one machine, 8 engines share its processors
LAB_NAME=bench PYTHONPATH=collections python -m tests.bench.triage
"""

from __future__ import annotations

import argparse
import statistics
import time

from tests import fleet


def timed(hosts: list[str], window: int) -> float:
    """Seconds of one triage of these hosts, the start of Ansible included."""
    began = time.monotonic()
    run = fleet.play("triage.yml", f"--limit={','.join(hosts)}", f"--extra-vars=triage_window={window}")
    seconds = time.monotonic() - began
    if run.returncode != 0:
        raise SystemExit(run.output)
    return seconds


def main() -> None:
    """Print a table: number of hosts, median, fastest and slowest pass, ratio to the fewest hosts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--few", type=int, default=2, help="the fewer hosts (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="passes of each (default: %(default)s)")
    parser.add_argument("--window", type=int, default=10, help="triage_window (default: %(default)s)")
    arguments = parser.parse_args()
    names = [host.name for host in fleet.LAB.hosts()]
    if len(names) <= arguments.few:
        raise SystemExit(f"the lab has {len(names)} hosts, more than {arguments.few} are needed")
    print("| Hosts | Median | Fastest | Slowest | Ratio |\n|---|---|---|---|---|")
    base = None
    for hosts in (names[: arguments.few], names):
        times = [timed(hosts, arguments.window) for _ in range(arguments.runs)]
        median = statistics.median(times)
        base = base or median
        figures = f"{median:.1f} s | {min(times):.1f} s | {max(times):.1f} s | {median / base:.2f}"
        print(f"| {len(hosts)} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
