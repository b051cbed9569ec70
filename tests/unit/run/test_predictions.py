"""Check mode words what it predicts as a prediction, in the outcome of every procedure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.module_utils.parsing.convert_bool import boolean

ROLES = Path(__file__).resolve().parents[3] / "roles"
VALUES = {
    "_katago_mcp_switch": {
        "release": "1-a",
        "previous": "1-b",
        "changed": True,
        "restart_reasons": ["the release"],
    },
    "_katago_mcp_credentials": {"changed": True, "replaced": True},
    "_katago_mcp_release": {"name": "1-a", "changed": True},
    "katago_mcp_pending": {"current": "1-b", "release": "1-a", "reasons": ["the current release is 1-b"]},
    "_katago_mcp_purge": {"message": "", "cleared": False, "problem": "it is full", "engine_problem": "x"},
    "_katago_mcp_quarantine": {"message": "The cache would be quarantined."},
    "_gpu_driver_planned": {"plan": {"target": "driver 580"}},
    "_gpu_driver_verified": {"cards": ["a"]},
    "_restore_plan": {
        "actions": ["a", "b"],
        "snapshot": "0123456789ab",
        "release": "1-a",
        "unmended": "",
    },
    "_replacement_mark": {"restored": False},
    "_replacement_snapshot": {"at": "2026-01-31T08:05:00Z", "id": "0123456789ab"},
    "_restore_installed": {"quarantine": "/q"},
    "_restore_service": {"state": {"unit": "failed"}},
    "_restore_assessment": "No damage was found",
    "_triage_baseline": {"baseline": {"visits": 32, "median_seconds": 0.4}},
    "rotation_joined": {"message": ""},
    "_rotation_joining": {"changed": True},
    "inventory_hostname": "katago-1",
    "_load_balancer_configured": {"action": "reloaded"},
    "_load_balancer_validated": {"message": "2 of 2 servers are up."},
    "fleet_healing_dry_run": True,
    "_monitoring_configured": {"targets": 2, "unknown": []},
    "validate_result": {"release": "1-a", "lowered": ""},
    "katago_mcp_force": True,
    "katago_mcp_tokens": ["a"],
    "triage_baseline_probes": 9,
}
ENVIRONMENT = jinja2.Environment()  # noqa: S701 (plain text, no HTML)
ENVIRONMENT.filters["bool"] = boolean
FACTS = re.compile(
    r"\b(Restarted|runs|is built|is installed|is restarted|was restarted|was started|was recorded|Restored"
    r"|restored from)\b"
)
BY_MODULE = (
    "_katago_mcp_overlay",
    "_security_mode",
    "_backup_run",
    "_removal_result",
    "_self_healing_result",
    "_fleet_healing_result",
)
"""Outcomes whose message a module words."""


def outcomes() -> Iterator[Any]:
    for path in sorted(ROLES.glob("*/tasks/*.yml")):
        for task in tasks(yaml.safe_load(path.read_text()) or []):
            for name, value in task.get("ansible.builtin.set_fact", {}).items():
                is_changed = isinstance(value, dict) and value.get("result") != "ok"
                if (
                    is_changed
                    and name.endswith("_outcome")
                    and not str(value["message"]).startswith(tuple(f"{{{{ {module}." for module in BY_MODULE))
                ):
                    yield pytest.param(
                        value["message"], task.get("vars", {}), id=f"{path.parts[-3]}-{path.stem}"
                    )


def tasks(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        yield entry
        for part in ("block", "rescue", "always"):
            yield from tasks(entry.get(part, []))


def rendered(message: str, variables: dict[str, str], *, check: bool) -> str:
    values = {**VALUES, "ansible_check_mode": check}
    values |= {name: ENVIRONMENT.from_string(value).render(values) for name, value in variables.items()}
    return str(ENVIRONMENT.from_string(message).render(values))


@pytest.mark.parametrize(("message", "variables"), list(outcomes()))
def test_outcome_in_check_mode_is_worded_as_a_prediction(message: str, variables: dict[str, str]) -> None:
    predicted = rendered(message, variables, check=True)
    assert "ould" in predicted, predicted
    assert not FACTS.search(predicted), predicted


@pytest.mark.parametrize(("message", "variables"), list(outcomes()))
def test_outcome_of_a_real_run_is_worded_as_a_fact(message: str, variables: dict[str, str]) -> None:
    assert "Would" not in rendered(message, variables, check=False)
