"""Compares the README with the code. docs/generate.py generates the reference from the code."""

from pathlib import Path

import pytest

from katago_mcp.metrics import STATES, TOOLS

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.parametrize("name", [*STATES, *TOOLS])
def test_every_state_and_tool_is_documented(name: str) -> None:
    assert f"`{name}`" in README
