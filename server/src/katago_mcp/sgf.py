"""Game records: the game information, lines and positions of an SGF file.

A line is the path from the root to a leaf. Its name is a list of branches: "main" takes the first branch
at every fork; "2" takes the second branch at the first fork and the first after it; "1.2.1" takes the
second branch at the second fork. "#57" is the line through node 57. Source: SGF FF[4], Go-specific
properties.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from katago_mcp.charsets import decode
from katago_mcp.errors import Invalid
from katago_mcp.positions import (
    MAX_KOMI,
    MAX_SIZE,
    MIN_SIZE,
    Board,
    Colour,
    IllegalMove,
    Position,
    parse_vertex,
    vertex,
)
from katago_mcp.rules import RULES, Rules, find, read_notation
from katago_mcp.sgftree import Limits, Node, Tree, Unreadable, parse

__all__ = ["Limits", "Line", "Move", "Player", "Record", "Unreadable", "Variation", "read"]

MAIN = "main"
DEFAULT_RULES = "chinese"
HANDICAP_KOMI = 0.5

_COLOURS: tuple[Colour, Colour] = ("B", "W")
_PLAYERS: dict[str, Colour] = {"b": "B", "black": "B", "w": "W", "white": "W"}
_SETUP = ("AB", "AW", "AE")
_KIND_LIMIT = 3

_RULES_WRITTEN = {
    "aga": ("americangoassociation", "french", "ffg"),
    "bga": ("britishgoassociation",),
    "chinese": ("cn", "zh", "china", "中国", "中國", "数子", "數子"),
    "japanese": ("jp", "jap", "japan", "日本", "日本棋院"),
    "korean": ("kr", "korea", "韩国", "韓国", "韓國", "한국"),
    "new-zealand": ("nz",),
    "stone-scoring": ("ancient", "古代", "古棋"),
    "tromp-taylor": ("tromp", "tt", "logical"),
}
_RULES_NAMED = {
    written: name for name in RULES for written in (name.replace("-", ""), *_RULES_WRITTEN.get(name, ()))
}
"""KataGo's name for a value of RU in lower case, without punctuation and the word "rules"."""

_WORD_RULES = re.compile(r"(rules?|rule ?set|规则|規則|ルール|룰)$")
_KOMI = re.compile(r"([+-]?\d{1,9}(?:[.,]\d{1,9})?(?!\d*/))?\s*(?:又?\s*(\d)/([1-9]))?\s*(\D*)")
_FRACTIONS = {"½": " 1/2", "¼": " 1/4", "¾": " 3/4"}
_NAME = re.compile(r"\d{1,6}(?:\.\d{1,6})*")

_STARS = {19: (3, 9, 15), 13: (3, 6, 9), 9: (2, 4, 6)}
_HANDICAP = ((0, 0), (2, 2), (0, 2), (2, 0), (0, 1), (2, 1), (1, 0), (1, 2))
"""Indices into `_STARS` for handicap stones, in order. Odd numbers from 5 on add the centre.

[GTP version 2, fixed_handicap]
"""


@dataclass(frozen=True)
class Player:
    """A player's name and rank as written (SGF FF[4], properties PB, PW, BR, WR)."""

    name: str | None
    rank: str | None


@dataclass(frozen=True)
class Move:
    """Move `number` (from 1) of a line: colour, GTP vertex or "pass", and its node."""

    number: int
    colour: Colour
    vertex: str
    node: int


@dataclass(frozen=True)
class Variation:
    """A line that branches off another one.

    `name` is the argument for `Record.line`, `node` the first node of the branch, `after_move` the number of
    moves before that node, `first_move` such as "W Q4" (None if the node has no move), `moves` the number of
    moves in the branch, `comment` the comment of that node.
    """

    name: str
    node: int
    after_move: int
    first_move: str | None
    moves: int
    comment: str | None


@dataclass(frozen=True)
class _Start:
    """A board without history: the stones, and the player to move if no move determines it."""

    after_move: int
    stones: tuple[tuple[Colour, str], ...]
    player: Colour | None


