"""The loop that observes a drill on one host: the fault lands, the response runs, the service recovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import Step

LOOK_SECONDS = 0.5
"""Between two looks at the probes."""


class Clock(Protocol):
    """Time that no change of a clock moves."""

    def now(self) -> float:
        """Seconds."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Probes(Protocol):
    """What a drill sees of a fault. None of them is the program that injected it."""

    def clients(self) -> str:
        """What clients notice since the injection, as part of a sentence; empty if nothing."""

    def failing_clients(self) -> str:
        """What clients notice now; empty if all requests succeed."""

    def fault(self) -> str:
        """What shows the fault on its host now; empty if nothing does."""

    def lasting_fault(self) -> str:
        """The same without mere traces of a fault that is over."""

    def service(self) -> str:
        """Why the service is not validated; empty if it is."""

    def is_repairing_itself(self) -> bool:
        """Whether self-healing works on the host. It locks the host, and every procedure is refused."""

    def interruption(self) -> str:
        """Why the drill must end at once, such as a real alert; empty if it may continue."""


class Running(Protocol):
    """A procedure that runs."""

    def done(self) -> bool:
        """Whether it has ended."""

    def stop(self) -> None:
        """End it."""


class Responder(Protocol):
    """Runs procedures as an operator does."""

    def start(self, step: Step) -> Running:
        """Start a procedure."""

    def remove_cause(self) -> None:
        """End a cause that lies outside of the fleet."""


@dataclass(frozen=True)
class Terms:
    """How a drill waits, in seconds from the injection.

    `self_healing`: in which nothing but the host itself responds. `response`: until the service must have
    recovered. `settle`: for which the drill waits after the last step. `outage`: after which an external
    cause ends; None if a procedure must repair the fault. `steps`: what the unattended response runs.
    `waits_for_people`: only time ends the response.
    """

    self_healing: float
    response: float
    settle: float
    outage: float | None = None
    steps: Sequence[Step] = ()
    waits_for_people: bool = False


@dataclass(frozen=True)
class Landing:
    """When a probe saw the fault, None if none did, and what it saw; why the drill was interrupted."""

    at: float | None
    seen: str = ""
    interrupted: str = ""


@dataclass(frozen=True)
class Recovery:
    """When everything was seen to work again, None if it was not. `problems`: what was wrong at the end."""

    at: float | None
    problems: tuple[str, ...] = ()
    interrupted: str = ""
    cause_removed: float | None = None


def await_landing(probes: Probes, clock: Clock, since: float, seconds: float) -> Landing:
    """Wait until a probe sees the fault, at most `seconds` after `since`, the time of the injection."""
    while True:
        if why := probes.interruption():
            return Landing(None, interrupted=why)
        at = clock.now()
        if seen := probes.clients() or probes.fault():
            return Landing(at, seen)
        if clock.now() - since > seconds:
            return Landing(None)
        clock.sleep(LOOK_SECONDS)


def respond(probes: Probes, responder: Responder, clock: Clock, since: float, terms: Terms) -> Recovery:
    """Wait until the service has recovered, and run the steps of an unattended response meanwhile.

    A step starts when the host had its time to repair itself, and both the repair and the step before have
    ended.
    """
    response = _Response(probes, responder, clock, since, terms)
    try:
        while (recovery := response.look()) is None:
            clock.sleep(LOOK_SECONDS)
        return recovery
    finally:
        response.stop()


class _Response:
    """A response that runs. `since`: the time of the injection."""

    def __init__(
        self, probes: Probes, responder: Responder, clock: Clock, since: float, terms: Terms
    ) -> None:
        self._probes, self._responder, self._clock, self._terms = probes, responder, clock, terms
        self._since = self._undisturbed = since
        self._patience = terms.self_healing
        self._waiting = list(terms.steps)
        self._running: Running | None = None
        self._removed: float | None = None

    def look(self) -> Recovery | None:
        """Look once, and start the next step if it is due; the end of the response, None until then."""
        if why := self._probes.interruption():
            return self._end(interrupted=why)
        self._remove_cause()
        is_late = self._passed(self._since) > self._terms.response
        if self._running is not None and self._running.done():
            self._running, self._patience, self._undisturbed = None, 0, self._clock.now()
        if self._running is not None:
            return self._end(problems=_problems(self._probes)) if is_late else None
        at = self._clock.now()
        problems = _problems(self._probes)
        if self._cause_lasts():
            return self._end(problems=problems) if is_late else None
        if not problems:
            return self._end(at)
        if is_late or self._is_settled():
            return self._end(problems=problems)
        if not self._waiting or self._passed(self._undisturbed) < self._patience:
            return None
        if not self._probes.is_repairing_itself():
            self._running = self._responder.start(self._waiting.pop(0))
        return None

    def stop(self) -> None:
        """End the step that runs."""
        if self._running is not None and not self._running.done():
            self._running.stop()

    def _remove_cause(self) -> None:
        if self._cause_lasts() and self._passed(self._since) >= (self._terms.outage or 0):
            self._responder.remove_cause()
            self._removed = self._undisturbed = self._clock.now()

    def _cause_lasts(self) -> bool:
        return self._terms.outage is not None and self._removed is None

    def _is_settled(self) -> bool:
        """Whether nothing is left that could still help."""
        if self._waiting or self._terms.waits_for_people:
            return False
        return self._passed(self._undisturbed) > max(self._patience, self._terms.settle)

    def _passed(self, since: float) -> float:
        return self._clock.now() - since

    def _end(
        self, at: float | None = None, problems: tuple[str, ...] = (), interrupted: str = ""
    ) -> Recovery:
        return Recovery(at, problems, interrupted, self._removed)


def _problems(probes: Probes) -> tuple[str, ...]:
    """What does not work. The cheapest probe is asked first; if it fails, the others are not asked."""
    for probe in (probes.failing_clients, probes.lasting_fault, probes.service):
        if problem := probe():
            return (problem,)
    return ()


Verdict = Literal["passed", "failed", "invalid", "aborted"]


def judge(landings: Sequence[Landing], recoveries: Sequence[Recovery]) -> tuple[Verdict, str]:
    """The outcome of a drill with one or more faults, and the reason in a sentence."""
    for why in (*(each.interrupted for each in landings), *(each.interrupted for each in recoveries)):
        if why:
            return "aborted", f"The drill was aborted: {why}."
    if not landings or any(each.at is None for each in landings):
        return "invalid", "No probe saw the fault, so nothing was practised."
    unrecovered = [problem for each in recoveries if each.at is None for problem in each.problems]
    if unrecovered or not recoveries or any(each.at is None for each in recoveries):
        shown = "; ".join(dict.fromkeys(unrecovered)) or "no response was observed"
        return "failed", f"The service did not recover in time: {shown}."
    return "passed", "The fault landed, and the service recovered."
