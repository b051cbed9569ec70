"""Identical concurrent requests share one search."""

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


async def test_identical_requests_share_one_search_and_its_answer(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        calls = [ask(made, caller) for caller in ("a", "a", "b")]
        await until(lambda: bool(site.queries()))
        site.behave()
        answers = await asyncio.gather(*calls)
        assert len(site.queries()) == 1
        assert answers[0] == answers[1] == answers[2]
        # Tools add to their answers, for example warnings about a record.
        assert answers[0] is not answers[1]
        assert made.value("katago_visits_total") == 200


async def test_requests_that_differ_are_not_joined(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        await asyncio.gather(ask(made, "a", max_visits=10), ask(made, "a", max_visits=11))
        assert len(site.queries()) == 2


async def test_search_continues_for_the_others_when_one_caller_gives_up(site: Site) -> None:
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


async def test_search_ends_when_the_last_caller_gives_up(site: Site) -> None:
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


async def test_request_after_the_last_caller_gave_up_starts_a_new_search(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        first = ask(made, "a")
        await until(lambda: bool(site.queries()))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        site.behave()
        assert (await ask(made, "a")).visits == 200


async def test_failure_reaches_all_callers(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="die")
        results = await asyncio.gather(ask(made, "a"), ask(made, "b"), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 2


async def test_progress_reaches_all_callers_that_want_it(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        reports: dict[str, list[int]] = {"a": [], "b": []}

        async def follow(caller: str) -> None:
            async def report(done: int, total: int) -> None:
                reports[caller].append(done)
                if all(reports.values()):
                    site.behave()

            await made.analyst.analyze(Request(GAME, max_visits=50), report, caller=caller)

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(follow("a"), follow("b"), ask(made, "c", max_visits=50))
        assert reports["a"]
        assert reports["b"]


async def test_joined_request_uses_the_turn_of_the_new_caller(site: Site) -> None:
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
    # After the running chunk, before all others.
    assert kinds.index("short") == 1
    assert kinds.count("review") == 16
