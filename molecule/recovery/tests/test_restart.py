"""R7, R8: a restart is validated, or reports the state and the next step; force only kills the unit."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.hosts import Host
from tests import fleet, hosts

TARGET = fleet.LAB.hosts()[0].name
LIMIT = f"--limit={TARGET}"
# Ignores SIGTERM. It runs in the unit's control group under another name.
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
BYSTANDER = "import time; time.sleep(600)"
CURRENT = "/opt/katago-mcp/current"
TOKENS = "/etc/katago-mcp/credentials/tokens.json"
BINARY = "import json; print(json.load(open('/etc/katago-mcp/config.json'))['katago']['binaryPath'])"


@pytest.fixture
def host() -> Any:
    return hosts.connect(TARGET)


@pytest.fixture
def target() -> Host:
    return fleet.host_named(TARGET)


@pytest.fixture(autouse=True)
def _service_is_left_running(host: Any, target: Host) -> Iterator[None]:
    yield
    host.run(f"systemctl reset-failed {hosts.SERVICE}; systemctl start {hosts.SERVICE}")
    fleet.eventually(lambda: fleet.get(target, "/ready")[0] == 200, within=90, what="ready again")


def test_frozen_server_is_restarted(host: Any, target: Host) -> None:
    before = hosts.main_pid(host)
    host.check_output(f"kill -STOP {before}")
    assert fleet.get(target, "/health", seconds=2)[0] == 0
    run = fleet.play("restart.yml", LIMIT)
    assert run.returncode == 0, run.output
    assert "Restarted; release" in run.output
    assert hosts.main_pid(host) not in (0, before)
    # The procedure restarted it, not systemd's watchdog.
    assert host.check_output(f"systemctl show {hosts.SERVICE} --property=NRestarts --value") == "0"


def test_restart_waits_for_a_network_that_loads_slowly(host: Any) -> None:
    """Loading takes longer than the ten seconds after which the runbook checks again."""
    with slow_engine(host, seconds=40):
        started = time.monotonic()
        run = fleet.play("restart.yml", LIMIT)
        assert run.returncode == 0, run.output
        assert time.monotonic() - started > 40


def test_service_that_is_not_ready_in_time_is_reported_with_its_state_and_the_next_step(host: Any) -> None:
    # An engine that is starting is only limited by the second one.
    deadlines = {"validate_ready_deadline": 3, "validate_start_deadline": 3}
    with slow_engine(host, seconds=40):
        run = fleet.play("restart.yml", LIMIT, variables=deadlines)
    assert run.returncode != 0
    assert "/ready answered 503 engine starting" in run.output
    assert "The service is active and " in run.output
    assert f"Next: ansible-playbook playbooks/restart.yml -e force=true -l {TARGET}" in run.output
    assert not host.file(hosts.LOCK).exists


def test_force_kills_processes_that_ignore_sigterm_but_no_other_process_named_katago(host: Any) -> None:
    group = host.check_output(f"systemctl show {hosts.SERVICE} --property=ControlGroup --value")
    stubborn = background(host, f"python3 -c '{STUBBORN}'")
    bystander = background(host, f"python3 -c '{BYSTANDER}' katago-mcp katago")
    try:
        for hierarchy in ("", "/systemd", "/unified"):
            host.run(f"echo {stubborn} > /sys/fs/cgroup{hierarchy}{group}/cgroup.procs")
        host.check_output(f"kill -TERM {stubborn}")
        assert hosts.SERVICE in host.check_output(f"cat /proc/{stubborn}/cgroup")
        assert str(bystander) in host.check_output("pgrep --full katago-mcp").split()
        # A server that ignores the stop signal, and for which systemd would wait forever.
        with hosts.drop_in(host, "KillSignal=SIGCONT", "TimeoutStopSec=infinity"):
            run = fleet.play("restart.yml", LIMIT, variables={"force": True})
        assert run.returncode == 0, run.output
        assert not host.file(f"/proc/{stubborn}").exists
        assert host.file(f"/proc/{bystander}").exists
    finally:
        host.run(f"kill -KILL {stubborn} {bystander}")


def test_unit_that_reached_its_start_limit_is_restarted(host: Any) -> None:
    with hosts.drop_in(host, "ExecStartPre=/bin/false"):
        host.run(f"systemctl restart {hosts.SERVICE}")
        fleet.eventually(
            lambda: host.run(f"systemctl is-failed {hosts.SERVICE}").rc == 0,
            within=60,
            what="the unit has failed",
        )
    run = fleet.play("restart.yml", LIMIT)
    assert run.returncode == 0, run.output


def test_service_that_does_not_start_is_reported_with_its_last_log_lines(host: Any) -> None:
    with hosts.drop_in(host, "ExecStartPre=/bin/sh -c 'echo out of luck; exit 1'"):
        run = fleet.play("restart.yml", LIMIT, variables={"force": True})
    assert run.returncode != 0
    assert "The service was not restarted: the unit does not start" in run.output
    assert "out of luck" in run.output
    assert f"Next: ansible-playbook playbooks/rollback.yml -l {TARGET}" in run.output


def test_check_mode_predicts_and_does_not_change_the_service(host: Any) -> None:
    before = hosts.untouched(host)
    run = fleet.play("restart.yml", LIMIT, "--check")
    assert run.returncode == 0, run.output
    assert "restart: changed (predicted)" in run.output
    assert hosts.untouched(host) == before


def test_restart_killed_between_any_two_tasks_finishes_when_run_again(host: Any, target: Host) -> None:
    frozen = hosts.main_pid(host)
    host.check_output(f"kill -STOP {frozen}")
    fleet.killed_everywhere(lambda tasks: fleet.play("restart.yml", LIMIT, kill_before=tasks), 40)
    assert hosts.main_pid(host) not in (0, frozen)
    assert fleet.get(target, "/ready")[0] == 200
    assert not host.file(hosts.LOCK).exists


def damaged(path: str, content: str) -> Callable[[Any], contextlib.AbstractContextManager[None]]:
    """A fault: a file of the host has another content."""

    @contextlib.contextmanager
    def fault(host: Any) -> Iterator[None]:
        host.check_output(f"cp --preserve {path} /root/intact && printf %s {shlex.quote(content)} > {path}")
        try:
            assert host.check_output(f"cat {path}") == content
            yield
        finally:
            host.check_output(f"cat /root/intact > {path}")

    return fault


def missing(path: str) -> Callable[[Any], contextlib.AbstractContextManager[None]]:
    """A fault: a file of the host is missing."""

    @contextlib.contextmanager
    def fault(host: Any) -> Iterator[None]:
        host.check_output(f"mv {path} {path}.away")
        try:
            assert not host.file(path).exists
            yield
        finally:
            host.check_output(f"mv {path}.away {path}")

    return fault


@contextlib.contextmanager
def unreadable(host: Any) -> Iterator[None]:
    """A fault: the service's user may not read its tokens."""
    host.check_output(f"chmod 600 {TOKENS}")
    try:
        yield
    finally:
        host.check_output(f"chmod 640 {TOKENS}")


