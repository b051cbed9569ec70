"""Triage reports every fault that the runbook names.

Each test verifies the fault before it runs triage, and undoes it afterwards. Two hosts have different faults
at the same time, which shows that each verdict belongs to its own host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import statistics
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
import testinfra
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from lab import paths, runtime
from lab.hosts import Host
from tests import fleet, hosts

SERVICE = "katago-mcp.service"
BASELINE = "/var/lib/katago-mcp/baseline.json"
CONFIG = "/opt/katago-mcp/current/config.json"
CACHE = "/var/cache/katago-mcp"
DROP_IN = f"/run/systemd/system/{SERVICE}.d/few.conf"
JOURNALD = Path("/etc/systemd/journald.conf.d/nothing.conf")
LOCK = "/run/katago-mcp.lock"
# What distrobuilder writes into LXC containers at boot, for all services.
CONTAINER_DROP_IN = "/run/systemd/system/service.d/zzz-lxc-service.conf"
CONTAINER_SETTINGS = "ProtectProc=default ProtectKernelTunables=no NoNewPrivileges=no LoadCredential="
RECOVERY = 90
# The lab's hosts share the processors of this machine, so checks need long deadlines.
QUICK = "--extra-vars=triage_window=2 triage_patience=60 triage_baseline_uptime=1"
FIRST, SECOND = fleet.LAB.hosts()


def connected(host: Host) -> Any:
    inventory = str(paths.ROOT / "inventories" / "lab")
    return testinfra.get_host(f"ansible://{host.name}", ansible_inventory=inventory)


@pytest.fixture(scope="module")
def first() -> Any:
    """The first host, by SSH."""
    return connected(FIRST)


@pytest.fixture(scope="module")
def second() -> Any:
    """The second host, by SSH."""
    return connected(SECOND)


@pytest.fixture(autouse=True)
def empty_journals(first: Any, second: Any) -> Iterator[None]:
    """Empty the journals after each test, so that a fault does not affect the next verdict."""
    yield
    for host in (first, second):
        host.check_output("journalctl --quiet --rotate; journalctl --quiet --vacuum-time=1s")


def restart_service(target: Host, host: Any) -> None:
    """Restart a service after a fault, which also resets its counters."""
    host.check_output(f"systemctl reset-failed {SERVICE}; systemctl restart {SERVICE}")
    is_back(target)


def is_back(target: Host) -> None:
    fleet.eventually(
        lambda: fleet.get(target, "/ready")[0] == 200, within=RECOVERY, what=f"{target.name} is ready"
    )


def triage(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """The report on both hosts. The playbook must succeed with every finding."""
    path = tmp_path / "triage.json"
    run = fleet.play("triage.yml", QUICK, f"--extra-vars=triage_json={path}", *arguments)
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}, run.output
    report: dict[str, Any] = json.loads(path.read_text())
    for host, found in report["hosts"].items():
        assert f"{host}: {found['verdict']}" in run.output
        assert not found["command"] or found["command"] in run.output
    return report


def reasons(report: dict[str, Any], host: Host) -> dict[tuple[str, str], str]:
    """The measured values by level and rule."""
    found = report["hosts"][host.name]["reasons"]
    return {(reason["level"], reason["rule"]): reason["measured"] for reason in found}


def command(host: Host, step: str, arguments: str = "") -> str:
    return f"ansible-playbook playbooks/{step}.yml -l {host.name} {arguments}".rstrip()


def main_process(host: Any) -> int:
    return int(host.check_output(f"systemctl show {SERVICE} --property=MainPID --value"))


def engine(host: Any) -> int:
    children = host.run(f"pgrep --parent {main_process(host)} katago").stdout.split()
    return int(children[0]) if children else 0


@contextlib.contextmanager
def dropped(target: Host, service: str, *matches: str) -> Iterator[None]:
    """Drop packets to a port inside the host, or those of them that match."""
    port = {"mcp": "8080", "metrics": "9090"}[service]
    process = runtime.podman("inspect", "--format", "{{.State.Pid}}", target.container)
    rule = ["INPUT", "--protocol", "tcp", "--dport", port, *matches, "--jump", "DROP"]
    inside = ["nsenter", f"--target={process}", "--net", "iptables"]
    subprocess.run([*inside, "--insert", *rule], check=True)
    try:
        assert fleet.get(target, "/health", service=service)[0] == 0
        yield
    finally:
        subprocess.run([*inside, "--delete", *rule], check=True)


@contextlib.contextmanager
def tiny_cache(host: Any, options: str) -> Iterator[None]:
    """Mount a small file system over the cache directory."""
    host.check_output(f"mount -t tmpfs -o {options} triage-test {CACHE}")
    try:
        yield
    finally:
        host.check_output(f"umount --lazy {CACHE}")


@contextlib.contextmanager
def another_engine(host: Any) -> Iterator[None]:
    """Run a second engine in the unit's control group, stopped while it loads so that it does no harm."""
    main, first_engine = main_process(host), engine(host)
    group = host.check_output(f"sed -n 's/^0:://p' /proc/{main}/cgroup")
    words = host.check_output(f"tr '\\0' ' ' < /proc/{first_engine}/cmdline").split()
    start = words[0].replace("/usr/bin/katago", "/AppRun")
    script = (
        "for tree in '' /systemd /unified; do"
        f" tasks=/sys/fs/cgroup$tree{group}/cgroup.procs; [ ! -e $tasks ] || echo $$ > $tasks; done;"
        f" exec {start} {' '.join(words[1:])}"
    )
    host.check_output(f"cat > /run/second.sh <<'END'\n{script}\nEND")
    process = host.check_output("setsid sh /run/second.sh > /dev/null 2>&1 < /dev/null & echo $!")
    try:
        fleet.eventually(
            lambda: host.run(f"readlink /proc/{process}/exe").stdout.strip() == words[0],
            within=10,
            what="a second engine runs",
        )
        host.check_output(f"kill -STOP {process}")
        assert SERVICE in host.check_output(f"cat /proc/{process}/cgroup")
        yield
    finally:
        host.run(f"kill -KILL {process}; rm /run/second.sh")


