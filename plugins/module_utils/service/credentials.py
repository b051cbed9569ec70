"""The credentials of the service: who may read them, and what systemd passed to a process."""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths

TOKENS_MODE = 0o640
CREDENTIALS_MODE = 0o710
# For a trial: the server takes the tokens that systemd hands to it, not those that its configuration names.
HANDED_TOKENS = "KATAGO_AUTH_TOKENS_FILE="


def wanted(unit: str) -> dict[str, Path]:
    """The credentials that a unit file has systemd hand over: where each of them comes from."""
    lines = re.findall(r"^LoadCredential=([^:\n]+):(.+)$", unit, re.M)
    return {name: Path(path) for name, path in lines}


def tokens_file(config: Mapping[str, Any]) -> Path | None:
    """The file of tokens that a configuration has the server read by itself; None when it names none."""
    section = config.get("auth")
    name = section.get("tokensFile") if isinstance(section, Mapping) else None
    return Path(name) if isinstance(name, str) and name else None


def group_id(name: str = paths.SERVICE_GROUP) -> int | None:
    """The numeric id of a group; None when there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def open_directory(directory: Path, group: int) -> None:
    """Have the own user keep a directory, and a group reach the files whose names and modes let it."""
    os.chown(directory, os.geteuid(), group)
    directory.chmod(CREDENTIALS_MODE)


def loaded(pid: int, name: str) -> bytes | None:
    """What systemd handed to a process when it started; None when it was nothing."""
    return content(Path(f"/proc/{pid}/root/run/credentials/{paths.SERVICE_UNIT}/{name}"))


def content(path: Path) -> bytes | None:
    """The content of a credential's file; None when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None
