"""Redacts secrets in text: known secrets wherever they occur, and text that looks like a secret.

Pure: bytes in, bytes out. A known secret is found verbatim, in base64, base32 and UTF-16, as numbers of its
bytes, split by a line break, and with any of its characters URL-encoded, escaped as in JSON, in C or by
systemd, or written as an HTML entity, also with nested encodings.
Text looks like a secret by the key before it, by its position in a command line, or by its shape.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.common import (
    secret_encodings,
    secret_names,
    secret_text,
)

MARK = secret_names.MARK.encode()
SHORTEST = 8
"""Minimum length in bytes of a known secret. A shorter one would also match harmless words."""

_BACKSLASH = rb"(?:\\|%(?:25){0,3}5[Cc])"
_LETTERS = {"\n": b"n", "\r": b"r", "\t": b"t", "\b": b"b", "\f": b"f"}
_ENTITIES = {'"': b"|quot", "'": b"|apos", "&": b"|amp", "<": b"|lt", ">": b"|gt"}
_HEX_WORD = rb"(?:3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])"
# An encoded letter or digit, which needs no encoding.
_ENCODED_WORD = re.compile(
    rb"%%(?:25){0,3}(?P<url>%b)|\\{1,16}(?:u00|x)(?P<escape>%b)|&(?:amp;){0,3}#"
    rb"(?:[xX]0{0,4}(?P<hex>%b)|0{0,5}(?P<decimal>4[89]|5[0-7]|6[5-9]|[78][0-9]|90|9[789]|1[01][0-9]|12[012]));"
    % (_HEX_WORD, _HEX_WORD, _HEX_WORD)
)
_BEGIN_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_END_KEY = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY = re.compile(rb"(?:[A-Za-z0-9+/=\r\n]|\\[nr]){0,65536}")
_KEY_BACKWARDS = re.compile(rb"(?:[A-Za-z0-9+/=\r\n]|[nr]\\){0,65536}")
_LONGEST_KEY = 65536


@dataclass(frozen=True)
class Secret:
    """A known secret and its name."""

    value: bytes
    name: str


class Redactor:
    """Redacts known secrets, and text that looks like a secret."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        names: dict[bytes, str] = {}
        for secret in secrets:
            # A part of the mark cannot be distinguished from the mark.
            if len(secret.value) >= SHORTEST and secret.value not in MARK:
                names.setdefault(secret.value, secret.name)
        marks = {name: _mark(name, names) for name in names.values()}
        # Longest first, so that a secret that contains another one is replaced as a whole.
        ordered = sorted(names, key=lambda value: -len(value))
        known = [(value, _Known(value), marks[names[value]]) for value in ordered]
        self._known = [(each, mark) for value, each, mark in known if not _is_name(value)]
        # Replaced last, because `password=hunter2` has another secret, which its name shows.
        self._names = [(each, mark) for value, each, mark in known if _is_name(value)]
        self._marks = {value: marks[name] for value, name in names.items()}
        encoded = {
            each: marks[name] for value, name in names.items() for each in secret_encodings.text_forms(value)
        }
        self._encoded = sorted(encoded.items(), key=lambda form: -len(form[0]))

    def redact(self, text: bytes) -> tuple[bytes, int]:
        """The redacted text, and the number of redactions. Existing redaction marks are left unchanged."""
        text, count = _without(self._known, text)
        if self._known and _ENCODED_WORD.search(text):
            lines = text.split(b"\n")
            for number, line in enumerate(lines):
                decoded = _ENCODED_WORD.sub(_decoded, line)
                if decoded != line:
                    decoded, times = _without(self._known, decoded)
                    lines[number], count = (decoded, count + times) if times else (line, count)
            text = b"\n".join(lines)
        for search in (self._in_encodings, self._written, self._split) if self._marks else ():
            text, times = _marked(text, search(text))
            count += times
        text, keys = _without_keys(text)
        redacted, likely = secret_text.redact(text.decode(errors="surrogateescape"))
        text, named = _without(self._names, redacted.encode(errors="surrogateescape"))
        return text, count + keys + likely + named

    def _in_encodings(self, text: bytes) -> Iterator[tuple[secret_encodings.Place, bytes]]:
        for form, mark in self._encoded:
            if form in text:
                # The adjacent characters also encode bits of the secret.
                around = rb"[A-Za-z0-9+/_-]{0,4}" + re.escape(form) + rb"[A-Za-z0-9+/_-]{0,4}={0,6}"
                yield from ((match.span(), mark) for match in re.finditer(around, text))

    def _written(self, text: bytes) -> Iterator[tuple[secret_encodings.Place, bytes]]:
        for place, secret in secret_encodings.written_bytes(text, list(self._marks)):
            yield place, self._marks[secret]

    def _split(self, text: bytes) -> Iterator[tuple[secret_encodings.Place, bytes]]:
        yield from secret_encodings.split(text, self._joined)

    def _joined(self, text: bytes) -> Iterator[tuple[secret_encodings.Place, bytes]]:
        for known, mark in self._known:
            yield from ((place, mark) for place in known.places(text))
        yield from self._in_encodings(text)


