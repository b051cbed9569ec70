"""A collector that hangs, fails or never ends affects only its own item, and every item is redacted."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common.redaction import Redactor, Secret
from ansible_collections.katago.fleet.plugins.module_utils.evidence import items as evidence_items
from ansible_collections.katago.fleet.plugins.module_utils.evidence import runner
from ansible_collections.katago.fleet.plugins.module_utils.evidence.items import Collector
from ansible_collections.katago.fleet.plugins.module_utils.evidence.runner import Buffer, Raw
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import keepalived
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets

PATIENCE = 60
REDACTOR = Redactor([Secret(b"a-known-secret", "known")])


def shell(name: str, script: str, **settings: Any) -> Collector:
    return Collector(name, ("sh", "-c", script), **{"seconds": PATIENCE, **settings})


def stop_clock(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Have a second pass for the collectors, as soon as one has made the file and its output was read."""
    times = itertools.chain([0.0], itertools.repeat(1.0))
    clock = SimpleNamespace(monotonic=lambda: next(times) if file.exists() else 0.0, time=time.time)
    monkeypatch.setattr(runner, "time", clock)


def collect(collector: Collector, seconds: float = PATIENCE) -> Raw:
    return runner.run_collectors([collector], seconds)[collector.name]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_hanging_collector_affects_only_its_own_item_and_its_output_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "written"
    stop_clock(monkeypatch, written)
    raw = runner.run_collectors(
        [
            shell("hung", f"echo first; printf half; touch {written}; exec sleep 600", seconds=0.4),
            shell("fine", "echo fine"),
            Collector("no-program", ("no-such-program",)),
        ],
        PATIENCE,
    )
    assert raw["hung"].problem == "did not finish within 0.4 s"
    assert {name: round(each.deadline, 6) for name, each in raw.items()} == {
        "hung": 0.4,
        "fine": PATIENCE,
        "no-program": 5,
    }
    assert raw["hung"].content == b"first\n"
    assert (raw["fine"].content, raw["fine"].problem, raw["fine"].exit) == (b"fine\n", "", 0)
    assert raw["no-program"].problem == "no-such-program: No such file or directory"


def test_start_and_duration_of_a_collector_are_returned() -> None:
    at = time.time()
    raw = collect(shell("fine", "echo fine"))
    assert at <= raw.began <= raw.began + raw.seconds <= time.time()


def test_tier_finishes_in_time_although_its_collectors_may_take_longer() -> None:
    slow = collect(shell("slow", "sleep 60", seconds=50), seconds=0.3)
    assert slow.problem.startswith("did not finish within")
    assert slow.deadline <= 0.3


def test_child_processes_of_a_collector_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    with monkeypatch.context() as clock:
        stop_clock(clock, pid)
        script = f"sleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; wait"
        assert collect(shell("hung", script, seconds=0.5)).problem
    left = shell("left", f"sleep 600 >/dev/null 2>&1 & echo $! > {pid}.2")
    assert collect(left).problem == ""
    for file in (pid, Path(f"{pid}.2")):
        end = time.monotonic() + PATIENCE
        while is_running(int(file.read_text())) and time.monotonic() < end:
            time.sleep(0.05)
        assert not is_running(int(file.read_text()))


@pytest.mark.parametrize(
    ("collector", "problem", "status"),
    [
        (shell("a", "echo output; echo no >&2; exit 3"), "status 3: no", 3),
        (Collector("a", files=("/nowhere/file",)), "/nowhere/file: No such file or directory", None),
        (Collector("a", function="gone"), "RuntimeError: gone", None),
    ],
)
def test_failed_collector_reports_why(
    collector: Collector, problem: str, status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: runner.Write) -> None:
        raise RuntimeError("gone")

    monkeypatch.setitem(runner._FUNCTIONS, "gone", gone)
    raw = collect(collector)
    assert (raw.problem, raw.exit) == (problem, status)


def test_first_or_newest_complete_lines_of_long_output_are_kept() -> None:
    first = collect(shell("first", "yes line", limit=1002))
    assert first.content == b"line\n" * 200
    assert first.problem == "the first 1002 bytes are kept"
    newest = collect(shell("newest", "seq 100000; echo newest", limit=1000, keep="newest"))
    assert newest.content.endswith(b"99999\n100000\nnewest\n")
    assert newest.content[:1].isdigit()
    assert len(newest.content) <= 1000
    assert newest.problem == "the newest 1000 bytes are kept"


