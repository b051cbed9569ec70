"""`bin/fleet`: the procedures as commands without nested quotes, made from the table of procedures.

It turns options into the inputs of a playbook, prints the `ansible-playbook` command, and becomes that
command, or waits for one that has a result when it is interrupted. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from ansible_collections.katago.fleet.plugins.module_utils.common import secret_text
from ansible_collections.katago.fleet.plugins.plugin_utils.run import interruption, procedures
from ansible_collections.katago.fleet.plugins.plugin_utils.run.procedures import Input, Procedure

ROOT = Path(__file__).resolve().parents[3]
_ONLY_READS = frozenset({"--list-hosts", "--list-tags", "--list-tasks", "--syntax-check", "--version"})
_METAVARS = {
    "text": "TEXT",
    "word": "NAME",
    "int": "NUMBER",
    "number": "NUMBER",
    "list": "TEXT",
    "time": "TIME",
    "day": "DAY",
    "path": "FILE",
}
_WIDTH = 100
ANSIBLE_OPTIONS = frozenset(
    {
        *("--ask-become-pass", "--ask-pass", "--ask-vault-password", "--ask-vault-pass", "--become"),
        *("--become-method", "--become-password-file", "--become-pass-file", "--become-user", "--check"),
        *("--connection", "--connection-password-file", "--conn-pass-file", "--diff", "--extra-vars"),
        *("--flush-cache", "--force-handlers", "--forks", "--inventory", "--key-file", "--limit"),
        *("--list-hosts", "--list-tags", "--list-tasks", "--module-path", "--private-key"),
        *("--scp-extra-args", "--sftp-extra-args", "--skip-tags", "--ssh-common-args", "--ssh-extra-args"),
        *("--start-at-task", "--step", "--syntax-check", "--tags", "--timeout", "--user", "--vault-id"),
        *("--vault-password-file", "--vault-pass-file", "--verbose", "--version", "--inventory-file"),
    }
)
"""The long options of ansible-playbook, so that a misspelt input is not passed on to it."""


class UsageError(Exception):
    """The command line is not valid; the message says what is wrong and what is accepted."""


def main(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status; a procedure replaces this process."""
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(overview())
            return 0
        if arguments[0] == "completion":
            print(completion())
            return 0
        if arguments[0] in procedures.GROUPS and list(arguments[1:]) in (["-h"], ["--help"]):
            print(_described(procedures.members(arguments[0])))
            return 0
        procedure, rest = find(arguments)
        if {"-h", "--help"} & set(rest):
            print(_parser(procedure).format_help(), end="")
            return 0
        command = command_line(procedure, rest)
    except UsageError as error:
        print(f"bin/fleet: {error}", file=sys.stderr)
        return 2
    # A log of a job that runs this command keeps what is printed.
    print(secret_text.redact(shlex.join(command))[0], file=sys.stderr, flush=True)
    _begin_report(procedure, rest)
    return _become(command, is_interruptible=procedure.is_interruptible)


