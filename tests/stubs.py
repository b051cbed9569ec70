"""Runs roles, action plugins and modules without a host: what they call returns prepared answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

ROOT = Path(__file__).resolve().parents[1]
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
"""The variables of a host that is this machine."""
_MODULE = """\
#!/usr/bin/python
# WANT_JSON
import json, pathlib, sys
parameters = json.loads(pathlib.Path(sys.argv[1]).read_text())
called = ".".join(filter(None, [{name!r}, parameters.get("state")]))
log, answers = pathlib.Path({log!r}), json.loads(pathlib.Path({answers!r}).read_text())
before = [json.loads(line)[0] for line in log.read_text().splitlines()].count(called)
with log.open("a") as lines:
    lines.write(json.dumps([called, parameters]) + "\\n")
given = answers.get(called, [])
answer = given[min(before, len(given) - 1)] if given else {{}}
print(json.dumps({{"changed": False, **answer}}))
"""

Answers = Mapping[str, Sequence[Mapping[str, Any]]]


class Stubs:
    """This collection below `root`, where some modules are stubs, and some roles are replaced.

    `roles`: tasks of `tasks/main.yml`, by role.
    """

    def __init__(
        self,
        root: Path,
        modules: Collection[str],
        roles: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        self._root = root
        self._log, self._answers = root / "log", root / "answers.json"
        fleet = root / "ansible_collections/katago/fleet"
        (fleet / "plugins/modules").mkdir(parents=True)
        for role, tasks in (roles or {}).items():
            (fleet / "roles" / role / "tasks").mkdir(parents=True)
            (fleet / "roles" / role / "tasks/main.yml").write_text(json.dumps(tasks))
        (fleet / "roles").mkdir(exist_ok=True)
        for kind in ("plugins", "plugins/modules", "roles"):
            for path in (ROOT / kind).iterdir():
                link = fleet / kind / path.name
                if not link.exists() and not (kind == "plugins/modules" and path.stem in modules):
                    link.symlink_to(path)
        for name in modules:
            text = _MODULE.format(name=name, log=str(self._log), answers=str(self._answers))
            (fleet / f"plugins/modules/{name}.py").write_text(text)

    def play(
        self,
        inventory: Mapping[str, Any],
        play: Mapping[str, Any],
        answers: Answers,
        *arguments: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a play. `answers`: those of each module, `name` or `name.state`, in the order of its calls."""
        self._log.write_text("")
        self._answers.write_text(json.dumps(answers))
        # JSON is YAML too.
        (self._root / "hosts.yml").write_text(json.dumps(inventory))
        (self._root / "play.yml").write_text(json.dumps([{"gather_facts": False, **play}]))
        command = [sys.executable, "-m", "ansible", "playbook", "--inventory=hosts.yml", "play.yml"]
        environment = {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self._root),
            "ANSIBLE_LOCAL_TEMP": str(self._root / "tmp"),
        }
        return subprocess.run(
            [*command, *arguments],
            cwd=self._root,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """The names and parameters of the modules that ran."""
        calls = map(json.loads, self._log.read_text().splitlines())
        return [(name, parameters) for name, parameters in calls]

    def steps(self) -> list[str]:
        """The names of the modules that ran."""
        return [name for name, _ in self.calls()]

    def parameters(self, name: str) -> dict[str, Any]:
        """The parameters of a module's first call."""
        return next(parameters for called, parameters in self.calls() if called == name)


class _EndedError(Exception):
    """A module ended, with this result."""


def module_result(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, *, check: bool = False, **parameters: Any
) -> dict[str, Any]:
    """The result of a module that runs in this process; its parameters are checked as on a host."""

    def end(_: Any, **result: Any) -> None:
        raise _EndedError(result)

    def fail(_: Any, msg: str, **result: Any) -> None:
        raise _EndedError({**result, "failed": True, "msg": msg})

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", end)
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", fail)
    given = {**parameters, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}
    with patch_module_args(given), pytest.raises(_EndedError) as ended:
        module.main()
    return dict(ended.value.args[0])


def action_of(plugin: ModuleType, *, check: bool = False, **arguments: Any) -> Any:
    """An action plugin with these arguments of its task, on this machine and without a connection."""
    task = SimpleNamespace(args=arguments, check_mode=check, async_val=0, delegate_to=None)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=""))
    return plugin.ActionModule(task, connection, None, None, None, None)


def action_result(
    monkeypatch: pytest.MonkeyPatch,
    plugin: ModuleType,
    answers: Mapping[str, Any] | Callable[..., Mapping[str, Any]],
    variables: Mapping[str, Any] | None = None,
    /,
    *,
    check: bool = False,
    **arguments: Any,
) -> dict[str, Any]:
    """The result of an action plugin. `answers`: what every module of the host returns.

    They are a result, or a function of the name and the arguments of the module.
    """
    action = action_of(plugin, check=check, **arguments)

    def execute(module_name: str, module_args: Mapping[str, Any] | None = None, **_: Any) -> dict[str, Any]:
        if callable(answers):
            return dict(answers(module_name, dict(module_args or {})))
        return dict(answers)

    monkeypatch.setattr(action, "_execute_module", execute)
    result: dict[str, Any] = action.run(None, dict(variables or {"inventory_hostname": "katago-1"}))
    return result
