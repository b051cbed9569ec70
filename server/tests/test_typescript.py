"""Tests with the official TypeScript clients, old and new, and the official Inspector.

They run if `KATAGO_TEST_CLIENTS` is the directory of `client.mjs`, after `npm ci` there. `bin/test server`
does this.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from katago_mcp.metrics import TOOLS
from support import ANALYZE_TOKEN, CLEAN_ENVIRON, PATIENCE, Running, Site, eventually

CLIENTS = Path(os.environ.get("KATAGO_TEST_CLIENTS", "."))
KINDS = ("sdk", "client-2025", "client-2026")
POSITION = {"boardXSize": 9, "boardYSize": 9, "moves": [["B", "E5"], ["W", "C3"]]}

pytestmark = pytest.mark.skipif(
    "KATAGO_TEST_CLIENTS" not in os.environ, reason="KATAGO_TEST_CLIENTS is not set"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Running]]:
    site = Site(tmp_path_factory.mktemp("site"))
    site.write_tokens()
    with site.serving() as running:
        yield site, running


@pytest.fixture(autouse=True)
def answering(shared: tuple[Site, Running]) -> Iterator[None]:
    yield
    shared[0].behave()


@contextlib.contextmanager
def client(running: Running, kind: str, act: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """The report of a client, while its session lasts."""
    command = ["node", "client.mjs", kind, act, running.url, json.dumps(arguments)]
    environ = CLEAN_ENVIRON | {"MCP_TOKEN": ANALYZE_TOKEN}
    with subprocess.Popen(
        command, cwd=CLIENTS, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the client ended with status {process.wait(PATIENCE)}"
        yield json.loads(line)
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_typescript_client_lists_and_calls_tools_with_progress_and_errors(
    shared: tuple[Site, Running], kind: str
) -> None:
    site, running = shared
    site.behave(analysis="slow", seconds=2)
    visits = 40 + KINDS.index(kind)
    with client(running, kind, "calls", position=POSITION, maxVisits=visits) as report:
        pass
    assert report["server"]["name"] == "katago-mcp"
    assert {tool["name"] for tool in report["tools"]} == set(TOOLS)
    answer = report["answer"]
    assert answer["structuredContent"]["visits"] == visits
    assert answer["structuredContent"]["perspective"] == "BLACK"
    assert answer["content"][0]["text"].startswith("Black to move (turn 2).")
    assert {note["total"] for note in report["progress"]} == {visits}
    assert report["refusal"]["isError"]
    assert report["refusal"]["structuredContent"]["error"]["code"] == "invalid_move"
    assert report["refusal"]["structuredContent"]["error"]["field"] == "position.moves[0]"


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_a_typescript_client_cancels_ends_in_the_engine(
    shared: tuple[Site, Running], kind: str
) -> None:
    site, running = shared
    site.behave(analysis="slow", seconds=600)
    ended = len(site.queries("terminate"))
    with client(running, kind, "cancel", position=POSITION, maxVisits=50 + KINDS.index(kind)) as report:
        assert report["cancelled"], report
        assert report["progress"]
        eventually(lambda: len(site.queries("terminate")) == ended + 1, "the search is ended")
        eventually(lambda: running.metric("katago_engine_queries_in_flight") == 0, "nothing is in flight")


def inspector(*arguments: str, status: int = 0) -> dict[str, Any]:
    """The output of the Inspector: stdout, or stderr if it fails."""
    done = subprocess.run(
        ["node_modules/.bin/mcp-inspector", "--cli", *arguments],
        cwd=CLIENTS,
        env=CLEAN_ENVIRON,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stderr if status else done.stdout)
    return report


BEARER = ("--header", f"Authorization: Bearer {ANALYZE_TOKEN}")


def test_the_inspector_lists_the_tools_and_finds_their_schemas_portable(
    shared: tuple[Site, Running],
) -> None:
    _, running = shared
    listed = inspector(running.url, *BEARER, "--method", "tools/list", "--strict")
    assert {tool["name"] for tool in listed["tools"]} == set(TOOLS)


def test_the_inspector_calls_a_tool(shared: tuple[Site, Running]) -> None:
    _, running = shared
    call = ("--method", "tools/call", "--tool-name", "analyzePosition")
    arguments = ("--tool-arg", f"position={json.dumps(POSITION)}", "maxVisits=60")
    answer = inspector(running.url, *BEARER, *call, *arguments)
    assert answer["structuredContent"]["visits"] == 60


def test_inspector_without_a_token_is_rejected(shared: tuple[Site, Running]) -> None:
    _, running = shared
    refusal = inspector(running.url, "--method", "tools/list", status=3)
    assert refusal["error"]["code"] == "auth_required"


def test_the_inspector_starts_the_server_over_stdio(site: Site) -> None:
    server = {
        "command": sys.executable,
        "args": ["-m", "katago_mcp.cli", "stdio", "--config", str(site.path)],
        "env": {"PYTHONPATH": CLEAN_ENVIRON["PYTHONPATH"]},
    }
    session = site.directory / "mcp.json"
    session.write_text(json.dumps({"mcpServers": {"katago": server}}))
    chosen = ("--config", str(session), "--server", "katago")
    answer = inspector(*chosen, "--method", "tools/call", "--tool-name", "getEngineStatus")
    assert answer["structuredContent"]["maxVisits"] == 1000


def test_mcp_remote_bridges_stdio_to_the_server(shared: tuple[Site, Running]) -> None:
    _, running = shared
    bridge = {
        "command": "node_modules/.bin/mcp-remote",
        "args": [running.url, "--allow-http", "--header", f"Authorization: Bearer {ANALYZE_TOKEN}"],
    }
    session = shared[0].directory / "bridge.json"
    session.write_text(json.dumps({"mcpServers": {"katago": bridge}}))
    chosen = ("--config", str(session), "--server", "katago")
    listed = inspector(*chosen, "--method", "tools/list")
    assert {tool["name"] for tool in listed["tools"]} == set(TOOLS)
    call = ("--method", "tools/call", "--tool-name", "analyzePosition")
    answer = inspector(*chosen, *call, "--tool-arg", f"position={json.dumps(POSITION)}", "maxVisits=61")
    assert answer["content"][0]["text"].startswith("Black to move (turn 2).")
