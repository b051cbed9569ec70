"""What an analysis answers: symmetric moves together, and a text that is enough alone."""

from typing import Any

import pytest

from katago_mcp.analysis import PositionAnalysis, Request, by_symmetry, grid
from katago_mcp.explanation import ExplanationRequest, explain_move
from katago_mcp.positions import Position
from rig import Rig, rig
from support import Site

CORNERS = [
    {"move": "D16", "order": 1, "isSymmetryOf": "Q16"},
    {"move": "Q16", "order": 0},
    {"move": "D4", "order": 2, "isSymmetryOf": "Q16"},
    {"move": "K10", "order": 4},
    {"move": "Q4", "order": 3, "isSymmetryOf": "Q16"},
]


def test_symmetric_moves_are_one_candidate_that_names_the_others() -> None:
    classes = [[info["move"] for info in members] for members in by_symmetry(CORNERS)]
    assert classes == [["Q16", "D16", "D4", "Q4"], ["K10"]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_searched_move_stands_first_even_if_its_image_has_the_better_rank(order: tuple[int, int]) -> None:
    infos = [{"move": "C3", "order": order[0]}, {"move": "C7", "order": order[1], "isSymmetryOf": "C3"}]
    assert [[info["move"] for info in members] for members in by_symmetry(infos)] == [["C3", "C7"]]


def test_moves_without_symmetry_stay_apart() -> None:
    infos = [{"move": "C3", "order": 1}, {"move": "C7", "order": 0}]
    assert [[info["move"] for info in members] for members in by_symmetry(infos)] == [["C7"], ["C3"]]
    assert by_symmetry([]) == []


def test_grid_has_coordinates_and_aligned_cells() -> None:
    assert grid(["1", "-100", ".", "5", "66", "7"], 3) == [
        " 2    1 -100    .",
        " 1    5   66    7",
        "      A    B    C",
    ]


async def analyze(made: Rig, **fields: Any) -> PositionAnalysis:
    position = Position(board_x_size=5, board_y_size=4, moves=[("B", "A1")], rules="japanese", komi=6.5)
    return await made.analyst.analyze(Request(position, max_visits=20, **fields))


@pytest.mark.anyio
async def test_text_names_rules_and_komi_and_has_what_was_asked_for(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        plain = await analyze(made, pv_length=3)
        full = await analyze(
            made, include_policy=True, include_ownership=True, include_moves_ownership=True, pv_length=30
        )
    assert plain.text() == plain.summary()
    assert "Rules japanese, komi 6.5." in plain.summary()
    short, _, details = full.text().partition("\n\n")
    assert short == full.summary()
    assert "Network's probability in percent, . where illegal; pass " in details
    assert "Ownership in percent, 100 is Black's, -100 White's:" in details
    for move in full.moves:
        assert f"Ownership after {move.move}:" in details
    rows = details.partition("Ownership in percent")[2].splitlines()[1:6]
    assert [row.split()[0] for row in rows] == ["4", "3", "2", "1", "A"]
    assert all(len(row.split()) == 6 for row in rows[:4])


@pytest.mark.anyio
async def test_explanation_has_every_alternative_in_the_text(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        request = ExplanationRequest(Position(board_x_size=5, board_y_size=5), "C3", max_visits=10)
        result = await explain_move(made.analyst, request)
    assert f"Rules {result.rules}, komi 7.5." in result.summary()
    _, _, details = result.text().partition("\n\n")
    assert f"Expected play after C3: {' '.join(result.continuation)}" in details
    for other in result.alternatives:
        assert f"Instead {other.move}: " in details
        assert f"pv {' '.join(other.pv)}" in details
