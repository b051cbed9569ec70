"""Finds secrets that a shell or a script passes on: by a pipe, a file, a here-document, a dialogue."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import is_secret_name

# A here-string, and a binary of Erlang such as `<<"text">>`, begin with the same characters.
_HERE_DOCUMENT = re.compile(
    r"(?<!<)<<(?!<)[-~]?\s{0,4}\\?[\"']?(?P<end>[A-Za-z_]\w{0,31})(?![^\"'<>]{0,512}[\"']?>>\s*(?:[\]},);.]|$))"
)
_PASSWORD_READERS = re.compile(
    r"\bchpasswd\b|\bpasswd\b|stdin\b|\bsudo\s{1,4}-S\b|\bcryptsetup\b|pgpass|netrc|passphrase"
)
_IDENTIFIER = re.compile(r"[A-Za-z_][\w-]{1,63}")
_TEXT = r"(?P<quote>[\"']?)(?P<value>(?![$<])[^|\"'\n>]{1,256}?)(?P=quote)"
# Text that a command prints, and what reads it: the rest of the pipe or a file.
_PRINTED = re.compile(
    rf"\b(?:echo|printf)\s{{1,4}}(?:-\w{{1,2}}\s{{1,4}})?(?:[\"']%s(?:\\n)?[\"']\s{{1,4}})?{_TEXT}"
    r"\s{0,4}(?P<way>\||>{1,2})\s{0,4}(?P<reader>[^|>&;]{1,256})"
)
_HERE_STRING = re.compile(r"<<<\s{0,4}(?P<quote>[\"']?)(?P<value>(?![$])[^\"'\n]{1,256}?)(?P=quote)(?=\s|$)")
_READER = re.compile(
    r"\bsudo\s{1,4}-S|--(?:password-)?stdin\b|\bcryptsetup\b|--passphrase-fd|\bsecrets?\s{1,4}(?:create|set|put)\b"
    r"|\bobscure\b|\b(?:vault|bao)\s{1,4}(?:kv\s|write\b|login\b)|--from-file=\S{0,64}/dev/stdin|\bpasswd\b"
    r"|--with-token\b|\bsu\b|\bhtpasswd\b"
)
_FILE = re.compile(
    r"\s*(?:(?:sudo\s{1,4})?tee\s{1,4}(?:-a\s{1,4})?)?[\"']?(?P<path>[\w./~$@+-]{1,256})[\"']?\s*$"
)
_SUFFIX = re.compile(r"\.(?:txt|conf|cfg|env|new|tmp|key|old)$")
# A program that waits for a prompt, and what it sends then.
_PROMPT = r"(?:assword|assphrase|asscode|\bPIN\b|oken|ecret)"
_EXPECTS = re.compile(
    rf"\bexpect(?:_exact)?\s{{0,4}}[(\"'{{*-].{{0,128}}{_PROMPT}|^\s*(?:-re\s|-gl\s|-exact\s)?\s*[\"'{{][^\"'{{}}]{{0,64}}{_PROMPT}[^\"'{{}}]{{0,16}}[\"'}}]\s{{0,4}}\{{",
    re.I,
)
_SENDS = re.compile(
    r"(?<!\w)(?:exp_)?send(?:line)?(?:\s{1,4}|\(\s{0,4}[bru]?(?=[\"']))(?:-\w{0,8}\s{1,4}|--\s{1,4}){0,3}"
    r"(?:(?P<quote>[\"'])(?!\$)(?P<quoted>[^\"']{1,256}?)(?:\\[rn]){0,4}(?P=quote)"
    r"|\{(?P<braced>[^{}]{1,256}?)(?:\\[rn]){0,4}\}|(?P<bare>[^\s\"'{$\[(][^\s;}]{0,256}?)(?:\\[rn]){0,4}(?=[\s;}]|$))"
)
ANCHORS = ("expect",)
"""A text with none of these has no dialogue."""
_LINES_OF_A_DIALOGUE = 3


class Dialogue:
    """What a script sends when it is asked for a password, on the line of the prompt or soon after it."""

    def __init__(self) -> None:
        self._lines = 0

    def spans(self, line: str) -> list[tuple[int, int]]:
        """Where passwords are in the next line of a script: start and end."""
        prompt = _EXPECTS.search(line)
        if prompt:
            self._lines = _LINES_OF_A_DIALOGUE + 1
        if not self._lines:
            return []
        self._lines -= 1
        sent = _SENDS.search(line, prompt.start() if prompt else 0)
        if sent is None:
            return []
        self._lines = 0
        return [sent.span(group) for group in ("quoted", "braced", "bare") if sent[group]]


def spans(line: str) -> Iterator[tuple[int, int]]:
    """Where secrets are that a command passes on: start and end."""
    for match in _PRINTED.finditer(line):
        file = _FILE.match(match["reader"])
        is_file = match["way"] != "|" or "tee " in match["reader"]
        if (is_file and file and _is_secret_file(file["path"])) or (
            not is_file and _READER.search(match["reader"])
        ):
            yield match.span("value")
    for match in _HERE_STRING.finditer(line):
        before = line[max(0, match.start() - 256) : match.start()]
        if _READER.search(before) or _PASSWORD_READERS.search(before):
            yield match.span("value")


def document_end(line: str) -> str | None:
    """The word that ends the here-document that begins on a line, if a program reads secrets from it."""
    document = _HERE_DOCUMENT.search(line)
    reads_secret = document and (
        _PASSWORD_READERS.search(line) or any(is_secret_name(each[0]) for each in _IDENTIFIER.finditer(line))
    )
    return document["end"] if document and reads_secret else None


def _is_secret_file(path: str) -> bool:
    name = path.rpartition("/")[2]
    return is_secret_name(_SUFFIX.sub("", name).strip("."))
