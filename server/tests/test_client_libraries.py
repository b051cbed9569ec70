"""Tests with client libraries that others use, each in an environment of its own.

They run if `KATAGO_TEST_LIBRARIES` is the directory of their environments. `bin/test clients` installs them.
No model takes part: the libraries list the tools, convert them to functions of a model, and call them.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from katago_mcp.metrics import ANALYSIS_TOOLS, TOOLS
from support import ANALYZE_TOKEN, CLEAN_ENVIRON, Running, Site

PROGRAM = Path(__file__).parent / "clients" / "call_tools.py"
ENVIRONMENTS = Path(os.environ.get("KATAGO_TEST_LIBRARIES", "."))
LIBRARIES = ("fastmcp", "langchain-mcp-adapters", "pydantic-ai-slim", "openai-agents")
CONVERTING = LIBRARIES[1:]
"""Libraries that convert the tools to strict functions."""

REQUIRING = ("openai-agents", "pydantic-ai-slim")

SECONDS = 300.0
GAME = {"boardXSize": 9, "boardYSize": 9, "moves": [["B", "E5"], ["W", "C3"]]}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("analyzePosition", {"position": GAME}),
    ("analyzePosition", {"sgf": "(;SZ[9];B[ee];W[cg])", "picture": True}),
    ("findMistakes", {"position": GAME}),
    ("evaluateTerritory", {"position": GAME}),
    ("explainMove", {"position": GAME, "move": "D4"}),
    ("getEngineStatus", {}),
]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("analyzePosition", {"position": {**GAME, "komi": 6.25}}, "invalid_komi"),
    ("startEngine", {}, "forbidden"),
    ("stopEngine", {}, "forbidden"),
]

pytestmark = pytest.mark.skipif(
    "KATAGO_TEST_LIBRARIES" not in os.environ, reason="KATAGO_TEST_LIBRARIES is not set"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    site = Site(tmp_path_factory.mktemp("site"))
    site.write_tokens()
    with site.serving() as running:
        yield running


@pytest.fixture(scope="module", params=LIBRARIES)
def report(request: pytest.FixtureRequest, running: Running) -> tuple[str, dict[str, Any]]:
    """The name of a library, and the report of its program."""
    library: str = request.param
    calls = [*CALLS, *((tool, arguments) for tool, arguments, _ in REFUSED)]
    done = subprocess.run(
        [ENVIRONMENTS / library / "bin/python", PROGRAM, library, running.url],
        input=json.dumps(calls),
        env={name: value for name, value in CLEAN_ENVIRON.items() if name != "PYTHONPATH"}
        | {"MCP_TOKEN": ANALYZE_TOKEN},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return library, json.loads(done.stdout)


def test_a_library_lists_all_tools(report: tuple[str, dict[str, Any]]) -> None:
    assert set(report[1]["tools"]) == set(TOOLS)


def test_a_library_gets_an_answer_of_every_tool(report: tuple[str, dict[str, Any]]) -> None:
    for (tool, _), result in zip(CALLS, report[1]["results"], strict=False):
        assert not result["error"], (tool, result)
        assert result["text"] or result["structured"], tool
        if tool in ANALYSIS_TOOLS and result["structured"] is not None:
            assert result["structured"]["perspective"] == "BLACK"


def test_a_library_gets_refusals_with_their_code(report: tuple[str, dict[str, Any]]) -> None:
    for (tool, _, code), result in zip(REFUSED, report[1]["results"][len(CALLS) :], strict=True):
        assert result["error"] is not False, (tool, result)
        assert code in json.dumps(result), (tool, result)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """All objects and arrays in a schema."""
    if isinstance(schema, dict):
        if schema.get("type") in ("object", "array"):
            yield schema
        for child in schema.values():
            yield from objects(child)
    elif isinstance(schema, list):
        for child in schema:
            yield from objects(child)


def test_a_library_converts_all_tools_to_strict_functions(report: tuple[str, dict[str, Any]]) -> None:
    library, answers = report
    assert set(answers["schemas"]) == (set(TOOLS) if library in CONVERTING else set())
    for tool, schema in answers["schemas"].items():
        for part in objects(schema):
            if part["type"] == "array":
                assert part["items"], tool
            else:
                assert part["additionalProperties"] is False, tool
                # In a strict function of OpenAI, all properties are required.
                if library in REQUIRING:
                    assert set(part["required"]) == set(part.get("properties", {})), tool
