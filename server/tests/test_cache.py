"""The cache: its limits, its checks, and its behaviour on failures of the disk."""

import contextlib
import json
import resource
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from katago_mcp import logs
from katago_mcp.analysis import Request
from katago_mcp.cache import FILE, Cache, CacheTrouble, clear, key, verify
from katago_mcp.config import Cache as CacheConfig
from katago_mcp.metrics import Metrics
from katago_mcp.positions import Position
from rig import rig, until
from support import Site

pytestmark = pytest.mark.anyio


class Fixture:
    def __init__(self, directory: Path, **keys: Any) -> None:
        self.metrics = Metrics("1", None)
        self.config = CacheConfig(directory=directory, **keys)
        self.cache = Cache(lambda: self.config, self.metrics)
        self.path = directory / FILE

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)


async def cached(cache: Cache, name: str) -> Any:
    """The cached answer for a key, or None."""
    text = await cache.get(name)
    return None if text is None else json.loads(text)


def on_disk(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def quarantined(directory: Path) -> list[Path]:
    return list(directory.glob(f"{FILE}.damaged-*"))


async def test_stored_answer_is_returned(tmp_path: Path) -> None:
    cache = Fixture(tmp_path).cache
    await cache.put("k", {"a": [1, 2.5, "x"]})
    assert await cached(cache, "k") == {"a": [1, 2.5, "x"]}
    assert await cached(cache, "other") is None


async def test_answers_survive_a_restart(tmp_path: Path) -> None:
    first = Fixture(tmp_path).cache
    await first.put("k", {"a": 1})
    await first.close()
    second = Fixture(tmp_path)
    await second.cache.fit()
    assert second.value("katago_cache_entries") == 1
    assert await cached(second.cache, "k") == {"a": 1}


async def test_deleted_file_is_recreated(tmp_path: Path) -> None:
    cache = Fixture(tmp_path).cache
    await cache.put("k", {"a": 1})
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / (FILE + suffix)).unlink()
    assert await cached(cache, "k") is None
    await cache.put("k", {"a": 2})
    assert await cached(cache, "k") == {"a": 2}


async def test_deleted_directory_is_recreated(tmp_path: Path) -> None:
    cache = Fixture(tmp_path / "cache").cache
    await cache.put("k", {"a": 1})
    shutil.rmtree(tmp_path / "cache")
    await cache.put("k", {"a": 2})
    assert await cached(cache, "k") == {"a": 2}


@pytest.mark.parametrize("damage", [b"not a database at all" * 300, b"SQLite format 3\0" + b"\7" * 9000])
async def test_damaged_file_is_quarantined_and_replaced(tmp_path: Path, damage: bytes) -> None:
    first = Fixture(tmp_path)
    await first.cache.put("k", {"a": 1})
    await first.cache.close()
    first.path.write_bytes(damage)
    second = Fixture(tmp_path)
    await second.cache.fit()
    await second.cache.put("k", {"a": 2})
    assert await cached(second.cache, "k") == {"a": 2}
    assert [path.read_bytes() for path in quarantined(tmp_path)] == [damage]


