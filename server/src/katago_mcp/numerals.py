"""Numbers as people write them: full-width and East Asian digits, signs and fractions."""

import re
import unicodedata

_SIGNS = str.maketrans({"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "\u2212": "-", "\u2013": "-", "·": "."})
_VALUES = {
    digit: value
    for value, digits in enumerate(
        ("〇零", "一壱壹", "二弐贰貳两兩", "三参叁參", "四肆", "五伍", "六陆陸", "七柒", "八捌", "九玖")
    )
    for digit in digits
}
_DIGIT = f"[{''.join(_VALUES)}]"
_NUMERAL = re.compile(rf"({_DIGIT}?)[十拾]({_DIGIT}?)|{_DIGIT}+")
_PARTS = re.compile(r"(\d)分之(\d)")


def arabic(text: str) -> str:
    """Text in lower case with all numbers in ASCII digits: 六目半 is 6目半, 十九 is 19, 四分之三 is 3/4."""
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS).lower()
    return _PARTS.sub(r"\2/\1", _NUMERAL.sub(_digits, text))


def _digits(numeral: "re.Match[str]") -> str:
    tens, ones = numeral.groups()
    if tens is None:
        return "".join(str(_VALUES[digit]) for digit in numeral[0])
    return str(10 * _VALUES.get(tens, 1) + _VALUES.get(ones, 0))
