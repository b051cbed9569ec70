"""Territory, dead stones and the score under each scoring."""

import asyncio
from typing import Any

import pytest

from katago_mcp.positions import Position, check, points_top_down, vertex
from katago_mcp.rules import Rules
from katago_mcp.territory import TerritoryEvaluation, TerritoryRequest, evaluate, evaluate_territory
from rig import rig
from support import PATIENCE, Site

WALL = [("B", f"{column}{row}") for row in range(1, 6) for column in "B"] + [
    ("W", f"{column}{row}") for row in range(1, 6) for column in "D"
]
"""Black's wall on the B line, White's on the D line of 5x5; the C line is neutral."""


def evaluated(
    owned: dict[str, float] | None = None, stdev: dict[str, float] | None = None, **fields: Any
) -> TerritoryEvaluation:
    """5x5 with the two walls: left is Black's, right is White's, except the points in `owned`."""
    fields = {"initial_stones": WALL, "komi": 0.5, **fields}
    checked = check(Position(board_x_size=5, board_y_size=5, **fields))
    points = points_top_down(5, 5)
    usual = {0: 0.95, 1: 0.97, 2: 0.05, 3: -0.97, 4: -0.95}
    values = [(owned or {}).get(vertex(point), usual[point[0]]) for point in points]
    spread = [(stdev or {}).get(vertex(point), 0.1) for point in points]
    root = {"currentPlayer": "B", "winrate": 0.6, "scoreLead": 0.5, "scoreStdev": 3.0, "visits": 10}
    return evaluate(checked, {"rootInfo": root, "ownership": values, "ownershipStdev": spread})


def test_rows_go_from_the_top_and_black_is_positive() -> None:
    result = evaluated({"A5": 0.81, "E1": -0.72})
    assert len(result.ownership) == len(result.ownership_stdev) == 5
    assert result.ownership[0][0] == 0.81
    assert result.ownership[4][4] == -0.72
    assert result.board == [".X.O."] * 5


def test_area_counts_stones_and_territory() -> None:
    score = evaluated().score
    assert (score.scoring, score.black.stones, score.black.territory) == ("area", 5, 5)
    assert (score.black.total, score.white.total, score.black_lead) == (10, 10.5, -0.5)
    assert score.open_points == 5


def test_territory_counts_points_and_prisoners() -> None:
    # Black captures A2 with A3.
    taken = [("W", "A2"), ("B", "A1"), ("W", "E5"), ("B", "A3")]
    result = evaluated(rules="japanese", moves=taken)
    score = result.score
    assert score.scoring == "territory"
    assert (score.black.prisoners, score.white.prisoners) == (1, 0)
    # Black's points are A2, A4 and A5; White filled E5.
    assert (score.black.territory, score.white.territory) == (3, 4)
    assert score.black.total == 4
    assert score.white.total == 4.5
    assert "prisoners captured before the first move" in score.not_known


@pytest.mark.parametrize(("rules", "black"), [("chinese", 10), ("japanese", 6), ("korean", 6)])
def test_a_dead_stone_is_a_point_and_under_territory_a_prisoner(rules: str, black: float) -> None:
    result = evaluated(rules=rules, initial_stones=[*WALL, ("W", "A3")])
    assert result.dead_white == ["A3"]
    assert "A3" in result.black_territory
    assert result.board[2] == "oX.O."
    assert result.score.black.dead_stones_taken == 1
    assert result.score.black.total == black


def test_chain_has_one_status() -> None:
    # This stone of the wall alone would count as settled for White.
    result = evaluated({"B3": -0.7})
    assert result.dead_black == []
    assert result.score.black.stones == 5


def test_unsettled_points_count_for_nobody() -> None:
    result = evaluated({"A1": 0.5, "A2": 0.6, "C1": -0.2, "C2": 0.19})
    assert "A1" in result.unsettled
    assert "A2" in result.black_territory
    assert "C1" in result.unsettled
    assert "C2" in result.neutral
    assert result.score.black.territory == 4


def test_a_chain_that_is_not_settled_is_unsettled() -> None:
    result = evaluated({f"B{row}": 0.1 for row in range(1, 6)})
    assert {f"B{row}" for row in range(1, 6)} <= set(result.unsettled)
    assert result.score.black.stones == 0


