"""R39: hosts repair themselves without control node and network, within bounds, or call a person."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import runtime
from lab.hosts import Host
from tests import fleet, hosts

TARGET = fleet.LAB.hosts()[0]
LIMIT = f"--limit={TARGET.name}"
DIRECTORY = "/var/lib/katago-self-healing"
UNIT = "katago-self-healing@check.service"
# Seconds: two rounds of the timer, and a repair on a busy machine.
REPAIRED = 240
# What a person would do after a repair, so that each test has the whole budget.
FORGET = f"""
import fcntl, json, pathlib
guard = open("/run/katago-self-healing.guard", "w")
fcntl.flock(guard, fcntl.LOCK_EX)
path = pathlib.Path("{DIRECTORY}/state.json")
state = json.loads(path.read_text())
path.write_text(json.dumps(state | {{"repairs": [], "escalation": None, "status": "idle", "why": ""}}))
"""
# Makes the repairs of the last hour older, as if the host had run on.
AGE = """
import fcntl, json, pathlib
guard = open("/run/katago-self-healing.guard", "w")
fcntl.flock(guard, fcntl.LOCK_EX)
path = pathlib.Path("/var/lib/katago-self-healing/state.json")
state = json.loads(path.read_text())
state["clock"]["total"] += SECONDS
path.write_text(json.dumps(state))
"""
# Kills the service until systemd gives up.
FAIL = """
while [ "$(systemctl show katago-mcp.service --property=ActiveState --value)" != failed ]; do
  systemctl kill --kill-who=all --signal=KILL katago-mcp.service; sleep 0.2
