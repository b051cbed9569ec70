"""Validation of positions: accepted ones, and errors about others."""

import re
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katago_mcp.errors import Invalid
from katago_mcp.positions import (
    COLUMNS,
    Board,
    Checked,
    Colour,
    IllegalMove,
    Position,
    check,
    parse_vertex,
    vertex,
)
from katago_mcp.rules import Ko, Rules

KO = [("B", "B1"), ("W", "C1"), ("B", "A2"), ("W", "D2"), ("B", "B3"), ("W", "C3")]
"""Stones around B2 and C2: after B C2 and W B2, Black's stone is captured and C2 is a ko."""


def checked(**fields: Any) -> Checked:
    return check(Position(**fields))


def refused(**fields: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        checked(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "code", "field", "expected"),
    [
        ({"moves": [("B", "Z99")]}, "invalid_move", "position.moves[0]", "Z99"),
        ({"moves": [("B", "I5")]}, "invalid_move", "position.moves[0]", "letter I"),
        ({"moves": [("B", "pd")]}, "invalid_move", "position.moves[0]", "not a vertex"),
        ({"moves": [("B", "")]}, "invalid_move", "position.moves[0]", "not a vertex"),
        ({"moves": [("B", "D²")]}, "invalid_move", "position.moves[0]", "not a vertex"),
        ({"moves": [("B", "K5")], "board_x_size": 9}, "invalid_move", "position.moves[0]", "off"),
        ({"moves": [("B", "A10")], "board_y_size": 9}, "invalid_move", "position.moves[0]", "off"),
        ({"moves": [("X", "A1")]}, "invalid_move", "position.moves[0]", "colour"),
        (
            {"moves": [("B", "Q4"), ("W", "Q4")]},
            "illegal_move",
            "position.moves[1]",
            "move 2 (W Q4): the point is occupied",
        ),
        (
            {"moves": [("W", "A2"), ("W", "B1"), ("B", "A1")]},
            "illegal_move",
            "position.moves[2]",
            "suicide",
        ),
        (
            {"moves": [*KO, ("B", "C2"), ("W", "B2"), ("B", "C2")]},
            "illegal_move",
            "position.moves[8]",
            "ko",
        ),
        ({"rules": "go!"}, "invalid_rules", "position.rules", "unknown"),
        ({"board_x_size": 20}, "invalid_board_size", "position.boardXSize", "20"),
        ({"board_y_size": 1}, "invalid_board_size", "position.boardYSize", "1"),
        ({"komi": 6.25}, "invalid_komi", "position.komi", "6.25"),
        ({"komi": 1000}, "invalid_komi", "position.komi", "1000"),
        ({"komi": float("nan")}, "invalid_komi", "position.komi", "nan"),
        ({"komi": float("inf")}, "invalid_komi", "position.komi", "inf"),
        ({"moves": [("B", "pass")] * 2001}, "too_many_moves", "position.moves", "2001"),
        (
            {"initial_stones": [("B", "D4"), ("W", "d4")]},
            "invalid_stone",
            "position.initialStones[1]",
            "twice",
        ),
        (
            {"initial_stones": [("B", "A1"), ("W", "A2"), ("W", "B1")]},
            "invalid_stone",
            "position.initialStones[0]",
            "no liberty",
        ),
        ({"initial_stones": [("B", "pass")]}, "invalid_stone", "position.initialStones[0]", "point"),
    ],
)
def test_invalid_position_is_rejected_with_code_and_field(
    fields: dict[str, Any], code: str, field: str, expected: str
) -> None:
    failure = refused(**fields)
    assert (failure.code, failure.field) == (code, field)
    assert expected in failure.message
    assert failure.accepted


@pytest.mark.parametrize("komi", [float("nan"), float("inf"), float("-inf")])
def test_nan_komi_is_rejected_even_after_a_position_without_komi_was_cached(komi: float) -> None:
    assert checked(board_x_size=13).komi == 7.5
    assert refused(board_x_size=13, komi=komi).code == "invalid_komi"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"rules": "\ud800"}, "invalid_rules"),
        ({"moves": [("B", "\udfff")]}, "invalid_move"),
        ({"moves": [("\ud800", "D4")]}, "invalid_move"),
        ({"initial_stones": [("B", "D\ud800")]}, "invalid_stone"),
    ],
)
def test_text_with_lone_surrogates_is_rejected(fields: dict[str, Any], code: str) -> None:
    failure = refused(**fields)
    assert failure.code == code
    assert str(failure).encode()


def test_stones_without_liberties_are_found_after_stones_with_liberties() -> None:
    stones = [("B", "D4"), ("B", "D5"), ("B", "A1"), ("W", "A2"), ("W", "B1"), ("W", "B2")]
    assert refused(initial_stones=stones).field == "position.initialStones[2]"


def test_the_same_colour_twice_is_accepted_with_a_warning() -> None:
    position = checked(moves=[("B", "D4"), ("B", "Q16")])
    assert position.warnings == ("move 2: B plays twice in a row",)


