"""Roles, their argument specs and their defaults agree, and unknown variables are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.run import variables

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())


def options(role: str) -> dict[str, dict[str, Any]]:
    text = (ROLES / role / "meta" / "argument_specs.yml").read_text()
    entry_points = yaml.safe_load(text)["argument_specs"].values()
    return {name: spec for each in entry_points for name, spec in each["options"].items()}


def defaults(role: str) -> dict[str, Any]:
    path = ROLES / role / "defaults" / "main.yml"
    return yaml.safe_load(path.read_text()) if path.exists() else {}


@pytest.mark.parametrize("role", NAMES)
def test_every_default_has_a_spec_and_every_option_a_default_or_is_required(role: str) -> None:
    required = {name for name, spec in options(role).items() if spec.get("required")}
    assert defaults(role).keys() == options(role).keys() - required


@pytest.mark.parametrize("role", NAMES)
def test_specs_give_the_defaults_that_roles_have(role: str) -> None:
    computed = {name for name, value in defaults(role).items() if "{{" in str(value)}
    specified = {name: spec["default"] for name, spec in options(role).items() if "default" in spec}
    assert specified == {name: value for name, value in defaults(role).items() if name not in computed}


@pytest.mark.parametrize("role", NAMES)
def test_every_default_is_described_in_the_line_above_it(role: str) -> None:
    path = ROLES / role / "defaults" / "main.yml"
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines):
        if line.startswith(tuple(f"{name}:" for name in defaults(role))):
            assert lines[number - 1].startswith("# "), line


def problems(given: dict[str, Any]) -> list[str]:
    found = variables.problems(variables.specs(ROLES), iter(given), given.__getitem__)
    return [problem for problem in found if "missing required" not in problem]


def test_unknown_variable_is_named_with_the_nearest_known_one() -> None:
    (problem,) = problems({"katago_mcp_prot": 8080})
    assert problem.startswith("katago_mcp_prot is not a variable of any role.")
    assert "Did you mean katago_mcp_port?" in problem


@pytest.mark.parametrize(("old", "new"), variables.RENAMED.items())
def test_renamed_variable_is_refused_with_its_new_name(old: str, new: str) -> None:
    assert problems({old: "x"}) == [f"{old} is now called {new}. Rename it."]
    assert new in variables.specs(ROLES)


def test_variables_of_others_and_private_ones_are_left_alone() -> None:
    assert problems({"ansible_host": "h", "_katago_engine": {}, "site_name": "x"}) == []


def test_wrong_type_is_named() -> None:
    (problem,) = problems({"katago_mcp_max_visits": "many"})
    assert "katago_mcp_max_visits" in problem
    assert "int" in problem


def test_secrets_are_not_echoed() -> None:
    assert problems({"katago_mcp_tokens": "a-secret-in-the-wrong-place"}) == []
