"""The table of procedures, the playbooks and the roles agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, meta, nodes

from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, procedures, variables

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOKS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "playbooks").glob("*.yml")}
PLAYS = {
    f"plays/{path.name}": yaml.safe_load(path.read_text())
    for path in (ROOT / "playbooks" / "plays").glob("*.yml")
}
"""Plays that several playbooks import."""
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def tasks_of(plays: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [task for play in with_imported(plays) for task in play.get("tasks", [])]


def with_imported(plays: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for play in plays:
        yield play
        yield from PLAYS.get(play.get("ansible.builtin.import_playbook", ""), [])


def test_every_playbook_is_a_procedure_or_names_those_that_replaced_it() -> None:
    assert PLAYBOOKS.keys() == procedures.PROCEDURES.keys() | procedures.REPLACED.keys()
    successors = {name for each in procedures.REPLACED.values() for name in each.values()}
    assert successors | set(procedures.REPLACED_INPUTS.values()) <= procedures.PROCEDURES.keys()


@pytest.mark.parametrize("name", sorted(PLAYBOOKS))
def test_playbook_checks_its_inputs_before_anything_else(name: str) -> None:
    first = next(task for play in PLAYBOOKS[name] for task in play.get("tasks", []))
    assert first["name"] in ("Validate the operator's input", "Refuse")
    procedure = first["katago.fleet.procedure_inputs"]["procedure"]
    # A later play that -l may select alone checks them again.
    play = next(play for play in PLAYBOOKS[name] if first in play.get("tasks", []))
    assert procedure in (name, "{{ procedure_name }}")
    assert play.get("vars", {}).get("procedure_name", name) == name


@pytest.mark.parametrize("name", sorted(PLAYBOOKS))
def test_playbook_fits_on_a_screen_and_reads_only_its_own_inputs(name: str) -> None:
    text = (ROOT / "playbooks" / f"{name}.yml").read_text()
    assert len(text.splitlines()) <= 50
    inputs = procedures.inputs_of(name) if name in procedures.PROCEDURES else {}
    assert set(re.findall(r"procedure_inputs\.(\w+)", text)) <= inputs.keys()


@pytest.mark.parametrize("name", sorted(procedures.PROCEDURES))
def test_every_input_reaches_a_role(name: str) -> None:
    """An input that is declared and passed to nothing would be accepted and ignored."""
    procedure = procedures.PROCEDURES[name]
    text = (ROOT / "playbooks" / f"{name}.yml").read_text()
    options = variables.specs(ROOT / "roles")
    whole = "incident_inputs: " in text
    for each in procedure.inputs:
        if each.is_role_variable:
            assert each.name in options, each.name
        else:
            read = f"procedure_inputs.{each.name}" in text or f"'{name}').{each.name}" in text
            assert read or whole, each.name


@pytest.mark.parametrize("name", sorted(PLAYBOOKS))
def test_locking_procedure_runs_in_the_frame_and_its_steps_exist(name: str) -> None:
    plays = PLAYBOOKS[name]
    framed = any(
        task.get("ansible.builtin.import_role", {}).get("name") == "katago.fleet.procedure"
        for task in tasks_of(plays)
    )
    assert framed == (name in procedures.PROCEDURES and procedures.PROCEDURES[name].locks)
    for play in with_imported(plays):
        variables = play.get("vars", {})
        steps = variables.get("rollout_steps", variables.get("procedure_steps", []))
        for step in steps if isinstance(steps, list) else []:
            role = step["role"].rpartition(".")[2]
            assert (ROOT / "roles" / role / "tasks" / f"{step.get('tasks', 'main')}.yml").is_file()


@pytest.mark.parametrize("name", sorted(procedures.PROCEDURES))
def test_only_procedures_that_keep_evidence_can_be_run_without_it(name: str) -> None:
    frame = {"name": "katago.fleet.procedure"}
    keeps = any(
        play["vars"].get("procedure_evidence_tier") != "none"
        for play in with_imported(PLAYBOOKS[name])
        if any(task.get("ansible.builtin.import_role") == frame for task in play.get("tasks", []))
    )
    imported = [procedures.inputs_of(each) for each in procedures.PROCEDURES[name].imports]
    offered = any("without_evidence" in inputs for inputs in imported)
    assert ("without_evidence" in procedures.inputs_of(name)) == (keeps or offered)


def test_imported_plays_keep_their_own_variables() -> None:
    """A variable that a playbook passes to imported plays would replace the one of a play."""
    for name, plays in PLAYBOOKS.items():
        for importing in plays:
            imported = PLAYS.get(importing.get("ansible.builtin.import_playbook", ""), [])
            own = {variable for play in imported for variable in play.get("vars", {})}
            assert importing.get("vars", {}).keys() & own == set(), name


def entry_points() -> Iterator[tuple[str, str]]:
    """Every entry point of a role that a playbook or another role uses."""
    for path in (*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/*.yml")):
        text = path.read_text()
        for role, tasks in re.findall(r"\{name: katago\.fleet\.(\w+)(?:, tasks_from: (\w+))?\}", text):
            yield role, tasks or "main"
        for role, tasks in re.findall(r"\{role: katago\.fleet\.(\w+)(?:, tasks: (\w+))?\}", text):
            yield role, tasks or "main"


def test_every_entry_point_has_an_argument_spec() -> None:
    used = set(entry_points())
    assert ("katago_mcp", "restart") in used
    for role, entry in sorted(used):
        specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
        assert entry in specs["argument_specs"], f"{role}: {entry}"


def strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            # Conditions are expressions without braces.
            if key in ("when", "that", "failed_when", "changed_when", "until"):
                for text in each if isinstance(each, list) else [each]:
                    yield f"{{{{ {text} }}}}" if isinstance(text, str) else ""
            else:
                yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


MAGIC = frozenset(
    {
        *("ansible_check_mode", "ansible_facts", "ansible_failed_result", "ansible_inventory_sources"),
        *("ansible_play_hosts_all", "ansible_play_hosts", "groups", "hostvars", "inventory_hostname"),
        *("lookup", "omit", "item", "role_path", "ansible_managed", "query", "ansible_host", "loop"),
    }
)


@pytest.mark.parametrize("role", ROLES)
def test_role_reads_only_declared_variables(role: str) -> None:
    """A bare word that is given with `-e` for one playbook must not reach a role of another one."""
    environment = Environment()  # noqa: S701 - nothing is rendered
    known = {*variables.specs(ROOT / "roles"), *variables.PASSED, *variables.OF_HOSTS, *MAGIC}
    paths = [
        path
        for folder in ("tasks", "defaults", "vars", "templates")
        for path in (ROOT / "roles" / role / folder).glob("*")
    ]
    for path in paths:
        if path.suffix == ".j2":
            texts, own = [path.read_text()], set()
        else:
            content = yaml.safe_load(path.read_text())
            texts = list(strings(content))
            own = set(content) if isinstance(content, dict) else set()
        for text in texts:
            for name in meta.find_undeclared_variables(_without_filters(environment.parse(text))):
                if not name.startswith("_"):
                    assert name in known | own, f"{path.relative_to(ROOT)} reads {name}"


def _without_filters(tree: nodes.Template) -> nodes.Template:
    """A template without the names of Ansible's filters and tests, which plain Jinja does not have."""
    for each in (*tree.find_all(nodes.Filter), *tree.find_all(nodes.Test)):
        each.name = "upper"
    return tree


