"""The variables of the roles, as their argument specs describe them: unknown names, wrong types."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

PASSED = (
    "backup_outcome",
    "evidence_result",
    "gpu_driver_outcome",
    "incident_outcome",
    "preflight_facts",
    "katago_installed",
    "katago_mcp_outcome",
    "procedure_evidence",
    "procedure_lock",
    "katago_sandbox",
    "triage_baseline_outcome",
    "triage_result",
    "restore_next_step",
    "restore_outcome",
    "validate_result",
    "watch_result",
    *("procedure_inputs", "hosts_with_gpu"),
)
"""What roles and playbooks pass to roles, besides their options."""


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
    options: dict[str, dict[str, Any]] = {}
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        for entry_point in yaml.safe_load(path.read_text())["argument_specs"].values():
            options |= entry_point["options"]
    return options


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
        elif name.startswith(prefixes) and name not in options and name not in PASSED:
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