done 2>/dev/null
"""


class Inside:
    """The host as a person at its console sees it. Works without network."""

    def __init__(self, target: Host) -> None:
        self._container = target.container

    def run(self, script: str) -> str:
        """Run a script of the shell; return its output."""
        return runtime.podman("exec", self._container, "bash", "-c", script)

    def python(self, source: str) -> str:
        return self.run(f"python3 - <<'END'\n{source}\nEND")

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.run(f"cat {DIRECTORY}/state.json"))
        return state

    def events(self) -> list[dict[str, Any]]:
        """The log of repairs."""
        lines = self.run(f"cat {DIRECTORY}/repairs.jsonl 2>/dev/null || true").splitlines()
        return [json.loads(line) for line in lines]

    def is_ready(self) -> bool:
        code = self.run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/ready || true")
        return code.strip() == "200"

    def journal(self, since: str, *arguments: str) -> str:
        """What the program wrote to the journal since a time."""
        options = " ".join(arguments)
        return self.run(
            f"journalctl --unit='katago-self-healing@*' --since='{since}' --output=cat {options} || true"
        )

    def now(self) -> str:
        return self.run("date '+%F %T'").strip()

    def check(self) -> None:
        """Run the program now, and wait for it."""
        self.run(f"systemctl start {UNIT}")

    def status(self, status: str, within: float = REPAIRED) -> dict[str, Any]:
        """Wait for a status of the program; return the state."""
        fleet.eventually(lambda: self.state()["status"] == status, within=within, what=f"status {status}")
        return self.state()


@pytest.fixture(scope="module")
def inside() -> Inside:
    return Inside(TARGET)


@pytest.fixture(scope="module")
def host() -> Any:
    return hosts.connect(TARGET.name)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    run = fleet.play("self_healing.yml", LIMIT)
    assert run.returncode == 0, run.output
    again = fleet.play("self_healing.yml", LIMIT)
    assert (again.returncode, again.changed[TARGET.name]) == (0, 0), again.output


@pytest.fixture(autouse=True)
def fresh(inside: Inside) -> Iterator[None]:
    """A host that works, with the whole budget."""
    inside.python(FORGET)
    # The journal still has the faults of the last test, and limits may be lowered.
    inside.run("journalctl --rotate && journalctl --vacuum-time=1s && rm -f /var/lib/katago-mcp/overlay.json")
    inside.run("systemctl reset-failed katago-mcp.service; systemctl restart katago-mcp.service")
    fleet.eventually(inside.is_ready, within=120, what="the service is ready")
    yield
    inside.run(f"rm -f /run/katago-mcp.lock /run/katago-self-healing.paused {DIRECTORY}/paused")


def repair(inside: Inside, count: int, within: float = REPAIRED) -> dict[str, Any]:
    """Wait until the log has a finished repair beyond the first `count` events; return its event."""

    def finished() -> list[dict[str, Any]]:
        return [each for each in inside.events()[count:] if each["event"] in ("repaired", "failed")]

    fleet.eventually(lambda: bool(finished()), within=within, what="a repair has finished")
    return finished()[-1]


def assert_evidence(inside: Inside, event: dict[str, Any], host_events: list[dict[str, Any]]) -> None:
    """The evidence is whole, and older than the end of the repair."""
    started = next(each for each in host_events if each["id"] == event["id"] and each["event"] == "started")
    assert started["evidence"] == event["evidence"]
    manifest = json.loads(inside.run(f"cat {event['evidence']}/manifest.json"))
    names = {item["name"] for item in manifest}
    assert {"processes.txt", "journal.jsonl", "unit.txt"} <= names
    lines = "\n".join(f"{item['sha256']}  {item['name']}" for item in manifest if item["sha256"])
    inside.run(f"cd {event['evidence']} && sha256sum --check --quiet <<'END'\n{lines}\nEND")


def deploy(visits: int) -> None:
    run = fleet.play("deploy.yml", LIMIT, variables={"katago_mcp_max_visits": visits})
    assert run.returncode == 0, run.output


@contextlib.contextmanager
def without_network(target: Host) -> Iterator[None]:
    network = fleet.LAB.name
    runtime.podman("network", "disconnect", network, target.container)
    try:
        yield
    finally:
        runtime.podman("network", "connect", network, target.container)


def test_failed_service_is_restarted_without_network(inside: Inside) -> None:
    count = len(inside.events())
    with without_network(TARGET):
        inside.run(FAIL)
        event = repair(inside, count)
        assert inside.is_ready()
    assert (event["repair"], event["event"]) == ("restart", "repaired")
    assert "is validated" in event["message"]
    assert_evidence(inside, event, inside.events())
    state = inside.status("idle")
    assert [each["result"] for each in state["repairs"]] == ["repaired"]


def test_release_that_fails_after_its_deployment_is_rolled_back(inside: Inside, host: Any) -> None:
    deploy(970)
    good = hosts.current(host)
    deploy(960)
    bad = hosts.current(host)
    count = len(inside.events())
    # The release is not complete, so it does not start again.
    inside.run(f"mv /opt/katago-mcp/releases/{bad}/venv/bin/katago-mcp /root/ && {FAIL}")
    event = repair(inside, count)
    assert (event["repair"], event["event"]) == ("roll_back", "repaired"), event
    assert hosts.current(host) == good
    records = hosts.history(host)
    assert [(each["release"], each["verdict"]) for each in records[-3:]] == [
        (bad, "bad"),
        (good, None),
        (good, "good"),
    ]
    assert records[-2]["how"] == "rollback"
    assert inside.is_ready()
    assert_evidence(inside, event, inside.events())
    inside.run(f"mv /root/katago-mcp /opt/katago-mcp/releases/{bad}/venv/bin/")


def test_damaged_cache_is_quarantined(inside: Inside) -> None:
    count = len(inside.events())
    # As many files as the server itself quarantines.
    inside.run(
        "cd /var/cache/katago-mcp && for n in 1 2 3 4 5 6 7 8; do touch answers.sqlite3.damaged-$n; done"
        " && rm -f answers.sqlite3-wal answers.sqlite3-shm && head -c 20000 /dev/urandom > new"
        " && chown katago-mcp: new answers.sqlite3* && mv new answers.sqlite3"
    )
    # Fails or not: its analyses use the cache.
    fleet.play("validate.yml", LIMIT)
    event = repair(inside, count)
    assert (event["repair"], event["event"]) == ("quarantine_cache", "repaired"), event
    assert "answers.sqlite3" in inside.run("ls /var/cache/katago-mcp-quarantine")
    assert inside.is_ready()
    assert_evidence(inside, event, inside.events())


def test_engine_that_fails_again_and_again_gets_lower_limits(inside: Inside) -> None:
    count = len(inside.events())
    for _ in range(3):
        fleet.eventually(inside.is_ready, within=120, what="the engine is ready")
        inside.run("pkill --signal KILL --full 'katago analysis'")
        time.sleep(2)
    event = repair(inside, count)
    assert (event["repair"], event["event"]) == ("lower_limits", "repaired"), event
    overlay = json.loads(inside.run("cat /var/lib/katago-mcp/overlay.json"))
    assert overlay["who"] == "self-healing"
    assert inside.run("systemctl is-active katago-mcp-overlay-expiry.timer").strip() == "active"
    assert_evidence(inside, event, inside.events())
    # The failures stay in the journal for a while, and are not taken for new ones.
    inside.check()
    assert inside.state()["status"] == "waiting"


def test_disk_that_fills_up_is_freed(inside: Inside) -> None:
    count = len(inside.events())
    inside.run(
        "journalctl --rotate; cd /var/log/journal/*/ && archived=$(ls system@*.journal | head -1)"
        " && for n in $(seq 10 49); do cp -p $archived $(echo $archived | sed s/@../@$n/); done"
        " && used=$(df --output=used -k . | tail -1)"
        " && mount -o remount,size=$((used + 2048))k /var/log/journal"
    )
    try:
        event = repair(inside, count)
        assert (event["repair"], event["event"]) == ("free_disk", "repaired"), event
        assert_evidence(inside, event, inside.events())
    finally:
        inside.run("mount -o remount,size=50% /var/log/journal")


def test_repair_that_does_not_help_stops_and_calls_a_person(inside: Inside, host: Any) -> None:
    since, count = inside.now(), len(inside.events())
    with hosts.drop_in(host, "ExecStart=", "ExecStart=/bin/false"):
        inside.run(FAIL)
        event = repair(inside, count)
        assert (event["repair"], event["event"]) == ("restart", "failed"), event
        state = inside.status("stopped")
        assert state["escalation"]["stops"] is True
        inside.check()
        assert len([each for each in inside.events()[count:] if each["event"] == "started"]) == 1
    critical = inside.journal(since, "--priority=crit")
    assert critical.count("Self-healing has stopped on this host") == 1
    assert "healing_resume.yml" in critical
    run = fleet.play("healing_resume.yml", LIMIT, variables={"why": "the drop-in was removed"})
    assert run.returncode == 0, run.output
    assert "stopped since" in run.output
    inside.run(FAIL)
    # The same repair was made less than an hour ago: the budget was not restored.
    assert "did not last" in inside.status("stopped")["why"]


def test_used_up_budget_calls_a_person(inside: Inside) -> None:
    since, count = inside.now(), len(inside.events())
    inside.run(FAIL)
    repair(inside, count)
    inside.python(AGE.replace("SECONDS", "4000"))
    inside.run("systemctl reset-failed katago-mcp.service")
    # Three more of another kind would be possible within a day, but only one within the hour.
    state = inside.state()
    state["repairs"].append({**state["repairs"][0], "id": "x", "repair": "free_disk"})
    state["repairs"][1]["total"] = state["clock"]["total"] - 700
    state["repairs"].append({**state["repairs"][1], "id": "y", "repair": "quarantine_cache"})
    inside.run(f"cat > {DIRECTORY}/state.json <<'END'\n{json.dumps(state)}\nEND")
    inside.run(FAIL)
    stopped = inside.status("stopped")
    assert "the budget of 2 repairs in an hour is used up" in stopped["why"]
    assert "budget" in inside.journal(since, "--priority=crit")
    assert not inside.is_ready()


def test_pause_keeps_the_host_from_repairs_until_it_is_resumed(inside: Inside, tmp_path: Path) -> None:
    records = {"katago_records_dir": str(tmp_path / "records")}
    run = fleet.play("healing_pause.yml", LIMIT, variables={"why": "a disk is replaced", **records})
    assert run.returncode == 0, run.output
    assert "paused since" in run.output
    count = len(inside.events())
    inside.run(FAIL)
    state = inside.status("paused")
    inside.check()
    assert "a disk is replaced" in state["why"]
    assert inside.events()[count:] == []
    run = fleet.play("healing_resume.yml", LIMIT, variables={"why": "it is replaced", **records})
    assert run.returncode == 0, run.output
    inside.check()
    assert repair(inside, count)["repair"] == "restart"
    # The next procedure takes what the host did to the timeline, once.
    for _ in range(2):
        run = fleet.play("healing_resume.yml", LIMIT, variables={"why": "none", **records})
        assert run.returncode == 0, run.output
    (path,) = (tmp_path / "records").glob("incidents/*/timeline.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    done = [line["result"] for line in lines if line.get("who") == "self-healing"]
    assert done[-2:] == ["begun", "changed"]
    assert len(done) == len({json.dumps(line) for line in lines if line.get("who") == "self-healing"})


def test_locked_host_is_left_to_its_holder(inside: Inside) -> None:
    lock = {"owner": "anna@control", "procedure": "restart", "run": "x", "since": "2026-11-29T17:00:00Z"}
    inside.run(f"echo '{json.dumps(lock)}' > /run/katago-mcp.lock")
    count = len(inside.events())
    inside.run(FAIL)
    state = inside.status("blocked")
    assert "anna@control has locked the host for restart" in state["why"]
    assert state["escalation"] is None
    inside.check()
    assert inside.events()[count:] == []
    inside.run("rm /run/katago-mcp.lock")
    inside.check()
    assert repair(inside, count)["event"] == "repaired"


def test_host_in_security_mode_is_not_touched(inside: Inside) -> None:
    count = len(inside.events())
    inside.run("echo '{}' > /run/katago-security.json")
    try:
        inside.run(FAIL)
        state = inside.status("blocked")
        assert "security mode" in state["escalation"]["why"]
        assert [each["event"] for each in inside.events()[count:]] == ["escalated"]
        assert not inside.is_ready()
    finally:
        inside.run("rm /run/katago-security.json")


def test_changed_release_is_evidence(inside: Inside, host: Any) -> None:
    count = len(inside.events())
    file = f"/opt/katago-mcp/releases/{hosts.current(host)}/analysis.cfg"
    inside.run(f"cp -p {file} /root/ && echo '# changed' >> {file}")
    try:
        inside.run(FAIL)
        state = inside.status("blocked")
        assert "evidence of an intrusion" in state["escalation"]["why"]
        assert [each["event"] for each in inside.events()[count:]] == ["escalated"]
    finally:
        inside.run(f"mv /root/analysis.cfg {file}")


def test_dry_run_only_says_what_it_would_do(inside: Inside) -> None:
    run = fleet.play("self_healing.yml", LIMIT, variables={"self_healing_dry_run": True})
    assert run.returncode == 0, run.output
    try:
        count = len(inside.events())
        inside.run(FAIL)
        state = inside.status("would_repair")
        assert "would restart the service by force" in state["why"]
        assert [each["event"] for each in inside.events()[count:]] == ["would_repair"]
        assert not inside.is_ready()
    finally:
        run = fleet.play("self_healing.yml", LIMIT)
        assert run.returncode == 0, run.output


def test_program_is_killed_in_the_middle_of_a_repair(inside: Inside) -> None:
    count = len(inside.events())
    inside.run(FAIL)
    fleet.eventually(
        lambda: any(each["event"] == "started" for each in inside.events()[count:]),
        within=REPAIRED,
        what="a repair has started",
    )
    inside.run("systemctl kill --signal=KILL 'katago-self-healing@*.service'")
    state = inside.status("stopped")
    assert "interrupted" in state["why"]
    assert inside.run("ls /run/katago-mcp.lock 2>/dev/null || true") == ""


def test_lost_state_stops_the_program(inside: Inside) -> None:
    inside.run(f"echo '{{' > {DIRECTORY}/state.json")
    inside.check()
    state = inside.status("stopped")
    assert "the record of earlier repairs is lost" in state["why"]
    assert inside.run(f"ls {DIRECTORY} | grep --count damaged").strip() == "1"
    inside.run(f"rm {DIRECTORY}/state.json.damaged-*")


def test_program_needs_little_time_and_few_rights(inside: Inside) -> None:
    inside.check()
    used = inside.run(f"systemctl show {UNIT} --property=CPUUsageNSec --value").strip()
    exposure = inside.run(f"systemd-analyze security {UNIT} --no-pager | tail -1")
    assert float(exposure.split(":")[1].split()[0]) < 6, exposure
    # Where the kernel counts it: less than 1 % of a processor, at one run a minute.
    assert used == "[not set]" or int(used) < 600_000_000


def test_removed_program_leaves_only_its_records(inside: Inside) -> None:
    run = fleet.play("self_healing.yml", LIMIT, variables={"self_healing_enabled": False})
    assert run.returncode == 0, run.output
    left = inside.run(
        "find /etc /usr/local /run /var/lib -path '*self-healing*' -not -path '*/evidence/*' 2>/dev/null"
    )
    assert all(path.startswith((DIRECTORY, "/run/katago-self-healing.guard")) for path in left.split())
    assert inside.run("systemctl show katago-mcp.service --property=OnFailure --value").strip() == ""
    run = fleet.play("healing_pause.yml", LIMIT, variables={"why": "test"})
    assert (run.returncode, "is not installed" in run.output) == (0, True)
