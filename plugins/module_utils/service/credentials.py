"""The service's credentials: who may read them, and which ones systemd passed to a process."""

from __future__ import annotations

import grp
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import directories

TOKENS_MODE = 0o640
CREDENTIALS_MODE = 0o710
# Characters of a key that signs the ids of sessions. The server refuses shorter ones.
SHORTEST_SESSION_KEY = 32
# For a pre-flight validation: the server uses the tokens that systemd passes, not the configured file.
HANDED_TOKENS = "KATAGO_AUTH_TOKENS_FILE="


def in_unit(unit: str) -> dict[str, Path]:
    """The credentials that systemd passes to a service with this unit file: name to source path."""
    lines = re.findall(r"^LoadCredential=([^:\n]+):(.+)$", unit, re.M)
    return {name: Path(path) for name, path in lines}


def tokens_file(config: Mapping[str, Any]) -> Path | None:
    """The tokens file of a configuration, which the server reads itself; None if it names none."""
    section = config.get("auth")
    name = section.get("tokensFile") if isinstance(section, Mapping) else None
    return Path(name) if isinstance(name, str) and name else None


def group_id(name: str = paths.SERVICE_GROUP) -> int | None:
    """The numeric id of a group; None if the group does not exist."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def open_directory(directory: Path, group: int, *, check: bool = False) -> bool:
    """Create the directory of credentials or correct it; return whether anything was changed.

    `group` may enter it but not list it. `check`: change nothing.
    """
    changed = directories.make(directory.parent, own=directory.parent, check=check)
    return changed | directories.make(
        directory, own=directory, mode=CREDENTIALS_MODE, group=group, check=check
    )


def loaded(pid: int, name: str) -> bytes | None:
    """The content of a credential that systemd passed to a process; None if it cannot be read."""
    return content(Path(f"/proc/{pid}/root/run/credentials/{paths.SERVICE_UNIT}/{name}"))


def operator_token() -> str:
    """The host's own token; empty if it is missing or damaged."""
    token = (content(paths.CREDENTIALS / paths.OPERATOR_TOKEN) or b"").decode(errors="replace").strip()
    return token if token.isascii() and token.isprintable() else ""


def content(path: Path) -> bytes | None:
    """The content of a credential's file; None if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None
