"""Checks of texts: placeholders that nobody replaced, and words that must not be published."""

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
# Domains for examples (RFC 2606 and RFC 6761), and the runbook's own example.
_EXAMPLES = r"(?:[\w.-]+\.)?(?:example(?:\.(?:com|org|net|edu))?|company\.com|domain\.com|invalid)"
_NOBODY = (
    re.compile(rf"(?:^|[@/\s]){_EXAMPLES}(?:$|[:/\s])", re.I),
    re.compile(r"(?:^|[@/\s])your[-_ ]", re.I),
)
_NO_NUMBER = (
    # The 555 numbers that films use, and numbers that are only zeros.
    re.compile(r"[\s+().-]*(?:1[\s.-]?)?(?:\(?\d{3}\)?[\s.-]?)?555[\s.-]?\d{4}\s*"),
    re.compile(r"[\s+]*1[\s().-]*555(?:[\s().-].*)?"),
    re.compile(r"[\s+()./-]*0[\s+()./0-]*"),
)
# Path segments of example webhook addresses in vendors' documentation.
_SAMPLE_PATH = re.compile(r"/(?:x{4,}|T0{4,}|<[^/]*>|\{[^/]*\}|your[-_][^/]*)(?:/|$)", re.I)
_ADDRESS = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)")
_ADDRESS_6 = re.compile(r"(?<![\w:])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:])", re.I)
_INSIDE = re.compile(r"\b[\w-]+(?:\.[\w-]+)*\.(?:internal|local|lan|corp|intra|home\.arpa)\b", re.I)
_PATH = re.compile(r"(?<![\w/:])/(?:etc|var|opt|usr|run|srv|home|tmp|dev|proc)/[\w./-]+")


def is_filler(text: str) -> bool:
    """Whether a text is empty or a placeholder such as TBD, n/a, ... or <name>."""
    return not text.strip() or _FILLERS.fullmatch(text) is not None


def is_placeholder(contact: str) -> bool:
    """Whether a contact (name, email address, telephone number) is a placeholder or an example."""
    head, _, _ = contact.partition("@")
    return (
        is_filler(contact)
        or is_filler(head)
        or any(pattern.search(contact) for pattern in _NOBODY)
        or any(pattern.fullmatch(contact) for pattern in _NO_NUMBER)
    )


def is_placeholder_url(host: str, path: str) -> bool:
    """Whether a web address is an example. Words inside a token do not count."""
    return any(pattern.search(host) for pattern in _NOBODY) or bool(_SAMPLE_PATH.search(path))


def public_problems(text: str, hosts: Iterable[str], jargon: Iterable[str]) -> Iterator[str]:
    """One clause for each host name, address or jargon word in a public text.

    `hosts`: the internal names of hosts. A word matches in any case, and in the plural.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    if not plain.strip():
        yield "the public text is empty"
    for name in sorted({part for host in hosts for part in _names(host)}):
        if re.search(rf"(?<![a-z0-9]){re.escape(name.casefold())}(?![a-z0-9])", plain):
            yield f"the public text names the host {name}"
    for word in jargon:
        if re.search(rf"(?<!\w){re.escape(word.casefold())}(?:e?s)?(?!\w)", plain):
            yield f"the public text contains the jargon word {word!r}"
    patterns = (("address", _ADDRESS), ("internal name", _INSIDE), ("path", _PATH))
    for kind, pattern in patterns:
        for match in pattern.findall(plain):
            yield f"the public text contains the {kind} {match}"
    for match in _ADDRESS_6.findall(plain):
        if _is_address(match):
            yield f"the public text contains the address {match}"


def plain_text(text: str) -> str:
    """A text with its line breaks, without blank edges and other control characters."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(
        "".join(" " if unicodedata.category(c)[0] == "C" else c for c in line).rstrip() for line in lines
    ).strip()


def one_line(text: str) -> str:
    """A text on one line: line breaks and control characters become spaces."""
    return " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in text).split())


def _names(host: str) -> set[str]:
    """A host's name, and its first label unless that is a number."""
    first = host.partition(".")[0]
    return {host} if first.isdigit() or ":" in host else {host, first}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
