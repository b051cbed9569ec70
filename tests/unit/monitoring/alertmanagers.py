"""Runs real Alertmanagers on the loopback interface."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.ports import free_ports

PROGRAM = Path("/usr/bin/prometheus-alertmanager")
_PATIENCE = 60.0
_EMPTY = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


@contextlib.contextmanager
def alertmanager(directory: Path, config: str = _EMPTY, options: Sequence[str] = ()) -> Iterator[int]:
    """Run an Alertmanager until the block ends; its port. It is no part of a cluster without options."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "alertmanager.yml").write_text(config)
    (port,) = free_ports(1)
    command = [
        str(PROGRAM),
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *(options or ["--cluster.listen-address="]),
    ]
    log = directory / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _wait(port, process, log)
            yield port
        finally:
            process.terminate()


def ask(port: int, path: str, document: object = None) -> Any:
    """The answer to a request, parsed."""
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        content = answer.read()
    return json.loads(content) if content.strip() else None


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            ask(port, "/api/v2/status")
        except OSError:
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        else:
            return
