"""With full or read-only disks and unreachable hosts, every procedure reports it and changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.hosts import Host
from tests import fleet, hosts

TARGET = fleet.LAB.hosts()[1].name
LIMIT = f"--limit={TARGET}"
# Longer deadlines, because the lab's hosts share their processors.
QUICK = {"triage_window": 2, "triage_patience": 60, "triage_baseline_uptime": 1}
PROCEDURES: dict[str, dict[str, Any]] = {
    "restart.yml": {},
    "rollback.yml": {},
    "deploy.yml": {"katago_mcp_max_visits": 990},
    "baseline.yml": QUICK,
    "purge_cache.yml": {},
    "mitigate.yml": {"visits": 200, "minutes": 5, "why": "test"},
}
FAULTS = (hosts.no_space, hosts.no_inodes, hosts.read_only)
# The message for each fault from a procedure that measures the host before it writes.
MEASURED = {
    "no_space": "0 % of the disk space of /var/lib/katago-mcp is free",
    "no_inodes": "0 % of the inodes of /var/lib/katago-mcp is free",
    "read_only": "/var/lib/katago-mcp, /var/cache/katago-mcp is mounted read-only",
}


@pytest.fixture(scope="module")
def target() -> Host:
    return fleet.host_named(TARGET)


@pytest.fixture(scope="module", autouse=True)
def _two_validated_releases() -> None:
    """Deploy two validated releases, so that there is a rollback target."""
    for limit in (970, 980):
        run = fleet.play("deploy.yml", LIMIT, variables={"katago_mcp_max_visits": limit})
        assert run.returncode == 0, run.output


@pytest.fixture
def host(target: Host) -> Iterator[Any]:
    """The host. After each test its release and history are unchanged, it is not locked, and it is ready."""
    host = hosts.connect(TARGET)
    release, _, history, _ = hosts.untouched(host)
    yield host
    assert hosts.current(host) == release
    assert hosts.history(host) == history
    assert not host.file(hosts.LOCK).exists
    fleet.eventually(lambda: fleet.get(target, "/ready")[0] == 200, within=60, what="ready as before")


def mitigation(host: Any) -> str:
    """The units that end a mitigation, and the state of their timer and of all other timers."""
    units = "/etc/systemd/system/katago-mcp-overlay-expiry.*"
    shown = "LoadState,UnitFileState,ActiveState,TimersCalendar"
    state: str = host.check_output(
        f"ls -l {units} 2>/dev/null; cat {units} 2>/dev/null;"
        f" systemctl show katago-mcp-overlay-expiry.timer --property={shown};"
        " systemctl list-timers --all --plain --no-legend | awk '{ print $(NF-1) }' | sort"
    )
    return state


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_disk_that_cannot_be_written_is_reported_and_nothing_is_changed(
    host: Any, procedure: str, fault: Callable[[Any], contextlib.AbstractContextManager[str]]
) -> None:
    before = hosts.main_pid(host), mitigation(host)
    with fault(host) as message:
        run = fleet.play(procedure, LIMIT, variables=PROCEDURES[procedure])
        assert (hosts.main_pid(host), mitigation(host)) == before
    assert run.returncode != 0
    if procedure == "baseline.yml":
        assert "Refused; no baseline was recorded on this host" in run.output
        assert MEASURED[fault.__name__] in run.output
    elif procedure == "purge_cache.yml" and fault.__name__ != "read_only":
        # It clears the cache, because that may make room. Here other files fill the disk.
        assert message in run.output
        assert "The disk still has no room: " in run.output
        assert "The service was not restarted." in run.output
    else:
        assert message in run.output
        assert "Refused; nothing was changed" in run.output or "No release was switched" in run.output
    assert set(run.changed.values()) == {0}


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.usefixtures("host")
def test_frozen_host_is_reported_unreachable_and_recovers(target: Host, procedure: str) -> None:
    with fleet.frozen(target):
        run = fleet.play(procedure, LIMIT, "--timeout=5", variables=PROCEDURES[procedure])
    assert run.returncode == 4
    assert "UNREACHABLE" in run.output


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.usefixtures("host")
def test_absent_host_is_reported_unreachable(target: Host, procedure: str) -> None:
    with fleet.absent(target):
        run = fleet.play(procedure, LIMIT, "--timeout=5", variables=PROCEDURES[procedure])
    assert run.returncode == 4
    assert "UNREACHABLE" in run.output
