"""Shapes of secrets that need no name: tokens of services, hashes, addresses of webhooks.

A library such as detect-secrets knows about as many shapes, but it would have to be installed on every host.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import MARK, is_harmless

# The pattern is tried if the lower-cased text contains one of the words. The group `value` is redacted.
_Shape = tuple[tuple[str, ...], re.Pattern[str]]


def _shape(*anchors: str, pattern: str, flags: int = re.I) -> _Shape:
    return anchors, re.compile(pattern, flags)


_SLASH = r"(?:\\{0,8}/)"
_REST_OF_ADDRESS = r"[^\s\"'<>\\]+(?:\\{1,8}/[^\s\"'<>\\]+)*"
_SHAPES = (
    _shape(
        *("hf_", "sk-", "pk-", "sk_", "rk_", "npm_", "dckr_", "pypi-", "glpat-", "glptt-", "gldt-", "glrt-"),
        *(
            "shp",
            "sq0",
            "eaaa",
            "whsec_",
            "dop_v1_",
            "lin_api_",
            "pat-",
            "key-",
            "fig",
            "r8_",
            "gsk_",
            "xai-",
        ),
        *(
            "glsa_",
            "glc_",
            "tskey-",
            "ntn_",
            "secret_",
            "atatt",
            "atctt",
            "nvapi-",
            "ddp_",
            "doo_v1_",
            "rubygems_",
        ),
        pattern=r"(?<![A-Za-z0-9])(?P<value>(?:hf_|api_org_|[srp]k-(?:ant-|proj-|or-|lf-)?|[srp]k_(?:live|test)_|npm_"
        r"|dckr_(?:pat|oat)_|pypi-|glpat-|glptt-|gldt-|glrt-|shp(?:at|ca|pa|ss)_|sq0(?:atp|csp|idp)-|EAAA|whsec_"
        r"|do[op]_v1_|lin_api_|figd_|r8_|gsk_|xai-|glsa_|glc_|tskey-|ntn_|secret_|AT[AC]TT3?|nvapi-|rubygems_"
        r"|pat-(?:na1|eu1)-|key-(?=[0-9a-f]{32}))(?=[\w.=+/-]{0,40}[0-9A-Z])[\w.=+/-]{10,})",
        flags=0,
    ),
    _shape(
        *("gh", "xox", "xapp-", "hv", "aiza", "ya29.", "sg.", "eyj", "age-secret", "1//0"),
        pattern=r"(?<![A-Za-z0-9])(?P<value>gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|xox[a-z]-[\w-]{10,}"
        r"|xapp-[\w-]{10,}|hv[sbr]\.[\w-]{16,}|AIza[\w-]{20,}|ya29\.[\w.-]{10,}|1//0[\w-]{20,}"
        r"|SG\.[\w-]{10,}(?:\.[\w-]{10,})?|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}|AGE-SECRET-KEY-[A-Z0-9-]{10,})",
        flags=0,
    ),
    # Part of the anchors above in capitals.
    _shape(
        "akia",
        "asia",
        "aroa",
        "abia",
        pattern=r"\b(?P<value>(?:AKIA|ASIA|AROA|ABIA)[A-Z0-9]{12,})\b",
        flags=0,
    ),
    _shape(
        "$",
        pattern=r"(?P<value>(?<![\w$])(?:\$(?:1|2[abxy]?|5|6|7|y|gy|md5|apr1|argon2\w{1,2}|scrypt|pbkdf2[\w-]{0,12}|P|H|sha1)"
        r"\$|pbkdf2_\w{2,8}\$|scrypt:\d+:\d+:\d+\$|SCRAM-SHA-256\$|bcrypt(?:_sha256)?\$)[./\w$,=+:-]{8,})",
    ),
    _shape("}", pattern=r"(?P<value>\{(?:S?SHA(?:256|384|512)?|S?MD5|CRYPT)\}[\w./$+=-]{8,})"),
    _shape("md5", pattern=r"(?<![\w:])(?P<value>md5[0-9a-f]{32})(?!\w)", flags=0),
    _shape("bot", pattern=r"(?<=/bot)(?P<value>\d{6,12}:[\w-]{20,})"),
    _shape(":aa", pattern=r"(?<![\w:])(?P<value>\d{8,12}:AA[\w-]{30,})", flags=0),
    _shape(".", pattern=r"(?<![\w.-])(?P<value>[MNO][\w-]{23,28}\.[\w-]{6,7}\.[\w-]{27,})", flags=0),
    # Addresses whose path is the secret.
    _shape(
        "hook",
        "incoming",
        "triggers",
        pattern=rf"(?<=:){_SLASH}{{2}}[^\s/\"'<>\\]{{1,255}}{_SLASH}(?:[\w.~%-]{{1,64}}{_SLASH}){{0,6}}?"
        rf"(?:hooks?|webhooks?|webhookb2|incomingwebhook|incoming|triggers){_SLASH}(?P<value>{_REST_OF_ADDRESS})",
    ),
    _shape(
        "hooks.",
        "hc-ping.com",
        "logic.azure.com",
        "powerplatform.com",
        "webhook.office.com",
        "ntfy.sh",
        pattern=rf"(?:hooks\.slack(?:-gov)?\.com|hooks\.zapier\.com|hc-ping\.com|[\w.-]{{1,80}}\.logic\.azure\.com(?::\d+)?"
        rf"|[\w.-]{{1,80}}\.powerplatform\.com(?::\d+)?|[\w-]{{1,80}}\.webhook\.office\.com)"
        rf"(?:{_SLASH}(?:services|workflows|hooks|webhookb2|catch|ping)(?={_SLASH}))?{_SLASH}(?P<value>{_REST_OF_ADDRESS})",
    ),
    _shape(
        "integration",
        "/with/key/",
        "opsgenie",
        pattern=rf"{_SLASH}(?:integration|with{_SLASH}key|opsgenie){_SLASH}(?P<value>[^\s/\"'<>\\]{{8,}})",
    ),
    # A password or a token in an address; a port is no password.
    _shape(
        "://",
        pattern=r"(?<=://)(?:[^\s/@:\"'\\\[]{0,256}):(?!\d{1,5}(?:/|$|\s))(?P<value>[^\s\"'\\<>]{1,1024})(?=@)",
    ),
    _shape("://", pattern=r"(?<=://)(?P<value>[^\s/@:\"'\\\[]{16,1024})(?=@)"),
    _shape(
        "@",
        pattern=r"(?<![\w./:@-])(?!(?:sftp|ssh|scp|git|mailto|sip|xmpp|acct|user|from|to)\b)[\w.-]{1,64}:"
        r"(?P<value>(?=[^\s@/:]{0,64}[\d!#$%^&*])[^\s@/:\"',;]{4,256})(?=@[\w(\[])",
    ),
    _shape(
        *("jdbc:", "sqlplus"),
        pattern=r"(?:thin:|sqlplus\s{1,4}(?:-\w{1,2}\s{1,4})?)\w{1,64}/(?P<value>[^\s@]{1,256})(?=@)",
    ),
    # Input of a program that reads a password.
    _shape(
        *("sudo -s", "stdin", "cryptsetup", "passphrase-fd"),
        pattern=r"\b(?:echo|printf)\s{1,4}(?:-\w\s{1,4})?[\"']?(?P<value>[^|\"']{1,256}?)[\"']?\s{0,4}\|[^|]{0,200}?"
        r"(?:\bsudo\s{1,4}-S|--(?:password-)?stdin|\bcryptsetup\b|--passphrase-fd)",
    ),
    _shape(
        "<<<",
        pattern=r"(?:sudo\s{1,4}-S|cryptsetup|stdin|passwd|\bsu\b)[^<]{0,200}<<<\s{0,4}[\"']?(?P<value>[^\"'\s]{1,256})",
    ),
    _shape("pass:", pattern=r"(?<![\w-])pass:(?P<value>[^\s\"'\\]+)"),
    _shape(
        "bearer", pattern=r"\bbearer\s+(?P<value>[\w.~+/-]{16,}=*|(?=[A-Za-z._~+/-]{0,64}\d)[\w.~+/-]{8,}=*)"
    ),
    _shape("setcredential", pattern=r"SetCredential(?:Encrypted)?=[^:\s]+:(?P<value>.+)"),
    # .pgpass: host:port:database:user:password
    _shape(
        "",
        pattern=r"^\s*[A-Za-z*][\w.*-]{0,253}:(?:\d{1,5}|\*):[\w*.-]{1,64}:[\w*.@-]{1,64}:(?P<value>\S.*)$",
        flags=0,
    ),
    _shape(
        "chpasswd",
        pattern=r"[\w-]{1,32}:(?P<value>[^\s|]{1,256})(?=[\s\"']{0,8}\|\s{0,8}(?:sudo\s+)?chpasswd)",
    ),
    _shape("<<", "chpasswd", pattern=r"chpasswd\s{0,8}<<<\s{0,8}[\"']?[\w-]{1,32}:(?P<value>[^\"']{1,256})"),
)
_BASIC = re.compile(r"\bbasic\s+(?P<value>[A-Za-z0-9+/_-]{6,}={0,2})", re.I)
_KEY_BODY = re.compile(r"\s*(?P<value>[A-Za-z0-9+/]{60,76}={0,2})\s*")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_LONG_WORD = re.compile(r"(?<![\w/.+=:-])(?P<value>[A-Za-z0-9_+/-]{32,512}={0,2})(?![\w/.])")
_AWS_SECRET = 40
_CLASSES = re.compile(r"[a-z]+|[A-Z]+|\d+")


def applicable(lowered: str) -> list[_Shape]:
    """The shapes that may occur in a text, by its lower-cased form."""
    return [shape for shape in _SHAPES if any(anchor in lowered for anchor in shape[0])]


def spans(line: str, shapes: list[_Shape]) -> Iterator[tuple[int, int]]:
    """Where secrets of these shapes are in a line: start and end, not in order."""
    for _, pattern in shapes:
        for match in pattern.finditer(line):
            if not is_harmless(match["value"]):
                yield match.span("value")
    for match in _BASIC.finditer(line):
        if _is_basic(match["value"]):
            yield match.span("value")
    if (body := _KEY_BODY.fullmatch(line)) and not _HEX.fullmatch(body["value"]):
        yield body.span("value")
    for match in _LONG_WORD.finditer(line):
        if looks_random(match["value"]):
            yield match.span("value")


def looks_random(word: str) -> bool:
    """Whether a long word mixes letters of both cases and digits, unlike digests, names and paths."""
    pieces = _CLASSES.findall(word)
    digits = sum(piece.isdigit() for piece in pieces)
    if word.count("/") > 3 or MARK in word or "--" in word:
        return False
    return (
        len(pieces) * 3 >= len(word)
        and digits >= (1 if len(word) == _AWS_SECRET else 3)
        and any(map(str.isupper, pieces))
        and any(map(str.islower, pieces))
    )


def _is_basic(word: str) -> bool:
    try:
        return b":" in base64.b64decode(
            word + "=" * (-len(word) % 4), altchars=b"-_" if set(word) & set("-_") else None
        )
    except (ValueError, binascii.Error):
        return False
