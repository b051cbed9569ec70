"""The record of a driver's change: what was on the host before, from which that is restored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import files, shape

STATE = Path("/var/lib/katago-gpu-driver")
RECORD = STATE / "state.json"
ARCHIVES = STATE / "archives"
"""The packages of the installed driver, and of the one before it."""


class RecordError(Exception):
    """The record cannot be read, so what was on the host before a change is not known."""


@dataclass(frozen=True)
class Record:
    """What was recorded when the driver was last changed.

    `unfinished`: that change was neither finished nor restored. `begun`: when it was started. `packages`: the
    versions of all packages before it. `changes`: the versions of those that APT was to change, empty for
    one that was not there; `brought`: the versions that APT was to bring. `earlier`: the versions of the
    driver's packages that the last finished change replaced, whose archives are kept. `held_before`: every
    hold before it, `own_held_before`: this role's among them, `held`: this role's now. `files`: the previous
    content of this role's files by path, None for one that was not there. `components`: the components that
    this role added to APT's sources, `components_before`: before the change. `loaded` and `loaded_kind`: the
    kernel module that was loaded. `service`: whether the service ran.
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
"""Of a host whose driver this role has never changed."""


def read() -> Record:
    """What was recorded of the last change. Keys of other versions of this role are left out.

    Raises:
        RecordError: the record is there, and is damaged or cannot be read.
    """
    try:
        content = shape.mapping(json.loads(RECORD.read_text()))
        known = {each.name for each in fields(Record)}
        return shape.record(Record, {name: value for name, value in content.items() if name in known})
    except FileNotFoundError:
        return NOTHING
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{RECORD}, the record of the driver's last change, cannot be read: {error}. It says how the"
            " previous driver is restored. Restore the file from a backup; or, where the driver works,"
            f" move it away: mv {RECORD} {RECORD}.damaged"
        ) from error


def write(record: Record) -> None:
    """Replace the record."""
    STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.write(RECORD, (json.dumps(asdict(record), indent=1) + "\n").encode(), mode=0o644)
