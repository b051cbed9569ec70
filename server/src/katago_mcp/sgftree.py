"""The syntax of SGF: parses a record to a game tree, without recursion. Places are lines and columns.

Source: SGF FF[4], EBNF and property values; FF[3] for identifiers with lower-case letters.

Structure is found before text is decoded. In a legacy charset, the second byte of a character can be "]"
or "\\", and a character cut in half stands before a bracket that is not its second byte. So the text is a
string of bytes (one character each) until the values are known; each value is then decoded separately, and
damage in one never reaches another. A bracket closes a value only if a record can go on after it.
"""

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from katago_mcp.charsets import Charset
from katago_mcp.errors import Invalid
from katago_mcp.positions import MAX_MOVES

_BLANK_RUN = r"[\s\ufeff\0]*+"
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_GAME = re.compile(r"\(\s*(?:;|[A-Z]{2}[A-Za-z]*\s*\[)")
_BARE_GAME = re.compile(r";\s*[A-Z]{1,2}\s*\[")
_BARE_ROOT = re.compile(r"\s*(?:[A-Z]{2}[A-Za-z]*\s*\[[^\]\\]*\]\s*)+")
"""Properties before the first ";" of a file without any "("."""

_NODE = re.compile(r";\s*[A-Za-z]+\s*\[")
_SPACE = re.compile(_BLANK_RUN)
_STRUCTURE = re.compile(r"[\s\ufeff\0();]*+")
_PROPERTY = re.compile(rf"(?P<name>[A-Za-z][A-Za-z0-9]*+){_BLANK_RUN}\[")
_JUNK = re.compile(rf"(?:(?![;()]|\b[A-Z][A-Za-z]*{_BLANK_RUN}\[).)++", re.DOTALL)
_SWALLOWED = re.compile(
    r"(?:(?<![\s()])[\s()]*+;\s*[BW]\[[A-Za-z]{0,2}|(?:PB|PW|BR|WR|BT|WT|KM|HA|RU|RE|SZ|DT|EV|RO|PC|GN|GC|TM|OT|AP|CA|FF|GM)\[[^\[]*)\Z"
)
"""The end of a value that contains the next property because its own closing bracket is missing."""

_PLAIN = re.compile(rf"\[([^\]\[\\\ufffd]*+)\](?={_BLANK_RUN}(?:\[|;?[A-Z][A-Za-z]*\[))")
_PLAIN_ASCII = re.compile(rf"\[([^\]\[\\\x80-\uffff]*+)\](?={_BLANK_RUN}(?:\[|;?[A-Z][A-Za-z]*\[))")
"""A value without brackets and escapes, and the start of the next value or property."""

