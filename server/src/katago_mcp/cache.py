"""Answers kept on disk: SQLite with a checksum on every entry, bounded in number, size and age.

SQLite runs on one worker thread, because a disk can stall for seconds and the event loop has to
go on answering heartbeats; a lookup that takes too long counts as a miss. Nothing that goes wrong
here stops an analysis: a damaged file is set aside and renewed, a full disk is worked without.
"""

import asyncio
import contextlib
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
from katago_mcp.metrics import Metrics

FILE = "answers.sqlite3"
_DEADLINE = 2.0
_BACKLOG = 64
_QUARANTINED_MAX = 8
_TOUCHED_MAX = 500
_RECENT_MAX = 64
_RECENT_BYTES = 65_536
"""Answers read lately that are kept in memory: how many, and their size at most."""
_VERSION = 1

_Kind = Literal["read", "write"]
"""What an operation needs of the disk: all that may do without writing is a read."""

_T = TypeVar("_T")
_log = Log(__name__)


class CacheTrouble(Exception):
    """An operation on the cache was given up; the text says why."""


@dataclass(frozen=True)
class Size:
    """How many answers are kept, and their size in bytes."""

    entries: int
    bytes: int


def key(parts: dict[str, Any]) -> str:
    """The key of an answer: a digest of everything that changes it.

    `parts` is JSON without NaN. In another order of its keys it is another question, and asked anew.
    """
    return hashlib.sha256(to_json(parts)).hexdigest()


class Cache:
    """The cache of one server, usable whatever state its file is in.

    `config` gives the bounds in force, whenever they are needed; the directory stays.
    """

    def __init__(self, config: Callable[[], CacheConfig], metrics: Metrics) -> None:
        self._config = config
        self._store = _Store(config)
        self._metrics = metrics
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cache")
        self._waiting = 0
        self._troubles: dict[_Kind, str] = {}
        metrics.cache_max_size.set(config().max_size_bytes)

    async def get(self, name: str) -> bytes | None:
        """The answer kept under a key, as the text of its JSON, or None."""
        value = self._store.recent(name)
        if value is None:
            with contextlib.suppress(CacheTrouble):
                value = await self._run("read", lambda: self._store.get(name), _DEADLINE)
        self._metrics.cache_lookup(hit=value is not None)
        return value

    async def put(self, name: str, answer: dict[str, Any]) -> None:
        """Keep an answer under a key, or go on without."""
        with contextlib.suppress(CacheTrouble):
            self._show(await self._run("write", lambda: self._store.put(name, answer), _DEADLINE))

    async def clear(self) -> tuple[Size, Size]:
        """Drop all answers; the sizes before and after.

        Raises:
            CacheTrouble: if that was not possible.
        """
        before, after = await self._run("write", self._store.clear, 10 * _DEADLINE)
        self._show(after)
        return before, after

    async def fit(self) -> None:
        """Open the file, drop what is too much by the bounds in force, and show its size."""
        self._metrics.cache_max_size.set(self._config().max_size_bytes)
        with contextlib.suppress(CacheTrouble):
            self._show(await self._run("read", self._store.fit, 10 * _DEADLINE))

    async def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(CacheTrouble):
            await self._run("read", self._store.close, _DEADLINE)
        self._worker.shutdown(wait=False, cancel_futures=True)

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
        # A full disk is read as ever, which says nothing of writing to it.
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
    """An answer as it was read from the file when the file had a stamp, and when it was made."""

    value: bytes
    created: float
    stamp: tuple[int, ...]


