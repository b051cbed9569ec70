"""Refusals of HTTP requests before a tool is called: always JSON, with a code and what is accepted."""

from dataclasses import dataclass
from typing import Any

from mcp.types import INVALID_REQUEST
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MCP_PATH = "/mcp"
_FIRST_ERROR = 400


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused. `number` is the JSON-RPC error code; `data` has more keys for it."""

    status: int
    code: str
    message: str
    accepted: str
    number: int = INVALID_REQUEST

    def response(
        self, path: str, request_id: str | int | None = None, data: dict[str, Any] | None = None
    ) -> Response:
        """The response: a JSON-RPC error for MCP, else an object with the code in `error`."""
        if path != MCP_PATH:
            body: dict[str, Any] = {"ok": False, "error": self.code, "message": self.message}
            return JSONResponse({**body, "accepted": self.accepted}, self.status)
        details = {
            "code": self.code,
            "message": self.message,
            "field": None,
            "accepted": self.accepted,
            "retryAfterSeconds": None,
        }
        error = {
            "code": self.number,
            "message": f"{self.code}: {self.message}; accepted: {self.accepted}",
            "data": {**details, **(data or {})},
        }
        return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, self.status)


_BY_STATUS = {
    400: Refusal(
        400, "invalid_request", "the request is not valid", "JSON with Content-Type application/json"
    ),
    404: Refusal(
        404, "not_found", "there is nothing at this path", "MCP at /mcp, probes at /health and /ready"
    ),
    405: Refusal(405, "method_not_allowed", "the path does not support this method", "a method in Allow"),
    406: Refusal(
        *(406, "not_acceptable", "the Accept header excludes the forms of the answer"),
        "Accept: application/json, text/event-stream",
    ),
    413: Refusal(413, "limit_exceeded", "the request body is too large", "a record of at most 4 MiB"),
    503: Refusal(503, "unavailable", "the server cannot serve the request now", "the same request later"),
}


class JsonRefusals:
    """Middleware that gives each refusal in plain text, or without a body, a body in JSON."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started: Message | None = None

        async def convert(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start" and _is_plain(message):
                started = message
            elif started is None:
                await send(message)
            elif not message.get("more_body", False):
                start, started = started, None
                await _send_json(start, scope, receive, send)

        await self._app(scope, receive, convert)


def _is_plain(start: Message) -> bool:
    kind = Headers(raw=start["headers"]).get("content-type", "")
    return start["status"] in _BY_STATUS and not kind.startswith("application/json")


async def _send_json(start: Message, scope: Scope, receive: Receive, send: Send) -> None:
    response = _BY_STATUS[start["status"]].response(scope["path"])
    kept = MutableHeaders(raw=list(start["headers"]))
    for name in ("content-type", "content-length"):
        del kept[name]
    response.raw_headers.extend(kept.raw)
    await response(scope, receive, send)
