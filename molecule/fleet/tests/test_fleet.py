"""Clients of both protocol generations call the virtual address while the fleet behind it is worked on.

The tests depend on their order. Molecule has run site.yml before.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import runtime
from lab.hosts import FLEET, LOAD_BALANCER, Host
from tests import bad_releases, fleet, hosts, loopback
from tests.bad_releases import DEFERRED, NO_ENGINE
from tests.traffic import GENERATIONS, Traffic

HOSTS = fleet.LAB.of_group(FLEET)
FIRST, SECOND, THIRD = HOSTS
BALANCERS = fleet.LAB.of_group(LOAD_BALANCER)
ADDRESS = fleet.LAB.virtual_address().partition("/")[0]
# Seconds after which a load balancer has noticed that a host or the other load balancer does not answer.
NOTICED = 15
# Three hosts and the clients share two processors.
QUICK = {"soak_minutes": 0}
FEWEST_CALLS = 4000
CLIENTS = 3
# Each client of the two generations has at most one call in flight.
IN_FLIGHT = 2 * CLIENTS


class Seen:
    """The calls of all tests."""

    calls = 0


@pytest.fixture(scope="module")
def traffic() -> Iterator[Traffic]:
    # Fewer requests a second than the load balancers allow one address.
    clients = Traffic(
        f"http://{ADDRESS}/mcp", fleet.token(), clients=CLIENTS, pause=0.4, visits=2, seconds=90
    )
    with clients.running():
        yield clients


def expect_undisturbed(traffic: Traffic) -> None:
    """Expect that clients of both generations have called since the last check, and that nothing failed."""
    # Calls that are in flight now belong to what was done before.
    time.sleep(2)
    for mode, tally in traffic.take().items():
        assert tally.calls > 0, f"protocol {GENERATIONS[mode]}"
        assert tally.problems == [], f"protocol {GENERATIONS[mode]}"
        Seen.calls += tally.calls


def count_failures(traffic: Traffic, most: int) -> None:
    """Expect at most this number of failed calls: those that were in flight on what was lost.

    A broken connection ends the official client of protocol 2026-07-28, so it counts as a lost session.
    """
    taken = traffic.take()
    problems = {mode: tally.problems for mode, tally in taken.items()}
    assert sum(map(len, problems.values())) <= most, problems
    assert all(tally.calls > 0 for tally in taken.values()), taken
    # Nothing hangs.
    assert all(tally.slowest < NOTICED for tally in taken.values()), taken
    Seen.calls += sum(tally.calls for tally in taken.values())


def succeed(run: fleet.Run) -> str:
    """Expect that a run succeeded; its output."""
    assert run.returncode == 0, run.output
    return run.output


def expect_all_in_rotation() -> None:
    """Expect that every load balancer sends requests to every host."""
    shown = succeed(fleet.command("rotation_show")).rpartition("RESULT *")[2]
    for host in HOSTS:
        assert len(re.findall(rf"{host.name} +in +UP ", shown)) == len(BALANCERS), shown


def releases() -> set[str]:
    """The current releases of all hosts, without the digests that depend on a host's Python."""
    return {hosts.current(hosts.connect(host.name)) for host in HOSTS}


def test_every_host_is_restarted(traffic: Traffic) -> None:
    output = succeed(fleet.command("restart"))
    assert output.count("runs and is validated") >= len(HOSTS)
    expect_undisturbed(traffic)


def test_rolling_deployment_of_a_changed_setting(traffic: Traffic) -> None:
    before = releases()
    succeed(fleet.command("deploy", variables={"katago_mcp_default_visits": 3, **QUICK}))
    assert not before & releases()
    expect_undisturbed(traffic)


def test_rolling_rollback(traffic: Traffic) -> None:
    before = releases()
    succeed(fleet.command("rollback"))
    assert not before & releases()
    expect_undisturbed(traffic)


def test_rollout_that_is_killed_at_every_third_task_disturbs_nobody(traffic: Traffic) -> None:
    """Before its third task, before its sixth, and so on; the same command continues it."""
    before = {host.name: hosts.history(hosts.connect(host.name)) for host in HOSTS}

    def attempt(number: int) -> fleet.Run:
        return fleet.play(
            "deploy.yml",
            variables={"katago_mcp_default_visits": 5, **QUICK},
            kill_before=3 * number,
            counts_from="Lock the host",
        )

    fleet.killed_everywhere(attempt, 60)
    for name, earlier in before.items():
        switched, verdict = hosts.history(hosts.connect(name))[len(earlier) :]
        assert (switched["verdict"], verdict["verdict"]) == (None, "good")
    expect_all_in_rotation()
    expect_undisturbed(traffic)


