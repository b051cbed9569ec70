"""The whole server in a separate process, called through the official client."""

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from katago_mcp.http import bind
from katago_mcp.metrics import ANALYSIS_TOOLS, TOOLS
from support import (
    ADMIN_TOKEN,
    ANALYZE_TOKEN,
    BOTH_TOKEN,
    PATIENCE,
    Running,
    Site,
    eventually,
)
from test_metrics import CONTRACT

POSITION = {"moves": [["B", "D4"], ["W", "Q16"]]}
GENERATIONS = ["2025", "2026"]
MODES = {"2025": "legacy", "2026": "auto"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Running]]:
    """A server with tokens, for tests that restore its state."""
    site = Site(tmp_path_factory.mktemp("shared"))
    site.write_tokens()
    with site.serving() as running:
        yield site, running


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_position_is_analysed_in_both_generations(shared: tuple[Site, Running], generation: str) -> None:
    site, _ = shared
    report = site.call(
        ("analyzePosition", {"position": POSITION, "maxVisits": 10}),
        ("getEngineStatus", {}),
        token=ANALYZE_TOKEN,
        protocol=generation,
    )
    assert report["ok"], report
    assert report["server"] == {"name": "katago-mcp", "version": "0.2.0"}
    assert report["protocol"].startswith(generation)
    analysis, status = (result["structured"] for result in report["results"])
    assert (analysis["perspective"], analysis["nextPlayer"], analysis["visits"]) == ("BLACK", "B", 10)
    assert (status["state"], status["ready"]) == ("ready", True)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_probes_do_not_count_in_the_hit_rate(
    shared: tuple[Site, Running], generation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, running = shared

    def counters() -> list[float | None]:
        names = ("hits", "misses", "probe_lookups")
        return [running.metric(f"katago_cache_{name}_total") for name in names]

    def rise(**environ: str) -> list[float]:
        before = counters()
        with monkeypatch.context() as patched:
            for name, value in environ.items():
                patched.setenv(name, value)
            game = {"moves": [["B", "D4"], ["W", "Q4"], ["B", "C16" if generation == "2025" else "D17"]]}
            calls = [("analyzePosition", {"position": game, "maxVisits": 9})] * 2
            assert site.call(*calls, token=ANALYZE_TOKEN, protocol=generation)["ok"]
        return [(after or 0) - (earlier or 0) for after, earlier in zip(counters(), before, strict=True)]

    assert rise(KATAGO_MCP_PROBE="1") == [0, 0, 2]
    # A call without the mark is one of a client, also after probes in the same process.
    assert rise() == [2, 0, 0]


def client(running: Running, generation: str, token: str = ANALYZE_TOKEN) -> Client:
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)
    return Client(streamable_http_client(running.url, http_client=http), mode=MODES[generation])


def test_every_tool_reports_a_warning_of_the_engine_once(shared: tuple[Site, Running]) -> None:
    site, _ = shared
    game = {**SMALL, "moves": [["B", "J1"], ["B", "J3"]] + [["W", "pass"]] * 9}
    calls = [(tool, {**arguments, "position": game}) for tool, arguments in NEW_TOOLS]
    site.behave(analysis="warn")
    report = site.call(("analyzePosition", {"position": game}), *calls, token=ANALYZE_TOKEN)
    site.behave()
    assert report["ok"], report
    for result in report["results"]:
        warnings = result["structured"]["warnings"]
        assert warnings[0] == "move 2: B plays twice in a row"
        assert warnings.count("komi: Unexpected or unused field") == 1
        assert "Warning: komi: Unexpected or unused field" in result["text"]


@pytest.mark.anyio
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_progress_reaches_the_client(shared: tuple[Site, Running], generation: str) -> None:
    site, running = shared
    site.behave(analysis="slow", seconds=60)
    reports: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reports.append((progress, total))
        site.behave()

    arguments = {"position": {"moves": [["B", "C3"]]}, "maxVisits": 90 + int(generation) % 10}
    async with client(running, generation) as session:
        result = await session.call_tool("analyzePosition", arguments, progress_callback=note)
    assert not result.is_error
    assert reports
    assert {total for _, total in reports} == {arguments["maxVisits"]}


