"""Detects the charset of a game record, whether the record declares it, omits it or declares a wrong one.

SGF declares its charset inside the encoded text (property CA), and most East Asian programs declare none
or the wrong one. No input raises UnicodeDecodeError; a warning names each assumption. Damaged text, such as
a character cut in half, does not hide the charset of the rest.
"""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import cached_property
from itertools import islice

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    # UTF-32's little-endian mark starts with UTF-16's, so it must come first.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WITHOUT_BOM = ((b"(\0;\0", "utf-16-le"), (b"\0(\0;", "utf-16-be"))

_DECLARATION = re.compile(rb"(?<![A-Za-z])CA\s*\[\s*([A-Za-z0-9_.: -]{1,40}?)\s*\]")

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_THREE_BYTES = re.compile(r"[\u0800-\uffff]")
_ALONE = re.compile(r"(?<![^\x00-\x7f])[^\x00-\x7f](?![^\x00-\x7f])")

_LATIN = "cp1252"
_SEVEN_BIT = frozenset({"hz", "iso2022_jp", "iso2022_kr"})
_SUPERSETS = {
    "ascii": "utf_8",
    "big5": "cp950",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "latin_1": _LATIN,
    "shift_jis": "cp932",
}
"""The charset to decode with: programs often use characters of a declared charset's superset."""

_ACCEPTED = frozenset(_SUPERSETS.values()) | _SEVEN_BIT | {"big5hkscs", "euc_jp", "koi8_r", "utf_8"}
_ACCEPTED |= {f"iso8859_{part}" for part in range(2, 17)} | {f"cp125{page}" for page in range(9)}
"""Charsets that a CA property can select, by their Python names. Other codecs are never used."""

_CORES = {
    "gb18030": ("gb2312", 0xD7),
    "cp932": ("euc_jp", 0xCF),
    "euc_jp": ("euc_jp", 0xCF),
    "cp949": ("euc_kr", 0xC8),
    "cp950": ("big5", 0xC6),
}
"""For a legacy charset, the charset of its common characters, and the last lead byte of those characters."""

_LEADS = {
    "big5hkscs": "\x81-\xfe",
    "cp932": "\x81-\x9f\xe0-\xfc",
    "cp950": "\x81-\xfe",
    "gb18030": "\x81-\xfe",
    "latin-1": "\x81-\xfe",
}
"""The first bytes of characters whose second byte can be an ASCII sign such as "]".

Text of an unknown charset is read as latin-1. It may be in any of them.
"""

_SAMPLE = 2000
_CREDIBLE = 0.6
_NEARLY = 0.9
_KOREAN_EVIDENCE = 8


@dataclass(frozen=True)
class Charset:
    """A charset by its Python name.

    `leads` are the first bytes of characters that can contain an ASCII sign, for a regular expression; empty
    if there are none.
    """

    name: str
    leads: str = ""

    def decode(self, data: bytes) -> str:
        """The bytes as text; U+FFFD replaces those that are no text."""
        return data.decode(self.name, "replace")


@dataclass(frozen=True)
class Decoded:
    """A record's bytes, the Python name of its charset, and a warning about an assumption (or None)."""

    data: bytes
    charset: str
    warning: str | None

    @cached_property
    def text(self) -> str:
        """The text; U+FFFD replaces bytes that are no text."""
        return self.data.decode(self.charset, "replace")

    @property
    def ambiguous(self) -> Charset | None:
        """The charset if a byte in it can be either an ASCII sign or half of a character; else None."""
        leads = _LEADS.get(self.charset)
        return None if leads is None else Charset(self.charset, leads)


