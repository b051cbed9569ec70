"""Security mode of hosts that may be compromised: evidence, isolation, and escalation."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from lab import paths, runtime
from lab.hosts import Host
from tests import fleet, hosts, loopback

FIRST, SECOND = fleet.LAB.hosts()
LIMIT = f"--limit={FIRST.name}"
QUICK = {"triage_window": 3, "triage_patience": 60}
VOLATILE = "/run/katago-security.json"
LASTING = "/var/lib/katago-security"
UNIT = "/etc/systemd/system/katago-security.service"
TABLE = "nft list table inet katago_security"
WHY = "40 logins a second from an unknown network"
# Firewall rules of the site itself. After the end of the mode they must be unchanged, byte for byte.
SITE_RULES = """
table inet site {
	set friends {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.7 }
	}
	chain input {
		type filter hook input priority 0; policy accept;
		ip saddr @friends tcp dport 8080 accept
	}
}
"""
STATE = (
    "find /opt/katago-mcp /opt/katago /etc/katago-mcp /var/lib/katago-mcp /var/lib/katago-security"
    " /etc/systemd/system /var/lib/katago-watch"
    " /usr/local/sbin -path /var/lib/katago-mcp/engine -prune -o -printf '%p %s %T@ %l\\n' | sort"
)
MUTATORS: dict[str, dict[str, Any]] = {
    "restart.yml": {"force": "true"},
    "purge_cache.yml": {},
    "rollback.yml": {},
    "deploy.yml": {},
    "mitigate.yml": {"visits": 10, "why": "load"},
    "restore.yml": {},
    "site.yml": {},
    "watch.yml": {},
    "gpu_driver.yml": {},
    "baseline.yml": {},
}


@pytest.fixture(scope="module")
def first() -> Any:
    """The host that may be compromised."""
    return hosts.connect(FIRST.name)


@pytest.fixture(scope="module")
def second() -> Any:
    """The other host."""
    return hosts.connect(SECOND.name)


@pytest.fixture(scope="module")
def server() -> Iterator[loopback.Http]:
    """The receiver of an incident's messages."""
    with loopback.http() as started:
        yield started


class Control:
    """The control node with its own records, channels and roster."""

    def __init__(self, directory: Path, server: loopback.Http) -> None:
        self.directory = directory
        self.records = directory / "records"
        sink = {"name": "pager", "kind": "webhook", "url": f"http://127.0.0.1:{server.port}/"}
        contacts = {
            role: {"name": role.title(), "email": f"{role}@go.net"}
            for role in ("senior", "developers", "security")
        }
        self.variables = {
            **QUICK,
            "katago_records_dir": str(self.records),
            "incident_reminder_host": "",
            "incident_channels": [{"group": "all", "audience": "team", "channels": [sink]}],
            "incident_roster": {"verify_by": "2999-01-01", "contacts": contacts},
        }

    def play(self, playbook: str, *arguments: str, kill_before: int | None = None, **given: Any) -> fleet.Run:
        """Run a playbook with these records."""
        variables = {**self.variables, **given}
        return fleet.play(playbook, *arguments, variables=variables, kill_before=kill_before)

    def security(self, do: str, *arguments: str, **given: Any) -> fleet.Run:
        """Run playbooks/security_VERB.yml, where `do` is the verb."""
        return self.play(f"security_{do}.yml", *arguments, **given)

    def triage(self, *arguments: str) -> dict[str, Any]:
        """Run a triage; its report."""
        path = self.directory / "triage.json"
        run = self.play("triage.yml", *arguments, triage_json=str(path))
        assert run.returncode == 0, run.output
        report: dict[str, Any] = json.loads(path.read_text())
        return report

    def lines(self, name: str, incident: str = "*") -> list[dict[str, Any]]:
        """The lines of a file of an incident."""
        (path,) = self.records.glob(f"incidents/{incident}/{name}")
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory, server: loopback.Http) -> Control:
    """One control node for all tests."""
    return Control(tmp_path_factory.mktemp("control"), server)


