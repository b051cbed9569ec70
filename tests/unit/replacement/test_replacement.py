"""Only a bare host is rebuilt, and an interrupted replacement is resumed for a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.replacement import bare

NOW = datetime(2026, 1, 31, 8, 5, tzinfo=UTC)
BARE = bare.Host(None, "inactive", 0)
MARK = bare.Mark("2026-01-31T07:00:00Z", "ops")


def refusal(host: bare.Host, mark: bare.Mark | None = None, now: datetime = NOW) -> str:
    return bare.refusal(host, mark, "katago-1", now)


def test_bare_host_is_rebuilt() -> None:
    assert refusal(BARE) == ""


@pytest.mark.parametrize(
    ("host", "sign"),
    [
        (bare.Host("0.2.0-aa", "inactive", 0), "its current release is 0.2.0-aa"),
        (bare.Host(None, "active", 0), "its service is active"),
        (bare.Host(None, "failed", 0), "its service is failed"),
        (bare.Host(None, "inactive", 3), "its history has 3 records"),
    ],
)
def test_host_with_any_sign_of_a_service_is_refused_with_what_to_do(host: bare.Host, sign: str) -> None:
    message = refusal(host)
    assert message.startswith("Refused; nothing was changed on this host. katago-1 is not bare:")
    assert sign in message
    for playbook in ("restore.yml -l katago-1", "deploy.yml -l katago-1", "-e confirm=katago-1"):
        assert playbook in message


def test_unfinished_replacement_is_resumed_for_a_day() -> None:
    host = bare.Host("0.2.0-aa", "active", 2)
    assert refusal(host, MARK) == ""
    late = datetime(2026, 1, 31, 7, tzinfo=UTC) + bare.RESUMABLE + timedelta(seconds=1)
    message = refusal(host, MARK, late)
    assert "The replacement that ops started at 2026-01-31T07:00:00Z did not finish" in message


def test_old_mark_on_a_bare_host_does_not_prevent_a_replacement() -> None:
    assert refusal(BARE, MARK, NOW + 2 * bare.RESUMABLE) == ""
    assert not bare.is_resumed(MARK, NOW + 2 * bare.RESUMABLE)


def test_mark_is_read_as_it_was_written_and_removed_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "replacement" / "started.json"
    bare.write(MARK, path)
    assert bare.read(path) == MARK
    bare.remove(path)
    bare.remove(path)
    assert not path.parent.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"since": "yesterday", "who": "ops"}', '{"since": 1}'])
def test_damaged_mark_resumes_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "started.json"
    path.write_text(content)
    assert bare.read(path) is None


def test_mark_that_a_killed_run_was_writing_does_not_prevent_the_end(tmp_path: Path) -> None:
    path = tmp_path / "replacement" / "started.json"
    bare.write(MARK, path)
    (path.parent / ".started.json.abcd_123").write_text("{")
    bare.remove(path)
    assert not path.parent.exists()
