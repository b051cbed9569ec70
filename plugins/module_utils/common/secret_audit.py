"""Finds secrets in records of the kernel's audit: the arguments of a process, in quotes or in hexadecimal.

The kernel logs them itself if no audit daemon runs, for example beside a denial of AppArmor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils.common import secret_arguments

ANCHORS = ("proctitle=", "a0=")
"""A line with none of these has no arguments of a process."""

# The arguments of a process, separated by NUL, and the arguments one by one.
_TITLE = re.compile(r"\bproctitle=(?P<value>(?:[0-9A-Fa-f]{2}){3,16384})(?![0-9A-Za-z])")
_ARGUMENT = re.compile(
    r"\ba\d{1,4}=(?:\"(?P<text>[^\"]{0,8192})\"|(?P<hex>(?:[0-9A-Fa-f]{2}){1,8192})(?![0-9A-Za-z]))"
)


def spans(line: str) -> Iterator[tuple[int, int]]:
    """Where arguments with secrets are in a line: start and end, not in order."""
    for match in _TITLE.finditer(line):
        if any(True for _ in secret_arguments.spans(_decoded(match["value"]).split("\0"))):
            yield match.span("value")
    matches = list(_ARGUMENT.finditer(line))
    arguments = [each["text"] if each["hex"] is None else _decoded(each["hex"]) for each in matches]
    for index, start, end in secret_arguments.spans(arguments):
        match = matches[index]
        if match["hex"] is not None:
            yield match.span("hex")
        else:
            yield match.start("text") + start, match.start("text") + end


def _decoded(digits: str) -> str:
    return bytes.fromhex(digits).decode(errors="replace")