class Burglar:
    """An attacker who tries one token after the other until the block ends."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._try)
        self.answers: list[int] = []

    def _try(self) -> None:
        while not self._end.is_set():
            guess = {"Authorization": f"Bearer guess-{len(self.answers)}"}
            self.answers.append(fleet.get(self._host, "/mcp", method="POST", headers=guess)[0])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def lives(host: Any) -> str:
    """Every process of the service, with its start time."""
    group = host.check_output(f"systemctl show {hosts.SERVICE} --property=ControlGroup --value")
    files = f"/sys/fs/cgroup{group}/cgroup.procs /sys/fs/cgroup/*{group}/cgroup.procs"
    pids = ",".join(sorted(set(host.run(f"cat {files} 2>/dev/null").stdout.split())))
    assert pids
    shown: str = host.check_output(f"ps -o pid=,lstart=,args= -p {pids}")
    return shown


def answers(host: Host) -> tuple[int, int]:
    """The statuses that a client and Prometheus get; 0 without a response."""
    return (
        fleet.get(host, "/health", seconds=3)[0],
        fleet.get(host, "/metrics", service="metrics", seconds=3)[0],
    )


def serve_until_silence(host: Host) -> int:
    """The number of requests on one connection that get a response before its packets are dropped."""
    count = 0
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", host.ports["mcp"], timeout=10)) as client:
        while True:
            try:
                client.request("GET", "/health")
                answer = client.getresponse()
                answer.read()
            except TimeoutError:
                return count
            assert answer.status == 200
            count += 1
            time.sleep(0.5)


def firewall(host: Any) -> str:
    """All firewall rules of the host."""
    rules: str = host.check_output("nft list ruleset")
    return rules


def login_by_ssh(host: Host) -> str:
    """The host name that a new SSH connection reports."""
    login = ["ssh", *fleet.LAB.ssh_arguments().split(), "-o", "ControlPath=none", "-i", str(fleet.LAB.key)]
    login += ["-p", str(host.ports["ssh"]), "root@127.0.0.1", "hostname"]
    return subprocess.run(login, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


def is_up(host: Host) -> bool:
    """Whether both SSH and the service run."""
    try:
        runtime.exec_in(host.container, ["systemctl", "is-active", "--quiet", "ssh.service"])
        runtime.exec_in(host.container, ["systemctl", "is-active", "--quiet", hosts.SERVICE])
    except runtime.PodmanError:
        return False
    return True


def messages(server: loopback.Http) -> list[str]:
    """The texts of the messages that were sent."""
    return [body["text"] for _, _, body in server.requests]


def test_burst_of_refused_logins_is_found_and_escalated_to_security_once(
    control: Control, server: loopback.Http
) -> None:
    calm = control.triage()
    assert not [each for each in calm["hosts"][FIRST.name]["reasons"] if each["suspicious"]]
    with Burglar(FIRST) as burglar:
        report = control.triage()
    assert set(burglar.answers) == {401}
    verdict = report["hosts"][FIRST.name]
    (reason,) = [each for each in verdict["reasons"] if each["rule"] == "refused_logins"]
    assert reason["level"] == "P1"
    assert verdict["command"].startswith(
        f"ansible-playbook playbooks/security_on.yml -l {FIRST.name} -e 'why="
    )
    assert "unusual access" in verdict["escalate"]
    assert any("restarting destroys evidence" in note for note in verdict["notes"])
    assert not [each for each in report["hosts"][SECOND.name]["reasons"] if each["suspicious"]]

    given: dict[str, Any] = {"triage_json": str(control.directory / "triage.json")}
    predicted = control.play("incident_open.yml", "--check", **given)
    assert predicted.returncode == 2, predicted.output
    assert "Would escalate to security: " in predicted.output
    assert server.requests == []
    for _ in range(2):
        # Without a lead nothing can be declared; the escalation to security happens anyway.
        assert "declaration was not sent" in control.play("incident_open.yml", **given).output
    (call,) = messages(server)
    assert call.startswith("ESCALATION NEEDED: KataGo MCP Server incident")
    assert f"Why escalating: {FIRST.name}: refused_logins: " in call
    assert "Next person: Security (security)" in call
    escalated = [line for line in control.lines("state.jsonl") if line["event"] == "escalated"]
    assert [(line["to"], line["automatic"]) for line in escalated] == [("security", True)]


def test_check_mode_predicts_and_changes_nothing(control: Control, first: Any) -> None:
    before = firewall(first)
    run = control.security("on", LIMIT, "--check", "--diff", why=WHY)
    assert run.returncode == 0, run.output
    assert "tcp dport { 8080, 9090 } drop" in run.output
    assert firewall(first) == before
    assert not first.file(VOLATILE).exists
    assert not first.file(LASTING).exists
    assert first.run(f"ls {UNIT} {hosts.LOCK}").stdout == ""


@pytest.mark.parametrize("given", [{}, {"why": " "}], ids=["without why", "with an empty one"])
def test_mode_is_not_changed_without_a_reason(control: Control, first: Any, given: dict[str, str]) -> None:
    run = control.security("on", LIMIT, **given)
    assert run.returncode == 2
    assert "Refused; nothing was changed." in run.output
    assert not first.file(VOLATILE).exists


@pytest.fixture(scope="module")
def before(first: Any) -> dict[str, str]:
    """The firewall of the site and the processes, before the mode."""
    first.check_output(f"nft -f - <<'END'\n{SITE_RULES}\nEND")
    return {"firewall": firewall(first), "lives": lives(first)}


def test_mode_cuts_clients_off_and_stops_nothing(
    control: Control, first: Any, before: dict[str, str]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve_until_silence, FIRST)
        run = control.security("on", LIMIT, why=WHY)
        assert run.returncode == 0, run.output
        # The connection stayed open, but its packets were dropped.
        assert served.result(timeout=60) > 1
    assert answers(FIRST) == (0, 0)
    assert min(answers(SECOND)) == 200
    assert login_by_ssh(FIRST) == FIRST.name
    assert (
        first.check_output(
            "curl --silent --output /dev/null --write-out '%{http_code}' localhost:8080/health"
        )
        == "200"
    )
    assert lives(first) == before["lives"]
    assert before["firewall"] in firewall(first)
    for path in (VOLATILE, f"{LASTING}/mode.json"):
        file = first.file(path)
        assert (file.user, file.mode) == ("root", 0o600)
        assert json.loads(file.content_string)["why"] == WHY


def test_all_evidence_was_collected_before_anything_was_changed(control: Control, first: Any) -> None:
    newest = max(control.records.glob(f"evidence/*/{FIRST.name}/*"))
    lines = [json.loads(line) for line in (newest / "manifest.jsonl").read_text().splitlines()]
    assert {line["entry"].get("tier") for line in lines} >= {"hot", "full"}
    firewall_rules = (newest / "firewall.txt").read_text()
    assert "table inet site" in firewall_rules
    assert "katago_security" not in firewall_rules
    events = [line for line in control.lines("timeline.jsonl") if line.get("procedure") == "security_on"]
    assert [line["result"] for line in events] == ["begun", "changed"]
    assert WHY in events[-1]["message"]


def test_starting_the_mode_again_changes_nothing_and_keeps_the_record(control: Control, first: Any) -> None:
    record = first.file(VOLATILE).content_string
    run = control.security("on", LIMIT, why="another reason")
    assert run.returncode == 0, run.output
    assert run.changed[FIRST.name] == 0
    assert first.file(VOLATILE).content_string == record


@pytest.mark.parametrize("playbook", MUTATORS)
def test_procedure_that_would_change_the_host_is_blocked(
    control: Control, first: Any, before: dict[str, str], playbook: str
) -> None:
    state, rules = first.check_output(STATE), firewall(first)
    run = control.play(playbook, LIMIT, **MUTATORS[playbook])
    assert run.returncode == 2, run.output
    words = " ".join(run.output.split())
    assert f"Refused; nothing was changed on this host. {FIRST.name} is in security mode since " in words
    assert WHY in words
    assert f"playbooks/security_off.yml -l {FIRST.name} -e 'why=" in words
    assert f"next: ansible-playbook playbooks/security_show.yml -l {FIRST.name}" in words.lower()
    assert first.check_output(STATE) == state
    assert firewall(first) == rules
    assert lives(first) == before["lives"]
    assert not first.file(hosts.LOCK).exists


def test_nothing_is_pruned(first: Any) -> None:
    unfinished = "/opt/katago-mcp/releases/0.0.0-unfinished"
    first.check_output(f"mkdir {unfinished}")
    command = ["ansible", FIRST.name, "-m", "katago.fleet.release_prune", "-a", "keep=1"]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
        "LAB_NAME": fleet.LAB.name,
    }
    try:
        subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, check=True)
        assert first.file(unfinished).exists
    finally:
        first.check_output(f"rmdir {unfinished}")


def test_procedures_that_only_read_still_work(control: Control) -> None:
    report = control.triage()
    verdict = report["hosts"][FIRST.name]
    assert {"rule": "security_mode", "level": "P0"}.items() <= verdict["reasons"][0].items()
    assert verdict["command"] == f"ansible-playbook playbooks/security_show.yml -l {FIRST.name}"
    assert any("security mode set by" in change and WHY in change for change in verdict["changes"])
    assert control.play("validate.yml", LIMIT).returncode == 0
    assert control.play("evidence.yml", LIMIT).returncode == 0
    watched = control.play("watch_show.yml", LIMIT)
    assert "in security mode" not in watched.output
    assert f"{FIRST.name} is unknown" in watched.output
    shown = control.security("show", LIMIT)
    assert shown.returncode == 0
    assert "Clients are cut off." in " ".join(shown.output.split())


def test_removed_isolation_is_found_and_restored(control: Control, first: Any) -> None:
    first.check_output("nft delete table inet katago_security")
    assert answers(FIRST) == (200, 200)
    verdict = control.triage(LIMIT)["hosts"][FIRST.name]
    assert "NOT cut off" in verdict["reasons"][0]["measured"]
    assert f"playbooks/security_on.yml -l {FIRST.name}" in verdict["command"]
    # From now on, outgoing traffic of the service's user is dropped too.
    run = control.security("on", LIMIT, why="again", egress=True)
    assert run.returncode == 0, run.output
    assert answers(FIRST) == (0, 0)


def test_outgoing_traffic_of_the_services_user_is_dropped_on_request(first: Any) -> None:
    ask = f"curl --silent --output /dev/null --max-time 4 http://{SECOND.name}:8080/health"
    assert first.run(ask).rc == 0
    assert first.run(f"runuser -u katago-mcp -- {ask}").rc != 0
    assert (
        first.run("runuser -u katago-mcp -- curl --silent --max-time 4 http://localhost:8080/health").rc == 0
    )


def test_mode_and_isolation_survive_a_reboot(control: Control, first: Any) -> None:
    rules = first.check_output(TABLE)
    runtime.podman("restart", "--time=20", FIRST.container)
    fleet.eventually(lambda: is_up(FIRST), within=120, what="the host is up")
    units = f"katago-security.service {hosts.SERVICE}"
    starts = first.check_output(
        f"systemctl show {units} --property=ExecMainStartTimestampMonotonic --value"
    ).split()
    assert int(starts[0]) < int(starts[1])
    assert first.check_output(TABLE) == rules
    assert not first.file(VOLATILE).exists
    assert answers(FIRST) == (0, 0)
    assert login_by_ssh(FIRST) == FIRST.name
    refused = control.play("restart.yml", LIMIT)
    assert f"{FIRST.name} is in security mode" in " ".join(refused.output.split())
    verdict = control.triage(LIMIT)["hosts"][FIRST.name]
    assert verdict["command"].endswith(f"playbooks/security_show.yml -l {FIRST.name}")
    # The reboot removed the site's own rules, which this test loaded by hand.
    first.check_output(f"nft -f - <<'END'\n{SITE_RULES}\nEND")


def test_end_of_the_mode_restores_the_firewall_byte_for_byte(
    control: Control, first: Any, before: dict[str, str]
) -> None:
    alive = lives(first)
    assert control.security("off", LIMIT).returncode == 2
    run = control.security("off", LIMIT, why="it was a client with an old token")
    assert run.returncode == 0, run.output
    assert firewall(first) == before["firewall"]
    fleet.eventually(lambda: min(answers(FIRST)) == 200, within=30, what="clients are served")
    assert lives(first) == alive
    assert not first.file(VOLATILE).exists
    assert not first.file(LASTING).exists
    assert (
        first.run(f"ls {UNIT} /etc/systemd/system/sysinit.target.wants/katago-security.service").stdout == ""
    )
    again = control.security("off", LIMIT, why="x")
    assert again.returncode == 0
    assert again.changed[FIRST.name] == 0
    restarted = control.play("restart.yml", LIMIT)
    assert restarted.returncode == 0, restarted.output
    first.check_output("nft flush ruleset")


@contextlib.contextmanager
def nft_that_hangs(host: Any) -> Iterator[None]:
    """Replaces the host's nft with one that lists tables, but hangs when it must load one."""
    script = '#!/bin/sh\\ncase "$1" in -f) sleep 600;; *) exec /run/nft "$@";; esac\\n'
    host.check_output(f"cp /usr/sbin/nft /run/nft && printf '{script}' > /run/hang && chmod 755 /run/hang")
    host.check_output("mount --bind /run/hang /usr/sbin/nft")
    try:
        yield
    finally:
        host.run("pkill --full 'sleep 600'")
        host.check_output("umount --lazy /usr/sbin/nft && rm /run/nft /run/hang")


