"""The units of HAProxy and keepalived: whether they use their files, and how they come to use new ones.

What is out of date is decided once, in `plan`, for check mode and for a real run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    commands,
    directories,
    endings,
    file_set,
    process,
    unit_state,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError

SYSTEMCTL_SECONDS = 90
Action = Literal["started", "restarted", "reloaded", "kept"]
# A unit that runs with the configuration of its package is restarted too.
_VERBS: dict[Action, str] = {"started": "restart", "restarted": "restart", "reloaded": "reload"}


@dataclass(frozen=True)
class Plan:
    """What a unit needs to use its files.

    `files`: those that differ. `was_active`: whether it runs now. `leftovers`: scratch files of a run that
    was killed.
    """

    unit: str
    files: tuple[file_set.File, ...]
    action: Action
    enables: bool
    was_active: bool
    leftovers: tuple[Path, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.files or self.leftovers) or self.action != "kept" or self.enables


def drop_in(unit: str) -> Path:
    """The file with the sandbox of a unit."""
    return paths.SYSTEM_UNITS / f"{unit}.d" / "katago.conf"


def plan(
    unit: str, sandbox: file_set.File, files: Sequence[file_set.File], *, is_new: bool, is_loaded: bool
) -> Plan:
    """What a unit needs to use its sandbox and its files.

    `is_new`: whether it has none of our files yet. `is_loaded`: whether the running process uses them, as far
    as that can be seen. Raises OSError, subprocess.SubprocessError.
    """
    state = unit_state.read(unit)
    differing = tuple(file for file in (sandbox, *files) if not file.is_current())
    action: Action = "kept"
    if is_new or not state.active:
        action = "started"
    elif sandbox in differing or state.is_older_than([sandbox.path]):
        action = "restarted"
    elif differing or not is_loaded:
        action = "reloaded"
    leftovers = file_set.leftovers(file.path for file in (sandbox, *files))
    return Plan(unit, differing, action, not state.enabled, state.active, tuple(leftovers))


def apply(wanted: Plan, verify: Callable[[], None]) -> None:
    """Replace the files, and make the unit use them. `verify` raises LoadBalancerError if it does not.

    Raises OSError; LoadBalancerError. The previous files are in force again then.
    """
    for path in wanted.leftovers:
        path.unlink(missing_ok=True)
    for file in wanted.files:
        directories.make(file.path.parent)
    try:
        with file_set.replaced(wanted.files):
            _use(wanted.unit, wanted.action)
            verify()
    except LoadBalancerError as error:
        raise LoadBalancerError(f"{error} {_use_previous(wanted)}") from error


def reload(unit: str) -> None:
    """Have the running process read its files again. Raises LoadBalancerError."""
    _systemctl(unit, "reload", unit)


def _use(unit: str, action: Action) -> None:
    _systemctl(unit, "daemon-reload")
    _systemctl(unit, "enable", "--quiet", unit)
    if action != "kept":
        _systemctl(unit, _VERBS[action], unit)


def _use_previous(wanted: Plan) -> str:
    try:
        _systemctl(wanted.unit, "daemon-reload")
        if not wanted.was_active:
            _systemctl(wanted.unit, "stop", wanted.unit)
        elif wanted.action != "kept":
            _systemctl(wanted.unit, _VERBS[wanted.action], wanted.unit)
    except LoadBalancerError as error:
        return f"The previous configuration was restored, but {wanted.unit} does not use it: {error}"
    return "The previous configuration was restored."


def remove(unit: str, files: Sequence[file_set.File]) -> None:
    """Stop a unit permanently and remove its files. Raises OSError, LoadBalancerError."""
    for path in file_set.leftovers(file.path for file in files):
        path.unlink(missing_ok=True)
    _systemctl(unit, "disable", "--now", "--quiet", unit)
    with file_set.replaced([file for file in files if not file.is_current()]):
        _systemctl(unit, "daemon-reload")


def _systemctl(unit: str, *arguments: str) -> None:
    status, output = commands.ask(["systemctl", *arguments], SYSTEMCTL_SECONDS)
    if status != 0:
        raise LoadBalancerError(
            f"`systemctl {' '.join(arguments)}` failed: {endings.describe(output, status=status)}. Last log"
            f" lines: {log(unit)}"
        )


def log(unit: str) -> str:
    """The last log lines of a unit."""
    command = ["journalctl", f"--unit={unit}", "--lines=10", "--output=cat", "--no-pager"]
    status, output = commands.ask(command, 20)
    return endings.describe(output, status=status)


def processes(unit: str, proc: Path) -> set[int]:
    """The processes of a unit."""
    found = set()
    for directory in proc.iterdir():
        if directory.name.isdigit():
            # Processes may disappear meanwhile.
            with contextlib.suppress(OSError):
                if process.unit(directory) == unit:
                    found.add(int(directory.name))
    return found