SMALL = {"boardXSize": 9, "boardYSize": 9, "moves": [["B", "C3"], ["W", "G7"], ["B", "E5"]]}
NEW_TOOLS: list[tuple[str, dict[str, Any]]] = [
    ("findMistakes", {"position": SMALL}),
    ("evaluateTerritory", {"position": SMALL}),
    ("explainMove", {"position": SMALL, "move": "D4"}),
]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_game_is_reviewed_evaluated_and_explained_in_both_generations(
    shared: tuple[Site, Running], generation: str
) -> None:
    site, _ = shared
    report = site.call(*NEW_TOOLS, token=ANALYZE_TOKEN, protocol=generation)
    assert report["ok"], report
    review, territory, explanation = (result["structured"] for result in report["results"])
    assert (review["turnsAnalysed"], review["partial"], review["perspective"]) == (4, False, "BLACK")
    assert [player["player"] for player in review["players"]] == ["B", "W"]
    assert len(territory["ownership"]) == 9
    assert territory["score"]["scoring"] == "area"
    assert (explanation["move"], explanation["player"]) == ("D4", "W")
    assert all(len(result["text"]) < 2000 for result in report["results"])


@pytest.mark.anyio
@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(("tool", "arguments"), NEW_TOOLS)
async def test_progress_and_cancellation_of_every_tool(
    shared: tuple[Site, Running], tool: str, arguments: dict[str, Any], generation: str
) -> None:
    site, running = shared
    site.behave(analysis="slow", seconds=0.3, turns={"2": "silent"})
    if tool != "findMistakes":
        site.behave(analysis="slow", seconds=60)
    started, ended = len(site.queries()), len(site.queries("terminate"))
    reports: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reports.append(progress)

    fresh = {**arguments, "maxVisits": 60 + int(generation) % 10}
    async with client(running, generation) as session:
        call = asyncio.create_task(session.call_tool(tool, fresh, progress_callback=note))
        await asyncio.to_thread(eventually, lambda: len(site.queries()) > started, "the search has started")
        await asyncio.to_thread(eventually, lambda: bool(reports) and reports[-1] > 0, "progress")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(
            eventually, lambda: len(site.queries("terminate")) > ended, "the search is ended"
        )
    site.behave()
    eventually(
        lambda: (running.metric("katago_requests_total", tool=tool, status="cancelled") or 0) >= 1, "counted"
    )


def test_many_calls_of_one_client_do_not_starve_another_client(site: Site) -> None:
    site.write_tokens()
    site.write(katago={"maxConcurrent": 1}, server={"maxQueued": 8})

    def arguments(visits: int) -> dict[str, Any]:
        return {"position": POSITION, "maxVisits": visits}

    with site.serving() as running:
        site.behave(analysis="slow", seconds=60)
        calls = [Background(site, arguments(visits), token=ANALYZE_TOKEN) for visits in range(1, 10)]
        eventually(lambda: running.metric("katago_engine_queries_queued") == 8, "the queue is full")
        refused = site.call(("analyzePosition", arguments(99)), token=ANALYZE_TOKEN)
        assert refused["results"][0]["text"].startswith("overloaded: ")
        rare = Background(site, arguments(100), token=BOTH_TOKEN)
        eventually(lambda: running.metric("katago_engine_queries_queued") == 9, "the other is let in")
        site.behave()
        assert all(call.result()["ok"] for call in (*calls, rare))
    order = [query["maxVisits"] for query in site.queries()]
    assert order.index(100) <= 2


