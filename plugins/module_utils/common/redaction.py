"""Secrets taken out of text: those that are known, wherever they occur, and what looks like one.

Pure: bytes in, bytes out. A known secret is found as it is, in base64, and with any of its characters
URL-encoded, escaped as in JSON or by systemd, or written as an entity of HTML, also several times over.
What looks like a secret is found by the name before it (`password=`, `"api_key":`, `--token`), or by its
own form (keys in PEM, URLs with a password, tokens of well-known services).
"""

from __future__ import annotations

import base64
import bisect
import re
from collections.abc import Iterable
from dataclasses import dataclass

MARK = b"[redacted]"
SHORTEST = 8
"""Bytes of a known secret that is searched for; a shorter one occurs in words that are none."""

NAME = (
    r"(?:pass(?:word|wd|phrase)|secret|token"
    r"|(?:api|access|secret|private|signing|encryption|auth)[-_.]?key(?:[-_.]?id)?|x-amz-signature)"
)
# Of variables of an environment less ordinary words are secrets.
VARIABLE_ENDS = "key|pass|pwd|pw|auth|dsn"
_ASSIGNED = tuple(f"{end}=" for end in VARIABLE_ENDS.split("|"))
# Written as variables of an environment are, so that `key=3` in a log stays.
_LOUD = rf"(?-i:(?<!\w)(?:[A-Z0-9_]{{0,64}}_(?:{VARIABLE_ENDS.upper()})|PASS|AUTH)=)"
_QUIET = rf"(?<!\w)(?:\w{{0,64}}_(?:{VARIABLE_ENDS})|pass|auth)="
# A value without quotes; one within it goes on with it where a letter follows.
_BARE = r"""(?:[^\s"'&\\]|["'](?=[A-Za-z0-9])|\\(?![nrt"']))+"""
# Ends of an unquoted value that are more likely those of what is around it.
_CLOSING = b"])},;"
_VALUE = (
    r'(?P<value>"(?:[^"\\]|\\.){0,8192}"'
    r"|'[^']{0,8192}'"
    r'|(?P<escape>\\+)".{0,8192}?(?<!\\)(?P=escape)"'
    rf"|{_BARE})"
)
# What stands where a secret would and is none: nothing, a word of JSON, a small number, a mark, the
# architecture of a package such as `passwd:amd64`.
_NO_SECRET = re.compile(rb"(?:null|none|true|false|\d{1,3}|\[redacted[^\]\s]*\]|all|amd64|arm64|i386)?", re.I)

_BACKSLASH = rb"(?:\\|%(?:25){0,3}5[Cc])"
_LETTERS = {"\n": b"n", "\r": b"r", "\t": b"t", "\b": b"b", "\f": b"f"}
_ENTITIES = {'"': b"|quot", "'": b"|apos", "&": b"|amp", "<": b"|lt", ">": b"|gt"}
_HEX_WORD = rb"(?:3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])"
# A letter or a digit that nobody has to encode.
_ENCODED_WORD = re.compile(
    rb"%%(?:25){0,3}(?P<url>%b)|\\{1,16}(?:u00|x)(?P<escape>%b)|&(?:amp;){0,3}#"
    rb"(?:[xX]0{0,4}(?P<hex>%b)|0{0,5}(?P<decimal>4[89]|5[0-7]|6[5-9]|[78][0-9]|90|9[789]|1[01][0-9]|12[012]));"
    % (_HEX_WORD, _HEX_WORD, _HEX_WORD)
)
_QUOTE = re.compile(rb"""\\*["']""")

_BEGIN_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_END_KEY = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY = re.compile(rb"(?:[A-Za-z0-9+/=\r\n]|\\[nr]){0,65536}")
_KEY_BACKWARDS = re.compile(rb"(?:[A-Za-z0-9+/=\r\n]|[nr]\\){0,65536}")
_LONGEST_KEY = 65536


def _shape(*words: str, text: str) -> tuple[tuple[bytes, ...], re.Pattern[bytes]]:
    return tuple(word.encode() for word in words), re.compile(text.encode(), re.I)


