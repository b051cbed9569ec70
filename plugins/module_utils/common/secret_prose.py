"""Finds secrets that follow a name and a space: in sentences, SQL, tables, protocols, .netrc files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import (
    is_compound,
    is_harmless,
    is_secret_name,
    words,
)

_SPOKEN = re.compile(
    r"\b(?:password|passwd|passphrase|passcode|secret|token|api key|apikey|pwd)\s+"
    r"(?:(?:is|was|of|to|now|set to|=)\s+)*(?:\d\s+)?\(?"
    r"(?P<quote>[\"'`]?)(?P<value>[^\s\"'`]{4,512})(?P=quote)",
    re.I,
)
_SEMICOLON = re.compile(
    r"\b(?:password|passwd|passphrase|secret|token|api_?key|pwd)\s?;\s?(?P<value>[^\s;\"']{4,512})", re.I
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
# In the configurations of keepalived and HAProxy.
_PROTOCOL = re.compile(
    r"(?:^|[>\]:]\s{0,8})(?:PASS|AUTH(?: (?:PLAIN|LOGIN))?|LOGIN \S{1,64})\s{1,8}"
    r"(?P<value>[^\s:=()]{4,512})\s*$"
)
_SQL = re.compile(
    r"\b(?:identified\s{1,4}by(?:\s{1,4}password)?|password(?:(?<![\"']password)|(?=[\s(])))\s{0,4}\(?\s{0,4}(?P<quote>['\"])(?P<value>.{1,512}?)(?P=quote)",
    re.I,
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
# Names and values of configuration files, with only a space between them.
_DIRECTIVE = re.compile(
    r"(?<![\w$/.@:=-])(?P<key>[A-Za-z_][\w.-]{1,63})[ \t]{1,64}(?:[057][ \t]{1,8})?"
    r"(?P<quote>[\"'`]?)(?=[^\s=:|(,;])"
)
_SETTER = re.compile(
    r"\s*(?:- )?(?:(?:set(?:env|x)?|export|env|option|config|#?\s?define"
    r"|\w{1,16}_param|(?:proxy|grpc)_set_header)\s+)?",
    re.I,
)
_PLAIN = frozenset(("password", "passwd", "passphrase"))
_PUBLIC = frozenset(("pass", "auth", "pin", "key", "keys", "signature", "cookie", "cookies"))
_BEFORE_KEY = frozenset(("api", "shared", "private", "secret", "access"))
_REST = re.compile(r"(?:(?!\s(?:#|//))[^\n;]){1,2048}")
_FIRST = re.compile(r"[^\s;,\"'`]{1,512}")
_NO_VALUE = re.compile(
    r"(?:is|was|are|were|be|must|requires?|and|or|for|to|has|have|needs?|cannot|can|could|not|no|with|without|in|on|from"
    r"|of|at|by|as|if|when|than|then|but|will|would|should|may|does|did|do|option|argument|flag|given|again|first"
    r"|only|too|here|there|now|that|this|which|it|the|a|an|via|using|per|into|v?\d[\w.:+~-]*\.[\w.:+~-]+"
    # What has to do with passwords.
    r"|caches?|data|database|hash(?:es)?|hashing|files?|fields?|entry|entries|policy|policies|prompts?|manager|store"
    r"|changes?|reset|expiry|aging|checks?|length|strength|quality|rules?|agent|backend|service|servers?|protection"
    r"|authentication|helper|superuser|lifetime|rotation|auth|self|cls|[^A-Za-z0-9]+)",
    re.I,
)
_LONGEST_HEADING = 3
_SENTENCE_END = re.compile(r"[A-Za-z'-]+[.:,!?)\\$]+")
_ROUTER = re.compile(
    r"\b(?:isakmp|(?:tacacs|radius)\S{0,16}(?:\s\S{1,64}){0,4}?)\s+key\s+(?:[067]\s+)?(?P<value>\S{3,256})"
)
_LOGIN = re.compile(r"(?:^|\s)auth\s+[\w.@-]{1,64}:(?P<value>(?!\d{1,5}(?:\s|$))[^\s/]\S{2,255})\s*$")
_PAST = re.compile(r"[a-z]+(?:ed|ing|ly|ion|less|s)[.,:;!]?", re.I)


def spans(line: str) -> list[tuple[int, int]]:
    """Where secrets are after a name and a space: start and end, not in order."""
    places = list(_directives(line))
    for match in _NETRC.finditer(line):
        places.append(match.span("value"))
    if (alone := _ALONE.fullmatch(line)) and not _PAST.fullmatch(alone["value"]):
        places.append(alone.span("value"))
    for pattern in (_PROTOCOL, _SQL, _AS_PASSWORD, _ROUTER, _LOGIN):
        places += [match.span("value") for match in pattern.finditer(line)]
    if "|" in line:
        cells = _TABLE.finditer(line)
        places += [match.span("value") for match in cells if _is_heading(match["key"])]
    for match in _SEMICOLON.finditer(line):
        if _LIKE_PASSWORD.fullmatch(match["value"]) and not _UNLIKE_PASSWORD.match(match["value"]):
            places.append(match.span("value"))
    for match in _SPOKEN.finditer(line):
        value = match["value"].rstrip(".,;:)")
        if match["quote"] or (_LIKE_PASSWORD.fullmatch(value) and not _UNLIKE_PASSWORD.match(value)):
            places.append((match.start("value"), match.start("value") + len(value)))
    return [place for place in places if not is_harmless(line[slice(*place)])]


def _directives(line: str) -> Iterator[tuple[int, int]]:
    """The values of directives: all words after a name that begins the line, otherwise the last one."""
    first = _SETTER.match(line)
    begins = first.end() if first else 0
    setter = bool(line[:begins].strip(" \t-"))
    length = len(line.rstrip(" \t\r;}"))
    for match in _DIRECTIVE.finditer(line):
        key, start = match["key"], match.end()
        compound = is_compound(key)
        begin = match.start() == begins
        # `set pass "X"` sets a variable. A pass is a move in Go elsewhere.
        is_variable = begin and setter and bool(match["quote"]) and is_secret_name(key)
        if not (compound or begin or key.lower() in _PLAIN) or not (is_variable or _is_directive(key)):
            continue
        value = _FIRST.match(line, start)
        if value is None or _NO_VALUE.fullmatch(value[0].rstrip(".")) or _PAST.fullmatch(value[0]):
            continue
        if match["quote"]:
            closing = line.find(match["quote"], start)
            yield start, closing if closing > start else len(line)
        elif begin and (compound or setter) and (rest := _REST.match(line, start)):
            yield rest.span()
        elif (
            value.end() >= length
            and not _SENTENCE_END.fullmatch(value[0])
            and not (key.istitle() and value[0].istitle())
        ) or (compound and _LIKE_PASSWORD.fullmatch(value[0]) and not _UNLIKE_PASSWORD.match(value[0])):
            yield value.span()


def _is_heading(text: str) -> bool:
    """Whether the first cell of a row is the name of a secret, and not a sentence about one."""
    return len(text.split()) <= _LONGEST_HEADING and is_secret_name(text.replace(" ", "_"))


def _is_directive(name: str) -> bool:
    """Whether a name without a colon or an equals sign is a key: `auth_pass` is one, `two-pass` is none."""
    if not is_secret_name(name):
        return False
    *before, last = words(name)
    if last in _PUBLIC:
        return bool(before) and ("-" not in name or before[-1] in _BEFORE_KEY)
    return True
