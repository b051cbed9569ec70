"""The game information of a record: players, result, board, handicap, rules and komi.

Programs write these properties in many ways. What is read differently from what is written is a warning.
Source: SGF FF[4], game-info and root properties.
"""

import re
from dataclasses import dataclass

from katago_mcp.komi import read_komi
from katago_mcp.numerals import arabic
from katago_mcp.positions import MAX_SIZE, MIN_SIZE, PLAUSIBLE_KOMI, unusual_komi
from katago_mcp.rules import Rules, find, read_rules
from katago_mcp.sgftree import Node, Tree, Unreadable, Warnings

DEFAULT_RULES = "chinese"
HANDICAP_KOMI = 0.5

_ALIASES = {
    "DT": ("RD", "DATE"),
    "EV": ("TE", "EVENT"),
    "HA": ("HD", "HANDICAP"),
    "KM": ("KO", "KOMI"),
    "PB": ("BLACK",),
    "PC": ("PLACE",),
    "PW": ("WHITE",),
    "RE": ("RESULT",),
    "RU": ("RULES", "RULE"),
    "SZ": ("SIZE",),
}
"""What servers write instead of a property. KO and TE have another meaning in nodes with moves."""

_MARKUP = {"KO": re.compile(r"\D*"), "TE": re.compile(r"[12]?")}
"""Values with which an alias is what SGF means by it: an illegal move, a good move."""

