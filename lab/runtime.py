"""Calls Podman with the runtime and the limits that it needs on this machine."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import paths

# The default runtime raises limits. Without CAP_SYS_RESOURCE or systemd as PID 1 it cannot; there runc works,
# with limits below the machine's own.
RESTRICTED = """\
[containers]
default_ulimits = ["nofile=8192:8192", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
ORDINARY = ""


class PodmanError(RuntimeError):
    """A Podman command failed. The message has its output."""


def podman(*arguments: str, config: Path | None = None, check: bool = True) -> str:
    """Run Podman and return its standard output without the final newline."""
    environment = dict(os.environ)
    environment["CONTAINERS_CONF"] = str(config or containers_conf())
    result = subprocess.run(
        ["podman", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if check and result.returncode != 0:
        raise PodmanError(f"podman {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout.rstrip("\n")


def succeeds(*arguments: str) -> bool:
    """Whether a Podman command exits 0, for queries such as `image exists`."""
    environment = dict(os.environ, CONTAINERS_CONF=str(containers_conf()))
    command = ["podman", *arguments]
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


@functools.cache
def containers_conf() -> Path:
    """The containers.conf for this machine: the restricted one, until `detect` has chosen one."""
    for name in ("ordinary.conf", "restricted.conf"):
        if (paths.STATE / name).exists():
            return paths.STATE / name
    return _write("restricted.conf", RESTRICTED)


def detect(image: str) -> str:
    """Try which configuration can run a container of `image` on this machine. Return its name."""
    if (paths.STATE / "runtime.json").exists():
        name: str = json.loads((paths.STATE / "runtime.json").read_text())["configuration"]
        return name
    for name, text in (("ordinary", ORDINARY), ("restricted", RESTRICTED)):
        config = _write(f"{name}.conf", text)
        try:
            podman("run", "--rm", "--network=none", image, "/bin/true", config=config)
        except PodmanError as error:
            config.unlink()
            reason = error
            continue
        (paths.STATE / "runtime.json").write_text(json.dumps({"configuration": name}))
        containers_conf.cache_clear()
        return name
    raise PodmanError(f"Podman cannot run a container on this machine: {reason}")


def _write(name: str, text: str) -> Path:
    paths.STATE.mkdir(parents=True, exist_ok=True)
    path = paths.STATE / name
    path.write_text(text)
    return path


def exec_in(container: str, command: Sequence[str]) -> str:
    """Run a command in a running container, without SSH."""
    return podman("exec", container, *command)