class _Warnings:
    """Warnings by kind. Of each kind, only the first few are listed, with the number of the rest."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[str]] = {}

    def add(self, kind: str, text: str) -> None:
        self._kinds.setdefault(kind, []).append(text)

    def texts(self) -> tuple[str, ...]:
        listed: list[str] = []
        for kind, texts in self._kinds.items():
            listed += texts[:_KIND_LIMIT]
            if len(texts) > _KIND_LIMIT:
                listed.append(f"and {len(texts) - _KIND_LIMIT} more of this kind: {kind}")
        return tuple(listed)


@dataclass(frozen=True)
class Line:
    """A line of the game, up to the first move that cannot be played.

    `nodes` are the indices of its nodes from the root. `moves` are the moves that KataGo accepts: the line
    ends before a move that is off the board or illegal, and before a setup in mid-game that leaves stones
    without liberties. `warnings` reports this.
    """

    record: "Record"
    name: str
    nodes: tuple[int, ...]
    moves: tuple[Move, ...]
    warnings: tuple[str, ...]
    starts: tuple[_Start, ...]
    cut: str | None = None
    """Where and why the line ends before its last move; None if it is complete."""

    def position(self, move_number: int | None = None) -> Position:
        """The position after `move_number` moves, 0 to `len(moves)`; None is the end of the line.

        This is the board on which the next move of the line was played. So a setup between two moves (AB,
        AW, AE, or a PL that changes the turn) belongs to the position after the first of them. It starts a
        new history: the stones become `initial_stones`, `moves` holds the later moves, and an earlier ko
        no longer matters.

        Raises:
            Invalid: `invalid_move_number` if the line has fewer moves.
        """
        number = len(self.moves) if move_number is None else move_number
        if not 0 <= number <= len(self.moves):
            raise Invalid(
                "invalid_move_number",
                f"the line {self.name[:40]!r} has no move {number}" + (f": {self.cut}" if self.cut else ""),
                field="moveNumber",
                accepted=f"0 (before the first move) to {len(self.moves)}",
            )
        return self._after(
            next(start for start in reversed(self.starts) if start.after_move <= number), number
        )

    def histories(self) -> tuple[Position, ...]:
        """The position at the end of each history: one, plus one for every setup between two moves.

        Together they contain all moves of the line. A setup after the last move is in none of them.
        """
        starts = [
            start for start in self.starts if not start.after_move or start.after_move < len(self.moves)
        ]
        ends = [start.after_move for start in starts[1:]] + [len(self.moves)]
        return tuple(self._after(start, end) for start, end in zip(starts, ends, strict=True))

    def _after(self, start: _Start, number: int) -> Position:
        """The position after `number` moves of the line. Its history starts at the setup `start`."""
        if start.after_move < len(self.moves):
            player = self.moves[start.after_move].colour
        else:
            player = start.player or self._default_player(start)
        return Position(
            rules=self.record.rules,
            board_x_size=self.record.width,
            board_y_size=self.record.height,
            initial_stones=list(start.stones),
            moves=[(move.colour, move.vertex) for move in self.moves[start.after_move : number]],
            initial_player=player,
            komi=self.record.komi,
        )

    def _default_player(self, start: _Start) -> Colour:
        if start.after_move:
            return _opponent(self.moves[start.after_move - 1].colour)
        return "W" if start.stones and all(colour == "B" for colour, _ in start.stones) else "B"


@dataclass(frozen=True)
class Record:
    """A game record.

    `rules` is KataGo's name for `rules_text` (RU), or the parts of rules without a name. `komi` is in points
    of area for White, a multiple of 0.5, or None if the record has none. `handicap` is HA, 0 without HA.
    `result` (RE), `date` (DT), `event` (EV) and `application` (AP) are as written. `warnings` lists
    assumptions.
    """

    tree: Tree
    charset: str
    width: int
    height: int
    rules: str | Rules
    rules_text: str | None
    komi: float | None
    handicap: int
    black: Player
    white: Player
    result: str | None
    date: str | None
    event: str | None
    application: str | None
    warnings: tuple[str, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of the tree in file order; node 0 is the root."""
        return self.tree.nodes

    @cached_property
    def main(self) -> Line:
        """The main line."""
        return self.line()

    def line(self, variation: str = MAIN) -> Line:
        """The line with a name: "main", a list of branches such as "1.2.1", or a node such as "#57".

        Each number is the branch, from 1, at the next fork. After the last number, and after a node, the
        first branch is taken.

        Raises:
            Invalid: `invalid_variation`, with the existing forks and branches.
            Unreadable: `invalid_stone`, if setup stones before the first move have no liberties.
        """
        nodes = tuple(self._walk(variation.strip() or MAIN))
        return _Play(self, nodes).line(variation.strip() or MAIN)

    def position(self, move_number: int | None = None, variation: str = MAIN) -> Position:
        """The position after a number of moves on a line; see `Line.position` and `Record.line`."""
        return (self.main if variation == MAIN else self.line(variation)).position(move_number)

    def variations(self, limit: int = 100) -> tuple[Variation, ...]:
        """The lines other than the main line, in file order, at most `limit`."""
        variations: list[Variation] = []
        for node in self.nodes:
            if len(variations) >= limit:
                break
            if node.parent is None or self.nodes[node.parent].children[0] == node.index:
                continue
            end = node
            while end.children:
                end = self.nodes[end.children[0]]
            before = self.nodes[node.parent].moves
            move = next(_moves_of(node), None)
            point = move and _vertex(move[1], self.width, self.height)
            variations.append(
                Variation(
                    name=self._name(node),
                    node=node.index,
                    after_move=before,
                    first_move=move and f"{move[0]} {point or 'off the board'}",
                    moves=end.moves - before,
                    comment=node.text("C"),
                )
            )
        return tuple(variations)

    def _name(self, node: Node) -> str:
        choices: list[str] = []
        while node.parent is not None:
            parent = self.nodes[node.parent]
            if len(parent.children) > 1:
                choices.append(str(parent.children.index(node.index) + 1))
            node = parent
        return ".".join(reversed(choices))

    def _walk(self, variation: str) -> Iterator[int]:
        if variation.startswith("#"):
            path = self._path_to(variation)
            yield from path
            node = self.nodes[path[-1]]
            choices: list[int] = []
        else:
            if variation != MAIN and not _NAME.fullmatch(variation):
                raise _no_variation(
                    f"{variation[:40]!r} is not the name of a line",
                    '"main", branches such as "1.2.1", or "#57"',
                )
            choices = [] if variation == MAIN else [int(part) for part in reversed(variation.split("."))]
            node = self.nodes[0]
            yield 0
        forks = 0
        while node.children:
            branch = 1
            if len(node.children) > 1:
                forks += 1
                branch = choices.pop() if choices else 1
            if not 1 <= branch <= len(node.children):
                raise _no_variation(
                    f"fork {forks} of {variation[:40]!r} (after move {node.moves}) has no branch {branch}",
                    f"branch 1 to {len(node.children)} at this fork",
                )
            node = self.nodes[node.children[branch - 1]]
            yield node.index
        if choices:
            raise _no_variation(
                f"{variation[:40]!r} has more numbers than this line has forks", f"at most {forks} numbers"
            )

    def _path_to(self, variation: str) -> list[int]:
        number = variation[1:]
        last = len(self.nodes) - 1
        if not (number.isascii() and number.isdecimal() and len(number) < 9 and int(number) <= last):
            raise _no_variation(f"the record has no node {variation[:40]!r}", f"#0 to #{last}")
        path: list[int] = []
        index: int | None = int(number)
        while index is not None:
            path.append(index)
            index = self.nodes[index].parent
        return path[::-1]


