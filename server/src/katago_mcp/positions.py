"""Go positions: schema, GTP coordinates, and validation before the engine receives them.

KataGo silently accepts some impossible positions (an illegally retaken ko, a repetition under superko,
stones without liberties) and rejects others with its own errors. This module rejects both, with an error
code, before a query is sent.
"""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticSerializationError, to_json

from katago_mcp.errors import Invalid
from katago_mcp.rules import RULES, Ko, Rules, RulesArgument, find

Colour = Literal["B", "W"]
Point = tuple[int, int]
"""Column and row, each from 0; A1 (lower left) is (0, 0)."""

COLUMNS = "ABCDEFGHJKLMNOPQRST"
MAX_MOVES = 2000
MIN_SIZE, MAX_SIZE = 2, 19
MAX_KOMI = 400
PLAUSIBLE_KOMI = 15
"""A larger komi is used only with a warning."""

MAX_REGION = 400
"""Maximum entries of allowMoves or avoidMoves: more than the points of a board."""

_COLOURS: dict[str, Colour] = {"b": "B", "black": "B", "w": "W", "white": "W"}


class Position(BaseModel):
    """A Go position: a board, setup stones on it, and the moves played since."""

    # In JSON, a komi of NaN must differ from a missing komi.
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", populate_by_name=True, ser_json_inf_nan="constants"
    )

    rules: Annotated[
        RulesArgument,
        # The parts are also accepted as an object. Published as text: an object would cost much more.
        WithJsonSchema({"type": "string"}),
        Field(
            description=f"{', '.join(RULES)}, or ko(SIMPLE|POSITIONAL|SITUATIONAL)score(AREA|TERRITORY)"
            "tax(NONE|SEKI|ALL)sui(0|1)button(0|1)whb(0|N-1|N)fpok(0|1)"
        ),
    ] = "chinese"
    board_x_size: Annotated[int, Field(description="2 to 19")] = 19
    board_y_size: Annotated[int, Field(description="2 to 19")] = 19
    moves: Annotated[
        list[tuple[str, str]],
        Field(description='All moves: [["B","Q16"],["W","pass"]]; no column I, row 1 at the bottom'),
    ] = []
    initial_stones: Annotated[
        list[tuple[str, str]],
        Field(description='Setup: [["B","D4"]]'),
    ] = []
    initial_player: Annotated[
        Literal["B", "W"] | None,
        Field(description="Default: as moves, else B (W after only black stones)"),
    ] = None
    komi: Annotated[
        float | None,
        Field(description=f"In 0.5, -{MAX_KOMI} to {MAX_KOMI}. Default: 7.5; territory 6.5, button 7"),
    ] = None


class RecordPosition(Position):
    """A position of a game record, which also knows its place in the game.

    `played` is the number of moves in the record before the first of `moves`. `next_player` is who moves next
    in the record; None is the opponent of the last player.
    """

    played: int = 0
    next_player: Literal["B", "W"] | None = None


_Played = tuple[tuple[Colour, str], ...]


