"""Lines of a game record: their moves, and the positions on them.

The moves of a line are those that KataGo accepts. Handicap stones that a record counts but does not place
are assumed on the customary points, unless its moves contradict that.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from katago_mcp.errors import Invalid
from katago_mcp.positions import (
    Board,
    Colour,
    IllegalMove,
    Position,
    RecordPosition,
    opponent_of,
    parse_vertex,
    vertex,
)
from katago_mcp.rules import Rules, find
from katago_mcp.sgftree import Node, Tree, Unreadable, Warnings

_COLOURS: tuple[Colour, Colour] = ("B", "W")
_PLAYERS: dict[str, Colour] = {"b": "B", "black": "B", "w": "W", "white": "W"}
_SETUP = ("AB", "AW", "AE")

_STARS = {19: (3, 9, 15), 13: (3, 6, 9), 9: (2, 4, 6)}
_LOW, _MIDDLE, _HIGH = range(3)
_CORNERS = ((_LOW, _LOW), (_HIGH, _HIGH), (_LOW, _HIGH), (_HIGH, _LOW))
_CENTRE = (_MIDDLE, _MIDDLE)
_LEFT_AND_RIGHT = ((_LOW, _MIDDLE), (_HIGH, _MIDDLE))
_BOTTOM_AND_TOP = ((_MIDDLE, _LOW), (_MIDDLE, _HIGH))
_HANDICAP: dict[int, tuple[tuple[tuple[int, int], ...], ...]] = {
    2: (_CORNERS[:2], _CORNERS[2:]),
    3: tuple(tuple(corner for corner in _CORNERS if corner != free) for free in reversed(_CORNERS)),
    4: (_CORNERS,),
    5: ((*_CORNERS, _CENTRE),),
    6: ((*_CORNERS, *_LEFT_AND_RIGHT), (*_CORNERS, *_BOTTOM_AND_TOP)),
    7: ((*_CORNERS, *_LEFT_AND_RIGHT, _CENTRE), (*_CORNERS, *_BOTTOM_AND_TOP, _CENTRE)),
    8: ((*_CORNERS, *_LEFT_AND_RIGHT, *_BOTTOM_AND_TOP),),
    9: ((*_CORNERS, *_LEFT_AND_RIGHT, *_BOTTOM_AND_TOP, _CENTRE),),
}
"""Placements of handicap stones as indices into `_STARS`, the customary one first; servers differ.

[GTP version 2, fixed_handicap]
"""


class Game(Protocol):
    """What a line needs from its record."""

    @property
    def tree(self) -> Tree:
        """The game tree."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of the tree."""

    @property
    def width(self) -> int:
        """Columns of the board."""

    @property
    def height(self) -> int:
        """Rows of the board."""

    @property
    def rules(self) -> str | Rules:
        """The rules."""

    @property
    def komi(self) -> float | None:
        """Komi in points."""

    @property
    def handicap(self) -> int:
        """The number of handicap stones that the record states."""


@dataclass(frozen=True)
class Move:
    """Move `number` (from 1) of a line: colour, GTP vertex or "pass", and its node."""

    number: int
    colour: Colour
    vertex: str
    node: int


@dataclass(frozen=True)
class _Start:
    """A board without history: the stones, and the player to move if no move determines it."""

    after_move: int
    stones: tuple[tuple[Colour, str], ...]
    player: Colour | None