def read(data: bytes | str, limits: Limits | None = None) -> Record:
    """Read a game record.

    Bytes are decoded as described in `katago_mcp.charsets`; text is used unchanged. Only the first of several
    games is read. Boards have 2 to 19 lines. Komi in hundredths (KM[650]), or in stones of two points each
    (KM[375], KM[3.75], 3.75子), is converted to points and rounded to half-integers, with a warning. A
    handicap game without komi, or with Fox's KM[375], has 0.5.

    Raises:
        Unreadable: with line and column: `invalid_sgf`, `limit_exceeded`, `invalid_board_size`.
    """
    limits = limits or Limits()
    # JSON can contain lone surrogates. They count with the size of their replacement.
    size = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "replace"))
    if size > limits.size:
        raise Unreadable(
            "limit_exceeded",
            f"the record has {size} bytes, too many",
            accepted=f"at most {limits.size} bytes",
            line=1,
            column=1,
        )
    if isinstance(data, bytes):
        decoded = decode(data)
        text, charset, doubt = decoded.text, decoded.charset, decoded.warning
    else:
        text, charset, doubt = data, "text", None
    tree = parse(re.sub("[\ud800-\udfff]", "\ufffd", text), limits)
    warnings = _Warnings()
    for warning in ((doubt,) if doubt else ()) + tree.warnings:
        warnings.add("the file", warning)
    root = tree.nodes[0]
    if (game := root.line_of_text("GM")) not in (None, "1"):
        raise _refused(tree, "invalid_sgf", f"GM[{game[:8] if game else ''}] is not Go", "GM[1], Go")
    width, height = _size(tree)
    handicap = _handicap(tree, warnings)
    rules_text = root.line_of_text("RU")
    rules = _rules(rules_text, warnings)
    return Record(
        tree=tree,
        charset=charset,
        width=width,
        height=height,
        rules=rules,
        rules_text=rules_text,
        komi=_komi(root, handicap, find(rules)[1].komi, warnings),
        handicap=handicap,
        black=Player(root.line_of_text("PB"), root.line_of_text("BR")),
        white=Player(root.line_of_text("PW"), root.line_of_text("WR")),
        result=root.line_of_text("RE"),
        date=root.line_of_text("DT"),
        event=root.line_of_text("EV"),
        application=root.line_of_text("AP"),
        warnings=warnings.texts(),
    )


