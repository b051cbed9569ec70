"""One run of self-healing: look, decide within the budget, keep evidence, repair, record, or escalate."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.procedure import (
    drill_state,
    host_lock,
    security_mode,
)
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import (
    budget,
    evidence_store,
    log,
    measure,
    policy,
    repairs,
    uptime,
)
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.module_utils.triage import reason

INTERRUPTED = "a repair was interrupted"
_RESUME = "Run playbooks/triage.yml, remove the cause, then run playbooks/healing_resume.yml"
_LOOK = "Run playbooks/triage.yml to find the cause"

_LONGEST_MESSAGE = 500

# Levels of the journal [sd-daemon(3)].
_CRITICAL, _ERROR, _WARNING, _NOTICE = 2, 3, 4, 5


@dataclass(frozen=True)
class Places:
    """The files that the program reads and writes."""

    state: Path = paths.SELF_HEALING_STATE
    settings: Path = paths.SELF_HEALING_SETTINGS
    log: Path = paths.SELF_HEALING_LOG
    evidence: Path = paths.SELF_HEALING_EVIDENCE
    pause: tuple[Path, ...] = paths.SELF_HEALING_PAUSE
    security_mode: tuple[Path, Path] = paths.SECURITY_MODE
    lock: Path = paths.HOST_LOCK
    drill: Path = paths.DRILL_DIRECTORY


@dataclass(frozen=True)
class Host:
    """What the program measures and changes. `clock`: the boot's id and the seconds since that boot."""

    look: Callable[[], policy.Case] = measure.look
    examine: Callable[[policy.Name], policy.Case] = measure.examine
    keep_evidence: Callable[[Path, str], Path] = evidence_store.keep
    repairs: Mapping[policy.Name, Callable[[str], str]] = field(default_factory=lambda: repairs.REPAIRS)
    clock: Callable[[], tuple[str, float]] = uptime.read
    now: Callable[[], str] = timestamps.now
    journal: Callable[[int, str], None] = lambda level, text: print(
        f"<{level}>{' '.join(text.split())}", file=sys.stderr, flush=True
    )


