"""PNG pictures of boards for people.

Pure functions: with the same version of Pillow, the same input gives the same bytes. The only file read is
Pillow's built-in font, which has only Latin letters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw

from katago_mcp import drawing
from katago_mcp.drawing import Rgb
from katago_mcp.positions import COLUMNS, MAX_SIZE, MIN_SIZE, Colour, parse_vertex

MIN_CELL, MAX_CELL = 16, 64
"""Pixels between two lines of a board."""

MAX_LABEL = 3

WOOD: Final[Rgb] = (226, 186, 120)
INK: Final[Rgb] = (46, 34, 20)
BLACK: Final[Rgb] = (28, 28, 30)
WHITE: Final[Rgb] = (246, 245, 240)

_OVERSAMPLING = 4
_CELL_FOR_TWO_LINES = 28
_MARGIN = 1.35
"""Distance from the edge to the first line, in cells: half a stone and the coordinates."""

_PAPER: Final[Rgb] = (250, 249, 246)
_TEXT: Final[Rgb] = (60, 56, 50)
_LAST_MOVE: Final[tuple[Rgb, Rgb]] = ((226, 62, 50), (255, 240, 232))
"""Colours of the mark of the last move: inside and border."""

_DEAD = 0.3
"""Ownership by the opponent from which a stone counts as dead."""

_TEXT_SIZE = 15
_LINE = 22
_TEXT_MARGIN = 14
_LEAST_WIDTH = 420
"""Pixels of a picture with text, however small its board is."""

_UNKNOWN: Final[Rgb] = (120, 150, 190)


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
class Numbered:
    """A move of a continuation: a stone with its number, 1 to 999."""

    colour: Colour
    vertex: str
    number: int


@dataclass(frozen=True)
class BoardPicture:
    """The content of a board picture.

    `heading` are lines above the board, and `notes` lines below it, in Latin letters; both are wrapped to the
    picture's width. `legend`: whether to explain the marks below the board. `numbered` are moves of a
    continuation, drawn as stones on empty points.

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
    heading: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    numbered: tuple[Numbered, ...] = ()
    legend: bool = False

    def __post_init__(self) -> None:
        if not (MIN_SIZE <= self.width <= MAX_SIZE and MIN_SIZE <= self.height <= MAX_SIZE):
            raise ValueError(
                f"the board must have {MIN_SIZE} to {MAX_SIZE} lines, not {self.width}x{self.height}"
            )
        if not MIN_CELL <= self.cell <= MAX_CELL:
            raise ValueError(f"a cell must have {MIN_CELL} to {MAX_CELL} pixels, not {self.cell}")
        points = [name for _, name in self.stones] + [candidate.vertex for candidate in self.candidates]
        points += [move.vertex for move in self.numbered]
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
        _, board_height = self._board_size
        lines = len(self._below)
        return self._text_width, self._top + board_height + (lines + 1 if lines else 0) * _LINE

    @property
    def _board_size(self) -> tuple[int, int]:
        margin = 2 * round(_MARGIN * self.cell)
        return (self.width - 1) * self.cell + margin + 1, (self.height - 1) * self.cell + margin + 1

    @property
    def _text_width(self) -> int:
        has_text = bool(self.heading or self.notes or self.legend)
        return max(self._board_size[0], _LEAST_WIDTH if has_text else 0)

    @property
    def _top(self) -> int:
        """The height of the heading."""
        lines = self._wrapped(self.heading)
        return (len(lines) * _LINE + _LINE) if lines else 0

    @property
    def _below(self) -> list[tuple[str, str]]:
        """The lines below the board: a symbol or "", and a text."""
        entries = [("", text) for text in self._wrapped(self.notes)]
        if not self.legend:
            return entries
        if any(candidate.points_lost is not None for candidate in self.candidates) and not self.numbered:
            entries.append(("candidate", "best moves by rank; below it the points lost"))
        if self.numbered:
            entries.append(("numbered", "expected continuation"))
        if self.last_move is not None and self.point(self.last_move) is not None:
            entries.append(("last", "last move"))
        if self.ownership is not None:
            entries += [
                ("black", "Black's area, darker if surer"),
                ("white", "White's area, lighter if surer"),
            ]
            if any(_is_dead(self, colour, name) for colour, name in self.stones):
                entries.append(("dead", "dead stone; a larger square is surer"))
        return entries

    def _wrapped(self, lines: Sequence[str]) -> list[str]:
        return [part for line in lines for part in _wrap(line, self._text_width - 2 * _TEXT_MARGIN)]

    def point(self, name: str) -> tuple[int, int] | None:
        """The pixel (x from the left, y from the top) at the centre of a vertex; None for a pass."""
        point = parse_vertex(name, self.width, self.height)
        return None if point is None else self._pixel(point[0], self.height - 1 - point[1])

    def _pixel(self, column: int, row_from_top: int) -> tuple[int, int]:
        margin = round(_MARGIN * self.cell)
        left = margin + (self._text_width - self._board_size[0]) // 2
        return left + column * self.cell, self._top + margin + row_from_top * self.cell