def _no_variation(message: str, accepted: str) -> Invalid:
    return Invalid("invalid_variation", message, field="variation", accepted=accepted)


def _refused(tree: Tree, code: str, message: str, accepted: str) -> Unreadable:
    line, column = tree.place(tree.nodes[0])
    return Unreadable(code, message, accepted=accepted, line=line, column=column)


def _size(tree: Tree) -> tuple[int, int]:
    text = tree.nodes[0].line_of_text("SZ") or str(MAX_SIZE)
    match = re.fullmatch(r"(\d{1,4})(?:\s*[:xX*]\s*(\d{1,4}))?", text, re.ASCII)
    if match is None:
        raise _refused(
            tree,
            "invalid_sgf",
            f"SZ[{text[:12]}] is not a board size",
            "SZ[19], or SZ[9:13] for 9 columns, 13 rows",
        )
    width, height = int(match[1]), int(match[2] or match[1])
    if not (MIN_SIZE <= width <= MAX_SIZE and MIN_SIZE <= height <= MAX_SIZE):
        raise _refused(
            tree,
            "invalid_board_size",
            f"the board has {width} columns and {height} rows",
            f"{MIN_SIZE} to {MAX_SIZE} columns and rows",
        )
    return width, height


def _handicap(tree: Tree, warnings: _Warnings) -> int:
    root = tree.nodes[0]
    text = root.line_of_text("HA") or ""
    stones = int(text) if re.fullmatch(r"\d{1,3}", text, re.ASCII) else 0
    if text and not stones and not re.fullmatch("0+", text):
        warnings.add("handicap", f"HA[{text[:12]}] is not a number: handicap 0 is assumed")
    if not stones and _is_of_fox(root) and (played := _black_before_white(tree)) > 1:
        warnings.add(
            "handicap", f"Black's first {played} moves are read as handicap stones, as Fox writes them"
        )
        return played
    return stones