@dataclass(frozen=True)
class Checked:
    """A validated position in canonical form, which the engine accepts.

    `moves` and `stones` hold (colour, vertex) with vertices in upper case or "pass".
    `rules_name` is the name of `rules` in answers; `warnings` lists suspicious input that was accepted.
    `played` and `next_player` are those of a `RecordPosition`.
    """

    rules: Rules
    rules_name: str
    width: int
    height: int
    stones: tuple[tuple[Colour, str], ...]
    moves: tuple[tuple[Colour, str], ...]
    initial_player: Colour
    komi: float
    warnings: tuple[str, ...]
    played: int = 0
    next_player: Colour | None = None

    @property
    def number(self) -> int:
        """The number of moves played so far in the game."""
        return self.played + len(self.moves)

    def query(self) -> dict[str, Any]:
        """The position's part of a query [Analysis_Engine.md, Queries], with all values explicit."""
        stones, moves, player = self._in_turn()
        return {
            "rules": self.rules.parts(),
            "komi": self.komi,
            "boardXSize": self.width,
            "boardYSize": self.height,
            "initialStones": stones,
            "initialPlayer": player,
            "moves": moves,
        }

    def _in_turn(self) -> tuple[_Played, _Played, Colour]:
        """Stones, moves and first player after which the engine has the next player to move.

        For the engine, the opponent of the last player moves next. If the record says otherwise, moves of
        Black alone are handicap stones, and elsewhere the opponent passes: the history stays as it is.
        """
        player = to_move(self)
        if not self.moves or player != self.moves[-1][0]:
            return self.stones, self.moves, self.initial_player
        if all(move[0] == "B" for move in self.moves) and (board := board_of(self)) and not board.prisoners:
            return tuple((colour, vertex(point)) for point, colour in board.stones.items()), (), player
        moves = self.moves
        while moves and moves[-1][1] == vertex(None):
            # One more pass would be the second in a row, which ends the game.
            moves = moves[:-1]
        if moves and moves[-1][0] == player:
            moves = (*moves, (opponent_of(player), vertex(None)))
        return self.stones, moves, self.initial_player if moves else player

    @functools.cached_property
    def digest(self) -> str:
        """A SHA-256 of everything in the position that an answer depends on, in hexadecimal."""
        place = [self.moves, self.played] if self.played or self.next_player else []
        return hashlib.sha256(to_json(self.query()) + (to_json(place) if place else b"")).hexdigest()


def check(position: Position) -> Checked:
    """Validate a position and convert it to canonical form.

    Recent results are remembered: an assistant often sends several requests about one position, and
    replaying a long game takes longer than answering from the cache.

    Raises:
        Invalid: with the field that is wrong, and one of the codes `invalid_rules`, `invalid_board_size`,
            `invalid_komi`, `too_many_moves`, `invalid_stone`, `invalid_move` and `illegal_move`.
    """
    try:
        digest = hashlib.sha256(position.model_dump_json().encode()).digest()
    except PydanticSerializationError:
        # Only text with lone surrogates has no JSON form, and no field accepts it.
        return _check(position)
    checked = _checked.pop(digest, None) or _check(position)
    _checked[digest] = checked
    if len(_checked) > _REMEMBERED:
        _checked.popitem(last=False)
    return checked


def _check(position: Position) -> Checked:
    name, rules = find(position.rules)
    width = _size(position.board_x_size, "position.boardXSize")
    height = _size(position.board_y_size, "position.boardYSize")
    komi = _komi(position.komi, rules.komi)
    if len(position.moves) > MAX_MOVES:
        raise Invalid(
            "too_many_moves",
            f"the game has {len(position.moves)} moves",
            field="position.moves",
            accepted=f"at most {MAX_MOVES} moves",
        )
    board = Board(width, height, rules.suicide, rules.ko)
    stones = _set_up(board, position.initial_stones)
    played = position.played if isinstance(position, RecordPosition) else 0
    board.number = played + 1
    moves, warnings = _play(board, position.moves)
    return Checked(
        rules=rules,
        rules_name=name,
        width=width,
        height=height,
        stones=stones,
        moves=moves,
        initial_player=position.initial_player or _first(stones, moves),
        komi=komi,
        warnings=(*_doubt_komi(komi), *warnings),
        played=played,
        next_player=position.next_player if isinstance(position, RecordPosition) else None,
    )


_REMEMBERED = 64
_checked: OrderedDict[bytes, Checked] = OrderedDict()


def parse_vertex(text: str, width: int, height: int) -> Point | None:
    """Read a GTP vertex: a point, or None for a pass.

    Raises:
        ValueError: if the text is not a vertex, or is off the board.
    """
    name = text.strip().upper()
    if name == "PASS":
        return None
    if len(name) < 2 or not (name[1:].isascii() and name[1:].isdecimal()) or len(name) > 3:
        raise ValueError("it is not a vertex")
    column, row = COLUMNS.find(name[0]), int(name[1:]) - 1
    if column < 0:
        raise ValueError("there is no such column (the letter I is not used)")
    if column >= width or not 0 <= row < height:
        raise ValueError("it is off the board")
    return column, row


def vertex(point: Point | None) -> str:
    """Write a point as a GTP vertex, None as "pass"."""
    return "pass" if point is None else f"{COLUMNS[point[0]]}{point[1] + 1}"


class IllegalMove(ValueError):
    """A move is illegal; the text says why."""