@dataclass(frozen=True)
class Line:
    """A line of the game, up to the first move that cannot be played.

    `nodes` are the indices of its nodes from the root. `moves` are the moves that KataGo accepts: the line
    ends before a move that is off the board or illegal, and before a setup in mid-game that leaves stones
    without liberties. `warnings` reports this.
    """

    record: Game
    name: str
    nodes: tuple[int, ...]
    moves: tuple[Move, ...]
    warnings: tuple[str, ...]
    starts: tuple[_Start, ...]
    cut: str | None = None
    """Where and why the line ends before its last move; None if it is complete."""
    cut_player: Colour | None = None
    """The player of the move that cannot be played, if the line ends before one."""
    assumed: bool = False
    """Whether the record does not contain the positions of handicap stones on the board."""
    lost: tuple[tuple[int, str], ...] = ()
    """Setup stones that could not be read: the offset of the node, and the reason."""

    def position(self, move_number: int | None = None) -> Position:
        """The position after `move_number` moves, 0 to `len(moves)`; None is the end of the line.

        This is the board on which the next move of the line was played, with the player of that move to
        move. So a setup between two moves (AB, AW, AE, or a PL that changes the turn) belongs to the position
        after the first of them. It starts a new history: the stones become `initial_stones`, `moves` holds
        the later moves, and an earlier ko no longer matters.

        Raises:
            Invalid: `invalid_move_number` if the line has fewer moves.
        """
        number = len(self.moves) if move_number is None else move_number
        if not 0 <= number <= len(self.moves):
            raise Invalid(
                "invalid_move_number",
                f"the line {self.name[:40]!r} has no move {number}"
                + (f": {self.cut}" if self.cut else "")
                + (": the record could not be read completely" if self.record.tree.damage else ""),
                field="moveNumber",
                accepted=f"0 (before the first move) to {len(self.moves)}",
            )
        start = next(start for start in reversed(self.starts) if start.after_move <= number)
        return self._after(start, number, self._player_after(number))

    def is_partial(self, move_number: int | None = None) -> bool:
        """Whether something up to a move number could not be read; None is the end of the line."""
        damage = [*self.record.tree.damage, *(offset for offset, _ in self.lost)]
        if move_number is None:
            return self.cut is not None or bool(damage)
        if move_number >= len(self.moves):
            return bool(damage)
        following = self.record.nodes[self.moves[move_number].node].offset
        return any(offset < following for offset in damage)

    def histories(self) -> tuple[Position, ...]:
        """The position at the end of each history: one, plus one for every setup between two moves.

        Together they contain all moves of the line. A setup after the last move is in none of them.
        """
        starts = [
            start for start in self.starts if not start.after_move or start.after_move < len(self.moves)
        ]
        ends = [start.after_move for start in starts[1:]] + [len(self.moves)]
        return tuple(
            self._after(start, end, next_player=None) for start, end in zip(starts, ends, strict=True)
        )

    def _after(self, start: _Start, number: int, next_player: Colour | None) -> Position:
        """The position after `number` moves of the line. Its history starts at the setup `start`."""
        first = self._player_after(start.after_move)
        moves = self.moves[start.after_move : number]
        return RecordPosition(
            rules=self.record.rules,
            board_x_size=self.record.width,
            board_y_size=self.record.height,
            initial_stones=list(start.stones),
            moves=[(move.colour, move.vertex) for move in moves],
            initial_player=first or start.player or self._default_player(start),
            komi=self.record.komi,
            played=start.after_move,
            next_player=next_player if moves and next_player == moves[-1].colour else None,
        )

    def _player_after(self, number: int) -> Colour | None:
        """The player of the move after `number` moves; None if there is none."""
        return self.moves[number].colour if number < len(self.moves) else self.cut_player

    def _default_player(self, start: _Start) -> Colour:
        if start.after_move:
            return opponent_of(self.moves[start.after_move - 1].colour)
        return "W" if start.stones and all(colour == "B" for colour, _ in start.stones) else "B"


def vertex_of(raw: str, width: int, height: int) -> str | None:
    """A move's value as a GTP vertex or "pass"; None if it is not valid.

    SGF counts rows from the top. `tt` is a pass on boards up to 19x19 [FF[3]]; larger boards are not read.
    """
    text = raw.strip()
    if text in ("", "tt") or text.lower() == "pass":
        return "pass"
    if len(text) != 2:
        return None
    column, row = ord(text[0]) - ord("a"), ord(text[1]) - ord("a")
    on_board = 0 <= column < width and 0 <= row < height
    return vertex((column, height - 1 - row)) if on_board else None


def moves_of(node: Node) -> Iterator[tuple[Colour, str]]:
    for identifier, values in node.properties.items():
        for colour in _COLOURS:
            if identifier == colour:
                yield from ((colour, value) for value in values)


def play(record: Game, name: str, nodes: tuple[int, ...]) -> Line:
    """Play the nodes of a line.

    Handicap stones that the record counts but does not place are assumed on the points with which most of
    its moves can be played.

    Raises:
        Unreadable: `invalid_stone`, if setup stones before the first move have no liberties.
    """
    line = _Play(record, nodes, 0).line(name)
    if line.cut is None or not line.assumed:
        return line
    placements = range(1, len(_HANDICAP[record.handicap]) + 1)
    others = [_Play(record, nodes, placement).line(name) for placement in placements]
    return max((line, *others), key=lambda candidate: len(candidate.moves))


