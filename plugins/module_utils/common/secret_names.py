"""Decides by its name whether a key, variable or option holds a secret, and which values are harmless.

Names are compared word by word in any spelling: `smtpPassword`, `SMTP_PASSWORD`, `smtp-password`, `smtppass`.
"""

from __future__ import annotations

import functools
import re
import unicodedata

MARK = "[redacted]"


def _set(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


# Letters that Unicode does not decompose into a letter and a mark.
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "\u0131": "i", "ß": "ss"})


def folded(text: str) -> str:
    """The text in lower case without accents, so that `Contraseña` is `contrasena`."""
    lowered = text.lower()
    if lowered.isascii():
        return lowered
    letters = unicodedata.normalize("NFKD", lowered)
    return "".join(each for each in letters if unicodedata.category(each)[0] != "M").translate(_LETTERS)


_FOREIGN = tuple(
    sorted(
        _set(
            folded(
                "passwort kennwort losungswort geheimnis zugangsdaten wachtwoord wachtzin passord lösenord"
            ),
            folded("adgangskode kodeord salasana lykilorð contraseña contrasenya motdepasse mdp senha jeton"),
            folded(
                "secreto segredo segreto credenciales parole parolă hasło heslo jelszó lozinka geslo parol"
            ),
            folded("slaptažodis şifre пароль пароля парола лозинка секрет токен κωδικός συνθηματικό"),
            folded("密码 密碼 口令 秘密 密钥 密鑰 令牌 パスワード 暗証番号 合言葉 秘密鍵 トークン"),
            folded("비밀번호 패스워드 암호 비밀 토큰 סיסמה סיסמא पासवर्ड รหัสผ่าน گذرواژه"),
        )
    )
)
"""Words that mean a password, a secret or a token in other languages, also at the end of a longer word."""
_PHRASES = frozenset(
    tuple(folded(phrase).split())
    for phrase in (
        "mot de passe",
        "code secret",
        "phrase secrète",
        "clé api",
        "clé secrète",
        "clave secreta",
        "clave api",
        "clave de acceso",
        "palavra passe",
        "parola d'ordine".replace("'", " "),
        "chiave api",
        "chiave segreta",
        "geheimer schlüssel",
        "kata sandi",
        "mật khẩu",
        "كلمة المرور",
        "كلمة السر",
        "رمز عبور",
        "секретный ключ",
        "api anahtar\u0131",
    )
)
_LONGEST_PHRASE = 3
_PHRASE_ENDS = frozenset((*(phrase[-1] for phrase in _PHRASES), "key", "phrase", "string", "url"))
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
    *("recovery", "backup_code", "obscure"),
    *("pat", "sid", "sess", "csrf", "xsrf", "_user", "-user", "net user", "clave", "alias set", "<<"),
    # Programs that store secrets under any name.
    *("vault", "bao ", "config:set", "appsettings", "_sas"),
    *_FOREIGN,
    *(phrase[-1] for phrase in _PHRASES),
)
"""A folded text with none of these has no name of a secret."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_STRONG = _set(
    "password passwd passphrase passcode pass pwd pw secret token credential cred cookie",
    "webhook dsn jwt psk otp pin totp bearer auth authorization signature apikey authkey",
    "accesskey secretkey privatekey signingkey sharedkey licensekey presharedkey masterkey",
    "rootpw bindpw ldappw userpw rootpass connectionstring authtoken clave",
)
_ENDINGS = (
    *("password", "passwd", "passphrase", "secret", "token", "apikey", "pwd", "webhook", "sessid"),
    *("sessionid", "secretkey", "accesskey", "privatekey", "authkey"),
    *_FOREIGN,
)
_PASS = re.compile(r"(?!(?:by|com|sur|tres|over|under|encom|sub|multi|two|one|board)pass$)\w{2,32}pass")
# Names of a secret or of something else. Only a value that looks random is redacted.
_LIKELY = _set("session sess sid pat csrf xsrf")
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
    "dedup hot shortcut boot return enter escape any no the a of by meta",
)
_SECRET_IDS = frozenset({("access", "key", "id"), ("api", "key", "id")})
# The public name of a connection, by which an operator follows a client through the log, and a package.
_OPEN_NAMES = frozenset({("mcp", "session", "id"), ("base", "passwd")})
# Words below `tokens:` that are settings. Others are names of tokens, such as `anna: X`.
_SETTINGS = _set(
    "file files path paths dir directory url name names user username id type kind scope scopes role roles",
    "enabled required ttl expires expiry lifetime length algorithm method mode realm issuer audience",
    "header max min count size timeout interval provider description created updated version host port",
    "samesite secure httponly domain prefix ref from elements options choices default",
)
_TWO_WORDS = frozenset(
    (
        ("pass", "phrase"),
        ("pass", "word"),
        ("pass", "code"),
        ("pass", "wd"),
        ("seed", "phrase"),
        ("connection", "string"),
        ("snmp", "community"),
        ("key", "string"),
        ("recovery", "code"),
        ("backup", "code"),
        ("account", "sas"),
        ("sas", "url"),
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
    "arm64 i386 default private public inherit shared error updated successfully successful succeeded",
    "manipulation prompt requests generated removed deleted added set tokens passwords secrets keys",
    "credentials authentication attempt attempts login logins user users old new entered",
)
_SMALL = re.compile(
    r"\d{1,3}|\d{1,6}\s(?:files?|entries|entry|items?|keys?|secrets?|tokens?|passwords?|lines?|bytes"
    r"|users?|hosts?|names?|seconds?|minutes?|hours?|days?|weeks|months|years?|char(?:acter)?s|attempts?|times"
    r"|bits?|cookies?|credentials?)[.,;]?"
)
_PLACEHOLDER = re.compile(
    r"\*{3,}|(?:\[redacted[^\]\s]*\][\s,;]*)+|<(?:redacted|hidden|masked|none|unset|omitted|secret)>"
    r"|\((?:hidden|none|unset|redacted)\)|\$\{[A-Za-z_]\w*\}|\{\{[^{}]*\}\}|\[\]|\{\}|\"\"|''",
    re.I,
)
_RANDOM = re.compile(r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[\w%+/=~.:!#$&*^-]{8,}")
_PATH = re.compile(r"/(?:etc|run|opt|var|usr|home|srv|tmp|proc|sys|dev|root|mnt|lib)/[\w./@-]*")


def words(name: str) -> list[str]:
    """The folded words of a name: `apiKey`, `api_key` and `API-KEY` have the same."""
    if name.isascii():
        return [word.lower() for word in _WORD.findall(name)]
    return _WORD.findall(folded(name))


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a key, an option or a field of this name holds a secret, such as `smtp_pass` or `X-Api-Key`."""
    parts = words(name)
    if not parts or parts[0] in _QUESTIONS or name in ("PWD", "OLDPWD") or tuple(parts) in _OPEN_NAMES:
        return False
    if tuple(parts[-3:]) in _SECRET_IDS or tuple(parts[-2:]) in _TWO_WORDS or parts == ["sig"]:
        return True
    if parts[-2:] == ["session", "id"]:
        return True
    if is_secret_phrase(name):
        return True
    while len(parts) > 1 and (parts[-1] in _NEUTRAL or parts[-1].isdigit()):
        parts.pop()
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    if last in ("key", "keys"):
        return bool(before) and before not in _OPEN_KEYS
    if last in _PLACES:
        return any(word in _SENDERS or word.endswith("webhook") for word in parts[:-1])
    if last in _PLURALS or (last == "pat" and _WORD.findall(name)[-1].isupper()):
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