@contextlib.contextmanager
def delayed_engine(host: Any) -> Iterator[None]:
    """Let the engine run for only one tenth of the time, as on a slower device."""
    process = engine(host)
    script = f"while kill -STOP {process}; do sleep 0.45; kill -CONT {process}; sleep 0.05; done"
    pulses = host.check_output(f"setsid sh -c '{script}' > /dev/null 2>&1 < /dev/null & echo $!")
    try:
        sample = f"for each in $(seq 20); do ps --no-headers -o state {process}; sleep 0.05; done"
        # Alternately stopped and running.
        states = host.check_output(sample).split()
        assert 10 <= states.count("T") < 20, states
        yield
    finally:
        host.run(f"kill -KILL {pulses}; kill -CONT {process}")
    assert engine(host) == process


async def call(target: Host, token: str, tool: str, arguments: dict[str, Any]) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(60)) as http,
        Client(streamable_http_client(fleet.address(target), http_client=http)) as client,
    ):
        return await client.call_tool(tool, arguments)


def position(number: int) -> dict[str, Any]:
    move = f"{'ABCDEFGHJKLMNOPQRST'[number % 19]}{number // 19 + 1}"
    board = {"boardXSize": 19, "boardYSize": 19, "rules": "chinese", "komi": 7.5, "moves": [["B", move]]}
    return {"position": board, "maxVisits": 2}


