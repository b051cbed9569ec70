"""Reads the game of a tool call: a position object, or a game record in SGF."""

import asyncio
import base64
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from katago_mcp import sgf
from katago_mcp.errors import Invalid
from katago_mcp.positions import Position

Sgf = Annotated[
    str | None,
    Field(description="A game record, unchanged"),
]
SgfBase64 = Annotated[
    str | None,
    Field(description="base64 of a record that is not UTF-8"),
]
MoveNumber = Annotated[
    int | None,
    Field(description="Of a record: after so many moves"),
]
Variation = Annotated[
    str,
    Field(
        description='Of a record: "main", "1.2" (branch 1 at the first fork, 2 at the next) or "#57" '
        "(through node 57)"
    ),
]


@dataclass(frozen=True)
class Game:
    """A position, and warnings about assumptions made to read it.

    For a whole game, `later` holds one position for each setup in mid-game: the end of the moves after it.
    """

    position: Position
    warnings: tuple[str, ...] = ()
    later: tuple[Position, ...] = ()


async def read_game(
    position: Position | None,
    record: str | None,
    encoded: str | None = None,
    *,
    move_number: int | None = None,
    variation: str = sgf.MAIN,
) -> Game:
    """The game of a call with exactly one of: a position, a record as text, a record's bytes in base64.

    Raises:
        Invalid: `invalid_arguments` if none or several are set, the bytes are not base64, or a position
            comes with `move_number` or `variation`; otherwise as `sgf.read` and `Record.line`.
    """
    _check_one(position, record, encoded, move_number, variation)
    if position is not None:
        return Game(position)
    # A long record takes a second or two. A thread keeps the event loop free for other calls.
    return await asyncio.to_thread(_read, _content(record, encoded), move_number, variation)


async def read_whole_game(
    position: Position | None,
    record: str | None,
    encoded: str | None = None,
    *,
    variation: str = sgf.MAIN,
) -> Game:
    """The whole game of a call: all moves of a record, including those before a setup in mid-game.

    Raises as `read_game` does, and `no_moves` for a record without moves.
    """
    _check_one(position, record, encoded, None, variation)
    if position is not None:
        return Game(position)
    return await asyncio.to_thread(_read_whole, _content(record, encoded), variation)


def _content(record: str | None, encoded: str | None) -> str | bytes:
    if encoded is None:
        return record or ""
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except ValueError as error:
        raise Invalid(
            "invalid_arguments",
            f"the value is not valid base64: {error}",
            field="sgfBase64",
            accepted="standard base64 with padding (alphabet with + and /)",
        ) from error


def _check_one(
    position: Position | None,
    record: str | None,
    encoded: str | None,
    move_number: int | None,
    variation: str,
) -> None:
    if sum(value is not None for value in (position, record, encoded)) != 1:
        raise Invalid(
            "invalid_arguments",
            "pass exactly one of position, sgf and sgfBase64",
            field="position, sgf, sgfBase64",
            accepted="exactly one of the three",
        )
    if position is None:
        return
    if move_number is not None:
        raise Invalid(
            "invalid_arguments",
            f"moveNumber {move_number} does not apply to a position object",
            field="moveNumber",
            accepted="a position that contains exactly the moves played so far, or sgf with moveNumber",
        )
    if variation != sgf.MAIN:
        raise Invalid(
            "invalid_arguments",
            f"variation {variation[:40]!r} does not apply to a position object",
            field="variation",
            accepted="a position that contains the moves of that variation, or sgf with variation",
        )


def _read(record: str | bytes, move_number: int | None, variation: str) -> Game:
    read = sgf.read(record)
    line = read.line(variation)
    return Game(line.position(move_number), (*read.warnings, *line.warnings))


def _read_whole(record: str | bytes, variation: str) -> Game:
    read = sgf.read(record)
    line = read.line(variation)
    if not line.moves:
        raise Invalid(
            "no_moves",
            f"the line {line.name[:40]!r} has no moves" + (f": {line.cut}" if line.cut else ""),
            field="sgf",
            accepted="a record with moves on that line",
        )
    first, *later = line.histories()
    warnings = [*read.warnings, *line.warnings]
    if line.starts[-1].after_move == len(line.moves) > 0:
        warnings.append("stones set up after the last move are ignored: no move follows them")
    return Game(first, tuple(warnings), tuple(later))
