"""Signed session ids, which every host that has the same key can verify without asking another host.

An id is the base64url form of 16 random bytes, the time of issue in seconds since 1970 (4 bytes) and the
protocol's version, a dot, and 16 bytes of an HMAC-SHA256 of them and of the owner's name. These are 63
characters, all of which the protocol allows [MCP 2025-11-25, Session Management].
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from katago_mcp.config import ConfigError
from katago_mcp.logs import Log

SHORTEST_KEY = 32
"""Minimum characters of a key."""

_log = Log(__name__)
_RANDOM_BYTES = 16
_TIME_BYTES = 4
_SIGNATURE_BYTES = 16
_CLOCKS_DIFFER_SECONDS = 300
"""The most that the clock of the issuing host may be ahead."""


class SessionKeys:
    """The keys of a file, one a line. The file is read again when it changes.

    Without a path, or while the file does not exist: a random key, so that sessions end with the process.
    If a changed file is not valid, the server logs an error and keeps the previous keys.
    """

    def __init__(self, path: Path | None) -> None:
        """Read the keys. Raises ConfigError."""
        self._path = path
        self._stamp = _stamp(path)
        self._keys = tuple(configured_keys(path))
        if not self._keys:
            self._keys = (secrets.token_bytes(SHORTEST_KEY),)
            if path is not None:
                _log.warning("session_key_missing", path=str(path), effect="sessions end with the process")

    def __call__(self) -> tuple[bytes, ...]:
        """The keys in force, at least one."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                # A file that is gone changes nothing: sessions that are open keep their key.
                self._keys = tuple(configured_keys(self._path)) or self._keys
            except ConfigError as error:
                _log.error("session_key_not_reloaded", problems=list(error.problems))
            else:
                _log.info("session_key_reloaded", keys=len(self._keys))
        return self._keys


class SessionIds:
    """Issues and verifies ids.

    `keys`: returns the keys. The first one signs, all of them verify, so that a key can be replaced host by
    host.
    `lifetime`: returns the seconds for which an id is valid.
    """

    def __init__(self, keys: Callable[[], Sequence[bytes]], lifetime: Callable[[], float]) -> None:
        self._keys = keys
        self._lifetime = lifetime

    def issue(self, owner: str, version: str) -> str:
        """A new id for a session of `owner` that speaks `version` of the protocol."""
        issued = int(time.time()).to_bytes(_TIME_BYTES, "big")
        content = secrets.token_bytes(_RANDOM_BYTES) + issued + version.encode("ascii")
        return f"{_encode(content)}.{_encode(_signature(self._keys()[0], content, owner))}"

    def verify(self, session_id: str, owner: str) -> str | None:
        """The protocol's version of a session that `owner` opened on a host with one of the keys.

        None if the id is of another owner, forged, damaged, or too old.
        """
        content, signature = (_decode(part) for part in session_id.partition(".")[::2])
        if not any(hmac.compare_digest(signature, _signature(key, content, owner)) for key in self._keys()):
            return None
        issued = int.from_bytes(content[_RANDOM_BYTES : _RANDOM_BYTES + _TIME_BYTES], "big")
        age = time.time() - issued
        version = content[_RANDOM_BYTES + _TIME_BYTES :].decode("ascii", "replace")
        valid = -_CLOCKS_DIFFER_SECONDS <= age <= self._lifetime()
        return version if valid and version in HANDSHAKE_PROTOCOL_VERSIONS else None


def configured_keys(path: Path | None) -> list[bytes]:
    """The keys in a file, one a line; empty if no file is configured, or if it does not exist.

    Raises:
        ConfigError: if the file cannot be read, has no key, or has one that is too short.
    """
    if path is None:
        return []
    try:
        lines = [line.strip() for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            [f"auth.sessionKeyFile: {path} cannot be read ({error.strerror}): make it readable"]
        ) from error
    for number, line in enumerate(lines, 1):
        if 0 < len(line) < SHORTEST_KEY:
            raise ConfigError(
                [
                    f"auth.sessionKeyFile: {path}: the key in line {number} has {len(line)} characters: "
                    f"use at least {SHORTEST_KEY}, for example those of `openssl rand -hex 32`"
                ]
            )
    keys = [line for line in lines if line]
    if not keys:
        raise ConfigError(
            [f"auth.sessionKeyFile: {path} has no key: write one of at least {SHORTEST_KEY} characters"]
        )
    return keys


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _signature(key: bytes, content: bytes, owner: str) -> bytes:
    # The content has a fixed length for each version, so it cannot run into the owner's name.
    message = len(content).to_bytes(2, "big") + content + owner.encode("utf-8", "surrogatepass")
    return hmac.digest(key, message, hashlib.sha256)[:_SIGNATURE_BYTES]


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _decode(text: str) -> bytes:
    """The bytes of a text; empty if it is not the one spelling of them."""
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    except (ValueError, binascii.Error):
        return b""
    return content if _encode(content) == text else b""