_LOWER = re.compile(r"[a-z]")
_LINE_BREAK = re.compile(r"\r\n|\n\r|\r|\n")
_SOFT_BREAK = re.compile(r"\\(?:\r\n|\n\r|\r|\n)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BLANK = re.compile(r"[^\S\n]")

_MOVES = {"B", "W", "KO", "MN", "AB", "AW", "AE", "PL"}
_MARKUP = {"BM", "DO", "IT", "TE", "CR", "MA", "SL", "SQ", "TR", "DD", "VW", "TB", "TW", "AR", "LN", "LB"}
_NUMBERS = {
    "BL",
    "WL",
    "OB",
    "OW",
    "DM",
    "GB",
    "GW",
    "HO",
    "UC",
    "V",
    "SZ",
    "HA",
    "KM",
    "FF",
    "GM",
    "ST",
    "TM",
}
_NOT_TEXT = _MOVES | _MARKUP | _NUMBERS
"""Properties whose values are no prose: a bracket in them is never text."""

_LONG_NAMES = {"BLACK": "B", "WHITE": "W", "ADDBLACK": "AB", "ADDWHITE": "AW", "ADDEMPTY": "AE"}
"""Long names in one case. In mixed case, lower-case letters do not count [FF3]."""

WORDS = frozenset(("DATE", "EVENT", "HANDICAP", "KOMI", "PLACE", "RESULT", "RULE", "RULES", "SIZE"))
"""Whole words that programs write instead of identifiers, in any case: all their letters count."""

_BOARD = {"B", "W", "AB", "AW", "AE"}
_TEXTS = {
    *("AN", "AP", "BR", "BT", "C", "CA", "CP", "DT", "EV", "GC", "GN", "ID", "LT", "N", "ON", "OT"),
    *("PB", "PC", "PW", "RE", "RO", "RU", "SO", "US", "WR", "WT"),
}
_POINTS = {"AR", "CR", "DD", "L", "LB", "LN", "MA", "RG", "SC", "SE", "SL", "SQ", "TB", "TR", "TW", "VW"}
_UNDERSTOOD = {*_BOARD, *_TEXTS, *_POINTS, "PL"}
"""Properties with values that look like points, which are read or are neither moves nor stones."""

_KNOWN = {*_UNDERSTOOD, *_NOT_TEXT, "KO", "MN", "M", "FG", "PM", "OM", "OP", "OV", "OH", "TC", "TT"}
_NAMES = _KNOWN | _LONG_NAMES.keys() | WORDS

_POINT = r"(?:[a-s]{2}|tt|[A-HJ-T](?:1[0-9]|[1-9]))(?![A-Za-z0-9])"
_COLOUR = r"(?:(?:[Bb]lack|[Ww]hite|[BWbw])(?![A-Za-z0-9]))?"
_SEPARATOR = r"[\s,;:.()\[\-]"
_POINT_LIST = re.compile(
    rf"{_COLOUR}{_SEPARATOR}*+{_POINT}(?:{_SEPARATOR}++{_COLOUR}{_SEPARATOR}*+{_POINT})*{_SEPARATOR}*+"
)
"""Points in SGF's or in GTP's notation, also with colours."""

DAMAGE = "syntax"
"""The kind of warnings about what could not be read."""

_KIND_LIMIT = 3
_BRACKETS_TRIED = 10_000
_SWALLOWED_MOST = 20


class Warnings:
    """Warnings by kind. Of each kind, only the first few are listed, with the number of the rest."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[str | Callable[[], str]]] = {}

    def add(self, kind: str, text: str | Callable[[], str]) -> None:
        """Add a warning: its text, or a function that makes the text if the warning is listed."""
        self._kinds.setdefault(kind, []).append(text)

    def include(self, others: "Warnings") -> None:
        """Add all warnings of another list."""
        for kind, texts in others._kinds.items():
            self._kinds.setdefault(kind, []).extend(texts)

    def texts(self, *kinds: str) -> tuple[str, ...]:
        """The warnings to show: those of some kinds, or all."""
        listed: list[str] = []
        for kind, texts in self._kinds.items():
            if kinds and kind not in kinds:
                continue
            listed += [text if isinstance(text, str) else text() for text in texts[:_KIND_LIMIT]]
            if len(texts) > _KIND_LIMIT:
                listed.append(f"and {len(texts) - _KIND_LIMIT} more of this kind: {kind}")
        return tuple(listed)


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


class Source:
    """The text of a file: characters, or the bytes of a legacy charset, one per character."""

    def __init__(self, text: str, charset: Charset | None = None) -> None:
        self.text = text
        self.charset = charset

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, from 1, in characters."""
        line = bisect_right(self._starts, offset)
        start = self._starts[line - 1]
        before = offset - start if self.charset is None else len(self.decode(self.text[start:offset]))
        return line, before + 1

    def decode(self, raw: str) -> str:
        """Part of the text as characters."""
        return raw if self.charset is None or raw.isascii() else self.charset.decode(raw.encode("latin-1"))

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_BREAK.finditer(self.text))]

    @cached_property
    def nodes(self) -> list[int]:
        """The offsets where a node may start."""
        return [match.start() for match in _NODE.finditer(self.text)]

    @cached_property
    def games(self) -> list[int]:
        """The offsets where a game or a variation may start."""
        return [match.start() for match in _GAME.finditer(self.text)]