@given(
    st.lists(st.binary(max_size=50), max_size=20),
    st.integers(1, 60),
    st.sampled_from(["newest", "first"]),
)
def test_buffer_never_holds_more_than_its_limit(blocks: list[bytes], limit: int, keep: Any) -> None:
    buffer = Buffer(limit, keep)
    for block in blocks:
        buffer.add(block)
        assert len(buffer._content) <= limit
    whole = b"".join(blocks)
    assert buffer.cut == (len(whole) > limit)
    kept = buffer.whole_lines(ended=True)
    if not buffer.cut:
        assert kept == whole
    else:
        assert kept in (whole[-limit:] if keep == "newest" else whole[:limit])
        assert keep != "first" or kept == b"" or kept.endswith(b"\n")


def test_memory_is_bounded_for_any_amount_of_output() -> None:
    """The collector reads 256 MiB, and the process grows by less than 32 MiB."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    raw = collect(shell("huge", "head -c 268435456 /dev/zero; echo; echo newest", limit=4096, keep="newest"))
    assert raw.content == b"newest\n"
    assert resident() - before < 32 << 20


def test_several_files_have_headers_and_a_single_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.stat").write_text("1\n")
    (tmp_path / "b.stat").write_text("2")
    several = collect(Collector("x", files=(f"{tmp_path}/*.stat", f"{tmp_path}/none")))
    assert several.content.decode() == (
        f"==> {tmp_path}/a.stat <==\n1\n\n==> {tmp_path}/b.stat <==\n2\n"
        f"==> {tmp_path}/none <==\nNo such file or directory\n\n"
    )
    assert collect(Collector("x", files=(f"{tmp_path}/b.stat",))).content == b"2"


def test_newest_lines_of_a_large_file_are_kept(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"{number}\n" for number in range(10_000)))
    raw = collect(Collector("x", files=(f"{tmp_path}/log",), limit=100, keep="newest"))
    assert raw.content.endswith(b"9998\n9999\n")
    assert len(raw.content) <= 100


def test_fallback_files_are_read_if_the_program_is_missing(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text("sl local_address\n")
    raw = collect(Collector("x", ("no-such-program",), fallback_files=(f"{tmp_path}/tcp",)))
    assert raw.content == b"sl local_address\n"
    assert raw.problem == f"no-such-program is not installed; read {tmp_path}/tcp instead"


def redacted(content: bytes, problem: str = "", unknown: str = "", **settings: Any) -> dict[str, Any]:
    return runner.redact_item(
        Collector("x", **settings), Raw(content, 0.1, problem=problem, source_bytes=9), REDACTOR, unknown
    )


def test_item_and_its_problem_are_redacted() -> None:
    result = redacted(b"said a-known-secret\n", "status 1: password=hunter2")
    assert runner.unpack(result["content"], 1000) == b"said [redacted:known]\n"
    assert result["problem"] == "status 1: password=[redacted]"
    assert result["redacted"] == 1


@pytest.mark.parametrize("length", [270, 285, 295, 1000])
def test_problem_is_redacted_before_it_is_shortened(length: int) -> None:
    secret = "two words of a secret"
    redactor = Redactor([Secret(secret.encode(), "known")])
    script = f"echo 'no: {secret}' {'x ' * (length // 2)} >&2; exit 3"
    result = runner.redact_item(Collector("x"), collect(shell("x", script)), redactor)
    assert not any(word in result["problem"] for word in ("two", "words", "secret"))
    assert len(result["problem"]) <= 310
    assert result["problem"].endswith("x x")


def test_error_output_of_one_too_long_line_is_withheld() -> None:
    raw = collect(shell("x", "head -c 5000 /dev/zero | tr '\\0' s >&2; exit 3"))
    assert raw.problem == "status 3: the error output is a single line that is too long to be redacted"


def test_too_long_error_of_a_function_is_reported_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: runner.Write) -> None:
        raise ValueError("s" * 5000)

    monkeypatch.setitem(runner._FUNCTIONS, "failing", fail)
    assert collect(Collector("a", function="failing")).problem == "ValueError"


@pytest.mark.parametrize(
    ("content", "unknown", "reason"),
    [
        (b"text\n", "/etc/x: Input/output error", "the secrets of this host could not be read: /etc/x"),
        (b"\x7fELF\0\0", "", "it is binary data"),
        (b"", "", "only part of a line was read"),
    ],
)
def test_item_that_cannot_be_redacted_is_withheld_with_the_reason(
    content: bytes, unknown: str, reason: str
) -> None:
    result = redacted(content, unknown=unknown)
    assert reason in result["withheld"]
    assert "content" not in result


def test_secret_free_item_is_kept_even_if_the_secrets_are_unknown() -> None:
    assert "content" in redacted(b"MemFree: 1 kB\n", unknown="no", secret_free=True)


def test_journal_text_that_is_encoded_as_numbers_is_redacted() -> None:
    entry = {"MESSAGE": list(b"\x1b[1m a-known-secret"), "_PID": "1"}
    result = redacted(json.dumps(entry).encode() + b"\nno JSON\n", journal=True)
    lines = runner.unpack(result["content"], 1000).splitlines()
    assert json.loads(lines[0])["MESSAGE"] == "\x1b[1m [redacted:known]"
    assert lines[1] == b"no JSON"


@pytest.mark.parametrize(("packed", "message"), [("%", "base64"), ("YWJj", "incorrect header check")])
def test_invalid_packed_content_is_refused(packed: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        runner.unpack(packed, 10)


def test_content_larger_than_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 10 bytes"):
        runner.unpack(runner.pack(b"x" * 11), 10)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host whose tiers have three collectors."""
    tier = (
        shell("a.txt", "echo said a-known-secret"),
        shell("b.txt", "echo b; sleep 60", seconds=0.3),
        Collector("c.txt", files=("/proc/loadavg",), secret_free=True),
    )
    monkeypatch.setattr(runner, "of", lambda *_: tier)
    monkeypatch.setattr(host_secrets, "in_files", lambda _root: [Secret(b"a-known-secret", "known")])
    monkeypatch.setattr(host_secrets, "unit_processes", lambda _proc: [])
    yield


