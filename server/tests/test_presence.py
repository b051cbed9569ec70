"""Clients that disconnect during a call, in both protocol generations."""

import asyncio
import contextlib
import http.client
import json
from typing import Any

import pytest

from katago_mcp import presence
from katago_mcp.errors import Rejected
from rig import Rig, rig, until
from support import PATIENCE, Running, Site, eventually
from test_sessions import SESSION, opened

POSITION = {"boardXSize": 9, "boardYSize": 9, "moves": [["B", "E5"]]}


async def abandoned(made: Rig, **fields: Any) -> "tuple[asyncio.Event, asyncio.Task[Any]]":
    """A running analysis whose client can leave: the event that tells so, and its task."""
    started = len(made.site.queries())
    with presence.exchange() as left:
        task = asyncio.create_task(made.analyze(**fields))
    await until(lambda: len(made.site.queries()) > started)
    return left, task


@pytest.mark.anyio
async def test_the_result_of_an_abandoned_search_goes_to_the_cache(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        left, task = await abandoned(made, max_visits=20)
        left.set()
        await asyncio.sleep(0.1)
        assert not task.done()
        site.behave()
        assert not (await task).cached
        assert (await made.analyze(max_visits=20)).cached
    assert len(site.queries()) == 1


@pytest.mark.anyio
async def test_an_abandoned_search_gives_way_to_a_call_that_waits(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        left, task = await abandoned(made, max_visits=20)
        left.set()
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(made.analyze(max_visits=30))
        await until(lambda: len(site.queries()) == 2)
        site.behave()
        assert (await waiting).visits == 30
        with pytest.raises(Rejected, match="the client left"):
            await task
    assert len(site.queries("terminate")) == 1


@pytest.mark.anyio
async def test_a_search_whose_client_is_present_does_not_give_way(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        _, task = await abandoned(made, max_visits=20)
        waiting = asyncio.create_task(made.analyze(max_visits=30))
        await until(lambda: made.analyst.slots.queued == 1)
        await asyncio.sleep(0.1)
        site.behave()
        assert ((await task).visits, (await waiting).visits) == (20, 30)
    assert site.queries("terminate") == []


@pytest.mark.anyio
async def test_the_same_call_again_takes_over_an_abandoned_search(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        left, task = await abandoned(made, max_visits=20)
        left.set()
        await asyncio.sleep(0.1)
        again = asyncio.create_task(made.analyze(max_visits=20))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(made.analyze(max_visits=30))
        await until(lambda: made.analyst.slots.queued == 1)
        site.behave()
        assert [(await call).visits for call in (task, again, waiting)] == [20, 20, 30]
    assert site.queries("terminate") == []


def begin(site: Site, running: Running, headers: dict[str, str], visits: int) -> None:
    """Call a tool, and disconnect when the search runs."""
    modern = "MCP-Protocol-Version" in headers
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "analyzePosition", "arguments": {"position": POSITION, "maxVisits": visits}}
    message = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {**params, **({"_meta": meta} if modern else {})},
    }
    named = {"Mcp-Method": "tools/call", "Mcp-Name": "analyzePosition"} if modern else {}
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    started = len(site.queries())
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/mcp", json.dumps(message), {**accept, **headers, **named})
        eventually(lambda: len(site.queries()) > started, "the search runs")
    eventually(lambda: running.metric("katago_mcp_connections") == 0, "the server sees the disconnection")


def test_older_generation_a_closed_connection_does_not_cancel_the_call(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1})
    with site.serving() as running:
        site.behave(analysis="slow", seconds=60)
        session = opened(running, None)
        assert SESSION in session
        begin(site, running, session, 20)
        assert running.metric("katago_engine_queries_in_flight") == 1
        assert site.queries("terminate") == []
        # Another call needs the slot: the search whose client left gives way.
        begin(site, running, opened(running, None), 30)
        eventually(lambda: len(site.queries("terminate")) == 1, "the abandoned search is ended")
        assert [query["maxVisits"] for query in site.queries()] == [20, 30]
        assert running.metric("katago_engine_queries_queued") == 0


def test_generation_of_2026_a_closed_connection_cancels_the_call(site: Site) -> None:
    with site.serving() as running:
        site.behave(analysis="slow", seconds=60)
        begin(site, running, {"MCP-Protocol-Version": "2026-07-28"}, 20)
        eventually(lambda: len(site.queries("terminate")) == 1, "the search is ended")
        eventually(lambda: running.metric("katago_engine_queries_in_flight") == 0, "nothing is in flight")
