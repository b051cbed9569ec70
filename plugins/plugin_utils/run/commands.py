"""Commands of ansible-playbook: the one that runs, as a record may have it, and those that are proposed."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.parsing.dataloader import DataLoader
from ansible.utils.vars import load_extra_vars

from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures, records_dir

# Of any other extra variable only the name is recorded: its value may be a secret.
SHOWN = procedures.recorded()
HIDDEN = "***"
_LONGEST = 120
_PROPOSED = re.compile(r"ansible-playbook playbooks/(\w+)\.yml")
_PLAIN = re.compile(r"[\w@%+:,./-]+")
_INPUT = re.compile(
    r"""(?<![\w-])-e[ ](?:(?P<name>[a-z]\w*)(?:=(?P<value>[^\s,;:`)]*[^\s,;:`).]))?"""
    r"""|'(?P<quoted>[a-z]\w*)=(?P<text>"[^"]*")')"""
)
FLEET_COMMAND = "KATAGO_FLEET_COMMAND"
"""The variable of the environment in which bin/fleet says how it was called."""
_ROOT = Path(__file__).resolve().parents[3]


def shown(playbooks: Iterable[str], options: Mapping[str, Any], extra_variables: Mapping[str, Any]) -> str:
    """The command line in short: playbooks, limits, mode, extra variables.

    `options`: those of ansible-playbook by the names that Ansible gives them. What is not named here is
    left out, since it may be a password's file or a connection's arguments.
    """
    words = ["ansible-playbook", *playbooks]
    for flag, name in (("-l", "subset"), ("-t", "tags"), ("--skip-tags", "skip_tags"), ("-i", "inventory")):
        words += [part for value in _several(options.get(name)) for part in (flag, value)]
    words += [flag for flag, name in (("--check", "check"), ("--diff", "diff")) if options.get(name)]
    for name, value in sorted(extra_variables.items()):
        words += ["-e", f"{name}={_value(name, value)}"]
    return shlex.join(words)


def again(procedure: str, host: str, inputs: Mapping[str, str]) -> str:
    """The command that runs a procedure again on one host, with further inputs.

    It repeats the inputs of this run, except those whose values may not be shown.
    """
    declared = procedures.inputs_of(procedure)
    given = {
        name: str(value)
        for name, value in load_extra_vars(DataLoader()).items()
        if name in declared and _value(name, value) != HIDDEN
    }
    words = [part for name, value in {**given, **inputs}.items() for part in _argument(name, value)]
    return f"ansible-playbook playbooks/{procedure}.yml -l {shlex.quote(host)} {' '.join(words)}"


def _argument(name: str, value: str) -> tuple[str, str]:
    """An extra variable that keeps every character of its value, also spaces."""
    if os.environ.get(FLEET_COMMAND):
        return f"--{name.replace('_', '-')}", shlex.quote(value)
    plain = _PLAIN.fullmatch(value)
    return "-e", f"{name}={value}" if plain else shlex.quote(json.dumps({name: value}, ensure_ascii=False))


def inventory_arguments(sources: Sequence[str]) -> list[str]:
    """The `-i` arguments without which the commands would not find the hosts."""
    default = [str(Path(source).resolve()) for source in constants.DEFAULT_HOST_LIST]
    if [str(Path(source).resolve()) for source in sources] == default:
        return []
    return [part for source in sources for part in ("-i", shlex.quote(os.path.relpath(source)))]


def playbook(name: str) -> str:
    """A playbook of the collection, `restart` for example, as ansible-playbook finds it from here."""
    if records_dir.installed_collection(_ROOT):
        return f"katago.fleet.{name}"
    path = _ROOT / "playbooks" / f"{name}.yml"
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def proposed(name: str, arguments: str, inventory: Sequence[str]) -> str:
    """A command that an operator can paste, in the form that started this run: bin/fleet or ansible-playbook.

    Args:
        name: the procedure.
        arguments: its arguments as ansible-playbook takes them, `-l katago-1 -e force=true` for example.
        inventory: what `inventory_arguments` returns.
    """
    if command := os.environ.get(FLEET_COMMAND):
        words = [shlex.quote(command), *procedures.PROCEDURES[name].command, *inventory]
        return " ".join([*words, _as_options(arguments)]).rstrip()
    return " ".join(["ansible-playbook", *inventory, playbook(name), arguments]).rstrip()


def as_run_here(text: str, sources: Sequence[str]) -> str:
    """A text whose commands, written as `ansible-playbook playbooks/NAME.yml`, can be run from here.

    They get the inventory of the run, `sources`. If `bin/fleet` started the run, they and the inputs that the
    text names, `-e NAME`, get the form of `bin/fleet`.
    """
    inventory = inventory_arguments(sources)
    rendered = _PROPOSED.sub(
        lambda match: proposed(match[1], "", inventory) if match[1] in procedures.PROCEDURES else match[0],
        text,
    )
    return _as_options(rendered) if os.environ.get(FLEET_COMMAND) else rendered


def _as_options(text: str) -> str:
    """A text whose inputs have the form of `bin/fleet`, `--force` for `-e force=true`."""
    return _INPUT.sub(_as_option, text)


def _as_option(match: re.Match[str]) -> str:
    name, value = match["name"] or match["quoted"], match["value"] or match["text"]
    declared = procedures.every_input().get(name)
    if not declared:
        return match[0]
    option = declared[0].option
    if value is None:
        return option
    if declared[0].type == "bool" and value in ("true", "false"):
        return option if value == "true" else f"--no-{option[2:]}"
    return f"{option} {value}"


def _several(value: object) -> Sequence[str]:
    if not value or value == ("all",) or value == ["all"]:
        return ()
    return [value] if isinstance(value, str) else [str(each) for each in value]  # type: ignore[attr-defined]


def _value(name: str, value: object) -> str:
    if name not in SHOWN or isinstance(value, dict | list):
        return HIDDEN
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
