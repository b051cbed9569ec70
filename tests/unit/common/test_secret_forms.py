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
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import keepalived
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks
from tests.unit.common.secret_forms import (
    BELOW,
    COMMANDS,
    HARMLESS,
    IDENTIFIERS,
    MORE_WORDS,
    NAMES,
    NEIGHBOURS,
    PHRASES,
    PLACES,
    QUOTES,
    SCRIPTS,
    SEPARATORS,
    TOKENS,
    WORDS,
)

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
    *((form, ("Hunter2-Zq8", "zebrahorse", "9f8e7d6c")) for form in (*NEIGHBOURS, *COMMANDS, *SCRIPTS)),
]
ASSIGNMENTS = [f"KEY{separator}{quote}" for separator in SEPARATORS for quote in QUOTES]
MOST_CHANGED = 0.0
CORPUS = Path(__file__).with_name("corpus")


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
    assert len({*PHRASES, *WORDS, *MORE_WORDS, *NEIGHBOURS, *COMMANDS, *SCRIPTS, *TOKENS}) >= 550
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


@pytest.mark.parametrize(
    ("key", "forms"),
    [
        *((key, (*ASSIGNMENTS, *BELOW, *PLACES)) for key in IDENTIFIERS),
        *((key, (*ASSIGNMENTS, *BELOW)) for key in NAMES),
    ],
    ids=[*IDENTIFIERS, *NAMES],
)
def test_secret_is_found_after_every_key_separator_and_quote(key: str, forms: tuple[str, ...]) -> None:
    for secret in ("Hunter2-Zq8", "zebrahorse", "9f8e7d6c"):
        for form in forms:
            lines = f"before\n{form.format(secret, secret).replace('KEY', key)}\nafter".split("\n")
            text = secret_text.redact("\n".join(lines))[0]
            assert secret not in text, form
            assert text.split("\n")[0] == "before", form
            assert text.split("\n")[-1] == "after", form
            assert secret not in secret_text.redact("\n".join(map(entry, lines)))[0], form


@pytest.mark.parametrize("token", TOKENS)
def test_token_is_recognized_without_a_name(token: str) -> None:
    secret = (
        token.rpartition(" ")[2].rpartition("/bot")[2].rpartition("ntfy.sh/")[2].partition("/sendMessage")[0]
    )
    for text in (f"it said {token} today", f"> {token}", json.dumps({"id": token}), f"x='{token}'"):
        assert secret not in item(text)
        assert secret not in item(entry(text), JOURNAL)
        assert secret not in blocks.clean(text)


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless_line_is_unchanged(line: str) -> None:
    assert item(f"{line}\n{line}\n") == f"{line}\n{line}\n"
    assert item(entry(line) + "\n", JOURNAL) == entry(line) + "\n"


@pytest.mark.parametrize("name", ["apt", "haproxy", "journal", "katago"])
def test_log_of_a_healthy_host_is_unchanged(name: str) -> None:
    """What programs really write. The share of changed lines is the price of redacting what is uncertain."""
    lines = (CORPUS / f"{name}.txt").read_text().splitlines()
    redacted = item("\n".join(lines)).splitlines()
    changed = [(before, after) for before, after in zip(lines, redacted, strict=True) if before != after]
    assert len(lines) >= 30
    assert len(changed) / len(lines) <= MOST_CHANGED, changed
    entries = "\n".join(entry(line, _PID=str(number)) for number, line in enumerate(lines))
    journal = item(entries, JOURNAL).splitlines()
    assert [each for each in zip(entries.splitlines(), journal, strict=True) if each[0] != each[1]] == []


def test_password_of_the_load_balancers_is_redacted() -> None:
    site = keepalived.Instance(
        "balancer-1", "10.0.0.200/24", "eth0", 51, "10.0.0.101", ("10.0.0.102",), "zebra123"
    )
    config = keepalived.render(site)
    assert item(config) == config.replace("auth_pass zebra123", "auth_pass [redacted]")