@pytest.mark.usefixtures("few")
def test_tier_is_collected_in_order_and_redacted() -> None:
    items = list(runner.collect("hot", evidence_items.PARTS))
    assert [item["name"] for item in items] == ["a.txt", "b.txt", "c.txt"]
    assert runner.unpack(items[0]["content"], 1000) == b"said [redacted:known]\n"
    assert (items[0]["redacted"], items[0]["exit"]) == (1, 0)
    assert items[1]["problem"] == "did not finish within 0.3 s"


@pytest.mark.usefixtures("few")
def test_only_secret_free_items_are_kept_if_the_hosts_secrets_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_root: Path) -> list[Secret]:
        raise host_secrets.ConfidentialError("/etc/katago-mcp/credentials/x: Input/output error")

    monkeypatch.setattr(host_secrets, "in_files", fail)
    items = list(runner.collect("hot", evidence_items.PARTS))
    assert ["content" in item for item in items] == [False, False, True]
    assert "credentials/x: Input/output error" in items[0]["withheld"]


@pytest.mark.usefixtures("few")
def test_secrets_are_removed_from_a_value_and_the_rest_is_unchanged() -> None:
    value = {
        "lines": ["said a-known-secret", "Authorization: Bearer abcdefgh12345678"],
        "count": 3,
        "none": None,
    }
    shown = host_secrets.redacted(value)
    assert shown["lines"][0] == "said [redacted:known]"
    assert "abcdefgh12345678" not in shown["lines"][1]
    assert (shown["count"], shown["none"]) == (3, None)


@pytest.mark.usefixtures("few")
def test_texts_are_withheld_if_the_hosts_secrets_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_root: Path) -> list[Secret]:
        raise host_secrets.ConfidentialError("/etc/katago-mcp/credentials/x: Input/output error")

    monkeypatch.setattr(host_secrets, "in_files", fail)
    shown = host_secrets.redacted({"line": "said a-known-canary", "state": "active", "pid": 7})
    assert (shown["state"], shown["pid"]) == ("active", 7)
    assert "a-known-canary" not in shown["line"]
    assert "credentials/x: Input/output error" in shown["line"]


@pytest.mark.usefixtures("few")
def test_all_of_many_secrets_are_redacted_even_if_a_collector_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [Secret(b"secret-%0300d" % number, "x") for number in range(300)]
    many = [Secret(b"a-known-canary", "known"), *long, Secret(b"the-last-canary", "last")]
    written = tmp_path / "written"
    stop_clock(monkeypatch, written)
    hung = (shell("a.txt", f"echo said a-known-canary the-last-canary; touch {written}; sleep 600"),)
    monkeypatch.setattr(host_secrets, "in_files", lambda _root: many)
    monkeypatch.setattr(runner, "of", lambda *_: hung)
    monkeypatch.setattr(runner, "SECONDS", {"hot": 0.5})
    monkeypatch.setattr(runner, "REDACTION_SECONDS", {"hot": PATIENCE})
    (item,) = runner.collect("hot", evidence_items.PARTS)
    assert item["problem"] == "did not finish within 0.5 s"
    assert runner.unpack(item["content"], 1000) == b"said [redacted:known] [redacted:last]\n"


