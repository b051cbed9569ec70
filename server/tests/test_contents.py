"""Games of a collection, and what a record says about them."""

import pytest

from katago_mcp.contents import read_contents
from katago_mcp.errors import Invalid
from katago_mcp.sgf import read

FILE = (
    "(;SZ[9]KM[7]RU[Chinese]PB[One];B[aa])\n"
    "(;SZ[13]KM[6.5]RU[Japanese]PB[Two]BR[5d]PW[Three]RE[W+R]DT[2024-01-02];B[bb](;W[cc])(;W[dd]C[why not]))"
)


def test_a_game_is_chosen_by_its_number() -> None:
    record = read(FILE, number=2)
    assert (record.black.name, record.width, record.warnings) == ("Two", 13, ())


@pytest.mark.parametrize("number", [-1, 0, 3])
def test_missing_games_are_rejected(number: int) -> None:
    with pytest.raises(Invalid) as caught:
        read(FILE, number=number)
    assert (caught.value.code, caught.value.field) == ("invalid_game_number", "gameNumber")
    assert "1 to 2" in str(caught.value.accepted)


def test_games_and_variations_are_listed() -> None:
    contents = read_contents(FILE, 2)
    assert (contents.game.number, contents.game.games, contents.game.black) == (2, 2, "Two")
    assert [(game.number, game.title, game.moves) for game in contents.game_list] == [
        (1, "One - ?", 1),
        (2, "Two 5d - Three, W+R, 2024-01-02", 2),
    ]
    (variation,) = contents.variation_list
    assert (variation.variation, variation.after_move, variation.first_move) == ("2", 1, "W D10")
    assert variation.comment == "why not"


def test_text_says_the_same() -> None:
    text = read_contents(FILE, 2).summary()
    assert "Game 2 of 2: Two 5d (Black) - Three (White), result W+R, 2024-01-02, komi 6.5" in text
    assert "1: One - ?, 1" in text
    assert "2: 1, W D10, 1: why not" in text


def test_the_first_game_is_read_by_default_with_a_warning() -> None:
    contents = read_contents(FILE)
    assert contents.game.black == "One"
    assert any("several games (2)" in warning for warning in contents.warnings)


def test_a_game_that_cannot_be_read_is_listed_with_the_reason() -> None:
    contents = read_contents("(;SZ[9]PB[One];B[aa])(;SZ[52];B[aa])")
    assert "52 columns" in contents.game_list[1].title


def test_damage_in_one_game_leaves_the_others() -> None:
    file = "(;SZ[9]PB[One];B[aa]C[see [1] here])(;SZ[9]PB[Two];B[bb])"
    assert read(file).partial
    second = read(file, number=2)
    assert not second.partial
    assert [move.vertex for move in second.main.moves] == ["B8"]


def test_long_texts_are_shortened() -> None:
    long = f"(;SZ[9]PB[{'x' * 5000}]C[{'y' * 5000}];B[aa](;W[bb])(;W[cc]C[{'z' * 5000}]))"
    assert len(read_contents(long).model_dump_json()) < 3000


def test_a_line_that_ends_early_makes_the_contents_partial() -> None:
    contents = read_contents("(;SZ[9]KM[7]RU[Chinese];B[aa];W[aa])")
    assert contents.partial
    assert any("only up to move 1" in warning for warning in contents.warnings)