class _Play:
    """Plays a line. Setups are bit sets, `width * row + column`, until a move follows.

    `placement` is the index of the customary placement of handicap stones; after the last, none is assumed.
    """

    def __init__(self, record: Game, nodes: tuple[int, ...], placement: int) -> None:
        self.record = record
        self.nodes = nodes
        self.placement = placement
        self.assumed = False
        self.moves: list[Move] = []
        self.starts: list[_Start] = []
        self.lost: list[tuple[int, str]] = []
        self.warnings = Warnings()
        self._rules = find(record.rules)[1]
        self._board = Board(record.width, record.height)
        self._setup: dict[Colour, int] | None = {"B": 0, "W": 0}
        self._setup_node = record.nodes[0]
        self._player: Colour | None = None
        self._cut: str | None = None
        self._cut_player: Colour | None = None

    def line(self, name: str) -> Line:
        """The line with its moves."""
        whole = all(self._take(self.record.nodes[index]) for index in self.nodes)
        if whole:
            self._settle(None)
        self._check_played_handicap()
        return Line(
            record=self.record,
            name=name,
            nodes=self.nodes,
            moves=tuple(self.moves),
            warnings=self.warnings.texts(),
            starts=tuple(self.starts),
            cut=self._cut,
            cut_player=self._cut_player,
            assumed=self.assumed,
            lost=tuple(self.lost),
        )

    def _take(self, node: Node) -> bool:
        """Apply a node's setup, then its moves. Returns whether the line continues."""
        if any(identifier in node.properties for identifier in _SETUP):
            self._set_up(node)
        if "PL" in node.properties:
            self._pass_turn(node)
        moves = list(moves_of(node))
        if len(moves) > 1:
            line, column = self.record.tree.place(node)
            self.warnings.add(
                "several moves",
                f"line {line} column {column}: {len(moves)} moves in one node are played in order",
            )
        return all(self._move(node, colour, raw) for colour, raw in moves)

    def _move(self, node: Node, colour: Colour, raw: str) -> bool:
        if self._setup is not None and not self._settle(colour):
            return False
        number = len(self.moves) + 1
        name = vertex_of(raw, self.record.width, self.record.height)
        size = f"{self.record.width}x{self.record.height}"
        reason = f"{raw[:8]!r} is not a point of the {size} board (SGF writes Q16 as pd)"
        if name is not None:
            try:
                self._board.play(colour, parse_vertex(name, self.record.width, self.record.height))
            except IllegalMove as error:
                name, reason = None, f"{colour} {name}: {error}"
        if name is None:
            self._end(node, reason)
            self._cut_player = colour
            return False
        self.moves.append(Move(number, colour, name, node.index))
        return True

    def _end(self, node: Node, reason: str) -> None:
        line, column = self.record.tree.place(node)
        self._cut = (
            f"the game was read only up to move {len(self.moves)}: line {line} column {column}: {reason}"
        )
        self.warnings.add("the end", self._cut)

    def _pass_turn(self, node: Node) -> None:
        text = (node.line_of_text("PL") or "").lower()
        player = _PLAYERS.get(text)
        if player is None:
            self.warnings.add("PL", f"PL[{text[:12]}] is not a colour: ignored")
            return
        turn_passes = bool(self.moves) and player == self.moves[-1].colour
        if self._setup is not None or turn_passes:
            self._setup = self._current_setup()
            self._player = player

    def _current_setup(self) -> dict[Colour, int]:
        if self._setup is not None:
            return self._setup
        setup: dict[Colour, int] = {"B": 0, "W": 0}
        for (column, row), colour in self._board.stones.items():
            setup[colour] |= 1 << (self.record.width * row + column)
        return setup

    def _set_up(self, node: Node) -> None:
        setup = self._current_setup()
        for identifier in _SETUP:
            for raw in node.properties.get(identifier, ()):
                area = self._area(node, identifier, raw)
                setup = {colour: stones & ~area for colour, stones in setup.items()}
                if identifier != "AE":
                    setup["B" if identifier == "AB" else "W"] |= area
        self._setup = setup
        self._setup_node = node

    def _area(self, node: Node, identifier: str, raw: str) -> int:
        """A point or a rectangle of points as bits (SGF FF[4], compressed point lists)."""
        width, height = self.record.width, self.record.height
        corners = [part.strip() for part in raw.split(":")]
        if len(corners) > 2 or not all(re.fullmatch(r"[a-zA-Z]{2}", corner) for corner in corners):
            self._lose_stones(node, identifier, raw, "is not a point: ignored (SGF writes Q16 as pd)")
            return 0
        columns = sorted(ord(corner[0]) - ord("a") for corner in corners)
        rows = sorted(height - 1 - (ord(corner[1]) - ord("a")) for corner in corners)
        left, right = max(0, columns[0]), min(width - 1, columns[-1])
        low, high = max(0, rows[0]), min(height - 1, rows[-1])
        if (left, right, low, high) != (columns[0], columns[-1], rows[0], rows[-1]):
            self._lose_stones(node, identifier, raw, "has points off the board, which are ignored")
        if left > right or low > high:
            return 0
        row = ((1 << (right - left + 1)) - 1) << left
        every_row = ((1 << (width * (high - low + 1))) - 1) // ((1 << width) - 1)
        return row * every_row << (width * low)

    def _lose_stones(self, node: Node, identifier: str, raw: str, reason: str) -> None:
        """Warn of a setup value that cannot be read. No stone is lost by an empty value, `tt`, or AE."""
        text = f"{identifier}[{raw[:12]}] {reason}"
        self.warnings.add("setup", text)
        if identifier != "AE" and raw.strip() not in ("", "tt"):
            self.lost.append((node.offset, text))

    def _settle(self, following: Colour | None) -> bool:
        """Start a history with the setup stones; `following` is the colour of the next move, if any.

        Returns whether the setup is valid. Raises if it is not and the line has no earlier position.
        """
        if self._setup is None:
            return True
        setup, self._setup = self._setup, None
        if not self.moves and self.record.handicap >= 2:
            self._set_handicap(setup, following)
        width, height = self.record.width, self.record.height
        rules = self._rules
        board = Board(width, height, rules.suicide, rules.ko, number=len(self.moves) + 1)
        for row in reversed(range(height)):
            for column in range(width):
                for colour in _COLOURS:
                    if setup[colour] >> (width * row + column) & 1:
                        board.stones[column, row] = colour
        if (dead := board.without_liberties()) is not None:
            self._refuse_setup(f"the stone at {vertex(dead)} has no liberty")
            return False
        self._board = board
        stones = tuple((colour, vertex(point)) for point, colour in self._board.stones.items())
        self.starts.append(_Start(len(self.moves), stones, self._player))
        self._player = None
        return True

    def _refuse_setup(self, reason: str) -> None:
        """End the line before an invalid setup. Raises if there is no position before it."""
        if self.starts:
            self._end(self._setup_node, reason)
            return
        line, column = self.record.tree.place(self._setup_node)
        raise Unreadable(
            "invalid_stone", reason, accepted="groups with at least one liberty", line=line, column=column
        )

    def _set_handicap(self, setup: dict[Colour, int], following: Colour | None) -> None:
        """Place HA's stones on customary points if the record neither sets them up nor plays them."""
        count = self.record.handicap
        placed = setup["B"].bit_count()
        if placed:
            if placed != count:
                self.warnings.add("handicap", f"HA[{count}] does not match the {placed} black setup stones")
            return
        if following == "B":
            return
        lines = _STARS.get(self.record.width)
        if lines is None or self.record.width != self.record.height or count > 9 or setup["W"]:
            self.warnings.add(
                "handicap",
                f"the record does not contain the positions of the {count} handicap stones: they are missing",
            )
            return
        self.assumed = True
        placements = _HANDICAP[count]
        if self.placement == len(placements):
            self.warnings.add(
                "handicap",
                f"HA[{count}] without stones: none are assumed, since the moves contradict the usual points",
            )
            return
        for column, row in placements[self.placement]:
            setup["B"] |= 1 << (self.record.width * lines[row] + lines[column])
        other = "" if self.placement == 0 else " that the moves do not contradict"
        self.warnings.add("handicap", f"HA[{count}] without stones: star points{other} are assumed")

    def _check_played_handicap(self) -> None:
        """Warn if the record plays its handicap stones as moves, but another number of them."""
        count = self.record.handicap
        if count < 2 or not self.starts or self.starts[0].stones or not self.moves or self.assumed:
            return
        played = next((at for at, move in enumerate(self.moves) if move.colour == "W"), len(self.moves))
        if 0 < played < count:
            self.warnings.add(
                "handicap", f"HA[{count}] does not match the {played} moves of Black before White's first"
            )