def test_rollback_that_is_killed_at_every_fifth_task_disturbs_nobody(traffic: Traffic) -> None:
    before = releases()

    def attempt(number: int) -> fleet.Run:
        return fleet.play("rollback.yml", kill_before=5 * number, counts_from="Lock the host")

    fleet.killed_everywhere(attempt, 40)
    assert not before & releases()
    expect_all_in_rotation()
    expect_undisturbed(traffic)


def test_switch_to_tls_on_another_port_and_back_disturbs_nobody(traffic: Traffic) -> None:
    authority = loopback.Authority()
    certificate, key = authority.issue("katago.example.org")
    secured = {
        "katago_mcp_port": 8443,
        "katago_mcp_tls_certificate": certificate,
        "katago_mcp_tls_key": key,
        "load_balancer_server_ca": authority.pem,
    }
    refused = fleet.command("load_balancer", variables=secured)
    assert "still serves without TLS" in refused.output
    assert called() == {("8080", False)}
    succeed(fleet.command("deploy", variables={**secured, **QUICK}))
    assert called() == {("8443", True)}
    assert "HAProxy was kept." in succeed(fleet.command("load_balancer", variables=secured))
    expect_undisturbed(traffic)
    succeed(fleet.command("rollback"))
    assert called() == {("8080", False)}
    succeed(fleet.command("load_balancer"))
    expect_all_in_rotation()
    expect_undisturbed(traffic)


def called() -> set[tuple[str, bool]]:
    """The ports of the servers in the configurations of all load balancers, and whether they use TLS."""
    lines = [
        line
        for balancer in BALANCERS
        for line in hosts.connect(balancer.name).file("/etc/haproxy/haproxy.cfg").content_string.splitlines()
        if line.startswith("  server katago-")
    ]
    assert len(lines) == len(BALANCERS) * len(HOSTS)
    return {(line.split()[2].rpartition(":")[2], " ssl verify required " in line) for line in lines}


@pytest.mark.parametrize("kind", ["does not import", "has no engine", "crashes"])
def test_bad_release_reaches_only_the_canary_and_disturbs_nobody(
    traffic: Traffic, tmp_path: Path, kind: str
) -> None:
    variables: dict[str, Any] = {"validate_ready_deadline": 20}
    if kind == "has no engine":
        variables |= NO_ENGINE | DEFERRED
    elif kind == "crashes":
        variables["katago_mcp_server"] = str(bad_releases.that_crashes(tmp_path))
    else:
        variables["katago_mcp_server"] = str(bad_releases.that_does_not_import(tmp_path))
    expect_only_the_canary(variables)
    expect_undisturbed(traffic)


@pytest.mark.parametrize("fault", bad_releases.FAULTS)
def test_canary_that_misbehaves_under_load_fails_its_soak(
    traffic: Traffic, tmp_path: Path, fault: str
) -> None:
    """Its clients notice it, until the soak has failed, although its limits are higher than the others'."""
    succeed(fleet.play("deploy.yml", variables={"katago_mcp_default_visits": 5, **QUICK}))
    expect_undisturbed(traffic)
    server = bad_releases.that_misbehaves(tmp_path, fault)
    try:
        expect_only_the_canary({"katago_mcp_server": str(server), "soak_minutes": 0.5})
    finally:
        fleet.play("deploy.yml", variables=QUICK)
    noticed = traffic.take().values()
    assert any(tally.problems or tally.slowest > 10 for tally in noticed), noticed
    time.sleep(NOTICED)
    traffic.take()
    time.sleep(5)
    expect_undisturbed(traffic)


def expect_only_the_canary(variables: dict[str, Any]) -> None:
    """Deploy a bad release; the canary returns to its release, and the other hosts are not touched."""
    before = [hosts.untouched(hosts.connect(host.name)) for host in HOSTS]
    run = fleet.play("deploy.yml", variables=variables)
    assert run.returncode != 0, run.output
    canary, *others = (hosts.untouched(hosts.connect(host.name)) for host in HOSTS)
    assert canary[0] == before[0][0], run.output
    assert others == before[1:], run.output
    expect_all_in_rotation()


def test_host_that_an_operator_takes_out_can_be_rebooted(traffic: Traffic) -> None:
    only = f"--limit={SECOND.name}"
    succeed(fleet.command("rotation_out", only, why="kernel update"))
    runtime.podman("restart", "--time=20", SECOND.container)
    fleet.eventually(lambda: fleet.get(SECOND, "/ready")[0] == 200, within=180, what="the host is ready")
    output = succeed(fleet.command("restart", only))
    assert "out of rotation" in output
    succeed(fleet.command("rotation_in", only))
    expect_undisturbed(traffic)


