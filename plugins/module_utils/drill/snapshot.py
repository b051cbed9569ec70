"""What a drill could change on a host, as plain values, and what differs between two such snapshots.

A key is a kind and a name, such as `unit katago-mcp.service`. What changes without a drill is not in it:
process IDs, logs, cached answers, times. `compare` is pure.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.drill import step
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host, frozen_file
from ansible_collections.katago.fleet.plugins.module_utils.drill.steps_files import WHO
from ansible_collections.katago.fleet.plugins.module_utils.procedure.drill_state import KEPT
from ansible_collections.katago.fleet.plugins.module_utils.removal import parts

ABSENT = "absent"
_SHORT = 16
_TIME_SERVICES = ("chrony.service", "ntp.service", "ntpsec.service", "systemd-timesyncd.service")
_OTHERS = (paths.LOAD_BALANCER_UNIT, paths.KEEPALIVED_UNIT, *_TIME_SERVICES)
_DRILL = "katago-drill"
_OVERRIDE_UNITS = paths.OVERLAY_TIMER.removesuffix(".timer")
# Mounts that come and go with sessions and units.
_FLEETING = re.compile(r"/(?:run/(?:user|credentials|systemd)|proc|sys|dev)(?:/|$)")
_PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "Type", "CPUQuotaPerSecUSec")
_FULL_PERCENT, _SCARCE_PERCENT = 1, 10
_CLOCK_SECONDS = 3
_SECONDS = 20

Snapshot = Mapping[str, str]


class Difference(TypedDict):
    """What differs, and its value before and after; `absent` without one."""

    what: str
    before: str
    after: str


def _files() -> tuple[Path, ...]:
    """Files and directories of files whose content a drill must leave as it was."""
    return (
        paths.CREDENTIALS,
        paths.PINNED_CERTIFICATE,
        paths.CONFIG.parent / paths.SHARED_CACHE_CA,
        paths.BACKUP_SECRETS,
        paths.LOAD_BALANCER_DIRECTORY,
        paths.HAPROXY_CONFIG,
        paths.KEEPALIVED_CONFIG,
        paths.INCIDENT_CHANNELS,
        paths.SELF_HEALING_SETTINGS,
        paths.MONITORING,
    )


@dataclass(frozen=True)
class Places:
    """The paths that a snapshot reads. `files`: with everything below directories."""

    files: tuple[Path, ...] = field(default_factory=_files)
    override: Path = paths.OVERLAY
    marks: tuple[Path, ...] = (*paths.SECURITY_MODE, *paths.SELF_HEALING_PAUSE)
    accounts: tuple[Path, ...] = (Path("/etc/passwd"), Path("/etc/group"))
    disks: tuple[Path, ...] = (Path("/"), paths.RELEASE_ROOT, paths.STATE, paths.CACHE)
    unit_directories: tuple[Path, ...] = parts.UNIT_DIRECTORIES


def take(host: Host, places: Places | None = None) -> dict[str, str]:
    """Take a snapshot. A part that cannot be read is `unknown`, with the reason."""
    places = places or Places()
    snapshot: dict[str, str] = {}
    for kind, entries in (
        ("boot", _boot(host)),
        ("file", _digests(places.files)),
        ("override", _override(places.override)),
        ("mark", _marks(places.marks)),
        ("release", _releases(host)),
        ("unit file", _unit_files(places.unit_directories)),
        ("unit", _units(host)),
        ("frozen", _frozen(host)),
        ("firewall", _firewall(host)),
        ("mount", _mounts(host)),
        ("queue", _queues(host)),
        ("accounts", _digests(places.accounts)),
        ("disk", _disks(places.disks)),
        ("drill", _leftovers(host)),
    ):
        try:
            snapshot.update({f"{kind} {name}": value for name, value in entries})
        except (OSError, ValueError) as error:
            snapshot[f"{kind} unknown"] = str(error)
    return snapshot


def compare(before: Snapshot, after: Snapshot) -> list[Difference]:
    """What a drill left changed. Left out is what a response or the passing of time changes."""
    response = {
        "release": before.get("release current") != after.get("release current"),
        "boot": before.get("boot id") != after.get("boot id"),
        "override": any(what.startswith("override ") for what in after),
    }
    return [
        Difference(what=what, before=before.get(what, ABSENT), after=after.get(what, ABSENT))
        for what in sorted({*before, *after})
        if before.get(what) != after.get(what)
        and not _is_legitimate(what, before.get(what), after.get(what), response)
    ]


def _is_legitimate(what: str, before: str | None, after: str | None, response: Mapping[str, bool]) -> bool:
    """Whether a difference needs no explanation by the drill."""
    kind, _, name = what.partition(" ")
    if _DRILL in what or kind == "drill" or name.startswith(".drill-"):
        return after is None
    if what == "boot id":
        return True
    if what == "boot clock":
        return response["boot"] or _is_near(before, after)
    if kind == "release":
        # A response may switch releases, build new ones and prune old ones.
        return response["release"] or name not in ("current", "configuration")
    if kind == "override":
        # A response may lower limits for a while. Every override ends automatically.
        return after is None or not name.startswith(f"{WHO}:")
    if _OVERRIDE_UNITS in what:
        # The timer of an override is there as long as the override.
        return (after is not None) == response["override"]
    if kind == "mark":
        # Whoever paused repairs may resume them.
        return after is None
    if kind == "unit":
        # A procedure may install a timer, and a service that had failed may work now.
        return before is None or (before.startswith("failed") and (after or "").startswith("active"))
    if kind == "disk":
        return _worse(before) >= _worse(after)
    # A procedure may install a program with its unit and settings, such as that of a watch.
    return what.startswith("unit file ") and before is None


def _is_near(before: str | None, after: str | None) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        return abs(float(before or "") - float(after or "")) <= _CLOCK_SECONDS
    return False


def _worse(value: str | None) -> int:
    return ("free", "scarce", "full").index(value) if value in ("free", "scarce", "full") else 0


def _boot(host: Host) -> Iterator[tuple[str, str]]:
    identity, uptime = host.boot()
    yield "id", identity
    yield "clock", f"{host.time() - uptime:.0f}"


def _digests(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Content and access of files, and of all files below directories."""
    for path in files:
        members = sorted(each for each in path.rglob("*") if not each.is_dir()) if path.is_dir() else [path]
        for each in members:
            if os.path.lexists(each):
                yield str(each), _description(each)


