"""One run for all alerts that wait: triage, decide, open the incident, keep evidence, repair, record."""

from __future__ import annotations

import json
import stat
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget, fleet_state, log
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed, decision, messages
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing.messages import Alert

INTERRUPTED = "a repair was interrupted"
MOST_MESSAGES = 1000
"""How many messages a run reads. Alertmanager repeats those of alerts that still fire."""
_RESUME = "Run playbooks/triage.yml, remove the cause, then run playbooks/healing_resume.yml"
_LOOK = "Run playbooks/triage.yml to find the cause"
_WRITABLE = "Free space on its disk, or repair it. The program tries again every minute"
_REFUSED = "Refused; "
_LONGEST = 500

# Levels of the journal [sd-daemon(3)].
_CRITICAL, _ERROR, _WARNING, _NOTICE = 2, 3, 4, 5


@dataclass(frozen=True)
class Places:
    """The files that the program reads and writes. `work`: for the report of triage."""

    work: Path
    state: Path = paths.FLEET_HEALING_STATE
    settings: Path = paths.FLEET_HEALING_SETTINGS
    log: Path = paths.FLEET_HEALING_LOG
    events: Path = paths.FLEET_HEALING_EVENTS
    pause: tuple[Path, ...] = paths.FLEET_HEALING_PAUSE


@dataclass(frozen=True)
class Ran:
    """How ansible-playbook ended, and the last lines of its output."""

    status: int
    output: str

    @property
    def succeeded(self) -> bool:
        """Whether every host succeeded."""
        return self.status == 0

    @property
    def was_refused(self) -> bool:
        """Whether a procedure refused before it changed anything."""
        return not self.succeeded and _REFUSED in self.output


@dataclass(frozen=True)
class World:
    """What the program does outside of its own files.

    `run`: runs ansible-playbook with these arguments. `incident`: the open incident of an alert, from the
    directory of the records; empty without one. `clock`: the boot's id and the seconds since that boot.
    """

    run: Callable[[Sequence[str]], Ran]
    incident: Callable[[Path, str], str]
    clock: Callable[[], tuple[str, float]]
    now: Callable[[], str]
    journal: Callable[[int, str], None]
    new_id: Callable[[], str] = field(default=lambda: uuid.uuid4().hex[:8])


class StepError(Exception):
    """A procedure did not succeed; the message says which, as part of a sentence."""


