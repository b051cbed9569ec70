"""Redaction removes secrets in every encoding and leaves harmless text unchanged."""

from __future__ import annotations

import base64
import html
import json
import re
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.common import (
    redaction,
    secret_names,
    secret_values,
)
from ansible_collections.katago.fleet.plugins.module_utils.common.redaction import MARK, Redactor, Secret
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets

KEY = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJx4Q9sYy0bE8m1XkqgVnYyq3q3zWf7m0aXl7m2v3J9d
-----END PRIVATE KEY-----
"""
SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=8, max_size=40).filter(
    lambda text: text.encode() not in MARK
)
TEXT = st.binary(max_size=200)


def redacted(text: str | bytes, *secrets: str) -> str:
    redactor = Redactor(Secret(secret.encode(), "known") for secret in secrets)
    content, _ = redactor.redact(text.encode() if isinstance(text, str) else text)
    return content.decode()


@given(secret=SECRETS, before=TEXT, after=TEXT)
def test_known_secret_is_found_anywhere(secret: str, before: bytes, after: bytes) -> None:
    value = secret.encode()
    content, count = Redactor([Secret(value, "x")]).redact(before + value + after)
    assert count >= 1
    assert value not in content.replace(b"[redacted:x]", b"").replace(MARK, b"") or value in MARK + b":x"


@given(secret=SECRETS, before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_known_secret_is_found_in_every_encoding(secret: str, before: bytes, after: bytes) -> None:
    value = secret.encode()
    redactor = Redactor([Secret(value, "x")])
    for encoded in (
        urllib.parse.quote(secret, safe="").encode(),
        urllib.parse.quote_plus(secret).encode(),
        json.dumps(secret)[1:-1].encode(),
        json.dumps(json.dumps({"a": secret})).encode(),
        base64.b64encode(before + value + after),
        base64.urlsafe_b64encode(before + value + after),
        (before + value + after).hex().encode(),
        value.hex().upper().encode(),
    ):
        content, count = redactor.redact(b"harmless " + encoded + b" words")
        assert count >= 1
        assert content.startswith(b"harmless ")
        assert content.endswith(b" words")


CODED = "c4n/\"é&<'! @\\(x)*\n+~9"
ENCODERS: dict[str, Callable[[str], str]] = {
    "encodeURIComponent": lambda text: urllib.parse.quote(text, safe="!'()*~"),
    "partly": lambda text: text.replace("/", "%2f").replace("@", "%40"),
    "twice in a URL": lambda text: urllib.parse.quote(urllib.parse.quote(text, safe=""), safe=""),
    "every byte": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "at sign": lambda text: json.dumps(text)[1:-1].replace("@", "\\u0040").replace("<", "\\u003C"),
    "html": html.escape,
    "html twice": lambda text: html.escape(html.escape(text)),
    "numbers": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "systemd": lambda text: "".join(
        char if char.isascii() and char.isalnum() else "".join(f"\\x{byte:02x}" for byte in char.encode())
        for char in text
    ),
    "three times in JSON": lambda text: json.dumps(json.dumps(json.dumps(text))),
    "JSON in a URL": lambda text: urllib.parse.quote(json.dumps(text)),
}


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("secret", [CODED, "p@ss/word!", "€uro@home & garden"])
def test_known_secret_is_found_in_nested_encodings(secret: str, encode: Callable[[str], str]) -> None:
    told = redacted(f"before {encode(secret)} after", secret)
    assert re.fullmatch(r'before [\\"%2C5]*\[redacted:known\][\\"%2C5]* after', told), told


FULLY_ENCODED: dict[str, Callable[[bytes], str]] = {
    "base32": lambda value: base64.b32encode(value).decode(),
    "base32 in lower case": lambda value: base64.b32encode(value).decode().lower(),
    "base32 after other text": lambda value: base64.b32encode(b"key" + value + b"!").decode(),
    "base64 of UTF-16": lambda value: base64.b64encode(value.decode().encode("utf-16-le")).decode(),
    "hexadecimal in both cases": lambda value: value.hex()[:7].upper() + value.hex()[7:],
    "hexadecimal at an odd place": lambda value: f"a{value.hex()}0",
    "hexadecimal with colons": lambda value: value.hex(":").upper(),
    "hexadecimal words": lambda value: value.hex(" ", 2),
    "hexadecimal of UTF-16": lambda value: value.decode().encode("utf-16-le").hex(),
    "hexadecimal on two lines": lambda value: f"{value.hex()[:9]}\n    {value.hex()[9:]}",
    "numbers with 0x": lambda value: ", ".join(f"0x{byte:02x}" for byte in value),
    "UTF-16 in JavaScript": lambda value: "".join(f"\\u{{{byte:x}}}" for byte in value),
    "UTF-16 in a URL": lambda value: "".join(f"%u{byte:04x}" for byte in value),
    "quoted-printable": lambda value: "".join(f"={byte:02X}" for byte in value),
    "octal": lambda value: "".join(f"\\{byte:03o}" for byte in value),
    "octal of a shell": lambda value: "".join(f"\\0{byte:o}" for byte in value),
    "octal numbers": lambda value: " ".join(f"{byte:03o}" for byte in value),
    "decimal": lambda value: "".join(f"\\{byte:03d}" for byte in value),
    "list of numbers": lambda value: str(list(value)),
    "numbers on lines": lambda value: ",\n  ".join(map(str, value)),
    "calls of chr": lambda value: "+".join(f"chr({byte})" for byte in value),
    "UTF-16": lambda value: value.decode().encode("utf-16-le").decode("latin-1"),
}


@pytest.mark.parametrize("encode", FULLY_ENCODED.values(), ids=FULLY_ENCODED)
@pytest.mark.parametrize("secret", ["Zq8hunter2Horse-7/x", "zebra-horse 50", "0011223344"])
def test_known_secret_is_found_if_each_of_its_characters_is_encoded(
    secret: str, encode: Callable[[bytes], str]
) -> None:
    encoded = encode(secret.encode())
    told = redacted(f"before:\n it was {encoded} there\nafter", secret)
    assert re.fullmatch(
        r"before:\n it was .{0,5}\[redacted:known\](?:\n *\[redacted:known\])?.{0,5} there\nafter", told
    )


@pytest.mark.parametrize("secret", ["päss/wörd!", "a@b'c\"d=e"])
@pytest.mark.parametrize("form", ["\\{:03o}", "\\{:03d}", "={:02X}"])
def test_known_secret_is_found_if_only_its_special_characters_are_encoded(form: str, secret: str) -> None:
    encoded = "".join(
        chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else form.format(byte)
        for byte in secret.encode()
    )
    assert redacted(f"before {encoded} after", secret) == "before [redacted:known] after"


BREAKS = {
    "line": "\n",
    "indented": "\n      ",
    "carriage return": "\r\n",
    "continued": "\\\n",
    "soft": "=\n",
    "escaped": "\\n",
    "prefix of a log": "\nNov 24 10:00:00 host-1 katago[123]: ",
    "prefix with a time stamp": "\n2026-11-24T10:00:00.123456+00:00 host-1 katago[123]: ",
    "entry of a journal": '","_PID":"1"}\n{"_PID":"1","MESSAGE":"',
    "colour": "\x1b[0m",
    "invisible": "\u200b",
}


@pytest.mark.parametrize("separator", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("at", [1, 5, -1])
def test_known_secret_that_a_break_splits_is_found(separator: str, at: int) -> None:
    for secret in (
        "Zq8hunter2Horse-7/x",
        "two words 50",
        base64.b64encode(b"user:Zq8hunter2Horses").decode(),
    ):
        text = f"before {secret[:at]}{separator}{secret[at:]} after\nend"
        expected = f"before [redacted:known]{separator}[redacted:known] after\nend"
        assert redacted(text, secret) == expected


def test_known_secret_that_is_wrapped_between_its_words_is_found() -> None:
    text = "before correct horse\n  battery after"
    assert redacted(text, "correct horse battery") == "before [redacted:known]\n  [redacted:known] after"


def test_base64_of_a_known_secret_is_found_across_lines() -> None:
    encoded = base64.encodebytes(b"x" * 50 + b"Zq8hunter2Horse-7/x" + b"y" * 60).decode()
    told = redacted(encoded, "Zq8hunter2Horse-7/x")
    assert told.count("[redacted") >= 2
    assert told.count("\n") == encoded.count("\n")
    assert encoded[66:76] not in told
    assert encoded[77:87] not in told


@pytest.mark.parametrize(
    "text",
    [
        "10:00:00.123 1, 2, 3, 90, 113, 56, 104, 117, 110, 116, 101 and 90 113 56 104 117 110 116 101 114",
        "d8c0323f0e1b2a3c4d5e6f708192a3b4c5d6e7f8\n5a:71:38:68:75:6e:74:65:72",
        "Zq8hunter\n2Horse-7/y",
        "one\ntwo",
    ],
)
def test_other_numbers_and_lines_are_unchanged(text: str) -> None:
    assert redacted(text, "Zq8hunter2Horse-7/x") == text


@pytest.mark.parametrize(
    "piece", ["a1 ", "12, ", "\\101", "0x41, ", "Zq8\n", "5a:", "x\\n", '"}\n{"MESSAGE":"']
)
def test_time_to_search_encodings_is_linear(piece: str) -> None:
    redactor = Redactor([Secret(b"Zq8hunter2Horse-7/x", "known")])
    seconds = []
    for size in (20_000, 160_000):
        began = time.process_time()
        redactor.redact((piece * (size // len(piece))).encode())
        seconds.append(time.process_time() - began)
    assert seconds[1] < 24 * max(seconds[0], 0.02)


def test_encoded_text_without_a_secret_is_unchanged() -> None:
    text = rb"GET /%41%42?x=%2541 \u0041 &#65; &amp; 100%"
    assert Redactor([Secret(b"a-known-secret", "x")]).redact(text) == (text, 0)


def test_known_secret_that_is_a_name_does_not_hide_the_secret_after_it() -> None:
    assert redacted("password=hunter2, db_password=hunter3", "password") == (
        "[redacted:known]=[redacted], db_[redacted:known]=[redacted]"
    )


def test_end_of_encoded_data_is_no_key() -> None:
    for end in ("Pw==", "pw="):
        line = f"a 2f[redacted:x]{end} words"
        assert redacted(line, "known-secret") == line


@given(st.lists(SECRETS, max_size=3), TEXT)
def test_redacted_text_is_unchanged(secrets: list[str], text: bytes) -> None:
    redactor = Redactor(Secret(secret.encode(), "x") for secret in secrets)
    once, _ = redactor.redact(text + b" password=hunter2 " + "".join(secrets).encode())
    assert redactor.redact(once)[0].count(MARK) >= once.count(MARK)
    assert b"hunter2" not in once


@given(st.text(st.sampled_from("pastoken=:\"'\\ \n,;)]}{&-u/@x1"), max_size=120))
def test_redaction_is_idempotent(text: str) -> None:
    redactor = Redactor()
    once, _ = redactor.redact(text.encode())
    assert redactor.redact(once) == (once, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abc123", "Authorization: Bearer [redacted]"),
        ('{"authorization": "Basic dTpw"}', '{"authorization": "Basic [redacted]"}'),
        ("curl -H 'Authorization: Bearer abc123' x", "curl -H 'Authorization: Bearer [redacted]' x"),
        ("sent Bearer abcdefgh1 to it", "sent Bearer [redacted] to it"),
        ("GET /mcp?token=abc&board=19", "GET /mcp?token=[redacted]&board=19"),
        ("serve --api-key hunter2 --port 1", "serve --api-key [redacted] --port 1"),
        ("serve --password=hunter2 --port 1", "serve --password=[redacted] --port 1"),
        ('{"apiKey": "a\\"b", "port": 1}', '{"apiKey": "[redacted]", "port": 1}'),
        ('{"token":"abc","port":1}', '{"token":"[redacted]","port":1}'),
        ('{"MESSAGE":"{\\"secret\\": \\"a\\\\\\"b\\"}"}', '{"MESSAGE":"{\\"secret\\": \\"[redacted]\\"}"}'),
        ("rest:https://me:p@ss@host/x", "rest:https://me:[redacted]@host/x"),
        ("https://aaaaaaaaaaaaaaaaaaaa@host/x", "https://[redacted]@host/x"),
        ('Environment="A_TOKEN=abc" "B=1"', 'Environment="A_TOKEN=[redacted]" "B=1"'),
        ('Environment="A_SECRET=two words" LANG=C', 'Environment="A_SECRET=[redacted]" LANG=C'),
        ("Environment=DB_PASS=sunshine LANG=C", "Environment=DB_PASS=[redacted] LANG=C"),
        ("Environment=LANG=C db_pass=sunshine", "Environment=LANG=C db_pass=[redacted]"),
        ('Environment="REDIS_AUTH=correct horse" A=1', 'Environment="REDIS_AUTH=[redacted]" A=1'),
        (
            "MYSQL_PWD=12345678 STRIPE_KEY='a b' PASS=x",
            "MYSQL_PWD=[redacted] STRIPE_KEY='[redacted]' PASS=[redacted]",
        ),
        ("Environment=SENTRY_DSN=/a/path", "Environment=SENTRY_DSN=[redacted]"),
        ('["serve", "--db-password=a b", "x"]', '["serve", "--db-password=[redacted]", "x"]'),
        (
            "argv[]=/bin/x --token abc ; ignore_errors=no",
            "argv[]=/bin/x --token [redacted] ; ignore_errors=no",
        ),
        ("SetCredential=name:two words", "SetCredential=name:[redacted]"),
        ("Set-Cookie: session=1; path=/", "Set-Cookie: [redacted]"),
        ("curl -u me:hunter2 http://x", "curl -u me:[redacted] http://x"),
        ("AWS_SECRET_ACCESS_KEY=abc/def+ghi", "AWS_SECRET_ACCESS_KEY=[redacted]"),
        (
            "POST https://hooks.slack.com/services/T01/B02/abcDEF said no",
            "POST https://hooks.slack.com/services/[redacted] said no",
        ),
        (
            '"https:\\/\\/hooks.slack.com\\/services\\/T01\\/B02\\/abcDEF"',
            '"https:\\/\\/hooks.slack.com\\/services\\/[redacted]"',
        ),
        ("id AKIAIOSFODNN7EXAMPLE used", "id [redacted] used"),
        ("password='two words' next", "password='[redacted]' next"),
        ("db_passwd: hunter2,", "db_passwd: [redacted],"),
        (f"a\n{KEY.decode()}b", "a\n[redacted]\nb"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabcd\nefgh", "[redacted]"),
        ("a log:\nabcd\n-----END RSA PRIVATE KEY-----", "a log:[redacted]"),
    ],
)
def test_text_that_looks_like_a_secret_is_redacted_without_its_surroundings(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "sha256 489caa966fa395a6ad459239641a927e4a2057963370e450109fe77120de662f",
        "/opt/katago/networks/489caa/g170-b6c96-s175395328-d26788732.bin.gz",
        "tokens: 3",
        '{"tokens": 3, "maxTokens": 100, "tokensFile": "/etc/katago-mcp/tokens.json"}',
        "LoadCredential=tokens.json:/etc/katago-mcp/credentials/tokens.json",
        "KeyringMode=private",
        "a basic analysis, and bearer authentication is required",
        "Accepted publickey for root from 10.0.0.1 port 22 ssh2: ED25519 SHA256:abc",
        'katago_requests_total{tool="analyzePosition",status="ok"} 12\n# HELP katago_engine_up 1 when it is',
        '{"event": "request", "caller": "lab", "seconds": 0.12}',
        "status installed base-passwd:amd64 3.6.1",
        "libsecret-1-0 0.20.5 amd64 install ok installed",
        "ps -u 1000:1000 http://127.0.0.1:8080/mcp ssh://git@host/x",
        '{"password": null, "secret": ""}',
        "net.ipv4.tcp_syncookies = 1",
        "key=3 cache_key=489caa966f board_pass=black Auth=none PWD=/root OLDPWD=/srv X_KEY=12",
        "2026-11-24T10:00:00+00:00 passed 12 checks; key cache hit",
    ],
)
def test_harmless_text_is_unchanged(text: str) -> None:
    assert Redactor([Secret(b"a-known-secret", "x")]).redact(text.encode()) == (text.encode(), 0)


@pytest.mark.parametrize("piece", ["token=", 'token="', "-----BEGIN PRIVATE KEY-----", "-u a:", "://", "\\"])
def test_adversarial_text_is_redacted_quickly(piece: str) -> None:
    """Far below the deadline of redaction."""
    Redactor().redact(piece.encode() * 40_000)


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [("a\nb\n", 10, "a\nb"), ("half secret\nb b\nc", 6, "b b\nc"), ("half a secret", 6, ""), ("", 6, "")],
)
def test_last_lines_are_whole(text: str, most: int, expected: str) -> None:
    assert redaction.last_lines(text, most) == expected


def test_mark_names_the_secret_unless_the_name_contains_it() -> None:
    content, _ = Redactor(
        [Secret(b"0123456789", "operator.token"), Secret(b"credential", "a-credential")]
    ).redact(b"0123456789 credential")
    assert content == b"[redacted:operator.token] [redacted]"


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["serve", "--token", "ab c", "--port", "1"], ["ab c"]),
        (["serve", "--token=ab c"], ["ab c"]),
        (["env", "DB_PASS=x y", "serve"], ["x y"]),
        (["curl", "-u", "me:pa ss"], ["pa ss"]),
        (["serve", "--config", "/etc/x", "--tokens-file", "/etc/y"], []),
    ],
)
def test_secrets_in_arguments_are_found(arguments: list[str], values: list[str]) -> None:
    assert list(secret_values.in_arguments(arguments)) == values


@pytest.mark.parametrize("name", ["password", "apiKey", "tokens", "AWS_SECRET_ACCESS_KEY", "db.passwd"])
def test_name_of_a_secret_is_recognized(name: str) -> None:
    assert secret_names.is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["tokensFile", "maxTokens_count", "PWD", "OLDPWD", "passed", "secretary", "path"]
)
def test_other_name_is_no_secret(name: str) -> None:
    assert not secret_names.is_secret_name(name)
    assert not secret_names.is_secret_variable(name)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("tokens.json", b'{"tokens": [{"name": "lab", "token": "0123456789"}]}', [b"0123456789"]),
        ("password", b"pass word = 12\n", [b"pass word = 12"]),
        ("token", b"c2VjcmV0c2VjcmV0==\n", [b"c2VjcmV0c2VjcmV0=="]),
        ("environment", b"export B='12345678'\n", [b"export B='12345678'", b"12345678"]),
        ("tls.key", KEY, [KEY.splitlines()[1]]),
        ("tls.crt", b"-----BEGIN CERTIFICATE-----\nMIIB\n", []),
    ],
)
def test_file_of_secrets_is_read_by_its_format(name: str, content: bytes, expected: list[bytes]) -> None:
    values = [secret.value for secret in secret_values.in_file(name, content)]
    assert set(expected) <= set(values)
    assert len(values) <= len(expected) + 1


def test_password_in_an_address_is_found_as_written_and_decoded() -> None:
    found = secret_values.in_address("repository", b"rest:https://u:a%20b@h/")
    assert [secret.value for secret in found] == [b"a%20b", b"a b"]
    assert secret_values.in_address("repository", b"sftp:user@host:/srv/katago") == []


def host(root: Path, canaries: list[str]) -> None:
    """A host with secrets in all usual places, also in the arguments and environment of its service."""
    it = iter(canaries)
    credentials, backup = root / "etc/katago-mcp/credentials", root / "etc/katago-backup"
    units, run = root / "etc/systemd/system", root / "run/credentials/katago-mcp.service"
    process = root / "proc/42"
    for directory in (
        credentials,
        backup,
        units / "katago-mcp.service.d",
        run,
        process,
        root / "etc/default",
    ):
        directory.mkdir(parents=True)
    (credentials / "operator.token").write_text(f"{next(it)}\n")
    (credentials / "tokens.json").write_text(json.dumps({"tokens": [{"name": "a", "token": next(it)}]}))
    (credentials / "tls.key").write_text(
        f"-----BEGIN PRIVATE KEY-----\n{next(it)}\n-----END PRIVATE KEY-----\n"
    )
    (run / "tokens.json").write_text(json.dumps({"tokens": [{"name": "a", "token": next(it)}]}))
    (backup / "password").write_text(next(it))
    (backup / "ssh_key").write_text(
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{next(it)}\n-----END OPENSSH PRIVATE KEY-----\n"
    )
    (backup / "environment").write_text(f"AWS_ACCESS_KEY_ID={next(it)}\nAWS_SECRET_ACCESS_KEY={next(it)}\n")
    (backup / "repository").write_text(f"rest:https://vault:{next(it)}@backup/katago\n")
    (units / "katago-mcp.service.d" / "site.conf").write_text(
        f'[Service]\nEnvironment="UPSTREAM_TOKEN={next(it)}" LANG=C\nEnvironmentFile=-/etc/default/katago\n'
    )
    (root / "etc/default/katago").write_text(f"WEBHOOK_SECRET='{next(it)}'\n")
    (root / "etc/katago-mcp/config.json").write_text(
        json.dumps({"auth": {"apiKey": next(it), "tokensFile": "/etc/tokens.json"}, "port": 8080})
    )
    (root / "etc/tokens.json").write_text(json.dumps({"tokens": [{"name": "a", "token": next(it)}]}))
    (process / "cmdline").write_bytes(f"serve\0--token\0{next(it)}\0--db-password={next(it)}\0".encode())
    (process / "environ").write_bytes(f"LANG=C\0STRIPE_KEY={next(it)}\0DB_PWD={next(it)}\0".encode())
    (process / "cgroup").write_text("0::/system.slice/katago-mcp.service\n")
    old = root / "opt/katago-mcp/releases/old"
    old.mkdir(parents=True)
    (old / "config.json").write_text(
        json.dumps({"site": {"tokens": [next(it)]}, "auth": {"tokensFile": "/etc/old.json"}})
    )
    (root / "etc/old.json").write_text(json.dumps({"tokens": [{"name": "a", "token": next(it)}]}))


PLANTED = 19


def test_fifty_planted_secrets_are_redacted(tmp_path: Path) -> None:
    canaries = [f"canary{number:02}-{'Zq8+/x' * 3}{number}==" for number in range(50)]
    host(tmp_path, canaries)
    known = [
        *host_secrets.in_files(tmp_path),
        *host_secrets.in_processes(host_secrets.unit_processes(tmp_path / "proc"), tmp_path / "proc"),
    ]
    assert {canary.encode() for canary in canaries[:PLANTED]} <= {secret.value for secret in known}
    # The known secrets occur anywhere and in any encoding, the others in text that looks like a secret.
    text = "".join(
        f"said {canary} {urllib.parse.quote(canary)} {urllib.parse.quote(canary, safe='')}\n"
        f"{base64.b64encode(f'user:{canary}'.encode()).decode()} {json.dumps(json.dumps([canary]))}\n"
        for canary in canaries[:PLANTED]
    )
    forms: tuple[Callable[[str], str], ...] = (
        lambda canary: f"Authorization: Bearer {canary}",
        lambda canary: json.dumps({"level": "info", "password": canary}),
        lambda canary: f"GET /mcp?access_token={canary}&x=1 HTTP/1.1",
        lambda canary: f"postgres://katago:{urllib.parse.quote(canary, safe='')}@db/x",
        lambda canary: f"run --client-secret {canary} --port 1",
        lambda canary: f"SMTP_PASSWORD={canary}",
        lambda canary: json.dumps({"MESSAGE": json.dumps({"event": "x", "token": canary})}),
        lambda canary: f"curl -u admin:{canary} http://x",
        lambda canary: f"api_key: {canary}",
        lambda canary: f"-----BEGIN EC PRIVATE KEY-----\n{canary}\n-----END EC PRIVATE KEY-----",
    )
    for number, canary in enumerate(canaries[PLANTED:]):
        text += forms[number % len(forms)](canary) + "\n"
    content, count = Redactor(known).redact(text.encode())
    assert count >= 50
    for canary in canaries:
        assert canary[:12].encode() not in content
        middle = base64.b64encode(f"user:{canary}".encode())[8:20]
        assert middle not in content
    for harmless in (b"said ", b"HTTP/1.1", b"postgres://katago:", b"--port 1", b'\\"event\\": \\"x\\"'):
        assert harmless in content


@pytest.mark.parametrize("place", ["etc/katago-incident", "run/credentials/katago-incident.service"])
def test_secrets_of_incident_channels_are_found(tmp_path: Path, place: str) -> None:
    given = [
        {
            "group": "team",
            "audience": "team",
            "sinks": [
                {"name": "chat", "kind": "slack", "url": "https://chat.go.net/hooks/xoDLq4JmTV7fGk2p"},
                {
                    "name": "hook",
                    "kind": "webhook",
                    "url": "https://me:hook%20pass1@go.net/incidents",
                    "headers": {"X-Key": "header-value-1", "Authorization": "Bearer header-value-2"},
                },
                {"name": "mail", "kind": "smtp", "host": "go.net", "password": "mail-pass-1"},
            ],
        }
    ]
    (tmp_path / place).mkdir(parents=True)
    name = "sinks.json" if place.startswith("etc") else "sinks"
    (tmp_path / place / name).write_text(json.dumps(given))
    secrets = (
        *("https://chat.go.net/hooks/xoDLq4JmTV7fGk2p", "xoDLq4JmTV7fGk2p", "hook pass1"),
        *("https://me:hook%20pass1@go.net/incidents", "header-value-1", "header-value-2", "mail-pass-1"),
    )
    text = "\n".join((*secrets, "go.net/incidents is the team's")).encode()
    content, _ = Redactor(host_secrets.in_files(tmp_path)).redact(text)
    assert content.decode().splitlines() == [
        *[f"[redacted:{name}]"] * len(secrets),
        "go.net/incidents is the team's",
    ]


def test_unreadable_file_of_secrets_is_reported(tmp_path: Path) -> None:
    credentials = tmp_path / "etc/katago-mcp/credentials"
    credentials.mkdir(parents=True)
    (credentials / "big").write_bytes(b"x" * (host_secrets.LARGEST + 1))
    with pytest.raises(host_secrets.ConfidentialError, match="big has more than"):
        host_secrets.in_files(tmp_path)
    assert host_secrets.in_files(tmp_path / "elsewhere") == []


def test_environment_of_a_unit_is_parsed_like_systemd() -> None:
    unit = """[Service]
Environment="A_TOKEN=two words" LANG=C 'B_SECRET=50%%'
ExecStart=/bin/x Environment=no
Environment=C_KEY=last
"""
    assert list(secret_values.in_unit(unit)) == ["two words", "50%%", "50%", "last"]


def test_url_with_an_encoded_password_keeps_its_other_parts() -> None:
    text = json.dumps({"url": "https://me:pw%2B%2Fx%25y%3D@db/x?a=1", "n": 1})
    content, count = Redactor([]).redact(text.encode())
    assert json.loads(content) == {"url": "https://me:[redacted]@db/x?a=1", "n": 1}
    assert count == 1