def decode(data: bytes) -> Decoded:
    """Find the charset of a game record from any program.

    Tried in this order: a byte-order mark; valid UTF-8; the charset that CA declares (SGF FF[4], CA);
    UTF-8 with a few broken characters; the declared charset with a few; the legacy charset under which the
    text has the most common characters, first without and then with a few broken ones; ISO-8859-1, which is
    SGF's default and accepts every byte.
    """
    for mark, charset in _BOMS:
        if data.startswith(mark):
            return _settle(data[len(mark) :], charset)
    for sign, charset in _WITHOUT_BOM:
        if data.startswith(sign):
            return _settle(data, charset)
    declaration = _DECLARATION.search(data, 0, 4096)
    name = declaration[1].decode("ascii") if declaration else None
    declared = _supported(name)
    if declared in _SEVEN_BIT:
        return _settle(data, declared)
    if _strictly(data, "utf-8") is not None:
        contradicted = declared not in (None, "utf_8") and not data.isascii()
        return Decoded(data, "utf-8", f"CA[{name}] is wrong: the text is UTF-8" if contradicted else None)
    if (
        declared is not None
        and not (declared == _LATIN and _isolated(data.decode("latin-1")) < 0.5)
        and _strictly(data, declared) is not None
    ):
        return Decoded(data, declared, None)
    if _is_nearly_utf8(data, declared == "utf_8"):
        return _settle(data, "utf-8")
    if declared is not None and declared in _CORES and _score(data, declared, _roughly) >= _CREDIBLE:
        return _settle(data, declared)
    problem = "no charset is declared (CA)" if name is None else f"CA[{name}] does not fit"
    for reading in (_strictly, _roughly):
        guess = _guess(data, reading)
        if guess is not None:
            return Decoded(data, guess, f"{problem}: the text was read as {guess}")
    if declared is not None:
        return _settle(data, declared)
    return Decoded(data, "latin-1", "the charset is not known: names and comments may be garbled")


def _settle(data: bytes, charset: str) -> Decoded:
    if _strictly(data, charset) is not None:
        return Decoded(data, charset, None)
    return Decoded(data, charset, f"the text is damaged: bytes that are not {charset} were replaced")


def _strictly(data: bytes, charset: str) -> str | None:
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        return None


def _roughly(data: bytes, charset: str) -> str | None:
    """The text if nearly all of it is in a charset, with U+FFFD for the rest."""
    text = data.decode(charset, "replace")
    return text if text.count("\ufffd") <= 1 + (1 - _NEARLY) * _beyond_ascii(text) else None


def _supported(name: str | None) -> str | None:
    if name is None:
        return None
    # Not codecs.lookup, which caches every unknown name permanently.
    charset = normalize_encoding(name).lower()
    charset = aliases.get(charset, charset)
    charset = _SUPERSETS.get(charset, charset)
    return charset if charset in _ACCEPTED else None


def _is_nearly_utf8(data: bytes, is_declared: bool) -> bool:
    text = data.decode("utf-8", "replace")
    broken, count = text.count("\ufffd"), _beyond_ascii(text)
    if broken <= (1 - _NEARLY) * count:
        return True
    # Other charsets hardly ever form three bytes that are one character.
    evidence = len(_THREE_BYTES.findall(text)) - broken
    return broken == 1 and evidence >= (1 if is_declared else 2)


def _guess(data: bytes, reading: Callable[[bytes, str], str | None]) -> str | None:
    scores: dict[str, float] = {}
    for charset in _CORES:
        scores[charset] = _score(data, charset, reading)
        if charset == "cp949" and scores[charset] == 1 and _has_evidence(data.decode(charset, "replace")):
            # Chinese text read as Korean contains hanja among the hangul, unless it is short.
            return charset
    if _strictly(data, _LATIN) is not None:
        scores[_LATIN] = _isolated(data.decode(_LATIN))
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] >= _CREDIBLE else None


def _score(data: bytes, charset: str, reading: Callable[[bytes, str], str | None]) -> float:
    """The share of common characters; 0 if the text is not in this charset."""
    text = reading(data, charset)
    sample = [match[0] for match in islice(_BEYOND_ASCII.finditer(text or ""), _SAMPLE)]
    core, last = _CORES[charset]
    return sum(_common(character, core, last) for character in sample) / max(1, len(sample))


def _has_evidence(text: str) -> bool:
    return _beyond_ascii(text) >= _KOREAN_EVIDENCE


def _beyond_ascii(text: str) -> int:
    """The number of characters that are not ASCII."""
    return len(text) - len(text.encode("ascii", "ignore"))


def _common(character: str, core: str, last: int) -> bool:
    if core == "gb2312" and "\u3041" <= character <= "\u30fe":
        # Kana do not count as Chinese: the same bytes are kana in EUC-JP.
        return False
    encoded = character.encode(core, "ignore")
    return len(encoded) == 2 and 0xA1 <= encoded[0] <= last


def _isolated(text: str) -> float:
    """The share of isolated accented letters among the non-ASCII characters."""
    alone = [letter for letter in _ALONE.findall(text) if letter.isalpha()]
    return len(alone) / max(1, _beyond_ascii(text))
