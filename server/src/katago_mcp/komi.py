"""Komi as programs and people write it: in points or stones, in tenths or hundredths, from either player."""

import re

from katago_mcp.numerals import arabic
from katago_mcp.positions import MAX_KOMI, PLAUSIBLE_KOMI

_KOMI = re.compile(
    r"([^\d+-]*+)([+-]?)(\d{1,9}(?:[.,]\d{1,9})?(?!\d*/))?\s*+(?:又?\s*+(\d)/([1-9]))?\s*+(\D*)", re.ASCII
)
_HALF_ALONE = re.compile(r"(?<![\d目点點子个個집])[半반]")
_TO_BLACK = re.compile(
    r"\brev|\b(?:white|w)\s+(?:gives?|pays?)|\b(?:black|b)\s*(?:\+|gets?\b|receives?\b)"
    r"|\b(?:to|for)\s+(?:black|b)\b|逆|倒[贴貼]|白[贴貼出]|역덤"
)
"""White gives komi to Black."""

_SIDE = re.compile(r"\b(?:black|white|[bw])\b|[黑黒白흑백]")
_PLAIN = re.compile(
    r"komi|コミ|込み?|덤|[贴貼][目还還]?|black|white|\b[bw]\b|gives?|pays?|gets?|receives?|to|for|points?|pts?|moku|"
    r"[目点點子个個집半반出黑黒白흑백し]|[\W_]+"
)
"""What may stand beside the number without a change of its meaning."""

_TYPICAL = (4.5, 9.0)
"""Komi in even games. Values outside are likelier in another unit."""


def read_komi(text: str, is_of_fox: bool = False) -> tuple[float | None, bool]:
    """Komi in points, rounded to half-integers, and whether the text contains exactly this value.

    Fox and others write hundredths (375, 650). So whole numbers from 100 are read as hundredths, and in Fox's
    files from 25 (50). Other values that no game has are read in the unit in which they are a usual komi: 65
    and 0.65 are 6.5. Chinese komi is counted in stones of two points. So 2 to 4 in hundredths (375 is 3.75
    stones, 7.5 points), quarters (2.75, 3.75) and values with the unit 子 are doubled. Komi that White gives
    ("reverse 5.5") is negative. None is text without exactly one number, or with a sign beside a colour.
    """
    match = _KOMI.fullmatch(_HALF_ALONE.sub("0.5", arabic(text)))
    if match is None or (match[3] is None and match[4] is None):
        return None, False
    before, sign, number, numerator, denominator, after = match.groups()
    words = f"{before}{sign} {after}"
    to_black = _TO_BLACK.search(words) is not None
    if sign == "-" and (to_black or _SIDE.search(words)):
        return None, False
    value = float((number or "0").replace(",", "."))
    if numerator is not None:
        value += int(numerator) / int(denominator)
    if "半" in after or "반" in after:
        value += 0.5
    in_hundredths = value.is_integer() and value >= (25 if is_of_fox else 100)
    points = _usual(value / 100 if in_hundredths else value)
    is_quarter = points < 5 and (points * 4).is_integer() and not (points * 2).is_integer()
    if "子" in after or is_quarter or (in_hundredths and 2 <= points <= 4):
        points *= 2
    points = round(points * 2) / 2
    if points > MAX_KOMI:
        return None, False
    is_as_written = points == value and not to_black and not _PLAIN.sub("", words)
    # Adding 0 turns -0 into 0.
    return (-points if to_black or sign == "-" else points) + 0.0, is_as_written


def _usual(value: float) -> float:
    """The value in the unit in which it is a usual komi; unchanged if it can be one, or is none in any."""
    if value in (0, 0.25, 0.5) or 1 <= value <= PLAUSIBLE_KOMI:
        return value
    for scaled in (value * 10, value / 10, value / 100):
        scaled = round(scaled, 6)
        if _TYPICAL[0] <= scaled <= _TYPICAL[1] and (scaled * 2).is_integer():
            return scaled
    return value