def _marked(text: bytes, places: Iterable[tuple[secret_encodings.Place, bytes]]) -> tuple[bytes, int]:
    """The text with these places replaced by their marks, and their number."""
    parts, at, count = [], 0, 0
    for (start, end), mark in sorted(places):
        if start >= at:
            parts += [text[at:start], mark]
            count += 1
        at = max(at, end)
    return b"".join([*parts, text[at:]]), count


def _without(secrets: Iterable[tuple[_Known, bytes]], text: bytes) -> tuple[bytes, int]:
    count = 0
    for known, mark in secrets:
        text, times = known.replace(text, mark)
        count += times
    return text, count


def _is_name(secret: bytes) -> bool:
    """Whether a secret is also the name of secrets, such as `password`."""
    return secret_names.is_secret_name(secret.decode(errors="surrogateescape"))


def _without_keys(text: bytes) -> tuple[bytes, int]:
    """Redact PEM keys: whole keys, and keys that are truncated at either end."""
    if b"PRIVATE KEY" not in text:
        return text, 0
    ends = [(match.start(), match.end()) for match in _END_KEY.finditer(text)]
    begins = [(match.start(), match.end()) for match in _BEGIN_KEY.finditer(text)]
    spans = []
    for start, end in begins:
        closing = bisect.bisect_left(ends, (end, 0))
        if closing < len(ends) and ends[closing][0] - end <= _LONGEST_KEY:
            spans.append((start, ends[closing][1]))
        else:
            body = _KEY.match(text, end)
            spans.append((start, body.end() if body else end))
    whole = _merged(spans)
    for start, end in ends:
        position = bisect.bisect_right(whole, (start, len(text))) - 1
        if position < 0 or whole[position][1] < end:
            before = _KEY_BACKWARDS.match(text[max(0, start - _LONGEST_KEY) : start][::-1])
            spans.append((start - (before.end() if before else 0), end))
    spans = _merged(spans)
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], MARK]
        at = end
    return b"".join([*parts, text[at:]]), len(spans)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, with overlapping spans merged."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _mark(name: str, secrets: Iterable[bytes]) -> bytes:
    mark = b"[redacted:" + re.sub(r"[^A-Za-z0-9._-]", "_", name).encode() + b"]"
    return MARK if any(secret in mark for secret in secrets) else mark


