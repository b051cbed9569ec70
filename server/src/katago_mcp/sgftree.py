"""The syntax of SGF: parses text to a game tree, without recursion. Errors have line and column.

Source: SGF FF[4], EBNF and property values; FF[3] for identifiers with lower-case letters.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from katago_mcp.errors import Invalid
from katago_mcp.positions import MAX_MOVES

_GAME = re.compile(r"\(\s*(?=;)")
_SPACE = re.compile(r"[\s\ufeff\0]*")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_VALUE = re.compile(r"\s*\[([^\]\\]*+(?:\\.[^\]\\]*+)*+)\]", re.DOTALL)
_LOWER = re.compile(r"[a-z]")
_LINE_BREAK = re.compile(r"\r\n|\n\r|\r|\n")
_SOFT_BREAK = re.compile(r"\\(?:\r\n|\n\r|\r|\n)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BLANK = re.compile(r"[^\S\n]")


@dataclass(frozen=True)
class Limits:
    """Limits of a record: bytes as received, nesting depth, nodes, moves on one line."""

    size: int = 4 * 1024 * 1024
    depth: int = 5000
    nodes: int = 50_000
    moves: int = MAX_MOVES


class Unreadable(Invalid):
    """A record that is not SGF, or exceeds a limit. `line` and `column` count from 1, in characters."""

    def __init__(
        self, code: str, message: str, *, accepted: str, line: int, column: int, field: str = "sgf"
    ) -> None:
        super().__init__(code, f"line {line} column {column}: {message}", field=field, accepted=accepted)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the game tree.

    `index` counts nodes in file order; the root is 0. The first of `children` is the main line.
    `properties` holds the raw values, with escapes, under identifiers in upper case.
    `moves` counts the moves from the root up to and including this node. `offset` is the node's offset in the
    text.
    """

    index: int
    parent: int | None
    children: tuple[int, ...]
    properties: Mapping[str, tuple[str, ...]]
    moves: int
    offset: int

    def text(self, identifier: str) -> str | None:
        """The first value of a property as Text, with line breaks and escapes resolved; None if absent."""
        values = self.properties.get(identifier)
        return unescape(values[0]) if values else None

    def line_of_text(self, identifier: str) -> str | None:
        """The first value of a property as SimpleText: on one line, trimmed; None when empty or absent."""
        text = self.text(identifier)
        return " ".join(text.split()) or None if text else None


@dataclass(frozen=True)
class Tree:
    """The nodes of one game, and warnings about invalid SGF that was accepted."""

    text: str
    nodes: tuple[Node, ...]
    warnings: tuple[str, ...]

    def place(self, node: Node) -> tuple[int, int]:
        """Line and column of a node, from 1."""
        line = bisect_right(self._starts, node.offset)
        return line, node.offset - self._starts[line - 1] + 1

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_BREAK.finditer(self.text))]


def unescape(raw: str) -> str:
    """A property value as Text: line breaks become newlines, other white space becomes spaces."""
    if "\\" in raw:
        raw = _ESCAPE.sub(r"\1", _SOFT_BREAK.sub("", raw))
    return _BLANK.sub(" ", _LINE_BREAK.sub("\n", raw))


def parse(text: str, limits: Limits) -> Tree:
    """Read the first game of a collection.

    Text before the game is skipped, and missing closing parentheses at the end are added; both give a
    warning. A value without a closing bracket is an error, because it may contain half of the game.

    Raises:
        Unreadable: with `invalid_sgf` or `limit_exceeded`.
    """
    start = _GAME.search(text)
    if start is None:
        raise _refusal(
            "invalid_sgf", "the text contains no game", text, 0, 'a game tree that starts with "(;"'
        )
    reader = _Reader(text, limits)
    if text[: start.start()].strip("\ufeff\0 \t\r\n"):
        reader.warnings.append("text before the game was skipped")
    end = reader.read(start.start())
    if _GAME.search(text, end):
        reader.warnings.append("the file contains several games: only the first was read")
    elif text[end:].strip("\0\x1a \t\r\n"):
        reader.warnings.append("text after the game was skipped")
    return Tree(text, reader.nodes(), tuple(reader.warnings))