FAULTS: dict[str, tuple[Callable[[Any], contextlib.AbstractContextManager[Any]], str]] = {
    "configuration": (damaged(f"{CURRENT}/config.json", "{"), "config.json was changed"),
    "manifest": (missing(f"{CURRENT}/manifest.json"), "manifest.json is missing"),
    "program": (missing(f"{CURRENT}/venv/bin/katago-mcp"), "venv/bin/katago-mcp is missing"),
    "tokens": (damaged(TOKENS, "{"), TOKENS),
    "mode of the tokens": (unreadable, TOKENS),
    "unit": (missing(f"{CURRENT}/{hosts.SERVICE}"), "the service is not installed"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("given", [{}, {"force": True}], ids=["restart", "force"])
def test_service_that_would_not_start_again_is_not_stopped(
    host: Any, target: Host, fault: str, given: dict[str, Any]
) -> None:
    context, reason = FAULTS[fault]
    before = hosts.untouched(host)
    with context(host):
        run = fleet.play("restart.yml", LIMIT, variables=given)
        assert run.returncode != 0
        assert fleet.get(target, "/ready")[0] == 200
        assert hosts.untouched(host) == before
    assert "Refused; nothing was changed on this host." in run.output
    assert reason in run.output
    assert f"ansible-playbook playbooks/deploy.yml -l {TARGET}" in run.output
    assert "To continue anyway: -e " in run.output
    assert set(run.changed.values()) == {0}


def test_purge_does_not_stop_a_service_that_would_not_start_again(host: Any, target: Host) -> None:
    before = hosts.untouched(host)
    with damaged(f"{CURRENT}/config.json", "{")(host):
        run = fleet.play("purge_cache.yml", LIMIT)
        assert run.returncode != 0
        assert fleet.get(target, "/ready")[0] == 200
        assert hosts.untouched(host) == before
    assert "The service would not start again" in run.output


def test_failed_start_is_reported_with_its_reason_before_the_log(host: Any) -> None:
    anyway = {"without_start_check": True, "allow_changed_files": True}
    with damaged(f"{CURRENT}/config.json", "{")(host):
        run = fleet.play("restart.yml", LIMIT, variables=anyway)
    assert run.returncode != 0
    message = run.output.rpartition("The service was not restarted: ")[2]
    reason, _, lines = message.partition("Its last log lines:")
    assert "config.json" in reason
    assert '"status": "ok"' not in lines


def test_changed_file_is_reported_and_a_restart_must_be_asked_for_by_name(host: Any) -> None:
    path = f"{CURRENT}/analysis.cfg"
    content = host.check_output(f"cat {path}") + "\n# by hand"
    before = hosts.untouched(host)
    with damaged(path, content)(host):
        validated = fleet.play("validate.yml", LIMIT)
        refused = fleet.play("restart.yml", LIMIT)
        assert hosts.untouched(host) == before
        restarted = fleet.play("restart.yml", LIMIT, variables={"allow_changed_files": True})
    assert validated.returncode != 0
    assert "analyses correctly, but its release is not intact" in validated.output
    assert "analysis.cfg was changed" in validated.output
    assert refused.returncode != 0
    assert "-e allow_changed_files=true" in refused.output
    assert "would not start again" not in refused.output
    assert restarted.returncode == 0, restarted.output
    assert "changed files: analysis.cfg was changed" in restarted.output


def background(host: Any, command: str) -> int:
    """Start a command in the background. Returns its process id."""
    return int(host.check_output(f"nohup {command} >/dev/null 2>&1 & echo $!"))


def slow_engine(host: Any, *, seconds: int) -> Any:
    """Delay the start of the engine, as if its network took that long to load."""
    binary = host.check_output(f'python3 -c "{BINARY}"')
    script = f'#!/bin/sh\nsleep {seconds}\nexec {binary} "$@"'
    host.check_output(f"cat > /opt/slow-engine <<'END'\n{script}\nEND")
    host.check_output("chmod 755 /opt/slow-engine")
    return hosts.drop_in(host, "Environment=KATAGO_KATAGO_BINARY_PATH=/opt/slow-engine")
