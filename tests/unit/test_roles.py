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


# Task files that stop or restart the service without a check of their own, and what has checked before.
CHECKED_ELSEWHERE = {
    "katago_mcp/activate": "release_switch checks the release before the switch",
    "katago_mcp/quarantine_cache": "purge_cache checks first",
    "katago_mcp/return": "the service has failed already",
    "katago_mcp/stop": "gpu_driver checks before it changes anything",
    "restore/repair": "backup_restore fetches and checks everything first",
}


def test_service_that_would_not_start_again_is_stopped_by_no_role() -> None:
    unchecked = set()
    for path in ROLES.glob("*/tasks/*.yml"):
        text = path.read_text()
        stop = text.find("katago.fleet.service_restart:")
        if stop >= 0 and not 0 <= text.find("check_start") < stop:
            unchecked.add(f"{path.parents[1].name}/{path.stem}")
    assert unchecked == CHECKED_ELSEWHERE.keys()


def test_driver_change_checks_the_service_before_its_first_change() -> None:
    text = (ROLES / "gpu_driver" / "tasks" / "change.yml").read_text()
    assert 0 < text.index("check_start") < text.index("katago.fleet.gpu_driver_record")


def test_cache_purge_checks_the_service_before_its_first_change() -> None:
    text = (ROLES / "katago_mcp" / "tasks" / "purge_cache.yml").read_text()
    assert 0 < text.index("check_start") < text.index("katago.fleet.cache_purge")