class Healer:
    """A run of the program, which is the only one."""

    def __init__(self, places: Places, world: World) -> None:
        self._places = places
        self._world = world
        self._has_stopped = False

    def run(self) -> int:
        """Handle every message that waits. Return 1 if nothing could be recorded."""
        try:
            waiting = self._waiting()
            state = self._saved(self._handled(self._current(), waiting))
            for path in waiting:
                path.unlink(missing_ok=True)
        except OSError as error:
            self._world.journal(
                _CRITICAL,
                f"Fleet healing does nothing, because it cannot record what it does: {error}. {_WRITABLE}.",
            )
            return 1
        if state.why and state.since == state.checked_at:
            self._world.journal(_NOTICE, f"{state.status}: {state.why}")
        return 0

    def _waiting(self) -> list[Path]:
        """The files of all messages, the newest last. Raises OSError."""
        # The receiver writes a file under a name that begins with a dot, and then renames it.
        complete = (path for path in self._places.events.iterdir() if not path.name.startswith("."))
        return sorted(complete, key=lambda path: (path.lstat().st_mtime_ns, path.name))

    def _current(self) -> fleet_state.State:
        """The state now; one that is stopped if its file is missing or damaged."""
        boot, uptime = self._world.clock()
        try:
            state = fleet_state.load(self._places.state)
        except healing_state.StateError as error:
            new = fleet_state.State(budget.Clock(boot, uptime, 0.0), self._world.now())
            if self._places.state.exists():
                at = self._world.now().replace(":", "")
                self._places.state.rename(self._places.state.with_name(f"state.json.damaged-{at}"))
            return self._escalated(new, f"the record of earlier repairs is lost: {error}", stops=True)
        return state.at(state.clock.at(boot, uptime), self._world.now())

    def _handled(self, state: fleet_state.State, waiting: Sequence[Path]) -> fleet_state.State:
        """The state after this run."""
        if state.status == "repairing":
            state = self._interrupted(state)
        try:
            settings = fleet_state.settings(self._places.settings)
            actions = allowed.parse(settings.actions)
        except (healing_state.StateError, allowed.NotAllowedError) as error:
            return self._escalated(state, str(error), stops=False).having("blocked", str(error))
        if state.is_stopped:
            why = state.escalation.why if state.escalation else ""
            if self._has_stopped:
                self._page(settings, actions, self._world.incident(Path(settings.records), ""), why)
            return state.having("stopped", why)
        if pause := self._pause(settings):
            return state.having("paused", pause)
        firing, problem = self._alerts(waiting, settings)
        alerts = decision.new(firing, state)
        if not firing and problem:
            return state if state.escalation else state.having("unknown", problem)
        if not firing:
            return replace(state, escalation=None).having("idle")
        if not alerts:
            return state.having("idle") if state.status in ("paused", "unknown") else state
        # Nothing is done that cannot be recorded: the disk may be full.
        state = self._saved(replace(state, runs=state.runs + 1))
        return self._decided(state, alerts, settings, actions)

    def _decided(
        self,
        state: fleet_state.State,
        alerts: Sequence[Alert],
        settings: fleet_state.Settings,
        actions: frozenset[allowed.Name],
    ) -> fleet_state.State:
        """The state after new alerts were decided on, and repaired where that is allowed."""
        try:
            report = self._triage()
        except StepError as error:
            return self._unknown(state, alerts, settings, actions, str(error))
        decided = decision.decide(alerts, report, state, actions=actions, drains=settings.drains)
        if settings.dry_run:
            return self._would(state, decided)
        # Somebody may have paused while triage ran.
        if pause := self._pause(settings):
            return state.having("paused", pause)
        incident = self._opened(alerts, decided, state, settings, actions, report)
        # The program may be killed, so each alert is settled only when something was done about it.
        before, handled = state, decision.as_handled(alerts, decided, state, incident)
        state = self._saved(state.after(*handled))
        for each in decided.repairs:
            if pause := self._pause(settings):
                return state.having("paused", pause)
            state = self._repaired(state, each, incident, settings, actions)
            if state.is_stopped:
                return state
        state = self._refused(state, before, decided, incident, settings, actions)
        # The next message about an alert without its incident is another attempt to open it.
        lacking = () if incident or "open_incident" not in actions else decided.incident
        return state.settled(*(each.key for each in decided.settled if each not in lacking))

    def _triage(self) -> Mapping[str, Any]:
        """Triage's report. Raises StepError."""
        path = self._places.work / "triage.json"
        path.unlink(missing_ok=True)
        ran = self._world.run(allowed.playbook(allowed.TRIAGE, "", {"triage_json": str(path)}))
        try:
            return shape.mapping(shape.parsed(path.read_bytes()), "the report of triage")
        except (OSError, ValueError) as error:
            raise StepError(f"triage gave no report: {error}; {_short(ran.output)}") from error

    def _unknown(
        self,
        state: fleet_state.State,
        alerts: Sequence[Alert],
        settings: fleet_state.Settings,
        actions: frozenset[allowed.Name],
        why: str,
    ) -> fleet_state.State:
        """The state if nothing is known of the fleet: an incident, and a person who looks."""
        if settings.dry_run:
            return state.having("unknown", why)
        incident = self._step(
            allowed.Step(
                "open_incident",
                inputs={"alert": alerts[0].name, "severity": alerts[0].severity, "impact": alerts[0].summary},
            ),
            actions,
        )
        name = self._world.incident(Path(settings.records), alerts[0].name) if incident else ""
        if state.escalation is None:
            self._page(settings, actions, name, why)
        return self._escalated(state, why, stops=False).having("unknown", why)

    def _would(self, state: fleet_state.State, decided: decision.Decision) -> fleet_state.State:
        """The state in a dry run. What would be done is recorded once."""
        parts = [f"would open or join an incident for {decided.incident[0].name}"] if decided.incident else []
        parts += [
            f"{each.step.host}: {each.fault}; would {allowed.ACTIONS[each.step.action].does}"
            for each in decided.repairs
        ]
        parts += [f"would not repair: {each.why}" for each in decided.refused]
        new = state.having("would_repair", "; ".join(parts) or "would do nothing")
        if state.why != new.why:
            self._log(log.Event(state.checked_at, "would_repair", new.why))
        return new

    def _opened(
        self,
        alerts: Sequence[Alert],
        decided: decision.Decision,
        state: fleet_state.State,
        settings: fleet_state.Settings,
        actions: frozenset[allowed.Name],
        report: Mapping[str, Any],
    ) -> str:
        """The incident of the new alerts, which was opened or joined; empty if they need none."""
        known = next(filter(None, (decision.known_incident(each, state) for each in alerts)), "")
        unrecorded = [each for each in decided.incident if not decision.known_incident(each, state)]
        if not unrecorded or "open_incident" not in actions:
            return known
        first = unrecorded[0]
        inputs = {
            "alert": first.name,
            "triage_json": str(self._places.work / "triage.json"),
            "summary": _summary(unrecorded),
        }
        if report.get("verdict") == "healthy":
            # Triage alone would open no incident.
            inputs |= {"severity": first.severity, "impact": first.summary or first.name}
        if not self._step(allowed.Step("open_incident", inputs=inputs), actions):
            return known
        incident = self._world.incident(Path(settings.records), first.name)
        if incident and "evidence" in actions:
            self._step(allowed.Step("evidence", inputs={"incident": incident}), actions)
        return incident

    def _repaired(
        self,
        state: fleet_state.State,
        planned: decision.Planned,
        incident: str,
        settings: fleet_state.Settings,
        actions: frozenset[allowed.Name],
    ) -> fleet_state.State:
        """The state after the repair, which was recorded before it started."""
        # What came before it in this run may have taken long.
        state = state.at(state.clock.at(*self._world.clock()), self._world.now())
        step, id = planned.step, self._world.new_id()
        does = allowed.ACTIONS[step.action].does
        fault = f"{step.host}: {planned.fault}"
        repair = fleet_state.FleetRepair(
            id, step.action, step.host, planned.alert.name, state.checked_at, state.clock.total, "started"
        )
        state = self._saved(state.started(repair, fault).settled(planned.alert.key))
        self._log(log.Event(state.checked_at, "started", f"{fault}; going to {does}", id, step.action))
        self._world.journal(_WARNING, f"Repair {id} ({step.action}): {fault}; going to {does}")
        inputs = dict(step.inputs)
        if "why" in allowed.ACTIONS[step.action].inputs:
            inputs["why"] = f"self-healing, {planned.alert.name}: {_safe(planned.fault)}"
        if incident:
            inputs["incident"] = incident
        ran = self._world.run(allowed.arguments(replace(step, inputs=inputs), actions))
        state = state.at(state.clock.at(*self._world.clock()), self._world.now())
        if ran.succeeded:
            self._log(log.Event(state.checked_at, "repaired", f"{fault}; {does}: done", id, step.action))
            self._world.journal(_WARNING, f"Repair {id} ({step.action}) succeeded")
            return self._saved(replace(state.finished(id, "repaired"), escalation=None).having("idle"))
        why = f"{fault}; the repair was refused or failed ({step.action}): {_short(ran.output)}"
        self._log(log.Event(state.checked_at, "failed", why, id, step.action))
        self._world.journal(_ERROR, f"Repair {id} ({step.action}): {why}")
        state = state.finished(id, "refused" if ran.was_refused else "failed")
        self._page(settings, actions, incident, why)
        escalated = self._escalated(state, why, stops=not ran.was_refused)
        return self._saved(escalated.having("blocked", why) if ran.was_refused else escalated)

    def _refused(
        self,
        state: fleet_state.State,
        before: fleet_state.State,
        decided: decision.Decision,
        incident: str,
        settings: fleet_state.Settings,
        actions: frozenset[allowed.Name],
    ) -> fleet_state.State:
        """The state after what must not be repaired was reported. `before`: at the beginning of this run."""
        if not decided.refused:
            return state if state.status == "blocked" else state.having("idle")
        worst = max(decided.refused, key=lambda each: (each.stops, each.calls, not each.settled))
        if worst.calls:
            known = state.escalation
            # Without an incident, nobody could be called.
            is_late = any(each.key == worst.alert.key and not each.incident for each in before.handled)
            if known is None or known.why != worst.why or is_late:
                self._page(settings, actions, incident, worst.why)
            state = self._escalated(state, worst.why, stops=worst.stops)
            return state.having("stopped" if worst.stops else "blocked", worst.why)
        return state.having("idle" if worst.settled else "waiting", worst.why)

    def _interrupted(self, state: fleet_state.State) -> fleet_state.State:
        """The state after a repair that did not end: the program was killed, or the host went down."""
        why = state.why
        for each in state.repairs:
            if each.result == "started":
                self._log(log.Event(self._world.now(), "interrupted", why, each.id, each.action))
                state = state.finished(each.id, "interrupted")
        return self._escalated(state, f"{why}; {INTERRUPTED}", stops=True)

    def _alerts(self, waiting: Sequence[Path], settings: fleet_state.Settings) -> tuple[list[Alert], str]:
        """The alerts that fire according to the newest messages, and why the last skipped one was skipped."""
        # Repeated messages are the same notices.
        found: dict[messages.Notice, None] = {}
        problem = ""
        for path in waiting[-MOST_MESSAGES:]:
            try:
                found |= dict.fromkeys(messages.notices(_content(path), settings.hosts))
            except (OSError, ValueError) as error:
                problem = f"the message {path.name} cannot be used: {error}"
                self._world.journal(
                    _ERROR, f"Skipped, because {problem}. Alertmanager repeats what still fires."
                )
        return messages.firing(found), problem

    def _step(self, step: allowed.Step, actions: frozenset[allowed.Name]) -> bool:
        """Run a procedure that repairs nothing, if it is allowed. Return whether it succeeded."""
        if step.action not in actions:
            return False
        ran = self._world.run(allowed.arguments(step, actions))
        if not ran.succeeded:
            self._world.journal(_ERROR, f"{step.action} failed: {_short(ran.output)}")
        return ran.succeeded

    def _page(
        self, settings: fleet_state.Settings, actions: frozenset[allowed.Name], incident: str, why: str
    ) -> None:
        """Call a person, if there is an incident that the call belongs to."""
        if not settings.page or not incident or settings.dry_run:
            return
        inputs = {"incident": incident, "to": settings.page, "why": f"self-healing: {_safe(why)}"}
        self._step(allowed.Step("page", inputs=inputs), actions)

    def _escalated(self, state: fleet_state.State, why: str, *, stops: bool) -> fleet_state.State:
        """The state with an escalation. Another reason for the same consequence is not reported again."""
        before = state.escalation
        if before is not None and (before.stops or not stops):
            return state
        self._has_stopped = stops
        at = self._world.now()
        does = "has stopped" if stops else "leaves a fault to a person"
        self._world.journal(_CRITICAL, f"Fleet healing {does}: {why}. {_RESUME if stops else _LOOK}.")
        self._log(log.Event(at, "escalated", why))
        escalated = replace(state, escalation=healing_state.Escalation(at, why, stops))
        return escalated.having("stopped", why) if stops else escalated

    def _pause(self, settings: fleet_state.Settings) -> str:
        """Why healing is paused; empty if it is not."""
        if settings.paused:
            return "paused by the variable fleet_healing_paused"
        paused = healing_state.pause(self._places.pause)
        return str(paused) if paused else ""

    def _log(self, event: log.Event) -> None:
        try:
            log.append(event, self._places.log)
        except OSError as error:
            self._world.journal(_ERROR, f"The log of repairs lacks {json.dumps(asdict(event))}: {error}")

    def _saved(self, state: fleet_state.State) -> fleet_state.State:
        healing_state.save(state, self._places.state)
        return state


def _content(path: Path) -> object:
    """The content of a message. Raises OSError, shape.ShapeError."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise shape.ShapeError("it is not a regular file")
    if status.st_size > messages.MOST_BYTES:
        raise shape.ShapeError(f"it has {status.st_size} bytes, more than {messages.MOST_BYTES}")
    # The receiver encodes messages, because Ansible would render their texts as templates.
    return shape.parsed(unquote_to_bytes(path.read_bytes()))


def _summary(alerts: Sequence[Alert]) -> str:
    """The alerts of an incident in one line."""
    shown = [each.summary or each.name for each in alerts[:3]]
    more = f"; and {len(alerts) - len(shown)} more alerts" if len(alerts) > len(shown) else ""
    return f"Alerts: {'; '.join(shown)}{more}"


def _safe(text: str) -> str:
    """A text from a host as an input: one line, and no template of Ansible."""
    return _short(text).replace("{", "(").replace("}", ")")


def _short(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