@pytest.mark.anyio
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_disconnected_client_ends_its_search(shared: tuple[Site, Running], generation: str) -> None:
    site, running = shared
    site.behave(analysis="slow", seconds=60)
    started, ended = len(site.queries()), len(site.queries("terminate"))
    async with client(running, generation) as session:
        call = asyncio.create_task(
            session.call_tool("analyzePosition", {"position": {"moves": [["B", "E5"]]}})
        )
        await asyncio.to_thread(eventually, lambda: len(site.queries()) > started, "the search has started")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(
            eventually, lambda: len(site.queries("terminate")) > ended, "the search is ended"
        )
    site.behave()
    cancelled = {"tool": "analyzePosition", "status": "cancelled"}
    eventually(lambda: (running.metric("katago_requests_total", **cancelled) or 0) >= 1, "counted")


@pytest.mark.anyio
async def test_the_tools_are_described_for_an_assistant(shared: tuple[Site, Running]) -> None:
    _, running = shared
    async with client(running, "2026") as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert set(tools) == set(TOOLS)
    assert all(tool.description and tool.output_schema for tool in tools.values())
    assert tools["explainMove"].input_schema["properties"]["maxVisits"]["minimum"] == 2
    for name in ANALYSIS_TOOLS:
        schema = tools[name].input_schema
        position = schema["properties"]["position"]["properties"]
        assert {"rules", "boardXSize", "moves", "initialStones", "initialPlayer", "komi"} <= set(position)
        for part in ("SITUATIONAL", "TERRITORY", "SEKI", "sui", "button", "whb", "fpok"):
            assert part in position["rules"]["description"]
        fields = [*position.values(), *schema["properties"].values()]
        assert all("description" in field for field in fields), name


@pytest.mark.parametrize(
    ("arguments", "code", "field"),
    [
        ({"position": {"moves": [["B", "Z9"]]}}, "invalid_move", "position.moves[0]"),
        ({"position": {"komi": 6.25}}, "invalid_komi", "position.komi"),
        ({"position": POSITION, "maxVisits": 5000}, "limit_exceeded", "maxVisits"),
        ({}, "invalid_arguments", "position, sgf, sgfBase64"),
        ({"position": {"moves": [["B"]]}}, "invalid_arguments", "position.moves[0][1]"),
        ({"position": {"size": 9}}, "invalid_arguments", "position.size"),
        ({"position": {"rules": {"ko": "NONE"}}}, "invalid_rules", "position.rules.ko"),
    ],
)
def test_error_about_wrong_arguments_has_code_and_field(
    shared: tuple[Site, Running], arguments: dict[str, Any], code: str, field: str
) -> None:
    site, _ = shared
    report = site.call(("analyzePosition", arguments), token=ANALYZE_TOKEN)
    (result,) = report["results"]
    assert not report["ok"]
    assert result["text"].startswith(f"{code}: ")
    assert result["structured"]["error"]["field"] == field


def test_error_about_an_unknown_tool_lists_the_tools(shared: tuple[Site, Running]) -> None:
    site, _ = shared
    report = site.call(("analysePosition", {}), token=ANALYZE_TOKEN)
    assert report["results"][0]["text"].startswith("unknown_tool: ")
    assert "analyzePosition" in report["results"][0]["text"]


@pytest.mark.parametrize(("tool", "status"), [("getEngineStatus", 0), ("no-such-tool", 1)])
def test_exit_status_of_call_follows_its_report(shared: tuple[Site, Running], tool: str, status: int) -> None:
    site, running = shared
    order = {"url": running.url, "token": ANALYZE_TOKEN, "calls": [{"tool": tool}]}
    done = site.run("call", stdin=json.dumps(order))
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], done.stderr) == (status, status == 0, "")
    assert len(report["results"]) == 1


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_deadline_of_a_call_bounds_a_slow_search(shared: tuple[Site, Running], generation: str) -> None:
    site, _ = shared
    site.behave(analysis="silent")
    call = ("analyzePosition", {"position": {"moves": [["W", "T1"]]}})
    report = site.call(call, token=ANALYZE_TOKEN, deadline=0.5, protocol=generation)
    site.behave()
    assert (report["ok"], report["error"]) == (False, "the calls did not finish within the deadline of 0.5 s")