def test_a_move_after_two_passes_is_accepted_with_a_warning() -> None:
    position = checked(moves=[("B", "pass"), ("W", "pass"), ("B", "D4")])
    assert position.warnings == ("move 3 comes after two passes, which end the game",)


def test_many_warnings_are_shortened() -> None:
    warnings = checked(moves=[("B", "pass")] * 50).warnings
    assert len(warnings) == 6
    assert "more of this kind" in warnings[-1]


def test_an_empty_position_is_a_position() -> None:
    position = checked()
    assert (position.moves, position.initial_player, position.komi) == ((), "B", 7.5)


def test_spelling_does_not_matter() -> None:
    one = checked(rules="Japanese", moves=[("black", "d4"), ("w", " Pass ")])
    assert one == checked(rules="japanese", moves=[("B", "D4"), ("W", "pass")])


@pytest.mark.parametrize(
    ("rules", "komi"), [("chinese", 7.5), ("japanese", 6.5), ("korean", 6.5), ("aga-button", 7)]
)
def test_komi_follows_from_the_rules(rules: str, komi: float) -> None:
    assert checked(rules=rules).komi == komi


@pytest.mark.parametrize(
    ("fields", "player"),
    [
        ({"moves": [("W", "D4")]}, "W"),
        ({"initial_stones": [("B", "D4"), ("B", "Q16")]}, "W"),
        ({"initial_stones": [("B", "D4"), ("W", "Q16")]}, "B"),
        ({"initial_stones": [("B", "D4")], "initial_player": "B"}, "B"),
    ],
)
def test_who_moves_first_is_always_decided(fields: dict[str, Any], player: str) -> None:
    assert checked(**fields).initial_player == player


def test_a_ko_may_be_retaken_after_an_exchange() -> None:
    moves = [*KO, ("B", "C2"), ("W", "B2"), ("B", "Q16"), ("W", "Q4"), ("B", "C2")]
    assert len(checked(moves=moves).moves) == len(moves)


@pytest.mark.parametrize(
    ("rules", "legal"), [("chinese", False), ("japanese", False), ("tromp-taylor", True)]
)
def test_suicide_of_several_stones_depends_on_the_rules(rules: str, legal: bool) -> None:
    stones = [("W", "A3"), ("W", "B2"), ("W", "C1"), ("B", "A1"), ("B", "B1")]
    moves = [("B", "A2")]
    if legal:
        assert checked(rules=rules, initial_stones=stones, moves=[*moves, ("B", "A1")]).moves
    else:
        assert refused(rules=rules, initial_stones=stones, moves=moves).code == "illegal_move"


def test_suicide_of_one_stone_is_never_legal() -> None:
    moves = [("W", "A2"), ("W", "B1"), ("B", "A1")]
    assert refused(rules="tromp-taylor", moves=moves).code == "illegal_move"


TWO_KOS = [
    *(("B", point) for point in ("B1", "A2", "B3", "F1", "E2", "F3")),
    *(("W", point) for point in ("C1", "D2", "C3", "G1", "H2", "G3")),
    *(("W", "B2"), ("B", "G2")),
]
"""Two separate kos: Black can capture at C2, White at F2."""

CYCLE = [("B", "C2"), ("W", "F2"), ("B", "pass"), ("W", "B2"), ("B", "G2")]
"""Both kos are captured and recaptured."""


@pytest.mark.parametrize("rules", ["chinese-ogs", "tromp-taylor"])
def test_repeated_position_is_illegal_under_positional_superko(rules: str) -> None:
    failure = refused(rules=rules, initial_stones=TWO_KOS, moves=CYCLE)
    assert (failure.code, failure.field) == ("illegal_move", "position.moves[4]")
    assert failure.message == "move 5 (B G2): it repeats the position before move 1"


def test_message_names_the_move_of_the_first_occurrence() -> None:
    moves = [("B", "J9"), ("W", "J1"), *CYCLE]
    failure = refused(
        rules="chinese-ogs", board_x_size=9, board_y_size=9, initial_stones=TWO_KOS, moves=moves
    )
    assert failure.message == "move 7 (B G2): it repeats the position after move 2 (W J1)"


@pytest.mark.parametrize("rules", ["aga", "new-zealand"])
def test_repetition_with_the_other_player_to_move_is_legal_under_situational_superko(rules: str) -> None:
    # Black moved first, and the pass changed whose turn it is.
    assert checked(rules=rules, initial_stones=TWO_KOS, moves=CYCLE).moves
    twice = [*CYCLE, ("W", "pass"), *CYCLE[:-1]]
    assert refused(rules=rules, initial_stones=TWO_KOS, moves=[*twice, ("B", "G2")]).field is not None


@pytest.mark.parametrize("rules", ["chinese", "japanese"])
def test_repetition_is_legal_under_simple_ko(rules: str) -> None:
    assert checked(rules=rules, initial_stones=TWO_KOS, moves=[*CYCLE, ("W", "pass"), *CYCLE]).moves


def test_capture_is_not_suicide_and_frees_the_points() -> None:
    moves = [("W", "A1"), ("B", "B1"), ("B", "A2"), ("W", "A1")]
    # Black captured A1 with A2, so A1 would be suicide for White.
    assert refused(moves=moves).message.endswith("it is suicide")
    assert checked(moves=[*moves[:3], ("B", "A1")])


