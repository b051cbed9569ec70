"""What may be said and to whom: placeholders that nobody replaced, words that do not belong in public."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Iterator

_FILLERS = re.compile(
    r"\s*(?:(?:TBD|TBA|TODO|FIXME|N/?A|change[-_ ]?me|replace[-_ ]?me|placeholder|dummy|lorem ipsum)"
    r"|x{3,}|\?+|-+|\.+|[<\[{].*[>\]}])[\s.!?]*",
    re.I,
)
# Domains that stand for others (RFC 2606 and RFC 6761), and the runbook's own example.
_EXAMPLES = r"(?:[\w.-]+\.)?(?:example(?:\.(?:com|org|net|edu))?|company\.com|domain\.com|invalid)"
_NOBODY = (
    re.compile(rf"(?:^|[@/\s]){_EXAMPLES}(?:$|[:/\s])", re.I),
    re.compile(r"(?:^|[@/\s])your[-_ ]", re.I),
)
_NO_NUMBER = (
    # The exchange that telephone numbers of films have, and no number at all.
    re.compile(r"[\s+().-]*(?:1[\s.-]?)?(?:\(?\d{3}\)?[\s.-]?)?555[\s.-]?\d{4}\s*"),
    re.compile(r"[\s+]*1[\s().-]*555(?:[\s().-].*)?"),
    re.compile(r"[\s+()./-]*0[\s+()./0-]*"),
)
# The parts of an address in the documents of those who give them out.
_SAMPLE_PATH = re.compile(r"/(?:x{4,}|T0{4,}|<[^/]*>|\{[^/]*\}|your[-_][^/]*)(?:/|$)", re.I)
_ADDRESS = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)")
_ADDRESS_6 = re.compile(r"(?<![\w:])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:])", re.I)
_INSIDE = re.compile(r"\b[\w-]+(?:\.[\w-]+)*\.(?:internal|local|lan|corp|intra|home\.arpa)\b", re.I)
_PATH = re.compile(r"(?<![\w/:])/(?:etc|var|opt|usr|run|srv|home|tmp|dev|proc)/[\w./-]+")


def is_filler(text: str) -> bool:
    """Whether a text only keeps the place of one that nobody wrote yet."""
    return not text.strip() or _FILLERS.fullmatch(text) is not None


def is_placeholder(contact: str) -> bool:
    """Whether a contact (name, address, telephone number) stands for one that nobody gave yet."""
    head, _, _ = contact.partition("@")
    return (
        is_filler(contact)
        or is_filler(head)
        or any(pattern.search(contact) for pattern in _NOBODY)
        or any(pattern.fullmatch(contact) for pattern in _NO_NUMBER)
    )


def is_placeholder_url(host: str, path: str) -> bool:
    """Whether an address of the web is an example. What looks like a word in a token is none."""
    return any(pattern.search(host) for pattern in _NOBODY) or bool(_SAMPLE_PATH.search(path))


def public_problems(text: str, hosts: Iterable[str], jargon: Iterable[str]) -> Iterator[str]:
    """One message for everything in a public text that names a host, an address or jargon.

    `hosts`: names by which hosts are known inside. A word counts in any case, and in the plural.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    if not plain.strip():
        yield "the public text is empty"
    for name in sorted({part for host in hosts for part in _names(host)}):
        if re.search(rf"(?<![a-z0-9]){re.escape(name.casefold())}(?![a-z0-9])", plain):
            yield f"the public text names the host {name}"
    for word in jargon:
        if re.search(rf"(?<!\w){re.escape(word.casefold())}(?:e?s)?(?!\w)", plain):
            yield f"the public text has the jargon {word!r}"
    for kind, pattern in (("the address", _ADDRESS), ("the name", _INSIDE), ("the path", _PATH)):
        for found in pattern.findall(plain):
            yield f"the public text has {kind} {found}"
    for found in _ADDRESS_6.findall(plain):
        if _is_address(found):
            yield f"the public text has the address {found}"


def plain_text(text: str) -> str:
    """A text with its line breaks, without blank edges and other control characters."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(
        "".join(" " if unicodedata.category(c)[0] == "C" else c for c in line).rstrip() for line in lines
    ).strip()


def one_line(text: str) -> str:
    """A text without line breaks and other control characters, which end a header or move a cursor."""
    return " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in text).split())


def _names(host: str) -> set[str]:
    """A host's name, and its first part unless that is a number."""
    first = host.partition(".")[0]
    return {host} if first.isdigit() or ":" in host else {host, first}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
