"""What clients get when the server drains or stops: an answer, in both protocol generations."""

import asyncio
import itertools
import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from support import PATIENCE, Running, Site, eventually
from test_sessions import opened

GENERATIONS = ["2025-11-25", "2026-07-28"]
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
GAME: dict[str, Any] = {"sgf": "(;SZ[9];B[ee];W[cc];B[gg];W[cg];B[gc];W[ec];B[ce];W[eg])"}


@dataclass
class Answer:
    """A complete HTTP answer: status, headers, and its JSON-RPC message."""

    status: int
    headers: Mapping[str, str]
    message: dict[str, Any]

    @property
    def is_stream(self) -> bool:
        """Whether it came as a stream of events."""
        return self.headers["content-type"].startswith("text/event-stream")

    @property
    def content(self) -> dict[str, Any]:
        """The structured content of the tool's answer."""
        content: dict[str, Any] = self.message["result"]["structuredContent"]
        return content

    @property
    def code(self) -> str | None:
        """The code of the tool's error; None if it succeeded."""
        error = self.content.get("error")
        return None if error is None else str(error["code"])


class Caller:
    """A client of one protocol generation that sees how each answer ends."""

    def __init__(self, running: Running, generation: str) -> None:
        self.running = running
        self._numbers = itertools.count(1)
        self._http = httpx2.AsyncClient(timeout=2 * PATIENCE)
        self._modern = generation == "2026-07-28"
        self.session = {} if self._modern else opened(running, None)

    async def call(self, tool: str, *, progress: bool = False, **arguments: Any) -> Answer:
        """Call a tool. Raises an error of httpx2 if the answer is not complete."""
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        meta: dict[str, Any] = {"progressToken": 1} if progress else {}
        headers = {**ACCEPT, **self.session}
        if self._modern:
            meta |= {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
        number = next(self._numbers)
        message = {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {**params, "_meta": meta},
        }
        response = await self._http.post(self.running.url, json=message, headers=headers)
        text = response.text
        if response.headers["content-type"].startswith("text/event-stream"):
            lines = [line[5:] for line in text.splitlines() if line.startswith("data:")]
            messages = [json.loads(line) for line in lines if line.strip()]
            text = json.dumps(next(each for each in messages if each.get("id") == number))
        return Answer(response.status_code, response.headers, json.loads(text))

    async def analyze(self, visits: int, *, progress: bool = False) -> Answer:
        """Analyse a position, different for each number of visits."""
        position = {"boardXSize": 9, "boardYSize": 9}
        return await self.call("analyzePosition", progress=progress, position=position, maxVisits=visits)

    async def stream(self, opened: asyncio.Event) -> list[str]:
        """The lines of a stream for messages of the server, until it ends."""
        headers = {"Accept": "text/event-stream", **self.session}
        async with self._http.stream("GET", self.running.url, headers=headers) as response:
            assert response.status_code == 200
            opened.set()
            return [line async for line in response.aiter_lines()]


async def until_asked(site: Site, count: int) -> None:
    """Wait until the engine received so many queries."""
    await asyncio.to_thread(eventually, lambda: len(site.queries()) >= count, f"{count} queries")


async def until_waiting(running: Running, count: int) -> None:
    """Wait until so many calls wait for the engine or run."""

    def waiting() -> bool:
        return bool(running.get("/ready").json()["inFlight"] == count)

    await asyncio.to_thread(eventually, waiting, f"{count} calls are in flight")


async def ended(running: Running) -> int:
    return await asyncio.to_thread(running.process.wait, PATIENCE)


@pytest.mark.anyio
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_everything_in_flight_is_answered_before_the_server_ends(site: Site, generation: str) -> None:
    """A running search, a running review, many queued calls, and an idle stream."""
    site.write(server={"drainTimeoutSeconds": 0.3}, katago={"maxConcurrent": 2})
    with site.serving() as running:
        caller = Caller(running, generation)
        site.behave(analysis="slow", seconds=120, turns={"0": "answer", "1": "answer"})
        review = asyncio.create_task(caller.call("findMistakes", progress=True, **GAME))
        await until_asked(site, 1)
        calls = [
            asyncio.create_task(caller.analyze(10 + number, progress=number % 2 == 0)) for number in range(40)
        ]
        streams = []
        if caller.session:
            is_open = asyncio.Event()
            streams = [asyncio.create_task(caller.stream(is_open))]
            await is_open.wait()
        await until_waiting(running, 41)
        running.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*calls)
        assert {answer.status for answer in answers} == {200}
        assert {answer.code for answer in answers} == {"draining"}
        assert {answer.content["error"]["retryAfterSeconds"] for answer in answers} == {30}
        reviewed = await review
        # The newer generation streams only if there is something to report.
        assert reviewed.is_stream
        assert {answer.is_stream for answer in answers} == {generation == "2025-11-25"}
        assert reviewed.code in (None, "draining")
        if reviewed.code is None:
            assert reviewed.content["partial"]
            assert {turn["code"] for turn in reviewed.content["unanalysed"]} == {"draining"}
        for stream in streams:
            await stream
        assert await ended(running) == 0
    assert [event for event in running.events() if event["level"] == "error"] == []