def test_table_is_consistent() -> None:
    for name, procedure in procedures.PROCEDURES.items():
        assert procedure.summary[0].isupper()
        assert not procedure.summary.endswith(".")
        for each in procedures.inputs_of(name).values():
            assert each.type == "bool" or not isinstance(each.default, bool), each.name
            assert not each.choices or each.type == "word", each.name
            assert each.summary[0].islower(), each.name
    # An operator who learns a name learns one type.
    for name, declared in procedures.every_input().items():
        types = {each.type for each in declared}
        assert len(types) == 1 or types == {"int", "number"}, name


def module_tasks(tasks: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every module of this collection that tasks use, with its arguments."""
    for task in tasks:
        for part in ("block", "rescue", "always"):
            yield from module_tasks(task.get(part, []))
        for key, given in task.items():
            if key.startswith("katago.fleet."):
                yield key.removeprefix("katago.fleet."), given or {}


def test_tasks_pass_only_arguments_that_their_modules_have_and_all_required_ones() -> None:
    used = set()
    for path in (
        *ROOT.glob("roles/*/tasks/*.yml"),
        *ROOT.glob("playbooks/*.yml"),
        *ROOT.glob("playbooks/plays/*.yml"),
    ):
        content = yaml.safe_load(path.read_text())
        tasks = (
            [each for play in content for each in play.get("tasks", [])] if "hosts" in content[0] else content
        )
        for module, given in module_tasks(tasks):
            used.add(module)
            options = arguments.spec(module)
            assert given.keys() <= options.keys(), f"{path.relative_to(ROOT)}: {module}"
            required = {name for name, option in options.items() if option.get("required")}
            # The scope of a preflight decides what it needs.
            assert required <= given.keys() or module == "preflight", f"{path.relative_to(ROOT)}: {module}"
    assert {"host_lock", "release_switch", "service_limits"} <= used
