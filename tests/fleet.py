"""What tests do to a lab from outside: run playbooks, call services, read metrics."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
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
    """A finished run of ansible-playbook. `changed` and `failed` count tasks by host."""

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

    `user`: the operator's name in the history and the locks of hosts. `kill_before`: kill the run with
    SIGKILL (return code -9) before the task with this number, counted from 0. Only tasks that may change a
    host count. `counts_from`: the name of the task at which counting starts.
    """
    extra = [f"--extra-vars={json.dumps(variables)}"] if variables else []
    environment = _environment()
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
    return _run([*words, *extra, *arguments], _environment())


def proposed(line: str) -> Run:
    """Run a command line that a procedure has proposed."""
    return _run(shlex.split(line), _environment())


def _environment() -> dict[str, str]:
    """The environment of an operator at the root of the project, without Molecule's own settings."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"), "LAB_NAME": LAB.name}
    for name in ("ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_ROLES_PATH", "ANSIBLE_FORCE_COLOR"):
        environment.pop(name, None)
    return environment


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
    """Kill a procedure before its second task, before its third, and so on, until a run finishes.

    `attempt` runs it with that `kill_before`, which is less than `most`. Returns the last run, which took
    over the lock of a killed one.
    """
    for tasks in range(1, most):
        run = attempt(tasks)
        if run.returncode == 0:
            assert "is taken over: its run is dead" in run.output
            return run
        assert run.returncode == -9, run.output
    raise AssertionError(f"no run finished; killed {most - 1} times")


def host_named(name: str) -> Host:
    """The host of the lab with that name."""
    return next(host for host in LAB.hosts() if host.name == name)


@contextlib.contextmanager
def frozen(host: Host) -> Iterator[None]:
    """Freeze a host: it accepts connections, but does not answer."""
    runtime.podman("pause", host.container)
    try:
        yield
    finally:
        runtime.podman("unpause", host.container)


@contextlib.contextmanager
def absent(host: Host) -> Iterator[None]:
    """Switch a host off. Afterwards start it and wait until it is ready."""
    runtime.podman("stop", "--time=10", host.container)
    try:
        yield
    finally:
        runtime.podman("start", host.container)
        eventually(lambda: get(host, "/ready")[0] == 200, within=120, what=f"{host.name} is ready again")


def destroyed(host: Host) -> None:
    """Destroy a host with its disks, and boot a bare one with the same name. It has another host key."""
    runtime.podman("rm", "--force", "--time=0", "--volumes", host.container)
    LAB.create(len(LAB.hosts()))


def address(host: Host, service: str = "mcp", path: str = "/mcp") -> str:
    """The address of a service, from outside the host."""
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
    """Status and body of a request from outside; status 0 without an answer."""
    request = urllib.request.Request(address(host, service, path), method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def metric(host: Host, name: str, **labels: str) -> float | None:
    """The value of a metric; None if it is not available."""
    status, body = get(host, "/metrics", service="metrics")
    return prometheus.parse(body).value(name, **labels) if status == 200 else None


def send(name: str, content: bytes, command: str) -> None:
    """Run a command on a host, with content as its standard input."""
    login = ["ssh", *LAB.ssh_arguments().split(), "-i", str(LAB.key)]
    login += ["-p", str(host_named(name).ports["ssh"]), "root@127.0.0.1", command]
    subprocess.run(login, input=content, check=True)


def eventually(holds: Callable[[], bool], *, within: float, what: str) -> None:
    """Wait until `holds` returns true. Fail with `what` after `within` seconds."""
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"timed out after {within:g} s: {what}")
        time.sleep(0.1)