@dataclass(frozen=True)
class Tree:
    """The nodes of one game, and warnings about invalid SGF that was accepted.

    `damage` has the offsets at which something could not be read. `games` is the number of games in the
    file, at least that many if `more_games` is set.
    """

    source: Source
    nodes: tuple[Node, ...]
    warnings: Warnings
    damage: tuple[int, ...]
    games: int = 1
    more_games: bool = False

    def place(self, node: Node) -> tuple[int, int]:
        """Line and column of a node, from 1."""
        return self.source.place(node.offset)


def unescape(raw: str) -> str:
    """A property value as Text: line breaks become newlines, other white space becomes spaces."""
    if "\\" in raw:
        raw = _ESCAPE.sub(r"\1", _SOFT_BREAK.sub("", raw))
    return _BLANK.sub(" ", _LINE_BREAK.sub("\n", raw))


def parse(source: Source, limits: Limits, number: int = 1) -> Tree:
    """Read game `number`, from 1, of a collection.

    What is not SGF is left out where a record can go on after it; the rest is read, with a warning that
    names the property and the place; `damage` of the tree has the places.

    Raises:
        Unreadable: with `invalid_sgf` or `limit_exceeded`.
        Invalid: with `invalid_game_number` if the file has fewer games.
    """
    trees = parse_all(source, limits, number)
    if not 1 <= number <= len(trees):
        raise Invalid(
            "invalid_game_number",
            f"the file has no game {number}",
            field="gameNumber",
            accepted=f"1 to {len(trees)}",
        )
    return trees[number - 1]


def parse_all(source: Source, limits: Limits, needed: int = 1) -> list[Tree]:
    """Read the games of a collection: at least `needed`, then until the nodes of all exceed the limit.

    Raises:
        Unreadable: with `invalid_sgf` if there is no game, `limit_exceeded` if one of the first `needed`
            games exceeds a limit.
    """
    readers: list[_Reader] = []
    end = 0
    nodes = 0
    exceeded = False
    while (start := _start_of_game(source.text, end)) is not None:
        reader = _Reader(source, limits)
        try:
            following = reader.read(start)
        except Unreadable:
            if len(readers) < needed:
                raise
            exceeded = True
            break
        if source.text[end:start].strip("\ufeff\0 \t\r\n"):
            reader.warnings.add("the file", "text before the game was skipped")
        readers.append(reader)
        end = following
        nodes += reader.count
        exceeded = len(readers) >= needed and nodes > limits.nodes
        if exceeded:
            break
    if not readers:
        raise _refusal(
            "invalid_sgf", "the text contains no game", source, 0, 'a game tree that starts with "(;"'
        )
    if not exceeded and source.text[end:].strip("\0\x1a \t\r\n"):
        readers[-1].warnings.add("the file", "text after the game was skipped")
    return [reader.tree(len(readers), exceeded) for reader in readers]


def _start_of_game(text: str, offset: int) -> int | None:
    match = _GAME.search(text, offset)
    if match is None and offset == 0 and (match := _BARE_GAME.search(text)):
        root = _BARE_ROOT.fullmatch(text, 0, match.start())
        return 0 if root else match.start()
    return None if match is None else match.start()


def _refusal(code: str, message: str, source: Source, offset: int, accepted: str) -> Unreadable:
    line, column = source.place(offset)
    return Unreadable(code, message, accepted=accepted, line=line, column=column)


