"""Compares moves that a caller names: each of them gets an equal share of the visits.

A search among some moves spends nearly all visits on the best one and may never try the others. A move that
got less than its share is searched again, as the only one allowed [Analysis_Engine.md, allowMoves].
"""

from collections.abc import Mapping, Sequence
from typing import Any

from katago_mcp.positions import Checked, board_of, parse_vertex, to_move

MOST_COMPARED = 10
"""Named moves that are compared. More are only a restriction of the search."""

LEAST_VISITS = 2
"""Minimum share of a move: the first visit evaluates the position itself."""


def compared(checked: Checked, moves: Sequence[str]) -> tuple[list[str], list[str]]:
    """The legal ones of the named moves, and a warning for each that is not legal.

    No moves and no warnings if there are too few or too many of them: then they only restrict the search.
    """
    board, player = board_of(checked), to_move(checked)
    points = [parse_vertex(move, checked.width, checked.height) for move in moves]
    reasons = {move: board.refusal(player, point) for move, point in zip(moves, points, strict=True)}
    legal = [move for move, reason in reasons.items() if reason is None]
    if not 2 <= len(moves) <= MOST_COMPARED:
        return [], []
    warnings = [f"{player} {move} is not compared: {reason}" for move, reason in reasons.items() if reason]
    return legal if len(legal) > 1 else [], warnings


def share(visits: int, moves: Sequence[str]) -> int:
    """The visits of each compared move, of the visits of the whole search."""
    return max(LEAST_VISITS, visits // len(moves))


def lacking(infos: Sequence[Mapping[str, Any]], moves: Sequence[str], least: int) -> list[str]:
    """The compared moves with fewer than `least` visits in the `moveInfos` of a reply.

    A mirror image is not searched, because the move that it is an image of is compared too.
    """
    enough = {info["move"] for info in infos if info["visits"] >= least or "isSymmetryOf" in info}
    return [move for move in moves if move not in enough]


def merged(
    infos: Sequence[Mapping[str, Any]], alone: Sequence[Mapping[str, Any]], player: str
) -> list[dict[str, Any]]:
    """The `moveInfos` of a search with those of moves that were searched alone.

    The best move for `player` comes first: by its winrate in percent, then by its score.
    """
    again = {info["move"] for info in alone}
    sign = 1 if player == "B" else -1
    ordered = sorted(
        (*(info for info in infos if info["move"] not in again), *alone),
        key=lambda info: (round(sign * info["winrate"], 2), sign * info["scoreLead"]),
        reverse=True,
    )
    return [{**info, "order": order} for order, info in enumerate(ordered)]
