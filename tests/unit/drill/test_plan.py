"""What a drill does, and whether the inventory allows it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import plan
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.plan import Guard, PlanError, Request
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS

FLEET = ("katago-1", "katago-2", "katago-3")
BALANCERS = ("lb-1", "lb-2")
LAB = Guard("lab", allow_production=False, window="", max_hosts=1, min_available="50%")
PRODUCTION = Guard(
    "production",
    allow_production=True,
    window="Tue,Thu 10:00-12:00 UTC",
    max_hosts=1,
    min_available="2",
)
REQUEST = Request("service_down", "unattended", 10)
TUESDAY = datetime(2026, 12, 1, 10, 30, tzinfo=UTC)


def decide(
    request: Request = REQUEST,
    guard: Guard = LAB,
    *,
    fleet: tuple[str, ...] = FLEET,
    balancers: tuple[str, ...] = BALANCERS,
    now: datetime = TUESDAY,
    seed: int = 1,
) -> plan.Plan:
    return plan.decide(request, guard, fleet, balancers, now=now, chance=random.Random(seed))


def refusal(*arguments: Request | Guard, **options: object) -> str:
    with pytest.raises(PlanError) as error:
        decide(*arguments, **options)  # type: ignore[arg-type]  # as given to decide
    return str(error.value)


def test_named_scenario_gets_the_first_host_and_expires_after_the_response() -> None:
    (target,) = decide().targets
    assert (target.host, target.fault) == ("katago-1", "service_killed")
    assert target.ttl > 10 * 60


def test_external_cause_ends_before_its_undo_expires() -> None:
    decided = decide(replace(REQUEST, scenario="host_lost"))
    assert decided.outage == LAB.outage_seconds
    assert decided.targets[0].ttl > decided.outage


def test_two_faults_hit_a_host_and_a_load_balancer() -> None:
    decided = decide(replace(REQUEST, scenario="two_faults", hosts=("katago-2",)))
    assert {each.host for each in decided.targets} == {"katago-2", "lb-1"}


def test_plan_survives_its_plain_values() -> None:
    decided = decide(replace(REQUEST, scenario="engine_crashing"))
    assert plan.plan(decided.as_dict()) == decided


def test_random_scenario_differs_and_never_takes_the_control_node() -> None:
    drawn = {decide(Request("random", "unattended", 5), seed=seed).scenario for seed in range(300)}
    assert drawn == SCENARIOS.keys() - {"control_node_lost"}


def test_random_scenario_for_people_does_not_end_before_they_can_act() -> None:
    request = Request("random", "person", 5, participants=("anna",))
    drawn = {decide(request, seed=seed).scenario for seed in range(300)}
    assert "service_down" in drawn
    assert "engine_crashing" not in drawn
    assert "engine_crashing" in {
        decide(Request("random", "unattended", 5), seed=n).scenario for n in range(300)
    }


def test_random_scenario_needs_nothing_that_the_fleet_lacks() -> None:
    drawn = {
        decide(Request("random", "unattended", 5), balancers=(), seed=seed).scenario for seed in range(300)
    }
    assert not drawn & {"load_balancer_lost", "two_faults"}


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (replace(REQUEST, scenario="earthquake"), "-e scenario is 'earthquake'"),
        (replace(REQUEST, sealed=True), "-e sealed=true needs -e scenario=random"),
        (replace(REQUEST, hosts=("katago-9",)), "katago-9, which is not in the group katago"),
        (replace(REQUEST, mode="person"), "-e participants=NAME"),
        (replace(REQUEST, hosts=FLEET[:2]), "drill_max_hosts is 1"),
    ],
)
def test_request_that_cannot_be_done_is_refused(request_: Request, part: str) -> None:
    assert part in refusal(request_)


def test_fleet_keeps_its_budget() -> None:
    assert "fleet_min_available is 50%" in refusal(REQUEST, LAB, fleet=("katago-1",))
    assert "fleet_min_available is 3" in refusal(REQUEST, replace(LAB, min_available="3"))


def test_only_load_balancer_is_not_taken_away() -> None:
    request = replace(REQUEST, scenario="load_balancer_lost")
    assert "Without a second one" in refusal(request, LAB, balancers=("lb-1",))
    assert "no host in the group load_balancer" in refusal(request, LAB, balancers=())


def test_production_is_allowed_in_its_window() -> None:
    assert decide(REQUEST, PRODUCTION).scenario == "service_down"


@pytest.mark.parametrize(
    ("guard", "now", "part"),
    [
        (replace(PRODUCTION, allow_production=False), TUESDAY, "drill_allow_production=true"),
        (replace(PRODUCTION, window=""), TUESDAY, "drill_window is not set"),
        (replace(PRODUCTION, window="whenever"), TUESDAY, "drill_window is 'whenever'"),
        (replace(PRODUCTION, window="Tue 22:00-02:00 UTC"), TUESDAY, "ends before it starts"),
        (PRODUCTION, datetime(2026, 12, 1, 12, 0, tzinfo=UTC), "It is Tue 12:00 UTC"),
        (PRODUCTION, datetime(2026, 12, 2, 10, 30, tzinfo=UTC), "It is Wed 10:30 UTC"),
    ],
)
def test_production_is_refused_outside_of_what_the_inventory_allows(
    guard: Guard, now: datetime, part: str
) -> None:
    assert part in refusal(REQUEST, guard, now=now)


def test_every_reason_is_named_at_once() -> None:
    message = refusal(
        replace(REQUEST, hosts=FLEET[:2]), replace(PRODUCTION, allow_production=False, window="")
    )
    for part in ("fleet_min_available", "drill_max_hosts", "drill_allow_production", "drill_window"):
        assert part in message
