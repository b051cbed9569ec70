"""The MCP tools: what an assistant can call, and how every call is counted, limited and refused."""

import contextlib
import time
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from katago_mcp import __version__
from katago_mcp.analysis import Analyst, PositionAnalysis, Request
from katago_mcp.auth import ADMIN, ANALYZE, ANONYMOUS, RateLimiter, Tokens
from katago_mcp.errors import Failure, Invalid, Rejected, Status
from katago_mcp.logs import Log
from katago_mcp.metrics import ANALYSIS_TOOLS, TOOLS, UNKNOWN_TOOL, Metrics
from katago_mcp.positions import Position
from katago_mcp.supervisor import Supervisor

INSTRUCTIONS = """\
Analyses Go (Weiqi, Baduk) positions with KataGo. Call analyzePosition with the moves of a game to
learn who is ahead and which moves are good. Winrates and scores are always Black's. When a call
fails, its text begins with a code and says what would be accepted; "retry in N s" means that the
same call can succeed later."""

_log = Log(__name__)


class EngineReport(BaseModel):
    """What the server knows of its engine."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    state: str = Field(description="starting, tuning, ready, hung, backoff, config_error or stopped.")
    reason: str | None = Field(description="Why it is in that state, where there is a reason.")
    ready: bool = Field(description="Whether analyses are answered now.")
    changed: bool = Field(description="Whether this call changed what the engine is to do.")
    restarts: int = Field(description="Restarts since the server started.")
    engine_version: str | None = Field(description="Version of KataGo.")
    network: str | None = Field(description="Name of the neural network.")
    max_visits: int = Field(description="Most visits an analysis may ask for.")
    max_time: float = Field(description="Most seconds an analysis may ask for.")
    queued: int = Field(description="Analyses running or waiting.")


@dataclass(frozen=True)
class Service:
    """What the tools work with."""

    supervisor: Supervisor
    analyst: Analyst
    metrics: Metrics
    limiter: RateLimiter
    max_visits: int
    max_time: float
    secured: bool
    """Whether callers carry tokens with scopes; without, only local callers get here."""


def build(service: Service, tokens: Tokens | None) -> MCPServer[dict[str, Any]]:
    """The MCP server with its tools; with tokens, only `analyze` tokens reach it over HTTP."""
    auth = None
    if tokens is not None:
        # The SDK wants an issuer's address although tokens come from a file; it is shown nowhere.
        auth = AuthSettings(
            issuer_url=AnyHttpUrl("http://localhost"),
            resource_server_url=None,
            required_scopes=[ANALYZE],
        )
    server = _Server(
        service,
        "katago-mcp",
        title="KataGo",
        version=__version__,
        instructions=INSTRUCTIONS,
        auth=auth,
        token_verifier=tokens,
        subscriptions=False,
    )
    _add_analysis(server, service)
    _add_engine(server, service)
    return server


def _add_analysis(server: MCPServer[dict[str, Any]], service: Service) -> None:
    @server.tool(
        name="analyzePosition",
        title="Analyse a position",
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )
    async def analyze_position(
        position: Annotated[Position, Field(description="The position to analyse.")],
        ctx: Context[dict[str, Any], Any],
        maxVisits: Annotated[
            int | None,
            Field(description="Visits to search: more is stronger and slower. Default: server's."),
        ] = None,
        maxTime: Annotated[
            float | None, Field(description="Seconds to search at most. Default: server's limit.")
        ] = None,
        includePolicy: Annotated[
            bool, Field(description="Also return the network's move probabilities.")
        ] = False,
        includeOwnership: Annotated[
            bool, Field(description="Also return who is expected to own each point.")
        ] = False,
        topMoves: Annotated[int, Field(description="Candidate moves to return, 1 to 50.")] = 10,
        pvLength: Annotated[int, Field(description="Moves of each continuation, 1 to 60.")] = 15,
    ) -> Annotated[CallToolResult, PositionAnalysis]:
        """Analyse a Go position with KataGo: who is ahead, by how much, and the best moves.

        Give all moves of the game up to the position, because ko depends on them; points are GTP
        vertices ("D4", "Q16"; no letter I; rows counted from the bottom), passes are "pass".
        winrate (0 to 1) and scoreLead (points) are always from Black's perspective, whoever is to
        move. pointsLost compares a candidate with the best move, for the player to move.
        A few hundred visits judge a position well; 1000 or more are for close fights.
        """

        async def report(visits: int, wanted: int) -> None:
            # A client that left hears nothing more; the end of its call is noticed elsewhere.
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                await ctx.report_progress(visits, wanted, f"{visits} of {wanted} visits")

        request = Request(
            position=position,
            max_visits=maxVisits,
            max_time=maxTime,
            include_policy=includePolicy,
            include_ownership=includeOwnership,
            top_moves=topMoves,
            pv_length=pvLength,
        )
        wants_progress = "progress_token" in (ctx.request_context.meta or {})
        result = await service.analyst.analyze(request, report if wants_progress else None)
        return CallToolResult(
            content=[TextContent(type="text", text=result.summary())],
            structured_content=result.model_dump(mode="json", by_alias=True),
        )


def _add_engine(server: MCPServer[dict[str, Any]], service: Service) -> None:
    def report(*, changed: bool) -> CallToolResult:
        status = service.supervisor.status()
        result = EngineReport(
            state=status.state,
            reason=status.reason,
            ready=service.supervisor.beating,
            changed=changed,
            restarts=status.restarts,
            engine_version=status.version,
            network=status.network,
            max_visits=service.max_visits,
            max_time=service.max_time,
            queued=service.analyst.busy,
        )
        text = f"The engine is {status.state}" + (f": {status.reason}" if status.reason else ".")
        return CallToolResult(
            content=[TextContent(type="text", text=text)],
            structured_content=result.model_dump(mode="json", by_alias=True),
        )

    @server.tool(
        name="getEngineStatus",
        title="State of the engine",
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )
    async def get_engine_status() -> Annotated[CallToolResult, EngineReport]:
        """Say whether the engine is ready, what it is doing otherwise, and the server's limits."""
        return report(changed=False)

    @server.tool(
        name="startEngine",
        title="Start the engine",
        annotations=ToolAnnotations(idempotent_hint=True, destructive_hint=False),
    )
    async def start_engine() -> Annotated[CallToolResult, EngineReport]:
        """Start the engine after stopEngine, or retry at once after a failure. Needs scope admin.

        It returns at once; ask getEngineStatus until the engine is ready.
        """
        _require_admin(service)
        return report(changed=service.supervisor.start())

    @server.tool(
        name="stopEngine",
        title="Stop the engine",
        annotations=ToolAnnotations(idempotent_hint=True, destructive_hint=True),
    )
    async def stop_engine() -> Annotated[CallToolResult, EngineReport]:
        """Stop the engine until startEngine; running analyses fail. Needs scope admin."""
        _require_admin(service)
        return report(changed=service.supervisor.stop("stopped by an operator"))