def test_keys_and_arguments_in_measurements_are_redacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triage and other reports use the same redaction as evidence."""
    monkeypatch.setattr(host_secrets, "in_files", lambda _root: [])
    monkeypatch.setattr(paths, "PROC", tmp_path)
    value = {
        "config": {"password": "zebra 1", "port": 8080},
        "arguments": ["influx", "-password", "zebra2"],
        "environment": {"GITHUB_PAT": "zebra3", "LANG": "C"},
        "journal": "auth_pass zebra4",
    }
    assert host_secrets.redacted(value) == {
        "config": {"password": "[redacted]", "port": 8080},
        "arguments": ["influx", "-password", "[redacted]"],
        "environment": {"GITHUB_PAT": "[redacted]", "LANG": "C"},
        "journal": "auth_pass [redacted]",
    }


def test_lines_around_a_value_on_several_lines_are_kept() -> None:
    text = "a: 1\npassword: |\n  one\n  two\nport: 1\n'password':\n  'three'\nend: 2\n"
    expected = "a: 1\npassword: |\n  [redacted]\n  [redacted]\nport: 1\n'password':\n  '[redacted]'\nend: 2\n"
    assert item(text) == expected


@pytest.mark.parametrize(
    "arguments", ["mysqldump\0-uroot\0-pzebra1", "sh\0-c\0DB_PASSWORD=zebra run", "run\0--token\0zebra"]
)
def test_process_title_of_the_audit_is_redacted_if_it_has_a_secret(arguments: str) -> None:
    """The kernel writes the arguments in hexadecimal."""
    line = "audit: type=1327 audit(1.2:3): proctitle=%s"
    assert item(line % arguments.encode().hex().upper()) == line % "[redacted]"


def test_argument_with_a_space_in_a_record_of_the_audit_is_redacted() -> None:
    line = 'type=EXECVE msg=audit(1.2:3): argc=3 a0="run" a1="--token" a2=%s'
    assert item(line % b"zebra horse".hex().upper()) == line % "[redacted]"


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


@settings(max_examples=40)
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
    *('password("a", ', "auth_pass ", "<password value=", "tokens:\n a: ", "tokens: {a:", "value=a name="),
    *(
        "<<EOF password ",
        "mot de passe ",
        "https://a",
        "add_user a ",
        "password: &a ",
        "radius key a ",
        "sid=a1 ",
    ),
    *(
        "echo a > b ",
        "echo 'a' | ",
        'expect "assword" ',
        'send "a ',
        "<<<a ",
        "vault put a=",
        '("token", ',
        "{token, ",
        "(token . ",
        '<<"a',
    ),
)


# Pieces of a line whose redaction takes many seconds for each megabyte.
SLOW_PIECES = ("a-1", "a: ", "<a ", "user x ")


def redacted(text: str) -> tuple[str, float]:
    """The text without secrets, and the processor time that this took, in seconds."""
    began = time.process_time()
    return secret_text.redact(text)[0], time.process_time() - began


def expect_linear_time(short: float, long: float) -> None:
    """Quadratic time would take 64 times as long for 8 times the text."""
    assert long < 24 * max(short, 0.02)


@pytest.mark.parametrize("piece", ADVERSARIAL)
def test_time_is_linear_in_the_length_of_a_text(piece: str) -> None:
    expect_linear_time(*(redacted(piece * (size // len(piece)))[1] for size in (20_000, 160_000)))


@pytest.mark.parametrize(
    "piece", [*("pass", "密"), *(pytest.param(slow, marks=pytest.mark.long) for slow in SLOW_PIECES)]
)
def test_line_of_a_megabyte_takes_linear_time(piece: str) -> None:
    seconds = []
    for size in (125_000, 1_000_000):
        text, taken = redacted("password " + piece * (size // len(piece)) + " password=zebrahorse")
        assert "zebrahorse" not in text
        seconds.append(taken)
    expect_linear_time(*seconds)


def test_line_of_a_megabyte_is_redacted() -> None:
    text = "x token=zebra1 y='" * 30_000 + '\\"' * 300_000 + " password = 50 zebras"
    assert len(text) > 1_000_000
    assert "zebra" not in secret_text.redact(text)[0]
