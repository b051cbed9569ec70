"""On a host with a strict umask and strict directories of ours, the service can read all that it needs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import restore_apply
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.gpu import driver_record, texts
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials
from ansible_collections.katago.fleet.plugins.modules import engine, engine_tuning, release_build

SCRIPT = "#!/bin/sh\necho 'KataGo v1.18.1'\n"


@pytest.fixture(autouse=True, params=[0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """The umask of a hardened host."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture(params=[None, 0o750, 0o700], ids=["missing", "0750", "0700"])
def ours(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory of ours that is missing or has a strict mode."""
    tmp_path.chmod(0o755)
    path = tmp_path / "ours"
    if request.param is not None:
        path.mkdir()
        path.chmod(request.param)
    return path


def closed(root: Path) -> list[str]:
    """What other users cannot read or enter below a directory, itself included."""
    everything = [root, *root.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in everything if not path.is_symlink()}
    return [
        str(path.relative_to(root)) for path, mode in modes.items() if mode & 0o005 != 0o005 and path.is_dir()
    ] + [str(path.relative_to(root)) for path, mode in modes.items() if not mode & 0o004]


def test_engine_is_readable(ours: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text(SCRIPT)
    directory = ours / digest.of_file(source)
    engine.install(source, directory.name, "1.18.1", directory)
    assert closed(directory) == []


def test_tuning_result_is_readable_and_corrected(ours: Path) -> None:
    root = ours / "tuning"
    path, changed = engine_tuning.install("result", root)
    assert changed
    assert closed(ours) == []
    path.parent.chmod(0o700)
    assert engine_tuning.install("result", root) == (path, True)
    assert closed(ours) == []
    assert engine_tuning.install("result", root) == (path, False)


def test_directories_of_a_release_are_corrected(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, config = tmp_path / "state", tmp_path / "etc" / "config.json"
    monkeypatch.setattr(paths, "STATE", state)
    monkeypatch.setattr(paths, "CONFIG", config)
    monkeypatch.setattr(paths, "OWN", (ours, state, config.parent))
    directory = ours / "releases" / "0.1.0-aa"
    (directory / "venv").mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    for path in (state, config.parent):
        path.mkdir()
        path.chmod(0o700)
    assert release_build.correct(directory, check=True)
    assert closed(state) != []
    assert release_build.correct(directory, check=False)
    assert closed(ours) + closed(state) + closed(config.parent) == []
    assert not release_build.correct(directory, check=False)


def test_history_is_readable(ours: Path) -> None:
    history.append(history.Record("2026-01-01T00:00:00Z", "anna", "r", None, "test"), ours / "history.jsonl")
    assert closed(ours) == []


def test_record_and_files_of_a_driver_change_are_readable(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_record, "STATE", ours)
    monkeypatch.setattr(driver_record, "RECORD", ours / "state.json")
    driver_record.write(driver_record.NOTHING)
    assert closed(ours) == []
    # APT reads its keys as a user of its own.
    texts.put(ours / "keyrings" / "key.asc", "key")
    assert closed(ours) == []


def test_restored_files_are_readable(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = ours.parent
    monkeypatch.setattr(paths, "OWN", (Path("/ours"),))
    restore_apply.make_parent(host, Path("/ours/releases/r/venv"))
    restore_apply.make_parent(host, Path("/usr/local/bin/katago-mcp"))
    assert closed(ours) + closed(host / "usr") == []


def test_credentials_are_closed_and_the_way_to_them_is_open(ours: Path) -> None:
    directory = ours / "credentials"
    assert credentials.open_directory(directory, os.getegid())
    assert stat.S_IMODE(ours.stat().st_mode) == 0o755
    assert stat.S_IMODE(directory.stat().st_mode) == credentials.CREDENTIALS_MODE
    assert not credentials.open_directory(directory, os.getegid())