def test_purge_that_restarts_the_service_disturbs_nobody(traffic: Traffic) -> None:
    host = hosts.connect(FIRST.name)
    before = hosts.main_pid(host)
    hosts.damage_cache(host)
    output = succeed(fleet.command("purge_cache", f"--limit={FIRST.name}"))
    assert "The service is restarted because the cache is damaged" in output
    assert hosts.main_pid(host) != before
    expect_all_in_rotation()
    expect_undisturbed(traffic)


def test_restore_of_a_damaged_release_disturbs_nobody(traffic: Traffic) -> None:
    only = f"--limit={SECOND.name}"
    repository = {"backup_repository": "/srv/katago", "backup_password": "a password of the test"}
    succeed(fleet.command("backup", only, variables=repository))
    host = hosts.connect(SECOND.name)
    before = hosts.main_pid(host)
    damaged = host.check_output("readlink --canonicalize /opt/katago-mcp/current/config.json")
    host.check_output(f"truncate --size=100 {damaged}")
    assert damaged in succeed(fleet.command("restore", only, variables=repository))
    assert hosts.main_pid(host) != before
    expect_all_in_rotation()
    expect_undisturbed(traffic)


def test_security_mode_costs_only_what_was_in_flight_on_the_host(traffic: Traffic) -> None:
    """It does not wait: an intruder must not stay connected."""
    only = f"--limit={THIRD.name}"
    expect_undisturbed(traffic)
    try:
        succeed(fleet.command("security_on", only, why="test"))
        count_failures(traffic, most=IN_FLIGHT)
        expect_undisturbed(traffic)
    finally:
        run = fleet.command("security_off", only, why="test")
    succeed(run)
    expect_all_in_rotation()
    expect_undisturbed(traffic)


def test_budget_keeps_enough_hosts_in_rotation(traffic: Traffic) -> None:
    succeed(fleet.command("rotation_out", f"--limit={FIRST.name}", why="test"))
    refused = fleet.command("restart", f"--limit={SECOND.name}")
    assert refused.returncode != 0
    assert "fleet_min_available" in refused.output
    shown = succeed(fleet.command("rotation_show"))
    assert all(host.name in shown for host in (*HOSTS, *BALANCERS))
    succeed(fleet.command("rotation_in", f"--limit={FIRST.name}"))
    expect_undisturbed(traffic)


def test_killed_host_costs_only_what_was_in_flight_on_it(traffic: Traffic) -> None:
    expect_undisturbed(traffic)
    runtime.podman("kill", THIRD.container)
    try:
        time.sleep(NOTICED)
        count_failures(traffic, most=IN_FLIGHT)
    finally:
        start_again(THIRD)
    time.sleep(NOTICED)
    expect_undisturbed(traffic)


def test_frozen_host_costs_only_what_was_in_flight_on_it(traffic: Traffic) -> None:
    expect_undisturbed(traffic)
    with fleet.frozen(SECOND):
        time.sleep(NOTICED)
        count_failures(traffic, most=IN_FLIGHT)
        # Nothing hangs: the other hosts serve all clients.
        time.sleep(5)
        expect_undisturbed(traffic)
    time.sleep(NOTICED)
    expect_undisturbed(traffic)


def test_lost_load_balancer_costs_only_what_was_in_flight_through_it(traffic: Traffic) -> None:
    expect_undisturbed(traffic)
    holder = next(host for host in BALANCERS if holds_address(host))
    runtime.podman("kill", holder.container)
    try:
        time.sleep(NOTICED)
        # Until the address has moved, clients that connect again fail too.
        count_failures(traffic, most=2 * IN_FLIGHT)
        expect_undisturbed(traffic)
    finally:
        runtime.podman("start", holder.container)
        fleet.eventually(lambda: balances(holder), within=120, what=f"{holder.name} balances again")
    time.sleep(NOTICED)
    traffic.take()


def test_there_were_enough_calls(traffic: Traffic) -> None:
    while Seen.calls < FEWEST_CALLS:
        time.sleep(5)
        expect_undisturbed(traffic)


def holds_address(host: Host) -> bool:
    """Whether a load balancer has the virtual address."""
    return ADDRESS in runtime.exec_in(host.container, ["ip", "-brief", "address"])


def balances(host: Host) -> bool:
    """Whether a load balancer passes requests to a server."""
    return fleet.get(host, "/ready", service="http", seconds=3)[0] == 200


def start_again(host: Host) -> None:
    """Start a host and wait until it is ready."""
    runtime.podman("start", host.container)
    fleet.eventually(lambda: fleet.get(host, "/ready")[0] == 200, within=180, what=f"{host.name} is ready")
