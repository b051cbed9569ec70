"""Small text files on a host: read, replace atomically, remove."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files


def read(path: Path) -> str | None:
    """A file's text; None if it does not exist or cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return None


def put(path: Path, text: str | None) -> None:
    """Write a file if its text differs, or remove it if `text` is None."""
    if text is None:
        path.unlink(missing_ok=True)
    elif read(path) != text:
        # Most of them belong to APT, systemd or the kernel, so their modes stay as they are.
        directories.make(path.parent)
        files.write(path, text.encode(), mode=0o644)