@pytest.mark.parametrize("generation", ["auto", *GENERATIONS])
def test_the_deadline_of_a_call_bounds_a_server_that_is_frozen(
    shared: tuple[Site, Running], generation: str
) -> None:
    site, running = shared
    running.process.send_signal(signal.SIGSTOP)
    try:
        report = site.call(("getEngineStatus", {}), token=ANALYZE_TOKEN, deadline=0.5, protocol=generation)
    finally:
        running.process.send_signal(signal.SIGCONT)
    assert report["error"] == "the calls did not finish within the deadline of 0.5 s"
    eventually(lambda: running.answers("/ready") == 200, "ready again")


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("not-a-token-of-this-server", 401), (ADMIN_TOKEN, 403)]
)
def test_mcp_requires_a_token_with_the_scope_analyze(
    shared: tuple[Site, Running], generation: str, token: str | None, status: int
) -> None:
    site, _ = shared
    report = site.call(("getEngineStatus", {}), token=token, protocol=generation)
    assert report["error"].startswith(f"the server rejected the request: HTTP {status}")
    assert "not-a-token" not in json.dumps(report)


def test_starting_and_stopping_requires_the_scope_admin(shared: tuple[Site, Running]) -> None:
    site, _ = shared
    report = site.call(("stopEngine", {}), ("startEngine", {}), token=ANALYZE_TOKEN)
    assert [result["text"][:10] for result in report["results"]] == ["forbidden:"] * 2


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("wrong-token-of-somebody", 401), (ANALYZE_TOKEN, 403)]
)
@pytest.mark.parametrize(
    "path", ["/admin/cache/clear", "/admin/engine/restart", "/admin/drain", "/admin/undrain"]
)
def test_admin_endpoints_require_the_scope_admin(
    shared: tuple[Site, Running], path: str, token: str | None, status: int
) -> None:
    _, running = shared
    response = running.post(path, token)
    assert response.status_code == status
    assert response.json()["ok"] is False


def test_admin_endpoints_reject_get(shared: tuple[Site, Running]) -> None:
    _, running = shared
    assert running.get("/admin/drain").status_code == 405


@pytest.mark.parametrize("path", ["/mcp", "/admin/drain"])
def test_foreign_host_is_rejected(shared: tuple[Site, Running], path: str) -> None:
    _, running = shared
    headers = {"Host": "evil.example", "Content-Type": "application/json"}
    assert running.post(path, BOTH_TOKEN, **headers).status_code == 421


@pytest.mark.parametrize("path", ["/mcp", "/admin/drain"])
def test_foreign_origin_is_rejected(shared: tuple[Site, Running], path: str) -> None:
    _, running = shared
    headers = {"Origin": "https://evil.example", "Content-Type": "application/json"}
    assert running.post(path, BOTH_TOKEN, **headers).status_code == 403


def test_probes_answer_under_any_host(shared: tuple[Site, Running]) -> None:
    _, running = shared
    for path in ("/health", "/ready"):
        url = f"http://127.0.0.1:{running.port}{path}"
        assert httpx2.get(url, headers={"Host": "10.0.0.7"}, timeout=PATIENCE).status_code == 200


def test_rejections_are_counted(shared: tuple[Site, Running]) -> None:
    _, running = shared
    before = running.metric("katago_mcp_http_refused_total", reason="unauthenticated")
    running.post("/admin/drain", "wrong-token-of-somebody")
    after = running.metric("katago_mcp_http_refused_total", reason="unauthenticated")
    assert before is not None
    assert after == before + 1