class Healer:
    """A run of the program, which is the only one on the host."""

    def __init__(self, places: Places, host: Host) -> None:
        self._places = places
        self._host = host
        self._drill = drill_state.current(places.drill)

    def run(self) -> int:
        """Repair what the allow-list has, if that is allowed now. Return 1 if nothing could be recorded."""
        try:
            state = self._saved(self._checked(self._current()))
        except OSError as error:
            self._host.journal(
                _CRITICAL,
                f"Self-healing repairs nothing, because it cannot record repairs: {error}. {_LOOK}.",
            )
            return 1
        if state.why and state.since == state.checked_at:
            self._host.journal(_NOTICE, f"{state.status}: {state.why}")
        return 0

    def _current(self) -> healing_state.State:
        """The state now; one that is stopped if its file is missing or damaged."""
        boot, uptime = self._host.clock()
        try:
            state = healing_state.load(self._places.state)
        except healing_state.StateError as error:
            new = healing_state.State(budget.Clock(boot, uptime, 0.0), self._host.now())
            self._set_aside()
            return self._stopped(new, f"the record of earlier repairs is lost: {error}")
        return state.at(state.clock.at(boot, uptime), self._host.now())

    def _checked(self, state: healing_state.State) -> healing_state.State:
        """The state after this run."""
        self._release_own_lock()
        if state.status == "repairing":
            state = self._interrupted(state)
        state = state.without_drills(but=self._drill)
        if state.is_stopped:
            return state.having("stopped", state.escalation.why if state.escalation else "")
        try:
            settings = healing_state.settings(self._places.settings)
        except healing_state.StateError as error:
            return self._blocked(state, str(error), escalates=True)
        if pause := self._pause(settings):
            return state.having("paused", pause)
        case = self._host.look()
        if (found := policy.candidate(case)) is None:
            # Nothing is repaired by what is not known, and what is not known is not healthy.
            unknown = "" if "unit" in case.facts.values else case.facts.why("unit")
            return state.having("unknown", unknown) if unknown else self._idle(state)
        repair, fault = found
        if refused := self._refused(state, repair, fault):
            return refused
        return self._decided(state, settings, repair)

    def _decided(
        self, state: healing_state.State, settings: healing_state.Settings, candidate: policy.Repair
    ) -> healing_state.State:
        """The state after a fault was examined, and repaired if that is allowed."""
        decision = policy.decide(self._host.examine(candidate.name))
        if decision is None:
            return self._idle(state)
        if decision.repair is None:
            return self._blocked(state, f"{decision.fault}; {decision.why}", escalates=True)
        if refused := self._refused(state, decision.repair, decision.fault):
            return refused
        if settings.dry_run:
            return self._would_repair(state, decision.repair, decision.fault)
        return self._repaired(state, decision.repair, decision.fault)

    def _would_repair(
        self, state: healing_state.State, repair: policy.Repair, fault: str
    ) -> healing_state.State:
        """The state in a dry run. What would be done is recorded once."""
        new = state.having("would_repair", f"{fault}; would {repair.does}")
        if state.status != new.status:
            self._log(log.Event(state.checked_at, "would_repair", new.why, repair=repair.name))
        return new

    def _refused(
        self, state: healing_state.State, repair: policy.Repair, fault: str
    ) -> healing_state.State | None:
        """The state if nothing may be repaired now; None if a repair may start."""
        if mode := security_mode.standing(*self._places.security_mode):
            return self._blocked(state, f"{fault}; the host is in security mode {mode}", escalates=True)
        if holder := host_lock.holder(self._places.lock):
            why = f"{fault}; {holder.owner} has locked the host for {holder.procedure} since {holder.since}"
            return self._blocked(state, why, escalates=False)
        refusal = budget.refusal(
            state.spent(self._drill), repair.name, state.clock.total, lingers=repair.lingers
        )
        if refusal is None:
            return None
        if refusal.stops:
            return self._stopped(state, f"{fault}; {refusal.why}")
        return state.having("waiting", f"{fault}; {refusal.why}")

    def _repaired(self, state: healing_state.State, repair: policy.Repair, fault: str) -> healing_state.State:
        """Lock the host, look again, keep the evidence, repair."""
        claim = self._claim()
        try:
            holder = host_lock.take(claim, self._places.lock)
        except OSError as error:
            return self._blocked(state, f"{fault}; the host cannot be locked: {error}", escalates=True)
        if holder != claim:
            return self._blocked(state, f"{fault}; {holder.owner} has locked the host", escalates=False)
        try:
            # Somebody may have repaired or paused the host before the lock was taken.
            found = policy.candidate(self._host.look())
            if found is None or found[0].name != repair.name:
                return self._idle(state)
            if pause := self._pause(healing_state.Settings()):
                return state.having("paused", pause)
            if mode := security_mode.standing(*self._places.security_mode):
                return self._blocked(state, f"{fault}; the host is in security mode {mode}", escalates=True)
            return self._made(state, repair, fault, claim.id)
        finally:
            self._release_own_lock()

    def _made(
        self, state: healing_state.State, repair: policy.Repair, fault: str, id: str
    ) -> healing_state.State:
        """The state after the repair, which was recorded before it started."""
        began = time.monotonic()
        name = f"{state.checked_at.replace(':', '')}-{id}"
        try:
            evidence = str(self._host.keep_evidence(self._places.evidence, name))
        except OSError as error:
            return self._blocked(state, f"{fault}; the evidence cannot be kept: {error}", escalates=True)
        message = f"{fault}; going to {repair.does}"
        state = self._saved(state.started(id, repair.name, fault, self._drill))
        self._log(log.Event(state.checked_at, "started", message, id, repair.name, evidence))
        self._host.journal(_WARNING, f"Repair {id} ({repair.name}): {message}. Evidence: {evidence}")
        try:
            done, result = self._host.repairs[repair.name](fault), "repaired"
        except repairs.FAILURES as error:
            done, result = repairs.message(error), "failed"
        except Exception as error:
            # A bug must not leave a repair that looks as if it still ran.
            done, result = reason.defect(error), "failed"
        seconds = round(time.monotonic() - began, 1)
        ended = state.at(state.clock.at(*self._host.clock()), self._host.now())
        if result == "repaired":
            self._log(log.Event(ended.checked_at, "repaired", done, id, repair.name, evidence, seconds))
            self._host.journal(_WARNING, f"Repair {id} ({repair.name}) succeeded in {seconds} s: {done}")
            return replace(ended.finished(id, "repaired"), escalation=None).having("idle")
        self._log(log.Event(ended.checked_at, "failed", done, id, repair.name, evidence, seconds))
        self._host.journal(_ERROR, f"Repair {id} ({repair.name}) failed after {seconds} s: {_short(done)}")
        return self._stopped(ended.finished(id, "failed"), f"{fault}; the repair failed: {_short(done)}")

    def _interrupted(self, state: healing_state.State) -> healing_state.State:
        """The state after a repair that did not end: the program was killed, or the host went down."""
        interrupted = [each for each in state.repairs if each.result == "started"]
        for each in interrupted:
            message = f"{state.why}; the program was killed, or the host went down"
            self._log(log.Event(self._host.now(), "interrupted", message, each.id, each.repair))
            state = state.finished(each.id, "interrupted")
        if interrupted and all(each.drill not in ("", self._drill) for each in interrupted):
            return self._idle(state)
        return self._stopped(state, f"{state.why}; {INTERRUPTED}")

    def _idle(self, state: healing_state.State) -> healing_state.State:
        return replace(state, escalation=None).having("idle")

    def _blocked(self, state: healing_state.State, why: str, *, escalates: bool) -> healing_state.State:
        """The state while something else than the budget forbids a repair."""
        if escalates:
            return self._escalated(state, why, stops=False).having("blocked", why)
        return state.having("blocked", why)

    def _stopped(self, state: healing_state.State, why: str) -> healing_state.State:
        return self._escalated(state, why, stops=True).having("stopped", why)

    def _escalated(self, state: healing_state.State, why: str, *, stops: bool) -> healing_state.State:
        """The state with an escalation. Another reason for the same consequence is not reported again."""
        before = state.escalation
        if before is not None and (before.stops or not stops):
            return state
        at = self._host.now()
        does = "has stopped on this host" if stops else "does not repair this host"
        self._host.journal(_CRITICAL, f"Self-healing {does}: {why}. {_RESUME if stops else _LOOK}.")
        self._log(log.Event(at, "escalated", why))
        return replace(state, escalation=healing_state.Escalation(at, why, stops, self._drill))

    def _pause(self, settings: healing_state.Settings) -> str:
        """Why repairs are paused; empty if they are not."""
        if settings.paused:
            return "paused by the variable self_healing_paused"
        paused = healing_state.pause(self._places.pause)
        return str(paused) if paused else ""

    def _claim(self) -> host_lock.Holder:
        id = host_lock.new_id()
        owner = f"{log.WHO}@{os.uname().nodename}"
        return host_lock.Holder(owner, log.PROCEDURE, f"{log.WHO}:{id}", self._host.now(), id)

    def _release_own_lock(self) -> None:
        """Release the lock of this program; also that of a killed one, because only one instance works."""
        holder = host_lock.holder(self._places.lock)
        if holder and holder.is_of_self_healing:
            try:
                host_lock.release(holder.run, self._places.lock)
            except OSError as error:
                self._host.journal(_ERROR, f"The host's lock was not released: {error}")

    def _set_aside(self) -> None:
        """Keep the damaged file, if there is one, under another name."""
        if self._places.state.exists():
            at = self._host.now().replace(":", "")
            self._places.state.rename(self._places.state.with_name(f"state.json.damaged-{at}"))

    def _log(self, event: log.Event) -> None:
        try:
            log.append(event, self._places.log)
        except OSError as error:
            self._host.journal(_ERROR, f"The log of repairs lacks an event: {error}")

    def _saved(self, state: healing_state.State) -> healing_state.State:
        healing_state.save(state, self._places.state)
        return state


def _short(message: str) -> str:
    """A message without the log lines that may follow it. The log of repairs has all of it."""
    text = " ".join(message.partition("\nIts last log lines:")[0].split()).rstrip(".")
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
