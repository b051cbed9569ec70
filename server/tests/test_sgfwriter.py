"""The reviewed game as SGF."""

from typing import Any

import pytest

from katago_mcp import sgf
from katago_mcp.positions import Position, check
from katago_mcp.review import ReviewRequest, find_mistakes
from katago_mcp.sgfwriter import escaped, write
from rig import rig
from support import Site

MOVES = [("B", "A1"), ("W", "C3"), ("B", "D4"), ("W", "pass"), ("B", "E5")]
LEADS = [0.0, 0.0, 4.0, -3.0, -2.0, -9.0]


async def reviewed(site: Site, *positions: Position, **information: str) -> str:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=LEADS)
        request = ReviewRequest(positions[0], positions[1:], max_visits=10, all_moves=True)
        result = await find_mistakes(made.analyst, request)
    return write([check(each) for each in positions], result, information)


def game(moves: list[tuple[str, str]] = MOVES, **fields: Any) -> Position:
    return Position(board_x_size=6, board_y_size=5, moves=moves, rules="japanese", komi=6.5, **fields)


@pytest.mark.anyio
async def test_main_line_is_the_game(site: Site) -> None:
    text = await reviewed(site, game(), PB="A [strong\\] player", PW="名人")
    line = sgf.read(text).main
    position = line.position()
    assert position.moves == MOVES
    assert (position.board_x_size, position.board_y_size, position.komi) == (6, 5, 6.5)
    assert position.rules == "japanese"
    assert line.warnings == ()
    root = sgf.read(text).nodes[0]
    assert root.text("PB") == "A [strong\\] player"
    assert root.text("PW") == "名人"
    assert "White is ahead by 9.0 points" in (root.text("C") or "")


@pytest.mark.anyio
async def test_mistakes_have_a_mark_a_comment_and_variations(site: Site) -> None:
    text = await reviewed(site, game())
    assert ";W[cc]BM[1]C[2. W C3 (mistake, mistake): loses 4.0 points" in text
    assert ";B[db]BM[2]C[3. B D4 (mistake, blunder): loses 7.0 points" in text
    assert "N[The engine's choice]" in text
    assert "N[Expected punishment]" in text
    # A1 is the engine's choice, and the pass loses one point.
    assert ";B[ae]C[1. B A1 (excellent)" in text
    assert ";W[]C[4. W pass (good)" in text


@pytest.mark.anyio
async def test_setup_in_mid_game_is_written(site: Site) -> None:
    later = game([("W", "E5")], initial_stones=[("B", "B2"), ("W", "C3")], initial_player="W")
    text = await reviewed(site, game(MOVES[:2], initial_stones=[("W", "F5")]), later)
    assert "AW[fa]" in text
    whole = sgf.read(text).main.histories()
    assert [position.moves for position in whole] == [MOVES[:2], [("W", "E5")]]
    assert sorted(whole[1].initial_stones) == [("B", "B2"), ("W", "C3")]


def test_brackets_and_backslashes_are_escaped() -> None:
    assert escaped("a]b\\c[") == "a\\]b\\\\c["