# What looks like a secret within a line: one of these words, in lower case, is in it, and it matches.
# The group `before` stays, and `value` goes.
_SHAPES = (
    _shape(
        "authorization",
        text=r"""(?P<before>authorization["'\\]*\s{0,8}[:=]\s{0,8}["'\\]*(?:(?:bearer|basic|negotiate|token|apikey)\s+)?)"""
        r"""(?P<value>digest\s.{0,1024}|[^\s"'\\,;]+)""",
    ),
    # In prose "bearer" is followed by a word.
    _shape(
        "bearer",
        text=r"""(?P<before>\bbearer\s+)"""
        r"""(?P<value>[A-Za-z0-9._~+/-]{16,}=*|(?=[A-Za-z._~+/-]*\d)[A-Za-z0-9._~+/-]{8,}=*)""",
    ),
    _shape(
        "cookie",
        text=r"""(?P<before>\bcookie["'\\]{0,8}\s{0,8}:\s{0,8}["'\\]{0,8})(?P<value>[^"'\\\s][^"'\\]*)""",
    ),
    _shape("setcredential", text=r"(?P<before>SetCredential(?:Encrypted)?=[^:\s]+:)(?P<value>.+)"),
    _shape(
        "://",
        text=r"""(?P<before>://[^\s/@:"'\\]{0,256}:)(?P<value>[^\s/"'\\]{1,1024})(?=@)""",
    ),
    _shape("://", text=r"""(?P<before>://)(?P<value>[^\s/@:"'\\\[]{16,1024})(?=@)"""),
    # Quoted together with its name, as systemd and lists of arguments show it.
    _shape(
        *("pass", "secret", "token", "key"),
        text=rf"""(?P<before>["'][\w.-]{{0,64}}{NAME}=)(?P<value>[^"'\\]{{1,8192}})(?=["'])""",
    ),
    _shape(
        *("pass", "secret", "token", "key", "signature"),
        text=rf"""(?P<before>{NAME}(?:\\*["'])?\s{{0,8}}(?::|=>?|%3D)\s{{0,8}}){_VALUE}""",
    ),
    _shape(*_ASSIGNED, text=rf"""(?P<before>["']{_LOUD})(?P<value>[^"'\\]{{1,8192}})(?=["'])"""),
    _shape(*_ASSIGNED, text=rf"(?P<before>{_LOUD}){_VALUE}"),
    _shape("environment=", text=rf"""(?P<before>["']{_QUIET})(?P<value>[^"'\\]{{1,8192}})(?=["'])"""),
    _shape("environment=", text=rf"(?P<before>{_QUIET}){_VALUE}"),
    _shape(
        *("pass", "secret", "token", "key"),
        text=rf"""(?P<before>--[\w.-]{{0,64}}{NAME}["']?,?\s{{1,8}})(?!["']?-){_VALUE}""",
    ),
    _shape("-u", text=r"""(?P<before>\s(?:-u|--user)[\s=]["']?[^\s:"']+:)(?!\d+\b)(?P<value>[^\s"']+)"""),
    _shape(
        "hooks.slack.com",
        text=r"""(?P<before>hooks\.slack\.com(?:\\*/|%2F)\w{1,32}(?:\\*/|%2F))(?P<value>[^\s"'<>]+)""",
    ),
    _shape("akia", "asia", text=r"(?P<value>\b(?:AKIA|ASIA)[A-Z0-9]{16}\b)"),
    _shape("eyj", text=r"(?P<value>\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)"),
    _shape(
        *("gh", "glpat-", "xox", "hvs.", "aiza"),
        text=r"(?P<value>\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
        r"|hvs\.[\w-]{20,}|AIza[\w-]{30,}))",
    ),
)


@dataclass(frozen=True)
class Secret:
    """A secret that is known, and what it is called."""

    value: bytes
    name: str


