"""Shared by the tests: a site with a fake engine, and a server that runs on it."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

import forked
from katago_mcp.client import call

FAKE_ENGINE = Path(__file__).parent / "fake_engine.py"
PATIENCE = 60.0
"""Seconds to wait for something that should happen at once. Only a bug uses them up."""

ANALYZE_TOKEN = "analyze-token-of-the-tests"
ADMIN_TOKEN = "admin-token-of-the-tests"
BOTH_TOKEN = "both-scopes-token-of-the-tests"

CHANCES: list[tuple[tuple[int, int], dict[str, float]]] = [
    ((5, 5), {"A4": 0.5, "E4": 0.4, "A2": 0.3, "E2": 0.2, "B5": 0.1, "D5": 0.09, "B1": 0.08, "D1": 0.07}),
    ((7, 4), {"B3": 0.5, "F3": 0.4, "B2": 0.3, "F2": 0.2, "pass": 0.1}),
]
"""Columns and rows of a board, and the policy of a point, its mirror images, and the pass."""

CLEAN_ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("KATAGO_")} | {
    "PYTHONPATH": str(forked.SOURCE)
}


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition is true, or fail with `what`."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def expect_linear_time(work: Callable[[int], object], size: int) -> None:
    """Fail unless the processor time of `work(size)` grows with the size.

    Linear time takes 16 times as long for 16 times the size, and quadratic time 256 times as long.
    """

    def seconds(of_size: int) -> float:
        began = time.process_time()
        work(of_size)
        return time.process_time() - began

    short = seconds(size // 16)
    assert seconds(size) < 64 * max(short, 0.02)


def complete_lines(path: Path) -> list[str]:
    """The lines of a file without the last one if another process is still writing it."""
    return path.read_text().rpartition("\n")[0].splitlines()


# Below the ports that Linux gives to clients [ip(7)]: a client could take one before the server does.
_PORTS = (20_000, 32_768)
# Each worker of pytest-xdist has ports of its own: another one could take a port before the server does.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def free_ports(count: int) -> list[int]:
    """Different free ports."""
    ports: set[int] = set()
    while len(ports) < count:
        port = random.randrange(_PORTS[0] + _WORKER, _PORTS[1], _WORKERS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.add(port)
    return list(ports)


class Site:
    """A directory with a configuration, a network and a fake engine with configurable behaviour."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "config.json"
        self.overlay = directory / "overlay.json"
        self.engine_config = directory / "analysis.json"
        network = directory / "net.bin.gz"
        network.write_bytes(b"weights")
        self.port, self.metrics_port = free_ports(2)
        self.document: dict[str, dict[str, Any]] = {
            "server": {"port": self.port, "drainTimeoutSeconds": 5},
            "katago": {
                "binaryPath": str(FAKE_ENGINE),
                "modelPath": "net.bin.gz",
                "configPath": self.engine_config.name,
                "startTimeoutSeconds": PATIENCE,
                "restartBackoffSeconds": 0.05,
                "restartBackoffMaxSeconds": 60,
            },
            "cache": {"directory": "cache"},
            "metrics": {"port": self.metrics_port},
            # A busy machine is no hung engine. Tests of hung engines have a short time limit.
            "health": {"heartbeatIntervalSeconds": 0.1, "heartbeatTimeoutSeconds": PATIENCE},
        }
        self.behave()
        self.write()

    def behave(self, **behaviour: object) -> None:
        """Set the engine's behaviour, from its next analysis or its next start on."""
        scratch = self.engine_config.with_suffix(".new")
        scratch.write_text(json.dumps(behaviour))
        scratch.replace(self.engine_config)

    def write(self, **sections: Mapping[str, object]) -> Path:
        """Write the configuration, with changed keys in some sections."""
        for section, keys in sections.items():
            self.document.setdefault(section, {}).update(keys)
        self.path.write_text(json.dumps(self.document))
        return self.path

    def lay(self, limits: Mapping[str, object], seconds: float = 3600) -> None:
        """Write an overlay that expires in `seconds`."""
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        document = {
            "set": limits,
            "expiresAt": f"{end:%Y-%m-%dT%H:%M:%S.%fZ}",
            "why": "a test",
            "who": "tests",
        }
        scratch = self.overlay.with_suffix(".new")
        scratch.write_text(json.dumps(document))
        scratch.replace(self.overlay)

    def write_tokens(self) -> None:
        """Configure one token for each scope, and one for both."""
        tokens = [
            {"name": "reader", "scopes": ["analyze"], "token": ANALYZE_TOKEN},
            {"name": "operator", "scopes": ["admin"], "token": ADMIN_TOKEN},
            {"name": "both", "scopes": ["analyze", "admin"], "token": BOTH_TOKEN},
        ]
        (self.directory / "tokens.json").write_text(json.dumps({"tokens": tokens}))
        self.write(auth={"tokensFile": "tokens.json"})

    def replace_tokens(self, *tokens: Mapping[str, object]) -> None:
        """Replace the tokens file atomically, as in a rotation."""
        scratch = self.directory / "tokens.new"
        scratch.write_text(json.dumps({"tokens": tokens}))
        scratch.replace(self.directory / "tokens.json")

    def records(self) -> list[dict[str, Any]]:
        """The engine's input: for each line argv, environment, bytes in hexadecimal, and query."""
        path = self.engine_config.with_name(self.engine_config.name + ".queries")
        if not path.exists():
            return []
        return [json.loads(line) for line in complete_lines(path)]

    def queries(self, action: str | None = None) -> list[dict[str, Any]]:
        """The queries with an action that the engine received; None for analyses."""
        queries = [record["query"] for record in self.records()]
        return [query for query in queries if query.get("action") == action]

    def run(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command of the command line until it exits."""
        return subprocess.run(
            [sys.executable, "-m", "katago_mcp.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            env=CLEAN_ENVIRON,
            check=False,
        )

    def call(self, *calls: tuple[str, dict[str, Any]], **request: object) -> dict[str, Any]:
        """Call tools of the running server, as the `call` command does."""
        document = {
            "url": f"http://127.0.0.1:{self.port}/mcp",
            "deadline": PATIENCE,
            "calls": [{"tool": tool, "arguments": arguments} for tool, arguments in calls],
            **request,
        }
        return asyncio.run(call(json.dumps(document)))

    @contextlib.contextmanager
    def serving(self, *, ready: bool | None = True, **environ: str) -> Iterator["Running"]:
        """Run `serve` while the context lasts, with the overlay file if it exists.

        Waits until the server is ready, or with `ready` false until it is healthy; None does not wait.
        """
        command = ["serve", "--config", str(self.path), "--overlay", str(self.overlay)]
        log = self.directory / "serve.log"
        process = forked.Command(command, CLEAN_ENVIRON | environ, log)
        running = Running(process, self.port, self.metrics_port, log)
        try:
            if ready is not None:
                probe = "/ready" if ready else "/health"
                eventually(lambda: running.answers(probe) == 200, f"{probe}: {log.read_text()}")
            yield running
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()


@dataclass
class Running:
    """A server in a separate process."""

    process: forked.Command
    port: int
    metrics_port: int
    log: Path

    @property
    def url(self) -> str:
        """The address of the MCP endpoint."""
        return f"http://127.0.0.1:{self.port}/mcp"

    def get(self, path: str) -> httpx2.Response:
        """GET a path of the main port."""
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE)

    def post(self, path: str, token: str | None = None, **headers: str) -> httpx2.Response:
        """POST to a path of the main port."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx2.post(url, headers=headers, timeout=PATIENCE)

    def answers(self, path: str) -> int | None:
        """The status of a GET; None while no server listens."""
        assert self.process.poll() is None, f"the server exited: {self.log.read_text()}"
        try:
            return self.get(path).status_code
        except httpx2.TransportError:
            return None

    def engine(self) -> dict[str, Any]:
        """The engine's part of /health."""
        engine: dict[str, Any] = self.get("/health").json()["engine"]
        return engine

    def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """All samples from the metrics port, by name and labels."""
        text = httpx2.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=PATIENCE).text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of one sample from the metrics port; None if it is missing."""
        return self.scrape().get((name, frozenset(labels.items())))

    def kill_engine(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the engine."""
        os.kill(self.engine()["pid"], number)

    def events(self) -> list[dict[str, Any]]:
        """The events in the log."""
        return [json.loads(line) for line in complete_lines(self.log)]
