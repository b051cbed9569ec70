"""Whatever the clocks do, a host repairs itself at most twice an hour and four times a day."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.budget import Clock, Spent

NAMES = ("restart", "roll_back", "quarantine_cache", "lower_limits")


def spent(*repairs: tuple[str, float]) -> list[Spent]:
    return [Spent(name, total) for name, total in repairs]


@pytest.mark.parametrize(
    ("past", "repair", "now", "stops"),
    [
        ((), "restart", 0, None),
        ((("roll_back", 0),), "restart", 599, False),
        ((("roll_back", 0),), "restart", 600, None),
        ((("restart", 0),), "restart", 60, True),
        ((("restart", 0),), "restart", 3599, True),
        ((("restart", 0),), "restart", 3600, None),
        ((("restart", 0), ("roll_back", 1000)), "quarantine_cache", 3599, True),
        ((("restart", 0), ("roll_back", 1000)), "quarantine_cache", 3600, None),
        # A third fault is reported at once, not after the cool-down.
        ((("restart", 0), ("roll_back", 1000)), "quarantine_cache", 1001, True),
        (tuple((name, 20000 * at) for at, name in enumerate(NAMES)), "free_disk", 86399, True),
        (tuple((name, 20000 * at) for at, name in enumerate(NAMES)), "free_disk", 86400, None),
    ],
)
def test_budget_and_cool_down(
    past: tuple[tuple[str, float], ...], repair: str, now: float, stops: bool | None
) -> None:
    refusal = budget.refusal(spent(*past), repair, now)
    assert (refusal and refusal.stops) == stops


def test_fault_that_the_journal_still_has_is_not_a_repair_that_did_not_last() -> None:
    past = spent(("lower_limits", 0))
    refusals = [budget.refusal(past, "lower_limits", now, lingers=True) for now in (599, 600)]
    assert [refusal and refusal.stops for refusal in refusals] == [False, True]


def test_repair_in_the_future_counts_as_new() -> None:
    refusal = budget.refusal(spent(("roll_back", 5000)), "restart", 0)
    assert refusal == budget.COOLING


def test_time_without_the_host_does_not_count() -> None:
    clock = Clock("a", 100, 1000)
    assert clock.at("a", 160) == Clock("a", 160, 1060)
    assert clock.at("a", 40) == Clock("a", 40, 1000)
    assert clock.at("b", 30) == Clock("b", 30, 1030)


@dataclass
class Machine:
    """A host with its true time. `uptime` is since its last boot."""

    true: float = 0
    boot: int = 0
    uptime: float = 0


# Seconds to the next run of the program; whether the host was off meanwhile, for how long; the repair.
_steps = st.tuples(
    st.floats(0, 7200), st.none() | st.floats(0, 200000), st.sampled_from(NAMES), st.booleans()
)


@given(st.lists(_steps, max_size=80))
def test_budget_holds_in_true_time(steps: list[tuple[float, float | None, str, bool]]) -> None:
    machine, clock = Machine(), Clock("0", 0, 0)
    past: list[Spent] = []
    made: list[tuple[str, float]] = []
    for seconds, off, repair, lingers in steps:
        machine.true += seconds
        machine.uptime += seconds
        if off is not None:
            machine.true += off
            machine.boot, machine.uptime = machine.boot + 1, 0
        clock = clock.at(str(machine.boot), machine.uptime)
        past = budget.recent(past, clock.total)
        if budget.refusal(past, repair, clock.total, lingers=lingers) is None:
            past.append(Spent(repair, clock.total))
            made.append((repair, machine.true))
    times = [at for _, at in made]
    tolerance = 1e-6
    for index, at in enumerate(times):
        assert sum(at <= other < at + 3600 - tolerance for other in times[index:]) <= 2
        assert sum(at <= other < at + 86400 - tolerance for other in times[index:]) <= 4
    assert all(later - earlier >= 600 - tolerance for earlier, later in pairwise(times))
    for name in NAMES:
        same = [at for repair, at in made if repair == name]
        assert all(later - earlier >= 3600 - tolerance for earlier, later in pairwise(same))


@given(st.lists(st.floats(0, 86400), max_size=30), st.sampled_from(NAMES), st.floats(0, 86400))
def test_older_repairs_never_forbid_more(totals: list[float], repair: str, later: float) -> None:
    past = [Spent("restart", total) for total in totals]
    if budget.refusal(past, repair, 86400) is None:
        assert budget.refusal(past, repair, 86400 + later) is None
