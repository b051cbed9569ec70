"""Draws the picture for an answer: candidate moves, ownership, or the graph of a game."""

from katago_mcp import pictures
from katago_mcp.analysis import PositionAnalysis
from katago_mcp.positions import Checked, Position, board_of, check, vertex
from katago_mcp.review_answer import GameReview
from katago_mcp.territory import TerritoryEvaluation

MAX_CANDIDATES = 9


def of_analysis(position: Position, analysis: PositionAnalysis) -> bytes:
    """A PNG of the position with the numbered best moves and the points that each loses."""
    candidates = tuple(
        pictures.Candidate(move.move, str(move.order + 1), max(0.0, move.points_lost))
        for move in analysis.moves[:MAX_CANDIDATES]
        if move.move != vertex(None)
    )
    ownership = None if analysis.ownership is None else tuple(analysis.ownership)
    return _board(check(position), candidates, ownership)


def of_territory(position: Position, evaluation: TerritoryEvaluation) -> bytes:
    """A PNG of the position with every point shaded by its expected owner."""
    return _board(check(position), (), tuple(value for row in evaluation.ownership for value in row))


def of_review(review: GameReview) -> bytes | None:
    """A PNG graph of score and winrate over a review's moves, with mistakes marked; None without moves."""
    if not review.moves:
        return None
    points = {number: pictures.GraphPoint(number) for turn in review.unanalysed for number in turn.moves}
    points |= {
        move.number: pictures.GraphPoint(move.number, move.score_lead, move.winrate) for move in review.moves
    }
    course = tuple(points[number] for number in sorted(points))
    return pictures.graph(pictures.GraphPicture(course, tuple(sorted(review.mistakes))))


def _board(
    checked: Checked,
    candidates: tuple[pictures.Candidate, ...],
    ownership: tuple[float, ...] | None,
) -> bytes:
    stones = board_of(checked).stones.items()
    return pictures.board(
        pictures.BoardPicture(
            width=checked.width,
            height=checked.height,
            stones=tuple((colour, vertex(point)) for point, colour in stones),
            last_move=checked.moves[-1][1] if checked.moves else None,
            candidates=candidates,
            ownership=ownership,
        )
    )