def board(picture: BoardPicture) -> bytes:
    """Draw a board as PNG, RGB, `picture.size` pixels."""
    image = Image.new("RGB", picture.size, _PAPER if picture._top or picture._below else WOOD)
    draw = ImageDraw.Draw(image)
    left, (width, height) = (picture.size[0] - picture._board_size[0]) // 2, picture._board_size
    draw.rectangle((left, picture._top, left + width - 1, picture._top + height - 1), fill=WOOD)
    _texts(image, draw, picture)
    if picture.ownership is not None:
        _shade(image, picture, picture.ownership)
    _lines(draw, picture)
    _coordinates(draw, picture)
    for colour, name in picture.stones:
        _stone(image, picture, colour, name)
    if picture.ownership is not None:
        _dead(draw, picture, picture.ownership)
    _candidates(image, draw, picture)
    for move in picture.numbered:
        _stone(image, picture, move.colour, move.vertex)
        ink = WHITE if move.colour == "B" else BLACK
        drawing.write(
            draw, picture.point(move.vertex) or (0, 0), str(move.number), round(picture.cell * 0.42), ink
        )
    _last_move(image, picture)
    return drawing.png(image)


def _shade(image: Image.Image, picture: BoardPicture, ownership: Sequence[float]) -> None:
    half = picture.cell // 2
    for index, value in enumerate(ownership):
        row, column = divmod(index, picture.width)
        x, y = picture._pixel(column, row)
        image.paste(_tint(value), (x - half, y - half, x - half + picture.cell, y - half + picture.cell))


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
            drawing.write(draw, (x, y + side * distance), COLUMNS[column], size, INK)
    for row in range(picture.height):
        for column, side in ((0, -1), (picture.width - 1, 1)):
            x, y = picture._pixel(column, row)
            drawing.write(draw, (x + side * distance, y), str(picture.height - row), size, INK)


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
        if _is_dead(picture, colour, name):
            x, y = picture._pixel(column, picture.height - 1 - row)
            half = round(picture.cell * (0.08 + 0.1 * abs(value)))
            fill = WHITE if value < 0 else BLACK
            draw.rectangle((x - half, y - half, x + half, y + half), fill=fill)


def _is_dead(picture: BoardPicture, colour: Colour, name: str) -> bool:
    """Whether a stone stands in the opponent's area."""
    if picture.ownership is None:
        return False
    column, row = parse_vertex(name, picture.width, picture.height) or (0, 0)
    value = picture.ownership[(picture.height - 1 - row) * picture.width + column]
    return (value < 0) == (colour == "B") and abs(value) >= _DEAD


def _wrap(line: str, width: int) -> list[str]:
    """A line as lines of at most `width` pixels."""
    lines, current = [], ""
    for word in line.split():
        longer = f"{current} {word}".strip()
        if current and drawing.font(_TEXT_SIZE).getlength(longer) > width:
            lines.append(current)
            longer = word
        current = longer
    return [*lines, current] if current else lines


