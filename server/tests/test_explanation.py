"""Explanations of moves, including moves that the engine does not consider."""

import asyncio
from typing import Any

import pytest

from katago_mcp.errors import Failure, TimedOut
from katago_mcp.explanation import ExplanationRequest, MoveExplanation, explain_move
from katago_mcp.positions import Position
from rig import Rig, rig, until
from support import CHANCES, PATIENCE, Site

pytestmark = pytest.mark.anyio

POSITION = Position(board_x_size=3, board_y_size=3, moves=[("B", "B2")], initial_player="B")


async def explain(made: Rig, move: str, position: Position = POSITION, **fields: Any) -> MoveExplanation:
    async with asyncio.timeout(PATIENCE):
        return await explain_move(
            made.analyst, ExplanationRequest(position, move, **{"max_visits": 10, **fields})
        )


async def test_move_that_the_engine_does_not_consider_gets_its_own_search(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await explain(made, "c3")
        free, forced = site.queries()
    assert "allowMoves" not in free
    assert forced["allowMoves"] == [{"player": "W", "moves": ["C3"], "untilDepth": 1}]
    assert (result.move, result.player, result.best) == ("C3", "W", False)
    assert (result.searched_order, result.searched_visits) == (None, 0)
    # The fake engine gives every forced move -1 and A1 2 points, for the player to move.
    assert result.points_lost == 3.0
    assert result.continuation == ["A2", "B2"]
    assert [other.move for other in result.alternatives] == ["A1", "B1"]
    assert (result.policy_rank, result.prior) == (1, 0.1)


@pytest.mark.parametrize(("size", "chances"), CHANCES)
async def test_prior_and_rank_belong_to_the_move_and_not_to_a_mirror_image(
    site: Site, size: tuple[int, int], chances: dict[str, float]
) -> None:
    position = Position(board_x_size=size[0], board_y_size=size[1])
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(policy=chances)
        results = [await explain(made, move, position) for move in chances]
    assert {result.move: result.prior for result in results} == chances
    assert [result.policy_rank for result in results] == [*range(1, len(chances) + 1)]


async def test_the_engines_choice_is_compared_with_the_second_best_move(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await explain(made, "A1")
        queries = site.queries()
    assert queries[2]["avoidMoves"] == [{"player": "W", "moves": ["A1"], "untilDepth": 1}]
    assert (result.best, result.searched_order) == (True, 0)
    assert [other.move for other in result.alternatives] == ["B1"]
    assert result.points_lost == 1.5
    assert made.value("katago_visits_total") == 30


async def test_a_pass_can_be_explained(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        assert (await explain(made, "PASS")).move == "pass"


async def test_points_that_change_owner_are_grouped_by_region(site: Site) -> None:
    after = [-0.5, -0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 0.9, 0.9]
    instead = [0.5, 0.4, 0.0, 0.0, 0.5, 0.0, 0.0, 0.5, 0.65]
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(ownership={"C3": after, "A1": instead})
        result = await explain(made, "C3")
    assert [(swing.gains, swing.points, swing.vertices) for swing in result.swings] == [
        ("W", 1.9, ["A3", "B3"]),
        ("B", 0.4, ["B1"]),
    ]
    assert result.swings[0].stones == []


async def test_stones_that_change_owner_are_listed(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(ownership={"C3": [0.9] * 9, "A1": [0.9] * 4 + [-0.9] + [0.9] * 4})
        result = await explain(made, "C3")
    assert (result.swings[0].gains, result.swings[0].stones) == ("B", ["B2"])


async def test_explanations_are_cached(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        first, again = await explain(made, "C3"), await explain(made, "c3")
        other = await explain(made, "C2")
        assert len(site.queries()) == 4
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert again.swings == first.swings


@pytest.mark.parametrize(
    ("move", "code", "expected"),
    [
        ("B2", "illegal_move", "the point is occupied"),
        ("Z9", "invalid_move", "no such column"),
        ("D4", "invalid_move", "off the board"),
    ],
)
async def test_a_move_that_cannot_be_played_is_refused(
    site: Site, move: str, code: str, expected: str
) -> None:
    with pytest.raises(Failure) as caught:
        await explain(Rig(site, {}), move)
    assert (caught.value.code, caught.value.field) == (code, "move")
    assert expected in caught.value.message


async def test_a_move_that_only_the_engine_knows_to_be_illegal_is_refused(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(illegal=["C3"])
        with pytest.raises(Failure, match=r"illegal_move.*the engine considers it illegal"):
            await explain(made, "C3")


@pytest.mark.parametrize(
    ("move", "behaviour"),
    [
        ("C3", {"analysis": "hasty"}),
        ("C3", {"brief": ["allowMoves"]}),
        ("A1", {"brief": ["allowMoves"]}),
        ("A1", {"brief": ["avoidMoves"]}),
    ],
)
async def test_a_search_without_time_for_a_second_visit_is_a_timeout(
    site: Site, move: str, behaviour: dict[str, Any]
) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(**behaviour)
        with pytest.raises(TimedOut, match="analysis_timeout: the search ended before it had") as caught:
            await explain(made, move)
    assert caught.value.retry_after is not None


async def test_explanation_uses_two_visits_if_the_default_is_one(site: Site) -> None:
    site.write(katago={"defaultVisits": 1})
    async with rig(site) as made:
        await made.reaches("ready")
        assert (await explain(made, "C3", max_visits=None)).visits
        assert {query["maxVisits"] for query in site.queries()} == {2}


@pytest.mark.parametrize(
    ("katago", "visits", "expected"),
    [
        ({}, 1, r"maxVisits cannot be 1 \[maxVisits\]; accepted: 2 to 1000"),
        (
            {"maxVisits": 1, "defaultVisits": 1},
            None,
            "this tool needs 2 visits, but",
        ),
    ],
)
async def test_single_visit_is_rejected(
    site: Site, katago: dict[str, int], visits: int | None, expected: str
) -> None:
    site.write(katago=katago)
    with pytest.raises(Failure, match=f"limit_exceeded: {expected}"):
        await explain(Rig(site, {}), "C3", max_visits=visits)


@pytest.mark.parametrize("fields", [{"alternatives": 0}, {"alternatives": 11}, {"pv_length": 61}])
async def test_numbers_out_of_range_are_refused(site: Site, fields: dict[str, Any]) -> None:
    with pytest.raises(Failure, match="limit_exceeded"):
        await explain(Rig(site, {}), "C3", **fields)


async def test_a_cancelled_explanation_ends_its_search(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        call = asyncio.create_task(explain(made, "C3"))
        await until(lambda: bool(site.queries()))
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: len(site.queries("terminate")) == 1)


async def test_summary_has_numbers_and_sequences(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        text = (await explain(made, "C3")).summary()
    assert text.startswith("White C3: Black 50.0%")
    assert "Compared with A1 it loses 3.0 points" in text
    assert "Then: A2 B2" in text