class FailingTraffic:
    """Clients of which three in five calls fail: two are answered from the cache, three need the engine."""

    def __init__(self, target: Host) -> None:
        self._target = target
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.rounds = 0
        self.failed = 0

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {fleet.token()}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(60)) as http,
            Client(streamable_http_client(fleet.address(self._target), http_client=http)) as client,
        ):
            while not self._stop.is_set():
                for number in (0, 20, 1, 21, 22):
                    result = await client.call_tool("analyzePosition", position(number))
                    self.failed += result.is_error
                self.rounds += 1
                await asyncio.sleep(0.05)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_healthy_hosts_are_compared_with_their_baseline(first: Any, second: Any, tmp_path: Path) -> None:
    for host in (first, second):
        host.check_output(f"rm -f {BASELINE}")
    predicted = fleet.play("baseline.yml", "--check", QUICK)
    assert predicted.returncode == 0, predicted.output
    assert set(predicted.changed.values()) == {1}, predicted.output
    assert not first.file(BASELINE).exists
    recorded = fleet.play("baseline.yml", QUICK)
    assert recorded.returncode == 0, recorded.output
    for host in (first, second):
        file = host.file(BASELINE)
        assert (file.user, file.mode) == ("root", 0o644)
        baseline = json.loads(file.content_string)
        assert baseline["release"] in host.check_output("readlink /opt/katago-mcp/current")
        assert (baseline["engine_version"], baseline["probes"]) == ("1.18.1", 18)
        assert 0 < baseline["fastest_seconds"] <= baseline["median_seconds"] <= baseline["slowest_seconds"]
        # Far from any bound, independent of the load on this machine.
        slow = host is first
        baseline["median_seconds"] *= 100 if slow else 0.01
        text = json.dumps(baseline)
        host.check_output(f"echo '{text}' > {BASELINE}")
    report = triage(tmp_path)
    assert report["hosts"][FIRST.name]["verdict"] == "healthy", reasons(report, FIRST)
    assert report["hosts"][FIRST.name]["command"] is None
    assert set(reasons(report, SECOND)) == {("P1", "performance")}
    proposed = f"{command(SECOND, 'mitigate')} -e visits="
    assert report["hosts"][SECOND.name]["command"].startswith(proposed)
    assert (report["verdict"], report["counts"]) == ("P1", {"P1": 1, "healthy": 1})
    for name, host in ((FIRST.name, first), (SECOND.name, second)):
        # R17: works without iostat.
        assert not host.exists("iostat")
        facts = report["hosts"][name]["facts"]
        assert len(facts["load"]["value"]["averages"]) == 3
        assert facts["pressure"]["value"].keys() in ({"cpu", "memory", "io"}, {"absent"})
        counted = host.check_output(
            "awk '$3 ~ /^(sd|hd|vd|xvd|nvme|mmcblk|dm-|md)/ {print $3}' /proc/diskstats"
        )
        disks = {disk["disk"]: disk for disk in facts["processes"]["value"]["disks"]}
        assert disks.keys() == set(counted.split())
        assert all(0 <= disk["busy_percent"] <= 100 for disk in disks.values())
    second.check_output(f"rm {BASELINE}")


def test_slow_engine_is_reported_against_the_baseline(second: Any, tmp_path: Path) -> None:
    recorded = fleet.play("baseline.yml", QUICK, f"--limit={SECOND.name}")
    assert recorded.returncode == 0, recorded.output
    baseline = json.loads(second.file(BASELINE).content_string)["median_seconds"]
    try:
        with delayed_engine(second):
            report = triage(tmp_path)
    finally:
        second.check_output(f"rm {BASELINE}")
    found = report["hosts"][SECOND.name]
    answers = [answer["seconds"] for answer in found["facts"]["probe"]["value"]["answers"]]
    assert statistics.median(answers) > baseline
    measured = reasons(report, SECOND)["P1", "performance"]
    assert f"more than the baseline's {baseline:.3f} s" in measured
    expected = (
        f"{command(SECOND, 'mitigate')} -e visits=500 -e minutes=60 -e 'why=\"triage reports performance\"'"
    )
    assert found["command"] == expected
    # The proposal can be pasted.
    pasted = fleet.play("mitigate.yml", *shlex.split(found["command"])[2:], "--check")
    assert pasted.returncode == 0, pasted.output


