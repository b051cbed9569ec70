"""What prevents a removal, because it would remove what is not ours. Found before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.removal import parts

# Their content may belong to other hosts.
_REMOTE = re.compile(r"nfs|cifs|smb|ceph|gluster|9p|afs|lustre|fuse")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A mount point, and the type of its file system."""

    path: Path
    kind: str


def mounts(mountinfo: str) -> list[Mount]:
    """The mount points of /proc/self/mountinfo [proc_pid_mountinfo(5)]."""
    found = []
    for line in mountinfo.splitlines():
        fields, _, others = line.partition(" - ")
        if others and len(columns := fields.split(" ")) > 4:
            path = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), columns[4])
            found.append(Mount(Path(path), others.split(" ")[0]))
    return found


def of_paths(removed: Iterable[Path], mounted: Sequence[Mount]) -> Iterator[str]:
    """Links and mount points by which a removal would leave our directories."""
    for path in removed:
        if path.is_symlink() and not _is_our_link(path):
            yield (
                f"{path} is a symlink to {path.readlink()}, which is not followed. Move what is ours"
                " from there to a directory at this path, or remove it with the link"
            )
        for mount in mounted:
            if mount.path != path and mount.path.is_relative_to(path):
                yield f"{mount.path} is a mount point in {path}. Unmount it"
            elif mount.path == path and _REMOTE.match(mount.kind):
                yield (
                    f"{path} is on a remote file system ({mount.kind}), which other hosts may use. Unmount it"
                )


def of_command(command: Path = paths.COMMAND, releases: Path = paths.RELEASE_ROOT) -> Iterator[str]:
    """A program of somebody else in the place of ours."""
    is_ours = command.is_symlink() and command.readlink().is_relative_to(releases)
    if not is_ours and (command.is_symlink() or command.exists()):
        yield f"{command} is not the link to the release that a deployment makes. Move it away"


def of_repositories(repositories: Iterable[Path], removed: Sequence[Path]) -> Iterator[str]:
    """Backup repositories on the host's own disk that would be removed."""
    for repository in repositories:
        place = repository.resolve()
        for path in removed:
            if place.is_relative_to(path) or path.is_relative_to(place):
                yield (
                    f"The backup repository {repository} is in {path}, which would be removed. Move it to"
                    " another directory, and set backup_repository"
                )
                break


def of_processes(user: int, proc: Path = paths.PROC) -> Iterator[str]:
    """Processes of the service's user that are not of our units: the user cannot be removed then."""
    foreign = []
    for directory in proc.glob("[0-9]*"):
        try:
            if directory.stat().st_uid != user:
                continue
            units = (directory / "cgroup").read_text().replace("\n", "/").split("/")
            name = (directory / "comm").read_text().strip()
        except OSError:
            # It has ended.
            continue
        if not any(parts.is_unit(unit) for unit in units):
            foreign.append(f"{name} ({directory.name})")
    if foreign:
        yield (
            f"the user {paths.SERVICE_USER} has processes of its own: {', '.join(sorted(foreign))}. End them"
            " or keep the user with -e keep=data"
        )


def _is_our_link(path: Path) -> bool:
    # systemd makes a link to a private directory if a unit has a user only while it runs.
    return path in parts.LINKS or path.resolve() == path.parent.resolve() / "private" / path.name
