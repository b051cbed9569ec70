"""Pictures of answers, compared with pictures drawn directly."""

from typing import Any

import pytest

from katago_mcp.analysis import MoveAnalysis, PositionAnalysis, lead
from katago_mcp.explanation import Alternative, MoveExplanation
from katago_mcp.graphs import GraphMistake, GraphPicture, GraphPoint, graph
from katago_mcp.illustrations import (
    of_analysis,
    of_explanation,
    of_mistake,
    of_review,
    of_territory,
    of_whole_review,
)
from katago_mcp.pictures import BoardPicture, Candidate, Numbered, board
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


HEADING = (
    "Black to move after move 6",
    "Black leads by 0.0 points, Black wins 50.0% (100 visits)",
    "Rules chinese, komi 7.5.",
)


def picture(**fields: Any) -> bytes:
    drawn = {"width": 5, "height": 3, "stones": STONES, "last_move": "A1", "heading": HEADING, "legend": True}
    return board(BoardPicture(**{**drawn, **fields}))


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
    assert of_analysis(PASSED, found) == picture(
        last_move="pass",
        candidates=(Candidate("D1", "2", 1.0),),
        heading=("Black to move after move 7", *HEADING[1:]),
        notes=("Last move: Black passed", "1: pass, loses 0.0 points"),
    )


def test_no_more_than_nine_candidates_are_shown() -> None:
    names = ["A2", "B1", "B3", "C1", "C2", "C3", "D1", "D2", "D3", "pass"]
    found = [candidate(name, order, order / 2) for order, name in enumerate(names)]
    shown = tuple(Candidate(name, str(order + 1), order / 2) for order, name in enumerate(names[:9]))
    assert of_analysis(GAME, analysis(*found)) == picture(candidates=shown)
    beyond = [*found[:9], candidate("E2", 9, 4.5)]
    assert of_analysis(GAME, analysis(*beyond)) == picture(candidates=shown)


def test_board_without_moves_has_no_last_move() -> None:
    start = GAME.model_copy(update={"moves": []})
    heading = ("Black to move after move 0", *HEADING[1:])
    assert of_analysis(start, analysis()) == picture(stones=(("B", "E2"),), last_move=None, heading=heading)


def test_territory_is_shaded_row_by_row() -> None:
    root = {"currentPlayer": "B", "winrate": 0.6, "scoreLead": 0.5, "scoreStdev": 3.0, "visits": 10}
    reply = {"rootInfo": root, "ownership": [*OWNERSHIP], "ownershipStdev": [0.1] * 15}
    evaluation = evaluate(check(GAME), reply)
    drawn = of_territory(GAME, evaluation)
    heading = (
        "Expected territory. Black to move after move 6",
        f"Black leads by 0.5 points by the engine's estimate, {lead(evaluation.score.black_lead)} by settled "
        "points (10 visits)",
        "Rules chinese, komi 7.5.",
    )
    assert drawn == picture(ownership=OWNERSHIP, heading=heading)
    assert drawn != picture(ownership=OWNERSHIP[::-1], heading=heading)


def explanation(**fields: Any) -> MoveExplanation:
    values: dict[str, Any] = {
        "rules": "chinese",
        "komi": 7.5,
        "move": "D1",
        "player": "B",
        "turn_number": 6,
        "best": False,
        "points_lost": 4.25,
        "winrate_lost": 0.1,
        "score_lead": -2.0,
        "winrate": 0.4,
        "visits": 50,
        "prior": 0.1,
        "policy_rank": 3,
        "searched_order": None,
        "searched_visits": 0,
        "continuation": ["C1", "pass", "D1", "C3"],
        "alternatives": [
            Alternative(move=move, winrate=0.5, score_lead=2.0, visits=9, prior=0.2, pv=[move])
            for move in ("C2", "pass", "C1")
        ],
        "swings": [],
    }
    return MoveExplanation(**{**values, **fields})


def test_explanation_shows_the_play_with_numbers_and_says_what_cannot_be_drawn() -> None:
    # D1 is the explained move, so the third move of the continuation falls on a stone.
    drawn = of_explanation(GAME, explanation())
    assert drawn == picture(
        heading=(
            "Black D1 loses 4.2 points",
            "Afterwards White leads by 2.0 points, Black wins 40.0% (50 visits)",
            "Rules chinese, komi 7.5.",
        ),
        notes=(
            "3: Black passes",
            "4: White D1",
            "A: C2, Black leads by 2.0 points",
            "B: pass, Black leads by 2.0 points",
            "C: C1, Black leads by 2.0 points",
        ),
        candidates=(Candidate("C2", "A"),),
        numbered=(Numbered("B", "D1", 1), Numbered("W", "C1", 2), Numbered("B", "C3", 5)),
    )


def test_explained_pass_is_named() -> None:
    drawn = of_explanation(GAME, explanation(move="pass", continuation=[], alternatives=[], points_lost=-1.0))
    assert drawn == picture(
        heading=(
            "Black pass gains 1.0 points",
            "Afterwards White leads by 2.0 points, Black wins 40.0% (50 visits)",
            "Rules chinese, komi 7.5.",
        ),
        notes=("1: Black passes",),
    )


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
    mistakes = (GraphMistake(2, "W", 4.0), GraphMistake(3, "B", 7.0))
    title = "Moves 1 to 4, 200 visits per turn. Rules chinese, komi 7.5."
    assert of_review(review) == graph(GraphPicture(points, mistakes, title))
    assert of_review(review.model_copy(update={"mistakes": []})) == graph(GraphPicture(points, (), title))
    assert of_review(review.model_copy(update={"moves": [], "mistakes": []})) is None
    whole = of_whole_review([Position(board_x_size=5, board_y_size=5, moves=moves)], review)
    assert len(whole) == 3
    first = review.moves[2]
    before = Position(board_x_size=5, board_y_size=5, moves=moves[:2])
    assert (
        whole[1]
        == of_mistake(before, first, review.terms())
        == board(
            BoardPicture(
                width=5,
                height=5,
                stones=(("B", "A1"), ("W", "C3")),
                last_move="C3",
                candidates=(Candidate("D4", "X", 7.0),),
                heading=("Move 3: Black D4 loses 7.0 points", "Better: A1 A2 B2", "Rules chinese, komi 7.5."),
                notes=("X: the played move, D4", "1: Black A1"),
                numbered=(Numbered("W", "A2", 2), Numbered("B", "B2", 3)),
                legend=True,
            )
        )
    )
