"""The game that a tool is asked about: a position object, or a game record in SGF."""

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
    Field(
        description="The game record in SGF (FF[3] or FF[4]), instead of position. Give it as it is; what "
        "had to be assumed is in warnings."
    ),
]
SgfBase64 = Annotated[
    str | None,
    Field(
        description="Instead of sgf the bytes of the record's file in base64, for a file that is not UTF-8: "
        "its charset is the one that it declares, or else the likeliest."
    ),
]
MoveNumber = Annotated[
    int | None,
    Field(
        description="With a record: the position after that many moves, 0 for that before the first. "
        "Default: after the last."
    ),
]
Variation = Annotated[
    str,
    Field(
        description='With a record: "main", a path of branches such as "1.2" (the first at the first fork, '
        'the second at the next), or "#57" for the line through node 57.'
    ),
]


@dataclass(frozen=True)
class Game:
    """A position, and what had to be assumed to read it.

    Of a whole game `later` holds what follows: after each setup in mid-game the position at its end.
    """

    position: Position
    warnings: tuple[str, ...] = ()
    later: tuple[Position, ...] = ()


async def given(
    position: Position | None,
    record: str | None,
    encoded: str | None = None,
    *,
    move_number: int | None = None,
    variation: str = sgf.MAIN,
) -> Game:
    """The game of a call, which gives a position, a record as text, or a record's bytes in base64.

    Raises:
        Invalid: `invalid_arguments` for several or none of them, for what is not base64, or for a position
            with what chooses a place in a record; else as `sgf.read` and `Record.line`.
    """
    _check_one(position, record, encoded, move_number, variation)
    if position is not None:
        return Game(position)
    # A long record takes a second or two, and the server has others to answer meanwhile.
    return await asyncio.to_thread(_read, _content(record, encoded), move_number, variation)


async def given_whole(
    position: Position | None,
    record: str | None,
    encoded: str | None = None,
    *,
    variation: str = sgf.MAIN,
) -> Game:
    """The whole game of a call, with all moves of a record, also those before stones were set up.

    Raises as `given` does, and `no_moves` for a record without any.
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
            f"the record's bytes are not in base64: {error}",
            field="sgfBase64",
            accepted="base64 with its padding, of the alphabet with + and /",
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
            "a call gives either a position or an SGF record",
            field="position, sgf, sgfBase64",
            accepted="one of the three",
        )
    if position is None:
        return
    if move_number is not None:
        raise Invalid(
            "invalid_arguments",
            f"moveNumber {move_number} is of no meaning to a position",
            field="moveNumber",
            accepted="a position with as many moves as were played, or sgf with moveNumber",
        )
    if variation != sgf.MAIN:
        raise Invalid(
            "invalid_arguments",
            f"variation {variation[:40]!r} is of no meaning to a position",
            field="variation",
            accepted="a position with the moves of that variation, or sgf with variation",
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
        warnings.append("what is set up after the last move is left out: no move is judged by it")
    return Game(first, tuple(warnings), tuple(later))
