"""PNG pictures for people: a board, and the graph of a game.

Pure functions: with the same version of Pillow, the same input gives the same bytes. The only file read is
Pillow's built-in font, which has only Latin letters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import pairwise
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from katago_mcp.positions import COLUMNS, MAX_MOVES, MAX_SIZE, MIN_SIZE, Colour, parse_vertex

Rgb = tuple[int, int, int]

MIN_CELL, MAX_CELL = 16, 64
"""Pixels between two lines of a board."""

MAX_LABEL = 3
MAX_POINTS = MAX_MOVES + 1
MAX_WIDTH, MAX_HEIGHT = 1600, 1000
MIN_WIDTH, MIN_HEIGHT = 320, 200

WOOD: Final[Rgb] = (226, 186, 120)
INK: Final[Rgb] = (46, 34, 20)
BLACK: Final[Rgb] = (28, 28, 30)
WHITE: Final[Rgb] = (246, 245, 240)

_OVERSAMPLING = 4
_CELL_FOR_TWO_LINES = 28
_MAX_LEAD = 1000
_MARGIN = 1.35
"""Distance from the edge to the first line, in cells: half a stone and the coordinates."""

_UNKNOWN: Final[Rgb] = (120, 150, 190)
_PAPER: Final[Rgb] = (250, 249, 246)
_BLACKS_HALF: Final[Rgb] = (232, 230, 224)
_GRID: Final[Rgb] = (208, 206, 200)
_TEXT: Final[Rgb] = (70, 68, 64)
_SCORE: Final[Rgb] = (36, 36, 40)
_WINRATE: Final[Rgb] = (38, 122, 190)
_MISTAKE: Final[Rgb] = (208, 60, 52)
_FRAME = (64, 40, 60, 44)
"""Margins of a graph's plot in pixels: left, top, right, bottom."""

_PADDING = 6
"""Pixels between the ends of a graph's scale and its frame, so that curves at the ends stay visible."""

_LOSSES: Final[tuple[tuple[float, Rgb], ...]] = (
    (0.0, (74, 170, 220)),
    (0.5, (92, 190, 130)),
    (1.5, (186, 204, 84)),
    (3.0, (244, 196, 66)),
    (6.0, (236, 132, 52)),
    (12.0, (208, 60, 52)),
)
"""The colour of a move by points lost. Values in between get a mixed colour."""


@dataclass(frozen=True)
class Candidate:
    """A candidate move: vertex, label of at most 3 characters, and points lost.

    `points_lost` is compared with the best move, 0 or more. It sets the colour of the mark, and is written
    below the label if cells have 28 pixels or more. None omits both.
    """

    vertex: str
    label: str = ""
    points_lost: float | None = None