def test_health_shows_engine_release_and_uptime(shared: tuple[Site, Running]) -> None:
    _, running = shared
    body = running.get("/health").json()
    assert (body["status"], body["draining"], body["release"]) == ("ok", False, None)
    assert body["engine"]["state"] == "ready"
    assert body["engine"]["network"] == "fake-b1c1"
    assert body["uptimeSeconds"] > 0


def test_clearing_the_cache_returns_the_sizes_before_and_after(shared: tuple[Site, Running]) -> None:
    site, running = shared
    arguments = {"position": {"moves": [["B", "G7"]]}}
    first = site.call(("analyzePosition", arguments), token=ANALYZE_TOKEN)["results"][0]
    again = site.call(("analyzePosition", arguments), token=ANALYZE_TOKEN)["results"][0]
    assert (first["structured"]["cached"], again["structured"]["cached"]) == (False, True)
    body = running.post("/admin/cache/clear", ADMIN_TOKEN).json()
    assert body["before"]["entries"] >= 1
    assert body["before"]["bytes"] > 0
    assert body["after"] == {"entries": 0, "bytes": 0}
    assert running.metric("katago_cache_entries") == 0
    third = site.call(("analyzePosition", arguments), token=ANALYZE_TOKEN)["results"][0]
    assert third["structured"]["cached"] is False


def test_draining_affects_ready_and_calls(
    shared: tuple[Site, Running],
) -> None:
    site, running = shared
    assert running.post("/admin/drain", ADMIN_TOKEN).json()["changed"] is True
    try:
        assert running.get("/ready").status_code == 503
        assert running.get("/ready").json()["reason"] == "draining"
        assert running.get("/health").status_code == 200
        report = site.call(("analyzePosition", {"position": {}}), token=ANALYZE_TOKEN)
        assert report["results"][0]["text"].startswith("draining: ")
    finally:
        running.post("/admin/undrain", ADMIN_TOKEN)
    assert running.get("/ready").status_code == 200


def test_restart_replaces_the_engine(shared: tuple[Site, Running]) -> None:
    _, running = shared
    before = running.engine()["pid"]
    response = running.post("/admin/engine/restart", ADMIN_TOKEN)
    assert response.status_code == 202
    assert response.json()["before"]["pid"] == before
    eventually(lambda: running.engine()["pid"] not in (None, before), "a new engine")
    eventually(lambda: running.answers("/ready") == 200, "ready again")


def test_an_operators_token_stops_and_starts_the_engine(shared: tuple[Site, Running]) -> None:
    site, running = shared
    site.call(("stopEngine", {}), token=BOTH_TOKEN)
    eventually(lambda: running.engine()["state"] == "stopped", "stopped")
    assert running.answers("/ready") == 503
    assert running.answers("/health") == 200
    assert running.metric("katago_engine_up") == 0
    site.call(("startEngine", {}), token=BOTH_TOKEN)
    eventually(lambda: running.answers("/ready") == 200, "ready again")
    assert running.metric("katago_engine_up") == 1


def test_neither_tokens_nor_moves_are_logged(shared: tuple[Site, Running]) -> None:
    site, running = shared
    site.call(("analyzePosition", {"position": {"moves": [["B", "H8"]]}}), token=ANALYZE_TOKEN)
    site.call(("analyzePosition", {"position": {"moves": [["B", "H99"]]}}), token=ANALYZE_TOKEN)
    log = running.log.read_text()
    for secret in (ANALYZE_TOKEN, ADMIN_TOKEN, BOTH_TOKEN, "H8", "H99"):
        assert secret not in log
    assert all({"ts", "level", "event", "logger"} <= event.keys() for event in running.events())


def test_the_metrics_are_complete_at_the_first_scrape(site: Site) -> None:
    site.behave(start="mute")
    with site.serving(ready=False) as running:
        samples = running.scrape()
    contract = [
        *(series for series in CONTRACT if series[0] != "katago_mcp_build_info"),
        ("katago_mcp_build_info", {"version": "0.2.0", "release": "none"}),
    ]
    series = [(name, frozenset(labels.items())) for name, labels in contract]
    assert [name for name in series if name not in samples] == []


