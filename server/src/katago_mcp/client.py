"""The `call` command: tool calls to a server through the official client, JSON in and JSON out."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from katago_mcp.tls import pinned

_GOODBYE_SECONDS = 0.3
_MODES = {"auto": "auto", "2025": "legacy", "2026": "auto"}


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tool: str
    arguments: dict[str, Any] = {}


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    url: Annotated[str, Field(pattern=r"^https?://")]
    token: str | None = None
    certificate: str | None = None
    deadline: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = 60
    protocol: Literal["auto", "2025", "2026"] = "auto"
    calls: list[_Call] = []


async def call(text: str | bytes) -> dict[str, Any]:
    """Carry out an order and report on it.

    `text` is JSON: `{"url", "token", "certificate", "deadline" (seconds, for everything), "protocol"
    ("auto", "2025" or "2026"), "calls": [{"tool", "arguments"}]}`. `certificate` names a PEM file with
    the server's own certificate, which is accepted whatever the name in `url`, and no other; without
    it the system's authorities decide. The report is `{"ok", "server":
    {"name", "version"}, "protocol", "results": [{"tool", "ok", "structured", "text", "error",
    "seconds"}], "error"}`. Nothing that goes wrong is raised, and the token is in no text.
    """
    report: dict[str, Any] = {
        "ok": False,
        "server": None,
        "protocol": None,
        "results": [],
        "error": None,
    }
    try:
        order = _Order.model_validate_json(text)
    except ValidationError as error:
        report["error"] = "the order is not valid: " + "; ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'stdin'}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False)
        )
        return report
    work = asyncio.create_task(_carry_out(order, report))
    await asyncio.wait({work}, timeout=order.deadline)
    if not work.done():
        report["error"] = f"deadline of {order.deadline:g} s passed"
        await _abandon(work)
    elif (failure := work.exception()) is not None:
        report["error"] = _redact(_reason(failure), order.token)
    report["ok"] = (
        report["error"] is None
        and len(report["results"]) == len(order.calls)
        and all(result["ok"] for result in report["results"])
    )
    return report


async def _abandon(work: "asyncio.Task[None]") -> None:
    """Cancel, and cancel again what then says goodbye to a server that does not answer."""
    for _ in range(3):
        work.cancel()
        await asyncio.wait({work}, timeout=_GOODBYE_SECONDS)
        if work.done():
            break
    if work.done() and not work.cancelled():
        work.exception()


async def _carry_out(order: _Order, report: dict[str, Any]) -> None:
    headers = {} if not order.token else {"Authorization": f"Bearer {order.token}"}
    refused: list[str] = []

    async def note(response: httpx2.Response) -> None:
        if response.status_code in (401, 403, 421):
            refused.append(f"HTTP {response.status_code} {response.reason_phrase}")

    try:
        async with contextlib.AsyncExitStack() as stack:
            http = await stack.enter_async_context(
                httpx2.AsyncClient(
                    headers=headers,
                    timeout=httpx2.Timeout(order.deadline),
                    verify=True if order.certificate is None else pinned(Path(order.certificate)),
                    event_hooks={"response": [note]},
                )
            )
            client = await stack.enter_async_context(
                Client(
                    streamable_http_client(order.url, http_client=http),
                    mode=_MODES[order.protocol],
                    cache=None,
                )
            )
            report["protocol"] = client.protocol_version
            if order.protocol == "2026" and client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
                raise _Refused(f"the server speaks {client.protocol_version} only")
            if client.server_info is not None:
                report["server"] = {
                    "name": client.server_info.name,
                    "version": client.server_info.version,
                }
            for wanted in order.calls:
                report["results"].append(await _one(client, wanted))
    except (Exception, BaseExceptionGroup):
        if refused:
            raise _Refused(f"the server refused: {refused[0]}") from None
        raise


class _Refused(Exception):
    """The server does not want this caller, or not this generation of the protocol."""


async def _one(client: Client, wanted: _Call) -> dict[str, Any]:
    started = time.monotonic()
    result: dict[str, Any] = {"tool": wanted.tool, "ok": False, "structured": None, "text": None}
    result["error"] = None
    try:
        answer = await client.call_tool(wanted.tool, wanted.arguments)
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
