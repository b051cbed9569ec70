"""What the backups of a host were told to do, and what is known of those that were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files, shape


class BackupError(Exception):
    """The backup failed; the message says what was seen and what to do."""


@dataclass(frozen=True)
class Settings:
    """What the role `backup` has decided for a host.

    `keep`: restic's policy, such as `{"daily": 7}`. `read_data`: `all`, or a share as restic's
    `--read-data-subset` takes it. `metrics`: a file for node_exporter, empty for none. `lock_wait`
    and `deadline`: seconds that locks are waited for, and that one step may take.
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

    @classmethod
    def load(cls, path: Path) -> Settings:
        """The settings that a file holds. Raises OSError; BackupError when they cannot be used."""
        try:
            content = shape.mapping(shape.parsed(path.read_bytes()))
            return shape.record(cls, {**content, "keep": _counts(content.get("keep"))})
        except shape.ShapeError as error:
            raise BackupError(f"{path}: {error}. playbooks/backup.yml writes the settings again") from error


def _counts(keep: object) -> object:
    """Numbers of snapshots as numbers; an inventory may have them as texts."""
    if not isinstance(keep, Mapping):
        return keep
    return {
        period: int(count) if isinstance(count, str) and count.isdecimal() else count
        for period, count in keep.items()
    }


@dataclass(frozen=True)
class Known:
    """The history as it was at the last good backup: so many bytes with this sha256."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """How a backup ended. `step` is the last one, `snapshot` the id, `size` in bytes as restored."""

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
    """What is known of this host's backups, for the metric and for triage.

    `running`: since when one runs, empty when none does. `history`: the history in the last good one.
    `repository`: the sha256 of the address that it went to.
    """

    host: str = ""
    repository: str = ""
    running: str = ""
    last_run: Outcome | None = None
    last_good: Outcome | None = None
    history: Known | None = None

    @classmethod
    def read(cls, path: Path) -> State:
        """The state that a file holds, an empty one when there is no file.

        Raises:
            OSError, shape.ShapeError: if there is one that cannot be used.
        """
        if not path.exists():
            return cls()
        try:
            content = shape.mapping(shape.parsed(path.read_bytes()))
            # Nothing known of the history is an empty object there.
            state = shape.record(cls, {**content, "history": content.get("history") or None})
            _require_times(state)
            return state
        except shape.ShapeError as error:
            raise shape.ShapeError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        """Replace the state's file."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
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
    """The state, for what must not fail of a damaged one: an empty one then, and why."""
    try:
        return State.read(path), ""
    except (OSError, shape.ShapeError) as error:
        return State(), str(error)