class _Store:
    """The SQLite file; every method but `recent` runs on the worker thread."""

    def __init__(self, bounds: Callable[[], CacheConfig]) -> None:
        self._bounds = bounds
        self._path = bounds().directory / FILE
        self._stamped = str(self._path), f"{self._path}-wal"
        self._db: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._size = Size(0, 0)
        # When answers were read last, not written to the file yet: to write costs more than to read.
        self._touched: dict[str, float] = {}
        self._recent: OrderedDict[str, _Recent] = OrderedDict()

    def recent(self, name: str) -> bytes | None:
        """An answer that was read lately, if nobody has written to the file since. Does not wait."""
        found = self._recent.get(name)
        if found is None:
            return None
        now = time.time()
        if found.stamp != self._stamp() or now - found.created > self._bounds().ttl_seconds:
            return None
        self._touched[name] = now
        return found.value

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
                # Reading works on a full disk; noting that it was read need not.
                with contextlib.suppress(sqlite3.OperationalError), db:
                    self._note_use(db)
            if stamp is not None and len(value) <= _RECENT_BYTES:
                self._recent[name] = _Recent(value, created, stamp)
                self._recent.move_to_end(name)
                if len(self._recent) > _RECENT_MAX:
                    self._recent.popitem(last=False)
            return value

        return self._retried(read)

    def put(self, name: str, answer: dict[str, Any]) -> Size:
        value = json.dumps(answer, separators=(",", ":"), allow_nan=False).encode()
        if len(value) > self._bounds().max_size_bytes:
            return self._size

        def write(db: sqlite3.Connection) -> Size:
            now = time.time()
            with db:
                self._note_use(db)
                db.execute(
                    "INSERT OR REPLACE INTO answers (key, value, digest, size, created, used) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (name, value, _digest(name, value), len(value), now, now),
                )
                self._size = _measure(db)
                if self._over():
                    self._evict(db, now)
            return self._size

        return self._retried(write)

    def clear(self) -> tuple[Size, Size]:
        def empty(db: sqlite3.Connection) -> tuple[Size, Size]:
            before = _measure(db)
            self._size = _empty(db)
            return before, self._size

        return self._retried(empty)

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
        """Run work on the file; when the file turns out damaged, once more on a new one."""
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
        """Move a damaged file aside, and return where it is now."""
        self._disconnect()
        aside = list(self._path.parent.glob(f"{FILE}.damaged-*"))
        if len(aside) >= _QUARANTINED_MAX:
            raise sqlite3.OperationalError(
                f"{len(aside)} damaged files lie in {self._path.parent}: check the disk, then remove them"
            ) from error
        target = self._path.with_name(f"{FILE}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{len(aside)}")
        _log.error("cache_damaged", reason=str(error), quarantine=target.name)
        self._path.rename(target)
        # A journal belongs to the file it was written for; a new file must not replay it.
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(FILE + suffix).rename(f"{target}{suffix}")
        return target

    def _note_use(self, db: sqlite3.Connection) -> None:
        # Copied at one go: the event loop adds to it.
        touched, self._touched = self._touched, {}
        uses = [(used, name) for name, used in list(touched.items())]
        db.executemany("UPDATE answers SET used = ? WHERE key = ?", uses)

    def _stamp(self) -> tuple[int, ...] | None:
        """What changes with every write to the file, whoever writes; None without a file."""
        try:
            files = [os.stat(path) for path in self._stamped]  # noqa: PTH116 - a Path takes three times as long
        except OSError:
            return None
        return tuple(part for status in files for part in (status.st_ino, status.st_size, status.st_mtime_ns))

    def _over(self) -> bool:
        config = self._bounds()
        return self._size.entries > config.max_items or self._size.bytes > config.max_size_bytes

    def _evict(self, db: sqlite3.Connection, now: float) -> None:
        """Drop what is too old, then what was not used for longest, down to 9/10 of the bounds."""
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
    """What an inspection of the cache's file found; `problems` is empty when the file is sound."""

    path: Path
    present: bool
    entries: int = 0
    bytes: int = 0
    damaged: int = 0
    expired: int = 0
    problems: tuple[str, ...] = ()


def verify(config: CacheConfig) -> Verdict:
    """Inspect the file and every entry, beside a running server or without one. Changes nothing.

    An entry is damaged when its checksum does not fit, which the server would drop when it is
    asked for; an expired one is no problem. A file that is not there yet is sound.
    """
    path = config.directory / FILE
    if not path.exists():
        return Verdict(path, present=False)
    entries = size = damaged = expired = 0
    problems: list[str] = []
    try:
        with contextlib.closing(_existing(path)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                problems.append(f"the file has version {version}, not {_VERSION}")
            problems += [
                f"integrity: {text}" for (text,) in db.execute("PRAGMA integrity_check(5)") if text != "ok"
            ]
            horizon = time.time() - config.ttl_seconds
            for name, value, digest, created in db.execute("SELECT key, value, digest, created FROM answers"):
                entries += 1
                if _sound(name, value, digest):
                    size, expired = size + len(value), expired + (created < horizon)
                else:
                    damaged += 1
    except (sqlite3.Error, OSError) as error:
        problems.append(f"{type(error).__name__}: {error}")
    if damaged:
        problems.append(f"{damaged} entries are damaged")
    return Verdict(path, True, entries, size, damaged, expired, tuple(problems))


def clear(config: CacheConfig) -> tuple[Size, Size, Path | None]:
    """Drop all answers from the file, beside a running server or without one.

    Returns the sizes before and after, and where a file that is damaged was set aside; a server
    makes a new one. No file is made here, so that its owner stays the server's user.

    Raises:
        CacheTrouble: if that was not possible.
    """
    path = config.directory / FILE
    if not path.exists():
        return Size(0, 0), Size(0, 0), None
    try:
        with contextlib.closing(_existing(path)) as db:
            before = _measure(db)
            return before, _empty(db), None
    except (sqlite3.Error, OSError) as error:
        if not (isinstance(error, sqlite3.DatabaseError) and _damaged(error)):
            raise CacheTrouble(f"{type(error).__name__}: {error}") from error
        store = _Store(lambda: config)
        try:
            return Size(0, 0), Size(0, 0), store.quarantine(error)
        except (sqlite3.Error, OSError) as failure:
            raise CacheTrouble(f"{type(failure).__name__}: {failure}") from failure


def _existing(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10 * _DEADLINE)


def _empty(db: sqlite3.Connection) -> Size:
    with db:
        db.execute("DELETE FROM answers")
    after = _measure(db)
    _compact(db)
    return after


def _compact(db: sqlite3.Connection) -> None:
    """Give the space of what was dropped back to the disk."""
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


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