def _texts(image: Image.Image, draw: ImageDraw.ImageDraw, picture: BoardPicture) -> None:
    """The heading above the board, the notes and the legend below it."""
    for index, text in enumerate(picture._wrapped(picture.heading)):
        size, at = _TEXT_SIZE + (1 if index == 0 else 0), (_TEXT_MARGIN, (index + 1) * _LINE)
        draw.text(at, text, fill=INK if index == 0 else _TEXT, font=drawing.font(size), anchor="lm")
    top = picture._top + picture._board_size[1] + _LINE // 2
    for index, (symbol, text) in enumerate(picture._below):
        y, x = top + index * _LINE + _LINE // 2, _TEXT_MARGIN
        if symbol:
            _symbol(image, draw, symbol, (x + 8, y))
            x += 24
        draw.text((x, y), text, fill=_TEXT, font=drawing.font(_TEXT_SIZE), anchor="lm")


def _symbol(image: Image.Image, draw: ImageDraw.ImageDraw, symbol: str, at: tuple[int, int]) -> None:
    x, y = at
    box = (x - 7, y - 7, x + 7, y + 7)
    if symbol == "candidate":
        fill = drawing.loss_colour(0)
        _paste(image, _disc(16, 0.46, fill, drawing.mixed(fill, (0, 0, 0), 0.55), 0.06), at)
    elif symbol == "numbered":
        draw.ellipse(box, fill=BLACK)
        drawing.write(draw, (x, y), "1", 11, WHITE)
    elif symbol == "last":
        _paste(image, _disc(24, 0.25, *_LAST_MOVE, 0.045), at)
    elif symbol == "dead":
        draw.ellipse(box, fill=WHITE, outline=INK)
        draw.rectangle((x - 3, y - 3, x + 3, y + 3), fill=BLACK)
    else:
        draw.rectangle(box, fill=_tint(0.8 if symbol == "black" else -0.8), outline=INK)


def _tint(value: float) -> Rgb:
    """The colour of a point by its ownership."""
    strength = abs(value) * (0.45 if value > 0 else 0.75)
    return drawing.mixed(WOOD, (30, 24, 18) if value > 0 else (255, 255, 255), strength)


def _candidates(image: Image.Image, draw: ImageDraw.ImageDraw, picture: BoardPicture) -> None:
    for candidate in reversed(picture.candidates):
        x, y = picture.point(candidate.vertex) or (0, 0)
        loss = candidate.points_lost
        fill = _UNKNOWN if loss is None else drawing.loss_colour(loss)
        border = drawing.mixed(fill, (0, 0, 0), 0.55)
        _paste(image, _disc(picture.cell, 0.46, fill, border, 0.04), (x, y))
        lost = "" if loss is None else _loss_text(loss)
        if lost and candidate.label and picture.cell >= _CELL_FOR_TWO_LINES:
            drawing.write(
                draw, (x, y - picture.cell * 0.13), candidate.label, round(picture.cell * 0.42), BLACK
            )
            drawing.write(draw, (x, y + picture.cell * 0.21), lost, max(9, round(picture.cell * 0.28)), BLACK)
        else:
            drawing.write(draw, (x, y), candidate.label or lost, round(picture.cell * 0.42), BLACK)


def _loss_text(loss: float) -> str:
    rounded = f"{max(0.0, loss):.1f}" if loss < 9.95 else f"{min(loss, 999):.0f}"
    # The font has no minus sign, only the hyphen.
    return rounded if rounded == "0.0" else f"-{rounded}"


def _last_move(image: Image.Image, picture: BoardPicture) -> None:
    if picture.last_move is not None:
        mark = _disc(picture.cell, 0.17, *_LAST_MOVE, 0.045)
        _paste(image, mark, picture.point(picture.last_move))
