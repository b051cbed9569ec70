"""What pictures share: text, colours and the PNG format.

The only file read is Pillow's built-in font, which has only Latin letters.
"""

from functools import lru_cache
from io import BytesIO
from typing import Final

from PIL import Image, ImageDraw, ImageFont

Rgb = tuple[int, int, int]

_LOSSES: Final[tuple[tuple[float, Rgb], ...]] = (
    (0.0, (74, 170, 220)),
    (0.5, (92, 190, 130)),
    (1.5, (186, 204, 84)),
    (3.0, (244, 196, 66)),
    (6.0, (236, 132, 52)),
    (12.0, (208, 60, 52)),
)
"""The colour of a move by points lost. Values in between get a mixed colour."""


def png(image: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's font, `size` pixels."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this build of Pillow lacks FreeType: install Pillow as a wheel from PyPI")
    # Not every build has the other layout engine.
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, fill: Rgb) -> None:
    """Write a text around its centre."""
    draw.text(at, text, fill=fill, font=font(size), anchor="mm", stroke_width=0.4 if size > 12 else 0)


def loss_colour(loss: float) -> Rgb:
    """The colour of a loss in points."""
    previous, colour = _LOSSES[0]
    for limit, following in _LOSSES[1:]:
        if loss < limit:
            return mixed(colour, following, max(0.0, (loss - previous) / (limit - previous)))
        previous, colour = limit, following
    return colour


def mixed(one: Rgb, other: Rgb, share: float) -> Rgb:
    """A colour between two, `share` of the way."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
