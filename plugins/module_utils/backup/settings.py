"""What the backups of a host were told to do, and what is known of those that were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.module_utils.common.fields import Fields, MalformedError


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
            fields = Fields.read(path)
            keep = fields.section("keep")
            return cls(
                host=fields.get("host", str),
                assets=fields.get("assets", bool),
                engine=fields.get("engine", bool),
                keep={period: _count(keep, period) for period in keep.values},
                read_data=fields.get("read_data", str),
                scratch=fields.get("scratch", str),
                metrics=fields.get("metrics", str),
                lock_wait=fields.get("lock_wait", int),
                deadline=fields.get("deadline", int),
            )
        except MalformedError as error:
            raise BackupError(f"{error}. playbooks/backup.yml writes the settings again") from error


def _count(keep: Fields, period: str) -> int:
    """A number of snapshots; an inventory may have it as a text."""
    value = keep.values[period]
    return int(value) if isinstance(value, str) and value.isdecimal() else keep.get(period, int)


@dataclass(frozen=True)
class Known:
    """The history as it was at the last good backup: so many bytes with this sha256."""

    size: int
    sha256: str

    @classmethod
    def of(cls, fields: Fields) -> Known:
        """The one that the state holds. Raises MalformedError."""
        return cls(fields.get("size", int), fields.get("sha256", str))


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
    checks: Sequence[str] = ()

    @classmethod
    def of(cls, fields: Fields) -> Outcome:
        """The one that the state holds. Raises MalformedError."""
        return cls(
            at=fields.get("at", str),
            ok=fields.get("ok", bool),
            step=fields.get("step", str),
            message=fields.get("message", str),
            seconds=fields.get("seconds", float),
            snapshot=fields.get("snapshot", str, ""),
            release=fields.get("release", str, ""),
            size=fields.get("size", int, 0),
            checks=tuple(fields.texts("checks")) if "checks" in fields.values else (),
        )


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
        """The state that a file holds, an empty one when there is no file. Raises OSError, MalformedError."""
        if not path.exists():
            return cls()
        fields = Fields.read(path)
        run, good, history = (
            fields.section(name) if fields.values.get(name) else None
            for name in ("last_run", "last_good", "history")
        )
        return cls(
            host=fields.get("host", str, ""),
            repository=fields.get("repository", str, ""),
            running=fields.get("running", str, ""),
            last_run=Outcome.of(run) if run else None,
            last_good=Outcome.of(good) if good else None,
            history=Known.of(history) if history else None,
        )

    def write(self, path: Path) -> None:
        """Replace the state's file."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        # What was never known of the history is an empty object there.
        content = {**asdict(self), "history": asdict(self.history) if self.history else {}}
        files.write(path, json.dumps(content, indent=1).encode() + b"\n", mode=0o644)


def state_or_none(path: Path) -> tuple[State, str]:
    """The state, for what must not fail of a damaged one: an empty one then, and why."""
    try:
        return State.read(path), ""
    except (OSError, MalformedError) as error:
        return State(), str(error)
