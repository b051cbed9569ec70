"""Shapes of secrets that need no name: tokens of services, hashes, addresses of webhooks.

A library such as detect-secrets knows about as many shapes, but it would have to be installed on every host.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import MARK, is_harmless

# The pattern is tried if the lower-cased text contains one of the words. The group `value` is redacted.
Shape = tuple[tuple[str, ...], re.Pattern[str]]


def _shape(*anchors: str, pattern: str, flags: int = re.I) -> Shape:
    return anchors, re.compile(pattern, flags)


_SLASH = r"(?:\\{0,8}/)"
_REST_OF_ADDRESS = r"[^\s\"'<>\\]+(?:\\{1,8}/[^\s\"'<>\\]+)*"
_PREFIXES = tuple(
    " ".join(
        (
            "hf_ api_org_ sk- rk- pk- sk_live_ sk_test_ rk_live_ rk_test_ pk_live_ pk_test_ npm_ dckr_pat_",
            "dckr_oat_ pypi- glpat- glptt- gldt- glrt- glcbt- glsoat- gloas- shpat_ shpca_ shppa_ shpss_",
            "sq0atp- sq0csp- sq0idp- EAAA whsec_ dop_v1_ doo_v1_ lin_api_ figd_ r8_ gsk_ xai- glsa_ glc_",
            "tskey- ntn_ secret_ ATATT ATCTT ATBB nvapi- rubygems_ pat-na1- pat-eu1- pplx- GOCSPX- PMAK-",
            "NRAK- NRII- CFPAT- CCIPAT_ sntrys_ sntryu_ sbp_ sb_secret_ pscale_tkn_ pscale_pw_ pscale_oauth_",
            "xkeysib- xsmtpsib- CLOJARS_ bkua_ HRKU- lsv2_pt_ lsv2_sk_ shippo_live_ shippo_test_ FLWSECK",
            "phx_",
            "KGAT_ dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit. tvly- pcsk_ jina_ FlyV1 fm2_ nfp_ tfp_",
            "rdme_ duffel_live_ duffel_test_ ops_eyJ syt_ csk- LTAI AKIDz AKCp ABSK",
        )
    ).split()
)
"""Prefixes that services give their tokens."""
_LONG_PREFIXES = tuple(
    " ".join(
        (
            "dapi pul- sqp_ squ_ sqa_ re_ fc- e2b_ rnd_ pnu_ sdk- mob- napi_ key- tk_ fw_ pa- ak- as- oy2",
            "cio",
            "AKID EZAK EZTK fio-u- p8e- tk-us- SK",
        )
    ).split()
)
"""Prefixes that other words have too. Only a long word with digits is a token."""


def _any(words: tuple[str, ...]) -> str:
    return "|".join(map(re.escape, words))


def _anchors(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(str.lower, words))


_SHAPES = (
    _shape(
        *_anchors(_PREFIXES),
        pattern=rf"(?<![A-Za-z0-9])(?P<value>(?:{_any(_PREFIXES)})(?=[\w.=+/-]{{0,40}}[0-9A-Z])[\w.=+/-]{{10,}})",
        flags=0,
    ),
    _shape(
        *_anchors(_LONG_PREFIXES),
        pattern=rf"(?<![\w.-])(?P<value>(?:{_any(_LONG_PREFIXES)})(?=[A-Za-z_-]{{0,64}}\d[A-Za-z_-]{{0,64}}\d)[\w-]{{26,}})"
        r"(?![\w/.])",
        flags=0,
    ),
    _shape(
        *("gh", "xox", "xapp-", "hv", "aiza", "ya29.", "sg.", "eyj", "age-secret", "1//0"),
        pattern=r"(?<![A-Za-z0-9])(?P<value>gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|xox[a-z]-[\w-]{10,}"
        r"|xapp-[\w-]{10,}|hv[sbr]\.[\w-]{16,}|AIza[\w-]{20,}|ya29\.[\w.-]{10,}|1//0[\w-]{20,}"
        r"|SG\.[\w-]{10,}(?:\.[\w-]{10,})?|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}|AGE-SECRET-KEY-[A-Z0-9-]{10,})",
        flags=0,
    ),
    _shape(".atlasv1.", pattern=r"(?<!\w)(?P<value>[A-Za-z0-9]{10,20}\.atlasv1\.[\w=-]{20,})"),
    _shape(
        "pat",
        "dt0",
        pattern=r"(?<!\w)(?P<value>(?:pat\w{14}|dt0[a-z]\d\d\.[A-Z0-9]{24})\.[A-Za-z0-9]{32,})",
        flags=0,
    ),
    _shape("8q~", pattern=r"(?<!\w)(?P<value>\w{3}8Q~[\w.~-]{30,})", flags=0),
    _shape("-us", pattern=r"(?<!\w)(?P<value>[0-9a-f]{32}-us\d{1,2})(?!\w)", flags=0),
    _shape("sha256~", pattern=r"(?<!\w)(?P<value>sha256~[\w-]{20,})", flags=0),
    # The prefix of a service and a long word of letters and digits.
    _shape(
        *("_", "-"),
        pattern=r"(?<![\w/.@+-])(?!sha\d)(?P<value>[A-Za-z][A-Za-z0-9]{1,9}[_-](?:[A-Za-z0-9]{1,8}[_-]){0,2}"
        r"(?=[A-Za-z]{0,64}\d[A-Za-z]{0,64}\d[A-Za-z]{0,64}\d)"
        r"(?![0-9a-fA-F]{20,}(?!\w))[A-Za-z0-9]{24,})(?![\w/.])",
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
        rf"|[\w.-]{{1,80}}\.powerplatform\.com(?::\d+)?|[\w-]{{1,80}}\.webhook\.office\.com|ntfy\.sh)"
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
    # A user without a password in an address of the web is a token.
    _shape(
        *("http://", "https://", "ws://", "wss://"),
        pattern=r"(?<=[ps]://)(?<!sftp://)(?!(?:git|user(?:name)?|anonymous|oauth2|x-access-token|me)@)"
        r"(?P<value>[^\s/@:\"'<>\\\[]{4,1024})(?=@[\w\[])",
    ),
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
    _shape("macopt", pattern=r"-macopt['\",]{0,2}\s{1,4}['\"]?(?:hex)?key:(?P<value>[^\s\"'\\]+)"),
    _shape("pass:", pattern=r"(?<![\w-])pass:(?P<value>[^\s\"'\\]+)"),
    _shape(
        "bearer", pattern=r"\bbearer\s+(?P<value>[\w.~+/-]{16,}=*|(?=[A-Za-z._~+/-]{0,64}\d)[\w.~+/-]{8,}=*)"
    ),
    _shape(
        "login",
        pattern=r"\b(?:vault|bao)['\",]?\s{1,4}['\"]?login['\",]?\s{1,4}['\"]?(?P<value>[^\s\"'=-][^\s\"'=]{3,255})",
    ),
    # The second argument of a call that logs in, as of smtplib.
    _shape(
        "login(",
        "authenticate(",
        pattern=r"\b(?:login|authenticate)\(\s{0,8}(?P<quote>[\"'])[^\"']{0,256}(?P=quote)\s{0,8},\s{0,8}[\"'](?P<value>[^\"']{1,512})",
    ),
    _shape("from-literal", pattern=r"--from-literal[= ][\"']?[\w.-]{1,253}=(?P<value>[^\s\"']{1,1024})"),
    # A program that prints the password of a repository.
    _shape(
        *("password-command", "password_command"),
        pattern=r"password[_-]command[= ]{1,3}[\"']?(?:/\S{0,64}/)?(?:echo|printf)\s{1,4}(?:-\w\s{1,4})?"
        r"(?:[\"']?%s(?:\\n)?[\"']?\s{1,4})?[\"']?(?P<value>[^\s\"']{1,512})",
    ),
    # The users of Valkey and Redis.
    _shape(
        *(" on", " off", " reset"),
        pattern=r"\b(?:user|setuser)\s{1,4}[\w.-]{1,64}\s{1,4}(?:on|off|reset)\b[^>#\n]{0,128}?\s(?:>|#(?=[0-9a-f]{64}(?!\w)))"
        r"(?P<value>[^\s/>][^\s]{3,512})",
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


def applicable(lowered: str, among: Sequence[Shape] = _SHAPES) -> list[Shape]:
    """The shapes that may occur in a text, by its lower-cased form, with the words that are in the text."""
    shapes = []
    for anchors, pattern in among:
        if there := tuple([anchor for anchor in anchors if anchor in lowered]):
            shapes.append((there, pattern))
    return shapes


def spans(line: str, shapes: list[Shape]) -> Iterator[tuple[int, int]]:
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