@dataclass
class Board:
    """Stones on a board of `width` x `height` points, with captures, suicide, ko and superko.

    Under superko, every position since the setup counts, including the setup itself.
    """

    width: int
    height: int
    suicide: bool = False
    ko_rule: Ko = "SIMPLE"
    stones: dict[Point, Colour] = field(default_factory=dict)
    ko: tuple[Colour, Point] | None = None
    """The colour that cannot play at the point now, because of ko."""
    captured: dict[Colour, int] = field(default_factory=lambda: {"B": 0, "W": 0})
    """Captured stones of each colour."""
    number: int = 1
    """Number of the next move, used in messages."""
    _code: int = 0
    """The stones as bits, one for each colour on each point; unique for each board."""
    _positions: dict[tuple[int, Colour | None], str] = field(default_factory=dict)
    """When each position occurred first. Situational superko includes the player to move."""

    def play(self, colour: Colour, point: Point | None) -> None:
        """Play a move; None is a pass.

        Raises:
            IllegalMove: if the point is occupied, the move is suicide, retakes a ko, or repeats a position
                under superko. The board does not change.
        """
        if self.ko_rule != "SIMPLE" and not self._positions:
            self._code = sum(self._bit(stone, owner) for stone, owner in self.stones.items())
            self._remember(colour, f"before move {self.number}")
        opponent = opponent_of(colour)
        self.ko, taken = self._judge(colour, point)
        if point is not None:
            self.stones[point] = colour
            self._code ^= self._bit(point, colour)
            for stone in taken:
                owner = self.stones.pop(stone)
                self._code ^= self._bit(stone, owner)
                self.captured[owner] += 1
        if self.ko_rule != "SIMPLE":
            self._remember(opponent, f"after move {self.number} ({colour} {vertex(point)})")
        self.number += 1

    def refusal(self, colour: Colour, point: Point | None) -> str | None:
        """Why a move is illegal; None if it is legal. The board does not change."""
        try:
            self._judge(colour, point)
        except IllegalMove as error:
            return str(error)
        return None

    def _judge(self, colour: Colour, point: Point | None) -> tuple[tuple[Colour, Point] | None, set[Point]]:
        """The ko that a legal move creates, and the stones that it captures."""
        if point is None:
            return None, set()
        if point in self.stones:
            raise IllegalMove("the point is occupied")
        if self.ko == (colour, point):
            raise IllegalMove("it retakes the ko at once")
        opponent = opponent_of(colour)
        self.stones[point] = colour
        try:
            own, liberties = self.group(point)
            taken: set[Point] = set()
            for neighbour in self.neighbours(point):
                if self.stones.get(neighbour) == opponent and neighbour not in taken:
                    group, outside = self.group(neighbour)
                    if not outside:
                        taken |= group
        finally:
            del self.stones[point]
        ko = (opponent, next(iter(taken))) if len(taken) == len(own) == 1 and not liberties else None
        if not taken and not liberties:
            if not self.suicide or len(own) == 1:
                raise IllegalMove("it is suicide")
            taken = own
        if self._positions:
            code = self._code ^ self._bit(point, colour)
            for stone in taken:
                code ^= self._bit(stone, self.stones.get(stone, colour))
            if (earlier := self._positions.get(self._situation(code, opponent))) is not None:
                raise IllegalMove(f"it repeats the position {earlier}")
        return ko, taken

    def _bit(self, point: Point, colour: Colour) -> int:
        return 1 << 2 * (self.width * point[1] + point[0]) + (colour == "W")

    def _situation(self, code: int, player: Colour) -> tuple[int, Colour | None]:
        return code, player if self.ko_rule == "SITUATIONAL" else None

    def _remember(self, player: Colour, when: str) -> None:
        self._positions.setdefault(self._situation(self._code, player), when)

    @property
    def prisoners(self) -> int:
        """The number of captured stones of both colours."""
        return sum(self.captured.values())

    def group(self, point: Point) -> tuple[set[Point], set[Point]]:
        """The group of the stone at `point`, and its liberties."""
        colour = self.stones[point]
        group, liberties, frontier = {point}, set(), [point]
        while frontier:
            for neighbour in self.neighbours(frontier.pop()):
                if neighbour not in self.stones:
                    liberties.add(neighbour)
                elif self.stones[neighbour] == colour and neighbour not in group:
                    group.add(neighbour)
                    frontier.append(neighbour)
        return group, liberties

    def without_liberties(self) -> Point | None:
        """The first stone, in the order of placement, whose group has no liberty; None if all have one."""
        living: set[Point] = set()
        for point in self.stones:
            if point not in living:
                group, liberties = self.group(point)
                if not liberties:
                    return point
                living |= group
        return None

    def neighbours(self, point: Point) -> tuple[Point, ...]:
        """The adjacent points."""
        return _neighbours(self.width, self.height)[point]


