"""Secrets in any usual form are redacted in every piece of evidence, and harmless lines stay as they are."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import redaction, secret_text
from ansible_collections.katago.fleet.plugins.module_utils.evidence import runner
from ansible_collections.katago.fleet.plugins.module_utils.evidence.items import Collector
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks
from tests.unit.common.secret_forms import HARMLESS, MORE_WORDS, PHRASES, TOKENS, WORDS

SECRETS = (
    "50 blue Horses 7x",
    "Hunter2-Zq8",
    "correct horse battery",
    "p@ss{w}[r]d, x",
    "(paren] zq",
    "ünï wörd",
)
WORD_SECRETS = ("Hunter2-Zq8", "zq8+Hx_99!", "50Zq8hunter")
ITEM = Collector("x", ("true",))
JOURNAL = Collector("j", ("true",), journal=True)
FORMS = [
    *((form, SECRETS) for form in PHRASES),
    *((form, WORD_SECRETS) for form in WORDS),
    *((form, WORD_SECRETS[:1]) for form in MORE_WORDS),
]


def item(content: str, collector: Collector = ITEM, problem: str = "") -> str:
    """An item of evidence with this output, as it leaves the host."""
    raw = runner.Raw(content.encode(), 0.0, problem=problem, source_bytes=len(content))
    result = runner.redact_item(collector, raw, redaction.Redactor())
    return runner.unpack(result["content"], 1 << 30).decode() + str(result["problem"])


def entry(message: str, **fields: object) -> str:
    return json.dumps({"_PID": "42", "SYSLOG_IDENTIFIER": "x", "MESSAGE": message, **fields})


def leaked(secret: str, text: str) -> list[str]:
    """The words of a secret that are in a text, as they are or as JSON writes them."""
    return [
        word for word in secret.split() if len(word) > 2 and (word in text or json.dumps(word)[1:-1] in text)
    ]


def test_there_are_enough_forms() -> None:
    assert len({*PHRASES, *WORDS, *MORE_WORDS, *TOKENS}) >= 400
    assert len(set(HARMLESS)) >= 80


@pytest.mark.parametrize(("form", "secrets"), FORMS, ids=[form for form, _ in FORMS])
def test_secret_is_in_no_piece_of_evidence(form: str, secrets: tuple[str, ...]) -> None:
    for secret in secrets:
        text = form % secret
        lines = f"before\n{text}\nafter".split("\n")
        octets = [json.dumps({"_PID": "1", "MESSAGE": list(line.encode())}) for line in lines]
        events = json.dumps({"event": "failed", "reason": text})
        pieces = {
            "text": item("\n".join(lines)),
            "journal": item("\n".join(map(entry, lines)), JOURNAL),
            "journal with byte arrays": item("\n".join(octets), JOURNAL),
            "event of the service": item(entry(events), JOURNAL),
            "problem": item("", problem=text),
        }
        assert [name for name, piece in pieces.items() if leaked(secret, piece)] == []


@pytest.mark.parametrize("token", TOKENS)
def test_token_is_recognized_without_a_name(token: str) -> None:
    secret = token.rpartition(" ")[2].rpartition("/bot")[2].partition("/sendMessage")[0]
    for text in (f"it said {token} today", f"> {token}", json.dumps({"id": token}), f"x='{token}'"):
        assert secret not in item(text)
        assert secret not in item(entry(text), JOURNAL)
        assert secret not in blocks.clean(text)


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless_line_is_unchanged(line: str) -> None:
    assert item(f"{line}\n{line}\n") == f"{line}\n{line}\n"
    assert item(entry(line) + "\n", JOURNAL) == entry(line) + "\n"


def test_lines_around_a_value_on_several_lines_are_kept() -> None:
    text = "a: 1\npassword: |\n  one\n  two\nport: 1\n'password':\n  'three'\nend: 2\n"
    expected = "a: 1\npassword: |\n  [redacted]\n  [redacted]\nport: 1\n'password':\n  '[redacted]'\nend: 2\n"
    assert item(text) == expected


def test_value_that_continues_in_the_next_entry_of_a_journal_is_redacted() -> None:
    """Entries of other processes in between belong to other texts."""
    other = entry("a harmless line", _PID="7")
    lines = [entry("{'password':"), other, entry(" 'zebra'}"), entry("done")]
    expected = [lines[0], other, entry(" '[redacted]'}"), lines[3]]
    assert item("\n".join(lines) + "\n", JOURNAL) == "\n".join(expected) + "\n"


TEXTS = st.text(
    st.characters(
        codec="utf-8",
        exclude_categories=("Cc", "Cs", "Zl", "Zp"),
        exclude_characters="\"'`<\u00a0\u0085\ufeff",
    ),
    min_size=6,
    max_size=60,
).map(lambda text: f"Zq7{text}")


@settings(max_examples=40, deadline=None)
@given(secret=TEXTS)
def test_any_secret_is_redacted(secret: str) -> None:
    for form in ("password = %s", "smtp_pass=%s", "db_password: %s", "password:\n  %s", "password: |\n  %s"):
        assert secret.strip() not in item(form % secret)
        assert "Zq7" not in item("\n".join(entry(line) for line in (form % secret).split("\n")), JOURNAL)
    for form in ("password = '%s'", "{'token': '%s'}", "run --token '%s' x", "<password>%s</password>"):
        if "\\" not in secret and "&" not in secret:
            assert "Zq7" not in item(form % secret), form
    for value in (
        {"password": secret},
        {"a": [{"apiKey": secret}]},
        ["run", "--token", secret],
        {"tokens": [secret]},
    ):
        assert "Zq7" not in item(json.dumps(value))
        assert "Zq7" not in item(json.dumps(value, ensure_ascii=False, indent=1))
        assert "Zq7" not in item(entry(json.dumps(value)), JOURNAL)


@given(st.text(max_size=200))
def test_number_of_lines_is_kept(text: str) -> None:
    redacted, _ = secret_text.redact(f"{text}\npassword:\n{text}")
    assert redacted.count("\n") == text.count("\n") * 2 + 2


def test_secrets_of_a_process_are_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PROC", tmp_path)
    arguments = [
        ["mysqldump", "-uroot", "-pzebra1"],
        ["sshpass", "-p", "zebra 2", "ssh", "host"],
        ["curl", "-uadmin:zebra3", "http://x"],
        ["run", "--pass", "zebra four"],
        ["redis-cli", "-a", "zebra5"],
        ["ldapsearch", "-w", "zebra 6"],
        ["smbclient", "-U", "user%zebra7"],
        ["openssl", "rsa", "-passin", "pass:zebra8"],
        ["docker", "login", "-p", "zebra9"],
        ["sh", "-c", "PGPASSWORD=zebra10 psql"],
    ]
    for pid, words in enumerate(arguments, start=1):
        process = tmp_path / str(pid)
        process.mkdir()
        (process / "cgroup").write_text(f"0::/system.slice/{paths.SERVICE_UNIT}\n")
        (process / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
        (process / "environ").write_bytes(b"LANG=C\0smtp_pass=zebra 11\0dbPwd=zebra12\0API-KEY=zebra13\0")
    written: list[bytes] = []
    runner._processes(written.append)
    text = item(b"".join(written).decode())
    assert "zebra" not in text
    assert '"mysqldump", "-uroot"' in text
    assert '"LANG": "C"' in text


ADVERSARIAL = (
    *(
        'token="',
        "token=",
        "token=[",
        "token: {",
        "password is ",
        '"token", ',
        "--token ",
        "mysql -p1 ",
        "://a:",
    ),
    *(
        "http://a/hooks/",
        "<password>",
        '{"a":1} ',
        '\\"',
        "%3D",
        "a:1:b:c:",
        "Aa1",
        "\"'",
        'token="a"b ',
        "token=a ",
    ),
    *(
        "'a' 'b ",
        'token="\n',
        "password: |\n",
        "{'password':\n",
        "<password>\n",
        "htpasswd a b ",
        "Basic YTpi ",
    ),
)


@pytest.mark.parametrize("piece", ADVERSARIAL)
def test_time_is_linear_in_the_length_of_a_text(piece: str) -> None:
    """Quadratic time would take 64 times as long for 8 times the text."""
    seconds = []
    for size in (20_000, 160_000):
        text = piece * (size // len(piece))
        began = time.process_time()
        secret_text.redact(text)
        seconds.append(time.process_time() - began)
    assert seconds[1] < 24 * max(seconds[0], 0.02)


def test_line_of_a_megabyte_is_redacted() -> None:
    text = "x token=zebra1 y='" * 30_000 + '\\"' * 300_000 + " password = 50 zebras"
    assert len(text) > 1_000_000
    assert "zebra" not in secret_text.redact(text)[0]
