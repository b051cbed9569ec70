"""Decides by its name whether a key, variable or option holds a secret, and which values are harmless.

Names are compared word by word in any spelling: `smtpPassword`, `SMTP_PASSWORD`, `smtp-password`, `smtppass`.
"""

from __future__ import annotations

import re

MARK = "[redacted]"
STEMS = (
    *(
        "pass",
        "pwd",
        "pw",
        "secret",
        "token",
        "key",
        "cred",
        "auth",
        "cookie",
        "dsn",
        "hook",
        "bearer",
        "jwt",
    ),
    *("otp", "psk", "sig", "phrase", "connection", "community", "identified", "pin", "shared"),
)
"""A lower-case text with none of these has no name of a secret."""


def _set(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_STRONG = _set(
    "password passwd passphrase passcode pass pwd pw secret token credential cred cookie",
    "webhook dsn jwt psk otp pin totp bearer auth authorization signature apikey authkey",
    "accesskey secretkey privatekey signingkey sharedkey licensekey presharedkey masterkey",
    "rootpw bindpw ldappw userpw rootpass connectionstring authtoken",
)
_ENDINGS = ("password", "passwd", "passphrase", "secret", "token", "apikey", "pwd", "webhook")
_PASS = re.compile(r"(?:db|smtp|sql|user|root|admin|ldap|imap|ftp|ssh|bind|proxy|my|mail|http|api)pass")
_PLURALS = _set("passwords passwds secrets tokens credentials creds cookies webhooks passphrases")
# Words after the word that decides. They say how a secret is written, or which one it is.
_NEUTRAL = _set(
    "value text plain plaintext string raw base64 b64 hash hashed old new current previous",
    "default prod dev test staging live encoded encrypted enc pem hex data primary secondary",
)
# Words before `key` that make it an ordinary key.
_OPEN_KEYS = _set(
    "public pub cache primary foreign host sort partition idempotency index map dict group",
    "lookup board position event registry config unique search object row column label metric",
    "dedup hot shortcut boot return enter escape any no the a of by",
)
_SECRET_IDS = frozenset({("access", "key", "id"), ("api", "key", "id")})
_TWO_WORDS = frozenset(
    (
        ("pass", "phrase"),
        ("pass", "word"),
        ("pass", "code"),
        ("pass", "wd"),
        ("seed", "phrase"),
        ("connection", "string"),
        ("snmp", "community"),
    )
)
_WITH_SETTINGS = _set("auth authorization token tokens cookie cookies webhook bearer jwt signature")
_PLACES = _set("url uri address endpoint")
_SENDERS = _set("webhook hook slack discord teams mattermost telegram")
# First words of names that ask for, count or locate a secret.
_QUESTIONS = _set(
    "no without ask max min num count total has is use require required allow enable disable",
    "load import show hide check need needs",
)
_STATES = _set(
    "no such file directory permission permitted protocol input output device resource temporarily",
    "unavailable timed out connection reset closed broken exists already operation allowed",
    "supported interrupted is was are wrong invalid incorrect expired missing required optional",
    "not set unset",
    "configured empty denied refused rejected changed unchanged accepted ok valid failed",
    "unknown none null true false yes no on off enabled disabled never the for user root of",
    "an and or has have been by at with authentication must be to do does did match hidden",
    "masked omitted revoked rotated supplied provided found loaded read password token",
    "publickey basic bearer digest negotiate tls mtls oauth oauth2 all black white amd64",
    "arm64 i386 default private public inherit shared error",
)
_SMALL = re.compile(r"\d{1,3}")
_PLACEHOLDER = re.compile(
    r"\*{3,}|(?:\[redacted[^\]\s]*\][\s,;]*)+|<(?:redacted|hidden|masked|none|unset|omitted|secret)>"
    r"|\((?:hidden|none|unset|redacted)\)|\$\{[A-Za-z_]\w*\}|\{\{[^{}]*\}\}|\[\]|\{\}|\"\"|''",
    re.I,
)
_PATH = re.compile(r"/(?:etc|run|opt|var|usr|home|srv|tmp|proc|sys|dev|root|mnt|lib)/[\w./@-]*")


def words(name: str) -> list[str]:
    """The lower-case words of a name: `apiKey`, `api_key` and `API-KEY` have the same."""
    return [word.lower() for word in _WORD.findall(name)]


def is_secret_name(name: str) -> bool:
    """Whether a key, an option or a field of this name holds a secret, such as `smtp_pass` or `X-Api-Key`."""
    parts = words(name)
    if not parts or parts[0] in _QUESTIONS or name in ("PWD", "OLDPWD"):
        return False
    if tuple(parts[-3:]) in _SECRET_IDS or tuple(parts[-2:]) in _TWO_WORDS or parts == ["sig"]:
        return True
    while len(parts) > 1 and (parts[-1] in _NEUTRAL or parts[-1].isdigit()):
        parts.pop()
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    if last in ("key", "keys"):
        return bool(before) and before not in _OPEN_KEYS
    if last in _PLACES:
        return any(word in _SENDERS or word.endswith("webhook") for word in parts[:-1])
    if last in _PLURALS:
        return True
    if last in ("phrase", "string") or (last, before) == ("sig", ""):
        return (before, last) in (
            ("pass", "phrase"),
            ("seed", "phrase"),
            ("connection", "string"),
            ("", "sig"),
        )
    if (before, last) == ("snmp", "community"):
        return True
    return last in _STRONG or last.endswith(_ENDINGS) or bool(_PASS.fullmatch(last))


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return is_secret_name(name)


def is_container(name: str) -> bool:
    """Whether everything below a key of this name is secret, such as below `passwords`."""
    parts = words(name)
    return bool(parts) and (parts[-1] in _PLURALS - {"tokens", "cookies"} or parts[-1] == "secret")


def holds_settings(name: str) -> bool:
    """Whether a key of a secret name may also hold a mapping of settings, as `auth` and `tokens` do."""
    return words(name)[-1:] != [] and words(name)[-1] in _WITH_SETTINGS


def names_next(name: str) -> bool:
    """Whether the next element of a pair is a secret. A pass is a move in Go."""
    return name.lower() != "pass" and is_secret_name(name)


def is_harmless(value: str) -> bool:
    """Whether a value is no secret: empty, a state, a small number, a placeholder, a path."""
    value = value.strip()
    if not value or _SMALL.fullmatch(value) or _PLACEHOLDER.fullmatch(value) or _PATH.fullmatch(value):
        return True
    if len(value) > 120:
        return False
    spoken = [word.strip(".,;:!()[]'\"").lower() for word in value.split()]
    return all(word in _STATES or not word for word in spoken)
