"""Finds known secrets that are encoded as a whole, byte by byte, or that a line break splits.

Pure: bytes in, places out. Byte by byte: hexadecimal, octal and decimal numbers, also with separators and
as UTF-16.
"""

from __future__ import annotations

import base64
import bisect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

Place = tuple[int, int]
"""Start and end in a text."""

# What is not part of a text: line breaks with indents and prefixes of logs, colours, invisible characters.
_PREFIX = (
    rb"(?:(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.,+Z-]{8,24}) [\w.-]{1,64} "
    rb"[\w.@/-]{1,64}(?:\[\d{1,9}\])?: |[ \t]{0,64})"
)
_FIELDS = rb"(?:\"\w{1,64}\"\s?:\s?\"[^\"\n\\]{0,256}\",\s?){0,60}"
_ENTRY = rb"\"(?:,\s?\"\w{1,64}\"\s?:\s?\"[^\"\n\\]{0,256}\"){0,60}\}\n\{%b\"MESSAGE\"\s?:\s?\"" % _FIELDS
_INVISIBLE = rb"\x1b\[[0-9;]{0,16}[A-Za-z]|\xc2\xad|\xe2\x80[\x8b-\x8d]|\xef\xbb\xbf"
_ESCAPED_BREAK = rb"(?:\\{1,16}r)?\\{1,16}n[ \t]{0,64}"
_ANY_BREAK = re.compile(rb"\r?\n%b|%b|%b|%b" % (_PREFIX, _ESCAPED_BREAK, _ENTRY, _INVISIBLE))
_BREAKS = (
    (_ANY_BREAK, b""),
    # A break between two words of a secret.
    (_ANY_BREAK, b" "),
    # The character that continues a line, in shells and in quoted-printable text.
    (re.compile(rb"[\\=]\r?\n[ \t]{0,64}"), b""),
)


def text_forms(secret: bytes) -> set[bytes]:
    """The forms of a secret inside longer data in base64 or base32, and its text as UTF-16."""
    forms: set[bytes] = set()
    wide = _wide(secret)
    for content in (secret, *wide):
        for core in _cores(content, base64.b64encode, bits=6, group=3):
            forms |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    for core in _cores(secret, base64.b32encode, bits=5, group=5):
        forms |= {core, core.lower()}
    return forms.union(wide)


def _cores(secret: bytes, encode: Callable[[bytes], bytes], bits: int, group: int) -> Iterator[bytes]:
    """The encoded secret at each alignment, without the characters that encode other bytes too."""
    for before in range(group):
        first, last = -(-before * 8 // bits), (before + len(secret)) * 8 // bits
        yield encode(bytes(before) + secret)[first:last]


def _wide(secret: bytes) -> tuple[bytes, ...]:
    text = secret.decode(errors="replace")
    return text.encode("utf-16-le", errors="surrogatepass"), text.encode("utf-16-be", errors="surrogatepass")


@dataclass(frozen=True)
class _Notation:
    """A way to write bytes. `run`: many units one after the other. `decode`: what a unit means."""

    run: re.Pattern[bytes]
    unit: re.Pattern[bytes]
    decode: Callable[[bytes], bytes]


def _numbers(base: str) -> dict[bytes, bytes]:
    """The bytes by their numbers of up to four digits."""
    return {f"{byte:0{width}{base}}".encode(): bytes([byte]) for byte in range(256) for width in range(1, 5)}


_DECIMAL, _OCTAL = _numbers("d"), _numbers("o")
_RUN_OF_NUMBERS = re.compile(
    rb"(?<!\d)\d{1,4}(?:(?:[\s,;:|+&#\\()\[\]-]|[cC][hH][rR]){1,16}\d{1,4}(?!\d)){7,}"
)
_NUMBER = re.compile(rb"\d{1,4}")
_NOTATIONS = (
    _Notation(
        re.compile(rb"[0-9A-Fa-f](?:[\s:,;_=%{}&#\\xXuU\"'+()\[\]|-]{0,16}[0-9A-Fa-f]){15,}"),
        re.compile(rb"(?:0[xX])?[0-9A-Fa-f]"),
        lambda unit: unit[-1:].lower(),
    ),
    _Notation(_RUN_OF_NUMBERS, _NUMBER, lambda unit: _DECIMAL.get(unit, b"\n")),
    _Notation(_RUN_OF_NUMBERS, _NUMBER, lambda unit: _OCTAL.get(unit, b"\n")),
)


def written_bytes(text: bytes, secrets: Sequence[bytes]) -> Iterator[tuple[Place, bytes]]:
    """Where secrets are written byte by byte, and which ones."""
    forms = [(form, secret) for secret in secrets for form in (secret, *_wide(secret))]
    for notation in _NOTATIONS:
        nibbles = notation is _NOTATIONS[0]
        runs = [match.span() for match in notation.run.finditer(text)]
        units = [notation.unit.findall(text, *run) for run in runs]
        # One byte for each unit, and one between two runs.
        content = b"\n".join(b"".join(map(notation.decode, each)) for each in units)
        begins = [0]
        for each in units:
            begins.append(begins[-1] + len(each) + 1)
        for form, secret in forms:
            for start, end in _occurrences(content, form.hex().encode() if nibbles else form):
                run = bisect.bisect_right(begins, start) - 1
                places = [match.span() for match in notation.unit.finditer(text, *runs[run])]
                yield (places[start - begins[run]][0], places[end - 1 - begins[run]][1]), secret


def _occurrences(content: bytes, form: bytes) -> Iterator[Place]:
    at = content.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = content.find(form, at + len(form))


def split(
    text: bytes, search: Callable[[bytes], Iterable[tuple[Place, bytes]]]
) -> Iterator[tuple[Place, bytes]]:
    """The parts of secrets that a break splits, without the breaks. `search` finds whole secrets."""
    for breaks, filler in _BREAKS:
        removed = [match.span() for match in breaks.finditer(text)]
        if not removed:
            continue
        # Where the breaks were in the joined text.
        joints: list[int] = []
        pieces, at, length = [], 0, 0
        for start, end in removed:
            pieces.append(text[at:start])
            length += start - at
            joints.append(length)
            length += len(filler)
            at = end
        joined = filler.join([*pieces, text[at:]])
        for (start, end), mark in search(joined):
            first = bisect.bisect_right(joints, start - len(filler))
            last = bisect.bisect_left(joints, end)
            if first == last:
                continue
            moved = removed[first - 1][1] - joints[first - 1] - len(filler) if first else 0
            begin = start + moved
            for number in range(first, last):
                if removed[number][0] > begin:
                    yield (begin, removed[number][0]), mark
                begin = removed[number][1]
            yield (begin, begin + max(0, end - joints[last - 1] - len(filler))), mark
