"""Pictures of boards and games, checked pixel by pixel."""

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from katago_mcp.drawing import Rgb
from katago_mcp.graphs import CLOSE, GraphMistake, GraphPicture, GraphPoint, graph
from katago_mcp.pictures import (
    MAX_CELL,
    MIN_CELL,
    WOOD,
    BoardPicture,
    Candidate,
    Numbered,
    board,
)
from katago_mcp.positions import vertex
from support import expect_linear_time

GAME = tuple(GraphPoint(move, move - 20.0, move / 40) for move in range(41))


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data), formats=["PNG"])
    image.load()
    return image


def at(image: Image.Image, place: tuple[int, int] | None) -> Rgb:
    assert place is not None
    pixel = image.getpixel(place)
    assert isinstance(pixel, tuple)
    red, green, blue = pixel
    return int(red), int(green), int(blue)


def colour_at(picture: BoardPicture, name: str, right: float = 0, down: float = 0) -> Rgb:
    """The colour at a vertex, or at an offset in cells from it."""
    place = picture.point(name)
    assert place is not None
    shifted = (place[0] + round(right * picture.cell), place[1] + round(down * picture.cell))
    return at(opened(board(picture)), shifted)


def is_dark(colour: Rgb) -> bool:
    return max(colour) < 110


def is_light(colour: Rgb) -> bool:
    return min(colour) > 195


def colours(image: Image.Image) -> set[Rgb]:
    return {at(image, (x, y)) for x in range(image.width) for y in range(image.height)}