@dataclass(frozen=True)
class BoardPicture:
    """The content of a board picture.

    `stones` are (colour, vertex); `last_move` is a vertex, "pass" or None. `ownership` has a value for each
    point in KataGo's order, row by row from the top left: 1 is certainly Black's, -1 certainly White's.
    `cell` is the distance between two lines in pixels, 16 to 64.

    Raises:
        ValueError: if a value does not fit the board or is out of range.
    """

    width: int = 19
    height: int = 19
    stones: tuple[tuple[Colour, str], ...] = ()
    last_move: str | None = None
    candidates: tuple[Candidate, ...] = ()
    ownership: tuple[float, ...] | None = None
    cell: int = 40

    def __post_init__(self) -> None:
        if not (MIN_SIZE <= self.width <= MAX_SIZE and MIN_SIZE <= self.height <= MAX_SIZE):
            raise ValueError(
                f"the board must have {MIN_SIZE} to {MAX_SIZE} lines, not {self.width}x{self.height}"
            )
        if not MIN_CELL <= self.cell <= MAX_CELL:
            raise ValueError(f"a cell must have {MIN_CELL} to {MAX_CELL} pixels, not {self.cell}")
        points = [name for _, name in self.stones] + [candidate.vertex for candidate in self.candidates]
        for name in points:
            if self.point(name) is None:
                raise ValueError("a pass cannot be drawn on the board")
        if self.last_move is not None:
            self.point(self.last_move)
        for candidate in self.candidates:
            text = candidate.label
            if len(text) > MAX_LABEL or not text.isprintable():
                raise ValueError(
                    f"a label must have at most {MAX_LABEL} printable characters, not {text[:12]!r}"
                )
            if candidate.points_lost is not None and not math.isfinite(candidate.points_lost):
                raise ValueError(f"points_lost must be a finite number, not {candidate.points_lost}")
        if self.ownership is not None:
            if len(self.ownership) != self.width * self.height:
                raise ValueError(
                    f"ownership must have {self.width * self.height} values, not {len(self.ownership)}"
                )
            if not all(-1 <= value <= 1 for value in self.ownership):
                raise ValueError("ownership must be between -1 and 1")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture in pixels."""
        margin = 2 * round(_MARGIN * self.cell)
        return (self.width - 1) * self.cell + margin + 1, (self.height - 1) * self.cell + margin + 1

    def point(self, name: str) -> tuple[int, int] | None:
        """The pixel (x from the left, y from the top) at the centre of a vertex; None for a pass."""
        point = parse_vertex(name, self.width, self.height)
        return None if point is None else self._pixel(point[0], self.height - 1 - point[1])

    def _pixel(self, column: int, row_from_top: int) -> tuple[int, int]:
        margin = round(_MARGIN * self.cell)
        return margin + column * self.cell, margin + row_from_top * self.cell


@dataclass(frozen=True)
class GraphPoint:
    """The state of a game after `move_number` moves, from Black's perspective.

    `score_lead` is in points, `winrate` from 0 to 1; None if unknown.
    """

    move_number: int
    score_lead: float | None = None
    winrate: float | None = None


@dataclass(frozen=True)
class GraphPicture:
    """The content of a graph of a game: `points` by ascending move number, at most 2001.

    `marked` are move numbers to mark, such as mistakes; those without a point are ignored. `width` is
    320 to 1600 pixels, `height` 200 to 1000.

    Raises:
        ValueError: if a value is out of range or not a number.
    """

    points: tuple[GraphPoint, ...]
    marked: tuple[int, ...] = ()
    width: int = 900
    height: int = 420

    def __post_init__(self) -> None:
        if not (MIN_WIDTH <= self.width <= MAX_WIDTH and MIN_HEIGHT <= self.height <= MAX_HEIGHT):
            raise ValueError(
                f"a graph must have {MIN_WIDTH}x{MIN_HEIGHT} to {MAX_WIDTH}x{MAX_HEIGHT} pixels, "
                f"not {self.width}x{self.height}"
            )
        if not 1 <= len(self.points) <= MAX_POINTS:
            raise ValueError(f"a graph must have 1 to {MAX_POINTS} points, not {len(self.points)}")
        numbers = [point.move_number for point in self.points]
        if any(a >= b for a, b in pairwise(numbers)) or not 0 <= numbers[0] <= numbers[-1] <= MAX_MOVES:
            raise ValueError(f"move numbers must ascend, from 0 to at most {MAX_MOVES}")
        for point in self.points:
            if point.score_lead is not None and not abs(point.score_lead) <= _MAX_LEAD:
                raise ValueError(f"a score lead must be a number up to {_MAX_LEAD}, not {point.score_lead}")
            if point.winrate is not None and not 0 <= point.winrate <= 1:
                raise ValueError(f"a winrate must be between 0 and 1, not {point.winrate}")


def board(picture: BoardPicture) -> bytes:
    """Draw a board as PNG, RGB, `picture.size` pixels."""
    image = Image.new("RGB", picture.size, WOOD)
    draw = ImageDraw.Draw(image)
    if picture.ownership is not None:
        _shade(image, picture, picture.ownership)
    _lines(draw, picture)
    _coordinates(draw, picture)
    for colour, name in picture.stones:
        _stone(image, picture, colour, name)
    if picture.ownership is not None:
        _dead(draw, picture, picture.ownership)
    _candidates(image, draw, picture)
    _last_move(image, picture)
    return _png(image)


def graph(picture: GraphPicture) -> bytes:
    """Draw score lead and winrate of a game as PNG, RGB. Black's side is up, White's is down.

    The left scale is the score lead in points, the right one Black's winrate. Unknown values leave a gap.
    """
    plot = _Plot(picture)
    image = Image.new("RGB", (picture.width, picture.height), _PAPER)
    image.paste(plot.curves(), plot.box)
    draw = ImageDraw.Draw(image)
    plot.label(draw)
    return _png(image)


class _Plot:
    """The plot of a graph. Curves are drawn larger and scaled down, which makes them smooth."""

    def __init__(self, picture: GraphPicture) -> None:
        self.picture = picture
        left, top, right, bottom = _FRAME
        self.box = (left, top, picture.width - right, picture.height - bottom)
        self.width, self.height = self.box[2] - left, self.box[3] - top
        self.first = picture.points[0].move_number
        self.last = max(picture.points[-1].move_number, self.first + 1)
        leads = [abs(point.score_lead) for point in picture.points if point.score_lead is not None]
        self.step, self.limit = _scale(max(leads, default=0))
        self.has_scores = bool(leads)
        self.has_winrates = any(point.winrate is not None for point in picture.points)

    def x(self, move_number: int) -> float:
        return (move_number - self.first) / (self.last - self.first) * (self.width - 1)

    def y(self, share: float) -> float:
        """The pixel row of a value from -1 (White, bottom) to 1 (Black, top)."""
        return _PADDING + (1 - share) / 2 * (self.height - 1 - 2 * _PADDING)

    def curves(self) -> Image.Image:
        scale = 2
        image = Image.new("RGB", (self.width * scale, self.height * scale), (255, 255, 255))
        draw = ImageDraw.Draw(image)
        zero = self.y(0) * scale
        draw.rectangle((0, 0, image.width, zero), fill=_BLACKS_HALF)
        for move in self._ticks():
            draw.line((self.x(move) * scale, 0, self.x(move) * scale, image.height), fill=_GRID, width=scale)
        for lead in self._leads():
            y = self.y(lead / self.limit) * scale
            draw.line((0, y, image.width, y), fill=_GRID, width=scale)
        scores = self._runs([(p.move_number, _over(p.score_lead, self.limit)) for p in self.picture.points])
        winrates = self._runs(
            [(p.move_number, None if p.winrate is None else 2 * p.winrate - 1) for p in self.picture.points]
        )
        draw.line((0, zero, image.width, zero), fill=_TEXT, width=scale)
        for runs, colour, width in ((winrates, _WINRATE, 2 * scale), (scores, _SCORE, 3 * scale)):
            for run in runs:
                run = [(x * scale, y * scale) for x, y in run]
                draw.line(run, fill=colour, width=width, joint="curve")
                for x, y in (run[0], run[-1]):
                    draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=colour)
        for x, y in self._marks():
            radius = 5 * scale
            box = (x * scale - radius, y * scale - radius, x * scale + radius, y * scale + radius)
            draw.ellipse(box, fill=_MISTAKE, outline=(255, 255, 255), width=scale)
        return image.resize((self.width, self.height), Image.Resampling.BOX)

    def label(self, draw: ImageDraw.ImageDraw) -> None:
        left, top, right, bottom = self.box
        draw.rectangle((left - 1, top - 1, right, bottom), outline=_TEXT)
        for move in self._ticks():
            self._text(draw, "mm", (left + self.x(move), bottom + 14), str(move), _TEXT)
        self._text(draw, "mm", ((left + right) / 2, bottom + 32), "move", _TEXT)
        if self.has_scores:
            for lead in self._leads():
                side = "B+" if lead > 0 else "W+" if lead < 0 else ""
                y = top + self.y(lead / self.limit)
                self._text(draw, "rm", (left - 8, y), f"{side}{abs(lead)}", _SCORE)
            self._text(draw, "lm", (left, top - 18), "score lead", _SCORE)
        if self.has_winrates:
            for percent in (0, 25, 50, 75, 100):
                y = top + self.y(percent / 50 - 1)
                self._text(draw, "lm", (right + 8, y), f"{percent} %", _WINRATE)
            self._text(draw, "rm", (right, top - 18), "Black's winrate", _WINRATE)

    def _text(
        self, draw: ImageDraw.ImageDraw, anchor: str, at: tuple[float, float], text: str, fill: Rgb
    ) -> None:
        draw.text(at, text, fill=fill, font=_font(14), anchor=anchor)

    def _ticks(self) -> list[int]:
        span = self.last - self.first
        room = max(2, self.width // 70)
        step = next((step for step in (1, 2, 5, 10, 20, 25, 50, 100, 200) if span / step <= room), 500)
        return list(range(math.ceil(self.first / step) * step, self.last + 1, step))

    def _leads(self) -> list[int]:
        return list(range(-self.limit, self.limit + 1, self.step))

    def _runs(self, values: list[tuple[int, float | None]]) -> list[list[tuple[float, float]]]:
        """The points of a curve in pixels, split where values are unknown."""
        runs: list[list[tuple[float, float]]] = [[]]
        for move, value in values:
            if value is not None:
                runs[-1].append((self.x(move), self.y(value)))
            elif runs[-1]:
                runs.append([])
        return [run for run in runs if run]

    def _marks(self) -> list[tuple[float, float]]:
        marked = set(self.picture.marked)
        places = []
        for point in self.picture.points:
            share = _over(point.score_lead, self.limit)
            if share is None and point.winrate is not None:
                share = 2 * point.winrate - 1
            if point.move_number in marked and share is not None:
                places.append((self.x(point.move_number), self.y(share)))
        return places


def _over(lead: float | None, limit: int) -> float | None:
    return None if lead is None else lead / limit


def _scale(largest: float) -> tuple[int, int]:
    """Step and end of the score scale, in points. Each side has two to four steps."""
    step = next(step for step in (2, 5, 10, 20, 25, 50, 100, 200, 500) if largest <= 4 * step)
    return step, step * max(2, math.ceil(largest / step))


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this build of Pillow lacks FreeType: install Pillow as a wheel from PyPI")
    # Not every build has the other layout engine.
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def _write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, fill: Rgb) -> None:
    draw.text(at, text, fill=fill, font=_font(size), anchor="mm", stroke_width=0.4 if size > 12 else 0)


def _shade(image: Image.Image, picture: BoardPicture, ownership: Sequence[float]) -> None:
    half = picture.cell // 2
    for index, value in enumerate(ownership):
        row, column = divmod(index, picture.width)
        x, y = picture._pixel(column, row)
        strength = abs(value) * (0.45 if value > 0 else 0.75)
        tint = _mixed(WOOD, (30, 24, 18) if value > 0 else (255, 255, 255), strength)
        image.paste(tint, (x - half, y - half, x - half + picture.cell, y - half + picture.cell))


def _lines(draw: ImageDraw.ImageDraw, picture: BoardPicture) -> None:
    left, top = picture._pixel(0, 0)
    right, bottom = picture._pixel(picture.width - 1, picture.height - 1)
    thin = max(1, round(picture.cell / 36))
    for column in range(picture.width):
        x, _ = picture._pixel(column, 0)
        draw.line((x, top, x, bottom), fill=INK, width=thin)
    for row in range(picture.height):
        _, y = picture._pixel(0, row)
        draw.line((left, y, right, y), fill=INK, width=thin)
    draw.rectangle((left, top, right, bottom), outline=INK, width=thin + 1)
    radius = max(2, round(picture.cell * 0.09))
    for column, row in _stars(picture.width, picture.height):
        x, y = picture._pixel(column, row)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=INK)


def _stars(width: int, height: int) -> list[tuple[int, int]]:
    """Star points: corners from 7 lines, centre from 9, sides from 15; the last two need middle lines."""

    def star_lines(lines: int) -> tuple[int, int, int]:
        edge = 3 if lines >= 12 else 2
        return edge, lines // 2, lines - 1 - edge

    shorter, centred = min(width, height), width % 2 == height % 2 == 1
    if shorter < 7:
        return []
    stars = []
    for i, column in enumerate(star_lines(width)):
        for j, row in enumerate(star_lines(height)):
            needed = (7, 15, 9)[(i == 1) + (j == 1)]
            if shorter >= needed and (needed == 7 or centred):
                stars.append((column, row))
    return stars


def _coordinates(draw: ImageDraw.ImageDraw, picture: BoardPicture) -> None:
    size = max(9, round(picture.cell * 0.36))
    distance = round(picture.cell * 0.88)
    for column in range(picture.width):
        for row, side in ((0, -1), (picture.height - 1, 1)):
            x, y = picture._pixel(column, row)
            _write(draw, (x, y + side * distance), COLUMNS[column], size, INK)
    for row in range(picture.height):
        for column, side in ((0, -1), (picture.width - 1, 1)):
            x, y = picture._pixel(column, row)
            _write(draw, (x + side * distance, y), str(picture.height - row), size, INK)


@lru_cache(maxsize=32)
def _stone_image(colour: Colour, cell: int) -> Image.Image:
    """A stone with its shadow, RGBA, centred in an image of odd size."""
    radius = cell * 0.485
    half = cell // 2 + 4
    size, scale = 2 * half + 1, _OVERSAMPLING
    centre = (half + 0.5) * scale

    def disc(x: float, y: float, r: float) -> Image.Image:
        mask = Image.new("L", (size * scale, size * scale), 0)
        box = (centre + (x - r) * scale, centre + (y - r) * scale)
        ImageDraw.Draw(mask).ellipse((*box, box[0] + 2 * r * scale, box[1] + 2 * r * scale), fill=255)
        return mask

    shadow = Image.new("L", (size, size), 0)
    for step in range(4):
        soft = disc(cell * 0.03, cell * 0.05, radius + cell * 0.02 * (1 - step)).resize(
            (size, size), Image.Resampling.BOX
        )
        shadow = Image.composite(Image.new("L", (size, size), 22 * (step + 1)), shadow, soft)
    stone = Image.new("RGBA", (size, size), (30, 20, 10, 0))
    stone.putalpha(shadow)
    dark, light = ((10, 10, 12), (92, 92, 98)) if colour == "B" else ((206, 202, 194), (255, 255, 253))
    shine = Image.radial_gradient("L").resize((round(2.3 * cell), round(2.3 * cell)))
    offset = half - round(1.15 * cell) - round(cell * 0.17)
    falloff = Image.new("L", (size, size), 255)
    falloff.paste(shine, (offset, offset))
    body = Image.composite(
        Image.new("RGBA", (size, size), (*dark, 255)), Image.new("RGBA", (size, size), (*light, 255)), falloff
    )
    body.putalpha(disc(0, 0, radius).resize((size, size), Image.Resampling.BOX))
    return Image.alpha_composite(stone, body)


def _stone(image: Image.Image, picture: BoardPicture, colour: Colour, name: str) -> None:
    _paste(image, _stone_image(colour, picture.cell), picture.point(name))


def _paste(image: Image.Image, part: Image.Image, centre: tuple[int, int] | None) -> None:
    if centre is not None:
        image.paste(part, (centre[0] - part.width // 2, centre[1] - part.height // 2), part)


@lru_cache(maxsize=256)
def _disc(cell: int, radius: float, fill: Rgb, border: Rgb, thickness: float) -> Image.Image:
    """A disc with a border, RGBA; radius and thickness in cells."""
    half = cell // 2 + 2
    size, scale = 2 * half + 1, _OVERSAMPLING
    centre, outer = (half + 0.5) * scale, radius * cell * scale
    image = Image.new("RGBA", (size * scale, size * scale), (*border, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((centre - outer, centre - outer, centre + outer, centre + outer), fill=(*border, 255))
    inner = outer - thickness * cell * scale
    draw.ellipse((centre - inner, centre - inner, centre + inner, centre + inner), fill=(*fill, 255))
    return image.resize((size, size), Image.Resampling.BOX)


def _dead(draw: ImageDraw.ImageDraw, picture: BoardPicture, ownership: Sequence[float]) -> None:
    """Mark stones in the opponent's territory with a square of the opponent's colour."""
    for colour, name in picture.stones:
        column, row = parse_vertex(name, picture.width, picture.height) or (0, 0)
        value = ownership[(picture.height - 1 - row) * picture.width + column]
        if (value < 0) == (colour == "B") and abs(value) >= 0.3:
            x, y = picture._pixel(column, picture.height - 1 - row)
            half = round(picture.cell * (0.08 + 0.1 * abs(value)))
            fill = WHITE if value < 0 else BLACK
            draw.rectangle((x - half, y - half, x + half, y + half), fill=fill)


def _candidates(image: Image.Image, draw: ImageDraw.ImageDraw, picture: BoardPicture) -> None:
    for candidate in reversed(picture.candidates):
        x, y = picture.point(candidate.vertex) or (0, 0)
        loss = candidate.points_lost
        fill = _UNKNOWN if loss is None else _loss_colour(loss)
        border = _mixed(fill, (0, 0, 0), 0.55)
        _paste(image, _disc(picture.cell, 0.46, fill, border, 0.04), (x, y))
        lost = "" if loss is None else _loss_text(loss)
        if lost and candidate.label and picture.cell >= _CELL_FOR_TWO_LINES:
            _write(draw, (x, y - picture.cell * 0.13), candidate.label, round(picture.cell * 0.42), BLACK)
            _write(draw, (x, y + picture.cell * 0.21), lost, max(9, round(picture.cell * 0.28)), BLACK)
        else:
            _write(draw, (x, y), candidate.label or lost, round(picture.cell * 0.42), BLACK)


def _loss_text(loss: float) -> str:
    rounded = f"{max(0.0, loss):.1f}" if loss < 9.95 else f"{min(loss, 999):.0f}"
    # The font has no minus sign, only the hyphen.
    return rounded if rounded == "0.0" else f"-{rounded}"


def _loss_colour(loss: float) -> Rgb:
    previous, colour = _LOSSES[0]
    for limit, following in _LOSSES[1:]:
        if loss < limit:
            return _mixed(colour, following, max(0.0, (loss - previous) / (limit - previous)))
        previous, colour = limit, following
    return colour


def _mixed(one: Rgb, other: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _last_move(image: Image.Image, picture: BoardPicture) -> None:
    if picture.last_move is not None:
        mark = _disc(picture.cell, 0.17, (226, 62, 50), (255, 240, 232), 0.045)
        _paste(image, mark, picture.point(picture.last_move))
