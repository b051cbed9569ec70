"""Arms the undo of a fault on a host, then injects the fault."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, files
from ansible_collections.katago.fleet.plugins.module_utils.drill import (
    fault,
    faults,
    parameters,
    program,
    steps,
    undo,
    units,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host, RefusedError
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step
from ansible_collections.katago.fleet.plugins.module_utils.procedure import (
    drill_state,
    host_lock,
    security_mode,
)

SHORTEST_TTL = 30
LONGEST_TTL = 7200
# What must be left of the time to live: the fault must not be undone while it is injected.
LEAST_LEFT = 10.0
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


class InjectError(Exception):
    """The fault could not be injected, and what was changed is undone; the message says why."""


@dataclass(frozen=True)
class Asked:
    """A request. `name`: of the fault. `run`: the run of the control node, which may hold the lock."""

    drill: str
    name: str
    ttl: int
    parameters: Mapping[str, object]
    run: str = ""

    def checked(self) -> tuple[fault.Fault, fault.Request]:
        """The fault and the request. Raises RefusedError."""
        if not _NAME.fullmatch(self.drill):
            raise RefusedError(
                f"drill is {self.drill!r:.80}; give 1 to 64 letters, digits or hyphens, such as 2026-11-30-1."
            )
        if (chosen := faults.FAULTS.get(self.name)) is None:
            names = ", ".join(sorted(faults.FAULTS))
            raise RefusedError(f"fault is {self.name!r:.80}; give one of {names}.")
        if not SHORTEST_TTL <= self.ttl <= LONGEST_TTL:
            raise RefusedError(f"ttl is {self.ttl}; give seconds from {SHORTEST_TTL} to {LONGEST_TTL}.")
        try:
            values = parameters.checked(chosen.parameters, self.parameters, chosen.name)
        except parameters.ParameterError as error:
            raise RefusedError(str(error)) from error
        return chosen, fault.Request(self.drill, self.ttl, values)


def arm(host: Host, asked: Asked, *, check: bool = False) -> bool:
    """Write the record and start the timer that undoes the fault; whether anything was changed.

    Raises:
        RefusedError: nothing was changed.
        OSError, SubprocessError: the undo is not armed. Nothing will be injected.
    """
    chosen, request = asked.checked()
    with undo.guarded(host):
        before = _last(host)
        if before is not None and not before.is_undone:
            if _is_same(before, asked, request) and before.phase == "armed" and _is_timer_active(host):
                return False
            if before.drill != asked.drill or before.phase != "armed":
                raise RefusedError(_occupied(before))
        _require_free(host, asked)
        if not host.places.program.is_file():
            raise RefusedError(f"{host.places.program} is missing, so the fault could not be undone.")
        _planned(host, chosen, request)
        drill_state.forget_kept(host.places.directory)
        if check:
            return True
        try:
            _armed(host, asked, request)
        except (OSError, subprocess.SubprocessError):
            # Not even the undo of nothing may work on this disk.
            with contextlib.suppress(OSError, subprocess.SubprocessError, undo.UndoError):
                undo.undo_guarded(host, "request")
            raise
    return True


def _armed(host: Host, asked: Asked, request: fault.Request) -> None:
    boot, uptime = host.boot()
    now = datetime.fromtimestamp(host.time(), timestamps.UTC)
    expires = (now + timedelta(seconds=asked.ttl)).replace(microsecond=0)
    drill = drill_state.Drill(
        drill=asked.drill,
        fault=asked.name,
        parameters=dict(request.values),
        armed=timestamps.stamp(now),
        expires=timestamps.stamp(expires),
        ttl=asked.ttl,
        boot=boot,
        uptime=uptime,
    )
    drill_state.save(drill, host.places.directory)
    (host.places.volatile / program.KILLS).unlink(missing_ok=True)
    for path, text in units.files(host.places, asked.ttl, expires).items():
        files.write(path, text.encode(), mode=0o644)
    host.systemctl("daemon-reload")
    host.systemctl("enable", paths.DRILL_UNDO_TIMER)
    host.systemctl("restart", paths.DRILL_UNDO_TIMER)
    if not _is_timer_active(host):
        raise OSError(f"{paths.DRILL_UNDO_TIMER} is not active")


def inject(host: Host, asked: Asked, *, check: bool = False) -> bool:
    """Inject the fault whose undo is armed; whether anything was changed.

    Raises:
        RefusedError: nothing was changed.
        InjectError: a step failed, and everything was undone.
        undo.UndoError: a step failed, and so did the undo. The timer tries again.
    """
    chosen, request = asked.checked()
    with undo.guarded(host):
        drill = _last(host)
        if drill is None or drill.drill != asked.drill or drill.is_undone:
            raise RefusedError(f"Its undo is not armed: arm the drill {asked.drill} on this host first.")
        if not _is_same(drill, asked, request):
            raise RefusedError(
                f"The drill {asked.drill} is armed for {drill.fault} with {dict(drill.parameters)} and a"
                f" time to live of {drill.ttl} s. Give the same, or undo it first."
            )
        if drill.phase == "injected":
            return False
        _require_armed(host, drill)
        _require_free(host, asked)
        planned = _planned(host, chosen, request)
        if check:
            drill_state.forget_kept(host.places.directory)
            return True
        try:
            _injected(host, drill, planned)
        except (OSError, subprocess.SubprocessError) as error:
            undo.undo_guarded(host, "request")
            raise InjectError(endings.of_error(error)) from error
    return True


def _injected(host: Host, drill: drill_state.Drill, planned: Sequence[Step]) -> None:
    """Write what undoes the fault, then inject it."""
    started = replace(drill, phase="injecting", steps=steps.written(planned))
    drill_state.save(started, host.places.directory)
    for each in planned:
        each.apply(host)
    done = replace(started, phase="injected", injected=timestamps.stamp(host.time()))
    drill_state.save(done, host.places.directory)


def _require_armed(host: Host, drill: drill_state.Drill) -> None:
    """Raise RefusedError unless the timer will undo the drill, and not too soon."""
    if drill.phase != "armed":
        raise RefusedError(f"{_occupied(drill)} Its injection was interrupted.")
    if not _is_timer_active(host):
        raise RefusedError(
            f"{paths.DRILL_UNDO_TIMER} is not active, so nothing would undo the fault. Arm it again."
        )
    if (left := _left(host, drill)) < LEAST_LEFT:
        raise RefusedError(f"The time to live is nearly over: {left:.0f} s are left. Arm a new drill.")


def _planned(host: Host, chosen: fault.Fault, request: fault.Request) -> list[Step]:
    """The steps of the fault. Raises RefusedError, and keeps no file then."""
    try:
        return chosen.plan(host, request)
    except RefusedError:
        drill_state.forget_kept(host.places.directory)
        raise


def info(host: Host) -> tuple[dict[str, Any] | None, fault.Seen]:
    """The last drill of the host for people and the control node, and what shows of its fault.

    Raises StateError.
    """
    drill = drill_state.load(host.places.directory)
    if drill is None:
        return None, fault.Seen(False, "no drill was on this host")
    active = {
        "drill": drill.drill,
        "fault": drill.fault,
        "armed": drill.armed,
        "injected": drill.injected or None,
        "expires": drill.expires,
        "undone": drill.undone or None,
        "undone_by": drill.undone_by,
        "phase": drill.phase,
        "problem": drill.problem,
    }
    if not drill.steps:
        return active, fault.Seen(False, "nothing of the fault")
    try:
        return active, faults.FAULTS[drill.fault].look(host, steps.read(drill.steps))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return active, fault.Seen(False, f"the host cannot be read: {endings.of_error(error)}")


def _last(host: Host) -> drill_state.Drill | None:
    try:
        return drill_state.load(host.places.directory)
    except drill_state.StateError as error:
        raise RefusedError(f"{error}. Undo the drill first.") from error


def _is_same(drill: drill_state.Drill, asked: Asked, request: fault.Request) -> bool:
    return (drill.drill, drill.fault, drill.ttl, dict(drill.parameters)) == (
        asked.drill,
        asked.name,
        asked.ttl,
        dict(request.values),
    )


def _occupied(drill: drill_state.Drill) -> str:
    why = f" Its last undo failed: {drill.problem}." if drill.problem else ""
    return (
        f"The drill {drill.drill} with the fault {drill.fault} is on this host since {drill.armed}"
        f" ({drill.phase}).{why} Undo it first."
    )


def _require_free(host: Host, asked: Asked) -> None:
    if mode := security_mode.standing(*host.places.security_mode):
        raise RefusedError(f"The host is in security mode {mode}. A drill would destroy evidence.")
    holder = host_lock.holder(host.places.lock)
    if holder and holder.run != asked.run:
        raise RefusedError(
            f"{holder.owner} has locked the host for {holder.procedure} since {holder.since}. Wait until it"
            " finishes."
        )


def _is_timer_active(host: Host) -> bool:
    return host.active(paths.DRILL_UNDO_TIMER) == "active"


def _left(host: Host, drill: drill_state.Drill) -> float:
    """Seconds of the time to live that are left; 0 after a reboot, which may have changed everything."""
    boot, uptime = host.boot()
    return drill.ttl - (uptime - drill.uptime) if boot == drill.boot else 0.0
