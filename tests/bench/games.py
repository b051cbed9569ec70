"""Positions that are not in any cache, and one whole game."""

from __future__ import annotations

import random
from typing import Any

from katago_mcp.positions import COLUMNS, Board, Colour, IllegalMove, vertex
from lab import paths

GAME = paths.SHARED / "games" / "ogs-76393597.sgf"
_MADE_MOVES = 240


def position(seed: int, *, moves: int = 20, size: int = 19) -> dict[str, Any]:
    """A position after random legal moves. A different seed gives a different position."""
    return {"boardXSize": size, "boardYSize": size, "moves": _moves(seed, moves, size)}


def record() -> tuple[str, str]:
    """A whole game in SGF and its description: the one beside the checkout, or a random one."""
    if GAME.is_file():
        return GAME.read_text(), f"shared/games/{GAME.name}"
    nodes = "".join(f";{colour}[{_sgf_point(move)}]" for colour, move in _moves(76393597, _MADE_MOVES, 19))
    return f"(;FF[4]GM[1]SZ[19]KM[6.5]RU[Japanese]{nodes})", f"a random game of {_MADE_MOVES} moves"


def _moves(seed: int, count: int, size: int) -> list[list[str]]:
    dice = random.Random(seed)
    board = Board(size, size)
    moves: list[list[str]] = []
    while len(moves) < count:
        colour: Colour = "W" if len(moves) % 2 else "B"
        point = dice.randrange(size), dice.randrange(size)
        try:
            board.play(colour, point)
        except IllegalMove:
            continue
        moves.append([colour, vertex(point)])
    return moves


def _sgf_point(move: str) -> str:
    return chr(ord("a") + COLUMNS.index(move[0])) + chr(ord("a") + 19 - int(move[1:]))
