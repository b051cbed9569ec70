"""The generation of shared answers: a clearing ends them, whatever clocks show, also if it is interrupted."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import shared_server
from katago_mcp import cache, shared_cache
from katago_mcp.config import Cache as CacheConfig
from katago_mcp.config import SharedCache
from katago_mcp.metrics import Metrics
from katago_mcp.shared_address import endpoint
from katago_mcp.shared_cache import SharedAnswers
from katago_mcp.shared_connection import Connection
from katago_mcp.shared_entries import Shared, Signer
from katago_mcp.shared_generation import GENERATION_FILE, ORDER_FILE, Generation, order_another
from support import PATIENCE

KEY = b"a key that all hosts of the fleet share"
needs_server = pytest.mark.skipif(
    shared_server.PROGRAM is None, reason="no redis-server or valkey-server: install Debian's redis-server"
)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with shared_server.running(tmp_path / "shared", socket=True) as server:
        yield server.url


@contextlib.asynccontextmanager
async def using(directory: Path, url: str) -> AsyncIterator[SharedAnswers]:
    """A host that uses the shared cache."""
    metrics = Metrics("0", "")
    connection = Connection(endpoint(url), SharedCache(url=url, timeout_seconds=10), None, metrics)
    shared = SharedAnswers(connection, lambda: [KEY], directory, lambda: 3600.0, metrics)
    running = asyncio.create_task(shared.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while not connection.is_up:
                await asyncio.sleep(0.01)
        yield shared
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def stored(shared: SharedAnswers, name: str, value: bytes) -> None:
    shared.put(name, value)
    await shared.flush()


async def answer(shared: SharedAnswers, name: str) -> bytes | None:
    found = await shared.get(name)
    return None if found is None else found.value


@needs_server
@pytest.mark.parametrize("seconds", [-120, 120])
def test_clearing_ends_the_answers_of_hosts_with_other_clocks(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    now = shared_cache._now

    async def scenario() -> None:
        async with using(tmp_path / "one", url) as one, using(tmp_path / "two", url) as two:
            with monkeypatch.context() as clock:
                clock.setattr(shared_cache, "_now", lambda: now() + seconds * 1_000_000)
                await stored(one, "position", b"old")
            assert await answer(two, "position") == b"old"
            two.order_end()
            await two.ended()
            assert [await answer(each, "position") for each in (one, two)] == [None, None]
            with monkeypatch.context() as clock:
                clock.setattr(shared_cache, "_now", lambda: now() + seconds * 1_000_000)
                await stored(one, "position", b"new")
            assert await answer(two, "position") == b"new"

    asyncio.run(scenario())


@needs_server
def test_nothing_is_used_between_a_clearing_and_its_generation(tmp_path: Path, url: str) -> None:
    async def scenario() -> None:
        async with using(tmp_path / "one", url) as one:
            await stored(one, "position", b"old")
            one.end()
            assert await one.get("position") is None
            one.put("position", b"between")
            await one.ended()
            assert await one.get("position") is None

    asyncio.run(scenario())


@needs_server
def test_clearings_of_two_hosts_end_what_was_stored_between_them(tmp_path: Path, url: str) -> None:
    async def scenario() -> None:
        async with using(tmp_path / "one", url):
            pass
        order_another(tmp_path / "one")
        async with using(tmp_path / "two", url) as two:
            two.order_end()
            await two.ended()
            await stored(two, "position", b"between")
            async with using(tmp_path / "one", url) as one:
                # Its clearing was given before, and is carried out now.
                assert [await answer(each, "position") for each in (one, two)] == [None, None]

    asyncio.run(scenario())


def test_an_entry_counts_only_for_its_key_and_generation() -> None:
    signer, shared = Signer(KEY), Shared(b"answer", 5)
    entry = signer.sealed("position", 2, shared)
    assert signer.opened("position", 2, entry) == shared
    for key, generation, content in (
        ("another", 2, entry),
        ("position", 3, entry),
        ("position", 2, entry[:-1]),
        ("position", 2, b""),
    ):
        assert signer.opened(key, generation, content) is None
    assert Signer(b"another key").opened("position", 2, entry) is None
    assert signer.opened_generation(signer.sealed_generation(7)) == 7
    assert signer.opened_generation(signer.sealed_generation(7) + b"x") is None


def test_a_generation_is_kept_with_its_order(tmp_path: Path) -> None:
    generation = Generation(tmp_path)
    assert (generation.number, generation.is_over) == (0, False)
    order_another(tmp_path)
    assert generation.is_over
    generation.start(4, generation.order)
    generation.write()
    assert (Generation(tmp_path).number, Generation(tmp_path).is_over) == (4, False)
    order_another(tmp_path)
    assert Generation(tmp_path).is_over


def test_a_damaged_record_starts_another_generation(tmp_path: Path) -> None:
    (tmp_path / GENERATION_FILE).write_text("4")
    assert Generation(tmp_path).is_over


def test_the_command_ends_shared_answers_before_it_clears_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: CacheConfig) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "_clear", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.clear(CacheConfig(directory=tmp_path), shared=True)
    assert (tmp_path / ORDER_FILE).exists()


def test_the_command_fails_if_shared_answers_cannot_be_ended(tmp_path: Path) -> None:
    with pytest.raises(cache.CacheTrouble, match="those in the shared cache are still used: FileNotFound"):
        cache.clear(CacheConfig(directory=tmp_path / "missing"), shared=True)


def test_the_command_ends_shared_answers_as_soon_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = iter([OSError(28, os.strerror(28)), None])
    monkeypatch.setattr(cache, "_order_end", lambda _: next(results))
    cache.clear(CacheConfig(directory=tmp_path), shared=True)
    assert next(results, "both were used") == "both were used"
