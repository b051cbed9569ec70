"""Whose turn it is in a record, and the numbers of its moves."""

import pytest

from katago_mcp.positions import board_of, check, opponent_of, to_move
from katago_mcp.sgf import read


@pytest.mark.parametrize(
    ("moves", "number", "player"),
    [
        (";B[pd];B[dd];W[dp];B[pp]", 1, "B"),
        (";B[pd];B[dd];W[dp];B[pp]", 2, "W"),
        (";B[pd];W[dd];W[dp];B[pp]", 2, "W"),
        (";B[pd];W[dd];W[dp];B[pp]", 3, "B"),
        (";B[pd];W[dd];W[];W[pp]", 3, "W"),
        (";B[pd];W[];W[pp]", 2, "W"),
        (";B[];B[pd];W[pp]", 1, "B"),
        (";B[pd];W[dd];W[dd]", 2, "W"),
        ("AB[dd];B[pd];B[pp]", 1, "B"),
    ],
)
def test_the_player_who_moves_next_in_the_record_is_to_move(moves: str, number: int, player: str) -> None:
    checked = check(read(f"(;SZ[19]RU[Chinese]KM[0]{moves})").position(number))
    assert to_move(checked) == player
    assert checked.number == number == len(checked.moves)
    query = checked.query()
    sent = query["moves"]
    assert (opponent_of(sent[-1][0]) if sent else query["initialPlayer"]) == player
    assert [move for _, move in sent[-2:]] != ["pass", "pass"]


def test_captures_and_history_stay_when_a_player_moves_twice() -> None:
    record = read("(;SZ[9]RU[Japanese]KM[6.5];B[aa];W[ab];B[ee];W[ba];W[gg])")
    checked = check(record.position(4))
    assert board_of(checked).prisoners == 1
    assert checked.query()["moves"] == (*checked.moves, ("B", "pass"))


def test_answers_about_other_turns_are_not_shared() -> None:
    record = read("(;SZ[9]RU[Chinese]KM[0];B[ee];B[cc];W[gg])")
    setup = read("(;SZ[9]RU[Chinese]KM[0]AB[ee];B[cc])")
    first, placed = check(record.position(1)), check(setup.position(0))
    assert first.query() == placed.query()
    assert first.digest != placed.digest


def test_moves_after_a_setup_keep_their_numbers() -> None:
    checked = check(read("(;SZ[9]KM[7];B[aa];W[bb];AB[ee];B[cc];B[dd])").position())
    assert checked.number == 4
    assert checked.warnings == ("move 4: B plays twice in a row",)
