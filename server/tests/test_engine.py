"""The engine's child process, queried directly."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from katago_mcp.engine import Command, Engine, EngineGone, EngineSpawnError, launch
from katago_mcp.metrics import Metrics
from support import FAKE_ENGINE, PATIENCE, Site

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def started(site: Site, write_seconds: float = PATIENCE) -> AsyncIterator[Engine]:
    network = site.directory / "net.bin.gz"
    command = Command(FAKE_ENGINE, network, site.engine_config, write_seconds=write_seconds)
    async with launch(command, os.environ, Metrics("1", None)) as engine:
        async with asyncio.timeout(PATIENCE):
            await engine.query({"action": "query_version"})
        yield engine


async def test_an_engine_that_stops_reading_fails_the_write(site: Site) -> None:
    async with started(site, write_seconds=0.3) as engine:
        os.kill(engine.pid, signal.SIGSTOP)
        with pytest.raises(EngineGone, match=r"hung: it read no input for 0\.3 s"):
            await engine.query({"filler": "x" * 1_000_000})
        assert engine.end_kind == "hung"


async def test_only_ascii_is_written(site: Site) -> None:
    async with started(site) as engine:
        await engine.query({"action": "query_version", "text": "ü\udc00\u2028"})
    record = site.records()[-1]
    assert record["query"]["text"] == "ü\udc00\u2028"
    assert bytes.fromhex(record["line"]).isascii()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_numbers_that_are_not_json_are_never_written(site: Site, number: float) -> None:
    async with started(site) as engine:
        with pytest.raises(ValueError, match="JSON compliant"):
            await engine.query({"komi": number})
        await engine.query({"action": "query_version"})


async def test_every_query_has_an_id_of_its_own(site: Site) -> None:
    async with started(site) as engine:
        await asyncio.gather(*(engine.query({"action": "query_version"}) for _ in range(20)))
    names = [query["id"] for query in site.queries("query_version")]
    assert len(set(names)) == len(names) == 21


async def test_ended_engine_rejects_queries(site: Site) -> None:
    async with started(site) as engine:
        os.kill(engine.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            await engine.ended.wait()
        with pytest.raises(EngineGone, match="exited with signal 9"):
            await engine.query({"action": "query_version"})


async def test_engine_is_reaped_after_an_exception(site: Site) -> None:
    with pytest.raises(ExceptionGroup):
        async with started(site) as engine:
            raise RuntimeError("a defect")
    with pytest.raises(ProcessLookupError):
        os.kill(engine.pid, 0)


async def test_error_names_a_missing_binary(site: Site) -> None:
    missing = Command(Path("/nonexistent/katago"), site.directory, site.engine_config)
    with pytest.raises(EngineSpawnError, match="/nonexistent/katago: No such file"):
        async with launch(missing, os.environ, Metrics("1", None)):
            pass


def test_settings_on_the_command_line_are_one_argument() -> None:
    made = Command(Path("k"), Path("n"), Path("c"), Path("/home"), {"a": "1", "b": "2"})
    assert made.argv()[-2:] == ["-override-config", "a=1,b=2,homeDataDir=/home"]
