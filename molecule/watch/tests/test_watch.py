"""R26, R27: a watch continues without the control node, faults restart it, unknown is never recovered."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab import paths, runtime
from lab.hosts import Host
from tests import fleet, hosts

FIRST, SECOND = fleet.LAB.hosts()
UNIT = "katago-watch.service"
SAMPLES = "/run/katago-watch/samples.jsonl"
ORDER = "/var/lib/katago-watch/order.json"
MINUTES = 1
QUICK = {"minutes": MINUTES, "watch_bounds": [1, 15], "watch_interval": 10, "watch_fewest_requests": 10}
# Number of samples near the end of a window.
LATE = 6


@pytest.fixture(scope="module")
def first() -> Any:
    return hosts.connect(FIRST.name)


@pytest.fixture(scope="module")
def second() -> Any:
    return hosts.connect(SECOND.name)


class Control:
    """A control node with its own records."""

    def __init__(self, directory: Path) -> None:
        self.records = directory / "records"
        self.variables = {**QUICK, "katago_records_dir": str(self.records)}

    def watch(self, *arguments: str, **variables: object) -> fleet.Run:
        """Run playbooks/watch.yml, by default on the first host."""
        limit = [] if any(each.startswith("--limit") for each in arguments) else [f"--limit={FIRST.name}"]
        return fleet.play("watch.yml", *limit, *arguments, variables={**self.variables, **variables})

    def show(self, *arguments: str) -> fleet.Run:
        """Run playbooks/watch_show.yml."""
        variables = {name: value for name, value in self.variables.items() if name != "minutes"}
        return fleet.play("watch_show.yml", *arguments, variables=variables)

    def start(self, limit: str = FIRST.name, **variables: object) -> None:
        """Start a window without waiting."""
        run = self.watch(f"--limit={limit}", wait=False, restart=True, **variables)
        assert run.returncode == 0, run.output

    def fetch(self, limit: str = FIRST.name) -> str:
        """Read the current verdict."""
        return self.show(f"--limit={limit}").output

    def wait(self, words: str, within: float, limit: str = FIRST.name) -> str:
        """Read verdicts until one contains this text; return it."""
        verdicts: list[str] = []

        def is_shown() -> bool:
            verdicts.append(self.fetch(limit))
            return words in verdicts[-1]

        try:
            fleet.eventually(is_shown, within=within, what=words)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{verdicts[-1]}") from None
        return verdicts[-1]

    def lines(self, incident: str = "*") -> list[dict[str, Any]]:
        """The watch events of the timeline."""
        (path,) = self.records.glob(f"incidents/{incident}/timeline.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in lines if line.get("procedure") == "watch"]


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return Control(tmp_path)


def zombies(host: Any) -> int:
    """The number of dead children that the sampler has not reaped."""
    return int(host.check_output("ps -eo stat,comm | grep --count '^Z.*katago-watch' || true"))


def taken(host: Any) -> int:
    """The number of samples."""
    count = host.run(f'grep --count \'"event": "sample"\' {SAMPLES}').stdout.strip()
    return int(count or 0)


def sampled(host: Any, count: int) -> None:
    """Wait until the window has this number of samples."""
    fleet.eventually(lambda: taken(host) >= count, within=90, what=f"{count} samples")


def engine(host: Any) -> str:
    """The PID of the engine."""
    found: str = host.check_output(
        f"pgrep --parent {hosts.main_pid(host)} --full /opt/katago/engines | head -1"
    )
    return found


@pytest.fixture(autouse=True)
def _healthy_services(first: Any, second: Any) -> Iterator[None]:
    yield
    for host, target in ((first, FIRST), (second, SECOND)):
        host.run(f"systemctl stop {UNIT}; rm -f {ORDER} {SAMPLES}")
        host.run(f"systemctl reset-failed {hosts.SERVICE}; systemctl start {hosts.SERVICE}")
        fleet.eventually(partial(is_ready, target), within=90, what="ready again")


def is_ready(target: Host) -> bool:
    return fleet.get(target, "/ready")[0] == 200


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"minutes": 14, "watch_bounds": [15, 120]}, "-e minutes=14 is out of range; accepted: 15 to 120."),
        ({"minutes": 121, "watch_bounds": [15, 120]}, "-e minutes=121 is out of range; accepted: 15 to 120."),
        ({"watch_interval": 16}, "watch_interval is 16; accepted: 1 to 15."),
        ({"minuts": 15}, "-e minuts is not an input of this playbook. Did you mean minutes?"),
    ],
)
def test_invalid_parameters_are_refused(
    control: Control, first: Any, parameters: dict[str, object], message: str
) -> None:
    run = control.watch(**parameters)
    assert run.returncode != 0
    assert "Refused; nothing was changed" in run.output
    assert message in " ".join(run.output.split())
    assert not first.file(ORDER).exists


def test_check_mode_predicts_the_watch(control: Control, first: Any) -> None:
    run = control.watch("--check")
    assert run.returncode == 0, run.output
    assert "would start a window" in run.output
    assert not first.file(ORDER).exists
    assert not control.records.exists()


def test_healthy_hosts_recover_at_the_same_time(control: Control, first: Any, second: Any) -> None:
    before = [hosts.untouched(host) for host in (first, second)]
    run = control.watch("--limit=all", incident="i-1")
    assert run.returncode == 0, run.output
    assert run.output.count("recovered  -     healthy for 1.") == 2
    assert [hosts.untouched(host) for host in (first, second)] == before
    for host in (first, second):
        assert host.run(f"systemctl is-active {UNIT}").stdout.strip() == "inactive"
        assert not host.file(ORDER).exists
        assert host.file(SAMPLES).mode == 0o600
    recovered = [line for line in control.lines("i-1") if line["result"] == "ok"]
    assert {line["host"] for line in recovered} == {FIRST.name, SECOND.name}
    assert all(line["watch"]["began"] < line["watch"]["ended"] for line in recovered)
    # A finished window is joined, and not started again.
    samples = taken(first)
    again = control.watch()
    assert again.returncode == 0, again.output
    assert re.search("Joined the watch of .*: recovered,", again.output)
    assert taken(first) == samples
    # It is not joined after a restart of the service.
    first.check_output(f"systemctl restart {hosts.SERVICE}")
    fleet.eventually(lambda: fleet.get(FIRST, "/ready")[0] == 200, within=90, what="ready again")
    control.watch(wait=False)
    assert taken(first) < samples


def test_fault_near_the_end_restarts_the_window(control: Control, first: Any, second: Any) -> None:
    """R26: a fault at minute 14. The engine of one host is killed, the service of the other restarted."""
    control.start("all")
    sampled(first, LATE)
    first.check_output(f"kill -KILL {engine(first)}")
    second.check_output(f"systemctl restart {hosts.SERVICE}")
    control.wait(f"{FIRST.name}  breached", within=60)
    shown = control.wait(f"{SECOND.name}  breached", within=60, limit=SECOND.name)
    assert f"ansible-playbook playbooks/triage.yml -l {SECOND.name}" in shown
    joined = control.watch("--limit=all")
    assert joined.returncode == 0, joined.output
    assert joined.output.count("recovered  -") == 2
    assert joined.output.count(" breach: ") >= 2


def test_waiting_run_returns_at_the_breach(control: Control, first: Any) -> None:
    """The run does not wait for the end of the window."""
    control.start()
    sampled(first, 2)
    pid = hosts.main_pid(first)
    first.check_output(f"kill -STOP {pid}")
    try:
        run = control.watch()
    finally:
        # The watchdog may have killed it in the meantime.
        first.run(f"kill -CONT {pid}")
    assert run.returncode != 0
    assert f"Not recovered: {FIRST.name} is breached" in run.output
    assert re.search("frozen|did not answer|katago-mcp.service is", run.output)


def test_window_continues_without_the_control_node_and_can_be_joined(control: Control, first: Any) -> None:
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
        "LAB_NAME": fleet.LAB.name,
    }
    command = ["ansible-playbook", "playbooks/watch.yml", f"--limit={FIRST.name}"]
    command.append(f"--extra-vars={json.dumps(control.variables)}")
    with subprocess.Popen(
        command, cwd=paths.ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as run:
        sampled(first, 2)
        os.killpg(run.pid, signal.SIGKILL)
    header = first.check_output(f"head -1 {SAMPLES}")
    sampled(first, 4)
    assert zombies(first) < 10
    joined = control.watch()
    assert joined.returncode == 0, joined.output
    assert re.search("Joined the watch of .*: watching,", joined.output)
    assert first.check_output(f"head -1 {SAMPLES}") == header
    assert joined.changed == {FIRST.name: 0}


def test_other_parameters_do_not_join_and_restart_starts_a_new_window(control: Control, first: Any) -> None:
    control.start()
    sampled(first, 2)
    other = control.watch(minutes=2)
    assert other.returncode != 0
    assert "has been running since" in " ".join(other.output.split())
    assert "with minutes 1." in " ".join(other.output.split())
    header = first.check_output(f"head -1 {SAMPLES}")
    control.start()
    assert first.check_output(f"head -1 {SAMPLES}") != header


def test_service_without_traffic_is_unknown(control: Control) -> None:
    run = control.watch(watch_probes=False)
    assert run.returncode != 0
    assert "but with too little traffic: 0 of 10 requests" in run.output
    assert f"Not recovered: {FIRST.name} is unknown" in run.output


def test_killed_sampler_continues_and_stopped_sampler_is_unknown(control: Control, first: Any) -> None:
    control.start(minutes=5)
    sampled(first, 2)
    before = taken(first)
    first.check_output(f"systemctl kill --signal=KILL {UNIT}")
    sampled(first, before + 2)
    assert "watching" in control.fetch()
    first.check_output(f"systemctl stop {UNIT}")
    assert "the sampler is not running; it took its last sample at" in control.fetch()


def test_frozen_host_does_not_recover(control: Control, first: Any) -> None:
    control.start()
    sampled(first, 3)
    runtime.podman("pause", FIRST.container)
    try:
        gone = control.show(f"--limit={FIRST.name}")
        assert "unknown" in gone.output
        assert gone.returncode != 0
        time.sleep(30)
    finally:
        runtime.podman("unpause", FIRST.container)
    shown = control.wait("the window restarted at", within=90)
    assert "recovered  -" not in shown


@pytest.mark.parametrize("gone", [fleet.frozen, fleet.absent])
def test_unreachable_host_is_unknown_and_does_not_affect_the_others(
    control: Control, first: Any, gone: Callable[[Host], contextlib.AbstractContextManager[None]]
) -> None:
    with gone(SECOND):
        run = control.watch("--limit=all", wait=False)
    assert run.returncode == 2, run.output
    assert f"Not recovered: {SECOND.name} is unknown." in run.output
    assert re.search(f"^{SECOND.name} +unknown +- +no answer: ", run.output, re.M)
    sampled(first, 1)


@contextlib.contextmanager
def full(host: Any, directory: str) -> Iterator[None]:
    """Mount a full file system with a copy of the directory over it."""
    host.check_output("mkdir -p /mnt/full && mount -t tmpfs -o size=256k tmpfs /mnt/full")
    host.check_output(f"cp --archive {directory}/. /mnt/full; mount --bind /mnt/full {directory}")
    host.run("dd if=/dev/zero of=/mnt/full/filler bs=1k")
    try:
        yield
    finally:
        host.check_output(f"umount --lazy {directory} /mnt/full")


def test_full_disk_of_the_sampler_is_neither_breach_nor_recovery(control: Control, first: Any) -> None:
    before = hosts.main_pid(first)
    control.start()
    sampled(first, 3)
    with full(first, "/run/katago-watch"):
        control.wait("no sample for", within=150)
        assert first.run(f"systemctl is-active {UNIT}").stdout.strip() == "active"
        assert "No space left" in first.check_output(f"journalctl --quiet --unit={UNIT} --lines=3")
    shown = control.wait("no sample for", within=60)
    assert "recovered  -" not in shown
    assert hosts.main_pid(first) == before


def test_full_disk_of_the_service_does_not_stop_the_sampler(control: Control, first: Any) -> None:
    with hosts.no_space(first):
        run = control.watch()
    assert run.returncode == 0, run.output


def test_read_only_disk_is_reported_without_a_traceback(control: Control, first: Any) -> None:
    with hosts.read_only(first):
        run = control.watch()
    assert run.returncode != 0
    assert "The watch could not be started" in run.output or "cannot be installed" in run.output
    assert "Read-only file system" in run.output
    assert "Traceback" not in run.output


def test_reboot_restarts_the_window_automatically(control: Control, first: Any) -> None:
    control.start()
    sampled(first, 3)
    runtime.podman("restart", "--time=5", FIRST.container)
    fleet.eventually(lambda: fleet.get(FIRST, "/ready")[0] == 200, within=90, what="ready after the boot")
    shown = control.wait("the host was rebooted", within=60)
    assert "recovered  -" not in shown
    shown = control.wait("recovered  -", within=180)
    assert "the host was rebooted" in shown
    assert not first.file(ORDER).exists


def test_incident_can_be_closed_only_after_a_watch_of_its_host(control: Control, first: Any) -> None:
    """R27: from the alert to the closing."""

    def incident(**given: str) -> fleet.Run:
        variables = {**control.variables, "triage_window": 2, "incident_reminder_host": "", **given}
        del variables["minutes"]
        return fleet.play(f"incident_{variables.pop('do')}.yml", variables=variables)

    first.check_output(f"systemctl stop {hosts.SERVICE}")
    assert incident(do="open", lead="Anna").returncode == 0
    records = {"katago_records_dir": str(control.records)}
    run = fleet.play("restart.yml", f"--limit={FIRST.name}", variables=records)
    assert run.returncode == 0, run.output
    early = incident(do="update", status="resolved", resolution="restarted")
    assert early.returncode != 0
    words = " ".join(early.output.split())
    assert f"{FIRST.name} was not watched" in words
    assert "playbooks/watch.yml -e incident=" in words
    assert control.watch().returncode == 0
    first.check_output(f"systemctl stop {hosts.SERVICE}")
    changed = fleet.play("restart.yml", f"--limit={FIRST.name}", variables=records)
    assert changed.returncode == 0, changed.output
    late = incident(do="close", resolution="restarted")
    assert "before restart changed it at" in " ".join(late.output.split())
    assert control.watch().returncode == 0
    closed = incident(do="close", resolution="restarted")
    assert closed.returncode == 0, closed.output
    assert f"watch on {FIRST.name}: ok. recovered" in closed.output
