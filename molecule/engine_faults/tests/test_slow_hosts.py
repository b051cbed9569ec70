"""A slow or busy host only makes the service slower; an engine that hangs is given up with a reason."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.hosts import Host
from tests import fleet, hosts

LAST = fleet.LAB.hosts()[-1].name
# A script that starts the real engine of the current release slowly, or not at all.
WRAPPER = """#!/bin/sh
if [ "$1" = analysis ]; then
{before}
fi
exec {engine} "$@"
"""
SPEAKS = """  for number in $(seq 12); do
    echo "Preparing $number" >&2
    sleep 3
  done"""
WORKS = """  end=$(($(date +%s) + 30))
  while [ $(date +%s) -lt $end ]; do :; done"""
HANGS = """  echo 'Waiting for a device' >&2
  sleep 100000"""
# Seconds; much shorter than the script takes. An engine without progress is given up after this time.
SHORT = {"katago_mcp_start_timeout": 8, "validate_ready_deadline": 8}
TRT = """#!/bin/sh
set -e
for setting in $(echo "$*" | tr ' ,' '\\n\\n'); do
  case $setting in homeDataDir=*) home=${setting#homeDataDir=} ;; esac
done
for kind in timing plan; do
  file=$home/trtcache/trt-10_$kind
  if [ -e "$file" ]; then echo "Using existing $kind cache at $file" >&2; continue; fi
  echo "Creating new $kind cache" >&2
  end=$(($(date +%s) + 45))
  while [ $(date +%s) -lt $end ]; do :; done
  id -un > "$file"
  echo "Saved new $kind cache to $file" >&2
done
"""


@pytest.fixture(scope="module")
def last() -> Iterator[Any]:
    """The last host; afterwards it runs the release of the lab again."""
    host = hosts.connect(LAST)
    yield host
    run = fleet.play("deploy.yml", f"--limit={LAST}")
    assert run.returncode == 0, run.output


def deploy(host: Any, directory: Path, before: str, **variables: Any) -> fleet.Run:
    """Deploy a scripted engine in front of the real one."""
    engine = host.check_output(
        "python3 -c 'import json;"
        ' print(json.load(open("/etc/katago-mcp/config.json"))["katago"]["binaryPath"])\''
    )
    if "/AppRun" not in engine:
        engine = host.check_output("ls -d /opt/katago/engines/*/AppRun").split()[0]
    path = directory / "katago"
    path.write_text(WRAPPER.format(before=before, engine=engine))
    path.chmod(0o755)
    spec = {
        "source": "file",
        "path": str(path),
        "version": "1.18.1",
        "backend": "opencl",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    return fleet.play(
        "deploy.yml", f"--limit={LAST}", variables={"katago_engine": spec, **SHORT, **variables}
    )


@pytest.mark.long
@pytest.mark.parametrize("before", [SPEAKS, WORKS], ids=["shows progress", "only works"])
def test_engine_that_starts_slowly_is_deployed(last: Any, tmp_path: Path, before: str) -> None:
    release = hosts.current(last)
    run = deploy(last, tmp_path, before)
    assert run.returncode == 0, run.output
    assert hosts.current(last) != release
    assert hosts.history(last)[-1]["verdict"] == "good"


def test_pre_flight_validation_gives_up_an_engine_that_hangs(last: Any, tmp_path: Path) -> None:
    before = hosts.untouched(last)
    run = deploy(last, tmp_path, HANGS)
    assert run.returncode != 0
    assert "gave no sign of progress for" in run.output, run.output
    assert "its last log lines: Waiting for a device" in run.output
    assert "No release was switched" in run.output
    assert hosts.untouched(last) == before


@pytest.mark.long
def test_stopped_pre_flight_validation_reports_it(last: Any, tmp_path: Path) -> None:
    before = hosts.untouched(last)
    run = deploy(last, tmp_path, SPEAKS, katago_mcp_preflight_deadline=25)
    assert run.returncode != 0
    assert "it was stopped after" in run.output, run.output
    assert "Last log lines:" in run.output
    assert "Preparing" in run.output
    assert hosts.untouched(last) == before
    assert last.run("systemctl is-active katago-mcp-trial.service").stdout.strip() == "inactive"


@pytest.mark.long
def test_service_waits_for_an_engine_that_gets_no_processor_time(last: Any, target: Host) -> None:
    """All processors are busy, and the engine has the idle scheduling policy."""
    pid = "pgrep --parent $(systemctl show katago-mcp.service --property=MainPID --value)"
    with hosts.drop_in(last, "Environment=KATAGO_KATAGO_START_TIMEOUT_SECONDS=8"):
        last.check_output("systemctl restart katago-mcp.service")
        fleet.eventually(lambda: fleet.get(target, "/ready")[0] == 200, within=90, what="it is ready")
        count = engine(target)["restarts"]
        last.check_output(
            "systemd-run --unit=hogs --collect --property=RuntimeMaxSec=40 sh -c"
            " 'for n in $(seq $((2 * $(nproc)))); do sh -c \"while :; do :; done\" & done; wait'"
        )
        try:
            last.check_output(
                f"old=$({pid}); kill -KILL $old;"
                f' until new=$({pid}) && [ "$new" != "$old" ]; do :; done;'
                " chrt --idle --all-tasks --pid 0 $new"
            )
            states = set()
            while last.run("systemctl is-active hogs.service").stdout.strip() == "active":
                states.add((engine(target)["state"], engine(target)["restarts"]))
                time.sleep(1)
        finally:
            last.run("systemctl stop hogs.service")
        assert states == {("starting", count + 1)}
        fleet.eventually(lambda: fleet.get(target, "/ready")[0] == 200, within=60, what="it is ready again")
        assert engine(target)["restarts"] == count + 1
    last.check_output("systemctl restart katago-mcp.service")


@pytest.fixture
def target() -> Host:
    """The last host, from outside."""
    return fleet.host_named(LAST)


def engine(target: Host) -> dict[str, Any]:
    """The engine in /health."""
    state: dict[str, Any] = json.loads(fleet.get(target, "/health", seconds=60)[1])["engine"]
    return state


@pytest.mark.long
def test_tensorrts_caches_are_built_once_with_progress_and_used_by_the_service(last: Any) -> None:
    """Uses a scripted engine, because the lab has no GPU."""
    home, store = "/var/lib/katago-mcp/engine/trtcache", "/opt/katago/tuning/trt-*/trtcache"
    last.check_output(f"cat > /opt/scripted-trt <<'END'\n{TRT}\nEND\nchmod 755 /opt/scripted-trt")
    try:
        run = fleet.play("../molecule/engine_faults/caches.yml", f"--limit={LAST}")
        assert run.returncode == 0, run.output
        assert "built: trt-10_plan trt-10_timing" in run.output
        assert "building TensorRT's timing cache, " in run.output
        # As the service's user, and its alone.
        assert last.check_output(f"cat {home}/*").split() == ["katago-mcp", "katago-mcp"]
        assert last.file(f"{home}/trt-10_plan").user == "katago-mcp"
        assert last.check_output(f"stat --format=%U {store}/*").split() == ["root", "root"]
        again = fleet.play("../molecule/engine_faults/caches.yml", f"--limit={LAST}")
        assert (again.returncode, again.changed[LAST]) == (0, 0), again.output
        last.check_output(f"rm {home}/trt-10_plan")
        restored = fleet.play("../molecule/engine_faults/caches.yml", f"--limit={LAST}")
        assert "built: nothing" in restored.output, restored.output
        assert last.file(f"{home}/trt-10_plan").exists
        assert last.run("systemctl is-active 'katago-caches-*'").stdout.strip() in ("", "inactive")
    finally:
        last.check_output(f"rm -r /opt/scripted-trt {home} /opt/katago/tuning/trt-* /var/cache/katago-caches")
