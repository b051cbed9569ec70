"""The connection to the shared cache: Valkey or Redis, which this server never depends on.

`Connection` owns whether the cache is used. After a few failures nothing asks it any more, until it answers
again in the background.
"""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError, ResponseError

from katago_mcp.config import SharedCache
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.shared_address import Endpoint

FAILURES, FAILURE_SECONDS = 3, 10.0
"""So many failures within so many seconds: then the cache is not asked any more."""

CLOSE_SECONDS = 1.0
_CONNECTIONS = 16
_BACKOFF_MAX = 60.0
_CONNECT_SECONDS = 2.0

# A server that is not Valkey or Redis, or a damaged connection, makes the client raise any of these.
_TROUBLE = (
    RedisError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    AssertionError,
)
_T = TypeVar("_T")
_log = Log(__name__)

Request = Callable[["redis.asyncio.Redis"], Awaitable[_T]]
"""Something to ask the cache, with its client."""


class Password(CredentialProvider):
    """The user and the password of the cache. The file is read for every connection, so it may change."""

    def __init__(self, user: str | None, path: Path | None) -> None:
        self._user = user
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """The password, or the user and the password. Raises OSError if the file cannot be read."""
        password = "" if self._path is None else self._path.read_text("utf-8").strip()
        return (password,) if self._user is None else (self._user, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """As `get_credentials`."""
        return self.get_credentials()


def password_file(config: SharedCache, credentials: str | None) -> Path | None:
    """The file with the password; None without one. `credentials`: systemd's directory of credentials."""
    if config.password_file is not None:
        return config.password_file
    path = None if credentials is None else Path(credentials) / "shared-cache.password"
    return path if path is not None and path.is_file() else None


def file_problems(config: SharedCache, password: Path | None) -> list[str]:
    """The problems with the files that the configuration names. No message contains a password."""
    problems = []
    if password is not None:
        try:
            is_empty = not password.read_text("utf-8").strip()
        except OSError as error:
            problems.append(
                f"sharedCache.passwordFile: {password} cannot be read ({error.strerror}): make it readable"
            )
        except UnicodeDecodeError:
            problems.append(f"sharedCache.passwordFile: {password} is not UTF-8: write the password as text")
        else:
            if is_empty:
                problems.append(f"sharedCache.passwordFile: {password} is empty: write the password into it")
    if config.ca_file is not None:
        try:
            ssl.create_default_context(cafile=config.ca_file)
        except OSError as error:
            reason = "has no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            problems.append(f"sharedCache.caFile: {config.ca_file}: {reason}: correct the file")
    return problems


class Connection:
    """The shared cache as one server reaches it. `run` must run beside it.

    `address`: where it is. `config`: how long to wait for a lookup. `password`: the file with the password,
    if any.
    """

    def __init__(
        self, address: Endpoint, config: SharedCache, password: Path | None, metrics: Metrics
    ) -> None:
        self.is_up = False
        self.seconds = config.timeout_seconds
        self.patience = max(config.timeout_seconds, _CONNECT_SECONDS)
        """Seconds for what no client waits for."""
        self._client = _client(address, config, password, self.patience)
        self._metrics = metrics
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._fell = asyncio.Event()
        self._fell.set()
        self._pause = 0.0
        self._rose = 0.0
        self._trouble: str | None = None
        # The others are for writing, for the generation, and for asking whether the cache answers again.
        self._lookups = asyncio.Semaphore(_CONNECTIONS - 3)
        metrics.shared_state("down")

    async def look_up(self, request: Request[_T]) -> _T | None:
        """Ask for something that a client waits for; None if there is no answer in time."""
        try:
            async with _limited(self.seconds), self._lookups:
                return await request(self._client)
        except _TROUBLE as error:
            self.failed(error)
            return None

    async def tell(self, request: Request[object]) -> bool:
        """Ask for something in the background. Returns whether the cache did it."""
        try:
            async with _limited(self.patience):
                await request(self._client)
        except ResponseError as error:
            # For example, the cache is full, or a replica. It can still be read.
            self._metrics.shared_errors.labels("unavailable").inc()
            self._complain(error)
            return False
        except _TROUBLE as error:
            self.failed(error)
            return False
        return True

    def failed(self, error: Exception) -> None:
        """Count a failure. After a few, the cache is not used."""
        reason = "timeout" if isinstance(error, TimeoutError | redis.TimeoutError) else "unavailable"
        self._metrics.shared_errors.labels(reason).inc()
        now = time.monotonic()
        self._failures.append(now)
        if self.is_up and len(self._failures) == FAILURES and now - self._failures[0] <= FAILURE_SECONDS:
            self._fall(error)

    async def run(self, greet: Request[object]) -> None:
        """While the cache is not used, ask it with `greet` whether it answers again. Runs forever."""
        try:
            while True:
                await self._fell.wait()
                await asyncio.sleep(self._pause)
                try:
                    async with _limited(self.patience):
                        await greet(self._client)
                    # The first request may have had to connect. Now it must be as fast as for a lookup.
                    async with _limited(self.seconds):
                        await greet(self._client)
                except _TROUBLE as error:
                    self._metrics.shared_errors.labels("unavailable").inc()
                    self._complain(error)
                    self._lengthen_pause()
                else:
                    self._rise()
        finally:
            with contextlib.suppress(*_TROUBLE):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._client.aclose()

    def _fall(self, error: Exception) -> None:
        self.is_up = False
        self._failures.clear()
        if time.monotonic() - self._rose > _BACKOFF_MAX:
            self._pause = 0.0
        self._lengthen_pause()
        self._metrics.shared_state("down")
        self._metrics.shared_opened.inc()
        self._complain(error)
        self._fell.set()

    def _rise(self) -> None:
        self._fell.clear()
        self.is_up, self._rose, self._trouble = True, time.monotonic(), None
        self._metrics.shared_state("up")
        _log.info("shared_cache_up")

    def _lengthen_pause(self) -> None:
        self._pause = min(max(2 * self._pause, 1.0), _BACKOFF_MAX)

    def _complain(self, error: Exception) -> None:
        # The texts of the client contain addresses and answers of the server, but no password.
        trouble = f"{type(error).__name__}: {str(error)[:200]}"
        if trouble != self._trouble:
            _log.warning("shared_cache_down", reason=trouble, effect="no answers are shared")
            self._trouble = trouble


@contextlib.asynccontextmanager
async def _limited(seconds: float) -> AsyncIterator[None]:
    """Limit what the client does. Raises TimeoutError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    finally:
        # The client may turn a cancellation into an error of its own, after which its task would go on.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError


def _client(
    address: Endpoint, config: SharedCache, password: Path | None, patience: float
) -> redis.asyncio.Redis:
    options: dict[str, Any] = {
        "unix_socket_path": None if address.socket is None else str(address.socket),
        "host": address.host,
        "port": address.port,
        "ssl": address.tls,
    }
    if address.tls:
        options["ssl_ca_certs"] = None if config.ca_file is None else str(config.ca_file)
    if password is not None or address.user is not None:
        options["credential_provider"] = Password(address.user, password)
    return redis.asyncio.Redis(
        **options,
        db=address.database,
        protocol=2,
        max_connections=_CONNECTIONS,
        socket_timeout=patience,
        socket_connect_timeout=patience,
        retry=Retry(NoBackoff(), 0),
        # Without the name and the version of the client, which a user's ACL need not allow.
        driver_info=None,
    )