def test_killed_run_leaves_the_host_in_the_mode_and_the_next_run_finishes_it(
    control: Control, second: Any
) -> None:
    alive = lives(second)
    variables = json.dumps({**control.variables, "why": WHY})
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
        "LAB_NAME": fleet.LAB.name,
    }
    limit = f"--limit={SECOND.name}"
    with nft_that_hangs(second):
        run = subprocess.Popen(
            ["ansible-playbook", "playbooks/security_on.yml", limit, f"--extra-vars={variables}"],
            cwd=paths.ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            fleet.eventually(
                lambda: second.file(VOLATILE).exists, within=120, what="the mode's record is written"
            )
            assert min(answers(SECOND)) == 200
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        refused = control.play("restart.yml", limit)
    assert f"{SECOND.name} is in security mode" in " ".join(refused.output.split())
    assert lives(second) == alive
    repeated = control.security("on", limit, why="again")
    assert repeated.returncode == 0, repeated.output
    assert answers(SECOND) == (0, 0)
    assert json.loads(second.file(VOLATILE).content_string)["why"] == WHY
    killed = control.security("off", limit, why="over", kill_before=5)
    assert killed.returncode == -signal.SIGKILL
    assert control.security("off", limit, why="over").returncode == 0
    assert second.run(f"ls {VOLATILE} {LASTING} {UNIT}").stdout == ""
    assert second.run(TABLE).rc != 0
    assert lives(second) == alive


def test_host_with_a_read_only_disk_is_in_the_mode_until_a_reboot(control: Control, second: Any) -> None:
    limit = f"--limit={SECOND.name}"
    with hosts.read_only(second):
        run = control.security("on", limit, why=WHY)
        assert run.returncode == 0, run.output
        assert "This does NOT survive a reboot: " in run.output
        assert answers(SECOND) == (0, 0)
        refused = control.play("restart.yml", limit)
        assert f"{SECOND.name} is in security mode" in " ".join(refused.output.split())
        assert control.security("off", limit, why="over").returncode == 0
        assert min(answers(SECOND)) == 200
    assert not second.file(VOLATILE).exists


# A release with a bug: an unexpected exception in the service's own process.
BUG = """
import logging, threading, time
def fail():
    while not logging.getLogger().handlers:
        time.sleep(0.1)
    try:
        {}["never-seen-before"]
    except KeyError:
        logging.getLogger("katago_mcp").exception("call_failed")
threading.Thread(target=fail, daemon=True).start()
"""


def test_new_exception_is_escalated_to_the_developers_once(
    control: Control, second: Any, server: loopback.Http
) -> None:
    second.check_output(f"mkdir -p /run/bug && cat > /run/bug/sitecustomize.py <<'END'\n{BUG}\nEND")
    lead: dict[str, Any] = {"lead": "Anna", "incident": "new-exception"}
    try:
        with hosts.drop_in(second, "Environment=PYTHONPATH=/run/bug"):
            second.check_output(f"systemctl restart {hosts.SERVICE}")
            fleet.eventually(
                lambda: '"call_failed"' in second.check_output(f"journalctl -q -n 50 -u {hosts.SERVICE}"),
                within=60,
                what="the exception is logged",
            )
        fleet.eventually(
            lambda: fleet.get(SECOND, "/ready")[0] == 200, within=90, what="the service is ready"
        )
        before = len(server.requests)
        runs = [control.play("incident_open.yml", f"--limit={SECOND.name}", **lead) for _ in range(2)]
    finally:
        second.check_output("rm -r /run/bug")
        second.check_output(f"systemctl restart {hosts.SERVICE}")
    for run in runs:
        assert run.returncode == 0, run.output
    sent = messages(server)[before:]
    calls = [text for text in sent if text.startswith("ESCALATION NEEDED")]
    assert len(calls) == 1, sent
    assert "an application exception that no earlier incident had: error call_failed KeyError" in calls[0]
    assert "Next person: Developers (developers)" in calls[0]