@pytest.mark.usefixtures("few")
def test_item_whose_redaction_hangs_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "REDACTION_SECONDS", {"hot": 0.3})
    monkeypatch.setattr(runner, "worst_seconds", lambda _: 0)
    monkeypatch.setattr(Redactor, "redact", lambda *_: time.sleep(60))
    items = list(runner.collect("hot", evidence_items.PARTS))
    assert all("could not be redacted: no answer within 0.3 s" in item["withheld"] for item in items)


def test_processes_are_listed_with_their_arguments_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.getpid()
    monkeypatch.setattr(host_secrets, "unit_processes", lambda _proc: [own])
    lines = collect(Collector("x", function="processes", limit=1 << 20)).content.splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first["pid"] == second["pid"] == own
    assert any(line.startswith("Max open files") for line in first["limits"])
    assert "python" in " ".join(second["arguments"]) or "pytest" in " ".join(second["arguments"])


def test_service_that_does_not_answer_affects_only_its_own_item(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"server": {"host": "127.0.0.1", "port": 1}}
    monkeypatch.setattr(runner, "_configuration", lambda: config)
    assert collect(Collector("x", address="server:/health")).problem == "no answer"


def test_haproxy_is_asked_at_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "HAPROXY_SOCKET", tmp_path / "admin.sock")
    collector = Collector("x", runtime="show info")
    assert collect(collector).problem.startswith(
        f"HAProxy does not run: nothing answers at {tmp_path}/admin.sock (No such file or directory)."
    )
    with socket.create_server(str(tmp_path / "admin.sock"), family=socket.AF_UNIX) as server:
        answering = threading.Thread(target=_answer_once, args=(server,))
        answering.start()
        assert collect(collector).content == b"asked: show info\n"
        answering.join()


def _answer_once(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"asked: " + connection.recv(100))


def test_no_item_reads_a_file_with_a_key() -> None:
    files = [file for collector in evidence_items.ALL for file in collector.files]
    assert not [file for file in files if file.endswith((".pem", ".key", "*")) and file.startswith("/etc")]
    assert not any(str(paths.CREDENTIALS) in file for file in files)


def test_configurations_of_a_load_balancer_are_redacted() -> None:
    instance = keepalived.Instance("lb-1", "10.0.0.9/24", "eth0", 51, "10.0.0.1", ("10.0.0.2",), "pw1")
    edited = "listen stats\n  stats enable\n  stats auth admin:hunter2\n"
    for text, secret in ((keepalived.render(instance), "pw1"), (edited, "hunter2")):
        item = runner.redact_item(Collector("x", files=("x",)), Raw(text.encode(), 0.1), Redactor())
        assert runner.unpack(item["content"], 4000).decode() == text.replace(secret, "[redacted]")
        assert item["redacted"] == 1


def test_item_names_are_unique_file_names() -> None:
    names = evidence_items.names("hot", "full", of_parts=evidence_items.PARTS)
    assert len(set(names)) == len(names) == len(evidence_items.ALL)
    assert all(name == Path(name).name and not name.startswith((".", "manifest")) for name in names)


@pytest.mark.parametrize("collector", evidence_items.ALL, ids=lambda collector: collector.name)
def test_every_collector_has_one_source_and_a_deadline_within_its_tier(collector: Collector) -> None:
    sources = [collector.command, collector.files, collector.address, collector.function, collector.runtime]
    assert sum(bool(each) for each in sources) == 1
    assert 0 < collector.seconds <= evidence_items.SECONDS[collector.tier]
    assert not collector.fallback_files or collector.command


def test_secret_free_collectors_read_no_text_of_a_process() -> None:
    for collector in evidence_items.ALL:
        if collector.secret_free:
            source = " ".join((*collector.command, *collector.files))
            assert not any(
                part in source for part in ("cmdline", "environ", "journal", "/etc/", "$pid/cgroup")
            )


def test_hot_tier_takes_less_than_ten_seconds_and_both_tiers_less_than_a_minute() -> None:
    assert runner.worst_seconds("hot") < 10
    assert sum(runner.worst_seconds(tier) for tier in evidence_items.TIERS) < 60
