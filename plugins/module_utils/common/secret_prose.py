"""Finds secrets that follow a name and a space: in sentences, SQL, tables, protocols, .netrc files."""

from __future__ import annotations

import re

from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import (
    is_harmless,
    is_secret_name,
)

_SPOKEN = re.compile(
    r"\b(?:password|passwd|passphrase|passcode|secret|token|api key|apikey|pwd)\s+"
    r"(?:(?:is|was|of|to|now|set to|=)\s+)*(?:\d\s+)?\(?"
    r"(?P<quote>[\"'`]?)(?P<value>[^\s\"'`]{4,512})(?P=quote)",
    re.I,
)
_LIKE_PASSWORD = re.compile(r"(?=.*[\d!#$%^&*@])(?=.*[A-Za-z]).{6,}")
# Addresses, names of files and hosts, versions, numbers with a unit, words with punctuation.
_UNLIKE_PASSWORD = re.compile(
    r"[\w-]+[:/(]|[\w.-]+@[\w-]+\.|v?[\d.,%:-]+\w{0,3}$|[A-Za-z-]+[^A-Za-z\d]+$|[\w.-]+\.\w{1,5}$"
)
_ALONE = re.compile(
    r"\s*(?:password|passwd|passphrase|secret|auth-user-pass|pwd|requirepass|masterauth|(?:bind|root)pw"
    r"|r[ow]community|snmp-server community|[\w.-]{0,32}psk|wpa[_-]passphrase)\s+"
    r"(?P<value>\S+)(?:\s+(?:RO|RW))?\s*",
    re.I,
)
_PROTOCOL = re.compile(
    r"(?:^|[>\]:]\s{0,8})(?:PASS|AUTH(?: (?:PLAIN|LOGIN))?|LOGIN \S{1,64})\s{1,8}"
    r"(?P<value>[^\s:=()]{4,512})\s*$"
)
_SQL = re.compile(
    r"\b(?:identified\s{1,4}by(?:\s{1,4}password)?|password)\s{0,4}\(?\s{0,4}'(?P<value>[^']{1,512})'", re.I
)
_AS_PASSWORD = re.compile(
    r"[\"'](?P<value>[^\"'\s]{4,256})[\"']\s{1,4}as\s{1,4}(?:the\s|a\s)?(?:password|token|secret|passphrase)",
    re.I,
)
_TABLE = re.compile(
    r"(?:^|\|)\s{0,16}(?P<key>\w[\w .-]{1,40}?)\s{0,16}\|\s{0,16}(?P<value>[^|]{1,512}?)\s{0,16}(?=\||$)"
)
_NETRC = re.compile(
    r"\b(?:login|machine|user)\s+\S{1,256}\s+(?:account\s+\S{1,256}\s+)?password\s+(?P<value>\S+)", re.I
)
_PAST = re.compile(r"[a-z]+(?:ed|ing|ly|ion|less|s)[.,:;!]?", re.I)


def spans(line: str) -> list[tuple[int, int]]:
    """Where secrets are after a name and a space: start and end, not in order."""
    places = []
    for match in _NETRC.finditer(line):
        places.append(match.span("value"))
    if (alone := _ALONE.fullmatch(line)) and not _PAST.fullmatch(alone["value"]):
        places.append(alone.span("value"))
    for pattern in (_PROTOCOL, _SQL, _AS_PASSWORD):
        places += [match.span("value") for match in pattern.finditer(line)]
    if "|" in line:
        cells = _TABLE.finditer(line)
        places += [match.span("value") for match in cells if is_secret_name(match["key"].replace(" ", "_"))]
    for match in _SPOKEN.finditer(line):
        value = match["value"].rstrip(".,;:)")
        if match["quote"] or (_LIKE_PASSWORD.fullmatch(value) and not _UNLIKE_PASSWORD.match(value)):
            places.append((match.start("value"), match.start("value") + len(value)))
    return [place for place in places if not is_harmless(line[slice(*place)])]
