"""The `call` command: calls tools through the official client. It reads JSON and prints JSON."""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from katago_mcp.metrics import PROBE_HEADER
from katago_mcp.tls import pinned

PROBE_VARIABLE = "KATAGO_MCP_PROBE"
"""The environment variable that marks all calls as probes: "1". Clients of 0.2.0 ignore it."""

_CANCEL_SECONDS = 0.3
_MODES = {"auto": "auto", "2025": "legacy", "2026": "auto"}


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tool: str
    arguments: dict[str, Any] = {}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    url: Annotated[str, Field(pattern=r"^https?://")]
    token: str | None = None
    certificate: str | None = None
    deadline: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = 60
    protocol: Literal["auto", "2025", "2026"] = "auto"
    calls: list[_Call] = []


async def call(text: str | bytes) -> dict[str, Any]:
    """Execute the calls of a request and report the results.

    `text` is JSON: `{"url", "token", "certificate", "deadline" (seconds, for all calls together), "protocol"
    ("auto", "2025" or "2026"), "calls": [{"tool", "arguments"}]}`. `certificate` is a PEM file with the
    server's own certificate: only this certificate is accepted, under any name in `url`. Without it, the
    system's certificate authorities are used. The report is `{"ok", "server": {"name", "version"},
    "protocol", "results": [{"tool", "ok", "structured", "text", "error", "seconds"}], "error"}`. Errors
    are reported, not raised. No text contains the token.
    """
    report: dict[str, Any] = {
        "ok": False,
        "server": None,
        "protocol": None,
        "results": [],
        "error": None,
    }
    try:
        request = _Request.model_validate_json(text)
    except ValidationError as error:
        report["error"] = "the request on stdin is not valid: " + "; ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'stdin'}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False)
        )
        return report
    work = asyncio.create_task(_execute(request, report))
    await asyncio.wait({work}, timeout=request.deadline)
    if not work.done():
        report["error"] = f"the calls did not finish within the deadline of {request.deadline:g} s"
        await _abandon(work)
    elif (failure := work.exception()) is not None:
        report["error"] = _redact(_reason(failure), request.token)
    report["ok"] = (
        report["error"] is None
        and len(report["results"]) == len(request.calls)
        and all(result["ok"] for result in report["results"])
    )
    return report


async def _abandon(work: "asyncio.Task[None]") -> None:
    """Cancel the work. Repeat, because closing the connection may wait for a server that does not answer."""
    for _ in range(3):
        work.cancel()
        await asyncio.wait({work}, timeout=_CANCEL_SECONDS)
        if work.done():
            break
    if work.done() and not work.cancelled():
        work.exception()


async def _execute(request: _Request, report: dict[str, Any]) -> None:
    headers = {} if not request.token else {"Authorization": f"Bearer {request.token}"}
    if os.environ.get(PROBE_VARIABLE) == "1":
        headers[PROBE_HEADER] = "1"
    http_errors: list[str] = []

    async def note(response: httpx2.Response) -> None:
        if response.status_code in (401, 403, 421):
            http_errors.append(f"HTTP {response.status_code} {response.reason_phrase}")

    try:
        async with contextlib.AsyncExitStack() as stack:
            http = await stack.enter_async_context(
                httpx2.AsyncClient(
                    headers=headers,
                    timeout=httpx2.Timeout(request.deadline),
                    verify=True if request.certificate is None else pinned(Path(request.certificate)),
                    event_hooks={"response": [note]},
                )
            )
            client = await stack.enter_async_context(
                Client(
                    streamable_http_client(request.url, http_client=http),
                    mode=_MODES[request.protocol],
                    cache=None,
                )
            )
            report["protocol"] = client.protocol_version
            if request.protocol == "2026" and client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
                raise _Refused(f"the server supports only protocol {client.protocol_version}")
            if client.server_info is not None:
                report["server"] = {
                    "name": client.server_info.name,
                    "version": client.server_info.version,
                }
            for tool_call in request.calls:
                report["results"].append(await _call_tool(client, tool_call))
    except (Exception, BaseExceptionGroup):
        if http_errors:
            raise _Refused(f"the server rejected the request: {http_errors[0]}") from None
        raise


class _Refused(Exception):
    """The server rejects this caller, or does not support the requested protocol."""


async def _call_tool(client: Client, tool_call: _Call) -> dict[str, Any]:
    started = time.monotonic()
    result: dict[str, Any] = {"tool": tool_call.tool, "ok": False, "structured": None, "text": None}
    result["error"] = None
    try:
        answer = await client.call_tool(tool_call.tool, tool_call.arguments)
    except MCPError as error:
        result["error"] = str(error)
    else:
        text = "\n".join(part.text for part in answer.content if isinstance(part, TextContent))
        result["ok"] = not answer.is_error
        result["structured"] = answer.structured_content
        result["text"] = text
        result["error"] = text if answer.is_error else None
    result["seconds"] = round(time.monotonic() - started, 4)
    return result


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error)
    if isinstance(error, _Refused):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _redact(text: str, token: str | None) -> str:
    return text.replace(token, "[token]") if token else text