def test_the_metrics_port_serves_metrics_only(shared: tuple[Site, Running]) -> None:
    _, running = shared
    url = f"http://127.0.0.1:{running.metrics_port}/health"
    assert httpx2.get(url, timeout=PATIENCE).status_code == 404


def test_calls_are_counted_by_how_they_ended(shared: tuple[Site, Running]) -> None:
    site, running = shared

    def count(tool: str, status: str) -> float:
        return running.metric("katago_requests_total", tool=tool, status=status) or 0

    before = count("analyzePosition", "ok"), count("analyzePosition", "invalid")
    unknown = count("unknown", "invalid")
    site.call(
        ("analyzePosition", {"position": {"moves": [["B", "J9"]]}}),
        ("analyzePosition", {"position": {"komi": 0.3}}),
        ("no-such-tool", {}),
        token=ANALYZE_TOKEN,
    )
    after = count("analyzePosition", "ok"), count("analyzePosition", "invalid")
    assert after == (before[0] + 1, before[1] + 1)
    assert count("unknown", "invalid") == unknown + 1


def test_rate_limited_token_receives_a_retry_hint(site: Site) -> None:
    site.write_tokens()
    site.write(rateLimit={"enabled": True, "requestsPerMinute": 1, "burst": 2})
    with site.serving() as running:
        report = site.call(*[("getEngineStatus", {})] * 3, token=ANALYZE_TOKEN)
        assert [result["ok"] for result in report["results"]] == [True, True, False]
        assert report["results"][2]["text"].startswith("rate_limited: ")
        assert report["results"][2]["structured"]["error"]["retryAfterSeconds"] > 30
        assert running.metric("katago_rate_limited_total") == 1
        assert site.call(("getEngineStatus", {}), token=BOTH_TOKEN)["ok"]


def test_allowed_host_is_accepted(site: Site) -> None:
    site.write(server={"allowedHosts": ["go.example.org:*"]})
    with site.serving() as running:
        assert running.post("/admin/undrain", Host="go.example.org:8080").status_code == 200
        assert running.post("/admin/undrain", Host="go.example.org.evil").status_code == 421


def test_health_stays_ok_if_the_engine_cannot_start(site: Site) -> None:
    site.behave(start="missing")
    with site.serving(ready=False) as running:
        eventually(lambda: running.engine()["state"] == "config_error", "config_error")
        assert "Could not open file" in running.engine()["reason"]
        assert running.answers("/health") == 200
        ready = running.get("/ready")
        assert ready.status_code == 503
        assert "Could not open file" in ready.json()["reason"]
        report = site.call(("analyzePosition", {"position": {}}))
        assert report["results"][0]["text"].startswith("engine_config_error: ")


def test_killed_engine_is_detected_and_replaced(site: Site) -> None:
    with site.serving() as running:
        first = running.engine()["pid"]
        running.kill_engine()
        eventually(lambda: running.engine()["pid"] not in (None, first), "a new engine")
        eventually(lambda: running.answers("/ready") == 200, "ready again")
        assert running.metric("katago_engine_restarts_total", reason="exited") == 1


def test_a_stopped_engine_makes_the_server_unready_and_is_replaced(site: Site) -> None:
    site.write(health={"heartbeatTimeoutSeconds": 1})
    with site.serving() as running:
        running.kill_engine(signal.SIGSTOP)
        eventually(lambda: running.metric("katago_engine_restarts_total", reason="hung") == 1, "hung")
        eventually(lambda: running.answers("/ready") == 200, "ready again")


