"""The service from the outside, as its clients use it, with both generations of the protocol."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from lab.hosts import Host
from tests import fleet

HOSTS = fleet.LAB.hosts()
MODES = {"2025": "legacy", "2026": "auto"}
TOOLS = {"analyzePosition", "getEngineStatus", "startEngine", "stopEngine"}
POSITION = {
    "boardXSize": 19,
    "boardYSize": 19,
    "rules": "japanese",
    "komi": 6.5,
    "moves": [["B", "Q16"], ["W", "D4"], ["B", "Q3"], ["W", "D17"]],
}

each_host = pytest.mark.parametrize("target", HOSTS, ids=lambda host: host.name)
each_generation = pytest.mark.parametrize("generation", MODES)


async def ask(target: Host, generation: str, tool: str, arguments: dict[str, Any], token: str) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(60)) as http,
        Client(
            streamable_http_client(fleet.address(target), http_client=http), mode=MODES[generation]
        ) as client,
    ):
        tools = {each.name for each in (await client.list_tools()).tools}
        return client.protocol_version, tools, await client.call_tool(tool, arguments)


@each_host
@each_generation
def test_position_is_analysed(target: Host, generation: str) -> None:
    version, tools, result = asyncio.run(
        ask(
            target,
            generation,
            "analyzePosition",
            {"position": POSITION, "maxVisits": 20},
            fleet.token(),
        )
    )
    assert version.startswith(generation)
    assert tools >= TOOLS
    assert not result.is_error, result
    analysis = result.structured_content
    assert analysis["perspective"] == "BLACK"
    assert 0.2 < analysis["winrate"] < 0.8
    assert abs(analysis["scoreLead"]) < 10
    assert analysis["moves"][0]["pv"][0] == analysis["moves"][0]["move"]
    assert result.content[0].text


@each_host
def test_starting_and_stopping_the_engine_needs_the_admin_scope(target: Host) -> None:
    _, _, result = asyncio.run(ask(target, "2026", "stopEngine", {}, fleet.token()))
    assert result.is_error
    assert "forbidden" in result.content[0].text


@each_host
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {fleet.token()}", "Host": "evil.example"}, 421),
        ({"Authorization": f"Bearer {fleet.token()}", "Origin": "https://evil.example"}, 403),
    ],
)
def test_unauthorized_requests_are_refused(target: Host, headers: dict[str, str], status: int) -> None:
    headers = {"Content-Type": "application/json", **headers}
    assert fleet.get(target, "/mcp", method="POST", headers=headers)[0] == status


@each_host
def test_administration_needs_the_admin_token(target: Host) -> None:
    for headers, status in (
        ({}, 401),
        ({"Authorization": f"Bearer {fleet.token()}"}, 403),
        ({"Authorization": f"Bearer {fleet.token(fleet.LAB.admin_token)}"}, 200),
    ):
        assert fleet.get(target, "/admin/cache/clear", method="POST", headers=headers)[0] == status


@each_host
def test_drained_service_is_not_ready_until_it_is_undrained(target: Host) -> None:
    headers = {"Authorization": f"Bearer {fleet.token(fleet.LAB.admin_token)}"}
    assert fleet.get(target, "/admin/drain", method="POST", headers=headers)[0] == 200
    try:
        status, body = fleet.get(target, "/ready")
        assert status == 503
        assert "drain" in json.loads(body)["reason"]
        assert fleet.get(target, "/health")[0] == 200
    finally:
        assert fleet.get(target, "/admin/undrain", method="POST", headers=headers)[0] == 200
    assert fleet.get(target, "/ready")[0] == 200


@each_host
def test_documented_metrics_exist(target: Host) -> None:
    assert fleet.metric(target, "katago_engine_up") == 1
    status, body = fleet.get(target, "/metrics", service="metrics")
    assert status == 200
    for name in (
        "katago_requests_total",
        "katago_analysis_duration_seconds_bucket",
        "katago_engine_state",
        "katago_engine_restarts_total",
        "katago_engine_queries_in_flight",
        "katago_visits_total",
        "katago_cache_hits_total",
        "katago_cache_misses_total",
        "katago_cache_hit_rate",
        "katago_cache_size_bytes",
        "katago_cache_max_size_bytes",
        "katago_cache_entries",
        "katago_rate_limited_total",
        "katago_mcp_build_info",
        "process_resident_memory_bytes",
    ):
        assert f"\n{name}" in body, name