class TestBoard:
    @pytest.mark.parametrize(("width", "height"), [(2, 2), (9, 9), (9, 13), (19, 2), (19, 19)])
    @pytest.mark.parametrize("cell", [MIN_CELL, 40, MAX_CELL])
    def test_has_the_announced_size(self, width: int, height: int, cell: int) -> None:
        picture = BoardPicture(width, height, cell=cell)
        image = opened(board(picture))
        assert image.size == picture.size
        assert image.mode == "RGB"
        assert max(image.size) <= 1350

    def test_is_the_same_bytes_for_the_same_picture(self) -> None:
        def drawn() -> bytes:
            return board(
                BoardPicture(
                    stones=(("B", "D4"), ("W", "Q16")),
                    last_move="Q16",
                    candidates=(Candidate("C3", "A", 0.3),),
                    ownership=(0.5,) * 361,
                )
            )

        assert drawn() == drawn()

    @pytest.mark.parametrize("cell", [MIN_CELL, 33, MAX_CELL])
    def test_stones_lie_on_their_points(self, cell: int) -> None:
        picture = BoardPicture(13, 9, stones=(("B", "A1"), ("W", "N9"), ("B", "G5")), cell=cell)
        for beside in ((0, 0), (0.3, 0), (-0.3, 0), (0, 0.3), (0, -0.3)):
            assert is_dark(colour_at(picture, "A1", *beside))
            assert is_dark(colour_at(picture, "G5", *beside))
            assert is_light(colour_at(picture, "N9", *beside))
        assert not is_dark(colour_at(picture, "B1", 0.5, -0.5))

    @given(st.data())
    @settings(max_examples=30)
    def test_exactly_the_stones_are_drawn(self, data: st.DataObject) -> None:
        width, height = data.draw(st.integers(2, 19)), data.draw(st.integers(2, 19))
        points = [(x, y) for x in range(width) for y in range(height)]
        placed = data.draw(st.dictionaries(st.sampled_from(points), st.sampled_from(["B", "W"])))
        stones: Any = tuple((colour, vertex(point)) for point, colour in placed.items())
        picture = BoardPicture(width, height, stones=stones, cell=20)
        image = opened(board(picture))
        for point in points:
            place = picture.point(vertex(point))
            assert place is not None
            # Between the lines, but on the stone if there is one.
            colour = at(image, (place[0] - 5, place[1] - 5))
            if point in placed:
                assert is_dark(colour) if placed[point] == "B" else is_light(colour)
            else:
                assert colour == WOOD

    def test_columns_leave_out_the_letter_i(self) -> None:
        picture = BoardPicture(9, 9)
        left, right = picture.point("H1"), picture.point("J1")
        assert left is not None and right is not None
        assert right[0] - left[0] == picture.cell

    def test_rows_count_from_below(self) -> None:
        low, high = BoardPicture().point("A1"), BoardPicture().point("A19")
        assert low is not None and high is not None
        assert low[1] > high[1]

    def test_coordinates_are_on_all_sides(self) -> None:
        picture = BoardPicture(9, 9)
        image = opened(board(picture))
        for name, beside in (("A1", (-1, 0)), ("A1", (0, 1)), ("J9", (1, 0)), ("J9", (0, -1))):
            place = picture.point(name)
            assert place is not None
            x, y = (place[i] + round(0.88 * picture.cell) * beside[i] for i in (0, 1))
            assert len(colours(image.crop((x - 8, y - 8, x + 8, y + 8)))) > 3

    @pytest.mark.parametrize(
        ("size", "stars"),
        [
            ((19, 19), {"D4", "D10", "D16", "K4", "K10", "K16", "Q4", "Q10", "Q16"}),
            ((13, 13), {"D4", "D10", "G7", "K4", "K10"}),
            ((9, 9), {"C3", "C7", "E5", "G3", "G7"}),
            ((8, 8), {"C3", "C6", "F3", "F6"}),
            ((18, 18), {"D4", "D15", "P4", "P15"}),
            ((5, 5), set()),
        ],
    )
    def test_star_points_are_the_customary_ones(self, size: tuple[int, int], stars: set[str]) -> None:
        picture = BoardPicture(*size)
        image = opened(board(picture))
        drawn_stars = set()
        for column in range(size[0]):
            for row in range(size[1]):
                place = picture.point(vertex((column, row)))
                assert place is not None
                if is_dark(at(image, (place[0] + 2, place[1] + 2))) and 0 < column < size[0] - 1:
                    drawn_stars.add(vertex((column, row)))
        assert drawn_stars == stars

    @pytest.mark.parametrize("colour", ["B", "W"])
    def test_the_last_move_is_marked_red(self, colour: Any) -> None:
        picture = BoardPicture(stones=((colour, "K10"),), last_move="k10")
        red, green, blue = colour_at(picture, "K10")
        assert red > 200 and green < 90 and blue < 90

    def test_a_pass_is_not_marked(self) -> None:
        assert board(BoardPicture(last_move="pass")) == board(BoardPicture())

    @pytest.mark.parametrize(("width", "height"), [(2, 2), (9, 9), (19, 19)])
    @pytest.mark.parametrize("cell", [MIN_CELL, MAX_CELL])
    def test_text_makes_room_above_and_below_and_moves_no_stone_off_its_point(
        self, width: int, height: int, cell: int
    ) -> None:
        plain = BoardPicture(width, height, stones=(("B", "A1"),), cell=cell)
        texts: Any = {"heading": ("A title " * 20, "second"), "notes": ("a note",), "legend": True}
        picture = BoardPicture(width, height, stones=(("B", "A1"),), last_move="B2", cell=cell, **texts)
        image = opened(board(picture))
        assert image.size == picture.size
        assert image.size[1] > plain.size[1] + 88
        assert is_dark(colour_at(picture, "A1", 0.3))
        paper = at(image, (image.width - 2, 2))
        assert len(colours(image.crop((0, 0, image.width, 40)))) > 5
        assert at(image, (image.width - 2, image.height - 2)) == paper == (250, 249, 246)

    def test_words_wider_than_the_picture_do_not_make_it_wider(self) -> None:
        picture = BoardPicture(9, 9, heading=("W" * 400,))
        assert opened(board(picture)).size == picture.size

    def test_legend_names_only_what_is_drawn(self) -> None:
        full: Any = {"candidates": (Candidate("C3", "1", 0.0),), "ownership": (0.5,) * 81, "last_move": "D4"}
        heights = [BoardPicture(9, 9, legend=True).size[1]]
        for count in (1, 2, 3):
            fields = dict(list(full.items())[:count])
            heights.append(BoardPicture(9, 9, legend=True, **fields).size[1])
        assert heights == sorted(set(heights))

    def test_moves_of_a_continuation_are_stones_with_numbers(self) -> None:
        picture = BoardPicture(9, 9, numbered=(Numbered("B", "C3", 1), Numbered("W", "G7", 12)))
        assert is_dark(colour_at(picture, "C3", 0.35))
        assert is_light(colour_at(picture, "G7", 0.38))
        image = opened(board(picture))
        for name, test in (("C3", is_light), ("G7", is_dark)):
            x, y = picture.point(name) or (0, 0)
            assert any(test(at(image, (x + dx, y + dy))) for dx in range(-8, 9) for dy in range(-8, 9))

    def test_the_best_candidate_is_blue_and_a_blunder_red(self) -> None:
        picture = BoardPicture(candidates=(Candidate("C3", "A", 0), Candidate("G3", "B", 30)))
        red, _, blue = colour_at(picture, "C3", -0.35)
        assert blue > red + 80
        red, _, blue = colour_at(picture, "G3", -0.35)
        assert red > blue + 80

    @pytest.mark.parametrize("loss", [None, -0.4, 0.0, 0.04, 9.96, 99, 12345])
    @pytest.mark.parametrize("cell", [MIN_CELL, MAX_CELL])
    def test_candidates_of_any_loss_are_drawn(self, loss: float | None, cell: int) -> None:
        picture = BoardPicture(candidates=(Candidate("K4", "A", loss), Candidate("A1", "", loss)), cell=cell)
        assert colour_at(picture, "K4", 0.37) != WOOD

    def test_first_candidate_is_on_top(self) -> None:
        twice = BoardPicture(candidates=(Candidate("K4", "A", 0), Candidate("K4", "B", 20)))
        once = BoardPicture(candidates=(Candidate("K4", "A", 0),))
        assert colour_at(twice, "K4", -0.35) == colour_at(once, "K4", -0.35)

    def test_ownership_shades_the_points_from_the_top_left(self) -> None:
        ownership = (1.0,) * 9 + (0.0,) * 63 + (-1.0,) * 9
        picture = BoardPicture(9, 9, ownership=ownership)
        top, middle, bottom = (colour_at(picture, name, 0.2, 0.2) for name in ("E9", "E5", "E1"))
        assert sum(top) < sum(WOOD) - 150
        assert middle == WOOD
        assert sum(bottom) > sum(WOOD) + 80

    def test_dead_stones_carry_the_colour_of_their_owner(self) -> None:
        stones: Any = (("W", "C9"), ("B", "G1"), ("B", "D9"))
        picture = BoardPicture(9, 9, stones=stones, ownership=(0.9,) * 9 + (0.0,) * 63 + (-0.9,) * 9)
        assert is_dark(colour_at(picture, "C9"))
        assert is_light(colour_at(picture, "G1"))
        assert is_dark(colour_at(picture, "D9"))

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"width": 1}, "2 to 19"),
            ({"height": 20}, "2 to 19"),
            ({"cell": 15}, "16 to 64"),
            ({"cell": 65}, "16 to 64"),
            ({"stones": (("B", "Z1"),)}, "no such column"),
            ({"stones": (("B", "pass"),)}, "a pass cannot be drawn"),
            ({"candidates": (Candidate("pass"),)}, "a pass cannot be drawn"),
            ({"last_move": "A20"}, "off the board"),
            ({"numbered": (Numbered("B", "pass", 1),)}, "a pass cannot be drawn"),
            ({"candidates": (Candidate("A1", "long"),)}, "at most 3"),
            ({"candidates": (Candidate("A1", "a\nb"),)}, "at most 3"),
            ({"candidates": (Candidate("A1", "A", float("nan")),)}, "points_lost"),
            ({"ownership": (0.0,) * 360}, "not 360"),
            ({"ownership": (1.5,) * 361}, "between -1 and 1"),
            ({"ownership": (float("nan"),) * 361}, "between -1 and 1"),
        ],
    )
    def test_invalid_values_are_rejected(self, fields: dict[str, Any], expected: str) -> None:
        with pytest.raises(ValueError, match=expected):
            BoardPicture(**fields)

    def test_it_is_drawn_in_time_that_grows_with_its_content(self) -> None:
        points = [vertex((x, y)) for x in range(19) for y in range(19)]

        def draw(count: int) -> None:
            stones: Any = tuple(("BW"[index % 2], name) for index, name in enumerate(points[:count]))
            candidates = tuple(Candidate(name, str(index), 2.5) for index, name in enumerate(points[:count]))
            picture = BoardPicture(
                stones=stones, candidates=candidates, ownership=(-0.5,) * 361, cell=MAX_CELL
            )
            assert len(board(picture)) < 2_000_000

        expect_linear_time(draw, len(points))