def _tokens(charset: Charset | None) -> re.Pattern[str]:
    """Text of a value up to a bracket that may close it, or a byte that starts no character."""
    if charset is None:
        return re.compile(r"[^\]\\]*+(?:\\.[^\]\\]*+)*+", re.DOTALL)
    lead = charset.leads
    # The trail byte "]" is missing here: it may close the value.
    character = rf"[{lead}](?:[\x40-\x5c\x5e-\x7e\x80-\xfe]|[0-9][{lead}][0-9])"
    return re.compile(rf"(?:[^\]\\{lead}]++|{character}|\\(?:{character}|.))*+", re.DOTALL)


class _Reader:
    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.text = source.text
        self.limits = limits
        self.warnings = Warnings()
        self._damage: list[int] = []
        self._tokens = _tokens(source.charset)
        self._plain = _PLAIN if source.charset is None else _PLAIN_ASCII
        self._depth = 0
        self._parents: list[int | None] = []
        self._children: list[list[int]] = []
        self._properties: list[dict[str, tuple[str, ...]]] = []
        self._moves: list[int] = []
        self._offsets: list[int] = []
        self._notes: set[str] = set()
        self._is_empty = True
        """Whether there are neither moves nor stones yet."""
        self._strange: int | None = None
        """The first node, other than the root, in which no property is known."""
        self._hopeless = False
        """Whether a search found no closing bracket up to the end, so that the next would not either."""

    @property
    def count(self) -> int:
        """The number of nodes."""
        return len(self._parents)

    def read(self, offset: int) -> int:
        """Read one game tree from its start. Returns the offset after it."""
        text = self.text
        branches: list[int | None] = []
        current: int | None = None
        if text[offset] != "(":
            self._warn("the file", 'the "(" before the game is missing', offset)
            branches.append(None)
        while True:
            self._depth = len(branches)
            offset = self._skip(offset)
            sign = text[offset : offset + 1]
            if sign == ";":
                offset, current = self._node(offset, offset + 1, current)
            elif sign == "(":
                if len(branches) >= self.limits.depth:
                    raise self._exceeded(f"variations are nested deeper than {self.limits.depth}", offset)
                branches.append(current)
                offset += 1
            elif sign == ")":
                current = branches.pop()
                offset += 1
                if not branches:
                    break
            elif not sign:
                count = len(branches)
                what = "a closing parenthesis is" if count == 1 else f"{count} closing parentheses are"
                self.warnings.add("the file", f"{what} missing at the end: the file may be cut off")
                break
            elif _PROPERTY.match(text, offset):
                self._warn("the file", 'the ";" before a node is missing', offset)
                offset, current = self._node(offset, offset, current)
            else:
                offset = self._leave_out(offset, "")
        return offset

    def tree(self, games: int, more_games: bool) -> Tree:
        """The tree that was read, one of `games` in the file."""
        if self._is_empty and self._strange is not None and not self._damage:
            identifier, values = next(iter(self._properties[self._strange].items()))
            self._lose_foreign(identifier, values, self._offsets[self._strange])
        nodes = tuple(
            Node(index, parent, tuple(children), properties, moves, offset)
            for index, (parent, children, properties, moves, offset) in enumerate(
                zip(self._parents, self._children, self._properties, self._moves, self._offsets, strict=True)
            )
        )
        return Tree(self.source, nodes, self.warnings, tuple(self._damage), games, more_games)

    def _node(self, start: int, offset: int, parent: int | None) -> tuple[int, int]:
        index = len(self._parents)
        if index >= self.limits.nodes:
            raise self._exceeded(f"the record has more than {self.limits.nodes} nodes", start)
        properties, end = self._read_properties(offset)
        moves = sum(len(properties.get(colour, ())) for colour in "BW")
        if parent is not None:
            moves += self._moves[parent]
            self._children[parent].append(index)
        if moves > self.limits.moves:
            raise self._exceeded(f"a line has more than {self.limits.moves} moves", start)
        self._parents.append(parent)
        self._children.append([])
        self._properties.append(properties)
        self._moves.append(moves)
        self._offsets.append(start)
        self._is_empty = self._is_empty and not _BOARD & properties.keys()
        if self._strange is None and parent is not None and properties and not _KNOWN & properties.keys():
            self._strange = index
        return end, index

    def _read_properties(self, offset: int) -> tuple[dict[str, tuple[str, ...]], int]:
        text = self.text
        properties: dict[str, list[str]] = {}
        foreign: list[tuple[str, list[str], int]] = []
        last = ""
        while (offset := self._skip(offset)) < len(text) and text[offset] not in ";()":
            name = _IDENTIFIER.match(text, offset)
            opening = self._skip(name.end()) if name else offset
            if name is None or text[opening : opening + 1] != "[":
                offset = self._leave_out(offset, last)
                continue
            start = offset
            last = self._identifier(name[0])
            values, offset = self._values(last, opening)
            if last in _LONG_NAMES and self._are_points(values):
                self._note(f"{name[0]} is read as {_LONG_NAMES[last]}")
                last = _LONG_NAMES[last]
            elif last not in _UNDERSTOOD and self._are_moves(name[0], values):
                foreign.append((name[0], values, start))
            if values:
                properties.setdefault(last, []).extend(values)
        if not _BOARD & properties.keys():
            for written, values, start in foreign:
                self._lose_foreign(written, values, start)
        return {identifier: tuple(values) for identifier, values in properties.items()}, offset

    def _are_points(self, values: list[str]) -> bool:
        """Whether values look like moves or stones. In the root, an empty value is no pass."""
        is_pass = values == [""] and bool(self._parents)
        return is_pass or _POINT_LIST.fullmatch(" ".join(values)) is not None

    def _are_moves(self, name: str, values: list[str]) -> bool:
        """Whether values of an unknown property look like moves. In the root, two letters may be a text."""
        is_private = name == "M" or name.startswith("KGS")
        is_list = bool(self._parents) or len(" ".join(values).split()) > 1
        return not is_private and is_list and values != [""] and self._are_points(values)

    def _values(self, identifier: str, opening: int) -> tuple[list[str], int]:
        """The values of a property, and the offset after them."""
        text = self.text
        values: list[str] = []
        offset = opening
        while text[opening : opening + 1] == "[":
            if plain := self._plain.match(text, opening):
                values.append(plain[1])
                offset = plain.end()
            else:
                end = self._end_of_value(identifier, opening)
                if end is None:
                    self._lose(
                        f"the value of {identifier[:12]} has no closing bracket, so it is left out: "
                        "the file may be cut off",
                        opening,
                    )
                    return values, len(text)
                values.append(self._value(identifier, opening, end))
                offset = end + (text[end] == "]")
            opening = self._skip(offset)
        return values, offset

    def _value(self, identifier: str, opening: int, end: int) -> str:
        value = self.source.decode(self.text[opening + 1 : end])
        if "\ufffd" in value:
            self._warn(
                "damaged text",
                f"the text of {identifier[:12]} is damaged: U+FFFD stands for what is lost",
                opening,
            )
        return value

    def _end_of_value(self, identifier: str, opening: int) -> int | None:
        """The end of a value: its bracket, or the start of the next property; None if it has none."""
        first = closing = None
        for bracket, is_trail in itertools.islice(self._brackets(opening + 1), _BRACKETS_TRIED):
            may_close = self._may_close(bracket, is_trail)
            if not is_trail and first is None:
                first = bracket
                may_close = may_close or identifier in _NOT_TEXT or self._hopeless
            if may_close:
                closing = bracket
                break
        else:
            self._hopeless = True
            closing = first
        if closing is None:
            return None
        if first is not None and first < closing:
            self._lose(f'a "]" without "\\" in the value of {identifier[:12]} was read as text', first)
        return self._unswallow(identifier, opening, closing)

    def _unswallow(self, identifier: str, opening: int, closing: int) -> int:
        """The end of a value without the properties that follow a missing bracket."""
        for _ in range(_SWALLOWED_MOST):
            value = self.text[opening + 1 : closing]
            swallowed = _SWALLOWED.search(value) if "[" in value else None
            if swallowed is None:
                break
            closing = opening + 1 + swallowed.start()
            self._lose(f"the closing bracket of the value of {identifier[:12]} is missing", opening)
        return closing

    def _brackets(self, offset: int) -> Iterator[tuple[int, bool]]:
        """The brackets that may close a value, and whether each may also be half of a character."""
        text = self.text
        while (token := self._tokens.match(text, offset)) and (offset := token.end()) < len(text):
            if text[offset] == "]":
                yield offset, False
            elif text[offset + 1 : offset + 2] == "]":
                offset += 1
                yield offset, True
            offset += 1

    def _may_close(self, bracket: int, is_trail: bool) -> bool:
        """Whether a record can go on after a bracket."""
        text = self.text
        structure = _STRUCTURE.match(text, bracket + 1)
        end = structure.end() if structure else bracket + 1
        depth = self._depth
        for offset in range(bracket + 1, end):
            depth += (text[offset] == "(") - (text[offset] == ")")
            if depth == 0:
                return self._may_end(offset + 1, is_trail)
        if end == len(text):
            return True
        if text[end] == "[":
            return not is_trail and self._skip(bracket + 1) == end
        following = _PROPERTY.match(text, end)
        if following is None or (is_trail and text[end].islower()):
            return False
        # In a comment, a word in lower case stands before a bracket more often than an unknown property does.
        name = following["name"]
        return not name.islower() or name.upper() in _NAMES

    def _may_end(self, offset: int, is_trail: bool) -> bool:
        """Whether the game can end before an offset."""
        text, source = self.text, self.source
        after = self._skip(offset)
        if after == len(text) or text[after] == "\x1a" or _GAME.match(text, after):
            return True
        game, node = bisect_left(source.games, after), bisect_left(source.nodes, after)
        ends = source.games[game] if game < len(source.games) else len(text)
        return not is_trail and not (node < len(source.nodes) and source.nodes[node] < ends)

    def _skip(self, offset: int) -> int:
        space = _SPACE.match(self.text, offset)
        return offset if space is None else space.end()

    def _identifier(self, name: str) -> str:
        identifier = _LOWER.sub("", name)
        if len(name) > len(identifier) and name.upper() in WORDS:
            return name.upper()
        if identifier:
            return identifier
        self._note("lower-case property identifiers were read as upper case")
        return name.upper()

    def _note(self, text: str) -> None:
        """Warn once about the way in which the whole file is read."""
        if text not in self._notes:
            self._notes.add(text)
            self.warnings.add("the file", text)

    def _leave_out(self, offset: int, last: str) -> int:
        """Skip what is not SGF. Returns the offset where a record can go on."""
        junk = _JUNK.match(self.text, offset)
        end = max(offset + 1, junk.end() if junk else 0)
        name = _IDENTIFIER.fullmatch(self.text[offset:end].strip())
        where = f" after the value of {last[:12]}" if last else ""
        self._lose(
            f"the property {name[0][:12]} has no value, so it is left out"
            if name
            else f"unexpected {self.source.decode(self.text[offset:end]).strip()[:12]!r}{where} is left out",
            offset,
        )
        return end

    def _lose(self, text: str, offset: int) -> None:
        """Note that something could not be read."""
        self._damage.append(offset)
        self._warn(DAMAGE, text, offset)

    def _lose_foreign(self, name: str, values: Sequence[str], offset: int) -> None:
        self._lose(f"{name[:12]}[{values[0][:12]}] is not understood, so a move may be missing", offset)

    def _warn(self, kind: str, text: str, offset: int) -> None:
        self.warnings.add(kind, lambda: "line {} column {}: {}".format(*self.source.place(offset), text))

    def _exceeded(self, what: str, offset: int) -> Unreadable:
        return _refusal("limit_exceeded", what, self.source, offset, "a smaller record")