points = st.tuples(st.integers(0, 18), st.integers(0, 18))


@given(points)
def test_vertices_are_read_as_they_are_written(point: tuple[int, int]) -> None:
    assert parse_vertex(vertex(point).lower(), 19, 19) == point


@given(st.text(max_size=6), st.integers(2, 19), st.integers(2, 19))
def test_any_text_is_a_vertex_or_is_rejected(text: str, width: int, height: int) -> None:
    try:
        point = parse_vertex(text, width, height)
    except ValueError:
        return
    assert point is None or (0 <= point[0] < width and 0 <= point[1] < height)


colours: st.SearchStrategy[Colour] = st.sampled_from(["B", "W"])


@given(
    st.integers(2, 5).flatmap(
        lambda size: st.tuples(
            st.just(size),
            st.booleans(),
            st.lists(
                st.tuples(
                    colours,
                    st.none() | st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)),
                ),
                max_size=80,
            ),
        )
    )
)
def test_after_any_moves_every_group_has_a_liberty(
    game: tuple[int, bool, list[tuple[Colour, tuple[int, int] | None]]],
) -> None:
    size, suicide, moves = game
    board = Board(size, size, suicide=suicide)
    for colour, point in moves:
        before = dict(board.stones)
        try:
            board.play(colour, point)
        except IllegalMove:
            assert board.stones == before
        for stone in board.stones:
            assert board.group(stone)[1]


Game = list[tuple[Colour, tuple[int, int] | None]]


def naive(size: int, rules: Rules, moves: Game) -> tuple[list[bool], set[tuple[Colour, tuple[int, int]]]]:
    """A naive implementation of the rules: which moves are legal, and the remaining stones."""
    stones: dict[tuple[int, int], Colour] = {}
    past: list[tuple[dict[tuple[int, int], Colour], Colour]] = []
    before: dict[tuple[int, int], Colour] | None = None
    verdicts = []

    def breathless(board: dict[tuple[int, int], Colour], colour: Colour) -> list[tuple[int, int]]:
        alive: set[tuple[int, int]] = set()
        for _ in board:
            for (x, y), owner in board.items():
                beside = {(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)}
                on_board = {p for p in beside if 0 <= p[0] < size and 0 <= p[1] < size}
                if owner == colour and (on_board - board.keys() or beside & alive):
                    alive.add((x, y))
        return [point for point, owner in board.items() if owner == colour and point not in alive]

    for colour, point in moves:
        opponent: Colour = "W" if colour == "B" else "B"
        if not past:
            past.append((dict(stones), colour))
        after = dict(stones)
        legal = point is None or point not in stones
        if point is not None and legal:
            after[point] = colour
            for taken in breathless(after, opponent):
                del after[taken]
            own = breathless(after, colour)
            legal = not own or (rules.suicide and len(own) > 1)
            for taken in own:
                del after[taken]
            # A ko: one stone captures one stone, and the position is the same as two moves ago.
            if (after, colour) == (before, past[-1][1]) and len(stones) == len(after):
                legal = False
            if rules.ko == "POSITIONAL":
                legal = legal and all(after != board for board, _ in past)
            if rules.ko == "SITUATIONAL":
                legal = legal and (after, opponent) not in past
        verdicts.append(legal)
        if legal:
            before = stones if point is not None else None
            stones = after
            past.append((dict(stones), opponent))
    return verdicts, {(owner, point) for point, owner in stones.items()}


@settings(max_examples=200)
@given(st.data(), st.integers(2, 3), st.sampled_from(get_args(Ko)), st.booleans())
def test_legality_agrees_with_a_naive_implementation(
    data: st.DataObject, size: int, ko: Ko, suicide: bool
) -> None:
    rules = Rules(ko=ko, suicide=suicide)
    point = st.none() | st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    moves: Game = data.draw(st.lists(st.tuples(colours, point), max_size=60))
    board = Board(size, size, rules.suicide, rules.ko)
    verdicts = []
    for colour, move in moves:
        refusal = board.refusal(colour, move)
        verdicts.append(refusal is None)
        if refusal is None:
            board.play(colour, move)
        else:
            with pytest.raises(IllegalMove, match=re.escape(refusal)):
                board.play(colour, move)
    assert (verdicts, {(owner, at) for at, owner in board.stones.items()}) == naive(size, rules, moves)


def test_there_is_no_column_i() -> None:
    assert "I" not in COLUMNS
    assert len(COLUMNS) == 19


def test_checked_position_is_remembered() -> None:
    moves = [("B", "E5"), ("W", "C3")]
    first = checked(moves=moves)
    assert checked(moves=moves) is first
    assert checked(moves=moves, komi=0.5) != first
    assert refused(moves=[*moves, ("B", "C3")]).code == refused(moves=[*moves, ("B", "C3")]).code


def test_only_recently_checked_positions_are_remembered() -> None:
    first = checked(komi=0.5)
    for komi in range(100):
        checked(komi=komi)
    assert checked(komi=0.5) is not first
