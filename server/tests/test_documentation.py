"""The README, held against the code."""

import re
from pathlib import Path

import pytest

from katago_mcp import errors
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


def test_the_page_of_errors_is_what_the_catalogue_says() -> None:
    page = SERVER.parent / "docs" / "reference" / "errors.md"
    assert page.read_text() == errors.page(), "python -m katago_mcp.errors > docs/reference/errors.md"
