"""What tests do to a lab from outside: run playbooks, call the services, look at their metrics."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus
from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures
from lab import paths, runtime
from lab.hosts import Host, Lab

LAB = Lab(paths.lab_name())
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.M)


@dataclass(frozen=True)
class Run:
    """A finished run of ansible-playbook; `changed` and `failed` are counts of tasks by host."""

    returncode: int
    output: str
    changed: dict[str, int]
    failed: dict[str, int]


def play(
    playbook: str,
    *arguments: str,
    variables: dict[str, Any] | None = None,
    user: str = "",
    kill_before: int | None = None,
    counts_from: str = "",
) -> Run:
    """Run a playbook of the project against the lab.

    `user`: who runs it, as the history and the locks of hosts see it. `kill_before`: the number of
    tasks that may change a host, after which the run is killed with SIGKILL (return code -9).
    `counts_from`: the name of the task from which on they count.
    """
    extra = [f"--extra-vars={json.dumps(variables)}"] if variables else []
    environment = {**os.environ, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"), "LAB_NAME": LAB.name}
    for name in ("ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_ROLES_PATH", "ANSIBLE_FORCE_COLOR"):
        environment.pop(name, None)
    if user:
        environment["SUDO_USER"] = user
    if kill_before is not None:
        environment |= {
            "ANSIBLE_CALLBACK_PLUGINS": str(paths.ROOT / "tests" / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "kill_before",
            "KILL_BEFORE": str(kill_before),
            "KILL_COUNTS_FROM": counts_from,
        }
    return _run(["ansible-playbook", f"playbooks/{playbook}", *extra, *arguments], environment)


def command(procedure: str, *arguments: str, variables: dict[str, Any] | None = None, **inputs: Any) -> Run:
    """Run a procedure by `bin/fleet`, as an operator does; `inputs` are its options."""
    words = [str(paths.ROOT / "bin" / "fleet"), *procedures.PROCEDURES[procedure].command]
    for name, value in inputs.items():
        option = procedures.inputs_of(procedure)[name].option
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        else:
            words += [f"{option}={each}" for each in (value if isinstance(value, list) else [value])]
    extra = [f"--extra-vars={json.dumps(variables)}"] if variables else []
    return _run([*words, *extra, *arguments], {**os.environ, "LAB_NAME": LAB.name})


def _run(words: list[str], environment: dict[str, str]) -> Run:
    done = subprocess.run(
        words,
        cwd=paths.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    recap = _RECAP.findall(done.stdout)
    return Run(
        returncode=done.returncode,
        output=done.stdout + done.stderr,
        changed={host: int(changed) for host, _, changed, _, _ in recap},
        failed={host: int(failed) for host, *_, failed in recap},
    )


def killed_everywhere(attempt: Callable[[int], Run], most: int) -> Run:
    """Kill a procedure before its second task, before its third, and so on, until a run comes to its end.

    `attempt` plays it with that `kill_before`, less than `most`. Returns the last run, which took over
    the lock of a dead one.
    """
    for tasks in range(1, most):
        run = attempt(tasks)
        if run.returncode == 0:
            assert "is taken over: its run is dead" in run.output
            return run
        assert run.returncode == -9, run.output
    raise AssertionError("no run came to its end")


def host_named(name: str) -> Host:
    """The lab's host of that name."""
    return next(host for host in LAB.hosts() if host.name == name)


@contextlib.contextmanager
def frozen(host: Host) -> Iterator[None]:
    """The host takes connections and says nothing."""
    runtime.podman("pause", host.container)
    try:
        yield
    finally:
        runtime.podman("unpause", host.container)


@contextlib.contextmanager
def absent(host: Host) -> Iterator[None]:
    """The host is switched off; it is ready again when this is over."""
    runtime.podman("stop", "--time=10", host.container)
    try:
        yield
    finally:
        runtime.podman("start", host.container)
        eventually(lambda: get(host, "/ready")[0] == 200, within=120, what=f"{host.name} is back")


def address(host: Host, service: str = "mcp", path: str = "/mcp") -> str:
    """A service's address as seen from outside of the host."""
    return f"http://127.0.0.1:{host.ports[service]}{path}"


def token(path: Path = LAB.token) -> str:
    """A token of the lab."""
    return path.read_text().strip()


def get(
    host: Host,
    path: str,
    *,
    service: str = "mcp",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    seconds: float = 10,
) -> tuple[int, str]:
    """Status and body of a request from outside; status 0 when nothing answered."""
    request = urllib.request.Request(address(host, service, path), method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError:
        return 0, ""


def metric(host: Host, name: str, **labels: str) -> float | None:
    """The value of a metric; None when it cannot be had."""
    status, body = get(host, "/metrics", service="metrics")
    return prometheus.parse(body).value(name, **labels) if status == 200 else None


def send(name: str, content: bytes, command: str) -> None:
    """Run a command on the host of that name, with content as its input."""
    login = ["ssh", *LAB.ssh_arguments().split(), "-i", str(LAB.key)]
    login += ["-p", str(host_named(name).ports["ssh"]), "root@127.0.0.1", command]
    subprocess.run(login, input=content, check=True)


def eventually(holds: Callable[[], bool], *, within: float, what: str) -> None:
    """Wait until something holds; fail with `what` when it does not within that many seconds."""
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(0.1)
