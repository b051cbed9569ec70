"""Limited waits for the engine, and retry hints in rejections."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from katago_mcp.errors import Rejected, TimedOut
from katago_mcp.positions import Position
from katago_mcp.review import ReviewRequest, find_mistakes
from katago_mcp.scheduling import Overdue, Slots
from rig import Rig, rig, until
from support import Site

pytestmark = pytest.mark.anyio


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
    async with slots.slot(slots.claim("a", long=False)):
        with pytest.raises(Overdue):
            async with slots.slot(slots.claim("b", long=False), 0.01):
                pytest.fail("there is no second slot")
        assert (slots.running, slots.queued) == (1, 0)
    async with slots.slot(slots.claim("c", long=False), 0.01):
        assert slots.running == 1


async def test_expected_wait_grows_with_the_queue_and_falls_with_the_slots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("katago_mcp.scheduling.time", SimpleNamespace(monotonic=lambda: now))
    slots = Slots(2, 10, lambda: None)
    assert slots.expected_wait(8.0) == 4.0
    holding = [slots.slot(slots.claim("a", long=False)) for _ in range(2)]
    for slot in holding:
        await slot.__aenter__()
    waiting = [slots.claim("b", long=False) for _ in range(3)]
    assert slots.expected_wait(8.0) == 16.0
    now += 3.0
    for slot in holding:
        await slot.__aexit__(None, None, None)
    # Two of three have a slot now; the first two slots were held for three seconds.
    assert (slots.running, slots.queued) == (2, 1)
    assert slots.expected_wait(8.0) == 3.0
    slots.resize(4, 10)
    assert slots.expected_wait(8.0) == 0.75
    for claim in waiting:
        slots.withdraw(claim)


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
    site.write(katago={"maxConcurrent": 1})
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
    # (3 + 1) / 2 rounds of at most 10 s; (9 + 1) / 2 rounds, but no wait is longer than 45 s.
    assert hints == [20, 45]
