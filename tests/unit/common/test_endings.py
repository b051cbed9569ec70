"""A message about a program has its last log lines or its exit status, and is never empty."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import endings

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (("a\nb\n", "c"), "a | b"),
        (("", "c\n"), "c"),
        ((" \n", None, "d"), "d"),
        (("1\n2\n3\n4\n5\n6",), "2 | 3 | 4 | 5 | 6"),
        (("", None), ""),
    ],
)
def test_first_nonempty_output_is_quoted(outputs: tuple[str | None, ...], expected: str) -> None:
    assert endings.last_lines(*outputs) == expected


def test_lines_are_kept_whole_except_one_that_is_too_long() -> None:
    assert endings.last_lines("aaaa\nbbbb\ncccc", most=11) == "bbbb | cccc"
    assert endings.last_lines("a" * 20, most=5) == "...aaaaa"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; sys.exit(3)", "it exited with status 3 without any output"),
        ("import os; os.kill(os.getpid(), 9)", "it was killed by SIGKILL (possibly out of memory) without"),
        ("import os; os.kill(os.getpid(), 15)", "it was killed by SIGTERM without any output"),
        ("pass", "it exited with status 0 without any output"),
        ("print('why'); raise SystemExit(1)", "why"),
    ],
)
def test_silent_program_is_described_by_its_exit_status(code: str, expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert endings.describe(done.stderr, done.stdout, status=done.returncode).startswith(expected)


def test_statuses_of_systemd_are_named() -> None:
    assert endings.of_status(203) == "it exited with status 203 (systemd could not execute the program)"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (subprocess.CalledProcessError(4, ["nft"], "", ""), "it exited with status 4 without any output"),
        (subprocess.CalledProcessError(4, ["nft"], None, None), "it exited with status 4 without any output"),
        (subprocess.CalledProcessError(4, ["nft"], "", "no\n"), "no"),
        (
            subprocess.TimeoutExpired(["systemctl", "start", "x"], 9),
            "`systemctl start x` did not finish within 9 s",
        ),
        (OSError(), "OSError"),
        (FileNotFoundError(2, "No such file", "/x"), "[Errno 2] No such file: '/x'"),
    ],
)
def test_error_is_described(error: Exception, expected: str) -> None:
    assert endings.of_error(error) == expected


def test_secrets_in_the_output_are_redacted() -> None:
    error = subprocess.CalledProcessError(1, "x", stderr="GET https://me:hunter2@h/x\npassword: hunter2 x")
    for described in (
        endings.last_lines(error.stderr),
        endings.describe(error.stderr, status=1),
        endings.of_error(error),
    ):
        assert "hunter2" not in described
        assert "https://me:[redacted]@h/x" in described


def open_ends(source: str) -> list[str]:
    """The f-strings of a source that end in a colon if a program wrote nothing."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr) or len(node.values) < 2:
            continue
        before, last = node.values[-2:]
        text = before.value if isinstance(before, ast.Constant) else ""
        call = last.value if isinstance(last, ast.FormattedValue) else None
        while isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "redacted" and call.args:
            call = call.args[0]
        name = getattr(call.func, "attr", "") if isinstance(call, ast.Call) else ""
        if str(text).rstrip().endswith(":") and name in ("last_lines", "strip", "journal", "partition"):
            found.append(ast.unparse(node))
    return found


def test_no_message_ends_in_a_colon() -> None:
    sources = sorted(PLUGINS.rglob("*.py"))
    assert len(sources) > 200
    assert [end for path in sources for end in open_ends(path.read_text())] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('f"It failed: {apt.last_lines(output)}"', 1),
        ('f"Its last log lines:\\n{secrets.redacted(unit.journal())}"', 1),
        ('f"It failed: {error.stderr.strip()}"', 1),
        ('f"It failed: {apt.last_lines(output) or 1}"', 0),
        ('f"It failed: {endings.describe(output, status=1)}"', 0),
    ],
)
def test_message_that_may_end_in_a_colon_is_detected(source: str, expected: int) -> None:
    assert len(open_ends(source)) == expected
