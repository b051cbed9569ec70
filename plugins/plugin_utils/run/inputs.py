"""The inputs of a run: the extra variables of its command line, checked against the table of procedures."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.splitter import parse_kv

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures, variables
from ansible_collections.katago.fleet.plugins.plugin_utils.run.procedures import Input

_ROLES = Path(__file__).resolve().parents[3] / "roles"
_LOST = "_raw_params"
"""Where Ansible puts the words of `-e` that it finds no name for (ansible.parsing.splitter)."""
_TEXTS = ("text", "word", "time", "day", "path")
_RESERVED = frozenset({"action", "local_action", "serial"})
"""Names that Ansible keeps for itself and that operators have tried as inputs."""


class InputError(Exception):
    """Inputs are not valid; the message has a sentence for each problem."""


def problems(extra: Mapping[str, Any], procedure: str) -> list[str]:
    """One message for each problem of a run's extra variables.

    `extra`: the extra variables of the command line. `procedure`: its name in the table; where the command
    line names other playbooks of the collection, such as `site.yml`, the inputs of those are accepted too.
    """
    if procedure in procedures.REPLACED:
        return [_replaced(procedure, extra)]
    options = variables.specs(_ROLES)
    accepted = _accepted(procedure)
    messages = [*_replaced_inputs(extra, procedure), *mistaken(extra, [*accepted, *options])]
    if procedures.named(context.CLIARGS.get("args", ())) is not None:
        messages += _surplus(extra, procedure, [*accepted, *options])
    for name, declared in accepted.items():
        if not _is_given(extra, name):
            if declared.required and name in procedures.inputs_of(procedure):
                messages.append(f"{procedure} needs -e {name}: {declared.summary}.")
        elif not declared.is_role_variable:
            try:
                _convert(declared, extra[name])
            except ValueError as error:
                messages.append(f"{error}.")
    for name, spec in options.items():
        is_switch = name in extra and name not in accepted and spec["type"] == "bool"
        if is_switch and "{{" not in str(extra[name]):
            try:
                strict_bool(extra[name], name)
            except ValueError as error:
                messages.append(f"{error}.")
    return messages


def values(extra: Mapping[str, Any], procedure: str, inventory: Mapping[str, Any]) -> dict[str, Any]:
    """Every input of a procedure by name: its value if it was given, its default otherwise.

    `inventory`: the host's variables of the inventory, for inputs whose default a role variable replaces.
    Texts are plain: Ansible does not render templates in them.

    Raises:
        InputError: if a value is not valid.
    """
    made: dict[str, Any] = {}
    for name, declared in procedures.inputs_of(procedure).items():
        if declared.is_role_variable:
            continue
        if _is_given(extra, name):
            try:
                made[name] = _convert(declared, extra[name])
            except ValueError as error:
                raise InputError(f"{error}.") from None
        else:
            default = "" if declared.default is None and declared.type in _TEXTS else declared.default
            made[name] = inventory.get(declared.variable, default) if declared.variable else default
    return made


def mistaken(extra: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    """One message for each extra variable that resembles an accepted one, and for words that were lost.

    `-e relase=...` must not roll back to the default release; a site's own variables may be given. The lost
    words are not shown: they may be the rest of a passphrase.
    """
    if _LOST in extra:
        places = list(_losing(context.CLIARGS.get("extra_vars", ())))
        for name, count in places or [("", len(str(extra[_LOST]).split()))]:
            yield (
                f"The value of -e{f' {name}' if name else ''} was cut at its first space; {count}"
                f" word{'s' if count > 1 else ''} would be lost. Quote it twice:"
                f" -e '{name or 'why'}=\"two words\"'."
            )
    accepted = sorted(names)
    every = procedures.every_input()
    for name in sorted(extra.keys() - {_LOST} - set(accepted)):
        if name in _RESERVED:
            yield f"-e {name} is not possible: Ansible keeps this name for itself."
        elif name not in every and (nearest := difflib.get_close_matches(name, accepted, n=1, cutoff=0.75)):
            yield f"-e {name} is not an input of this playbook. Did you mean {nearest[0]}?"


def unknown_hosts(limit: str, known: Mapping[str, Any]) -> Iterator[str]:
    """One message for each name of a host limit that the inventory does not have.

    Ansible only warns of it, and works on the other hosts. Patterns, files and exclusions are left to it.
    """
    groups = known.get("groups") or {}
    names = {*groups, *groups.get("all", [])}
    # A colon separates as a comma does, unless it is part of a name, as in an IPv6 address.
    parts = [
        name for part in limit.split(",") for name in ([part] if part in names else part.split(":")) if name
    ]
    for name in parts if not limit.startswith("@") else ():
        if not set(name) & set("*?[]~&!{@") and name not in names | {"localhost"}:
            nearest = difflib.get_close_matches(name, sorted(names), n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            yield f"-l names {name}, which is not in the inventory.{hint}"


def _surplus(extra: Mapping[str, Any], procedure: str, names: Iterable[str]) -> Iterator[str]:
    every, accepted = procedures.every_input(), set(names)
    for name in sorted(extra.keys() & every.keys() - accepted):
        replaced = (procedure, name) in procedures.REPLACED_INPUTS
        if not replaced:
            takers = ", ".join(each for each in procedures.PROCEDURES if name in procedures.inputs_of(each))
            yield (
                f"-e {name} is not an input of {procedure}, which takes"
                f" {', '.join(sorted(procedures.inputs_of(procedure)))}. It belongs to {takers}."
            )


def _accepted(procedure: str) -> dict[str, Input]:
    """The inputs of a procedure and of those that the command line names."""
    accepted = procedures.inputs_of(procedure)
    for name in procedures.named(context.CLIARGS.get("args", ())) or ():
        accepted = {**procedures.inputs_of(name), **accepted}
    return accepted


def _replaced(playbook: str, extra: Mapping[str, Any]) -> str:
    by = procedures.REPLACED[playbook]
    verb = str(extra.get("do", ""))
    names = [by[verb]] if verb in by else list(by.values())
    commands = ", ".join(f"playbooks/{name}.yml" for name in names)
    given = f" with -e do={verb}" if verb else ""
    return f"playbooks/{playbook}.yml{given} was replaced. Run {commands} instead, without -e do."


def _replaced_inputs(extra: Mapping[str, Any], procedure: str) -> Iterator[str]:
    for (owner, name), successor in procedures.REPLACED_INPUTS.items():
        if owner == procedure and name in extra:
            yield f"-e {name} was replaced. Run playbooks/{successor}.yml instead."
    for (owner, name), successor in procedures.RENAMED_INPUTS.items():
        if owner == procedure and name in extra:
            yield f"-e {name} is now called {successor}. Run it with -e {successor}={extra[name]}."
    if "do" in extra and procedure.partition("_")[0] in procedures.REPLACED:
        yield "-e do was replaced: the playbook's name says what is done."


def _is_given(extra: Mapping[str, Any], name: str) -> bool:
    value = extra.get(name)
    return bool(value.strip()) if isinstance(value, str) else value not in (None, [])


def _convert(declared: Input, value: object) -> Any:
    """A value as its type.

    Raises:
        ValueError: with the name, the value and what is accepted.
    """
    name = declared.name
    if declared.type == "bool":
        return strict_bool(value, name)
    if declared.type in ("int", "number"):
        return _number(declared, value)
    if declared.type == "list":
        entries = value if isinstance(value, list) else str(value).split(";")
        return [_plain(entry) for entry in entries if str(entry).strip()]
    if isinstance(value, list | dict):
        raise ValueError(f"-e {name} is {json.dumps(value)}; give a text")
    text = _plain(value)
    if declared.choices and text not in declared.choices:
        nearest = difflib.get_close_matches(text, declared.choices, n=1)
        hint = f" (did you mean {nearest[0]}?)" if nearest else ""
        raise ValueError(f"-e {name} is {text!r}; give one of {', '.join(declared.choices)}{hint}")
    if declared.type == "time":
        return _time(name, text)
    if declared.type == "day":
        try:
            timestamps.parse_day(text)
        except ValueError:
            raise ValueError(f"-e {name} is {text!r}; give a day such as 2026-12-31") from None
    return text


def _number(declared: Input, value: object) -> int | float:
    kind = int if declared.type == "int" else float
    try:
        number = kind(str(value))
    except ValueError:
        raise ValueError(
            f"-e {declared.name} is {str(value)!r}; give a {'whole ' if kind is int else ''}number"
        ) from None
    # Also refuses NaN, which compares with nothing.
    if declared.minimum is not None and not declared.minimum <= number <= declared.maximum:
        raise ValueError(f"-e {declared.name} is {value}; give {_bounds(declared)}")
    return number


def _bounds(declared: Input) -> str:
    most = f" to {declared.maximum:g}" if declared.maximum < float("inf") else " or more"
    return f"{'a number from ' if most != ' or more' else ''}{declared.minimum:g}{most}"


def _time(name: str, text: str) -> str:
    now = datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"-e {name} is {text!r}; give a time such as 2026-01-31T08:05Z") from None
    if at.tzinfo is None:
        raise ValueError(f"-e {name} is {text!r}; add the time zone, as in 2026-01-31T08:05Z")
    if at > now:
        raise ValueError(f"-e {name} is {text!r}, which is in the future; it is {timestamps.stamp(now)}")
    return timestamps.stamp(at.astimezone(UTC))


def _plain(value: object) -> str:
    """A text without Ansible's tags, which would have it rendered as a template."""
    return str(json.loads(json.dumps(str(value))))


def _losing(arguments: Iterable[str]) -> Iterator[tuple[str, int]]:
    """The first variable of every `-e` that words were lost of, and how many they are."""
    for argument in arguments:
        if not argument.startswith(("@", "[", "{")):
            parsed = parse_kv(argument)
            if lost := parsed.pop(_LOST, None):
                yield next(iter(parsed), ""), len(str(lost).split())


def strict_bool(value: object, name: str) -> bool:
    """A switch as a boolean; an unclear value is an error and never one of the two.

    Raises:
        ValueError: with the name, the value and what is accepted.
    """
    try:
        converted: bool = boolean(value, strict=True)
    except TypeError:
        accepted = "true or false (or yes, no, on, off, 1, 0)"
        raise ValueError(f"-e {name} is {str(value)!r}; give {accepted}") from None
    return converted


def switch(arguments: Mapping[str, Any], name: str, variable: str, *, default: bool) -> bool:
    """A task's argument that is true or false: `-e` and templates give texts, and "false" is not true.

    `variable`: the role variable that the error names.

    Raises:
        AnsibleActionFail: when it is neither.
    """
    try:
        return strict_bool(arguments.get(name, default), variable)
    except ValueError as error:
        raise AnsibleActionFail(f"Refused. {error}.") from None
