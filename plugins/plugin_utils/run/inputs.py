"""What is given with `-e`: names that are mistaken, words that were lost, switches that are unclear."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.splitter import parse_kv

from ansible_collections.katago.fleet.plugins.plugin_utils.run import variables

COMMON = ("incident", "break_lock", "without_evidence")
"""What every procedure takes."""
SWITCHES = frozenset(
    {
        *("allow_bad", "breach", "egress", "fetch", "force", "isolate", "replace_engine", "resend"),
        *("restart", "undo", "wait", "without_evidence", "without_watch"),
    }
)
"""The inputs of playbooks that are either true or false."""

_ROLES = Path(__file__).resolve().parents[3] / "roles"
_LOST = "_raw_params"
"""Where Ansible puts the words of `-e` that it finds no name for (ansible.parsing.splitter)."""


def problems(given: Mapping[str, Any], taken: Iterable[str] = ()) -> list[str]:
    """One message for everything that is wrong with the extra variables of a run.

    `given`: those of the command line. `taken`: the names that the playbook takes, besides what every
    procedure does and the variables of roles.
    """
    options = variables.specs(_ROLES)
    names = {*COMMON, *taken}
    switches = (SWITCHES & names) | {name for name, spec in options.items() if spec["type"] == "bool"}
    wrong = list(mistaken(given, [*names, *options]))
    for name in sorted(switches & given.keys()):
        try:
            strict_bool(given[name], name)
        except ValueError as error:
            # A template's value is known, and converted, where it is used.
            if "{{" not in str(given[name]):
                wrong.append(f"{error}.")
    return wrong


def mistaken(given: Mapping[str, Any], known: Iterable[str]) -> Iterator[str]:
    """One message for every extra variable that resembles a known one without being any, and for lost words.

    `-e relase=...` must not roll back to whatever is the default; a site's own variables may be given.
    The words themselves are not told: they may be the rest of a passphrase.
    """
    if _LOST in given:
        written = list(_losing(context.CLIARGS.get("extra_vars", ())))
        for name, count in written or [("", len(str(given[_LOST]).split()))]:
            yield (
                f"-e{f' {name}=...' if name else ''} has lost {count} word{'s' if count > 1 else ''}, since"
                " Ansible ends a value at its first blank: put it into both kinds of quotes, as in"
                " -e 'why=\"two words\"'."
            )
    names = sorted(known)
    for name in sorted(given.keys() - {_LOST} - set(names)):
        if nearest := difflib.get_close_matches(name, names, n=1, cutoff=0.75):
            yield f"-e {name} is no variable of this playbook; did you mean {nearest[0]}?"


def _losing(arguments: Iterable[str]) -> Iterator[tuple[str, int]]:
    """The first variable of every `-e` that words were lost of, and how many they are."""
    for argument in arguments:
        if not argument.startswith(("@", "[", "{")):
            values = parse_kv(argument)
            if lost := values.pop(_LOST, None):
                yield next(iter(values), ""), len(str(lost).split())


def strict_bool(value: object, name: str) -> bool:
    """A switch as a boolean; what is neither true nor false is never taken for one of them.

    Raises:
        ValueError: with the name, the value and what is accepted.
    """
    try:
        found: bool = boolean(value, strict=True)
    except TypeError:
        accepted = "true or false (or yes, no, on, off, 1, 0)"
        raise ValueError(f"-e {name} is {str(value)!r}; give {accepted}") from None
    return found


def switch(arguments: Mapping[str, Any], name: str, variable: str, *, default: bool) -> bool:
    """A task's argument that is true or false: `-e` and templates give words, and "false" is no true one.

    `variable`: that of the role, which a mistake is told by.

    Raises:
        AnsibleActionFail: when it is neither.
    """
    try:
        return strict_bool(arguments.get(name, default), variable)
    except ValueError as error:
        raise AnsibleActionFail(f"Refused. {error}.") from None