@pytest.mark.anyio
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_what_was_accepted_is_finished_within_the_drain_timeout(site: Site, generation: str) -> None:
    site.write(server={"drainTimeoutSeconds": PATIENCE}, katago={"maxConcurrent": 1})
    with site.serving() as running:
        caller = Caller(running, generation)
        site.behave(analysis="slow", seconds=120)
        calls = [asyncio.create_task(caller.analyze(10 + number)) for number in range(5)]
        calls.append(asyncio.create_task(caller.call("findMistakes", **GAME)))
        await until_waiting(running, 6)
        running.process.send_signal(signal.SIGTERM)
        # A new call is refused meanwhile, and one that is running is not joined.
        await asyncio.to_thread(eventually, lambda: running.answers("/ready") == 503, "it drains")
        refused = await caller.analyze(10)
        assert (refused.code, refused.content["error"]["retryAfterSeconds"]) == ("draining", 30)
        site.behave()
        answers = await asyncio.gather(*calls)
        assert [answer.code for answer in answers] == [None] * 6
        assert not answers[-1].content["partial"]
        assert await ended(running) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_draining_finishes_what_is_in_flight_and_refuses_the_rest(site: Site, generation: str) -> None:
    site.write(katago={"maxConcurrent": 1})
    with site.serving() as running:
        caller = Caller(running, generation)
        site.behave(analysis="slow", seconds=120)
        calls = [asyncio.create_task(caller.analyze(10 + number, progress=True)) for number in range(3)]
        calls.append(asyncio.create_task(caller.call("findMistakes", **GAME)))
        await until_waiting(running, 4)
        answer = await asyncio.to_thread(running.post, "/admin/drain")
        assert answer.json()["inFlight"] == 4
        refused = await caller.analyze(10)
        assert (refused.code, refused.content["error"]["retryAfterSeconds"]) == ("draining", 30)
        assert (await caller.call("getEngineStatus")).message["result"]["structuredContent"][
            "state"
        ] == "ready"
        site.behave()
        assert [answer.code for answer in await asyncio.gather(*calls)] == [None] * 4
        assert running.get("/ready").json()["inFlight"] == 0
        assert (await asyncio.to_thread(running.post, "/admin/undrain")).json()["changed"]
        assert (await caller.analyze(99)).code is None


@pytest.mark.anyio
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_calls_wait_for_an_engine_that_starts_and_are_answered_when_the_server_stops(
    site: Site, generation: str
) -> None:
    site.behave(start="mute")
    site.write(server={"drainTimeoutSeconds": 0.3}, katago={"maxTime": 300})
    with site.serving(ready=False) as running:
        caller = Caller(running, generation)
        calls = [asyncio.create_task(caller.analyze(10 + number)) for number in range(3)]
        await asyncio.to_thread(
            eventually, lambda: running.metric("katago_mcp_connections") == 3, "the calls have arrived"
        )
        running.process.send_signal(signal.SIGTERM)
        for answer in await asyncio.gather(*calls):
            assert answer.content["error"]["retryAfterSeconds"] is not None
        assert await ended(running) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_no_answer_that_has_begun_is_cut_while_the_server_stops(site: Site, generation: str) -> None:
    """Clients call again and again until nobody listens any more."""
    site.write(server={"drainTimeoutSeconds": 0.2})
    with site.serving() as running:
        callers = [Caller(running, generation) for _ in range(8)]
        codes: set[str | int | None] = set()
        errors: list[Exception] = []

        async def ask(caller: Caller, first: int) -> None:
            for number in range(10_000):
                try:
                    answer = await caller.analyze(1 + (first + number) % 900, progress=True)
                except (httpx2.ConnectError, httpx2.ReadError, httpx2.WriteError) as error:
                    # The connection was closed before an answer began.
                    errors.append(error)
                    return
                except httpx2.RemoteProtocolError as error:
                    errors.append(error)
                    assert "without sending a response" in str(error)
                    return
                codes.add(answer.code if answer.status == 200 else answer.status)
                if answer.status == 503:
                    assert answer.headers["retry-after"] == "30"
                    return
                assert answer.status == 200

        tasks = [asyncio.create_task(ask(caller, 100 * number)) for number, caller in enumerate(callers)]
        await until_asked(site, 20)
        running.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*tasks)
        assert codes <= {None, "draining", 503}
        assert await ended(running) == 0