def test_stopped_unit_and_corrupted_configuration(first: Any, second: Any, tmp_path: Path) -> None:
    first.check_output(f"systemctl stop {SERVICE}")
    second.check_output(f"cp --preserve {CONFIG} /run/config.json && echo '{{ not JSON' > {CONFIG}")
    before = first.run(f"cat {BASELINE}").stdout
    try:
        assert first.run(f"systemctl is-active {SERVICE}").stdout.strip() == "inactive"
        report = triage(tmp_path)
        refused = fleet.play("baseline.yml", QUICK)
    finally:
        second.check_output(f"cp --preserve /run/config.json {CONFIG}")
        restart_service(FIRST, first)
    assert "is inactive (dead" in reasons(report, FIRST)["P0", "unit"]
    assert report["hosts"][FIRST.name]["command"] == command(FIRST, "restart")
    assert report["hosts"][FIRST.name]["respond_by"] is not None
    found = reasons(report, SECOND)
    assert "is not valid JSON" in found["P0", "config"]
    assert "config.json was changed" in found["P0", "release"]
    assert report["hosts"][SECOND.name]["escalate"] == ["the configuration is corrupted"]
    # Somebody changed it, so an intrusion is possible.
    assert report["hosts"][SECOND.name]["command"].startswith(f"{command(SECOND, 'security_on')} -e ")
    assert refused.returncode != 0
    assert refused.output.count("Refused; no baseline was recorded on this host.") >= 2
    assert first.run(f"cat {BASELINE}").stdout == before
    assert not second.file(BASELINE).exists


def test_port_that_is_taken_and_a_firewall_that_drops_clients(first: Any, tmp_path: Path) -> None:
    server = "python3 -m http.server 8080 --bind 0.0.0.0"
    first.check_output(f"systemctl stop {SERVICE}; systemd-run --unit=squatter {server}")
    try:
        fleet.eventually(
            lambda: first.run("ss -Hltn 'sport = :8080'").stdout != "", within=20, what="the port is taken"
        )
        first.run(f"systemctl start {SERVICE}")
        # The host itself still reaches its service.
        with dropped(SECOND, "mcp", "!", "--in-interface", "lo"):
            report = triage(tmp_path)
    finally:
        first.check_output("systemctl stop squatter")
        restart_service(FIRST, first)
    measured = reasons(report, FIRST)["P0", "ports"]
    assert measured.startswith("port 8080 (server.port) is used by python3 (PID ")
    assert measured.endswith(" of squatter.service)")
    assert report["hosts"][FIRST.name]["command"] is None
    address = f"127.0.0.1:{SECOND.ports['mcp']}"
    assert f"clients cannot connect to {address}: " in reasons(report, SECOND)["P0", "clients"]
    assert set(reasons(report, SECOND)) == {("P0", "clients")}


def test_frozen_server_and_dropped_packets(first: Any, tmp_path: Path) -> None:
    process = main_process(first)
    first.check_output(f"kill -STOP {process}")
    try:
        assert first.check_output(f"ps --no-headers -o state {process}").strip() == "T"
        with dropped(SECOND, "mcp"):
            report = triage(tmp_path)
    finally:
        first.run(f"kill -CONT {process}")
        is_back(FIRST)
    found = reasons(report, FIRST)
    assert f"the main process {process} is frozen" in found["P0", "unit"]
    assert ("P0", "health") in found
    assert report["hosts"][FIRST.name]["command"] == command(FIRST, "restart", "-e force=true")
    found = reasons(report, SECOND)
    assert ("P0", "unit") not in found
    assert "did not answer" in found["P0", "health"]
    assert report["hosts"][SECOND.name]["command"] == command(SECOND, "restart", "-e force=true")


