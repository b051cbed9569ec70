"""The MCP client against the real server with a scripted engine, in both protocol generations."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import positions
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import (
    GENERATIONS,
    Client,
    Generation,
    Target,
)
from tests.ports import free_ports

SERVER = Path(__file__).resolve().parents[3] / "server"
PATIENCE = 300.0


class Server:
    """The server's program, with a port that it keeps when it is started again."""

    def __init__(self, directory: Path) -> None:
        self._config = directory / "config.json"
        port, metrics = free_ports(2)
        (directory / "net.bin.gz").write_bytes(b"weights")
        (directory / "analysis.json").write_text("{}")
        katago = {
            "binaryPath": str(SERVER / "tests" / "fake_engine.py"),
            "modelPath": "net.bin.gz",
            "configPath": "analysis.json",
        }
        document = {
            "server": {"port": port, "drainTimeoutSeconds": 1},
            "katago": katago,
            "cache": {"directory": "cache"},
            "metrics": {"port": metrics},
        }
        self._config.write_text(json.dumps(document))
        self.target = Target("katago-1", f"http://127.0.0.1:{port}/mcp")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the program while the context lasts; its engine is ready then."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KATAGO_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "katago_mcp.cli", "serve", "--config", str(self._config)],
            env={**environment, "PYTHONPATH": str(SERVER / "src")},
            stderr=subprocess.DEVNULL,
        )
        try:
            client = Client(self.target, "stateless", "", name="tests")
            end = time.monotonic() + PATIENCE
            while positions.call(client, "getEngineStatus", 2, PATIENCE).kind != "ok":
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.1)
            client.close()
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(tmp_path_factory.mktemp("server"))


def call(client: Client, seconds: float = PATIENCE) -> str:
    return positions.call(client, "evaluateTerritory", 2, seconds).kind


def test_server_answers_and_its_failures_are_told_apart(server: Server) -> None:
    """One start of the server for both generations, because it takes seconds."""
    clients: dict[Generation, Client] = {
        generation: Client(server.target, generation, "", name="tests") for generation in GENERATIONS
    }
    with server.running():
        for client in clients.values():
            assert [call(client) for _ in range(2)] == ["ok", "ok"]
            # The scripted engine does not know who owns the board.
            assert positions.call(client, "analyzePosition", 2, PATIENCE).kind == "wrong"
            assert client.call("analyzePosition", {"position": {"komi": 0.3}}, PATIENCE).kind == "error"
    assert {call(client) for client in clients.values()} == {"connect"}
    with server.running():
        # Without a key for the ids of sessions, the server does not know those of its last run.
        lost = positions.call(clients["session"], "getEngineStatus", 2, PATIENCE)
        assert (lost.kind, lost.status, lost.session_lost) == ("session", 404, True)
        assert {call(client) for client in clients.values()} == {"ok"}
        for client in clients.values():
            client.close()