@functools.cache
def _neighbours(width: int, height: int) -> dict[Point, tuple[Point, ...]]:
    return {
        (x, y): tuple(
            (nx, ny)
            for nx, ny in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1))
            if 0 <= nx < width and 0 <= ny < height
        )
        for x in range(width)
        for y in range(height)
    }


def board_of(checked: Checked) -> Board:
    """The board of a checked position after all moves."""
    board = Board(checked.width, checked.height, checked.rules.suicide, checked.rules.ko)
    for colour, text in checked.stones:
        point = parse_vertex(text, checked.width, checked.height)
        if point is not None:
            board.stones[point] = colour
    for colour, text in checked.moves:
        board.play(colour, parse_vertex(text, checked.width, checked.height))
    return board


def to_move(checked: Checked) -> Colour:
    """The player to move after all moves of a checked position."""
    if checked.next_player is not None:
        return checked.next_player
    return opponent_of(checked.moves[-1][0]) if checked.moves else checked.initial_player


def opponent_of(colour: Colour) -> Colour:
    """The other colour."""
    return "W" if colour == "B" else "B"


def points_top_down(width: int, height: int) -> list[Point]:
    """All points in the order of KataGo's ownership and policy: row by row from the top left."""
    return [(x, y) for y in range(height - 1, -1, -1) for x in range(width)]


def policy_index(point: Point | None, width: int, height: int) -> int:
    """The index of a move in KataGo's policy: row by row from the top left, pass last."""
    return width * height if point is None else (height - 1 - point[1]) * width + point[0]


def read_move(text: str, width: int, height: int, name: str) -> Point | None:
    """Read the vertex of an argument called `name`; None is a pass.

    Raises:
        Invalid: with the code `invalid_move`.
    """
    return _point(Board(width, height), text, "invalid_move", name)


def read_region(entries: list[str], width: int, height: int, name: str) -> list[str]:
    """Read vertices, "pass" and rectangles ("C3:G7", any two opposite corners) of an argument.

    Returns each vertex once, in the order of the argument. Raises:
        Invalid: with the code `limit_exceeded`; with `invalid_move` or `invalid_region`, naming the entry.
    """
    if len(entries) > MAX_REGION:
        raise Invalid(
            "limit_exceeded",
            f"{name} has {len(entries)} entries",
            field=name,
            accepted=f"at most {MAX_REGION} entries; one rectangle counts as one entry",
        )
    moves: dict[Point | None, None] = {}
    for index, entry in enumerate(entries):
        corners = [
            read_move(corner, width, height, f"{name}[{index}]") for corner in entry.split(":", maxsplit=1)
        ]
        first, last = corners[0], corners[-1]
        if len(corners) == 1:
            moves[first] = None
        elif first is None or last is None:
            raise Invalid(
                "invalid_region",
                "a pass cannot be a corner of a rectangle",
                field=f"{name}[{index}]",
                accepted='a rectangle such as "C3:G7"',
            )
        else:
            columns = range(min(first[0], last[0]), max(first[0], last[0]) + 1)
            rows = range(min(first[1], last[1]), max(first[1], last[1]) + 1)
            moves.update(dict.fromkeys((x, y) for y in rows for x in columns))
    return [vertex(point) for point in moves]


def _size(value: int, name: str) -> int:
    if not MIN_SIZE <= value <= MAX_SIZE:
        raise Invalid(
            "invalid_board_size",
            f"the board cannot have {value} lines",
            field=name,
            accepted=f"an integer from {MIN_SIZE} to {MAX_SIZE}",
        )
    return value


