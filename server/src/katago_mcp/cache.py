"""The cache of answers on disk: SQLite with a checksum for every entry, limited in number, size and age.

SQLite runs in one worker thread, because a disk can stall for seconds and the event loop must
continue to answer heartbeats. A lookup that takes too long counts as a miss. No failure of the cache
stops an analysis: a damaged file is quarantined and replaced; with a full disk, the server works uncached.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic_core import to_json

from katago_mcp.config import Cache as CacheConfig
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics, probing
from katago_mcp.shared_cache import SharedAnswers
from katago_mcp.shared_generation import order_another

FILE = "answers.sqlite3"
_DEADLINE = 2.0
_BACKLOG = 64
_QUARANTINED_MAX = 8
_TOUCHED_MAX = 500
_RECENT_MAX = 64
_RECENT_BYTES = 65_536
"""Recently read answers that are kept in memory: their number, and the maximum size of each in bytes."""
_VERSION = 1

_Kind = Literal["read", "write"]
"""The kind of disk access. An operation that works without writing is a read."""

_T = TypeVar("_T")
_log = Log(__name__)


class CacheTrouble(Exception):
    """A cache operation failed; the text says why."""


@dataclass(frozen=True)
class Size:
    """The number of cached answers, and their size in bytes."""

    entries: int
    bytes: int


def key(parts: dict[str, Any]) -> str:
    """The key of an answer: a digest of everything that affects it.

    `parts` is JSON without NaN. The order of its keys matters: another order gives another key.
    """
    return hashlib.sha256(to_json(parts)).hexdigest()


class Cache:
    """The cache of one server. It works in any state of its file.

    `config` returns the limits in force. The directory does not change.
    `shared`: a cache that is asked for what this one does not have; None without one.
    """

    def __init__(
        self, config: Callable[[], CacheConfig], metrics: Metrics, shared: SharedAnswers | None = None
    ) -> None:
        self._config = config
        # Probes test the engine of this host, so they never use the shared cache.
        self._shared = shared
        self._store = _Store(config)
        self._metrics = metrics
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cache")
        self._waiting = 0
        self._troubles: dict[_Kind, str] = {}
        metrics.cache_max_size.set(config().max_size_bytes)

    async def get(self, name: str) -> bytes | None:
        """The cached answer for a key as JSON text, or None."""
        value = self._store.recent(name)
        if value is None:
            with contextlib.suppress(CacheTrouble):
                value = await self._run("read", lambda: self._store.get(name), _DEADLINE)
        if value is None and self._shared is not None and not probing.get():
            value = await self._get_shared(self._shared, name)
        self._metrics.cache_lookup(hit=value is not None)
        return value

    async def put(self, name: str, answer: dict[str, Any]) -> None:
        """Store an answer under a key. A failure is logged and ignored."""
        value = json.dumps(answer, separators=(",", ":"), allow_nan=False).encode()
        if self._shared is not None and not probing.get():
            self._shared.put(name, value)
        await self._keep(name, value, time.time())

    async def clear(self) -> tuple[Size, Size]:
        """Delete all answers. Returns the sizes before and after.

        Raises:
            CacheTrouble: if the answers could not be deleted.
        """
        # First: a clearing that is interrupted must not leave shared answers that come back.
        is_ordered = self._shared is None or await self._end_shared(self._shared)
        before, after = await self._run("write", self._store.clear, 10 * _DEADLINE)
        self._show(after)
        if self._shared is not None and not is_ordered:
            # On a full disk, there may be room only now.
            await self._run("write", self._shared.order_end, _DEADLINE)
        return before, after

    async def fit(self) -> None:
        """Open the file, evict what exceeds the limits in force, and update the size metrics."""
        self._metrics.cache_max_size.set(self._config().max_size_bytes)
        with contextlib.suppress(CacheTrouble):
            self._show(await self._run("read", self._store.fit, 10 * _DEADLINE))

    async def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(CacheTrouble):
            await self._run("read", self._store.close, _DEADLINE)
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _end_shared(self, shared: SharedAnswers) -> bool:
        """End the shared answers. Returns whether they also stay ended if the server stops now."""
        try:
            await self._run("write", shared.order_end, _DEADLINE)
            is_ordered = True
        except CacheTrouble:
            shared.end()
            is_ordered = False
        await shared.ended()
        return is_ordered

    async def _get_shared(self, shared: SharedAnswers, name: str) -> bytes | None:
        answer = await shared.get(name)
        if answer is None:
            return None
        await self._keep(name, answer.value, answer.created / 1e6)
        return answer.value

    async def _keep(self, name: str, value: bytes, created: float) -> None:
        with contextlib.suppress(CacheTrouble):
            self._show(await self._run("write", lambda: self._store.put(name, value, created), _DEADLINE))

    async def _run(self, kind: _Kind, work: Callable[[], _T], seconds: float) -> _T:
        if self._waiting >= _BACKLOG:
            raise self._failed(kind, "the disk is too slow")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._worker, work)
        future.add_done_callback(self._finished)
        try:
            async with asyncio.timeout(seconds):
                result = await asyncio.shield(future)
        except TimeoutError as error:
            raise self._failed(kind, f"no answer within {seconds:g} s") from error
        except (sqlite3.Error, OSError) as error:
            raise self._failed(kind, f"{type(error).__name__}: {error}") from error
        # Reading also works on a full disk, so a successful read does not end a write failure.
        if self._troubles.pop(kind, None) is not None and not self._troubles:
            _log.info("cache_recovered")
        return result

    def _finished(self, future: "asyncio.Future[Any]") -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()

    def _failed(self, kind: _Kind, trouble: str) -> CacheTrouble:
        self._metrics.cache_errors.inc()
        if trouble != self._troubles.get(kind):
            _log.warning("cache_trouble", operation=kind, reason=trouble)
            self._troubles[kind] = trouble
        return CacheTrouble(trouble)

    def _show(self, size: Size) -> None:
        self._metrics.cache_size.set(size.bytes)
        self._metrics.cache_entries.set(size.entries)


@dataclass(frozen=True)
class _Recent:
    """An answer read from the file, when it was created, and the stamp that the file had."""

    value: bytes
    created: float
    stamp: tuple[int, ...]


class _Store:
    """The SQLite file. All methods except `recent` run in the worker thread."""

    def __init__(self, bounds: Callable[[], CacheConfig]) -> None:
        self._bounds = bounds
        self._path = bounds().directory / FILE
        self._stamped = str(self._path), f"{self._path}-wal"
        self._db: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._size = Size(0, 0)
        # Last read times that are not in the file yet. Writing each of them at once would be slow.
        self._touched: dict[str, float] = {}
        self._recent: OrderedDict[str, _Recent] = OrderedDict()

    def recent(self, name: str) -> bytes | None:
        """A recently read answer, if the file has not changed since. Does not block."""
        recent = self._recent.get(name)
        if recent is None:
            return None
        now = time.time()
        if recent.stamp != self._stamp() or now - recent.created > self._bounds().ttl_seconds:
            return None
        self._touched[name] = now
        return recent.value

    def size(self) -> Size:
        return self._retried(lambda _: self._size)

    def get(self, name: str) -> bytes | None:
        def read(db: sqlite3.Connection) -> bytes | None:
            stamp = self._stamp()
            row = db.execute("SELECT value, digest, created FROM answers WHERE key = ?", (name,)).fetchone()
            if row is None:
                return None
            value: bytes
            value, digest, created = row
            if not _sound(name, value, digest):
                _log.warning("cache_entry_damaged")
                self._delete(db, name)
                return None
            now = time.time()
            if now - created > self._bounds().ttl_seconds:
                self._delete(db, name)
                return None
            self._touched[name] = now
            if len(self._touched) >= _TOUCHED_MAX:
                # On a full disk, reading works, but recording the read time may fail.
                with contextlib.suppress(sqlite3.OperationalError), db:
                    self._note_use(db)
            if stamp is not None and len(value) <= _RECENT_BYTES:
                self._recent[name] = _Recent(value, created, stamp)
                self._recent.move_to_end(name)
                if len(self._recent) > _RECENT_MAX:
                    self._recent.popitem(last=False)
            return value

        return self._retried(read)

    def put(self, name: str, value: bytes, created: float) -> Size:
        if len(value) > self._bounds().max_size_bytes:
            return self._size

        def write(db: sqlite3.Connection) -> Size:
            now = time.time()
            with db:
                self._note_use(db)
                db.execute(
                    "INSERT OR REPLACE INTO answers (key, value, digest, size, created, used) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (name, value, _digest(name, value), len(value), created, now),
                )
                self._size = _measure(db)
                if self._over():
                    self._evict(db, now)
            return self._size

        return self._retried(write)

    def clear(self) -> tuple[Size, Size]:
        """Delete all answers. On a full disk, SQLite cannot do that, so the file itself is deleted."""
        before: Size | None = None

        def empty(db: sqlite3.Connection) -> tuple[Size, Size]:
            nonlocal before
            before = _measure(db)
            self._size = _empty(db)
            return before, self._size

        try:
            return self._retried(empty)
        except (sqlite3.Error, OSError) as error:
            if not _needs_space(error):
                raise
            self._disconnect()
            before = before or _measure_unopened(self._path)
            _remove(self._path)
            self._size = Size(0, 0)
            return before, self._size

    def fit(self) -> Size:
        def shrink(db: sqlite3.Connection) -> Size:
            if self._over():
                with db:
                    self._note_use(db)
                    self._evict(db, time.time())
                _compact(db)
            return self._size

        return self._retried(shrink)

    def close(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error), self._db:
                self._note_use(self._db)
        self._disconnect()

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _retried(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` on the file. If the file is damaged, run it once more on a new file."""
        try:
            return work(self._open())
        except sqlite3.DatabaseError as error:
            if not _damaged(error):
                raise
            self.quarantine(error)
            return work(self._open())

    def _open(self) -> sqlite3.Connection:
        if self._db is not None and self._inode == _inode(self._path):
            return self._db
        self._disconnect()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=_DEADLINE / 2, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"malformed: version {version} is not {_VERSION}")
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"malformed: {verdict}")
            with db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS answers ("
                    "key TEXT PRIMARY KEY, value BLOB NOT NULL, digest BLOB NOT NULL, size INTEGER "
                    "NOT NULL, created REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID"
                )
                db.execute("CREATE INDEX IF NOT EXISTS used ON answers (used, size)")
                db.execute(f"PRAGMA user_version = {_VERSION:d}")
            self._size = _measure(db)
        except BaseException:
            db.close()
            raise
        self._db, self._inode = db, _inode(self._path)
        return db

    def quarantine(self, error: sqlite3.Error) -> Path:
        """Move a damaged file to quarantine. Returns its new path."""
        self._disconnect()
        quarantined = list(self._path.parent.glob(f"{FILE}.damaged-*"))
        if len(quarantined) >= _QUARANTINED_MAX:
            raise sqlite3.OperationalError(
                f"{self._path.parent} has {len(quarantined)} damaged files: check the disk, then delete them"
            ) from error
        target = self._path.with_name(f"{FILE}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{len(quarantined)}")
        _log.error("cache_damaged", reason=str(error), quarantine=target.name)
        self._path.rename(target)
        # Move the journal too: the new file must not replay the journal of the damaged one.
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(FILE + suffix).rename(f"{target}{suffix}")
        return target

    def _note_use(self, db: sqlite3.Connection) -> None:
        # Swapped in one step, because the event loop adds to it.
        touched, self._touched = self._touched, {}
        uses = [(used, name) for name, used in list(touched.items())]
        db.executemany("UPDATE answers SET used = ? WHERE key = ?", uses)

    def _stamp(self) -> tuple[int, ...] | None:
        """A stamp that changes with every write to the file by any process; None without a file."""
        try:
            files = [os.stat(path) for path in self._stamped]  # noqa: PTH116 - a Path takes three times as long
        except OSError:
            return None
        return tuple(part for status in files for part in (status.st_ino, status.st_size, status.st_mtime_ns))

    def _over(self) -> bool:
        config = self._bounds()
        return self._size.entries > config.max_items or self._size.bytes > config.max_size_bytes

    def _evict(self, db: sqlite3.Connection, now: float) -> None:
        """Delete expired answers, then the least recently used ones, down to 9/10 of the limits."""
        config = self._bounds()
        db.execute("DELETE FROM answers WHERE created < ?", (now - config.ttl_seconds,))
        self._size = _measure(db)
        entries, size = self._size.entries, self._size.bytes
        if self._over():
            goal_entries = max(1, config.max_items * 9 // 10)
            goal_bytes = config.max_size_bytes * 9 // 10
            victims = []
            for name, bytes_ in db.execute("SELECT key, size FROM answers ORDER BY used"):
                if entries <= goal_entries and size <= goal_bytes:
                    break
                victims.append((name,))
                entries, size = entries - 1, size - bytes_
            db.executemany("DELETE FROM answers WHERE key = ?", victims)
            self._size = _measure(db)

    def _delete(self, db: sqlite3.Connection, name: str) -> None:
        with db:
            db.execute("DELETE FROM answers WHERE key = ?", (name,))
        self._size = _measure(db)


@dataclass(frozen=True)
class Verdict:
    """The result of an inspection of the cache file; `problems` is empty if the file is intact."""

    path: Path
    present: bool
    entries: int = 0
    bytes: int = 0
    damaged: int = 0
    expired: int = 0
    problems: tuple[str, ...] = ()


def verify(config: CacheConfig) -> Verdict:
    """Check the file and every entry. The server may be running. Changes nothing.

    An entry is damaged if its checksum does not match; the server deletes such an entry when it reads it.
    An expired entry is not a problem. A missing file is intact.

    On a full disk, SQLite cannot create the index of the journal. The file is then checked without the
    answers in the journal.
    """
    path = config.directory / FILE
    if not path.exists():
        return Verdict(path, present=False)
    horizon = time.time() - config.ttl_seconds
    try:
        return _verdict(path, _existing(path), horizon)
    except (sqlite3.Error, OSError) as error:
        if not _needs_space(error):
            return Verdict(path, True, problems=(f"{type(error).__name__}: {error}",))
    try:
        return _verdict(path, _unopened(path), horizon)
    except (sqlite3.Error, OSError) as error:
        return Verdict(path, True, problems=(f"{type(error).__name__}: {error}",))


def _verdict(path: Path, connection: sqlite3.Connection, horizon: float) -> Verdict:
    """Check every entry. An error while they are read is a problem of the file."""
    entries = size = damaged = expired = 0
    problems: list[str] = []
    with contextlib.closing(connection) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            problems.append(f"the file has version {version}, not {_VERSION}")
        problems += [
            f"integrity: {text}" for (text,) in db.execute("PRAGMA integrity_check(5)") if text != "ok"
        ]
        try:
            for name, value, digest, created in db.execute("SELECT key, value, digest, created FROM answers"):
                entries += 1
                if _sound(name, value, digest):
                    size, expired = size + len(value), expired + (created < horizon)
                else:
                    damaged += 1
        except sqlite3.Error as error:
            problems.append(f"{type(error).__name__}: {error}")
    if damaged:
        problems.append(f"{damaged} entries are damaged")
    return Verdict(path, True, entries, size, damaged, expired, tuple(problems))


def clear(config: CacheConfig, *, shared: bool = False) -> tuple[Size, Size, Path | None]:
    """Delete all answers from the file. The server may be running.

    `shared`: whether the server uses a shared cache. It then uses no answer any more that was stored there
    until now.

    Returns the sizes before and after, and the quarantine path if the file was damaged. On a full disk, the
    file itself is deleted. In both cases the server creates a new file; this function creates none, so that
    the server's user owns it.

    Raises:
        CacheTrouble: if the answers could not be deleted.
    """
    # First: a clearing that is interrupted must not leave shared answers that come back.
    is_ordered = not shared or _order_end(config.directory) is None
    result = _clear(config)
    # On a full disk, there may be room only now.
    if not is_ordered and (error := _order_end(config.directory)) is not None:
        raise CacheTrouble(
            "the answers on disk were deleted, but those in the shared cache are still used: "
            f"{type(error).__name__}: {error}"
        )
    return result


def _order_end(directory: Path) -> OSError | None:
    """End the answers in the shared cache. Returns why that failed."""
    try:
        order_another(directory)
    except OSError as error:
        return error
    return None


def _clear(config: CacheConfig) -> tuple[Size, Size, Path | None]:
    path = config.directory / FILE
    if not path.exists():
        return Size(0, 0), Size(0, 0), None
    before: Size | None = None
    try:
        with contextlib.closing(_existing(path)) as db:
            before = _measure(db)
            return before, _empty(db), None
    except (sqlite3.Error, OSError) as error:
        if _needs_space(error):
            before = before or _measure_unopened(path)
            try:
                _remove(path)
            except OSError as failure:
                raise CacheTrouble(f"{type(failure).__name__}: {failure}") from failure
            return before, Size(0, 0), None
        if not (isinstance(error, sqlite3.DatabaseError) and _damaged(error)):
            raise CacheTrouble(f"{type(error).__name__}: {error}") from error
        store = _Store(lambda: config)
        try:
            return Size(0, 0), Size(0, 0), store.quarantine(error)
        except (sqlite3.Error, OSError) as failure:
            raise CacheTrouble(f"{type(failure).__name__}: {failure}") from failure


def _existing(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10 * _DEADLINE)


def _unopened(path: Path) -> sqlite3.Connection:
    """Read the file without its journal. This creates no file."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, timeout=0)


def _empty(db: sqlite3.Connection) -> Size:
    with db:
        db.execute("DELETE FROM answers")
    after = _measure(db)
    _compact(db)
    return after


def _compact(db: sqlite3.Connection) -> None:
    """Return the space of deleted answers to the disk."""
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _needs_space(error: Exception) -> bool:
    """Whether an error means that the disk has no room, even for the journal or its index."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    codes = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in codes


def _remove(path: Path) -> None:
    """Delete the file with its journal, and free its room even if another process has it open.

    That process notices the missing file before its next access. The index of the journal is not truncated,
    because the other process has it mapped into its memory.
    """
    files = [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]
    with contextlib.ExitStack() as opened:
        truncated = [opened.enter_context(file.open("rb+")) for file in files[:2] if file.exists()]
        for file in files:
            file.unlink(missing_ok=True)
        for file_object in truncated:
            file_object.truncate(0)


def _measure_unopened(path: Path) -> Size:
    """The size of the answers in a file that cannot be opened for writing, without those in its journal."""
    try:
        with contextlib.closing(_unopened(path)) as db:
            return _measure(db)
    except sqlite3.Error:
        return Size(0, 0)


def _measure(db: sqlite3.Connection) -> Size:
    entries, size = db.execute("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM answers").fetchone()
    return Size(entries, size)


def _digest(name: str, value: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + value).digest()


def _sound(name: str, value: object, digest: object) -> bool:
    return isinstance(value, bytes) and _digest(name, value) == digest


def _damaged(error: sqlite3.DatabaseError) -> bool:
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    code = getattr(error, "sqlite_errorcode", None)
    return (code is not None and code & 0xFF in codes) or "malformed" in str(error)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
