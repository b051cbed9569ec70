"""The files of the service's credentials: what they must be, and whether they are so."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials

ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "tokens": {"type": "list", "elements": "dict", "required": True, "no_log": False},
    "session_key": {"type": "str", "default": "", "no_log": True},
    "shared_cache_password": {"type": "str", "default": "", "no_log": True},
    "shared_cache_ca": {"type": "str", "default": ""},
    "certificate": {"type": "str", "default": ""},
    "key": {"type": "str", "default": "", "no_log": True},
    "directory": {"type": "path", "default": str(paths.CREDENTIALS)},
    "group": {"type": "str", "default": paths.SERVICE_GROUP},
}
"""The options that modules with these files have."""
OPERATOR = "operator"
SHORTEST_TOKEN = 20


def tokens_file(tokens: list[dict[str, Any]], operator: str) -> str:
    """The content of tokens.json: the tokens `tokens` and the host's own token."""
    own = {"name": OPERATOR, "scopes": ["analyze", "admin"], "sha256": digest.of_text(operator)}
    return json.dumps({"tokens": [*tokens, own]}, indent=1) + "\n"


def own_session_key(path: Path) -> str:
    """The key that the host has; a new one if it has none that is long enough."""
    present = (credentials.content(path) or b"").decode(errors="replace").strip()
    return present if len(present) >= credentials.SHORTEST_SESSION_KEY else secrets.token_hex(32)


@dataclass(frozen=True)
class Kept:
    """The required state of a file: content, mode, and numeric group id. The current user owns the file."""

    content: str
    mode: int
    group: int

    def lies_at(self, path: Path) -> bool:
        """Whether the file at `path` is in this state."""
        return is_access(path, self.mode, self.group) and credentials.content(path) == self.content.encode()

    def write(self, path: Path) -> None:
        """Replace or create the file."""
        common_files.write(path, self.content.encode(), mode=self.mode, group=self.group)


def is_access(path: Path, mode: int, group: int) -> bool:
    """Whether `path` exists, with this mode and group, and the current user owns it."""
    if not path.exists():
        return False
    status = path.stat()
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, os.geteuid(), group)


def present_token(path: Path) -> str | None:
    """The host's own token; None if its file is missing or damaged, a truncated one for example."""
    token = (credentials.content(path) or b"").decode(errors="replace").strip()
    return token if len(token) >= SHORTEST_TOKEN and token.isascii() and token.isprintable() else None


def files(
    directory: Path,
    tokens: str,
    operator: str,
    session_key: str,
    certificate: str,
    key: str,
    group: int,
    *,
    shared_cache_password: str = "",
    shared_cache_ca: str = "",
) -> dict[Path, Kept]:
    """Every required file; certificate and key only if there is a certificate. `group`: the service's.

    The password and the certificates of the shared cache are required if they are not empty.
    """
    own = os.getegid()
    required = {
        directory / paths.OPERATOR_TOKEN: Kept(f"{operator}\n", 0o600, own),
        directory / paths.TOKENS: Kept(tokens, credentials.TOKENS_MODE, group),
        directory / paths.SESSION_KEY: Kept(f"{session_key}\n", credentials.TOKENS_MODE, group),
    }
    if certificate:
        required[directory / paths.KEY] = Kept(key, 0o600, own)
        required[directory.parent / paths.CERTIFICATE] = Kept(certificate, 0o644, own)
    if shared_cache_password:
        password = Kept(f"{shared_cache_password}\n", credentials.TOKENS_MODE, group)
        required[directory / paths.SHARED_CACHE_PASSWORD] = password
    if shared_cache_ca:
        required[directory.parent / paths.SHARED_CACHE_CA] = Kept(shared_cache_ca, 0o644, own)
    return required


def directory(parameters: Mapping[str, Any]) -> Path:
    """The directory of credentials, by the options in `ARGUMENTS`."""
    return Path(parameters["directory"])


def required(parameters: Mapping[str, Any], group: int | None) -> dict[Path, Kept]:
    """Every file that a host must have, by the options in `ARGUMENTS`.

    `group`: the service's; None if it does not exist yet. Then no file can have it.
    """
    place = directory(parameters)
    token = present_token(place / paths.OPERATOR_TOKEN) or secrets.token_urlsafe(32)
    return files(
        place,
        tokens_file(parameters["tokens"], token),
        token,
        parameters["session_key"].strip() or own_session_key(place / paths.SESSION_KEY),
        parameters["certificate"],
        parameters["key"],
        -1 if group is None else group,
        shared_cache_password=parameters["shared_cache_password"].strip(),
        shared_cache_ca=parameters["shared_cache_ca"],
    )


def wrong(required: Mapping[Path, Kept]) -> dict[Path, Kept]:
    """The required files that are missing or differ."""
    return {path: file for path, file in required.items() if not file.lies_at(path)}
