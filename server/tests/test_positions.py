"""Which positions reach the engine, and what is said about the others."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katago_mcp.errors import Invalid
from katago_mcp.positions import (
    COLUMNS,
    RULES,
    Board,
    Checked,
    Colour,
    IllegalMove,
    Position,
    check,
    parse_vertex,
    vertex,
)

KO = [("B", "B1"), ("W", "C1"), ("B", "A2"), ("W", "D2"), ("B", "B3"), ("W", "C3")]
"""Around B2 and C2: after B C2 and W B2 Black's stone is taken, and C2 is a ko."""


def checked(**fields: Any) -> Checked:
    return check(Position(**fields))


def refused(**fields: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        checked(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "code", "field", "said"),
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
            "move 1 (W Q4): the point is occupied",
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
        ({"rules": "go!"}, "invalid_rules", "position.rules", "not known"),
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
def test_what_the_engine_must_not_see_is_refused_by_name(
    fields: dict[str, Any], code: str, field: str, said: str
) -> None:
    failure = refused(**fields)
    assert (failure.code, failure.field) == (code, field)
    assert said in failure.message
    assert failure.accepted


def test_the_same_colour_twice_is_accepted_with_a_warning() -> None:
    position = checked(moves=[("B", "D4"), ("B", "Q16")])
    assert position.warnings == ("move 1 is by B again",)


def test_a_move_after_two_passes_is_accepted_with_a_warning() -> None:
    position = checked(moves=[("B", "pass"), ("W", "pass"), ("B", "D4")])
    assert position.warnings == ("move 2 comes after two passes, when the game was over",)


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


@pytest.mark.parametrize(("rules", "komi"), RULES.items())
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
    moves = [("W", "A3"), ("W", "B2"), ("W", "C1"), ("B", "A1"), ("B", "B1"), ("B", "A2")]
    if legal:
        assert checked(rules=rules, moves=[*moves, ("B", "A1")]).moves
    else:
        assert refused(rules=rules, moves=moves).code == "illegal_move"


def test_suicide_of_one_stone_is_never_legal() -> None:
    moves = [("W", "A2"), ("W", "B1"), ("B", "A1")]
    assert refused(rules="tromp-taylor", moves=moves).code == "illegal_move"


def test_a_capture_is_no_suicide_and_frees_the_points() -> None:
    moves = [("W", "A1"), ("B", "B1"), ("B", "A2"), ("W", "A1")]
    # Black took A1 with A2, so White may not play there: it would be suicide.
    assert refused(moves=moves).message.endswith("it is suicide")
    assert checked(moves=[*moves[:3], ("B", "A1")])


points = st.tuples(st.integers(0, 18), st.integers(0, 18))


@given(points)
def test_vertices_are_read_as_they_are_written(point: tuple[int, int]) -> None:
    assert parse_vertex(vertex(point).lower(), 19, 19) == point


@given(st.text(max_size=6), st.integers(2, 19), st.integers(2, 19))
def test_any_text_is_a_vertex_or_is_refused(text: str, width: int, height: int) -> None:
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


def test_there_is_no_column_i() -> None:
    assert "I" not in COLUMNS
    assert len(COLUMNS) == 19


def test_what_was_checked_before_is_not_checked_again() -> None:
    moves = [("B", "E5"), ("W", "C3")]
    first = checked(moves=moves)
    assert checked(moves=moves) is first
    assert checked(moves=moves, komi=0.5) != first
    assert refused(moves=[*moves, ("B", "C3")]).code == refused(moves=[*moves, ("B", "C3")]).code


def test_only_what_was_checked_lately_is_remembered() -> None:
    first = checked(komi=0.5)
    for komi in range(100):
        checked(komi=komi)
    assert checked(komi=0.5) is not first