def test_engine_that_failed_three_times_and_missing_metrics(first: Any, tmp_path: Path) -> None:
    for _ in range(3):
        fleet.eventually(
            lambda: fleet.get(FIRST, "/ready")[0] == 200 and engine(first) != 0,
            within=RECOVERY,
            what="the engine runs",
        )
        first.check_output(f"kill -KILL {engine(first)}")
        fleet.eventually(lambda: fleet.get(FIRST, "/ready")[0] == 503, within=10, what="it is dead")
    fleet.eventually(lambda: fleet.get(FIRST, "/ready")[0] == 200, within=RECOVERY, what="it is back")
    with dropped(SECOND, "metrics"):
        report = triage(tmp_path)
    restart_service(FIRST, first)
    assert "3 times in 10 minutes" in reasons(report, FIRST)["P1", "engine_failures"]
    assert report["hosts"][FIRST.name]["command"] == command(FIRST, "restart")
    assert set(reasons(report, SECOND)) == {("P3", "metrics"), ("unknown", "error_rate")}
    assert report["hosts"][SECOND.name]["verdict"] == "P3"


def test_failing_requests_without_an_engine_and_a_second_engine(
    first: Any, second: Any, tmp_path: Path
) -> None:
    operator = first.check_output("cat /etc/katago-mcp/credentials/operator.token")
    for number in (0, 1):
        cached = asyncio.run(call(FIRST, fleet.token(), "analyzePosition", position(number)))
        assert not cached.is_error
    stopped = asyncio.run(call(FIRST, operator, "stopEngine", {}))
    assert not stopped.is_error, stopped
    with another_engine(second), FailingTraffic(FIRST) as traffic:
        fleet.eventually(lambda: traffic.rounds > 2, within=30, what="requests fail")
        assert traffic.failed >= 3 * (traffic.rounds - 1)
        report = triage(tmp_path)
    started = asyncio.run(call(FIRST, operator, "startEngine", {}))
    assert not started.is_error, started
    is_back(FIRST)
    found = reasons(report, FIRST)
    assert "client requests failed" in found["P1", "error_rate"]
    assert 50 <= float(found["P1", "error_rate"].split("(")[1].split(" ")[0]) <= 70
    assert found["P1", "engines"] == "no engine process is running"
    assert ("P1", "ready") in found
    assert ("P1", "probe") in found
    assert report["hosts"][FIRST.name]["command"] == command(FIRST, "restart")
    assert "2 engine processes are running" in reasons(report, SECOND)["P2", "engines"]
    assert report["hosts"][SECOND.name]["command"] == command(SECOND, "restart", "-e force=true")


def test_full_disk_and_no_inodes(first: Any, second: Any, tmp_path: Path) -> None:
    with tiny_cache(first, "size=256k"), tiny_cache(second, "size=1m,nr_inodes=4"):
        assert first.run(f"dd if=/dev/zero of={CACHE}/filler bs=4k").rc != 0
        second.run(f"touch {CACHE}/1 {CACHE}/2 {CACHE}/3 {CACHE}/4")
        assert first.check_output(f"df --output=pcent {CACHE} | tail -1").strip() == "100%"
        assert second.check_output(f"df --output=ipcent {CACHE} | tail -1").strip() == "100%"
        report = triage(tmp_path)
    for host, what in ((FIRST, "disk space"), (SECOND, "inodes")):
        assert f"0 % of the {what} of {CACHE} is free" in reasons(report, host)["P2", "filesystems"]
        assert report["hosts"][host.name]["escalate"] == ["resources are exhausted"]
        assert report["hosts"][host.name]["command"] is None, reasons(report, host)
        (proposal,) = report["hosts"][host.name]["proposals"]
        assert proposal.startswith(f"{CACHE} uses ")


