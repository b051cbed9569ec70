"""The arguments of an action plugin, validated against the documentation of the module of its name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import fragment_loader
from ansible.utils.plugin_docs import get_docstring

_MODULES = Path(__file__).resolve().parents[2] / "modules"
_KEYS = ("type", "required", "default", "choices", "elements")


@cache
def spec(module: str) -> dict[str, dict[str, Any]]:
    """The argument spec that the DOCUMENTATION of a module of this collection describes."""
    documentation = get_docstring(str(_MODULES / f"{module}.py"), fragment_loader)[0]
    return {
        name: {key: option[key] for key in _KEYS if key in option}
        for name, option in (documentation.get("options") or {}).items()
    }


def validated(action: ActionBase) -> dict[str, Any]:
    """The task's arguments with types converted and defaults filled in.

    Raises:
        AnsibleError: if an argument is unknown, missing or of the wrong type.
    """
    name = str(action._task.action).rpartition(".")[2]
    arguments: dict[str, Any] = action.validate_argument_spec(argument_spec=spec(name))[1]
    return arguments
