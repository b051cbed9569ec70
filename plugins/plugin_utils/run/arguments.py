"""The arguments of an action plugin, validated against the documentation of the module of its name."""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase

_FLEET = "ansible_collections.katago.fleet.plugins"
_MODULES = Path(__file__).resolve().parents[2] / "modules"
_KEYS = ("type", "required", "default", "choices", "elements")


@cache
def spec(module: str) -> dict[str, dict[str, Any]]:
    """The argument spec that the DOCUMENTATION of a module of this collection describes."""
    documentation = _documentation((_MODULES / f"{module}.py").read_text())
    options = dict(documentation.get("options") or {})
    for name in documentation.get("extends_documentation_fragment") or ():
        fragment = importlib.import_module(f"{_FLEET}.doc_fragments.{name.rpartition('.')[2]}")
        options |= yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)["options"]
    return {name: {key: option[key] for key in _KEYS if key in option} for name, option in options.items()}


def validated(action: ActionBase) -> dict[str, Any]:
    """The task's arguments with types converted and defaults filled in.

    Raises:
        AnsibleError: if an argument is unknown, missing or of the wrong type.
    """
    arguments: dict[str, Any] = action.validate_argument_spec(argument_spec=spec(_module(action)))[1]
    return arguments


def check(action: ActionBase) -> None:
    """Refuse a task whose arguments do not fit the documentation of its module.

    Switches are left to `inputs.switch`, whose errors name the variable of the role.

    Raises:
        AnsibleError: if an argument is unknown, missing or of the wrong type.
    """
    options = {
        name: {**option, "type": "raw"} if option["type"] == "bool" else option
        for name, option in spec(_module(action)).items()
    }
    action.validate_argument_spec(argument_spec=options)


def _documentation(source: str) -> dict[str, Any]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION":
            documentation: dict[str, Any] = yaml.safe_load(ast.literal_eval(node.value))
            return documentation
    raise ValueError("the module has no DOCUMENTATION")


def _module(action: ActionBase) -> str:
    """The name of the action's file, which is that of its module."""
    packages = (each.__module__.rpartition(".") for each in type(action).__mro__)
    return next(name for package, _, name in packages if package.endswith(".plugins.action"))
