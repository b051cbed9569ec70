"""Draws the picture for an answer: candidate moves, ownership, a continuation, or the graph of a game."""

from collections.abc import Sequence

from katago_mcp import graphs, pictures
from katago_mcp.analysis import PositionAnalysis, colour_name, lead
from katago_mcp.explanation import MoveExplanation
from katago_mcp.positions import Checked, Colour, Position, board_of, check, opponent_of, vertex
from katago_mcp.review_answer import GameReview, MoveReview
from katago_mcp.territory import TerritoryEvaluation

MAX_CANDIDATES = 9
MAX_CONTINUATION = 9
"""Moves of a continuation that a picture shows."""

MAX_MISTAKES = 3
"""Mistakes of a review that get a board."""

PASS = vertex(None)


def of_analysis(position: Position, analysis: PositionAnalysis) -> bytes:
    """A PNG of the position with the numbered best moves and the points that each loses."""
    checked = check(position)
    shown = analysis.moves[:MAX_CANDIDATES]
    candidates = tuple(
        pictures.Candidate(move.move, str(move.order + 1), max(0.0, move.points_lost))
        for move in shown
        if move.move != PASS
    )
    notes = [
        f"{move.order + 1}: pass, loses {max(0.0, move.points_lost):.1f} points"
        for move in shown
        if move.move == PASS
    ]
    return pictures.board(
        _board(
            checked,
            heading=(
                _turn(checked, analysis.next_player),
                f"{lead(analysis.score_lead)}, Black wins {analysis.winrate:.1%} ({analysis.visits} visits)",
                analysis.terms(),
            ),
            notes=notes,
            candidates=candidates,
            ownership=None if analysis.ownership is None else tuple(analysis.ownership),
        )
    )


def of_territory(position: Position, evaluation: TerritoryEvaluation) -> bytes:
    """A PNG of the position with every point shaded by its expected owner."""
    checked = check(position)
    return pictures.board(
        _board(
            checked,
            heading=(
                f"Expected territory. {_turn(checked, evaluation.next_player)}",
                f"{lead(evaluation.score_lead)} by the engine's estimate, "
                f"{lead(evaluation.score.black_lead)} by settled points ({evaluation.visits} visits)",
                evaluation.terms(),
            ),
            ownership=tuple(value for row in evaluation.ownership for value in row),
        )
    )


def of_explanation(position: Position, explanation: MoveExplanation) -> bytes:
    """A PNG of the position with the explained move as 1, the play that follows it, and the alternatives."""
    checked = check(position)
    moves = [explanation.move, *explanation.continuation]
    numbered, notes = _continuation(checked, explanation.player, moves)
    taken = {move.vertex for move in numbered}
    alternatives = tuple(
        pictures.Candidate(other.move, "ABCDEFGHIJ"[index])
        for index, other in enumerate(explanation.alternatives)
        if other.move not in taken and other.move != PASS
    )
    verb = "loses" if explanation.points_lost >= 0 else "gains"
    return pictures.board(
        _board(
            checked,
            heading=(
                f"{colour_name(explanation.player)} {explanation.move} {verb} "
                f"{abs(explanation.points_lost):.1f} points",
                f"Afterwards {lead(explanation.score_lead)}, Black wins {explanation.winrate:.1%} "
                f"({explanation.visits} visits)",
                explanation.terms(),
            ),
            notes=[
                *notes,
                *(
                    f"{'ABCDEFGHIJ'[index]}: {other.move}, {lead(other.score_lead)}"
                    for index, other in enumerate(explanation.alternatives)
                ),
            ],
            candidates=alternatives,
            numbered=numbered,
        )
    )