def test_read_only_root(first: Any, tmp_path: Path) -> None:
    before = hosts.untouched(first)
    with hosts.read_only(first):
        report = triage(tmp_path)
        assert hosts.untouched(first) == before
    found = reasons(report, FIRST)
    assert "is mounted read-only" in found["P2", "filesystems"]
    # The configuration is unchanged. No playbook can work on this host, so none is proposed.
    assert not [rule for level, rule in found if level in ("P0", "unknown")]
    assert report["hosts"][FIRST.name]["command"] is None


def test_drop_in_of_a_container_that_weakens_the_sandbox_is_named(first: Any, tmp_path: Path) -> None:
    first.check_output(
        f"mkdir -p $(dirname {CONTAINER_DROP_IN})"
        f" && printf '%s\\n' '[Service]' {CONTAINER_SETTINGS} > {CONTAINER_DROP_IN}"
        " && systemctl daemon-reload"
    )
    before = hosts.untouched(first)
    try:
        report = triage(tmp_path)
        deployment = fleet.play("deploy.yml", f"--limit={FIRST.name}")
    finally:
        first.check_output(f"rm -r $(dirname {CONTAINER_DROP_IN}) && systemctl daemon-reload")
    found = reasons(report, FIRST)["P3", "sandbox"]
    assert found.startswith(f"the sandbox is weakened by {CONTAINER_DROP_IN}: ")
    assert {"NoNewPrivileges", "ProtectProc", "ProtectKernelTunables"} <= set(re.findall(r"\w+", found))
    # The deployment could not pass tokens to the service.
    assert deployment.returncode != 0
    assert f"{CONTAINER_DROP_IN} sets LoadCredential=" in deployment.output
    assert hosts.untouched(first) == before


def test_low_limit_of_open_files_and_a_unit_with_high_load(first: Any, second: Any, tmp_path: Path) -> None:
    first.check_output(
        f"mkdir -p $(dirname {DROP_IN}) && printf '[Service]\\nLimitNOFILE=64\\n' > {DROP_IN}"
        f" && systemctl daemon-reload && systemctl restart {SERVICE}"
    )
    # Enough loops, with a high priority, to use much processor time also on a busy machine.
    loops = "for each in 1 2 3 4 5 6 7 8; do while :; do :; done & done; wait"
    second.check_output(f"systemd-run --quiet --collect --unit=greedy --property=Nice=-20 sh -c '{loops}'")
    try:
        limits = first.check_output(f"grep 'open files' /proc/{main_process(first)}/limits")
        assert limits.split()[3] == "64"
        report = triage(tmp_path)
    finally:
        first.check_output(f"rm -r $(dirname {DROP_IN}) && systemctl daemon-reload")
        restart_service(FIRST, first)
        second.check_output("systemctl stop greedy.service")
    assert reasons(report, FIRST)["P2", "limits"] == "the service may open only 64 files"
    assert f"a drop-in changes the unit: {DROP_IN}" in report["hosts"][FIRST.name]["changes"]
    assert any(DROP_IN in proposal for proposal in report["hosts"][FIRST.name]["proposals"])
    found = report["hosts"][SECOND.name]
    assert any("greedy.service (sh) uses" in note for note in found["notes"]), found["notes"]
    assert "systemctl set-property --runtime greedy.service CPUWeight=20" in found["proposals"]


