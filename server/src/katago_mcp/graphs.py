"""PNG graph of a game for people: score lead, winrate, and what each mistake lost.

Pure functions: with the same version of Pillow, the same input gives the same bytes.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from PIL import Image, ImageDraw

from katago_mcp import drawing
from katago_mcp.drawing import Rgb
from katago_mcp.positions import MAX_MOVES, Colour

MAX_POINTS = MAX_MOVES + 1
MAX_WIDTH, MAX_HEIGHT = 1600, 1000
MIN_WIDTH, MIN_HEIGHT = 320, 240

CLOSE = 20.0
"""Points of lead up to which a game is close. A graph that goes further compresses what lies beyond."""

_CLOSE_SHARE = 0.75
"""The part of each half of a compressed scale that shows the close part of the game."""

_MAX_LEAD = 1000
_PAPER: Final[Rgb] = (250, 249, 246)
_BLACKS_HALF: Final[Rgb] = (232, 230, 224)
_GRID: Final[Rgb] = (208, 206, 200)
_TEXT: Final[Rgb] = (70, 68, 64)
_SCORE: Final[Rgb] = (36, 36, 40)
_WINRATE: Final[Rgb] = (38, 122, 190)
_BLACK: Final[Rgb] = (40, 40, 44)
_WHITE: Final[Rgb] = (255, 255, 255)
_FRAME = (64, 54, 60, 46)
"""Margins of the plot in pixels: left, top, right, bottom."""

_PADDING = 6
"""Pixels between the ends of the scale and the frame, so that curves at the ends stay visible."""

_STRIP = 0.24
"""The part of the plot's height that the losses take."""

_STRIP_POINTS = 15.0
"""Points lost at which a bar has its full height."""

_SIZES: Final[tuple[tuple[float, int], ...]] = ((12.0, 8), (6.0, 6), (0.0, 4))
"""Radius in pixels of a mistake's mark on the curve, by points lost."""

_MARKED = 16
"""Mistakes that are marked on the curve, worst first: more would hide it. The bars show all."""


@dataclass(frozen=True)
class GraphPoint:
    """The state of a game after `move_number` moves, from Black's perspective.

    `score_lead` is in points, `winrate` from 0 to 1; None if unknown.
    """

    move_number: int
    score_lead: float | None = None
    winrate: float | None = None


@dataclass(frozen=True)
class GraphMistake:
    """A mistake of `player`: the number of its move, and the points that it lost."""

    move_number: int
    player: Colour
    points_lost: float


@dataclass(frozen=True)
class GraphPicture:
    """The content of a graph of a game: `points` by ascending move number, at most 2001.

    `mistakes` are marked; those without a point are ignored. `title` is one line of Latin letters. `width` is
    320 to 1600 pixels, `height` 240 to 1000.

    Raises:
        ValueError: if a value is out of range or not a number.
    """

    points: tuple[GraphPoint, ...]
    mistakes: tuple[GraphMistake, ...] = ()
    title: str = ""
    width: int = 900
    height: int = 520

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
        for mistake in self.mistakes:
            if not math.isfinite(mistake.points_lost):
                raise ValueError(f"points_lost must be a finite number, not {mistake.points_lost}")


def graph(picture: GraphPicture) -> bytes:
    """Draw score lead and winrate of a game as PNG, RGB. Black's side is up, White's is down.

    The left scale is the score lead in points, the right one Black's winrate. Unknown values leave a gap.
    Below, bars show the points lost by each mistake: Black's dark and up, White's light and down. The worst
    mistakes are also marked on the curve: Black's as dark discs, White's as light squares, larger for worse
    ones.
    """
    plot = _Plot(picture)
    image = Image.new("RGB", (picture.width, picture.height), _PAPER)
    image.paste(plot.curves(), plot.box)
    if plot.strip_height:
        image.paste(plot.losses(), plot.strip)
    plot.label(ImageDraw.Draw(image))
    return drawing.png(image)


class _Scale:
    """The scale of the score lead: linear, or compressed beyond CLOSE if the lead goes far beyond it."""

    def __init__(self, largest: float) -> None:
        self.is_compressed = largest > 2 * CLOSE
        self.step, self.limit = _steps(CLOSE if self.is_compressed else largest)
        self.end = float(math.ceil(largest / 10) * 10) if self.is_compressed else float(self.limit)

    def share(self, lead: float) -> float:
        """The height of a lead, from -1 (White, bottom) to 1 (Black, top)."""
        if not self.is_compressed:
            return lead / self.end
        size = abs(lead)
        if size <= CLOSE:
            return lead / CLOSE * _CLOSE_SHARE
        beyond = _CLOSE_SHARE + (1 - _CLOSE_SHARE) * (size - CLOSE) / (self.end - CLOSE)
        return math.copysign(beyond, lead)

    def ticks(self) -> list[int]:
        """The leads that are labelled."""
        ticks = list(range(-self.limit, self.limit + 1, self.step))
        return [-int(self.end), *ticks, int(self.end)] if self.is_compressed else ticks