_LINES = r"(\d{1,4})(?:[.,]0+)?(?!\d)\s*(?:路|道|줄|로|lines?)?"
_SIZE = re.compile(rf"{_LINES}(?:\s*(?:[:x\u00d7*,/]|by|\s)\s*{_LINES})?\s*(?:board|[盤盘])?", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?", re.ASCII)
_STONES = re.compile(r"(\d{1,3})(?:[.,]0+)?", re.ASCII)


@dataclass(frozen=True)
class Player:
    """A player's name and rank as written (SGF FF[4], properties PB, PW, BR, WR)."""

    name: str | None
    rank: str | None


@dataclass(frozen=True)
class Information:
    """The game information, with the fields of `katago_mcp.sgf.Record`."""

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
    place: str | None
    application: str | None


def read_information(tree: Tree, warnings: Warnings) -> Information:
    """Read the game information from the nodes before the first move; assumptions go to `warnings`.

    Raises:
        Unreadable: `invalid_sgf` for another game than Go or a size that is no size, `invalid_board_size`.
    """
    properties = _Properties(tree, warnings)
    if (game := properties.line("GM")) not in (None, "1"):
        raise _refused(tree, "invalid_sgf", f"GM[{game[:8] if game else ''}] is not Go", "GM[1], Go")
    width, height = _size(tree, properties)
    is_of_fox = any("foxwq" in value.lower() for value in properties.values.get("AP", ()))
    handicap = _handicap(tree, properties, is_of_fox, warnings)
    rules_text = properties.line("RU")
    rules = _rules(rules_text, warnings)
    komi = _komi(properties.line("KM"), handicap, find(rules)[1].komi, is_of_fox, warnings)
    return Information(
        width=width,
        height=height,
        rules=rules,
        rules_text=rules_text,
        komi=komi,
        handicap=handicap,
        black=Player(properties.line("PB"), properties.line("BR")),
        white=Player(properties.line("PW"), properties.line("WR")),
        result=properties.line("RE"),
        date=properties.line("DT"),
        event=properties.line("EV"),
        place=properties.line("PC"),
        application=properties.line("AP"),
    )


class _Properties:
    """The properties of the root and of the nodes before the first move on the main line."""

    def __init__(self, tree: Tree, warnings: Warnings) -> None:
        root = tree.nodes[0].properties
        later: dict[str, tuple[str, ...]] = {}
        for node in _before_moves(tree):
            later = {**node.properties, **later}
        if "SZ" in later and not _fits(_dimensions(later["SZ"][0])):
            del later["SZ"]
        self.values: dict[str, tuple[str, ...]] = {**later, "GM": ("1",), **root}
        read = [
            f"{alias}[{self._text(alias)[:40]}] is read as {identifier}"
            for identifier, aliases in _ALIASES.items()
            for alias in aliases
            if self._replaces(alias, identifier)
        ]
        if read:
            warnings.add("properties", ", ".join(read))

    def _replaces(self, alias: str, identifier: str) -> bool:
        """Whether the record has an alias instead of a property; then the property gets its values."""
        if identifier in self.values or alias not in self.values:
            return False
        if alias in _MARKUP and _MARKUP[alias].fullmatch(self._text(alias)):
            return False
        self.values[identifier] = self.values[alias]
        return True

    def _text(self, identifier: str) -> str:
        return self.line(identifier) or ""

    def line(self, identifier: str) -> str | None:
        """The first value on one line, trimmed; None when empty or absent."""
        return Node(0, None, (), self.values, 0, 0).line_of_text(identifier)


def _before_moves(tree: Tree) -> list[Node]:
    nodes: list[Node] = []
    node = tree.nodes[0]
    while node.children and not node.moves:
        node = tree.nodes[node.children[0]]
        if not node.moves:
            nodes.append(node)
    return nodes


def _refused(tree: Tree, code: str, message: str, accepted: str) -> Unreadable:
    line, column = tree.place(tree.nodes[0])
    return Unreadable(code, message, accepted=accepted, line=line, column=column)


def _size(tree: Tree, properties: _Properties) -> tuple[int, int]:
    text = properties.line("SZ") or str(MAX_SIZE)
    dimensions = _dimensions(text)
    if dimensions is None:
        raise _refused(
            tree,
            "invalid_sgf",
            f"SZ[{text[:12]}] is not a board size",
            "SZ[19], or SZ[9:13] for 9 columns, 13 rows",
        )
    if not _fits(dimensions):
        raise _refused(
            tree,
            "invalid_board_size",
            f"the board has {dimensions[0]} columns and {dimensions[1]} rows",
            f"{MIN_SIZE} to {MAX_SIZE} columns and rows",
        )
    return dimensions


def _dimensions(text: str) -> tuple[int, int] | None:
    """Columns and rows of a value of SZ; None if it is not a size."""
    match = _SIZE.fullmatch(" ".join(arabic(text).split()))
    return match and (int(match[1]), int(match[2] or match[1]))


def _fits(dimensions: tuple[int, int] | None) -> bool:
    """Whether the board has a size that the engine supports."""
    return dimensions is not None and all(MIN_SIZE <= lines <= MAX_SIZE for lines in dimensions)


def _handicap(tree: Tree, properties: _Properties, is_of_fox: bool, warnings: Warnings) -> int:
    text = properties.line("HA") or "0"
    stones = _stones(text)
    if stones is None:
        warnings.add("handicap", f"HA[{text[:24]}] is not a number of stones: handicap 0 is assumed")
    elif not _STONES.fullmatch(text):
        warnings.add("handicap", f"HA[{text[:24]}] is read as handicap {stones}")
    if not stones and is_of_fox and (played := _black_before_white(tree)) > 1:
        warnings.add(
            "handicap", f"Black's first {played} moves are read as handicap stones, as Fox writes them"
        )
        return played
    return stones or 0


def _stones(text: str) -> int | None:
    """The only number of a value of HA; None if it has none or several, or the number is no count."""
    numbers = _NUMBER.findall(arabic(text))
    count = _STONES.fullmatch(numbers[0]) if len(numbers) == 1 else None
    return count and int(count[1])


def _black_before_white(tree: Tree) -> int:
    """The number of Black's moves before White's first move on the main line, up to 9."""
    node, count = tree.nodes[0], 0
    while node.children and count < 9:
        node = tree.nodes[node.children[0]]
        if "W" in node.properties:
            break
        count += "B" in node.properties
    return count


def _rules(text: str | None, warnings: Warnings) -> str | Rules:
    if text is None:
        warnings.add("rules", f"the record has no rules (RU): {DEFAULT_RULES} is assumed")
        return DEFAULT_RULES
    reading = read_rules(text)
    if reading is None:
        warnings.add("rules", f"RU[{text[:40]}] is not one of KataGo's rule sets: {DEFAULT_RULES} is assumed")
        return DEFAULT_RULES
    if not reading.certain:
        warnings.add("rules", f"RU[{text[:40]}] is read as {find(reading.rules)[0]}")
    return reading.rules


def _komi(
    text: str | None, handicap: int, default: float, is_of_fox: bool, warnings: Warnings
) -> float | None:
    if text is None:
        if handicap < 2:
            warnings.add("komi", f"the record has no komi (KM): {default:g} is assumed")
            return None
        warnings.add("komi", f"the handicap game has no komi (KM): {HANDICAP_KOMI:g} is assumed")
        return HANDICAP_KOMI
    komi, is_as_written = read_komi(text, is_of_fox)
    if komi is None:
        warnings.add("komi", f"KM[{text[:24]}] is not a komi: {default:g} is assumed")
    elif is_of_fox and handicap >= 2 and komi > HANDICAP_KOMI:
        warnings.add(
            "komi", f"KM[{text[:24]}] is Fox's value for handicap games too: {HANDICAP_KOMI:g} is assumed"
        )
        return HANDICAP_KOMI
    elif is_of_fox and handicap < 2 and komi == 0:
        warnings.add("komi", "Fox writes KM[0] in some even games: komi 0 is used, but may be wrong")
    elif not is_as_written:
        warnings.add("komi", f"KM[{text[:24]}] is read as {komi:g} points")
    if komi is not None and abs(komi) > PLAUSIBLE_KOMI:
        warnings.add("komi", unusual_komi(komi))
    return komi
