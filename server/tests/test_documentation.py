"""The README, held against the code."""

import re
from pathlib import Path

import pytest

from katago_mcp.config import SECTIONS
from katago_mcp.metrics import STATES, TOOLS

SERVER = Path(__file__).parent.parent
README = (SERVER / "README.md").read_text()


def test_every_key_of_the_configuration_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"`([a-zA-Z]+\.[a-zA-Z]+)`", README.split("## Configuration")[1]))
    keys = {
        f"{section}.{field.alias}"
        for section, model in SECTIONS.items()
        for field in model.model_fields.values()
    }
    assert {name for name in documented if name.split(".")[0] in SECTIONS} == keys


@pytest.mark.parametrize("name", [*STATES, *TOOLS])
def test_every_state_and_tool_is_documented(name: str) -> None:
    assert f"`{name}`" in README


def test_every_code_that_is_raised_is_documented() -> None:
    source = "".join(path.read_text() for path in (SERVER / "src" / "katago_mcp").glob("*.py"))
    raised = re.findall(r"(?:Invalid|Rejected|Unavailable|TimedOut|Broken)\(\s*\"([a-z_]+)\"", source)
    assert raised
    assert {code for code in raised if f"`{code}`" not in README} == set()
