"""Game records: the games, lines and positions of an SGF file.

A line is the path from the root to a leaf. Its name is a list of branches: "main" takes the first branch
at every fork; "2" takes the second branch at the first fork and the first after it; "1.2.1" takes the
second branch at the second fork. "#57" is the line through node 57. Source: SGF FF[4], Go-specific
properties.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from katago_mcp.charsets import decode
from katago_mcp.errors import Invalid
from katago_mcp.gameinfo import Information, Player, read_information
from katago_mcp.lines import Line, Move, moves_of, play, vertex_of
from katago_mcp.positions import Position
from katago_mcp.sgftree import DAMAGE, Limits, Node, Source, Tree, Unreadable, Warnings, parse, parse_all

__all__ = ["Limits", "Line", "Move", "Player", "Record", "Unreadable", "Variation", "read", "read_all"]

MAIN = "main"

_NAME = re.compile(r"\d{1,6}(?:\.\d{1,6})*")


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
class Record(Information):
    """A game record.

    `rules` is KataGo's name for `rules_text` (RU), or the parts of rules without a name. `komi` is in points
    of area for White, a multiple of 0.5, or None if the record has none. `handicap` is HA, 0 without HA.
    `result` (RE), `date` (DT), `event` (EV) and `application` (AP) are as written. `warnings` lists
    assumptions.
    """

    tree: Tree
    charset: str
    warnings: tuple[str, ...]

    @property
    def partial(self) -> bool:
        """Whether something in the record could not be read; `warnings` name it."""
        return bool(self.tree.damage)

    @property
    def losses(self) -> tuple[str, ...]:
        """What could not be read, and where."""
        return self.tree.warnings.texts(DAMAGE)

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
        name = variation.strip() or MAIN
        return play(self, name, tuple(self._walk(name)))

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
            move = next(moves_of(node), None)
            point = move and vertex_of(move[1], self.width, self.height)
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


def read(data: bytes | str, limits: Limits | None = None, number: int | None = None) -> Record:
    """Read a game record.

    Bytes are decoded as described in `katago_mcp.charsets`; text is used unchanged. Of several games,
    `number` (from 1) is read, by default the first. Boards have 2 to 19 lines. Komi in another unit, such as
    hundredths (KM[650]) or stones of two points each (KM[375], KM[3.75], 3.75子), is converted to points and
    rounded to half-integers, with a warning. A handicap game without komi, or with Fox's KM[375], has 0.5.
    What is not SGF is left out, with a warning; then the record is `partial`.

    Raises:
        Unreadable: with line and column: `invalid_sgf`, `limit_exceeded`, `invalid_board_size`.
        Invalid: `invalid_game_number`, if the file has fewer games.
    """
    limits = limits or Limits()
    source, charset, doubt = _source(data, limits)
    tree = parse(source, limits, 1 if number is None else number)
    warnings = Warnings()
    if doubt:
        warnings.add("the file", doubt)
    if number is None and tree.games > 1:
        warnings.add(
            "the file", f"the file contains several games ({games_in(tree)}): only the first was read"
        )
    return _record(tree, charset, warnings)


def read_all(data: bytes | str, limits: Limits | None = None) -> list[Record | Invalid]:
    """Read all games of a file, up to the limit of nodes; for a game that cannot be read, the reason.

    Raises:
        Unreadable: as `read` does, if there is no game or the first exceeds a limit.
    """
    limits = limits or Limits()
    source, charset, _ = _source(data, limits)
    games: list[Record | Invalid] = []
    for tree in parse_all(source, limits):
        try:
            games.append(_record(tree, charset, Warnings()))
        except Invalid as reason:
            games.append(reason)
    return games


def games_in(tree: Tree) -> str:
    """The number of games in the file, as text."""
    return f"at least {tree.games}" if tree.more_games else str(tree.games)


def _record(tree: Tree, charset: str, warnings: Warnings) -> Record:
    warnings.include(tree.warnings)
    information = read_information(tree, warnings)
    return Record(**vars(information), tree=tree, charset=charset, warnings=warnings.texts())


def _source(data: bytes | str, limits: Limits) -> tuple[Source, str, str | None]:
    """The text of a file, its charset, and a warning about it."""
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
    if isinstance(data, str):
        return Source(re.sub("[\ud800-\udfff]", "\ufffd", data)), "text", None
    decoded = decode(data)
    if decoded.ambiguous is not None:
        return Source(decoded.data.decode("latin-1"), decoded.ambiguous), decoded.charset, decoded.warning
    return Source(re.sub("[\ud800-\udfff]", "\ufffd", decoded.text)), decoded.charset, decoded.warning


def _no_variation(message: str, accepted: str) -> Invalid:
    return Invalid("invalid_variation", message, field="variation", accepted=accepted)
