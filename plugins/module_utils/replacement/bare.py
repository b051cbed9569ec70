"""Whether a host may be rebuilt as the replacement of a dead one: only a bare host, never one that works."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, file_set, files, shape

RESUMABLE = timedelta(hours=24)
"""How long a replacement that did not finish may be resumed. Later the host may have worked for a while."""


@dataclass(frozen=True)
class Mark:
    """The mark of a replacement that has started and not finished.

    `since`: UTC, by the host's clock. `restored`: whether the state of the backup is on the host.
    """

    since: str
    who: str
    restored: bool = False


@dataclass(frozen=True)
class Host:
    """What is on a host: its current release, the unit's state, the number of its history's records."""

    current: str | None
    active: str
    records: int


def read(path: Path) -> Mark | None:
    """Read the mark; None without a usable one."""
    try:
        mark = shape.record(Mark, shape.parsed(path.read_bytes()))
        timestamps.parse(mark.since)
    except (OSError, ValueError):
        return None
    return mark


def write(mark: Mark, path: Path) -> None:
    """Write the mark durably."""
    directories.make(path.parent, own=path.parent)
    files.write(path, json.dumps(asdict(mark)).encode() + b"\n", mode=0o644)


def remove(path: Path) -> None:
    """Remove the mark and its directory."""
    for each in (path, *file_set.leftovers([path])):
        each.unlink(missing_ok=True)
    if path.parent.is_dir():
        path.parent.rmdir()


def is_resumed(mark: Mark | None, now: datetime) -> bool:
    """Whether the run resumes a replacement."""
    return mark is not None and now - timestamps.parse(mark.since) <= RESUMABLE


def refusal(host: Host, mark: Mark | None, name: str, now: datetime) -> str:
    """Why the host is not rebuilt, and what to do instead; empty if it may be rebuilt."""
    if is_resumed(mark, now):
        return ""
    signs = list(_signs(host))
    if not signs:
        return ""
    old = (
        f" The replacement that {mark.who} started at {mark.since} did not finish, and is too old to resume."
        if mark
        else ""
    )
    return (
        f"Refused; nothing was changed on this host. {name} is not bare: {' and '.join(signs)}.{old}"
        " replace_host rebuilds only a bare host. To repair this one:"
        f" ansible-playbook playbooks/restore.yml -l {name}. To change its release:"
        f" ansible-playbook playbooks/deploy.yml -l {name}. To start over:"
        f" ansible-playbook playbooks/remove_host.yml -l {name} -e confirm={name}, then run again."
    )


def _signs(host: Host) -> Sequence[str]:
    return [
        *([f"its current release is {host.current}"] if host.current else []),
        *([f"its service is {host.active}"] if host.active not in ("inactive", "") else []),
        *([f"its history has {host.records} records"] if host.records else []),
    ]