def find(arguments: Sequence[str]) -> tuple[Procedure, list[str]]:
    """The procedure that a command line names, and the arguments after its name.

    `incident update`, `incident-update` and `incident_update` are the same.

    Raises:
        UsageError: if there is no such procedure.
    """
    first, second = arguments[0], arguments[1] if len(arguments) > 1 else ""
    for name, used in ((first, 1), (f"{first}_{second}", 2)):
        if procedure := procedures.PROCEDURES.get(name.replace("-", "_")):
            return procedure, list(arguments[used:])
    if first in procedures.GROUPS:
        verbs = [each.command[1] for each in procedures.members(first)]
        given = f"is {second!r}" if second and not second.startswith("-") else "is missing"
        raise UsageError(f"the verb after {first} {given}; give one of {', '.join(verbs)}.")
    names = [" ".join(each.command) for each in procedures.PROCEDURES.values()]
    nearest = difflib.get_close_matches(" ".join(filter(None, (first, second))), names, n=1, cutoff=0.5)
    nearest = nearest or difflib.get_close_matches(first, names, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    raise UsageError(f"there is no procedure {first!r}.{hint} bin/fleet --help lists them.")


def command_line(procedure: Procedure, arguments: Sequence[str]) -> list[str]:
    """The ansible-playbook command of a procedure and its arguments.

    Inputs become one JSON value of `-e`, in which every text survives as it is; all else is passed on.

    Raises:
        UsageError: if an option is misspelt or a value is not valid.
    """
    options, passed = _parser(procedure).parse_known_args(list(arguments))
    _refuse_misspelt(procedure, passed)
    _refuse_stray_words(passed)
    given = {name: value for name, value in vars(options).items() if value is not None}
    inputs = ["-e", json.dumps(given, ensure_ascii=False)] if given else []
    return ["ansible-playbook", playbook(procedure.name), *inputs, *passed]


def playbook(name: str) -> str:
    """A playbook as ansible-playbook finds it from the current directory."""
    if ROOT.parts[-3:] == ("ansible_collections", "katago", "fleet"):
        return f"katago.fleet.{name}"
    path = ROOT / "playbooks" / f"{name}.yml"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def overview() -> str:
    """The help of all procedures, by situation."""
    lines = [
        "usage: bin/fleet PROCEDURE [OPTION...] [-l HOST] [OPTION OF ANSIBLE-PLAYBOOK...]",
        "",
        "Runs a procedure on the fleet. Prints the ansible-playbook command and exits with its status.",
        "bin/fleet PROCEDURE --help lists its options; all accept -l HOST, --check and -i INVENTORY.",
    ]
    for situation, members in procedures.by_situation().items():
        lines += ["", f"{situation}:", _described(members)]
    return "\n".join([*lines, "", 'Completion for bash: eval "$(bin/fleet completion)"'])


def _described(members: Iterable[Procedure]) -> str:
    """The commands and summaries of procedures."""
    width = max(len(" ".join(each.command)) for each in procedures.PROCEDURES.values()) + 2
    lines = []
    for each in members:
        name = f"  {' '.join(each.command):{width}}"
        lines += textwrap.wrap(each.summary, _WIDTH, initial_indent=name, subsequent_indent=" " * len(name))
    return "\n".join(lines)


def completion() -> str:
    """A script that completes procedures and their options in bash."""
    cases = []
    for each in procedures.PROCEDURES.values():
        options = [part for one in procedures.inputs_of(each.name).values() for part in _flags(one)]
        words = " ".join(["--help", *sorted(options)])
        cases.append(f'    "{" ".join(each.command)}") words="{words} --check --diff --limit --inventory" ;;')
    for group in procedures.GROUPS:
        verbs = [each.command[1] for each in procedures.members(group)]
        cases.append(f'    "{group}") words="{" ".join(verbs)}" ;;')
    names = " ".join(dict.fromkeys(each.command[0] for each in procedures.PROCEDURES.values()))
    return "\n".join(
        [
            "_katago_fleet() {",
            "  local words current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}",
            f'  case " {" ".join(procedures.GROUPS)} " in',
            '    *" $command "*) [ "$COMP_CWORD" -gt 2 ] && command="$command ${COMP_WORDS[2]}" ;;',
            "  esac",
            '  [ "$COMP_CWORD" -eq 1 ] && command=',
            '  case "$command" in',
            f'    "") words="{names} --help" ;;',
            *cases,
            "  esac",
            '  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")',
            "}",
            "complete -o default -F _katago_fleet fleet bin/fleet ./bin/fleet",
        ]
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = message.replace("expected one argument", "it needs a value")
        raise UsageError(f"{message}. {self.prog} --help lists the options.")


def _parser(procedure: Procedure) -> _Parser:
    name = " ".join(procedure.command)
    parser = _Parser(
        prog=f"bin/fleet {name}",
        usage=f"bin/fleet {name} [OPTION...] [-l HOST] [OPTION OF ANSIBLE-PLAYBOOK...]",
        description=f"{procedure.summary}.",
        epilog="Other options are passed to ansible-playbook: -l HOST, --check, --diff, -i INVENTORY, -v.",
        add_help=False,
        allow_abbrev=False,
        argument_default=None,
    )
    parser.add_argument("-h", "--help", action="store_true", default=None, help="show this help")
    for each in procedures.inputs_of(procedure.name).values():
        extra: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if each.type == "bool" else {}
        if each.type == "list":
            extra = {"action": "append"}
        if each.type != "bool":
            extra["metavar"] = "|".join(each.choices) or _METAVARS[each.type]
        parser.add_argument(each.option, dest=each.name, default=None, help=_help(each), **extra)
    return parser


def _help(declared: Input) -> str:
    notes = []
    if declared.required:
        notes.append("required")
    if isinstance(declared.default, bool):
        notes.append(f"default: {'yes' if declared.default else 'no'}")
    elif declared.default not in (None, ""):
        notes.append(f"default: {declared.default}")
    if declared.type == "list":
        notes.append("can be given several times")
    return declared.summary.replace("%", "%%") + (f" ({'; '.join(notes)})" if notes else "")


def _flags(declared: Input) -> list[str]:
    negated = [f"--no-{declared.option[2:]}"] if declared.type == "bool" else []
    return [declared.option, *negated]


_WITHOUT_VALUE = frozenset(
    {
        *("-b", "-C", "-D", "-J", "-k", "-K", "-v", "--ask-become-pass", "--ask-pass", "--ask-vault-pass"),
        *("--ask-vault-password", "--become", "--check", "--diff", "--flush-cache", "--force-handlers"),
        *("--list-hosts", "--list-tags", "--list-tasks", "--step", "--syntax-check"),
        *("--verbose", "--version"),
    }
)
"""Options of ansible-playbook that take no value."""


def _refuse_stray_words(arguments: Sequence[str]) -> None:
    """Refuse words that belong to no option: most likely the rest of a text without quotes."""
    takes_value = False
    for argument in arguments:
        is_option = argument.startswith("-") and argument != "-"
        if not is_option and not takes_value:
            raise UsageError(
                f"{argument!r} belongs to no option. Put a text with spaces in quotes:"
                ' --why "two words". Separate several hosts by commas: -l katago-1,katago-2.'
            )
        verbosity = re.fullmatch("-v+", argument) is not None
        takes_value = is_option and "=" not in argument and argument not in _WITHOUT_VALUE and not verbosity


def _refuse_misspelt(procedure: Procedure, arguments: Sequence[str]) -> None:
    options = [flag for each in procedures.inputs_of(procedure.name).values() for flag in _flags(each)]
    for argument in arguments:
        if argument == "--":
            return
        option = argument.partition("=")[0]
        if option.startswith("--") and option not in ANSIBLE_OPTIONS:
            name = " ".join(procedure.command)
            owners = [
                " ".join(each.command)
                for each in procedures.PROCEDURES.values()
                for one in procedures.inputs_of(each.name).values()
                if option in _flags(one)
            ]
            if owners:
                raise UsageError(f"{name} has no option {option}. It belongs to {', '.join(owners)}.")
            nearest = difflib.get_close_matches(option, [*options, *ANSIBLE_OPTIONS], n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            raise UsageError(
                f"{name} has no option {option}.{hint} bin/fleet {name} --help lists its options."
            )


def _begin_report(procedure: Procedure, arguments: Sequence[str]) -> None:
    """Replace an old report of triage: Ansible may refuse a limit before any plugin of ours is loaded."""
    options, passed = _parser(procedure).parse_known_args(list(arguments))
    path = getattr(options, "triage_json", None) or _extra_variable(passed, "triage_json")
    if procedure.name != "triage" or not path or _ONLY_READS & set(passed):
        return
    from ansible_collections.katago.fleet.plugins.plugin_utils.run import triage_file

    try:
        triage_file.begin(Path(path).expanduser(), datetime.now(UTC))
    except OSError as error:
        print(f"bin/fleet: the earlier report {path} was not replaced: {error.strerror}", file=sys.stderr)


def _extra_variable(arguments: Sequence[str], name: str) -> str | None:
    """The value of a variable that is given with `-e` as JSON or as `name=value`; None if it is not."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-e", "--extra-vars", action="append", default=[])
    variables: dict[str, Any] = {}
    for text in parser.parse_known_args(list(arguments))[0].extra_vars:
        try:
            parsed = json.loads(text) if text.startswith("{") else None
            words = shlex.split(text) if parsed is None else []
        except ValueError:
            # Ansible refuses it.
            continue
        variables |= parsed or dict(word.split("=", 1) for word in words if "=" in word)
    value = variables.get(name)
    return value if isinstance(value, str) else None


def _become(command: Sequence[str], *, is_interruptible: bool = False) -> int:
    beside = ROOT / ".venv" / "bin" / command[0]
    # The environment of the checkout has the version that the collection was tested with.
    program = str(beside) if beside.is_file() else shutil.which(command[0])
    if program is None:
        print(
            "bin/fleet: ansible-playbook was not found. In a checkout, bin/lab up installs it; otherwise"
            " activate the Python environment that has ansible-core.",
            file=sys.stderr,
        )
        return 127
    environment = os.environ | {"PATH": f"{Path(program).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if not _has_configuration():
        environment.setdefault("ANSIBLE_STDOUT_CALLBACK", "katago.fleet.output")
    if is_interruptible:
        return interruption.run([program, *command[1:]], environment)
    os.execve(program, list(command), environment)  # noqa: S606 - the arguments are a list, not a shell's


def _has_configuration() -> bool:
    """Whether Ansible reads a configuration, whose output is then left as it is chosen there."""
    places = (Path("ansible.cfg"), Path("~/.ansible.cfg").expanduser(), Path("/etc/ansible/ansible.cfg"))
    return "ANSIBLE_CONFIG" in os.environ or any(place.is_file() for place in places)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
