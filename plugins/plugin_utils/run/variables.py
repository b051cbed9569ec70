"""The variables of the roles, as their argument specs describe them: unknown names, wrong types."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

PASSED = (
    *(
        "drill_announced",
        "drill_armed",
        "drill_failure",
        "drill_finished",
        "drill_game_day",
        "drill_injected",
    ),
    *("drill_injecting", "drill_landing", "drill_planned", "drill_recovery", "drill_repairs", "drill_scored"),
    *("drill_snapshot_before", "drill_snapshot_after", "drill_started", "drill_undone", "drill_unvalidated"),
    *("drill_aborted", "drill_writes_before", "drill_writes_after"),
    "backup_newest",
    "backup_outcome",
    "evidence_result",
    "overview_built",
    "overview_facts",
    "gpu_driver_outcome",
    "incident_outcome",
    "preflight_facts",
    "katago_installed",
    "katago_mcp_outcome",
    "katago_mcp_pending",
    "procedure_evidence",
    "procedure_lock",
    "katago_sandbox",
    "triage_baseline_outcome",
    "triage_result",
    "rollout_plan",
    "rollout_soak",
    "restore_next_step",
    "removal_outcome",
    "replacement_outcome",
    "rotation_joined",
    "rotation_left",
    "rotation_outcome",
    "restore_outcome",
    "validate_result",
    *("self_healing_shown", "fleet_healing_key", "fleet_healing_host_keys", "fleet_healing_outcome"),
    "watch_result",
    *("procedure_inputs", "hosts_with_gpu", "hosts_with_self_healing", "load_balancers"),
)
"""What roles and playbooks pass to roles, besides their options."""
OF_HOSTS = ("fleet_address", "fleet_environment", "fleet_min_available", "fleet_name")
"""Variables of hosts that belong to no role, because several parts read them."""


RENAMED = {
    "incident_sinks": "incident_channels",
    "incident_timekeeper": "incident_reminder_host",
    "katago_mcp_allow_bad": "katago_mcp_allow_rejected",
    "katago_mcp_trial_deadline": "katago_mcp_preflight_deadline",
    "katago_mcp_trial_memory_mb": "katago_mcp_preflight_memory_mb",
}
"""Role variables that were renamed: the old name and the new one."""


def specs(roles: Path) -> dict[str, dict[str, Any]]:
    """Every option of every entry point of every role below `roles`, by name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        found |= options_of(roles, path.parents[1].name)
    return found


def options_of(roles: Path, role: str) -> dict[str, dict[str, Any]]:
    """Every option of every entry point of a role below `roles`, by name."""
    text = (roles / role / "meta" / "argument_specs.yml").read_text()
    found: dict[str, dict[str, Any]] = {}
    for entry_point in yaml.safe_load(text)["argument_specs"].values():
        found |= entry_point["options"]
    return found


def problems(
    options: Mapping[str, Mapping[str, Any]], names: Iterator[str], value: Callable[[str], Any]
) -> Iterator[str]:
    """One message for every unknown name and every value that does not fit its spec.

    `names`: all variables of the host. `value`: a variable's value by name, asked only for those
    that have a spec. Values of type `raw` are not looked at, so secrets are not echoed.
    """
    given = set(names)
    # What belongs to a role begins with its name; what begins with an underscore is its own affair.
    prefixes = tuple({f"{name.partition('_')[0]}_" for name in options})
    for name in sorted(given):
        if name in RENAMED:
            yield from renamed({name})
        elif name.startswith(prefixes) and name not in options and name not in (*PASSED, *OF_HOSTS):
            nearest = difflib.get_close_matches(name, options, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            yield f"{name} is not a variable of any role.{hint} docs/reference/roles.md lists them."
    checked = {name: dict(spec) for name, spec in options.items() if spec["type"] != "raw"}
    result = ArgumentSpecValidator(checked).validate({name: value(name) for name in checked if name in given})
    for message in result.error_messages:
        yield f"{message}. docs/reference/roles.md describes the variable."


def renamed(names: Collection[str]) -> list[str]:
    """One message for each variable whose name is an old one."""
    return [f"{old} is now called {new}. Rename it." for old, new in RENAMED.items() if old in names]
