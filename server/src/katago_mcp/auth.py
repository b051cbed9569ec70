"""Bearer tokens: who can call, with which scope, and how often."""

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mcp.server.auth.provider import AccessToken
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from katago_mcp.config import ConfigError, RateLimit
from katago_mcp.logs import Log

ANALYZE, ADMIN = "analyze", "admin"
ANONYMOUS = "anonymous"

_log = Log(__name__)


class _Token(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    scopes: Annotated[list[Literal["analyze", "admin"]], Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    token: Annotated[str, Field(min_length=16)] | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> "_Token":
        if (self.sha256 is None) == (self.token is None):
            raise ValueError("set exactly one of sha256 and token")
        return self

    @property
    def digest(self) -> bytes:
        if self.sha256 is not None:
            return bytes.fromhex(self.sha256)
        return hashlib.sha256((self.token or "").encode()).digest()


class _TokensFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    tokens: Annotated[list[_Token], Field(min_length=1)]


@dataclass(frozen=True)
class Identity:
    """A valid token: its name in the tokens file, and its scopes."""

    name: str
    scopes: tuple[str, ...]


class Tokens:
    """The tokens of one file: `{"tokens": [{"name", "scopes", "sha256" or "token"}]}`.

    The file is read again when it changes. If a changed file is not valid, the server logs an error and
    keeps the previous tokens, so that an editing mistake does not lock everybody out.
    """

    def __init__(self, path: Path) -> None:
        self.problems: tuple[str, ...] = ()
        """What is wrong with the current file; empty if its tokens are in force."""
        self._path = path
        self._stamp = _stamp(path)
        self._tokens, self._sha256 = _read(path)

    def identify(self, secret: str) -> Identity | None:
        """Find the identity of a token, in constant time; None if the token is unknown."""
        self._refresh()
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        identity: Identity | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                identity = Identity(token.name, tuple(token.scopes))
        return identity

    def reload(self) -> None:
        """Read the file again, changed or not. `problems` is empty if the file is valid."""
        self._stamp = _stamp(self._path)
        before = self._sha256
        try:
            self._tokens, self._sha256 = _read(self._path)
        except ConfigError as error:
            self.problems = error.problems
            _log.error("tokens_not_reloaded", problems=list(error.problems))
            return
        self.problems = ()
        if self._sha256 != before:
            _log.info("tokens_reloaded", tokens=len(self._tokens))

    def as_json(self) -> dict[str, object]:
        """The number of tokens in force and the sha256 of their file; no secrets."""
        return {"tokens": len(self._tokens), "sha256": self._sha256}

    async def verify_token(self, token: str) -> AccessToken | None:
        """Verify a token for the MCP SDK (`mcp.server.auth.provider.TokenVerifier`)."""
        identity = self.identify(token)
        if identity is None:
            return None
        # The SDK stores the access token with the session, so it gets the name instead of the secret.
        return AccessToken(token=identity.name, client_id=identity.name, scopes=list(identity.scopes))

    def _refresh(self) -> None:
        if _stamp(self._path) != self._stamp:
            self.reload()


class RateLimiter:
    """A token bucket for every bearer token: `burst` calls at once, refilled evenly.

    `config` returns the limit in force.
    """

    def __init__(self, config: Callable[[], RateLimit]) -> None:
        self._config = config
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> float | None:
        """Take one call from the bucket of `name`. Returns None if allowed, else the seconds to wait."""
        config = self._config()
        if not config.enabled:
            return None
        now = time.monotonic()
        rate = config.requests_per_minute / 60
        level, at = self._buckets.get(name, (float(config.burst), now))
        level = min(config.burst, level + (now - at) * rate)
        granted = level >= 1
        self._buckets[name] = (level - 1 if granted else level, now)
        return None if granted else (1 - level) / rate


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    # Includes ctime: when only the mode changes and the file becomes readable, mtime stays the same.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _read(path: Path) -> tuple[Sequence[_Token], str]:
    """Read the tokens of a file, and the sha256 of its content."""
    try:
        content = path.read_bytes()
        file = _TokensFile.model_validate_json(content)
    except OSError as error:
        raise ConfigError(
            [f"auth.tokensFile: {path} cannot be read ({error.strerror}): make it readable"]
        ) from error
    except ValidationError as error:
        raise ConfigError(
            [
                f"auth.tokensFile: {path}: {'.'.join(map(str, detail['loc'])) or 'file'}: "
                f"{detail['msg']}: correct it"
                for detail in error.errors(include_url=False, include_input=False)
            ]
        ) from error
    names = [token.name for token in file.tokens]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ConfigError([f"auth.tokensFile: {path}: the name {duplicates[0]!r} occurs twice: rename one"])
    return file.tokens, hashlib.sha256(content).hexdigest()