class _Plot:
    """The plot of a graph. Curves are drawn larger and scaled down, which makes them smooth."""

    def __init__(self, picture: GraphPicture) -> None:
        self.picture = picture
        left, top, right, bottom = _FRAME
        full = picture.height - top - bottom
        self.strip_height = round(full * _STRIP) if picture.mistakes else 0
        self.box = (left, top, picture.width - right, top + full - self.strip_height)
        self.strip = (left, self.box[3], picture.width - right, top + full)
        self.width, self.height = self.box[2] - left, self.box[3] - top
        self.first = picture.points[0].move_number
        self.last = max(picture.points[-1].move_number, self.first + 1)
        leads = [abs(point.score_lead) for point in picture.points if point.score_lead is not None]
        self.scale = _Scale(max(leads, default=0))
        self.has_scores = bool(leads)
        self.has_winrates = any(point.winrate is not None for point in picture.points)
        known = {point.move_number for point in picture.points}
        self.mistakes = [mistake for mistake in picture.mistakes if mistake.move_number in known]

    def x(self, move_number: int) -> float:
        return (move_number - self.first) / (self.last - self.first) * (self.width - 1)

    def y(self, share: float) -> float:
        """The pixel row of a value from -1 (White, bottom) to 1 (Black, top)."""
        return _PADDING + (1 - share) / 2 * (self.height - 1 - 2 * _PADDING)

    def curves(self) -> Image.Image:
        scale = 2
        image = Image.new("RGB", (self.width * scale, self.height * scale), _WHITE)
        draw = ImageDraw.Draw(image)
        zero = self.y(0) * scale
        draw.rectangle((0, 0, image.width, zero), fill=_BLACKS_HALF)
        for move in self._ticks():
            draw.line((self.x(move) * scale, 0, self.x(move) * scale, image.height), fill=_GRID, width=scale)
        for lead in self.scale.ticks():
            y = self.y(self.scale.share(lead)) * scale
            draw.line((0, y, image.width, y), fill=_GRID, width=scale)
        scores = self._runs([(p.move_number, self._share(p.score_lead)) for p in self.picture.points])
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
        for mistake, x, y in self._marks():
            _mark(draw, mistake.player, (x * scale, y * scale), mistake.points_lost, scale)
        return image.resize((self.width, self.height), Image.Resampling.BOX)

    def losses(self) -> Image.Image:
        """Bars from the middle: Black's losses up, White's down."""
        scale = 2
        image = Image.new("RGB", (self.width * scale, self.strip_height * scale), _PAPER)
        draw = ImageDraw.Draw(image)
        zero, room = image.height / 2, image.height / 2 - 4 * scale
        for move in self._ticks():
            draw.line((self.x(move) * scale, 0, self.x(move) * scale, image.height), fill=_GRID, width=scale)
        half = max(1.0, min(4.0, self.width / (self.last - self.first) / 2 - 0.5)) * scale
        for mistake in self.mistakes:
            x = self.x(mistake.move_number) * scale
            length = room * min(1.0, max(0.05, mistake.points_lost / _STRIP_POINTS))
            top, bottom = (zero - length, zero) if mistake.player == "B" else (zero, zero + length)
            fill = _BLACK if mistake.player == "B" else _WHITE
            draw.rectangle((x - half, top, x + half, bottom), fill=fill, outline=_BLACK, width=scale // 2)
        draw.line((0, zero, image.width, zero), fill=_TEXT, width=scale)
        return image.resize((self.width, self.strip_height), Image.Resampling.BOX)

    def label(self, draw: ImageDraw.ImageDraw) -> None:
        left, top, right, bottom = self.box
        end = self.strip[3]
        draw.rectangle((left - 1, top - 1, right, bottom), outline=_TEXT)
        for move in self._ticks():
            self._text(draw, "mm", (left + self.x(move), end + 14), str(move), _TEXT)
        self._text(draw, "rm", (right, end + 32), "move", _TEXT)
        if self.picture.title:
            self._text(draw, "lm", (left, 14), self.picture.title, _TEXT, 16)
        if self.has_scores:
            for lead in self.scale.ticks():
                side = "B+" if lead > 0 else "W+" if lead < 0 else ""
                y = top + self.y(self.scale.share(lead))
                self._text(draw, "rm", (left - 8, y), f"{side}{abs(lead)}", _SCORE)
            compressed = f" (compressed beyond {CLOSE:g})" if self.scale.is_compressed else ""
            self._text(draw, "lm", (left, top - 14), f"score lead{compressed}", _SCORE)
        if self.has_winrates:
            for percent in (0, 25, 50, 75, 100):
                y = top + self.y(percent / 50 - 1)
                self._text(draw, "lm", (right + 8, y), f"{percent} %", _WINRATE)
            self._text(draw, "rm", (right, top - 14), "Black's winrate", _WINRATE)
        if self.strip_height:
            draw.rectangle((left - 1, bottom, right, end), outline=_TEXT)
            middle = (bottom + end) / 2
            self._text(draw, "rm", (left - 8, middle), "lost", _TEXT)
            self._legend(draw)

    def _legend(self, draw: ImageDraw.ImageDraw) -> None:
        """What marks and bars mean, below the plot."""
        x, y = float(self.box[0]), self.strip[3] + 32
        entries: tuple[tuple[Colour, str], ...] = (("B", "Black's mistakes, bars up"), ("W", "White's, down"))
        for player, text in entries:
            _mark(draw, player, (x + 8, y), 6.0, 1)
            self._text(draw, "lm", (x + 20, y), text, _TEXT)
            x += 34 + drawing.font(14).getlength(text)

    def _text(
        self,
        draw: ImageDraw.ImageDraw,
        anchor: str,
        at: tuple[float, float],
        text: str,
        fill: Rgb,
        size: int = 14,
    ) -> None:
        draw.text(at, text, fill=fill, font=drawing.font(size), anchor=anchor)

    def _ticks(self) -> list[int]:
        span = self.last - self.first
        room = max(2, self.width // 70)
        step = next((step for step in (1, 2, 5, 10, 20, 25, 50, 100, 200) if span / step <= room), 500)
        return list(range(math.ceil(self.first / step) * step, self.last + 1, step))

    def _share(self, lead: float | None) -> float | None:
        return None if lead is None else self.scale.share(lead)

    def _runs(self, values: list[tuple[int, float | None]]) -> list[list[tuple[float, float]]]:
        """The points of a curve in pixels, split where values are unknown."""
        runs: list[list[tuple[float, float]]] = [[]]
        for move, value in values:
            if value is not None:
                runs[-1].append((self.x(move), self.y(value)))
            elif runs[-1]:
                runs.append([])
        return [run for run in runs if run]

    def _marks(self) -> list[tuple[GraphMistake, float, float]]:
        """The mistakes that are marked on the curve, with their pixels; the worst is drawn last."""
        shares: dict[int, float] = {}
        for point in self.picture.points:
            share = self._share(point.score_lead)
            if share is None and point.winrate is not None:
                share = 2 * point.winrate - 1
            if share is not None:
                shares[point.move_number] = share
        worst = sorted(self.mistakes, key=lambda mistake: mistake.points_lost)[-_MARKED:]
        return [
            (mistake, self.x(mistake.move_number), self.y(shares[mistake.move_number]))
            for mistake in worst
            if mistake.move_number in shares
        ]


def _mark(
    draw: ImageDraw.ImageDraw, player: Colour, at: tuple[float, float], points_lost: float, scale: int
) -> None:
    """A mistake: a dark disc for Black, a light square for White, with the colour of its loss around it."""
    radius = next(size for limit, size in _SIZES if points_lost >= limit or not limit) * scale
    x, y = at
    ring = drawing.loss_colour(max(3.0, points_lost))
    box = (x - radius, y - radius, x + radius, y + radius)
    if player == "B":
        draw.ellipse(box, fill=_BLACK, outline=ring, width=2 * scale)
    else:
        draw.rectangle(box, fill=_WHITE, outline=_BLACK, width=scale)
        draw.rectangle(
            (box[0] + scale, box[1] + scale, box[2] - scale, box[3] - scale), outline=ring, width=2 * scale
        )


def _steps(largest: float) -> tuple[int, int]:
    """Step and end of a linear scale, in points. Each side has two to four steps."""
    step = next(step for step in (2, 5, 10, 20, 25, 50, 100, 200, 500) if largest <= 4 * step)
    return step, step * max(2, math.ceil(largest / step))
