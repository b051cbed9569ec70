"""Writes a reviewed game as SGF, for a board program: comments, marks of mistakes, and better variations.

The record has one main line. Beside a mistake stands the better move with its continuation. Beside the move
after it stands the expected punishment [SGF FF[4], Move annotation properties].
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from katago_mcp import __version__
from katago_mcp.positions import Board, Checked, Colour, board_of, opponent_of, parse_vertex, vertex
from katago_mcp.review_answer import GameReview, MoveReview

_ANNOTATIONS = {"inaccuracy": "DO[]", "mistake": "BM[1]", "blunder": "BM[2]", "disaster": "BM[2]"}
_LETTERS = "abcdefghijklmnopqrs"


def write(histories: Sequence[Checked], review: GameReview, information: Mapping[str, str]) -> str:
    """The game as one SGF tree.

    `histories`: the game's moves; each history after the first starts from a new setup. `review`: with all
    reviewed moves. `information`: more properties of the root by name, such as PB and PW, as plain texts.
    """
    first = histories[0]
    root = {
        "FF": "4",
        "GM": "1",
        "CA": "UTF-8",
        "AP": f"katago-mcp:{__version__}",
        "SZ": str(first.width) if first.width == first.height else f"{first.width}:{first.height}",
        "KM": f"{first.komi:g}",
        "RU": first.rules_name,
        **information,
    }
    properties = "".join(f"{name}[{escaped(value)}]" for name, value in root.items())
    setup = _setup(Board(first.width, first.height), _start(first))
    reviewed = {move.number: move for move in review.moves}
    return f"(;{properties}{setup}C[{escaped(review.summary())}]{_line(histories, reviewed)})\n"


def escaped(text: str) -> str:
    """A text as the value of a property."""
    return text.replace("\\", "\\\\").replace("]", "\\]")


def _line(histories: Sequence[Checked], reviewed: Mapping[int, MoveReview]) -> str:
    """The main line, each mistake with its variations. Built from the end: a fork contains what follows."""
    steps = list(_steps(histories))
    following = ""
    for number, node, size in reversed(steps):
        move = None if number is None else reviewed.get(number)
        if move is None:
            following = f";{node}{following}"
            continue
        mark = _ANNOTATIONS.get(move.loss_class, "") if move.mistake else ""
        node = f";{node}{mark}C[{escaped(move.text())}]"
        if move.mistake and move.refutation and following:
            opponent = opponent_of(move.player)
            punishment = _variation(opponent, move.refutation, size, "Expected punishment")
            following = (
                f"({following})({punishment})"
                if not following.startswith("(")
                else f"{following}({punishment})"
            )
        following = node + following
        if move.mistake and move.better_pv:
            better = _variation(move.player, move.better_pv, size, "The engine's choice")
            following = f"({following})({better})"
    return following


def _steps(histories: Sequence[Checked]) -> Iterator[tuple[int | None, str, tuple[int, int]]]:
    """Every node of the main line: the number of its move, if it is one, its properties, the board's size."""
    number = 0
    for index, history in enumerate(histories):
        size = (history.width, history.height)
        if index:
            before = board_of(histories[index - 1])
            player = history.moves[0][0] if history.moves else "B"
            yield None, f"{_setup(before, _start(history))}PL[{player}]", size
        for colour, name in history.moves:
            number += 1
            yield number, f"{colour}[{_point(name, size)}]", size


def _start(history: Checked) -> Board:
    return board_of(replace(history, moves=history.moves[:0]))


def _setup(before: Board, after: Board) -> str:
    """The setup properties that lead from one board to another."""
    size = (after.width, after.height)
    points: dict[str, list[str]] = {"AE": [], "AB": [], "AW": []}
    for point in sorted(before.stones.keys() | after.stones.keys()):
        colour = after.stones.get(point)
        if colour != before.stones.get(point):
            points["AE" if colour is None else f"A{colour}"].append(_point(vertex(point), size))
    return "".join(
        name + "".join(f"[{value}]" for value in values) for name, values in points.items() if values
    )


def _variation(player: Colour, moves: Sequence[str], size: tuple[int, int], title: str) -> str:
    nodes = []
    for name in moves:
        nodes.append(f";{player}[{_point(name, size)}]")
        player = opponent_of(player)
    return f"{nodes[0]}N[{escaped(title)}]{''.join(nodes[1:])}"


def _point(name: str, size: tuple[int, int]) -> str:
    """A vertex in SGF's coordinates, from the top left; empty for a pass."""
    point = parse_vertex(name, *size)
    return "" if point is None else _LETTERS[point[0]] + _LETTERS[size[1] - 1 - point[1]]
