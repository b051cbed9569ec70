"""Which files a unit has loaded whose program reads them at a reload, and cannot report them: keepalived."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import (
    digest,
    directories,
    file_set,
    files,
    shape,
)
from ansible_collections.katago.fleet.plugins.module_utils.common.unit_state import State


def record(unit: str, directory: Path) -> Path:
    """The file of the record of what a unit has loaded."""
    return directory / f"{unit}.json"


class Loaded:
    """The record of the files that a running unit has loaded, for a program that cannot report them.

    It is in memory like the process, and holds for one run of the unit, because a restart reads the files of
    its time. `directory`: where the record lies.
    """

    def __init__(self, unit: str, content: Sequence[file_set.File], directory: Path) -> None:
        self._files = content
        self._path = record(unit, directory)
        self._digest = digest.of_json(
            [[str(file.path), digest.of_bytes(file.content or b"")] for file in content]
        )

    def matches(self, state: State) -> bool:
        """Whether the running unit has loaded these files.

        A unit that was started by others, or by an earlier version, has loaded what is older than its start.
        """
        recorded = self._read()
        if recorded.get("invocation") == state.invocation:
            return recorded.get("digest") == self._digest
        return not state.is_older_than(file.path for file in self._files)

    def remember(self, state: State) -> None:
        """Record that the running unit has loaded these files. Raises OSError."""
        directories.make(self._path.parent, own=self._path.parent)
        content = {"invocation": state.invocation, "digest": self._digest}
        files.write(self._path, json.dumps(content).encode() + b"\n", mode=0o644)

    def _read(self) -> dict[str, object]:
        try:
            return dict(shape.mapping(shape.parsed(self._path.read_bytes())))
        except (OSError, shape.ShapeError):
            return {}