def of_mistake(position: Position, mistake: MoveReview, terms: str) -> bytes:
    """A PNG of the position before a mistake: the played move, and the better line with its numbers."""
    checked = check(position)
    numbered, notes = _continuation(checked, mistake.player, mistake.better_pv)
    played = () if mistake.move == PASS else (pictures.Candidate(mistake.move, "X", mistake.points_lost),)
    return pictures.board(
        _board(
            checked,
            heading=(
                f"Move {mistake.number}: {colour_name(mistake.player)} {mistake.move} loses "
                f"{max(0.0, mistake.points_lost):.1f} points",
                f"Better: {' '.join(mistake.better_pv[:MAX_CONTINUATION])}",
                terms,
            ),
            notes=[f"X: the played move, {mistake.move}", *notes],
            candidates=tuple(
                each for each in played if each.vertex not in {move.vertex for move in numbered}
            ),
            numbered=numbered,
        )
    )


def of_whole_review(histories: Sequence[Position], review: GameReview) -> list[bytes]:
    """The graph of a review, and boards of its worst mistakes; empty without moves.

    `histories`: the positions of the game; each one after the first starts from a new setup.
    `review`: with all moves.
    """
    graph = of_review(review)
    moves = {move.number: move for move in review.moves}
    worst = [moves[number] for number in review.mistakes[:MAX_MISTAKES] if moves[number].better_move]
    boards = [of_mistake(_before(histories, mistake.number), mistake, review.terms()) for mistake in worst]
    return [] if graph is None else [graph, *boards]


def _before(histories: Sequence[Position], number: int) -> Position:
    """The position before a move, counted from 1 through all histories."""
    for history in histories:
        if number <= len(history.moves):
            return history.model_copy(update={"moves": history.moves[: number - 1]})
        number -= len(history.moves)
    raise ValueError("the game has fewer moves")


def of_review(review: GameReview) -> bytes | None:
    """A PNG graph of score and winrate over a review's moves, with mistakes marked; None without moves."""
    if not review.moves:
        return None
    points = {number: graphs.GraphPoint(number) for turn in review.unanalysed for number in turn.moves}
    points |= {
        move.number: graphs.GraphPoint(move.number, move.score_lead, move.winrate) for move in review.moves
    }
    course = tuple(points[number] for number in sorted(points))
    marked = set(review.mistakes)
    mistakes = tuple(
        graphs.GraphMistake(move.number, move.player, move.points_lost)
        for move in review.moves
        if move.number in marked
    )
    title = (
        f"Moves {review.first_move} to {review.last_move}, {review.visits_per_turn} visits per turn. "
        f"{review.terms()}"
    )
    return graphs.graph(graphs.GraphPicture(course, mistakes, title))


def _turn(checked: Checked, player: Colour) -> str:
    return f"{colour_name(player)} to move after move {checked.number}"


def _continuation(
    checked: Checked, player: Colour, moves: Sequence[str]
) -> tuple[tuple[pictures.Numbered, ...], list[str]]:
    """The moves that fall on empty points, with their numbers, and notes on the others."""
    occupied = {vertex(point) for point in board_of(checked).stones}
    numbered: list[pictures.Numbered] = []
    notes = []
    for number, move in enumerate(moves[:MAX_CONTINUATION], 1):
        if move == PASS:
            notes.append(f"{number}: {colour_name(player)} passes")
        elif move in occupied:
            notes.append(f"{number}: {colour_name(player)} {move}")
        else:
            occupied.add(move)
            numbered.append(pictures.Numbered(player, move, number))
        player = opponent_of(player)
    return tuple(numbered), notes


def _board(
    checked: Checked,
    *,
    heading: tuple[str, ...],
    notes: Sequence[str] = (),
    candidates: tuple[pictures.Candidate, ...] = (),
    ownership: tuple[float, ...] | None = None,
    numbered: tuple[pictures.Numbered, ...] = (),
) -> pictures.BoardPicture:
    stones = board_of(checked).stones.items()
    last = checked.moves[-1] if checked.moves else None
    passed = [f"Last move: {colour_name(last[0])} passed"] if last is not None and last[1] == PASS else []
    return pictures.BoardPicture(
        width=checked.width,
        height=checked.height,
        stones=tuple((colour, vertex(point)) for point, colour in stones),
        last_move=None if last is None else last[1],
        candidates=candidates,
        ownership=ownership,
        heading=heading,
        notes=(*passed, *notes),
        numbered=numbered,
        legend=True,
    )
