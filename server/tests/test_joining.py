"""Identical requests in flight: one search for everybody who asked."""

import asyncio
from typing import Any

import pytest

from katago_mcp.analysis import PositionAnalysis, Request
from katago_mcp.errors import Unavailable
from katago_mcp.positions import Position
from katago_mcp.review import ReviewRequest, find_mistakes
from rig import GAME, Rig, rig, until
from support import PATIENCE, Site

pytestmark = pytest.mark.anyio


def ask(made: Rig, caller: str, **fields: Any) -> "asyncio.Task[PositionAnalysis]":
    return asyncio.create_task(made.analyst.analyze(Request(GAME, **fields), caller=caller))


async def test_identical_requests_are_one_search_and_all_get_the_answer(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        calls = [ask(made, caller) for caller in ("a", "a", "b")]
        await until(lambda: bool(site.queries()))
        site.behave()
        answers = await asyncio.gather(*calls)
        assert len(site.queries()) == 1
        assert answers[0] == answers[1] == answers[2]
        # Tools add to their answers, as what was assumed to read a record.
        assert answers[0] is not answers[1]
        assert made.value("katago_visits_total") == 200


async def test_requests_that_differ_are_not_joined(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        await asyncio.gather(ask(made, "a", max_visits=10), ask(made, "a", max_visits=11))
        assert len(site.queries()) == 2


async def test_who_gives_up_leaves_the_search_to_the_others(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        first, second = ask(made, "a"), ask(made, "b")
        await until(lambda: bool(site.queries()))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        site.behave()
        assert (await second).visits == 200
        assert first.cancelled()
        assert site.queries("terminate") == []


async def test_the_last_to_give_up_ends_the_search(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        calls = [ask(made, "a"), ask(made, "b")]
        await until(lambda: bool(site.queries()))
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: len(site.queries("terminate")) == 1)
        assert made.analyst.busy == 0


async def test_a_request_after_the_last_gave_up_is_a_search_of_its_own(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        first = ask(made, "a")
        await until(lambda: bool(site.queries()))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        site.behave()
        assert (await ask(made, "a")).visits == 200


async def test_a_failure_is_told_to_all(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="die")
        results = await asyncio.gather(ask(made, "a"), ask(made, "b"), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 2


async def test_progress_is_told_to_all_who_want_it(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=0.5)
        seen: dict[str, list[int]] = {"a": [], "b": []}

        async def follow(caller: str) -> None:
            async def report(done: int, total: int) -> None:
                seen[caller].append(done)

            await made.analyst.analyze(Request(GAME, max_visits=50), report, caller=caller)

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(follow("a"), follow("b"), ask(made, "c", max_visits=50))
        assert seen["a"]
        assert seen["b"]


async def test_a_joined_request_is_served_at_the_newcomers_turn(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        calls = [ask(made, "busy", max_visits=visits) for visits in range(1, 31)]
        await until(lambda: bool(site.queries()))
        calls.append(ask(made, "rare", max_visits=30))
        await asyncio.sleep(0)
        site.behave()
        await asyncio.gather(*calls)
    order = [query["maxVisits"] for query in site.queries()]
    assert order.index(30) <= 2
    assert len(order) == 30


async def test_a_short_request_passes_a_long_review(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1})
    moves = [("BW"[index % 2], f"{'ABCDEFGHJ'[index % 9]}{1 + index // 9}") for index in range(60)]
    game = Position(board_x_size=9, board_y_size=9, moves=moves)
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        review = asyncio.create_task(find_mistakes(made.analyst, ReviewRequest(game, max_visits=5)))
        await until(lambda: bool(site.queries()))
        short = ask(made, "anonymous")
        await asyncio.sleep(0)
        site.behave()
        await asyncio.gather(review, short)
    kinds = ["review" if "analyzeTurns" in query else "short" for query in site.queries()]
    # Behind the chunk that ran when it came, before all the others.
    assert kinds.index("short") == 1
    assert kinds.count("review") == 16