def test_points_whose_owner_is_uncertain_are_listed() -> None:
    uncertainty = evaluated(stdev={"C3": 0.3, "C4": 0.29}).uncertainty
    assert uncertainty.points == ["C3"]
    assert uncertainty.mean_ownership_stdev == 0.116


@pytest.mark.parametrize(
    ("rules", "bonus"),
    [
        ("chinese", 5),
        ("chinese-kgs", 5),
        ("aga", 4),
        ("japanese", 0),
        ("tromp-taylor", 0),
        ("new-zealand", 0),
    ],
)
def test_white_gets_points_for_handicap_stones_by_some_rules(rules: str, bonus: int) -> None:
    stones = [stone for stone in WALL if stone[0] == "B"]
    assert evaluated(rules=rules, initial_stones=stones).score.white.handicap_bonus == bonus


@pytest.mark.parametrize(
    ("stones", "moves", "bonus"),
    [
        ([], [("B", "B1"), ("W", "D1")], 0),
        ([], [("B", "B1"), ("B", "B2"), ("W", "D1"), ("B", "B3")], 2),
        ([], [("B", "B1"), ("W", "pass"), ("B", "B2")], 2),
        ([("B", "B1")], [("B", "B2"), ("W", "D1")], 2),
        ([("B", "B1")], [("W", "D1")], 0),
        ([("B", "B1"), ("B", "B2"), ("W", "D1")], [], 0),
    ],
)
def test_handicap_stones_are_blacks_before_whites_first(
    stones: list[tuple[str, str]], moves: list[tuple[str, str]], bonus: int
) -> None:
    assert evaluated(initial_stones=stones, moves=moves).score.white.handicap_bonus == bonus


@pytest.mark.parametrize(
    ("rules", "expected"),
    [("japanese", "seki"), ("stone-scoring", "two points"), ("aga-button", "button")],
)
def test_score_lists_what_it_omits(rules: str, expected: str) -> None:
    assert any(expected in text for text in evaluated(rules=rules).score.not_known)


@pytest.mark.parametrize(
    ("parts", "scoring", "bonus", "expected"),
    [
        ({"scoring": "AREA", "white_handicap_bonus": "N", "tax": "SEKI"}, "area", 5, "seki"),
        ({"scoring": "TERRITORY", "white_handicap_bonus": "N-1", "tax": "ALL"}, "territory", 4, "group tax"),
    ],
)
def test_rules_without_a_name_are_scored_by_their_parts(
    parts: dict[str, Any], scoring: str, bonus: int, expected: str
) -> None:
    stones = [stone for stone in WALL if stone[0] == "B"]
    score = evaluated(rules=Rules(**parts), initial_stones=stones).score
    assert (score.scoring, score.white.handicap_bonus) == (scoring, bonus)
    assert any(expected in text for text in score.not_known)


def test_eyes_in_seki_count_where_nothing_is_taxed() -> None:
    rules = Rules(scoring="TERRITORY", tax="NONE")
    assert not any("seki" in text for text in evaluated(rules=rules).score.not_known)


def test_summary_has_estimate_score_and_board() -> None:
    text = evaluated(rules="japanese", initial_stones=[*WALL, ("W", "A3")]).summary()
    assert "Black leads by 0.5 points" in text
    assert "Dead white stones: A3" in text
    assert "oX.O." in text


@pytest.mark.anyio
async def test_the_engine_is_asked_for_ownership_and_its_spread(site: Site) -> None:
    position = Position(board_x_size=3, board_y_size=2, moves=[("B", "B1")])
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        site.behave(ownership={"": [1, 0.9, 0.7, 0.6, 0.8, -0.1]})
        async with asyncio.timeout(PATIENCE):
            first = await evaluate_territory(made.analyst, TerritoryRequest(position, 10))
            again = await evaluate_territory(made.analyst, TerritoryRequest(position, 10))
        (query,) = site.queries()
    assert (query["includeOwnership"], query["includeOwnershipStdev"]) == (True, True)
    assert first.ownership == [[1, 0.9, 0.7], [0.6, 0.8, -0.1]]
    assert first.neutral == ["C1"]
    assert (first.cached, again.cached) == (False, True)
    assert again.score == first.score
