"""Lines are appended completely or not at all, in every file that only grows."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records


def _atomic(directory: Path, number: int) -> Path:
    path = directory / "lines.jsonl"
    files.append(path, json.dumps({"number": number}).encode() + b"\n", mode=0o600)
    return path


def _history(directory: Path, number: int) -> Path:
    path = directory / "history.jsonl"
    history.append(history.Record("2026-01-01T00:00:00Z", "anna", f"r{number}", None, "test"), path)
    return path


def _timeline(directory: Path, number: int) -> Path:
    incident = records.Records(directory, "")
    incident.add_event({"number": number})
    return incident.timeline


def _ledger(directory: Path, number: int) -> Path:
    path = directory / "ledger.jsonl"
    files.append_events(path, {"number": number}, at="2026-01-01T00:00:00Z", who="anna")
    return path


Append = Callable[[Path, int], Path]
appending = pytest.mark.parametrize("append", [_atomic, _history, _timeline, _ledger])


@appending
def test_partly_written_line_is_an_error_and_is_removed(
    append: Append, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = append(tmp_path, 1)
    before = path.read_bytes()
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, content: write(file, content[:10]))
        with pytest.raises(OSError, match="No space left on device"):
            append(tmp_path, 2)
    assert path.read_bytes() == before
    append(tmp_path, 3)
    assert len(path.read_bytes().splitlines()) == 2


@appending
def test_line_that_cannot_be_synced_is_removed(
    append: Append, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = append(tmp_path, 1)
    before = path.read_bytes()

    def failing(_file: int) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="the disk is gone"):
            append(tmp_path, 2)
    assert path.read_bytes() == before


@appending
def test_incomplete_line_of_a_killed_writer_does_not_corrupt_the_next(append: Append, tmp_path: Path) -> None:
    path = append(tmp_path, 1)
    path.write_bytes(path.read_bytes() + b'{"at": "2026')
    append(tmp_path, 2)
    lines = path.read_text().splitlines()
    assert json.loads(lines[0]) and json.loads(lines[-1])


def test_lines_of_concurrent_writers_are_all_kept(tmp_path: Path) -> None:
    """A writer that hits a full disk removes only its own line."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_some, args=(tmp_path, first)) for first in (0, 100, 200)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    lines = (tmp_path / "lines.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["number"] for line in lines) == sorted(
        first + number for first in (0, 100, 200) for number in range(20)
    )


def _append_some(directory: Path, first: int) -> None:
    write = os.write
    for number in range(20):
        with pytest.MonkeyPatch.context() as full:
            full.setattr(os, "write", lambda file, content: write(file, content[:5]))
            with pytest.raises(OSError):
                _atomic(directory, first + number)
        _atomic(directory, first + number)


def test_error_of_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "state.json"
    with pytest.raises(OSError, match=f"No space left on device.*{path}"):
        files.write(path, b"{}", mode=0o644)
    with pytest.raises(OSError, match=f"No space left on device.*{path}"):
        files.append(path, b"{}\n", mode=0o644)
    assert list(tmp_path.iterdir()) in ([], [path])


def test_link_replaces_what_a_killed_process_with_the_same_number_has_left(tmp_path: Path) -> None:
    (tmp_path / f".current.{os.getpid()}").symlink_to("a")
    assert files.link(tmp_path / "current", "b")
    assert [each.name for each in tmp_path.iterdir()] == ["current"]
    assert (tmp_path / "current").readlink() == Path("b")