class _Known:
    """Finds a secret in which any character except letters and digits may be encoded independently.

    Recognizes up to four nested URL encodings or HTML entities, and JSON nested in JSON up to four levels.
    """

    def __init__(self, secret: bytes) -> None:
        # Bytes that are not UTF-8 are written as surrogates, or as U+FFFD.
        texts = dict.fromkeys(secret.decode(errors=errors) for errors in ("surrogateescape", "replace"))
        # The longest part that is the same in every encoding. Searching for it first is fast.
        self._word = max(re.findall(rb"[A-Za-z0-9]+", secret), key=len, default=b"")
        word = self._word.decode()
        tails = b"|".join(_written(text.partition(word)[2] if word else text) for text in texts)
        self._tail = re.compile(b"%b(?:%b)" % (self._word, tails))
        self._whole = re.compile(b"|".join(_written(text) for text in texts))

    def replace(self, text: bytes, mark: bytes) -> tuple[bytes, int]:
        """The text with the secret replaced by the mark, and the number of replacements."""
        if self._word not in text or not self._tail.search(text):
            return text, 0
        return self._whole.subn(lambda _: mark, text)

    def places(self, text: bytes) -> Iterator[secret_encodings.Place]:
        """Where the secret is in a text."""
        if self._word in text and self._tail.search(text):
            yield from (match.span() for match in self._whole.finditer(text))


def _written(text: str) -> bytes:
    """A pattern for all encodings of a text. Consecutive backslashes are one piece."""
    return b"".join(_piece(each) for each in re.findall(r"(?s:\\+|[^\\])", text))


def _piece(piece: str) -> bytes:
    if piece.isascii() and piece.isalnum():
        return piece.encode()
    if len(piece) > 1:
        each = b"".join(_piece(one) for one in piece)
        return rb"(?:%b{%d,%d}|%b)" % (_BACKSLASH, len(piece), 16 * len(piece), each)
    raw = piece.encode(errors="surrogateescape")
    units = piece.encode("utf-16-be", errors="surrogatepass")
    hexadecimal = [units[at : at + 2].hex().encode() for at in range(0, len(units), 2)]
    number, name = ord(piece), _ENTITIES.get(piece, b"")
    forms = [
        re.escape(raw),
        b"".join(b"%%(?:25){0,3}(?i:%02x)" % byte for byte in raw),
        b"".join(b"=(?i:%02x)" % byte for byte in raw),
        b"&(?:amp;){0,3}(?:#0{0,5}%d|#[xX]0{0,4}(?i:%x)%b);" % (number, number, name),
    ]
    if piece == " ":
        forms.append(rb"\+")
    escapes = [
        b"".join(b"%b{1,16}u(?i:%b)" % (_BACKSLASH, unit) for unit in hexadecimal),
        b"".join(b"%b{1,16}x(?i:%02x)" % (_BACKSLASH, byte) for byte in raw),
        b"".join(b"%b{1,16}(?:0?%03o|%03d)" % (_BACKSLASH, byte, byte) for byte in raw),
    ]
    if piece in _LETTERS:
        escapes.append(b"%b{1,16}%b" % (_BACKSLASH, _LETTERS[piece]))
    if piece == "\\":
        return b"(?:%b)" % b"|".join([*escapes, b"%b{1,16}" % _BACKSLASH, *forms])
    return b"(?:%b|%b{0,16}(?:%b))" % (b"|".join(escapes), _BACKSLASH, b"|".join(forms))


def _decoded(match: re.Match[bytes]) -> bytes:
    hexadecimal = match["url"] or match["escape"] or match["hex"]
    return bytes([int(hexadecimal, 16) if hexadecimal else int(match["decimal"])])


def plain(text: str) -> str:
    """A program's output with everything redacted that looks like a secret, such as a proxy's password."""
    return Redactor().redact(text.encode(errors="surrogateescape"))[0].decode(errors="surrogateescape")


def end_of(text: str, most: int) -> str:
    """The end of an already redacted text: about `most` characters, starting at a word."""
    return text if len(text) <= most else f"...{text[-most:].partition(' ')[2]}"


def last_lines(text: str, most: int) -> str:
    """The last whole lines of a text that will be redacted later, in at most `most` characters.

    No line is cut, since redaction would not find half of a secret.
    """
    selected: list[str] = []
    for line in reversed(text.strip().splitlines()):
        if sum(map(len, selected)) + len(selected) + len(line) > most:
            break
        selected.insert(0, line)
    return "\n".join(selected)


def replace_values(text: str, values: Iterable[str]) -> str:
    """The text with the given values replaced by the mark, even if they are short."""
    for value in sorted(set(values), key=len, reverse=True):
        text = text.replace(value, MARK.decode())
    return text
