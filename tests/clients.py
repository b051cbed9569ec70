"""Calls the tools of a lab's service as an MCP client."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from lab.hosts import Host
from tests import fleet


async def ask(
    target: Host, tool: str, arguments: dict[str, Any], *, token: str = "", seconds: float = 60
) -> Any:
    """Call a tool with the lab's token or another one. Return the result, which may be an error."""
    headers = {"Authorization": f"Bearer {token or fleet.token()}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(seconds)) as http,
        Client(streamable_http_client(fleet.address(target), http_client=http)) as client,
    ):
        return await client.call_tool(tool, arguments)


def call(target: Host, tool: str, arguments: dict[str, Any]) -> Any:
    """Call a tool from synchronous code."""
    return asyncio.run(ask(target, tool, arguments))


def limits(target: Host) -> dict[str, Any]:
    """The limits that getEngineStatus reports."""
    status = call(target, "getEngineStatus", {}).structured_content
    return {name: status[name] for name in ("maxVisits", "defaultVisits", "maxTime", "maxReviewVisits")}
