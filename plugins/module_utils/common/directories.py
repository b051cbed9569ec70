"""Creates directories and corrects owners and modes, independently of the umask of the process."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

OPEN = 0o755
PRIVATE = 0o700
_FILE = 0o644
_PROGRAM = 0o755
# O_PATH needs no permission to read a directory, so that a user can pass through the directories of others.
_ACCESS_CONTROL_LIST = "system.posix_acl_access"
_PASS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def make(
    path: Path, *, own: Path | None = None, mode: int = OPEN, group: int | None = None, check: bool = False
) -> bool:
    """Create a directory and its missing parents; return whether anything was changed.

    `own`: the uppermost directory that is ours. From there down to `path`, every directory gets `mode`, the
    current user as its owner and `group` (a numeric id; None for the process's own), even if it exists.
    Existing directories above it belong to others and stay unchanged; missing ones get mode 0755. Without
    `own`, no existing directory is changed, and the missing ones get `mode`. `check`: change
    nothing, return whether anything would change.

    Raises OSError; PermissionError for a symlink that another user may have made.
    """
    changed = False
    path = path.absolute()
    here = Path(path.anchor)
    with contextlib.ExitStack() as stack:
        parent = stack.enter_context(_opened(here, here, None))
        for part in path.parts[1:]:
            here /= part
            is_own = own is not None and here.is_relative_to(own)
            is_missing = not _exists(part, parent)
            if is_missing and check:
                return True
            is_new = is_missing and _create(here, part, parent)
            if is_own:
                _refuse_planted_link(here, part, parent)
            parent = stack.enter_context(_opened(here, part, parent))
            if is_own:
                changed |= _correct(parent, mode, group, check=check) or is_new
            elif is_new:
                _link_to(parent).chmod(mode if own is None else OPEN)
                changed = True
    return changed


def closed(directories: Iterable[Path]) -> Iterator[str]:
    """A phrase for each existing directory above these that other users cannot pass through.

    A directory with an access control list is not judged: the list may permit it.
    """
    above = {parent for directory in directories for parent in directory.parents}
    for path in sorted(above):
        try:
            status = path.stat()
            has_list = _ACCESS_CONTROL_LIST in os.listxattr(path)
        except FileNotFoundError:
            continue
        except OSError:
            # Some file systems have no extended attributes.
            has_list = False
        if not status.st_mode & stat.S_IXOTH and not has_list:
            yield f"{path} has mode {stat.S_IMODE(status.st_mode):04o} and belongs to user {status.st_uid}"


def seal(tree: Path, *, check: bool = False) -> bool:
    """Make a tree or a file readable by all users and writable only by the current one.

    Directories and programs get mode 0755, other files 0644. Symlinks are not followed. Returns whether
    anything was changed. `check`: as in `make`. Raises OSError.
    """
    changed = False
    if not tree.is_dir():
        with _opened(tree.parent, tree.parent, None) as directory:
            return _seal_file(tree.name, directory, check=check)
    for _, _, names, directory in os.fwalk(tree):
        # First the directory: from then on, nobody else can replace a file in it.
        changed |= _correct(directory, OPEN, None, check=check)
        for name in names:
            changed |= _seal_file(name, directory, check=check)
    return changed


def _seal_file(name: str, directory: int, *, check: bool) -> bool:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        is_foreign = status.st_uid != os.geteuid()
        if is_foreign and not check:
            os.chown(name, os.geteuid(), os.getegid(), dir_fd=directory, follow_symlinks=False)
        return is_foreign
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        mode = _PROGRAM if status.st_mode & stat.S_IXUSR else _FILE
        return _correct(descriptor, mode, None, check=check)
    finally:
        os.close(descriptor)


def _correct(descriptor: int, mode: int, group: int | None, *, check: bool) -> bool:
    """Set owner, group and mode of an open file or directory; return whether they differed."""
    status = os.fstat(descriptor)
    owner = (os.geteuid(), os.getegid() if group is None else group)
    is_foreign = (status.st_uid, status.st_gid) != owner
    if is_foreign and not check:
        os.chown(_link_to(descriptor), *owner)
    is_wrong = is_foreign or stat.S_IMODE(status.st_mode) != mode
    if is_wrong and not check:
        _link_to(descriptor).chmod(mode)
    return is_wrong


def _link_to(descriptor: int) -> Path:
    """The path of an open file in /proc: fchmod(2) and fchown(2) do not take a descriptor of O_PATH."""
    return Path(f"/proc/self/fd/{descriptor}")


def _exists(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _create(path: Path, name: str, parent: int) -> bool:
    """Create a directory that only its owner can enter; False if another process just created it."""
    try:
        os.mkdir(name, PRIVATE, dir_fd=parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    return True


def _refuse_planted_link(path: Path, name: str, parent: int) -> None:
    """Raise PermissionError for a symlink in a directory to which another user can write."""
    if not stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        return
    status = os.fstat(parent)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(
            errno.EPERM, "it is a symlink that another user may have made; remove it", str(path)
        )


@contextlib.contextmanager
def _opened(path: Path, name: str | Path, parent: int | None) -> Iterator[int]:
    try:
        descriptor = os.open(name, _PASS, dir_fd=parent)
    except OSError as error:
        # The name alone does not tell the place.
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
