"""The cache counts as empty only if that is verified, and renames alone quarantine it."""

from __future__ import annotations

import json
import os
import pwd
import shlex
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus
from ansible_collections.katago.fleet.plugins.module_utils.service import cache
from ansible_collections.katago.fleet.plugins.module_utils.service.cache import Size

AT = "2026-11-24T06:30:00Z"
EMPTY = {"entries": 0, "bytes": 0}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's directory of a deployed service."""
    place = tmp_path / "cache" / "katago-mcp"
    place.mkdir(parents=True)
    config, unit = tmp_path / "config.json", tmp_path / "katago-mcp.service"
    config.write_text(json.dumps({"cache": {"directory": str(place)}}))
    unit.touch()
    monkeypatch.setattr(paths, "CONFIG", config)
    monkeypatch.setattr(paths, "SERVICE_UNIT_FILE", unit)
    return place


def fill(directory: Path) -> dict[str, str]:
    """Write the files that a service leaves; return those that must be quarantined."""
    (directory / "pocl" / "AB").mkdir(parents=True)
    (directory / "pocl" / "AB" / "kernel").write_text("compiled")
    files = {"answers.sqlite3": "rows", "answers.sqlite3-wal": "journal", ".hidden": "dot"}
    for name, text in files.items():
        (directory / name).write_text(text)
    return files


def answer(before: object = None, after: object = None, **fields: object) -> tuple[int, dict[str, Any]]:
    return 200, {
        "ok": True,
        "before": before or {"entries": 5, "bytes": 90},
        "after": after or EMPTY,
        **fields,
    }


def test_cache_is_empty_if_response_and_metrics_agree() -> None:
    assert cache.problem(answer(), Size(0, 0)) is None
    assert cache.problem(answer(before=EMPTY), Size(0, 0)) is None


def test_answers_that_clients_added_meanwhile_do_not_count() -> None:
    assert cache.problem(answer(), Size(4, 80)) is None


@pytest.mark.parametrize(
    ("response", "metrics", "message"),
    [
        (None, Size(0, 0), "the service did not respond to the request to clear the cache"),
        ((500, {"message": "disk I/O error"}), Size(0, 0), "with status 500 (disk I/O error)"),
        ((401, {}), Size(0, 0), "(no message)"),
        ((200, {"ok": True}), Size(0, 0), "the service responded to the request to clear the cache"),
        ((200, {"before": "5", "after": EMPTY}), Size(0, 0), "with status 200"),
        (
            answer(after={"entries": 1, "bytes": 9}),
            Size(0, 0),
            "the service reports that the cache still has 1 answer, 9 bytes",
        ),
        (answer(), None, "the metrics do not show the size of the cache"),
        (
            answer(),
            Size(5, 90),
            "the metrics still show 5 answers, 90 bytes after the service cleared 5 answers, 90 bytes",
        ),
        (answer(before=EMPTY), Size(1, 9), "the metrics still show 1 answer"),
    ],
)
def test_cache_does_not_count_as_empty_without_verification(
    response: tuple[int, dict[str, Any]] | None, metrics: Size | None, message: str
) -> None:
    assert message in str(cache.problem(response, metrics))


def test_size_in_the_metrics_needs_both_series() -> None:
    both = "katago_cache_entries 3\nkatago_cache_size_bytes 70\n"
    assert cache.size_in_metrics(prometheus.parse(both)) == Size(3, 70)
    assert cache.size_in_metrics(prometheus.parse(both.splitlines()[0])) is None
    assert (
        cache.size_in_metrics(prometheus.parse("katago_cache_entries NaN\nkatago_cache_size_bytes 70\n"))
        is None
    )
    assert cache.size_in_metrics(None) is None


def test_cache_of_the_current_release_is_found(directory: Path) -> None:
    assert cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG) == directory
    directory.rmdir()
    assert cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG) == directory


def test_symlink_is_refused_with_its_target(directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)
    with pytest.raises(cache.RefusedError, match=f"is a symlink to {elsewhere}, which is not followed"):
        cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)
    directory.unlink()
    directory.symlink_to(tmp_path / "nowhere")
    with pytest.raises(cache.RefusedError, match="is a symlink"):
        cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)


def test_file_in_place_of_the_directory_is_refused(directory: Path) -> None:
    directory.rmdir()
    directory.touch()
    with pytest.raises(cache.RefusedError, match="is not a directory"):
        cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)


@pytest.mark.parametrize("missing", ["SERVICE_UNIT_FILE", "CONFIG"])
@pytest.mark.usefixtures("directory")
def test_host_without_a_service_is_refused(missing: str) -> None:
    path: Path = getattr(paths, missing)
    path.unlink()
    with pytest.raises(cache.RefusedError, match=r"Install it with playbooks/deploy\.yml"):
        cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)


def test_everything_except_compiled_kernels_is_quarantined_unchanged(directory: Path) -> None:
    files = fill(directory)
    assert cache.content(directory) == {name: len(text) for name, text in files.items()}
    moved = cache.move_to_quarantine(directory, AT)
    assert {path.name: path.read_text() for path in moved} == {
        f"2026-11-24T063000Z-{name}": text for name, text in files.items()
    }
    assert {path.parent for path in moved} == {directory.parent / "katago-mcp-quarantine"}
    assert moved[0].parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in directory.iterdir()] == ["pocl"]
    assert (directory / "pocl" / "AB" / "kernel").read_text() == "compiled"
    assert cache.quarantined(directory) == sorted(moved)


