"""Files that are replaced together: all or none, and only if what follows succeeds."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import files


@dataclass(frozen=True)
class File:
    """A file as it shall be. `content`: None if there shall be none."""

    path: Path
    content: bytes | None
    mode: int = 0o644

    def is_current(self) -> bool:
        """Whether the file has this content and mode already."""
        if self.content is None:
            return not self.path.exists()
        try:
            return self.path.stat().st_mode & 0o777 == self.mode and self.path.read_bytes() == self.content
        except OSError:
            return False


@contextlib.contextmanager
def replaced(wanted: Sequence[File]) -> Iterator[None]:
    """Replace files, and put the previous ones back if one of them cannot be, or if the context fails.

    All contents are written before the first file is replaced, and putting back needs no space on the disk.
    The directories exist. Raises OSError.
    """
    staged: dict[Path, Path] = {}
    previous: dict[Path, Path | None] = {}
    try:
        for file in wanted:
            if file.content is not None:
                staged[file.path] = files.stage(file.path, file.content, file.mode)
        for file in wanted:
            previous[file.path] = _linked(file.path)
            if file.path in staged:
                staged[file.path].rename(file.path)
                del staged[file.path]
            else:
                file.path.unlink(missing_ok=True)
        _sync(wanted)
        yield
    except BaseException:
        for path, kept in reversed(previous.items()):
            if kept is None:
                path.unlink(missing_ok=True)
            else:
                kept.rename(path)
        _sync(wanted)
        raise
    finally:
        for scratch in (*staged.values(), *filter(None, previous.values())):
            scratch.unlink(missing_ok=True)


def leftovers(places: Iterable[Path]) -> list[Path]:
    """What replacements of these files have left beside them because they were killed."""
    found = []
    for path in places:
        # The second name of the previous file, or a name of files.stage.
        name = re.compile(rf"\.{re.escape(path.name)}\.(kept|[a-z0-9_]{{8}})")
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        found += sorted(each for each in beside if name.fullmatch(each.name))
    return found


def _linked(path: Path) -> Path | None:
    """A second name of a file; None if there is no file."""
    kept = path.with_name(f".{path.name}.kept")
    kept.unlink(missing_ok=True)
    try:
        kept.hardlink_to(path)
    except FileNotFoundError:
        return None
    return kept


def _sync(wanted: Sequence[File]) -> None:
    for directory in {file.path.parent for file in wanted}:
        if directory.exists():
            files.sync_directory(directory)