def test_crash_soon_after_a_restart_and_a_check_that_hangs(first: Any, second: Any, tmp_path: Path) -> None:
    restart_service(FIRST, first)
    before = main_process(first)
    first.check_output(f"systemctl kill --kill-whom=main --signal=KILL {SERVICE}")
    fleet.eventually(
        lambda: main_process(first) not in (0, before) and fleet.get(FIRST, "/ready")[0] == 200,
        within=RECOVERY,
        what="systemd has started it again",
    )
    second.check_output("printf '#!/bin/sh\\nsleep 600\\n' > /run/hangs && chmod +x /run/hangs")
    second.check_output("mount --bind /run/hangs $(command -v journalctl)")
    try:
        assert second.run("timeout 1 journalctl --lines=1").rc == 124
        report = triage(tmp_path)
    finally:
        second.check_output("umount $(command -v journalctl)")
    assert "after it was started" in reasons(report, FIRST)["P1", "fails_again"]
    assert report["hosts"][FIRST.name]["escalate"] == [
        "the service failed again within 5 minutes after a restart"
    ]
    found = report["hosts"][SECOND.name]
    assert found["verdict"] == "unknown"
    assert set(found["undecided"]) == {"fails_again", "engine_failures", "cache", "logged_errors"}
    assert found["facts"]["journal"]["unknown"] == "no answer within 20 s"
    assert found["command"] == command(SECOND, "validate")
    assert second.run("pgrep --full /run/hangs").rc == 1


def test_journal_that_keeps_nothing_and_a_procedure_at_work(first: Any, second: Any, tmp_path: Path) -> None:
    lock = {
        "owner": "anna@elsewhere",
        "procedure": "deploy",
        "run": "elsewhere/1:2:3",
        "since": second.check_output("date --utc +%Y-%m-%dT%H:%M:%SZ"),
    }
    try:
        first.check_output(
            f"mkdir -p {JOURNALD.parent}; printf '[Journal]\\nStorage=none\\n' >{JOURNALD};"
            " systemctl restart systemd-journald"
        )
        second.check_output(f"systemctl stop {SERVICE}; echo {shlex.quote(json.dumps(lock))} >{LOCK}")
        report = triage(tmp_path)
    finally:
        first.check_output(f"rm -f {JOURNALD}; systemctl restart systemd-journald")
        second.check_output(f"rm -f {LOCK}; systemctl start {SERVICE}")
        is_back(SECOND)
    blind = reasons(report, FIRST)["unknown", "journal"]
    assert blind == (
        "errors and failures cannot be seen: journald keeps no messages on this host; see Storage= in"
        " journald.conf"
    )
    traffic = report["hosts"][FIRST.name]["facts"]["traffic"]["value"]
    assert traffic["requests"]["ok"] > 0
    assert traffic["hit_rate"] is None
    stopped = report["hosts"][SECOND.name]
    assert (stopped["verdict"], stopped["command"]) == ("unknown", command(SECOND, "triage"))
    assert "deploy of anna@elsewhere, since " in reasons(report, SECOND)["unknown", "lock"]
    assert ("unknown", "unit") in reasons(report, SECOND)


@pytest.mark.parametrize("gone", [fleet.frozen, fleet.absent])
def test_unreachable_host_is_unknown_and_does_not_affect_the_others(
    second: Any, tmp_path: Path, gone: Callable[[Host], contextlib.AbstractContextManager[None]]
) -> None:
    # An open connection must not hide that the host is unreachable.
    second.check_output("true")
    with gone(SECOND):
        report = triage(tmp_path)
    assert report["hosts"][SECOND.name]["verdict"] == "unknown"
    assert "no answer" in reasons(report, SECOND)["unknown", "reachable"]
    assert report["hosts"][FIRST.name]["facts"]["health"]["value"]["status"] == 200
    assert report["unknown"] == [SECOND.name]


def test_operator_can_report_a_breach_and_set_the_failing_level(tmp_path: Path) -> None:
    path = tmp_path / "triage.json"
    run = fleet.play(
        "triage.yml",
        f"--limit={FIRST.name}",
        QUICK,
        f"--extra-vars=breach=true triage_fail_on=P1 triage_json={path}",
    )
    assert run.returncode == 2, run.output
    assert "The fleet is P0; triage_fail_on is P1." in run.output
    report = json.loads(path.read_text())
    assert list(report["hosts"]) == [FIRST.name]
    assert ("P0", "breach") in reasons(report, FIRST)
    assert report["hosts"][FIRST.name]["command"].startswith(f"{command(FIRST, 'security_on')} -e ")
