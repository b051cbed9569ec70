"""Pictures of answers, compared with pictures drawn directly."""

from typing import Any

import pytest

from katago_mcp.analysis import MoveAnalysis, PositionAnalysis
from katago_mcp.illustrations import of_analysis, of_review, of_territory
from katago_mcp.pictures import BoardPicture, Candidate, GraphPicture, GraphPoint, board, graph
from katago_mcp.positions import Position, check
from katago_mcp.review import ReviewRequest, find_mistakes
from katago_mcp.territory import evaluate
from rig import rig
from support import Site

MOVES = [("B", "A2"), ("W", "B2"), ("B", "E3"), ("W", "A3"), ("B", "E1"), ("W", "A1")]
"""On 5x3. White's last move captures Black's first stone."""

STONES: Any = (("B", "E2"), ("W", "B2"), ("B", "E3"), ("W", "A3"), ("B", "E1"), ("W", "A1"))
OWNERSHIP = (-0.9, -0.8, 0.0, 0.7, 0.9, -0.95, -0.85, 0.1, 0.75, 0.95, -0.6, -0.5, 0.2, 0.5, 0.6)

GAME = Position(board_x_size=5, board_y_size=3, initial_stones=[("B", "E2")], moves=MOVES)
PASSED = GAME.model_copy(update={"moves": [*MOVES, ("B", "pass")]})


def candidate(move: str, order: int, points_lost: float) -> MoveAnalysis:
    return MoveAnalysis(
        move=move,
        winrate=0.5,
        score_lead=0.0,
        points_lost=points_lost,
        visits=10,
        prior=0.1,
        order=order,
        pv=[move],
    )


def analysis(*moves: MoveAnalysis, ownership: list[float] | None = None) -> PositionAnalysis:
    return PositionAnalysis(
        rules="chinese",
        komi=7.5,
        next_player="B",
        turn_number=6,
        board_x_size=5,
        winrate=0.5,
        score_lead=0.0,
        score_stdev=10.0,
        visits=100,
        moves=[*moves],
        ownership=ownership,
    )


def picture(**fields: Any) -> bytes:
    return board(BoardPicture(**{"width": 5, "height": 3, "stones": STONES, "last_move": "A1", **fields}))


def test_an_analysis_shows_the_candidates_by_rank_and_loss() -> None:
    found = analysis(candidate("D1", 0, 0.0), candidate("C3", 1, -0.5), candidate("D2", 2, 7.25))
    candidates = (Candidate("D1", "1", 0.0), Candidate("C3", "2", 0.0), Candidate("D2", "3", 7.25))
    drawn = of_analysis(GAME, found)
    assert drawn == picture(candidates=candidates)
    assert drawn != picture(candidates=candidates[:2])


def test_an_analysis_shows_ownership_if_requested() -> None:
    found = analysis(candidate("D1", 0, 0.0), ownership=[*OWNERSHIP])
    assert of_analysis(GAME, found) == picture(candidates=(Candidate("D1", "1", 0.0),), ownership=OWNERSHIP)


def test_pass_is_not_drawn_but_keeps_its_rank() -> None:
    found = analysis(candidate("pass", 0, 0.0), candidate("D1", 1, 1.0))
    assert of_analysis(PASSED, found) == picture(last_move="pass", candidates=(Candidate("D1", "2", 1.0),))


def test_no_more_than_nine_candidates_are_shown() -> None:
    names = ["A2", "B1", "B3", "C1", "C2", "C3", "D1", "D2", "D3", "pass"]
    found = [candidate(name, order, order / 2) for order, name in enumerate(names)]
    shown = tuple(Candidate(name, str(order + 1), order / 2) for order, name in enumerate(names[:9]))
    assert of_analysis(GAME, analysis(*found)) == picture(candidates=shown)
    beyond = [*found[:9], candidate("E2", 9, 4.5)]
    assert of_analysis(GAME, analysis(*beyond)) == picture(candidates=shown)


def test_board_without_moves_has_no_last_move() -> None:
    start = GAME.model_copy(update={"moves": []})
    assert of_analysis(start, analysis()) == picture(stones=(("B", "E2"),), last_move=None)


def test_territory_is_shaded_row_by_row() -> None:
    root = {"currentPlayer": "B", "winrate": 0.6, "scoreLead": 0.5, "scoreStdev": 3.0, "visits": 10}
    reply = {"rootInfo": root, "ownership": [*OWNERSHIP], "ownershipStdev": [0.1] * 15}
    drawn = of_territory(GAME, evaluate(check(GAME), reply))
    assert drawn == picture(ownership=OWNERSHIP)
    assert drawn != picture(ownership=OWNERSHIP[::-1])


@pytest.mark.anyio
async def test_a_review_is_drawn_move_by_move_with_its_mistakes(site: Site) -> None:
    moves = [("B", "A1"), ("W", "C3"), ("B", "D4"), ("W", "A2")]
    request = ReviewRequest(Position(board_x_size=5, board_y_size=5, moves=moves), all_moves=True)
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=[0.0, 0.0, 4.0, -3.0, -2.0])
        review = await find_mistakes(made.analyst, request)
    points = (
        GraphPoint(1, 0.0, 0.48),
        GraphPoint(2, 4.0, 0.52),
        GraphPoint(3, -3.0, 0.45),
        GraphPoint(4, -2.0, 0.46),
    )
    assert of_review(review) == graph(GraphPicture(points, marked=(2, 3)))
    assert of_review(review.model_copy(update={"mistakes": []})) == graph(GraphPicture(points))
    assert of_review(review.model_copy(update={"moves": [], "mistakes": []})) is None