class Redactor:
    """Takes the known secrets, and what looks like one, out of text."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        found: dict[bytes, str] = {}
        for secret in secrets:
            # What is part of the mark cannot be told from it.
            if len(secret.value) >= SHORTEST and secret.value not in MARK:
                found.setdefault(secret.value, secret.name)
        marks = {name: _mark(name, found) for name in found.values()}
        # A secret that is part of another one is looked for after it.
        ordered = sorted(found, key=lambda value: -len(value))
        self._plain = [(_Known(value), marks[found[value]]) for value in ordered]
        encoded = {each: marks[name] for value, name in found.items() for each in base64_forms(value)}
        self._encoded = sorted(encoded.items(), key=lambda form: -len(form[0]))

    def redact(self, text: bytes) -> tuple[bytes, int]:
        """The text without secrets, and how many there were. What was redacted before is left as it is."""
        text, count = self._without_known(text)
        if self._plain and _ENCODED_WORD.search(text):
            lines = text.split(b"\n")
            for number, line in enumerate(lines):
                decoded = _ENCODED_WORD.sub(_decoded, line)
                if decoded != line:
                    decoded, times = self._without_known(decoded)
                    lines[number], count = (decoded, count + times) if times else (line, count)
            text = b"\n".join(lines)
        for form, mark in self._encoded:
            if form in text:
                # The characters beside it hold its first and last bits too.
                around = rb"[A-Za-z0-9+/_-]{0,4}" + re.escape(form) + rb"[A-Za-z0-9+/_-]{0,4}={0,2}"
                text, times = re.subn(around, mark, text)
                count += times
        text, keys = _without_keys(text)
        lines = text.split(b"\n")
        for number, line in enumerate(lines):
            lines[number], times = _without_shapes(line)
            count += times
        return b"\n".join(lines), count + keys

    def _without_known(self, text: bytes) -> tuple[bytes, int]:
        count = 0
        for known, mark in self._plain:
            text, times = known.replace(text, mark)
            count += times
        return text, count


def _without_shapes(line: bytes) -> tuple[bytes, int]:
    count = 0

    def marked(match: re.Match[bytes]) -> bytes:
        nonlocal count
        value = match["value"]
        quote = _QUOTE.match(value)
        edge = quote[0] if quote and len(value) > len(quote[0]) and value.endswith(quote[0]) else b""
        bare = value[len(edge) : len(value) - len(edge)]
        inner = bare if edge else bare.rstrip(_CLOSING)
        if any(_NO_SECRET.fullmatch(each) for each in (bare, inner, inner + b"]")):
            return match[0]
        count += 1
        return match[0][: match.start("value") - match.start()] + edge + MARK + bare[len(inner) :] + edge

    lowered = line.lower()
    for words, pattern in _SHAPES:
        if any(word in lowered for word in words):
            line = pattern.sub(marked, line)
    return line, count


def _without_keys(text: bytes) -> tuple[bytes, int]:
    """Without keys in PEM: whole ones, those cut at their end, and those cut at their beginning."""
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
    kept, at = [], 0
    for start, end in spans:
        kept += [text[at:start], MARK]
        at = end
    return b"".join([*kept, text[at:]]), len(spans)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap made one."""
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
    """Finds a secret in which any character but letters and digits may be encoded, each by itself.

    URL-encoded and as an entity of HTML up to four times over, within JSON in JSON up to four deep.
    """

    def __init__(self, secret: bytes) -> None:
        # Bytes that are no text are written as surrogates, or as U+FFFD.
        texts = dict.fromkeys(secret.decode(errors=errors) for errors in ("surrogateescape", "replace"))
        # The longest part that is the same however it is written: searching for that first is quick.
        self._word = max(re.findall(rb"[A-Za-z0-9]+", secret), key=len, default=b"")
        word = self._word.decode()
        tails = b"|".join(_written(text.partition(word)[2] if word else text) for text in texts)
        self._tail = re.compile(b"%b(?:%b)" % (self._word, tails))
        self._whole = re.compile(b"|".join(_written(text) for text in texts))

    def replace(self, text: bytes, mark: bytes) -> tuple[bytes, int]:
        """The text with the mark in place of the secret, and how often."""
        if self._word not in text or not self._tail.search(text):
            return text, 0
        return self._whole.subn(lambda _: mark, text)


def _written(text: str) -> bytes:
    """A pattern of all that a text may be written as; backslashes that follow on each other are one piece."""
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
        b"&(?:amp;){0,3}(?:#0{0,5}%d|#[xX]0{0,4}(?i:%x)%b);" % (number, number, name),
    ]
    if piece == " ":
        forms.append(rb"\+")
    escapes = [
        b"".join(b"%b{1,16}u(?i:%b)" % (_BACKSLASH, unit) for unit in hexadecimal),
        b"".join(b"%b{1,16}x(?i:%02x)" % (_BACKSLASH, byte) for byte in raw),
    ]
    if piece in _LETTERS:
        escapes.append(b"%b{1,16}%b" % (_BACKSLASH, _LETTERS[piece]))
    if piece == "\\":
        return b"(?:%b)" % b"|".join([*escapes, b"%b{1,16}" % _BACKSLASH, *forms])
    return b"(?:%b|%b{0,16}(?:%b))" % (b"|".join(escapes), _BACKSLASH, b"|".join(forms))


def _decoded(match: re.Match[bytes]) -> bytes:
    hexadecimal = match["url"] or match["escape"] or match["hex"]
    return bytes([int(hexadecimal, 16) if hexadecimal else int(match["decimal"])])


def base64_forms(secret: bytes) -> set[bytes]:
    """What a secret looks like within anything that is encoded in base64, in both alphabets."""
    forms = set()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        # Characters that also depend on what stands before it and after it are left out.
        first = (0, 2, 3)[before]
        last = len(encoded) - (0, 3, 2)[(before + len(secret)) % 3]
        core = encoded[first:last]
        forms |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return forms


def plain(text: str) -> str:
    """A program's words without what looks like a secret, such as the password within a proxy's address."""
    return Redactor().redact(text.encode())[0].decode()


def end_of(text: str, most: int) -> str:
    """The end of a text that is redacted, in about so many characters, from the beginning of a word."""
    return text if len(text) <= most else f"...{text[-most:].partition(' ')[2]}"


def last_lines(text: str, most: int) -> str:
    """The last lines of a text that is to be redacted, in so many characters; none of them is cut.

    Half of a secret would not be found in half of a line.
    """
    kept: list[str] = []
    for line in reversed(text.strip().splitlines()):
        if sum(map(len, kept)) + len(kept) + len(line) > most:
            break
        kept.insert(0, line)
    return "\n".join(kept)


def replace_values(text: str, values: Iterable[str]) -> str:
    """A text with certain values replaced by the mark, however short they are."""
    for value in sorted(set(values), key=len, reverse=True):
        text = text.replace(value, MARK.decode())
    return text
