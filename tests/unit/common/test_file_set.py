"""Files that are replaced together: all or none."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import file_set
from ansible_collections.katago.fleet.plugins.module_utils.common.file_set import File


def content(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its mode."""
    return {each.name: (each.read_bytes(), each.stat().st_mode & 0o777) for each in directory.iterdir()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the files `a` and `b`."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("before")
        (tmp_path / name).chmod(0o640)
    return tmp_path


def wanted(directory: Path) -> list[File]:
    return [
        File(directory / "a", b"after", 0o600),
        File(directory / "b", None),
        File(directory / "c", b"new"),
    ]


def test_files_are_replaced_created_and_removed(directory: Path) -> None:
    assert [each.is_current() for each in wanted(directory)] == [False, False, False]
    with file_set.replaced(wanted(directory)):
        pass
    assert content(directory) == {"a": (b"after", 0o600), "c": (b"new", 0o644)}
    assert [each.is_current() for each in wanted(directory)] == [True, True, True]


def test_leftovers_of_a_killed_replacement_are_found_and_nothing_else(directory: Path) -> None:
    for name in (".a.kept", ".a.x1y2_z34", ".a.swp", ".ab.kept", "a.kept"):
        (directory / name).touch()
    places = [directory / "a", directory / "b", directory / "none" / "c"]
    assert [each.name for each in file_set.leftovers(places)] == [".a.kept", ".a.x1y2_z34"]


def test_previous_files_are_put_back_if_the_context_fails(directory: Path) -> None:
    before = content(directory)
    with pytest.raises(KeyError), file_set.replaced(wanted(directory)):
        raise KeyError
    assert content(directory) == before


@pytest.mark.parametrize("name", ["a", "c"])
def test_no_file_is_changed_if_one_cannot_be_replaced(
    directory: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = content(directory)
    rename = Path.rename

    def fail(scratch: Path, target: Path) -> Path:
        if Path(target).name == name and not scratch.name.endswith(".kept"):
            raise OSError(errno.EPERM, "Operation not permitted", str(target))
        return rename(scratch, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="not permitted"), file_set.replaced(wanted(directory)):
        pytest.fail("the context was entered")
    assert content(directory) == before


def test_no_file_is_changed_if_one_cannot_be_written(directory: Path) -> None:
    before = content(directory)
    files = [*wanted(directory), File(directory / "missing" / "d", b"")]
    with pytest.raises(FileNotFoundError), file_set.replaced(files):
        pytest.fail("the context was entered")
    assert content(directory) == before


def test_mode_alone_makes_a_file_differ(directory: Path) -> None:
    assert not File(directory / "a", b"before", 0o600).is_current()
    assert File(directory / "a", b"before", 0o640).is_current()