class Background:
    """A call that runs concurrently with the test."""

    def __init__(self, site: Site, arguments: dict[str, Any], **order: object) -> None:
        self._report: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, args=(site, arguments, order))
        self._thread.start()

    def _run(self, site: Site, arguments: dict[str, Any], order: dict[str, object]) -> None:
        self._report = site.call(("analyzePosition", arguments), **order)

    def wait(self) -> dict[str, Any]:
        """The report of the call."""
        self._thread.join()
        return self._report

    def result(self) -> dict[str, Any]:
        """The result of the call."""
        report = self.wait()
        assert report["results"], report
        result: dict[str, Any] = report["results"][0]
        return result


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_deadline_of_a_call_bounds_a_server_that_freezes_meanwhile(
    shared: tuple[Site, Running], generation: str
) -> None:
    site, running = shared
    site.behave(analysis="silent")
    started = len(site.queries())
    arguments = {"position": {"moves": [["W", "S1"]]}}
    call = Background(site, arguments, token=ANALYZE_TOKEN, deadline=5, protocol=generation)
    eventually(lambda: len(site.queries()) > started, "the search has started")
    running.process.send_signal(signal.SIGSTOP)
    try:
        report = call.wait()
    finally:
        running.process.send_signal(signal.SIGCONT)
    site.behave()
    assert report["error"] == "the calls did not finish within the deadline of 5 s"
    eventually(lambda: running.answers("/ready") == 200, "ready again")


def test_sigterm_lets_a_running_call_finish(site: Site) -> None:
    site.write(server={"drainTimeoutSeconds": PATIENCE})
    with site.serving() as running:
        site.behave(analysis="slow", seconds=60)
        call = Background(site, {"position": POSITION})
        eventually(lambda: bool(site.queries()), "the search has started")
        running.process.terminate()
        eventually(lambda: running.answers("/ready") == 503, "unready while it drains")
        site.behave(analysis="answer")
        assert call.result()["ok"]
        assert running.process.wait(PATIENCE) == 0


def test_sigterm_answers_a_call_that_takes_too_long(site: Site) -> None:
    site.write(server={"drainTimeoutSeconds": 0.3})
    with site.serving() as running:
        site.behave(analysis="slow", seconds=60)
        call = Background(site, {"position": POSITION})
        eventually(lambda: bool(site.queries()), "the search has started")
        engine = running.engine()["pid"]
        running.process.terminate()
        answer = call.result()
        assert answer["text"].startswith("draining: ")
        assert "30 s" in answer["text"]
        assert running.process.wait(PATIENCE) == 0
        assert not Path(f"/proc/{engine}").exists()


def test_sigterm_ends_idle_sessions(site: Site) -> None:
    async def hold(running: Running) -> int:
        async with Client(running.url, mode="legacy") as session:
            await session.list_tools()
            running.process.terminate()
            return await asyncio.to_thread(running.process.wait, PATIENCE)

    with site.serving() as running:
        assert asyncio.run(hold(running)) == 0
        assert [event for event in running.events() if event["level"] == "error"] == []


def test_port_in_use_is_reported_in_one_line(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.port)):
        done = site.run("serve", "--config", str(site.path))
    assert done.returncode == 1
    expected = f"cannot listen on 127.0.0.1:{site.port}: Address already in use"
    assert done.stderr.strip() == expected


def test_no_part_of_an_answer_waits_for_a_delayed_acknowledgement() -> None:
    with bind("127.0.0.1", 0) as listening:
        listening.setblocking(True)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_systemd_is_notified_of_readiness_states_and_stopping(site: Site, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(address))
        sock.settimeout(PATIENCE)
        # The socket holds only a few messages, so they are read from the start.
        with site.serving(ready=None, NOTIFY_SOCKET=str(address), WATCHDOG_USEC="600000"):
            heard: list[str] = []
            while heard.count("WATCHDOG=1") < 3 or "STATUS=engine ready" not in heard:
                heard.append(sock.recv(4096).decode())
        sock.setblocking(False)
        while True:
            try:
                heard.append(sock.recv(4096).decode())
            except BlockingIOError:
                break
    assert heard.count("READY=1") == 1
    assert "STOPPING=1" in heard
