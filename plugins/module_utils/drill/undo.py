"""Undoes the fault of a drill, from whatever point an interrupted run left.

The timer on the host and the control node run the same code.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    directories,
    endings,
    file_lock,
    shape,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill import (
    steps,
    steps_files,
    steps_network,
    steps_units,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step
from ansible_collections.katago.fleet.plugins.module_utils.procedure import drill_state

GUARD = "guard"
# More than an injection takes.
GUARD_SECONDS = 30.0
_GONE_SECONDS = 30.0
_POLL_SECONDS = 0.1
_FAILURES = (OSError, subprocess.SubprocessError, ValueError)


class UndoError(Exception):
    """The fault, or a part of it, is still there; the message says what and why, as part of a sentence."""


class LostError(UndoError):
    """The record of the drill is lost, so that only a person can undo the rest."""


@contextlib.contextmanager
def guarded(host: Host, seconds: float = GUARD_SECONDS) -> Iterator[None]:
    """Keep other processes from arming, injecting or undoing. Raises OSError and TimeoutError."""
    directories.make(host.places.volatile, own=host.places.volatile, mode=directories.PRIVATE)
    with file_lock.locked(host.places.volatile / GUARD, seconds):
        yield


def is_due(host: Host, drill: drill_state.Drill) -> bool:
    """Whether the time to live of a drill is over."""
    boot, uptime = host.boot()
    return drill.is_due(boot, uptime, host.time(), timestamps.parse(drill.expires).timestamp())


def undo(host: Host, by: drill_state.By) -> bool:
    """Undo the fault and disarm the timer; whether there was anything to undo.

    Every step is tried, even if another one fails. The drill is recorded as undone only after a check that
    nothing of the fault is left. Safe to repeat.

    Raises:
        UndoError: what is left. The timer stays, and tries again.
    """
    with guarded(host):
        return undo_guarded(host, by)


def undo_guarded(host: Host, by: drill_state.By) -> bool:
    """Do what `undo` does, for a caller that keeps other processes away itself."""
    try:
        drill = drill_state.load(host.places.directory)
        pending = steps.read(drill.steps) if drill else []
    except (drill_state.StateError, shape.ShapeError) as error:
        _sweep(host)
        raise LostError(
            f"{error}. What could be recognized without it was undone. The original files are in"
            f" {host.places.directory / drill_state.KEPT}: compare them with those of the host, then remove"
            f" {host.places.directory}"
        ) from error
    if drill is None or drill.is_undone:
        return _clean(host)
    drill = _noted(host, replace(drill, phase="undoing"))
    problems = _undone(host, pending)
    if problems:
        _noted(host, replace(drill, problem="; ".join(problems)))
        raise UndoError("; ".join(problems))
    done = replace(
        drill, phase="undone", undone=timestamps.stamp(host.time()), undone_by=by, problem="", steps=()
    )
    drill_state.save(done, host.places.directory)
    _clean(host)
    return True


def _undone(host: Host, pending: list[Step]) -> list[str]:
    """Undo steps, and wait until nothing is left of them; the problems."""
    # Units last: they must start with everything else restored.
    units = [each for each in pending if isinstance(each, steps_units.Unit)]
    others = [each for each in reversed(pending) if not isinstance(each, steps_units.Unit)]
    tried = [(each, _tried(host, each)) for each in (*others, *units)]
    waited = 0.0
    while problems := [
        f"{text} ({error})" if error else text for each, error in tried if (text := _remains(host, each))
    ]:
        if waited >= _GONE_SECONDS:
            break
        host.pause(_POLL_SECONDS)
        waited += _POLL_SECONDS
    return problems


def _tried(host: Host, each: Step) -> str:
    try:
        each.undo(host)
    except _FAILURES as error:
        return endings.of_error(error)
    return ""


def _remains(host: Host, each: Step) -> str:
    try:
        return each.remains(host)
    except _FAILURES as error:
        return f"{type(each).__name__} cannot be checked: {endings.of_error(error)}"


def _noted(host: Host, drill: drill_state.Drill) -> drill_state.Drill:
    """Record how far the undo is. A disk that cannot be written must not prevent it."""
    with contextlib.suppress(OSError):
        drill_state.save(drill, host.places.directory)
    return drill


def _clean(host: Host) -> bool:
    """Remove the timer, its service and the kept files; whether there were any."""
    places = host.places
    files = [places.system_units / name for name in (paths.DRILL_UNDO_TIMER, paths.DRILL_UNDO_UNIT)]
    existing = [path for path in files if os.path.lexists(path)]
    if existing:
        host.systemctl("disable", "--now", paths.DRILL_UNDO_TIMER, check=False)
        for path in existing:
            path.unlink(missing_ok=True)
        host.systemctl("daemon-reload")
    (places.timer_stamps / f"stamp-{paths.DRILL_UNDO_TIMER}").unlink(missing_ok=True)
    drill_state.forget_kept(places.directory)
    return bool(existing)


def _sweep(host: Host) -> None:
    """Undo what can be recognized without the record."""
    units = [paths.SERVICE_UNIT, paths.LOAD_BALANCER_UNIT]
    runtime = host.places.runtime_units
    blocked = [each.parent.name.removesuffix(".d") for each in runtime.glob(f"*/{paths.DRILL_DROP_IN}")]
    recognized: list[Step] = [
        steps_network.Table(""),
        steps_units.Helper("", 0),
        steps_files.Full(str(host.places.cache), "bytes", True, 0, 0),
        *(steps_units.Blocked(unit) for unit in blocked),
        *(steps_units.Frozen(unit) for unit in units),
        *(steps_units.Hung(unit, all=True) for unit in units),
        steps_units.Quota(paths.SERVICE_UNIT, 0),
    ]
    for each in recognized:
        _tried(host, each)
