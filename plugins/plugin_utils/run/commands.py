"""Commands of ansible-playbook: the one that runs, as a record may have it, and those that are proposed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants

# Extra variables whose values are no secrets; of any other only the name is recorded.
SHOWN = frozenset(
    {
        *("incident", "break_lock"),
        *("do", "alert", "severity", "status", "lead", "to", "resend", "started", "triage_json", "breach"),
        *("force", "release", "allow_bad", "replace_engine", "at", "scope", "from_host", "undo"),
        *("visits", "default_visits", "seconds", "review_visits", "review_seconds", "concurrent", "queued"),
        *("cache_mb", "minutes", "why", "deploy_serial", "isolate", "egress"),
        *("wait", "restart", "fetch", "without_watch"),
    }
)
HIDDEN = "***"
_LONGEST = 120


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


def inventory_arguments(sources: Sequence[str]) -> list[str]:
    """The `-i` arguments without which the commands would not find the hosts."""
    default = [str(Path(source).resolve()) for source in constants.DEFAULT_HOST_LIST]
    if [str(Path(source).resolve()) for source in sources] == default:
        return []
    return [part for source in sources for part in ("-i", shlex.quote(os.path.relpath(source)))]


def with_inventory(text: str, sources: Sequence[str]) -> str:
    """A text with the inventory of the run, `sources`, in every command that it proposes."""
    command = " ".join(["ansible-playbook", *inventory_arguments(sources)])
    return text.replace("ansible-playbook playbooks/", f"{command} playbooks/")


def _several(value: object) -> Sequence[str]:
    if not value or value == ("all",) or value == ["all"]:
        return ()
    return [value] if isinstance(value, str) else [str(each) for each in value]  # type: ignore[attr-defined]


def _value(name: str, value: object) -> str:
    if name not in SHOWN or isinstance(value, dict | list):
        return HIDDEN
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