def _is_of_fox(root: Node) -> bool:
    return any("foxwq" in value.lower() for value in root.properties.get("AP", ()))


def _black_before_white(tree: Tree) -> int:
    """The number of Black's moves before White's first move on the main line, up to 9."""
    node, count = tree.nodes[0], 0
    while node.children and count < 9:
        node = tree.nodes[node.children[0]]
        if "W" in node.properties:
            break
        count += "B" in node.properties
    return count


def _rules(text: str | None, warnings: _Warnings) -> str | Rules:
    if text is None:
        warnings.add("rules", f"the record has no rules (RU): {DEFAULT_RULES} is assumed")
        return DEFAULT_RULES
    lowered = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())
    named = _RULES_NAMED.get(_WORD_RULES.sub("", lowered))
    if named is not None:
        return named
    parts = read_notation(text)
    if parts is not None:
        return parts
    warnings.add("rules", f"RU[{text[:40]}] is not one of KataGo's rule sets: {DEFAULT_RULES} is assumed")
    return DEFAULT_RULES


def _komi(root: Node, handicap: int, default: float, warnings: _Warnings) -> float | None:
    text = root.line_of_text("KM")
    fox = _is_of_fox(root)
    if text is None:
        if handicap < 2:
            warnings.add("komi", f"the record has no komi (KM): {default:g} is assumed")
            return None
        warnings.add("komi", f"the handicap game has no komi (KM): {HANDICAP_KOMI:g} is assumed")
        return HANDICAP_KOMI
    komi, plain = _komi_of(text, fox)
    if komi is None:
        warnings.add("komi", f"KM[{text[:12]}] is not a komi: {default:g} is assumed")
    elif fox and handicap >= 2 and komi > HANDICAP_KOMI:
        warnings.add(
            "komi", f"KM[{text[:12]}] is Fox's value for handicap games too: {HANDICAP_KOMI:g} is assumed"
        )
        return HANDICAP_KOMI
    elif fox and handicap < 2 and komi == 0:
        warnings.add("komi", "Fox writes KM[0] in some even games: komi 0 is used, but may be wrong")
    elif not plain:
        warnings.add("komi", f"KM[{text[:12]}] is read as {komi:g} points")
    return komi


def _komi_of(text: str, fox: bool) -> tuple[float | None, bool]:
    """Komi in points, rounded to half-integers, and whether the text contains exactly this value.

    Fox and others write hundredths (KM[375], KM[650]). So whole numbers from 100 are read as hundredths, and
    in Fox's files from 25 (KM[50]). Chinese komi is counted in stones of two points. So 2 to 4 in hundredths
    (375 is 3.75 stones, 7.5 points), quarters (2.75, 3.75) and values with the unit 子 are doubled.
    """
    for sign, spelled in _FRACTIONS.items():
        text = text.replace(sign, spelled)
    match = _KOMI.fullmatch(re.sub(r"^[^\d+-]+", "", unicodedata.normalize("NFKC", text)))
    if match is None or (match[1] is None and match[2] is None):
        return None, False
    value = float((match[1] or "0").replace(",", "."))
    if match[2] is not None:
        value += int(match[2]) / int(match[3])
    if "半" in match[4] or "반" in match[4]:
        value += 0.5
    points = value
    hundredths = value.is_integer() and abs(value) >= (25 if fox else 100)
    if hundredths:
        points /= 100
    quarters = abs(points) < 5 and (points * 4).is_integer() and not (points * 2).is_integer()
    if "子" in match[4] or quarters or (hundredths and 2 <= abs(points) <= 4):
        points *= 2
    # Adding 0 turns -0 into 0.
    points = round(points * 2) / 2 + 0.0
    return (points, points == value) if abs(points) <= MAX_KOMI else (None, False)