def _require_admin(service: Service) -> None:
    token = get_access_token()
    scopes = token.scopes if token is not None else []
    if service.secured and ADMIN not in scopes:
        raise Rejected(
            "forbidden",
            "this tool starts and stops the engine for everybody",
            accepted=f"a token with the scope {ADMIN!r}",
        )


class _Server(MCPServer[dict[str, Any]]):
    """An MCP server that limits, counts and logs tool calls, and gives failures their shape."""

    def __init__(self, service: Service, name: str, **settings: Any) -> None:
        super().__init__(name, **settings)
        self._service = service

    async def call_tool(
        self,
        name: str,
        arguments: dict[str, Any],
        context: Context[dict[str, Any], Any] | None = None,
    ) -> CallToolResult | InputRequiredResult:
        token = get_access_token()
        caller = ANONYMOUS if token is None else token.client_id
        started = time.monotonic()
        status: Status = "cancelled"
        failure: Failure | None = None
        try:
            wait = self._service.limiter.take(caller)
            if wait is not None:
                self._service.metrics.rate_limited.inc()
                raise Rejected("rate_limited", "too many calls", retry_after=wait)
            result = await super().call_tool(name, arguments, context)
            status = "ok"
            return result
        except ToolError as error:
            failure = _failure(error)
            if failure is None:
                status = "error"
                raise
            status = failure.status
            return _refusal(failure)
        except Exception:
            status = "error"
            raise
        finally:
            self._finish(name, caller, status, failure, time.monotonic() - started)

    def _finish(
        self, name: str, caller: str, status: Status, failure: Failure | None, seconds: float
    ) -> None:
        metrics = self._service.metrics
        tool = name if name in TOOLS else UNKNOWN_TOOL
        metrics.requests.labels(tool, status).inc()
        if status == "ok" and tool in ANALYSIS_TOOLS:
            metrics.duration.labels(tool).observe(seconds)
        fields: dict[str, object] = {"tool": tool, "caller": caller, "status": status}
        fields["seconds"] = round(seconds, 4)
        if failure is not None:
            fields["code"] = failure.code
        serious = status in ("unavailable", "timeout", "error")
        (_log.warning if serious else _log.info)("call", **fields)


def _failure(error: ToolError) -> Failure | None:
    """The anticipated failure behind what the SDK raised; None for a defect of the server."""
    if isinstance(error, Failure):
        return error
    cause = error.__cause__
    if isinstance(cause, Failure):
        return cause
    if isinstance(cause, ValidationError):
        details = cause.errors(include_url=False, include_input=False)
        first = details[0]
        return Invalid(
            "invalid_arguments",
            "; ".join(f"{_path(detail['loc'])}: {detail['msg']}" for detail in details[:5]),
            field=_path(first["loc"]),
            accepted="arguments that fit the tool's input schema",
        )
    if isinstance(error, UnexpectedToolError):
        return None
    return Invalid("unknown_tool", "there is no such tool", accepted=", ".join(TOOLS))


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _refusal(failure: Failure) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=str(failure))],
        structured_content={"error": failure.details()},
        is_error=True,
    )
