"""The journal as data: lines are counted by their fields, not by words in their text."""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.service import journal


def line(level: str, event: str, **fields: Any) -> dict[str, Any]:
    return {"MESSAGE": json.dumps({"level": level, "event": event, **fields})}


def test_lines_are_grouped_by_level_event_and_code() -> None:
    entries = [
        *[line("warning", "call", code="engine_restarted", status="unavailable")] * 3,
        line("error", "tokens_not_reloaded"),
        line("error", "call_failed", errorType="KeyError", traceback="Traceback ..."),
        line("info", "call", status="ok"),
    ]
    assert journal.groups(entries) == [
        {"level": "warning", "event": "call", "code": "engine_restarted", "count": 3, "exception": False},
        {"level": "error", "event": "tokens_not_reloaded", "code": "", "count": 1, "exception": False},
        {"level": "error", "event": "call_failed", "code": "KeyError", "count": 1, "exception": True},
    ]


def test_harmless_line_with_the_word_error_does_not_count() -> None:
    entries = [
        line("info", "call", tool="error", note="no error, nothing failed"),
        {"MESSAGE": "error: this is no line of the server"},
        {"MESSAGE": '"error"'},
        {"MESSAGE": None},
    ]
    assert journal.groups(entries) == []
    assert journal.unstructured(entries) == 3


def test_message_that_journald_returns_as_bytes_is_read() -> None:
    text = json.dumps({"level": "error", "event": "x"}).encode()
    assert journal.groups([{"MESSAGE": list(text)}])[0]["event"] == "x"


def test_every_exit_of_the_engine_counts_once() -> None:
    states = [
        "starting",
        "ready",
        "hung",
        "backoff",
        "starting",
        "ready",
        "backoff",
        "config_error",
        "stopped",
    ]
    entries = [line("warning", "engine_state", state=state) for state in states]
    assert journal.engine_failures([*entries, line("info", "engine_restarting", reason="requested")]) == 3


def test_cache_that_recovered_has_no_trouble() -> None:
    trouble = line("warning", "cache_trouble", reason="disk full")
    assert journal.cache_trouble([]) is None
    assert journal.cache_trouble([trouble]) == "disk full"
    assert journal.cache_trouble([trouble, line("info", "cache_recovered")]) is None
    assert journal.cache_trouble([line("info", "cache_recovered"), trouble]) == "disk full"


def test_starts_and_failures_of_the_unit_are_recognized_by_message_id() -> None:
    def manager(number: str, at: int) -> dict[str, Any]:
        return {"MESSAGE_ID": number, "__REALTIME_TIMESTAMP": str(at), "MESSAGE": "Failed to fail"}

    entries = [
        manager("39f53479d3a045ac8e11786248231fbf", 1_000_000),
        manager("d9b373ed55a64feb8242e02dbe79a49c", 2_500_000),
        manager("another", 3_000_000),
    ]
    assert journal.runs(entries) == {"started": [1.0], "failed": [2.5]}


def test_engine_lines_are_found_in_the_current_and_the_previous_format(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "journalctl"
    program.write_text('#!/bin/sh\nprintf "%s" "$*" > "$0.arguments"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert journal.engine(10) == []
    (pattern,) = re.findall(r"--grep=(.*engine_state\S*)", (tmp_path / "journalctl.arguments").read_text())
    for text in (json.dumps({"event": "engine_state"}), '{"event":"engine_state"}'):
        assert re.search(pattern, text)


# The journal file's content selects the behaviour: "at OFFSET", "moving", "slow", "gone", or none of these.
JOURNALCTL = """#!/bin/sh
file=${2#--file=}
read -r how place < "$file"
case $how in
  slow) sleep 30 ;;
  moving) place=$(date +%N) ;;
  gone) rm "$file"; place=1 ;;
  at) ;;
  *) echo "PASS: $file" >&2; exit 0 ;;
esac
echo "$place: Invalid hash password=canary-Zq8x" >&2
echo "File corruption detected at $file:$place (of 8388608 bytes, 47%)." >&2
echo "FAIL: $file (Bad message)" >&2
exit 1
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal directory, and a scripted journalctl whose result depends on the file's content."""
    program = tmp_path / "journalctl"
    program.write_text(JOURNALCTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    directory = tmp_path / "log" / "machine"
    directory.mkdir(parents=True)
    return directory


def test_file_with_the_same_offset_every_time_is_damaged(files: Path) -> None:
    (files / "system.journal").write_text("whole\n")
    (files / "system@1.journal").write_text("at 3cdc40\n")
    (files / "system@2.journal~").write_text("at 5616\n")
    result = journal.verified([files.parent], 30)
    assert (result.whole, result.left) == (1, 0)
    assert result.damaged == {
        str(files / "system@1.journal"): "3cdc40: Invalid hash password=[redacted]",
        str(files / "system@2.journal~"): "5616: Invalid hash password=[redacted]",
    }


@pytest.mark.parametrize("how", ["moving", "gone"])
def test_file_that_is_written_or_rotated_meanwhile_is_not_damaged(files: Path, how: str) -> None:
    (files / "system.journal").write_text(f"{how}\n")
    assert journal.verified([files.parent], 30) == journal.Verification(whole=1)


def test_newest_file_is_verified_first_and_files_without_a_result_are_counted(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Almost no time is left as soon as the first file was verified.
    times = itertools.chain(itertools.repeat(0.0, 1 + journal._TRIALS), [59.9], itertools.repeat(60.0))
    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=times.__next__))
    for age, (name, how) in enumerate([("new", "at 1"), ("middle", "slow"), ("old", "at 2")]):
        path = files / f"{name}.journal"
        path.write_text(f"{how}\n")
        os.utime(path, (1e9 - age, 1e9 - age))
    result = journal.verified([files.parent], 60)
    assert (list(result.damaged), result.whole, result.left) == ([str(files / "new.journal")], 0, 2)


def test_reason_of_a_failed_start_is_what_is_no_successful_call() -> None:
    entries = [
        *[line("info", "call", status="ok")] * 10,
        {"MESSAGE": "/etc/katago-mcp/config.json: line 1: not JSON"},
        line("warning", "cache_slow"),
        line("error", "engine_state", state="config_error", reason="no such file"),
        {"MESSAGE": None},
        {"MESSAGE": list(b"\xffcut")},
    ]
    assert journal.complaints(entries) == [
        "/etc/katago-mcp/config.json: line 1: not JSON",
        "engine_state state: config_error reason: no such file",
        "\ufffdcut",
    ]
    assert journal.complaints(entries[:10]) == []


def test_only_entries_since_the_start_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"MESSAGE": str(at), "__REALTIME_TIMESTAMP": str(at * 1_000_000)} for at in (99, 100, 101)]
    monkeypatch.setattr(journal, "own", lambda minutes: entries if minutes == 2 else [])
    monkeypatch.setattr("subprocess.run", lambda *_, **__: None)
    monkeypatch.setattr("time.time", lambda: 170.0)
    assert [entry["MESSAGE"] for entry in journal.since(100)] == ["100", "101"]
