"""Moves the role's files into a directory of the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import apt_sources, driver_files, driver_record

NAMES = ("PREFERENCES", "SOURCES", "STANZAS", "KEYRING", "UNATTENDED", "BLACKLIST", "DROP_IN")


def move(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Move the role's files, its state and APT's configuration from / to `root`."""

    def below(path: Path) -> Path:
        return root / str(path).lstrip("/")

    moved = {name: below(getattr(driver_files, name)) for name in NAMES}
    for name, path in moved.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(driver_files, name, path)
    of_apt = [below(path) for path in driver_files.OF_APT]
    monkeypatch.setattr(driver_files, "FILES", [below(path) for path in driver_files.FILES])
    monkeypatch.setattr(driver_files, "OF_APT", of_apt)
    monkeypatch.setattr(apt_sources, "APT", below(apt_sources.APT))
    for name in ("STATE", "RECORD", "ARCHIVES"):
        monkeypatch.setattr(driver_record, name, below(getattr(driver_record, name)))