def test_older_files_in_quarantine_stay(directory: Path) -> None:
    fill(directory)
    first = cache.move_to_quarantine(directory, AT)
    (directory / "answers.sqlite3").write_text("newer")
    cache.move_to_quarantine(directory, "2026-11-24T06:30:01Z")
    assert first[1].read_text() == "rows"
    assert len(cache.quarantined(directory)) == 4


def test_links_are_moved_and_their_targets_are_not(directory: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("stays")
    (directory / "answers.sqlite3").symlink_to(precious)
    (moved,) = cache.move_to_quarantine(directory, AT)
    assert moved.readlink() == precious
    assert precious.read_text() == "stays"


def test_directory_that_became_a_link_meanwhile_is_not_followed(directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    fill(directory)
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        cache.move_to_quarantine(directory, AT)
    assert (elsewhere / "answers.sqlite3").read_text() == "rows"


def test_cache_stays_in_its_own_file_system_where_a_rename_cannot_leave_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(directory)
    monkeypatch.setattr(cache, "quarantine", lambda place: place)
    moved = cache.move_to_quarantine(directory, AT)
    assert moved[0].name == ".quarantine-2026-11-24T063000Z-.hidden"
    assert {path.parent for path in moved} == {directory}
    assert cache.content(directory) == {}
    assert cache.move_to_quarantine(directory, AT) == []


def test_quarantine_needs_no_room_for_a_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(directory)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "mkdir", full)
    assert {path.parent for path in cache.move_to_quarantine(directory, AT)} == {directory}


def test_interrupted_quarantine_is_finished_by_the_next_run(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fill(directory)
    rename = os.rename
    done: list[Any] = []

    def killed(*names: Any, **descriptors: Any) -> None:
        if done:
            raise KeyboardInterrupt
        rename(*names, **descriptors)
        done.append(names)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "rename", killed)
        cache.move_to_quarantine(directory, AT)
    assert len(cache.content(directory)) == 2
    cache.move_to_quarantine(directory, "2026-11-24T06:31:00Z")
    assert sorted(path.read_text() for path in cache.quarantined(directory)) == sorted(files.values())


def test_empty_and_missing_directories_have_nothing_to_quarantine(directory: Path) -> None:
    assert cache.move_to_quarantine(directory, AT) == []
    directory.rmdir()
    assert cache.content(directory) == {}
    assert cache.move_to_quarantine(directory, AT) == []


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")


def release(tmp_path: Path, text: str) -> tuple[str, Path, Path]:
    """A user, and the command of a release that prints `text`, with its configuration."""
    command = tmp_path / "katago-mcp"
    command.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(text)}\necho no room >&2\n")
    command.chmod(0o755)
    return pwd.getpwuid(os.geteuid()).pw_name, command, tmp_path / "config.json"


def verifying(tmp_path: Path, text: str) -> cache.Report:
    """The report of a release whose command prints `text`."""
    return cache.verified(*release(tmp_path, text))


# As the server of version 0.1.0 prints it.
FOUND: dict[str, Any] = {
    "ok": True,
    "present": True,
    "entries": 3,
    "bytes": 90,
    "damagedEntries": 0,
    "expiredEntries": 1,
    "problems": [],
}


@as_root
def test_report_of_the_release_is_read(tmp_path: Path) -> None:
    report = verifying(tmp_path, json.dumps(FOUND))
    assert (report["ok"], cache.size(report), report["problems"]) == (True, Size(3, 90), [])


@as_root
@pytest.mark.parametrize(
    "text", ["", "[]", json.dumps({**FOUND, "entries": "3"}), '{"problems": ["config"]}']
)
def test_malformed_report_is_no_verdict(tmp_path: Path, text: str) -> None:
    with pytest.raises(cache.UnverifiedError, match="The cache cannot be inspected: no room"):
        verifying(tmp_path, text)


@as_root
def test_stopped_services_cache_is_cleared_by_the_release(tmp_path: Path) -> None:
    report = {"ok": True, "before": {"entries": 3, "bytes": 90}, "after": {"entries": 0, "bytes": 0}}
    assert cache.clear_stopped(*release(tmp_path, json.dumps(report))) == Size(3, 90)


@as_root
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps({"ok": False, "problems": ["disk I/O error"]}), "disk I/O error"),
        (json.dumps({"ok": True, "before": {"entries": 3}}), "the command reported no size"),
        ("", "no room"),
    ],
)
def test_cache_that_the_release_does_not_clear_is_reported(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(cache.UnverifiedError, match=f"The cache cannot be cleared: {reason}"):
        cache.clear_stopped(*release(tmp_path, text))


def test_cache_is_not_inspected_without_the_services_user(tmp_path: Path) -> None:
    with pytest.raises(cache.UnverifiedError, match="this host has no user no-such-user"):
        cache.verified("no-such-user", tmp_path / "katago-mcp", tmp_path / "config.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "it is not JSON"),
        ("{}", "cache is missing"),
        ('{"cache": {"directory": 1}}', "is 1, not a string"),
    ],
)
def test_configuration_that_does_not_name_the_directory_is_refused(
    directory: Path, content: str, message: str
) -> None:
    paths.CONFIG.write_text(content)
    with pytest.raises(cache.RefusedError, match=message):
        cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)
