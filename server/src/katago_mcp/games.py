"""Reads the game of a tool call: a position object, or a game record in SGF."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from katago_mcp import sgf
from katago_mcp.contents import GameInformation, RecordContents, read_contents
from katago_mcp.errors import Invalid
from katago_mcp.positions import Position
from katago_mcp.sgf import Line, Record

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
    Field(description="Of a record: after so many moves; default: all"),
]
Variation = Annotated[
    str,
    Field(
        description='Of a record: "main", "1.2" (branch 1 at the first fork, 2 at the next) or "#57" '
        "(through node 57)"
    ),
]


GameNumber = Annotated[int | None, Field(description="Of a record with several games, from 1")]


@dataclass(frozen=True)
class Game:
    """A position, and warnings about assumptions made to read it.

    For a whole game, `later` holds one position for each setup in mid-game: the end of the moves after it.
    `partial` reports that something before the position could not be read; `warnings` name it. `information`
    is what a record says about the game.
    """

    position: Position
    warnings: tuple[str, ...] = ()
    later: tuple[Position, ...] = ()
    partial: bool = False
    information: GameInformation | None = None


async def read_game(
    position: Position | None,
    record: str | None,
    encoded: str | None = None,
    *,
    move_number: int | None = None,
    variation: str = sgf.MAIN,
    game_number: int | None = None,
) -> Game:
    """The game of a call with exactly one of: a position, a record as text, a record's bytes in base64.

    Raises:
        Invalid: `invalid_arguments` if none or several are set, the bytes are not base64, or a position
            comes with an argument of a record; `invalid_sgf` if none of the moves can be read; otherwise as
            `sgf.read` and `Record.line`.
    """
    choice = {"moveNumber": move_number, "variation": variation, "gameNumber": game_number}
    _check_one(position, record, encoded, choice)
    if position is not None:
        return Game(position)
    # A long record takes a second or two. A thread keeps the event loop free for other calls.
    return await asyncio.to_thread(_read, content_of(record, encoded), move_number, variation, game_number)


async def read_whole_game(
    position: Position | None,
    record: str | None,
    encoded: str | None = None,
    *,
    variation: str = sgf.MAIN,
    game_number: int | None = None,
    last_move: int | None = None,
) -> Game:
    """The whole game of a call: all moves of a record, including those before a setup in mid-game.

    A game whose end cannot be read is partial, unless only moves up to `last_move` are needed. Raises as
    `read_game` does, `no_moves` for a record without moves, and `invalid_range` if `last_move` cannot be
    read.
    """
    _check_one(position, record, encoded, {"variation": variation, "gameNumber": game_number})
    if position is not None:
        return Game(position)
    return await asyncio.to_thread(
        _read_whole, content_of(record, encoded), variation, game_number, last_move
    )


async def read_record(
    record: str | None, encoded: str | None, game_number: int | None = None
) -> RecordContents:
    """What the record of a call contains. Raises as `read_game` does."""
    if (record is None) == (encoded is None):
        raise Invalid(
            "invalid_arguments",
            "pass exactly one of sgf and sgfBase64",
            field="sgf, sgfBase64",
            accepted="exactly one of the two",
        )
    return await asyncio.to_thread(read_contents, content_of(record, encoded), game_number)


def content_of(record: str | None, encoded: str | None) -> str | bytes:
    """The record of a call: its text, or the bytes that are encoded in base64."""
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
    position: Position | None, record: str | None, encoded: str | None, choice: Mapping[str, object]
) -> None:
    """Check that a call has one game, and no choice within a record (by argument) without a record."""
    if sum(value is not None for value in (position, record, encoded)) != 1:
        raise Invalid(
            "invalid_arguments",
            "pass exactly one of position, sgf and sgfBase64",
            field="position, sgf, sgfBase64",
            accepted="exactly one of the three",
        )
    if position is None:
        return
    for argument, value in choice.items():
        if value not in (None, sgf.MAIN):
            raise Invalid(
                "invalid_arguments",
                f"{argument} {value if isinstance(value, int) else repr(value)[:42]} does not apply to a "
                "position object",
                field=argument,
                accepted=f"a position that contains exactly the moves played so far, or sgf with {argument}",
            )


def _read(content: str | bytes, move_number: int | None, variation: str, game_number: int | None) -> Game:
    record = sgf.read(content, number=game_number)
    line = record.line(variation)
    position = line.position(move_number)
    is_partial = line.is_partial(move_number)
    if is_partial and move_number is None and not position.moves and not position.initial_stones:
        raise _no_position(record, line)
    return Game(
        position,
        (*record.warnings, *line.warnings),
        partial=is_partial,
        information=GameInformation.of(record, game_number or 1),
    )


def _no_position(record: Record, line: Line) -> Invalid:
    """The failure for a record of which nothing on the board can be read."""
    return Invalid(
        "invalid_sgf",
        f"none of the moves and stones can be read: {_reason(record, line)}",
        field="sgf",
        accepted="a record with moves such as ;B[pd] (Q16 on 19x19), or moveNumber 0",
    )


def _reason(record: Record, line: Line) -> str:
    """Why the moves of a line cannot be read."""
    return line.cut or "; ".join([*record.losses, *(text for _, text in line.lost[:3])])


def _read_whole(content: str | bytes, variation: str, game_number: int | None, last_move: int | None) -> Game:
    record = sgf.read(content, number=game_number)
    line = record.line(variation)
    if not line.moves:
        raise Invalid(
            "no_moves",
            f"the line {line.name[:40]!r} has no moves"
            + (f": {_reason(record, line)}" if line.is_partial() else ""),
            field="sgf",
            accepted="a record with moves on that line",
        )
    if line.cut is not None and last_move is not None and last_move > len(line.moves):
        raise Invalid(
            "invalid_range",
            f"move {last_move} cannot be read: {line.cut}",
            field="lastMove",
            accepted=f"1 to {len(line.moves)}",
        )
    first, *later = line.histories()
    warnings = [*record.warnings, *line.warnings]
    if line.starts[-1].after_move == len(line.moves) > 0:
        warnings.append("stones set up after the last move are ignored: no move follows them")
    return Game(
        first,
        tuple(warnings),
        tuple(later),
        partial=line.is_partial(last_move),
        information=GameInformation.of(record, game_number or 1),
    )