def _description(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    status = path.stat()
    access = f"{status.st_mode & 0o7777:04o} {status.st_uid}:{status.st_gid}"
    return f"{digest.of_file(path)[:_SHORT]} {access}"


def _override(file: Path) -> Iterator[tuple[str, str]]:
    """Lowered limits: who lowered them and why, and until when."""
    if not (content := step.content_of(file)):
        return
    try:
        document = json.loads(content)
        yield f"{document['who']}: {document['why']}", f"until {document['expiresAt']}"
    except (ValueError, TypeError, KeyError):
        # It does not say when it ends.
        yield f"{WHO}: unreadable", digest.of_bytes(content)[:_SHORT]


def _marks(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    return ((str(path), digest.of_file(path)[:_SHORT]) for path in files if path.is_file())


def _releases(host: Host) -> Iterator[tuple[str, str]]:
    layout = host.layout
    yield "current", layout.current_release() or "none"
    current = layout.current.resolve()
    if (current / "config.json").is_file():
        yield "configuration", _description(current / "config.json")
    if layout.releases.is_dir():
        for path in sorted(layout.releases.iterdir()):
            # Those that a failed build left are removed by the next one.
            if not path.name.startswith(".") or path.name.startswith(".drill-"):
                yield path.name, "exists"


def _unit_files(directories: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Our unit files, their drop-ins, and the links that enable them."""
    for path in parts.unit_files(directories):
        members = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else [path]
        for each in members:
            yield str(each), _description(each)


def _units(host: Host) -> Iterator[tuple[str, str]]:
    for name in (*parts.UNITS, *_OTHERS):
        if "@." in name:
            continue
        shown = host.show(name, *_PROPERTIES)
        if shown.get("LoadState") != "loaded":
            continue
        quota = shown.get("CPUQuotaPerSecUSec", "infinity")
        limited = "" if quota in ("", "infinity") else f", processor time {quota}"
        # A unit that runs from time to time is sometimes active.
        active = "" if shown.get("Type") == "oneshot" else f"{_settled(shown.get('ActiveState', ''))}, "
        yield name, f"{active}{shown.get('UnitFileState') or 'without a file'}{limited}"


def _settled(active: str) -> str:
    """The state of a unit without the short ones between two others."""
    # Not "activating": a service that fails again and again is in that state between its starts.
    return {"reloading": "active", "deactivating": "inactive"}.get(active, active)


def _frozen(host: Host) -> Iterator[tuple[str, str]]:
    for name in (*parts.UNITS, *_OTHERS):
        if not name.endswith(".service") or "@." in name:
            continue
        file = frozen_file(host, name)
        if file and file.read_text().strip() == "1":
            yield name, "its control group is frozen"
        elif stopped := [pid for pid in host.processes(name) if host.process_state(pid) == "T"]:
            yield name, f"{len(stopped)} stopped processes"


def _firewall(host: Host) -> Iterator[tuple[str, str]]:
    status, output = host.run(host.places.nft, "--stateless", "list", "ruleset", seconds=_SECONDS)
    if status == 127:
        return
    if status:
        raise OSError(output.strip())
    for table in re.split(r"^(?=table )", output, flags=re.MULTILINE):
        if table.strip():
            yield table.partition("{")[0].strip(), digest.of_text(table)[:_SHORT]


def _mounts(host: Host) -> Iterator[tuple[str, str]]:
    for point, sources in step.mounts(host.places.proc).items():
        if not _FLEETING.match(point):
            yield point, ", ".join(sources)


def _queues(host: Host) -> Iterator[tuple[str, str]]:
    """The queueing disciplines of the network interfaces, which delay or drop packets."""
    status, output = host.run("tc", "qdisc", "show", seconds=_SECONDS)
    for line in output.splitlines() if status == 0 else ():
        words = line.split()
        if "dev" in words[:-1]:
            interface = words[words.index("dev") + 1]
            yield f"{interface} {words[2]}", f"{words[1]} {' '.join(words[words.index('dev') + 2 :])}"


def _disks(directories: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for directory in directories:
        if not directory.is_dir():
            continue
        status = os.statvfs(directory)
        yield str(directory), _room(status.f_bavail, status.f_blocks)
        yield f"inodes of {directory}", _room(status.f_favail, status.f_files)


def _room(free: int, total: int) -> str:
    if not total:
        return "free"
    percent = 100 * free / total
    return "full" if percent < _FULL_PERCENT else "scarce" if percent < _SCARCE_PERCENT else "free"


def _leftovers(host: Host) -> Iterator[tuple[str, str]]:
    """What an undone drill must not leave: running programs and kept files."""
    for directory in host.places.proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (directory / "cmdline").read_bytes().split(b"\0")
            if str(host.places.program).encode() in arguments:
                yield f"process {b' '.join(arguments).decode(errors='replace').strip()}", "runs"
    kept = host.places.directory / KEPT
    if kept.is_dir():
        yield str(kept), f"{len(list(kept.iterdir()))} files"
