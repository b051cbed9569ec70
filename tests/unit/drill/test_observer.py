"""The loop that observes a drill: landing, response, recovery."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import observer
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.observer import Landing, Recovery, Terms
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import Step

START = 1000.0
STEPS = (Step("purge_cache"), Step("restart"))
TERMS = Terms(self_healing=10, response=300, settle=20, steps=STEPS)


class World:
    """A fleet in its own time: a fault that lasts until something ends it. It is all fakes of the loop."""

    def __init__(
        self,
        *,
        lands: float | None = 0.0,
        heals: float | None = None,
        cured_by: str = "",
        step_seconds: float = 5.0,
        interrupted: float | None = None,
        repairs_itself_until: float = 0.0,
        seen_by: str = "fault",
    ) -> None:
        self.time = START
        self.lands, self.heals, self.cured_by = lands, heals, cured_by
        self.step_seconds, self.interrupted_at, self.seen_by = step_seconds, interrupted, seen_by
        self.repairs_itself_until = repairs_itself_until
        self.started: list[tuple[str, float]] = []
        self.stopped: list[str] = []
        self.removed: float | None = None
        self.cured = False

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    @property
    def passed(self) -> float:
        return self.time - START

    def _lasts(self) -> bool:
        if self.lands is None or self.passed < self.lands or self.cured:
            return False
        return self.heals is None or self.passed < self.heals

    def _seen(self, probe: str) -> str:
        return f"seen by {probe}" if self._lasts() and self.seen_by == probe else ""

    def clients(self) -> str:
        return self._seen("clients")

    def failing_clients(self) -> str:
        return self._seen("clients")

    def fault(self) -> str:
        return self._seen("fault")

    def lasting_fault(self) -> str:
        return self.fault()

    def service(self) -> str:
        return self._seen("service")

    def is_repairing_itself(self) -> bool:
        return self.passed < self.repairs_itself_until

    def interruption(self) -> str:
        if self.interrupted_at is not None and self.passed >= self.interrupted_at:
            return "another incident was opened"
        return ""

    def start(self, step: Step) -> observer.Running:
        self.started.append((step.procedure, self.passed))
        return Procedure(self, step.procedure)

    def remove_cause(self) -> None:
        self.removed = self.passed
        self.cured = True


class Procedure:
    def __init__(self, world: World, name: str) -> None:
        self._world, self._name, self._end = world, name, world.time + world.step_seconds

    def done(self) -> bool:
        if self._world.time < self._end:
            return False
        self._world.cured |= self._name == self._world.cured_by
        return True

    def stop(self) -> None:
        self._world.stopped.append(self._name)


def land(world: World, seconds: float = 15) -> Landing:
    return observer.await_landing(world, world, START, seconds)


def respond(world: World, terms: Terms = TERMS) -> Recovery:
    return observer.respond(world, world, world, START, terms)


@pytest.mark.parametrize("probe", ["clients", "fault"])
def test_fault_lands_when_a_probe_sees_it(probe: str) -> None:
    landing = land(World(lands=3.0, seen_by=probe))
    assert landing == Landing(START + 3.0, f"seen by {probe}")


def test_fault_that_no_probe_sees_makes_the_drill_invalid() -> None:
    landing = land(World(lands=None))
    assert landing == Landing(None)
    assert observer.judge([landing], [])[0] == "invalid"


def test_host_that_repairs_itself_needs_no_procedure() -> None:
    world = World(heals=6.0)
    recovery = respond(world)
    assert recovery.at == START + 6.0
    assert world.started == []


def test_procedures_start_when_the_host_had_its_time_and_one_after_the_other() -> None:
    world = World(cured_by="restart")
    recovery = respond(world)
    assert world.started == [("purge_cache", 10.0), ("restart", 15.0)]
    assert recovery.at == START + 20.0


def test_procedures_wait_while_self_healing_has_locked_the_host() -> None:
    world = World(cured_by="purge_cache", repairs_itself_until=40.0)
    assert respond(world).at == START + 45.0
    assert world.started == [("purge_cache", 40.0)]


def test_response_ends_although_self_healing_never_does() -> None:
    world = World(repairs_itself_until=10_000.0)
    assert respond(world).at is None
    assert world.started == []


def test_recovery_stops_the_response() -> None:
    world = World(cured_by="purge_cache")
    assert respond(world).at == START + 15.0
    assert [name for name, _ in world.started] == ["purge_cache"]


@pytest.mark.parametrize("probe", ["clients", "fault", "service"])
def test_service_has_not_recovered_while_any_probe_fails(probe: str) -> None:
    recovery = respond(World(seen_by=probe))
    assert recovery.at is None
    assert recovery.problems == (f"seen by {probe}",)


def test_response_that_does_not_help_fails_after_the_last_step() -> None:
    world = World()
    recovery = respond(world)
    assert recovery.at is None
    # Two steps after the time for the host itself, then the time to settle.
    assert 10 + 5 + 5 + TERMS.settle <= world.passed < TERMS.response
    assert observer.judge([Landing(START)], [recovery])[0] == "failed"


def test_disabled_response_fails_after_the_time_to_settle() -> None:
    world = World()
    assert respond(world, replace(TERMS, steps=())).at is None
    assert world.passed < TERMS.response


def test_drill_waits_for_people_until_the_end() -> None:
    world = World(heals=200.0)
    assert respond(world, replace(TERMS, steps=(), waits_for_people=True)).at == START + 200.0
    world = World()
    assert respond(world, replace(TERMS, steps=(), waits_for_people=True)).at is None
    assert world.passed > TERMS.response


def test_procedure_that_does_not_end_is_stopped_in_time() -> None:
    world = World(step_seconds=10_000)
    assert respond(world).at is None
    assert world.stopped == ["purge_cache"]
    assert world.passed < TERMS.response + 2


def test_external_cause_ends_before_the_response() -> None:
    world = World()
    recovery = respond(world, replace(TERMS, outage=30))
    assert world.removed == 30.0
    assert recovery.at == START + 30.0
    assert world.started == []


def test_external_cause_that_the_fleet_hides_is_still_waited_for() -> None:
    """Clients notice nothing, but the drill has not ended before the host is back."""
    recovery = respond(World(lands=None), replace(TERMS, outage=30))
    assert recovery.cause_removed == START + 30.0
    assert recovery.at == START + 30.0


@pytest.mark.parametrize("phase", ["landing", "response"])
def test_interruption_aborts_the_drill(phase: str) -> None:
    world = World(lands=None if phase == "landing" else 0.0, interrupted=4.0)
    if phase == "landing":
        verdict, reason = observer.judge([land(world)], [])
    else:
        verdict, reason = observer.judge([Landing(START)], [respond(world)])
    assert verdict == "aborted"
    assert "another incident was opened" in reason
    assert world.passed < 5


def test_interruption_stops_the_procedure_that_runs() -> None:
    world = World(step_seconds=100, interrupted=12.0)
    assert respond(world).interrupted
    assert world.stopped == ["purge_cache"]


@pytest.mark.parametrize(
    ("second_landing", "second_recovery", "verdict"),
    [
        (Landing(START + 1, "b"), Recovery(START + 9), "passed"),
        (Landing(None), Recovery(START + 9), "invalid"),
        (Landing(START + 1, "b"), Recovery(None, ("still down",)), "failed"),
        (Landing(START + 1, "b"), Recovery(None, interrupted="alert"), "aborted"),
    ],
)
def test_all_of_two_faults_count(
    second_landing: Landing, second_recovery: Recovery, verdict: observer.Verdict
) -> None:
    landings = [Landing(START, "a"), second_landing]
    assert observer.judge(landings, [Recovery(START + 5), second_recovery])[0] == verdict


def test_drill_without_an_observed_response_has_not_passed() -> None:
    assert observer.judge([Landing(START, "a")], [])[0] == "failed"