def _komi(value: float | None, default: float) -> float:
    if value is None:
        return default
    # The comparison is also false for NaN.
    if not (abs(value) <= MAX_KOMI and (value * 2).is_integer()):
        raise Invalid(
            "invalid_komi",
            f"komi cannot be {value:g}",
            field="position.komi",
            accepted=f"a multiple of 0.5 from -{MAX_KOMI} to {MAX_KOMI}",
        )
    return value


def _doubt_komi(komi: float) -> tuple[str, ...]:
    return (unusual_komi(komi),) if abs(komi) > PLAUSIBLE_KOMI else ()


def unusual_komi(komi: float) -> str:
    """The warning about a komi that is used although it is unusual."""
    return f"komi {komi:g} is unusual: check it, because it decides who is ahead"


def _colour(text: str, code: str, name: str) -> Colour:
    colour = _COLOURS.get(text.strip().lower())
    if colour is None:
        raise Invalid(code, "the colour is not valid", field=name, accepted="B or W")
    return colour


def _point(board: Board, text: str, code: str, name: str) -> Point | None:
    try:
        return parse_vertex(text, board.width, board.height)
    except ValueError as error:
        last = vertex((board.width - 1, board.height - 1))
        raise Invalid(
            code,
            f"{text[:12]!r}: {error}",
            field=name,
            accepted=f"a vertex from A1 to {last} without the letter I"
            + (', or "pass"' if code == "invalid_move" else ""),
        ) from error


def _set_up(board: Board, initial: list[tuple[str, str]]) -> tuple[tuple[Colour, str], ...]:
    stones: list[tuple[Colour, str]] = []
    for index, (colour_text, text) in enumerate(initial):
        name = f"position.initialStones[{index}]"
        colour = _colour(colour_text, "invalid_stone", name)
        point = _point(board, text, "invalid_stone", name)
        if point is None:
            raise Invalid(
                "invalid_stone", "a stone needs a point, not a pass", field=name, accepted="a vertex"
            )
        if point in board.stones:
            raise Invalid(
                "invalid_stone",
                f"{vertex(point)} is set up twice",
                field=name,
                accepted="each point only once",
            )
        board.stones[point] = colour
        stones.append((colour, vertex(point)))
    if (dead := board.without_liberties()) is not None:
        raise Invalid(
            "invalid_stone",
            f"the stone at {vertex(dead)} has no liberty",
            field=f"position.initialStones[{list(board.stones).index(dead)}]",
            accepted="groups with at least one liberty",
        )
    return tuple(stones)


def _play(
    board: Board, played: list[tuple[str, str]]
) -> tuple[tuple[tuple[Colour, str], ...], tuple[str, ...]]:
    moves: list[tuple[Colour, str]] = []
    warnings: list[str] = []
    passes = 0
    first = board.number
    for index, (colour_text, text) in enumerate(played):
        number = first + index
        name = f"position.moves[{index}]"
        colour = _colour(colour_text, "invalid_move", name)
        point = _point(board, text, "invalid_move", name)
        if passes >= 2:
            warnings.append(f"move {number} comes after two passes, which end the game")
        if moves and moves[-1][0] == colour:
            warnings.append(f"move {number}: {colour} plays twice in a row")
        try:
            board.play(colour, point)
        except IllegalMove as error:
            raise Invalid(
                "illegal_move",
                f"move {number} ({colour} {vertex(point)}): {error}",
                field=name,
                accepted="a legal move (moves count from 1)",
            ) from error
        passes = passes + 1 if point is None else 0
        moves.append((colour, vertex(point)))
    return tuple(moves), shorten(warnings)


def shorten(warnings: Sequence[str], limit: int = 5) -> tuple[str, ...]:
    """The first few warnings, and the number of the rest."""
    if len(warnings) <= limit:
        return tuple(warnings)
    return (*warnings[:limit], f"and {len(warnings) - limit} more of this kind")


def _first(stones: tuple[tuple[Colour, str], ...], moves: tuple[tuple[Colour, str], ...]) -> Colour:
    if moves:
        return moves[0][0]
    return "W" if stones and all(colour == "B" for colour, _ in stones) else "B"
