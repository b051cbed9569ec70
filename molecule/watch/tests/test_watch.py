"""R26, R27: a window goes on without the controller, any fault begins it anew, unknown is not recovered."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
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
# Samples after which a window has seen most of its time.
LATE = 6


@pytest.fixture(scope="module")
def first() -> Any:
    return hosts.connect(FIRST.name)


@pytest.fixture(scope="module")
def second() -> Any:
    return hosts.connect(SECOND.name)


class Control:
    """The control node with records of its own."""

    def __init__(self, directory: Path) -> None:
        self.records = directory / "records"
        self.variables = {**QUICK, "katago_records_dir": str(self.records)}

    def watch(self, *arguments: str, **given: object) -> fleet.Run:
        """Run playbooks/watch.yml, on the first host unless told otherwise."""
        limit = [] if any(each.startswith("--limit") for each in arguments) else [f"--limit={FIRST.name}"]
        return fleet.play("watch.yml", *limit, *arguments, variables={**self.variables, **given})

    def start(self, limit: str = FIRST.name, **given: object) -> None:
        """Begin a window and leave."""
        run = self.watch(f"--limit={limit}", wait=False, restart=True, **given)
        assert run.returncode == 0, run.output

    def fetch(self, limit: str = FIRST.name) -> str:
        """The verdict that is there."""
        return self.watch(f"--limit={limit}", fetch=True).output

    def wait(self, words: str, within: float, limit: str = FIRST.name) -> str:
        """Read verdicts until one has these words; return it."""
        seen: list[str] = []

        def said() -> bool:
            seen.append(self.fetch(limit))
            return words in seen[-1]

        try:
            fleet.eventually(said, within=within, what=words)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{seen[-1]}") from None
        return seen[-1]

    def lines(self, incident: str = "*") -> list[dict[str, Any]]:
        """What the timeline has of watches."""
        (path,) = self.records.glob(f"incidents/{incident}/timeline.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in lines if line.get("procedure") == "watch"]


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return Control(tmp_path)


def zombies(host: Any) -> int:
    """Dead children that the sampler did not take notice of."""
    return int(host.check_output("ps -eo stat,comm | grep --count '^Z.*katago-watch' || true"))


def taken(host: Any) -> int:
    """How many samples there are."""
    seen = host.run(f'grep --count \'"event": "sample"\' {SAMPLES}').stdout.strip()
    return int(seen or 0)


def sampled(host: Any, count: int) -> None:
    """Wait for samples of a window."""
    fleet.eventually(lambda: taken(host) >= count, within=90, what=f"{count} samples")


def engine(host: Any) -> str:
    """The process of the engine."""
    found: str = host.check_output(
        f"pgrep --parent {hosts.main_pid(host)} --full /opt/katago/engines | head -1"
    )
    return found


@pytest.fixture(autouse=True)
def _services_are_left_well(first: Any, second: Any) -> Iterator[None]:
    yield
    for host, target in ((first, FIRST), (second, SECOND)):
        host.run(f"systemctl stop {UNIT}; rm -f {ORDER} {SAMPLES}")
        host.run(f"systemctl reset-failed {hosts.SERVICE}; systemctl start {hosts.SERVICE}")
        fleet.eventually(
            lambda target=target: fleet.get(target, "/ready")[0] == 200, within=90, what="ready again"
        )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"minutes": 14, "watch_bounds": [15, 120]}, "-e minutes=14 is out of bounds; give 15 to 120."),
        ({"minutes": 121, "watch_bounds": [15, 120]}, "-e minutes=121 is out of bounds; give 15 to 120."),
        ({"watch_interval": 16}, "watch_interval is 16; give 1 to 15."),
        ({"minuts": 15}, "-e minuts is no variable of this playbook; did you mean minutes?"),
    ],
)
def test_what_makes_no_window_is_refused(
    control: Control, first: Any, given: dict[str, object], words: str
) -> None:
    run = control.watch(**given)
    assert run.returncode != 0
    assert "Refused; nothing was changed on this host." in run.output
    assert words in " ".join(run.output.split())
    assert not first.file(ORDER).exists


def test_check_mode_says_what_it_would_do(control: Control, first: Any) -> None:
    run = control.watch("--check")
    assert run.returncode == 0, run.output
    assert "would begin a window" in run.output
    assert not first.file(ORDER).exists
    assert not control.records.exists()


def test_hosts_that_stay_well_recover_at_the_same_time(control: Control, first: Any, second: Any) -> None:
    before = [hosts.untouched(host) for host in (first, second)]
    run = control.watch("--limit=all", incident="i-1")
    assert run.returncode == 0, run.output
    assert run.output.count("recovered  -     well for 1.") == 2
    assert [hosts.untouched(host) for host in (first, second)] == before
    for host in (first, second):
        assert host.run(f"systemctl is-active {UNIT}").stdout.strip() == "inactive"
        assert not host.file(ORDER).exists
        assert host.file(SAMPLES).mode == 0o600
    recovered = [line for line in control.lines("i-1") if line["result"] == "ok"]
    assert {line["host"] for line in recovered} == {FIRST.name, SECOND.name}
    assert all(line["watch"]["began"] < line["watch"]["ended"] for line in recovered)
    # A window that ended is told, and not begun anew.
    samples = taken(first)
    again = control.watch()
    assert again.returncode == 0, again.output
    assert "is joined: recovered" in again.output
    assert taken(first) == samples
    # Nor is one that is there while the service is another one.
    first.check_output(f"systemctl restart {hosts.SERVICE}")
    fleet.eventually(lambda: fleet.get(FIRST, "/ready")[0] == 200, within=90, what="ready again")
    control.watch(wait=False)
    assert taken(first) < samples


def test_fault_near_the_end_begins_the_window_anew(control: Control, first: Any, second: Any) -> None:
    """R26: a fault at minute 14. The engine of one host is killed, the service of the other restarted."""
    control.start("all")
    sampled(first, LATE)
    first.check_output(f"kill -KILL {engine(first)}")
    second.check_output(f"systemctl restart {hosts.SERVICE}")
    control.wait(f"{FIRST.name}  breached", within=60)
    told = control.wait(f"{SECOND.name}  breached", within=60, limit=SECOND.name)
    assert f"ansible-playbook playbooks/triage.yml -l {SECOND.name}" in told
    joined = control.watch("--limit=all")
    assert joined.returncode == 0, joined.output
    assert joined.output.count("recovered  -") == 2
    assert joined.output.count(" breach: ") >= 2


def test_service_that_fails_its_analyses_is_breached_at_once(control: Control, first: Any) -> None:
    """Whoever waits is told at the breach, not at the end."""
    control.start()
    sampled(first, 2)
    pid = hosts.main_pid(first)
    first.check_output(f"kill -STOP {pid}")
    try:
        run = control.watch()
    finally:
        # Its watchdog may have ended it meanwhile.
        first.run(f"kill -CONT {pid}")
    assert run.returncode != 0
    assert f"Not recovered: {FIRST.name} is breached" in run.output
    assert re.search("frozen|gave no answer|katago-mcp.service is", run.output)


def test_window_goes_on_when_the_controller_is_killed_and_the_same_command_joins_it(
    control: Control, first: Any
) -> None:
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
    begun = first.check_output(f"head -1 {SAMPLES}")
    sampled(first, 4)
    assert zombies(first) < 10
    joined = control.watch()
    assert joined.returncode == 0, joined.output
    assert "is joined: watching" in joined.output
    assert first.check_output(f"head -1 {SAMPLES}") == begun
    assert joined.changed == {FIRST.name: 0}


def test_other_terms_do_not_join_and_restart_begins_anew(control: Control, first: Any) -> None:
    control.start()
    sampled(first, 2)
    other = control.watch(minutes=2)
    assert other.returncode != 0
    assert "has it watched since" in other.output
    assert "with minutes 1." in " ".join(other.output.split())
    begun = first.check_output(f"head -1 {SAMPLES}")
    control.start()
    assert first.check_output(f"head -1 {SAMPLES}") != begun


def test_service_without_traffic_is_unknown(control: Control) -> None:
    run = control.watch(watch_probes=False)
    assert run.returncode != 0
    assert "but too quiet to tell: 0 of 10 requests" in run.output
    assert f"Not recovered: {FIRST.name} is unknown" in run.output


def test_sampler_that_is_killed_goes_on_and_one_that_is_stopped_is_unknown(
    control: Control, first: Any
) -> None:
    control.start(minutes=5)
    sampled(first, 2)
    before = taken(first)
    first.check_output(f"systemctl kill --signal=KILL {UNIT}")
    sampled(first, before + 2)
    assert "watching" in control.fetch()
    first.check_output(f"systemctl stop {UNIT}")
    assert "the sampler does not run; its last sample is of" in control.fetch()


def test_host_that_is_frozen_for_a_while_has_not_recovered_meanwhile(control: Control, first: Any) -> None:
    control.start()
    sampled(first, 3)
    runtime.podman("pause", FIRST.container)
    try:
        gone = control.watch(fetch=True)
        assert "unknown" in gone.output
        assert gone.returncode != 0
        time.sleep(30)
    finally:
        runtime.podman("unpause", FIRST.container)
    told = control.wait("the window began anew", within=90)
    assert "recovered  -" not in told


@pytest.mark.parametrize("gone", [fleet.frozen, fleet.absent])
def test_host_that_is_gone_is_unknown_and_costs_the_others_nothing(
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
    """A disk without room over a directory, as a copy of it."""
    host.check_output("mkdir -p /mnt/full && mount -t tmpfs -o size=256k tmpfs /mnt/full")
    host.check_output(f"cp --archive {directory}/. /mnt/full; mount --bind /mnt/full {directory}")
    host.run("dd if=/dev/zero of=/mnt/full/filler bs=1k")
    try:
        yield
    finally:
        host.check_output(f"umount --lazy {directory} /mnt/full")


def test_full_disk_of_the_sampler_is_no_breach_and_no_recovery(control: Control, first: Any) -> None:
    before = hosts.main_pid(first)
    control.start()
    sampled(first, 3)
    with full(first, "/run/katago-watch"):
        control.wait("no sample for", within=150)
        assert first.run(f"systemctl is-active {UNIT}").stdout.strip() == "active"
        assert "No space left" in first.check_output(f"journalctl --quiet --unit={UNIT} --lines=3")
    told = control.wait("no sample for", within=60)
    assert "recovered  -" not in told
    assert hosts.main_pid(first) == before


def test_full_disk_of_the_service_does_not_stop_the_sampler(control: Control, first: Any) -> None:
    with hosts.no_space(first):
        run = control.watch()
    assert run.returncode == 0, run.output


def test_read_only_disk_is_told_in_a_sentence(control: Control, first: Any) -> None:
    with hosts.read_only(first):
        run = control.watch()
    assert run.returncode != 0
    assert "The service cannot be watched" in run.output or "cannot be installed" in run.output
    assert "Read-only file system" in run.output
    assert "Traceback" not in run.output


def test_reboot_ends_the_window_and_the_host_begins_another_by_itself(control: Control, first: Any) -> None:
    control.start()
    sampled(first, 3)
    runtime.podman("restart", "--time=5", FIRST.container)
    fleet.eventually(lambda: fleet.get(FIRST, "/ready")[0] == 200, within=90, what="ready after the boot")
    told = control.wait("the host was rebooted", within=60)
    assert "recovered  -" not in told
    told = control.wait("recovered  -", within=180)
    assert "the host was rebooted" in told
    assert not first.file(ORDER).exists


def test_incident_ends_after_its_host_was_watched_and_not_before(control: Control, first: Any) -> None:
    """R27: from the alert to the end."""

    def incident(**given: str) -> fleet.Run:
        variables = {**control.variables, "triage_window": 2, "incident_reminder_host": "", **given}
        del variables["minutes"]
        return fleet.play("incident.yml", variables=variables)

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
    assert "and changed by restart at" in " ".join(late.output.split())
    assert control.watch().returncode == 0
    closed = incident(do="close", resolution="restarted")
    assert closed.returncode == 0, closed.output
    assert f"watch on {FIRST.name}: ok. recovered" in closed.output
