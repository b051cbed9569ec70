"""What tests look at on a lab's hosts, and the faults that they put there and take away."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import testinfra

from lab import paths

SERVICE = "katago-mcp.service"
HISTORY = "/var/lib/katago-mcp/history.jsonl"
LOCK = "/run/katago-mcp.lock"
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/fault.conf"


def connect(name: str) -> Any:
    """A host of the lab as testinfra reaches it."""
    inventory = str(paths.ROOT / "inventories" / "lab")
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory)


def main_pid(host: Any) -> int:
    """The main process of the service, 0 when there is none."""
    return int(host.check_output(f"systemctl show {SERVICE} --property=MainPID --value"))


def current(host: Any) -> str:
    """The current release."""
    return Path(host.check_output("readlink /opt/katago-mcp/current")).name


def history(host: Any) -> list[dict[str, Any]]:
    """The history of the host's releases."""
    return [json.loads(line) for line in host.check_output(f"cat {HISTORY}").splitlines()]


def untouched(host: Any) -> tuple[str, int, list[dict[str, Any]], bool]:
    """What no refused procedure may change: release, process, history; and that no lock is left."""
    return current(host), main_pid(host), history(host), host.file(LOCK).exists


@contextlib.contextmanager
def drop_in(host: Any, *lines: str) -> Iterator[None]:
    """Settings of the unit, in force from its next start on."""
    host.check_output(f"mkdir -p $(dirname {DROP_IN})")
    text = "\n".join(["[Service]", *lines])
    host.check_output(f"cat > {DROP_IN} <<'END'\n{text}\nEND")
    host.check_output("systemctl daemon-reload")
    try:
        yield
    finally:
        host.check_output(f"rm {DROP_IN} && systemctl daemon-reload")
