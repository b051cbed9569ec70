"""Limited waits for the engine, and retry hints in rejections."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from katago_mcp.errors import Rejected, TimedOut
from katago_mcp.positions import Position
from katago_mcp.review import ReviewRequest, find_mistakes
from katago_mcp.scheduling import Effort, Overdue, Slots
from rig import Rig, rig, until
from support import Site

pytestmark = pytest.mark.anyio

EFFORT = Effort(visits=100, seconds=8.0)


def start_analysis(made: Rig, visits: int) -> "asyncio.Task[Any]":
    return asyncio.create_task(made.analyze(max_visits=visits))


async def hint(made: Rig) -> int | None:
    """The retry hint of a request that is rejected at once."""
    with pytest.raises(Rejected) as caught:
        await made.analyze(max_visits=100)
    return caught.value.retry_after


async def leave(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_caller_that_timed_out_blocks_nobody() -> None:
    slots = Slots(1, 10, lambda: None)
    async with slots.slot(slots.claim("a", EFFORT, long=False)):
        with pytest.raises(Overdue):
            async with slots.slot(slots.claim("b", EFFORT, long=False), 0.01):
                pytest.fail("there is no second slot")
        assert (slots.running, slots.queued) == (1, 0)
    async with slots.slot(slots.claim("c", EFFORT, long=False), 0.01):
        assert slots.running == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test sets."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("katago_mcp.scheduling.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


async def test_expected_wait_is_what_runs_and_waits_now_divided_by_the_slots(clock: SimpleNamespace) -> None:
    slots = Slots(2, 10, lambda: None)
    assert slots.expected_wait() == 0
    holding = [slots.slot(slots.claim("a", EFFORT, long=False)) for _ in range(2)]
    for slot in holding:
        await slot.__aenter__()
    waiting = [slots.claim("b", EFFORT, long=False) for _ in range(3)]
    # Nothing has ended yet, so each of the five counts with its limit of 8 seconds.
    assert slots.expected_wait() == 5 * 8.0 / 2
    clock.now += 3.0
    assert slots.expected_wait() == (2 * 5.0 + 3 * 8.0) / 2
    for slot in holding:
        await slot.__aexit__(None, None, None)
    # The first two took three seconds. Two of the other three have a slot now.
    assert (slots.running, slots.queued) == (2, 1)
    assert slots.expected_wait() == 3 * 3.0 / 2
    slots.resize(4, 10)
    assert slots.expected_wait() == 3 * 3.0 / 4
    for claim in waiting:
        slots.withdraw(claim)


async def test_one_long_search_does_not_lengthen_the_wait_for_short_ones(clock: SimpleNamespace) -> None:
    slots = Slots(1, 10, lambda: None)
    async with slots.slot(slots.claim("a", Effort(visits=10_000, seconds=120.0), long=False)):
        clock.now += 100.0
    waiting = [slots.claim("a", EFFORT, long=False) for _ in range(5)]
    # 100 s for 10,000 visits are 1 s for each of the five searches with 100 visits.
    assert slots.expected_wait() == pytest.approx(5.0)
    for claim in waiting:
        slots.withdraw(claim)


async def test_no_search_is_expected_to_exceed_its_limit_of_seconds(clock: SimpleNamespace) -> None:
    slots = Slots(1, 10, lambda: None)
    async with slots.slot(slots.claim("a", Effort(visits=1, seconds=60.0), long=False)):
        clock.now += 30.0
    claim = slots.claim("a", EFFORT, long=False)
    assert slots.expected_wait() == EFFORT.seconds
    slots.withdraw(claim)


async def test_abandoned_work_gives_way_only_while_other_work_waits() -> None:
    slots = Slots(1, 10, lambda: None)
    ended: list[str] = []
    first = slots.claim("a", EFFORT, long=False)
    slots.abandon(first, lambda: ended.append("first"))
    assert ended == []
    second = slots.claim("b", EFFORT, long=False)
    assert ended == ["first"]
    slots.withdraw(first)
    slots.withdraw(second)


async def test_work_that_somebody_waits_for_again_does_not_give_way() -> None:
    slots = Slots(1, 10, lambda: None)
    ended: list[str] = []
    first = slots.claim("a", EFFORT, long=False)
    slots.abandon(first, lambda: ended.append("first"))
    slots.resume(first)
    second = slots.claim("b", EFFORT, long=False)
    assert ended == []
    slots.withdraw(first)
    slots.withdraw(second)


async def test_an_analysis_does_not_wait_forever(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1}, server={"maxWaitSeconds": 0.2})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        running = start_analysis(made, 11)
        await until(lambda: bool(site.queries()))
        with pytest.raises(Rejected) as caught:
            await made.analyze(max_visits=12, max_time=0.05)
        assert made.analyst.slots.queued == 0
        await leave(running)
    failure = caught.value
    assert failure.message == "no slot was free within 0.2 s: 1 analyses are running and 0 are waiting"
    assert (failure.code, failure.retry_after) == ("overloaded", 1)
    assert len(site.queries()) == 1


async def test_timeout_message_excludes_the_wait_for_a_slot(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1}, health={"heartbeatTimeoutSeconds": 1})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="silent")
        with pytest.raises(TimedOut, match=r"no answer within 1\.1 s after the query was sent"):
            await made.analyze(max_time=0.05)


async def test_a_review_waits_within_its_own_time(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1}, server={"maxWaitSeconds": 0.05})
    game = Position(board_x_size=5, board_y_size=5, moves=[("B", "C3"), ("W", "D4")])
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        running = start_analysis(made, 11)
        await until(lambda: bool(site.queries()))
        review = asyncio.create_task(find_mistakes(made.analyst, ReviewRequest(game, max_visits=10)))
        await until(lambda: made.analyst.slots.queued == 1)
        await asyncio.sleep(0.1)
        site.behave()
        assert (await review).turns_analysed == 3
        await running


@pytest.mark.usefixtures("clock")
async def test_retry_hint_of_a_full_queue_is_the_expected_wait(site: Site) -> None:
    site.write(katago={"maxConcurrent": 2, "maxTime": 10}, server={"maxQueued": 3})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        tasks = [start_analysis(made, visits) for visits in range(1, 6)]
        await until(lambda: made.analyst.saturated)
        hints = [await hint(made)]
        site.write(server={"maxQueued": 9, "maxWaitSeconds": 45})
        await made.reloader.reload()
        tasks += [start_analysis(made, visits) for visits in range(6, 12)]
        await until(lambda: made.analyst.saturated)
        hints.append(await hint(made))
        await leave(*tasks)
    # Two run and three wait, each at most 10 s, on two slots. Then nine wait, but 45 s is the longest wait.
    assert hints == [25, 45]
