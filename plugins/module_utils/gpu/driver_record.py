"""The record of a driver change: the host's previous state, from which it is restored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files, shape

STATE = Path("/var/lib/katago-gpu-driver")
RECORD = STATE / "state.json"
ARCHIVES = STATE / "archives"
"""Package archives of the installed driver and of the previous one."""


class RecordError(Exception):
    """The record cannot be read, so the host's previous state is unknown."""


@dataclass(frozen=True)
class Record:
    """The state recorded at the last change of the driver.

    `unfinished`: the change was neither finished nor restored. `begun`: when it was started. `packages`: the
    versions of all packages before it. `changes`: the previous versions of the packages that APT changes;
    empty for a package that was not installed. `brought`: the new versions of these packages. `earlier`: the
    versions of the driver's packages that the last finished change replaced; their archives are kept.
    `held_before`: all holds before the change. `own_held_before`: this role's holds before it. `held`: this
    role's holds now. `files`: the previous contents of this role's files by path; None for a missing file.
    `components`: the components that this role added to APT's sources. `components_before`: the same before
    the change. `loaded` and `loaded_kind`: the kernel module that was loaded. `service`: whether the service
    was running.
    """

    unfinished: bool = False
    begun: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, str] = field(default_factory=dict)
    brought: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, str] = field(default_factory=dict)
    held_before: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    own_held_before: tuple[str, ...] = ()
    files: Mapping[str, str | None] = field(default_factory=dict)
    components: tuple[str, ...] = ()
    components_before: tuple[str, ...] = ()
    target: str = ""
    loaded: str | None = None
    loaded_kind: str | None = None
    service: bool | None = None


NOTHING = Record()
"""The record of a host whose driver this role has never changed."""


def read() -> Record:
    """The record of the last change. Keys that other versions of this role wrote are ignored.

    Raises:
        RecordError: the record exists but is damaged or cannot be read.
    """
    try:
        content = shape.mapping(json.loads(RECORD.read_text()))
        names = {each.name for each in fields(Record)}
        return shape.record(Record, {name: value for name, value in content.items() if name in names})
    except FileNotFoundError:
        return NOTHING
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{RECORD}, the record of the driver's last change, cannot be read: {error}. Without it, the"
            " previous driver cannot be restored. Restore the file from a backup. If the driver works,"
            f" you can move the file away instead: mv {RECORD} {RECORD}.damaged"
        ) from error


def write(record: Record) -> None:
    """Replace the record."""
    directories.make(STATE, own=STATE)
    files.write(RECORD, (json.dumps(asdict(record), indent=1) + "\n").encode(), mode=0o644)