@functools.lru_cache(maxsize=4096)
def ends_phrase(name: str) -> bool:
    """Whether a key may be the last word of the name of a secret that has several, as in `api key: X`."""
    return words(name)[-1:] != [] and words(name)[-1] in _PHRASE_ENDS


def is_secret_phrase(text: str) -> bool:
    """Whether the end of a text names a secret, such as `mot de passe`."""
    parts = words(text)
    return any(tuple(parts[-length:]) in _PHRASES for length in range(2, _LONGEST_PHRASE + 1))


def is_likely_name(name: str) -> bool:
    """Whether a key of this name may hold a secret, such as `sid`. Its value shows whether it does."""
    return words(name)[-1:] != [] and words(name)[-1] in _LIKELY


def names_call(name: str) -> bool:
    """Whether the arguments of a function of this name are secrets, such as `setPassword`."""
    parts = words(name)
    if len(parts) > 1 and parts[0] in _QUESTIONS:
        return is_secret_name("_".join(parts[1:]))
    return parts != ["pass"] and is_secret_name(name)


def is_compound(name: str) -> bool:
    """Whether a name has several words, as names in programs have and names in sentences do not."""
    return len(words(name)) > 1


def holds_names(name: str) -> bool:
    """Whether a mapping below a key of this name has a secret for each name, as `tokens` has."""
    return words(name)[-1:] in (["tokens"], ["cookies"])


def is_setting(name: str) -> bool:
    """Whether a key below `tokens` is a setting of them, and not the name of one."""
    return words(name)[-1:] != [] and words(name)[-1] in _SETTINGS


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


def looks_generated(value: str) -> bool:
    """Whether a value below a name that may hold a secret is one: a long word of letters and digits."""
    return bool(_RANDOM.fullmatch(value.strip())) and not is_harmless(value)