def _refusal(code: str, message: str, text: str, offset: int, accepted: str) -> Unreadable:
    before = text[:offset].replace("\r\n", "\n").replace("\n\r", "\n").replace("\r", "\n")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return Unreadable(code, message, accepted=accepted, line=line, column=column)


class _Reader:
    def __init__(self, text: str, limits: Limits) -> None:
        self.text = text
        self.limits = limits
        self.warnings: list[str] = []
        self._parents: list[int | None] = []
        self._children: list[list[int]] = []
        self._properties: list[dict[str, tuple[str, ...]]] = []
        self._moves: list[int] = []
        self._offsets: list[int] = []
        self._lowered = False

    def read(self, offset: int) -> int:
        """Read one game tree from its opening parenthesis. Returns the offset after it."""
        text = self.text
        branches: list[int | None] = []
        current: int | None = None
        while True:
            offset = self._skip(offset)
            sign = text[offset : offset + 1]
            if sign == ";":
                offset, current = self._node(offset, current)
            elif sign == "(":
                if len(branches) >= self.limits.depth:
                    raise self._exceeded(f"variations are nested deeper than {self.limits.depth}", offset)
                branches.append(current)
                offset = self._skip(offset + 1)
                if text[offset : offset + 1] not in ("", ";"):
                    raise self._expected('";", which starts a node', offset)
            elif sign == ")":
                current = branches.pop()
                offset += 1
                if not branches:
                    return offset
            elif not sign:
                count = len(branches)
                what = "a closing parenthesis is" if count == 1 else f"{count} closing parentheses are"
                self.warnings.append(f"{what} missing at the end: the file may be cut off")
                return offset
            else:
                raise self._expected('";", "(", ")" or a property', offset)

    def nodes(self) -> tuple[Node, ...]:
        return tuple(
            Node(index, parent, tuple(children), properties, moves, offset)
            for index, (parent, children, properties, moves, offset) in enumerate(
                zip(self._parents, self._children, self._properties, self._moves, self._offsets, strict=True)
            )
        )

    def _node(self, offset: int, parent: int | None) -> tuple[int, int]:
        index = len(self._parents)
        if index >= self.limits.nodes:
            raise self._exceeded(f"the record has more than {self.limits.nodes} nodes", offset)
        properties, end = self._read_properties(offset + 1)
        moves = sum(len(properties.get(colour, ())) for colour in "BW")
        if parent is not None:
            moves += self._moves[parent]
            self._children[parent].append(index)
        if moves > self.limits.moves:
            raise self._exceeded(f"a line has more than {self.limits.moves} moves", offset)
        self._parents.append(parent)
        self._children.append([])
        self._properties.append(properties)
        self._moves.append(moves)
        self._offsets.append(offset)
        return end, index

    def _read_properties(self, offset: int) -> tuple[dict[str, tuple[str, ...]], int]:
        text = self.text
        properties: dict[str, list[str]] = {}
        while name := _IDENTIFIER.match(text, offset := self._skip(offset)):
            identifier = self._identifier(name[0])
            end = name.end()
            values = []
            while value := _VALUE.match(text, end):
                values.append(value[1])
                end = value.end()
            following = self._skip(end)
            if text[following : following + 1] == "[":
                raise _refusal(
                    "invalid_sgf",
                    "the value has no closing bracket",
                    text,
                    following,
                    '"]" at the end of the value',
                )
            if not values:
                raise self._expected(f'"[" after the property {identifier[:12]}', following)
            properties.setdefault(identifier, []).extend(values)
            offset = end
        return {identifier: tuple(values) for identifier, values in properties.items()}, offset

    def _skip(self, offset: int) -> int:
        space = _SPACE.match(self.text, offset)
        return offset if space is None else space.end()

    def _identifier(self, name: str) -> str:
        identifier = _LOWER.sub("", name)
        if identifier:
            return identifier
        if not self._lowered:
            self._lowered = True
            self.warnings.append("lower-case property identifiers were read as upper case")
        return name.upper()

    def _expected(self, what: str, offset: int) -> Unreadable:
        unexpected = repr(self.text[offset]) if offset < len(self.text) else "end of the text"
        return _refusal("invalid_sgf", f"unexpected {unexpected}", self.text, offset, what)

    def _exceeded(self, what: str, offset: int) -> Unreadable:
        return _refusal("limit_exceeded", what, self.text, offset, "a smaller record")
