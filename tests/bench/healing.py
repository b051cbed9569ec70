"""Time from a fault to its repair by the host itself, seen from outside."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from lab import runtime
from lab.hosts import Host
from tests import fleet
from tests.bench.report import Figure, Report, median, percentile
from tests.bench.rollback import watched

MOST_SECONDS = 10.0
_REPAIRED_SECONDS = 300
# The limit is part of a release, so these values make two releases.
_LIMITS = (960, 970)
# Prints when the unit failed, in microseconds of the monotonic clock, which host and machine share.
_FAIL = """
while [ "$(systemctl show katago-mcp.service --property=ActiveState --value)" != failed ]; do
  systemctl kill --kill-who=all --signal=KILL katago-mcp.service; sleep 0.1
done 2>/dev/null
systemctl show katago-mcp.service --property=InactiveEnterTimestampMonotonic --value
"""
_DAMAGE_CACHE = """
cd /var/cache/katago-mcp && rm -f answers.sqlite3-wal answers.sqlite3-shm
for n in 1 2 3 4 5 6 7 8; do touch answers.sqlite3.damaged-$n; done
head -c 20000 /dev/urandom > new && chown katago-mcp: new answers.sqlite3* && mv new answers.sqlite3
"""
# The benchmark makes more repairs than the budget of a host has.
_FORGET = """
import fcntl, json, pathlib
fcntl.flock(open("/run/katago-self-healing.guard", "w"), fcntl.LOCK_EX)
path = pathlib.Path("/var/lib/katago-self-healing/state.json")
state = json.loads(path.read_text())
path.write_text(json.dumps(state | {"repairs": [], "escalation": None, "status": "idle", "why": ""}))
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=10, help="tries of each kind (default: %(default)s)")


def measure(arguments: argparse.Namespace) -> Report:
    """Set self-healing up on the last host of the lab, and break its service repeatedly."""
    host = fleet.LAB.hosts()[-1]
    _play(host, "self_healing.yml")
    kinds: dict[str, tuple[Callable[[Host], float], float | None]] = {
        "service killed until the unit failed: restarted": (_fail, MOST_SECONDS),
        "release failed after its deployment: rolled back": (_fail_after_deployment, MOST_SECONDS),
        "cache damaged: quarantined": (_damage_cache, None),
        "engine frozen: replaced by the server itself": (_freeze_engine, None),
    }
    figures: list[Figure] = []
    for what, (fault, at_most) in kinds.items():
        times = [_repaired_after(host, fault, at_most is not None) for _ in range(arguments.rounds)]
        figures.append(median(f"{what}, median", times, "s"))
        p95 = percentile(times, 95)
        figures.append(Figure(f"{what}, 95th percentile", p95, "s", at_most=at_most))
    setting = f"/ready of one host, requested from outside; {arguments.rounds} tries of each kind"
    return Report("healing", setting, tuple(figures))


def _repaired_after(host: Host, fault: Callable[[Host], float], from_failure: bool) -> float:
    """Seconds from the fault, or from the failure of the unit, until the service was ready again."""
    _inside(host, f"python3 - <<'END'\n{_FORGET}\nEND")
    with watched(host) as watch:
        began = fault(host)
        fleet.eventually(
            lambda: any(at > began and not ready for at, ready in watch.samples) and watch.samples[-1][1],
            within=_REPAIRED_SECONDS,
            what="the service is ready again",
        )
        # A repair validates the service afterwards.
        fleet.eventually(
            lambda: _inside(host, "systemctl is-active 'katago-self-healing@*' || true") == "",
            within=_REPAIRED_SECONDS,
            what="the repair has ended",
        )
    outages = [at for at, ready in watch.samples if at > began and not ready]
    return min(at for at, ready in watch.samples if ready and at > outages[-1]) - began


def _fail(host: Host) -> float:
    return int(_inside(host, _FAIL)) / 1e6


def _fail_after_deployment(host: Host) -> float:
    for limit in _LIMITS:
        _play(host, "deploy.yml", katago_mcp_max_visits=limit)
    return _fail(host)


def _damage_cache(host: Host) -> float:
    began = time.monotonic()
    _inside(host, _DAMAGE_CACHE)
    # Fails or not: its analyses use the cache.
    fleet.play("validate.yml", f"--limit={host.name}")
    return began


def _freeze_engine(host: Host) -> float:
    began = time.monotonic()
    _inside(host, "pkill --signal STOP --full 'katago analysis'")
    return began


def _inside(host: Host, script: str) -> str:
    return runtime.podman("exec", host.container, "bash", "-c", script).strip()


def _play(host: Host, playbook: str, **variables: int) -> None:
    run = fleet.play(playbook, f"--limit={host.name}", variables=variables)
    if run.returncode != 0:
        raise RuntimeError(run.output)
