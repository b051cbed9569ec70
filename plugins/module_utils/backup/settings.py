"""The settings of a host's backups, and the recorded state of the backups it made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files, shape


class BackupError(Exception):
    """The backup failed. The message says what happened and what to do."""


@dataclass(frozen=True)
class Settings:
    """The settings that the role `backup` writes to a host.

    `keep`: restic's retention policy, such as `{"daily": 7}`. `read_data`: `all`, or a value for restic's
    `--read-data-subset`. `metrics`: a file for node_exporter; empty for none. `lock_wait`: seconds to wait
    for locks. `deadline`: seconds that one step may take. `fleet`: the name of the host's fleet; empty in
    settings of version 0.2.0 and earlier.
    """

    host: str
    assets: bool
    engine: bool
    keep: Mapping[str, int]
    read_data: str
    scratch: str
    metrics: str
    lock_wait: int
    deadline: int
    fleet: str = ""

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read the settings from a file. Raises OSError; BackupError if they are not valid."""
        try:
            content = shape.mapping(shape.parsed(path.read_bytes()))
            return shape.record(cls, {**content, "keep": _counts(content.get("keep"))})
        except shape.ShapeError as error:
            raise BackupError(
                f"{path}: {error}. Write the settings again: `ansible-playbook playbooks/backup.yml`"
            ) from error


def _counts(keep: object) -> object:
    """Convert counts that an inventory gives as text to numbers."""
    if not isinstance(keep, Mapping):
        return keep
    return {
        period: int(count) if isinstance(count, str) and count.isdecimal() else count
        for period, count in keep.items()
    }


@dataclass(frozen=True)
class HistoryDigest:
    """The length in bytes and the sha256 of the history at the last verified backup."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """The result of a backup. `step`: the last step. `snapshot`: its id. `size`: bytes when restored."""

    at: str
    ok: bool
    step: str
    message: str
    seconds: float
    snapshot: str = ""
    release: str = ""
    size: int = 0
    checks: tuple[str, ...] = ()


@dataclass
class State:
    """The recorded state of this host's backups, for the metrics and for triage.

    `running`: when the running backup started; empty if none runs. `history`: the history in the last
    verified backup. `repository`: the sha256 of the address of its repository.
    """

    host: str = ""
    repository: str = ""
    running: str = ""
    last_run: Outcome | None = None
    last_good: Outcome | None = None
    history: HistoryDigest | None = None

    @classmethod
    def read(cls, path: Path) -> State:
        """Read the state from a file. Returns an empty state if there is no file.

        Raises:
            OSError, shape.ShapeError: if the file cannot be read or is not valid.
        """
        if not path.exists():
            return cls()
        try:
            content = shape.mapping(shape.parsed(path.read_bytes()))
            # The file has an empty object if no history is recorded.
            state = shape.record(cls, {**content, "history": content.get("history") or None})
            _require_times(state)
            return state
        except shape.ShapeError as error:
            raise shape.ShapeError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        """Replace the state file."""
        directories.make(path.parent, own=path.parent)
        content = {**asdict(self), "history": asdict(self.history) if self.history else {}}
        files.write(path, json.dumps(content, indent=1).encode() + b"\n", mode=0o644)


def _require_times(state: State) -> None:
    runs = {"last_run.at": state.last_run, "last_good.at": state.last_good}
    times = {"running": state.running, **{name: run.at for name, run in runs.items() if run}}
    for name, text in times.items():
        try:
            if text:
                timestamps.parse(text)
        except ValueError as error:
            raise shape.ShapeError(
                f"{name} is {text!r:.60}, not a time such as 2026-11-24T06:00:00Z"
            ) from error


def state_or_empty(path: Path) -> tuple[State, str]:
    """The state and an empty text; if the file is damaged, an empty state and the reason."""
    try:
        return State.read(path), ""
    except (OSError, shape.ShapeError) as error:
        return State(), str(error)