class TestGraph:
    @pytest.mark.parametrize(("width", "height"), [(320, 240), (900, 520), (1600, 1000)])
    def test_has_the_requested_size(self, width: int, height: int) -> None:
        assert opened(graph(GraphPicture(GAME, width=width, height=height))).size == (width, height)

    def test_is_the_same_bytes_for_the_same_picture(self) -> None:
        mistakes = (GraphMistake(3, "B", 5.0),)
        assert graph(GraphPicture(GAME, mistakes)) == graph(GraphPicture(tuple(GAME), mistakes))

    def test_blacks_lead_is_above_whites(self) -> None:
        def height_of_curve(lead: float, most: float) -> int:
            points = (GraphPoint(0, most), GraphPoint(1, None), GraphPoint(2, lead), GraphPoint(10, lead))
            image = opened(graph(GraphPicture(points)))
            return min(range(60, 470), key=lambda y: sum(at(image, (600, y))))

        for most in (30.0, 200.0):
            heights = [height_of_curve(lead, most) for lead in (30, 15, 5, -5, -15, -30)]
            assert heights == sorted(set(heights))

    def test_decided_game_leaves_the_close_part_readable(self) -> None:
        def rows_of(lead: float) -> int:
            """Rows between the middle and the curve at a lead."""
            start = (GraphPoint(0, 0.0), GraphPoint(1, 150.0), GraphPoint(2, None))
            points = (*start, GraphPoint(3, lead), GraphPoint(10, lead))
            image = opened(graph(GraphPicture(points)))
            place = min(range(60, 470), key=lambda y: sum(at(image, (600, y))))
            return (54 + 474) // 2 - place

        assert rows_of(CLOSE) > 0.7 * rows_of(150.0)
        assert rows_of(CLOSE / 2) > 0.33 * rows_of(150.0)

    def test_winrate_is_blue(self) -> None:
        image = opened(graph(GraphPicture(tuple(GraphPoint(move, None, 0.75) for move in range(10)))))
        blue = [y for y in range(55, 473) for r, _, b in [at(image, (450, y))] if b > r + 60]
        assert 150 < min(blue) <= max(blue) < 170

    def test_unknown_values_leave_a_gap(self) -> None:
        points = tuple(GraphPoint(move, None if 15 < move < 25 else 10.0) for move in range(41))
        image = opened(graph(GraphPicture(points)))
        dark = [x for x in range(70, 835) if min(sum(at(image, (x, y))) for y in range(45, 200)) < 200]
        assert dark
        assert not [x for x in dark if 420 < x < 480]
        assert [x for x in dark if x < 300] and [x for x in dark if x > 600]

    def test_mistakes_show_whose_they_are_and_how_bad(self) -> None:
        def bar(player: Any, lost: float) -> tuple[int, int]:
            """Rows of the bar above and below the middle of the strip."""
            points = tuple(GraphPoint(move, 1.0) for move in range(41))
            mistakes = (GraphMistake(20, player, lost), GraphMistake(99, "B", 9))
            image = opened(graph(GraphPicture(points, mistakes)))
            fill = (40, 40, 44) if player == "B" else (255, 255, 255)
            column = [at(image, (451, y)) == fill for y in range(376, 472)]
            return sum(column[:48]), sum(column[48:])

        small, large = bar("B", 3.0), bar("B", 12.0)
        assert 0 < small[0] < large[0]
        assert small[1] == large[1] == 0
        assert bar("W", 12.0)[1] > bar("W", 3.0)[1] > 0
        assert bar("W", 12.0)[0] == 0

    def test_mark_of_a_disaster_is_red_and_only_mistakes_are_marked(self) -> None:
        def reds(*mistakes: GraphMistake) -> int:
            image = opened(graph(GraphPicture(GAME, mistakes)))
            return sum(1 for red, green, blue in colours(image) if red > 180 and max(green, blue) < 90)

        assert reds() == 0
        assert reds(GraphMistake(99, "B", 20.0)) == 0
        assert reds(GraphMistake(20, "B", 20.0)) > 0
        assert reds(GraphMistake(20, "W", 20.0)) > 0

    def test_many_mistakes_do_not_hide_the_curve(self) -> None:
        points = (GraphPoint(0, 20.0), *(GraphPoint(move, 10.0) for move in range(1, 201)))
        many: Any = tuple(
            GraphMistake(move, "W" if move % 2 else "B", 3.0 + move % 7) for move in range(1, 201)
        )
        image = opened(graph(GraphPicture(points, many)))
        longest = max(sum(is_dark(at(image, (x, y))) for x in range(64, 840)) for y in range(60, 200))
        assert longest > 600

    @pytest.mark.parametrize(
        "points",
        [
            (GraphPoint(0),),
            (GraphPoint(7, 3.0, 0.6),),
            (GraphPoint(0, None, 0.5), GraphPoint(1, -999.0)),
            tuple(GraphPoint(move, 0.0, move % 2) for move in range(2001)),
        ],
        ids=["nothing known", "one point", "mixed", "longest"],
    )
    def test_any_game_is_drawn(self, points: tuple[GraphPoint, ...]) -> None:
        opened(graph(GraphPicture(points, (GraphMistake(7, "W", 3.0),), "a title")))

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"points": ()}, "1 to 2001"),
            ({"points": tuple(GraphPoint(move) for move in range(2002))}, "1 to 2001"),
            ({"points": (GraphPoint(2), GraphPoint(1))}, "ascend"),
            ({"points": (GraphPoint(1), GraphPoint(1))}, "ascend"),
            ({"points": (GraphPoint(-1),)}, "ascend"),
            ({"points": (GraphPoint(5000),)}, "ascend"),
            ({"points": (GraphPoint(0, float("nan")),)}, "score lead"),
            ({"points": (GraphPoint(0, float("inf")),)}, "score lead"),
            ({"points": (GraphPoint(0, None, 1.1),)}, "winrate"),
            ({"points": (GraphPoint(0, None, float("nan")),)}, "winrate"),
            ({"points": GAME, "mistakes": (GraphMistake(1, "B", float("nan")),)}, "points_lost"),
            ({"points": GAME, "width": 100}, "320x240"),
            ({"points": GAME, "height": 5000}, "1600x1000"),
        ],
    )
    def test_values_out_of_range_are_rejected(self, fields: dict[str, Any], expected: str) -> None:
        with pytest.raises(ValueError, match=expected):
            GraphPicture(**fields)