async def test_damage_to_the_open_file_is_handled(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path)
    for index in range(200):
        await fixture.cache.put(f"k{index}", {"a": "x" * 500})
    await fixture.cache.close()
    reopened = Fixture(tmp_path).cache
    await reopened.fit()
    data = bytearray(fixture.path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    with fixture.path.open("r+b") as file:
        file.write(data)
    await reopened.put("k", {"a": 1})
    assert await cached(reopened, "k") == {"a": 1}


async def test_modified_entry_is_deleted(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": 1})
    with sqlite3.connect(fixture.path) as db:
        db.execute("UPDATE answers SET value = ?", (b'{"a":2}',))
    assert await cached(fixture.cache, "k") is None
    with sqlite3.connect(fixture.path) as db:
        assert db.execute("SELECT COUNT(*) FROM answers").fetchone() == (0,)


async def test_entry_under_another_key_is_deleted(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": 1})
    with sqlite3.connect(fixture.path) as db:
        db.execute("UPDATE answers SET key = 'other'")
    assert await cached(fixture.cache, "other") is None


async def test_expired_answer_is_not_returned(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, ttl_seconds=100)
    await fixture.cache.put("k", {"a": 1})
    with sqlite3.connect(fixture.path) as db:
        db.execute("UPDATE answers SET created = created - 101")
    assert await cached(fixture.cache, "k") is None


async def test_recently_read_answer_is_forgotten_when_the_file_changes(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": 1})
    for _ in range(3):
        assert await cached(fixture.cache, "k") == {"a": 1}
    clear(CacheConfig(directory=tmp_path))
    assert await cached(fixture.cache, "k") is None
    await fixture.cache.put("k", {"a": 2})
    for _ in range(3):
        assert await cached(fixture.cache, "k") == {"a": 2}
    with sqlite3.connect(fixture.path) as db:
        db.execute("DELETE FROM answers")
    assert await cached(fixture.cache, "k") is None
    await fixture.cache.put("k", {"a": 3})
    assert await cached(fixture.cache, "k") == {"a": 3}
    shutil.rmtree(tmp_path)
    assert await cached(fixture.cache, "k") is None


async def test_recently_read_answer_expires_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, ttl_seconds=100)
    await fixture.cache.put("k", {"a": 1})
    assert await cached(fixture.cache, "k") is not None
    later = time.time() + 101
    monkeypatch.setattr("katago_mcp.cache.time", SimpleNamespace(time=lambda: later))
    assert await cached(fixture.cache, "k") is None


async def test_number_of_answers_is_limited_and_the_least_recently_used_are_evicted(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, max_items=10)
    for index in range(10):
        await fixture.cache.put(f"k{index}", {"a": index})
    assert await cached(fixture.cache, "k0") is not None
    await fixture.cache.put("new", {"a": 1})
    assert await cached(fixture.cache, "new") is not None
    assert await cached(fixture.cache, "k0") is not None
    assert await cached(fixture.cache, "k1") is None
    assert (fixture.value("katago_cache_entries") or 0) <= 10


async def test_reads_before_a_restart_count_as_use(tmp_path: Path) -> None:
    first = Fixture(tmp_path, max_items=10).cache
    for index in range(10):
        await first.put(f"k{index}", {"a": index})
    assert await first.get("k0") is not None
    await first.close()
    second = Fixture(tmp_path, max_items=10).cache
    await second.put("new", {"a": 1})
    assert await second.get("k0") is not None
    assert await second.get("k1") is None


async def test_size_is_limited(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, max_size_bytes=65_536)
    for index in range(100):
        await fixture.cache.put(f"k{index}", {"a": "x" * 2000})
    size = fixture.value("katago_cache_size_bytes")
    assert size is not None
    assert 0 < size <= 65_536


async def test_answer_larger_than_the_limit_is_not_stored(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, max_size_bytes=65_536)
    await fixture.cache.put("k", {"a": "x" * 70_000})
    assert await cached(fixture.cache, "k") is None


async def test_clear_returns_the_sizes_before_and_after(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": 1})
    before, after = await fixture.cache.clear()
    assert (before.entries, before.bytes) == (1, len('{"a":1}'))
    assert (after.entries, after.bytes) == (0, 0)
    assert await cached(fixture.cache, "k") is None


async def test_cache_works_without_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    fixture = Fixture(tmp_path / "file" / "cache")
    await fixture.cache.fit()
    await fixture.cache.put("k", {"a": 1})
    assert await cached(fixture.cache, "k") is None
    assert fixture.value("katago_cache_errors_total") == 3


async def test_full_disk_can_still_be_read(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": 1})
    # With a limit on pages, SQLite reports the same error as on a full disk.
    connection = fixture.cache._store._db
    assert connection is not None
    connection.execute("PRAGMA max_page_count = 1")
    await fixture.cache.put("big", {"a": "x" * 50_000})
    assert fixture.value("katago_cache_errors_total") == 1
    assert await cached(fixture.cache, "k") == {"a": 1}


@pytest.mark.usefixtures("restored_logging")
async def test_full_disk_and_its_recovery_are_logged_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", "json")
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": 1})
    connection = fixture.cache._store._db
    assert connection is not None
    connection.execute("PRAGMA max_page_count = 1")
    for _ in range(3):
        await fixture.cache.put("big", {"a": "x" * 50_000})
        fixture.cache._store._recent.clear()
        assert await cached(fixture.cache, "k") == {"a": 1}
    connection.execute("PRAGMA max_page_count = 1000000")
    await fixture.cache.put("big", {"a": "x" * 50_000})
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["event"] for event in events] == ["cache_trouble", "cache_recovered"]
    assert events[0]["operation"] == "write"


@pytest.mark.usefixtures("restored_logging")
async def test_successful_read_does_not_end_a_write_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", "json")
    (tmp_path / "file").write_text("in the way")
    fixture = Fixture(tmp_path / "file" / "cache")
    await fixture.cache.get("k")
    await fixture.cache.put("k", {"a": 1})
    fixture.cache._store._path = tmp_path / FILE
    await fixture.cache.get("k")
    assert "cache_recovered" not in capsys.readouterr().err
    await fixture.cache.put("k", {"a": 1})
    assert "cache_recovered" in capsys.readouterr().err


def test_a_key_depends_on_every_part() -> None:
    assert key({"a": 1, "b": [2, None]}) == key({"a": 1, "b": [2, None]})
    assert key({"a": 1, "b": [2, None]}) != key({"a": 1, "b": [3, None]})


async def test_answers_survive_a_restart_but_not_a_change_of_the_engine_configuration(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        assert not (await made.analyze()).cached
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        assert (await made.analyze()).cached
    site.behave(leads=[30.0])
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        answer = await made.analyze()
    assert (answer.cached, answer.score_lead) == (False, 30.0)


async def test_key_uses_the_configuration_that_the_engine_started_with(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        await made.analyze()
        site.behave(leads=[30.0])
        assert (await made.analyze()).cached
        before = made.pid()
        made.supervisor.restart()
        await until(lambda: made.supervisor.status().pid not in (None, before))
        await made.reaches("ready")
        assert not (await made.analyze()).cached


COLUMNS = "ABCDEFGHJ"

IMAGES: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "left to right": lambda x, y: (8 - x, y),
    "top to bottom": lambda x, y: (x, 8 - y),
    "turned by half": lambda x, y: (8 - x, 8 - y),
    "along a diagonal": lambda x, y: (y, x),
    "turned by a quarter": lambda x, y: (y, 8 - x),
}


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("placed", ["moves", "initial_stones"])
async def test_mirrored_position_is_a_different_position(site: Site, image: str, placed: str) -> None:
    stones = [("B", 2, 3), ("W", 6, 5), ("B", 0, 7)]
    turned = [(colour, *IMAGES[image](x, y)) for colour, x, y in stones]
    answers = []
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        for points in (stones, turned, stones):
            fields: Any = {placed: [(colour, f"{COLUMNS[x]}{y + 1}") for colour, x, y in points]}
            position = Position(board_x_size=9, board_y_size=9, initial_player="W", **fields)
            answers.append(await made.analyst.analyze(Request(position)))
    assert [answer.cached for answer in answers] == [False, False, True]
    assert len(site.queries()) == 2


async def test_lower_limits_apply_at_once_and_free_disk_space(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, max_size_bytes=1_000_000)
    for number in range(100):
        await fixture.cache.put(str(number), {"a": "x" * 5000})
    before = on_disk(tmp_path)
    fixture.config = fixture.config.model_copy(update={"max_size_bytes": 65_536})
    await fixture.cache.fit()
    assert fixture.value("katago_cache_max_size_bytes") == 65_536
    assert (fixture.value("katago_cache_size_bytes") or 0) <= 65_536
    assert on_disk(tmp_path) < before / 3
    assert await cached(fixture.cache, "99") is not None


def full(monkeypatch: pytest.MonkeyPatch, code: int = sqlite3.SQLITE_FULL) -> None:
    """Let every attempt to empty the file fail, as on a full disk."""

    def fail(_: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr("katago_mcp.cache._empty", fail)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN])
async def test_clearing_on_a_full_disk_frees_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": "x" * 100_000})
    full(monkeypatch, code)
    before, after = await fixture.cache.clear()
    assert (before.entries, before.bytes > 100_000) == (1, True)
    assert (after.entries, after.bytes, on_disk(tmp_path)) == (0, 0, 0)
    assert fixture.value("katago_cache_entries") == 0
    await fixture.cache.put("again", {"a": 1})
    assert await cached(fixture.cache, "again") == {"a": 1}
    assert await cached(fixture.cache, "k") is None


async def test_the_command_clears_on_a_full_disk_while_the_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": "x" * 100_000})
    with fixture.path.open("rb") as held:
        full(monkeypatch)
        before, after, quarantine = clear(fixture.config)
        # The room is free although the server still has the file open.
        assert held.seek(0, 2) == 0
    assert (before.entries, after.entries, quarantine) == (1, 0, None)
    assert await cached(fixture.cache, "k") is None
    await fixture.cache.put("again", {"a": 1})
    assert await cached(fixture.cache, "again") == {"a": 1}
    assert quarantined(tmp_path) == []


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Let every write of new data fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("damage", ["", "entry", "file"])
async def test_a_file_on_a_full_disk_is_verified(tmp_path: Path, damage: str) -> None:
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": 1})
    await fixture.cache.close()
    if damage == "entry":
        with contextlib.closing(sqlite3.connect(fixture.path)) as db, db:
            db.execute("UPDATE answers SET value = x'00'")
    if damage == "file":
        fixture.path.write_bytes(fixture.path.read_bytes()[:4096] + bytes(8192))
    content = fixture.path.read_bytes()
    with no_room():
        # SQLite itself cannot open the file.
        with pytest.raises(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(fixture.path)) as db:
            db.execute("SELECT COUNT(*) FROM answers")
        verdict = verify(fixture.config)
    assert verdict.damaged == (damage == "entry")
    assert bool(verdict.problems) == bool(damage)
    assert not any("disk I/O error" in problem for problem in verdict.problems)
    assert fixture.path.read_bytes() == content


async def test_a_file_in_use_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path)
    await fixture.cache.put("k", {"a": 1})
    full(monkeypatch, sqlite3.SQLITE_BUSY)
    with pytest.raises(CacheTrouble):
        await fixture.cache.clear()
    assert fixture.path.exists()