def _vertex(raw: str, width: int, height: int) -> str | None:
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


def _moves_of(node: Node) -> Iterator[tuple[Colour, str]]:
    for identifier, values in node.properties.items():
        for colour in _COLOURS:
            if identifier == colour:
                yield from ((colour, value) for value in values)


def _opponent(colour: Colour) -> Colour:
    return "W" if colour == "B" else "B"


class _Play:
    """Plays a line. Setups are bit sets, `width * row + column`, until a move follows."""

    def __init__(self, record: Record, nodes: tuple[int, ...]) -> None:
        self.record = record
        self.nodes = nodes
        self.moves: list[Move] = []
        self.starts: list[_Start] = []
        self.warnings = _Warnings()
        self._rules = find(record.rules)[1]
        self._board = Board(record.width, record.height)
        self._setup: dict[Colour, int] | None = {"B": 0, "W": 0}
        self._setup_node = record.nodes[0]
        self._player: Colour | None = None
        self._cut: str | None = None

    def line(self, name: str) -> Line:
        whole = all(self._take(self.record.nodes[index]) for index in self.nodes)
        if whole:
            self._settle(None)
        warnings = self.warnings.texts()
        return Line(self.record, name, self.nodes, tuple(self.moves), warnings, tuple(self.starts), self._cut)

    def _take(self, node: Node) -> bool:
        """Apply a node's setup, then its moves. Returns whether the line continues."""
        if any(identifier in node.properties for identifier in _SETUP):
            self._set_up(node)
        if "PL" in node.properties:
            self._pass_turn(node)
        moves = list(_moves_of(node))
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
        name = _vertex(raw, self.record.width, self.record.height)
        reason = f"{raw[:8]!r} is not a point of the {self.record.width}x{self.record.height} board"
        if name is not None:
            try:
                self._board.play(colour, parse_vertex(name, self.record.width, self.record.height))
            except IllegalMove as error:
                name, reason = None, f"{colour} {name}: {error}"
        if name is None:
            self._end(node, reason)
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
                area = self._area(identifier, raw)
                setup = {colour: stones & ~area for colour, stones in setup.items()}
                if identifier != "AE":
                    setup["B" if identifier == "AB" else "W"] |= area
        self._setup = setup
        self._setup_node = node

    def _area(self, identifier: str, raw: str) -> int:
        """A point or a rectangle of points as bits (SGF FF[4], compressed point lists)."""
        width, height = self.record.width, self.record.height
        corners = [part.strip() for part in raw.split(":")]
        if len(corners) > 2 or not all(re.fullmatch(r"[a-zA-Z]{2}", corner) for corner in corners):
            self.warnings.add("setup", f"{identifier}[{raw[:12]}] is not a point: ignored")
            return 0
        columns = sorted(ord(corner[0]) - ord("a") for corner in corners)
        rows = sorted(height - 1 - (ord(corner[1]) - ord("a")) for corner in corners)
        left, right = max(0, columns[0]), min(width - 1, columns[-1])
        low, high = max(0, rows[0]), min(height - 1, rows[-1])
        if (left, right, low, high) != (columns[0], columns[-1], rows[0], rows[-1]):
            self.warnings.add("setup", f"{identifier}[{raw[:12]}]: points off the board are ignored")
        if left > right or low > high:
            return 0
        row = ((1 << (right - left + 1)) - 1) << left
        every_row = ((1 << (width * (high - low + 1))) - 1) // ((1 << width) - 1)
        return row * every_row << (width * low)

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
        """Place HA's stones on the customary points if the record neither sets them up nor plays them."""
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
        centre = [(1, 1)] if count >= 5 and count % 2 else []
        for column, row in [*_HANDICAP[: count - len(centre)], *centre]:
            setup["B"] |= 1 << (self.record.width * lines[row] + lines[column])
        self.warnings.add("handicap", f"HA[{count}] without stones: star points are assumed")
