"""The MCP tools that an assistant can call. Every call is counted, limited and logged here."""

import asyncio
import base64
import contextlib
import time
from collections.abc import KeysView
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import anyio
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.types import (
    CallToolResult,
    ContentBlock,
    ImageContent,
    InputRequiredResult,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from katago_mcp import __version__, sgfwriter
from katago_mcp.analysis import Analyst, PositionAnalysis, Request
from katago_mcp.answers import are_structured
from katago_mcp.arguments import explained, normalized, unknown_argument, unknown_tool
from katago_mcp.auth import ADMIN, ANALYZE, ANONYMOUS, RateLimiter, Tokens
from katago_mcp.contents import RecordContents
from katago_mcp.desk import Result
from katago_mcp.errors import Failure, Invalid, Rejected, Status
from katago_mcp.explanation import MIN_VISITS, ExplanationRequest, MoveExplanation, explain_move
from katago_mcp.flights import Report
from katago_mcp.games import (
    Game,
    GameNumber,
    MoveNumber,
    Sgf,
    SgfBase64,
    Variation,
    read_game,
    read_record,
    read_whole_game,
)
from katago_mcp.illustrations import of_analysis, of_explanation, of_territory, of_whole_review
from katago_mcp.logs import Log
from katago_mcp.metrics import ANALYSIS_TOOLS, PROBE_HEADER, TOOLS, UNKNOWN_TOOL, Metrics, probing
from katago_mcp.positions import MAX_REGION, Position, check
from katago_mcp.review import LOSS_BOUNDS, ReviewRequest, find_mistakes
from katago_mcp.review_answer import GameReview
from katago_mcp.schemas import published
from katago_mcp.settings import Settings
from katago_mcp.sgf import MAIN
from katago_mcp.supervisor import Supervisor
from katago_mcp.territory import TerritoryEvaluation, TerritoryRequest, evaluate_territory

INSTRUCTIONS = """\
Analyses Go (Weiqi, Baduk) games with KataGo. Pass a game as moves or as SGF. Use analyzePosition to learn
who is ahead and which moves are good (to compare moves by name, pass them as allowMoves), findMistakes to
review all moves of a game, explainMove to compare one move with its alternatives, evaluateTerritory for
territory, dead stones and the score, and readRecord for the players, games and variations of a record.
Winrates, scores and ownership are always from Black's perspective; losses are from the perspective of the
player who moves. The text of a failed call starts with an error code and states what is accepted.
"retry in N s" means that the same call can succeed after N seconds."""

_NEEDS_ANALYZE = {"scopes": [ANALYZE]}
_NEEDS_ADMIN = {"scopes": [ANALYZE, ADMIN]}
"""The scopes that a token needs to call a tool. Sent to clients with the tool's description."""

_READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_log = Log(__name__)


class EngineReport(BaseModel):
    """State of the engine and limits of the server."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    state: str = Field(description="starting, tuning, ready, hung, backoff, config_error or stopped.")
    reason: str | None = Field(description="Why the engine is in this state, if known.")
    ready: bool = Field(description="Whether the server can answer analyses now.")
    changed: bool = Field(description="Whether this call had an effect on the engine.")
    restarts: int = Field(description="Restarts since the server started.")
    engine_version: str | None = Field(description="Version of KataGo.")
    network: str | None = Field(description="Name of the neural network.")
    human_network: str | None = Field(description="Network for humanSLProfile; null when there is none.")
    max_visits: int = Field(description="Maximum visits of one analysis.")
    default_visits: int = Field(description="Visits of an analysis without maxVisits.")
    max_time: float = Field(description="Maximum seconds of one analysis.")
    max_review_visits: int = Field(description="Maximum visits of one review, all turns together.")
    max_review_time: float = Field(description="Maximum seconds of one review.")
    lowered_until: datetime | None = Field(
        description="When temporarily lowered limits end; null if no limits are lowered."
    )
    queued: int = Field(description="Analyses that are running or waiting.")


@dataclass(frozen=True)
class Service:
    """The parts of the server that the tools use."""

    supervisor: Supervisor
    analyst: Analyst
    metrics: Metrics
    limiter: RateLimiter
    settings: Settings
    secured: bool
    """Whether callers need tokens with scopes. Without tokens, only local callers can connect."""

    @property
    def structured(self) -> bool:
        """Whether answers of the current call have structured content."""
        return are_structured(self.settings.config.server.structured_content)


def build(service: Service, tokens: Tokens | None) -> MCPServer[dict[str, Any]]:
    """Build the MCP server with its tools. With `tokens`, HTTP callers need one with the scope `analyze`."""
    auth = None
    if tokens is not None:
        # The SDK requires an issuer URL although tokens come from a file. No client sees it.
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
    for tool in server._tool_manager.list_tools():
        # The schema stays. This stops the SDK from validating each answer against the model again.
        tool.fn_metadata.output_model = None
        tool.parameters["additionalProperties"] = False
        server.arguments[tool.name] = tool.parameters["properties"].keys()
    return server


Visits = Annotated[
    int | None,
    Field(description="1 to maxVisits of getEngineStatus"),
]
Seconds = Annotated[
    float | None,
    Field(description="Seconds, to maxTime of getEngineStatus"),
]
PositionArgument = Annotated[
    Position | None,
    Field(description="Pass exactly one of position, sgf, sgfBase64"),
]
Picture = Annotated[bool, Field(description="Also a PNG for people")]
PvLength = Annotated[int, Field(description="Length of continuations, 1 to 60")]


def _add_analysis(server: MCPServer[dict[str, Any]], service: Service) -> None:
    _add_analyze_position(server, service)
    _add_find_mistakes(server, service)
    _add_evaluate_territory(server, service)
    _add_explain_move(server, service)
    _add_read_record(server)


def _add_analyze_position(server: MCPServer[dict[str, Any]], service: Service) -> None:
    @server.tool(
        name="analyzePosition", title="Analyse a position", annotations=_READ_ONLY, meta=_NEEDS_ANALYZE
    )
    async def analyze_position(
        ctx: Context[dict[str, Any], Any],
        position: PositionArgument = None,
        sgf: Sgf = None,
        sgfBase64: SgfBase64 = None,
        moveNumber: MoveNumber = None,
        variation: Variation = MAIN,
        gameNumber: GameNumber = None,
        maxVisits: Visits = None,
        maxTime: Seconds = None,
        includePolicy: Annotated[bool, Field(description="Return the network's move probabilities")] = False,
        includeOwnership: Annotated[bool, Field(description="Return the owner of each point")] = False,
        includeMovesOwnership: Annotated[
            bool, Field(description="The same after each candidate (long)")
        ] = False,
        allowMoves: Annotated[
            list[str] | None,
            Field(
                description='Only these moves of the player to move: vertices, "pass", rectangles "C3:G7"; '
                "up to 10 vertices get equal visits",
                json_schema_extra={"maxItems": MAX_REGION},
            ),
        ] = None,
        avoidMoves: Annotated[
            list[str] | None,
            Field(
                description="Not these moves; without allowMoves",
                json_schema_extra={"maxItems": MAX_REGION},
            ),
        ] = None,
        restrictedDepth: Annotated[
            int,
            Field(description="Moves of a continuation that they restrict, 1 to 60"),
        ] = 1,
        humanSLProfile: Annotated[
            str | None,
            Field(description="Predict human moves: rank_5k, proyear_1995. Needs a human network"),
        ] = None,
        topMoves: Annotated[int, Field(description="Candidates to return, 1 to 50")] = 10,
        pvLength: PvLength = 15,
        picture: Picture = False,
    ) -> Annotated[CallToolResult, PositionAnalysis]:
        """Analyse a Go position with KataGo: who is ahead, by how much, and the best moves.

        Pass all moves up to the position, because ko depends on them. winrate (0 to 1) and
        scoreLead (points) are Black's, whoever is to move. pointsLost compares a candidate with the
        best move, for the player to move. A few hundred visits are enough for most positions; 1000
        or more for close fights.
        """
        game = await read_game(
            position, sgf, sgfBase64, move_number=moveNumber, variation=variation, game_number=gameNumber
        )
        request = Request(
            position=game.position,
            max_visits=maxVisits,
            max_time=maxTime,
            include_policy=includePolicy,
            include_ownership=includeOwnership,
            include_moves_ownership=includeMovesOwnership,
            allow_moves=tuple(allowMoves or ()),
            avoid_moves=tuple(avoidMoves or ()),
            restricted_depth=restrictedDepth,
            human_profile=humanSLProfile,
            top_moves=topMoves,
            pv_length=pvLength,
        )
        result = await service.analyst.analyze(request, _progress(ctx, "visits"), caller=_caller())
        pictures = [await asyncio.to_thread(of_analysis, game.position, result)] if picture else []
        return _answer(result, game, *pictures)


def _add_find_mistakes(server: MCPServer[dict[str, Any]], service: Service) -> None:
    @server.tool(
        name="findMistakes", title="Find the mistakes of a game", annotations=_READ_ONLY, meta=_NEEDS_ANALYZE
    )
    async def find_mistakes_(
        ctx: Context[dict[str, Any], Any],
        position: PositionArgument = None,
        sgf: Sgf = None,
        sgfBase64: SgfBase64 = None,
        variation: Variation = MAIN,
        gameNumber: GameNumber = None,
        player: Annotated[Literal["B", "W"] | None, Field(description="Default: both")] = None,
        firstMove: Annotated[int | None, Field(description="From 1")] = None,
        lastMove: Annotated[int | None, Field(description="Default: the last")] = None,
        minPointsLost: Annotated[float, Field(description="Points lost in a mistake, 0 to 1000")] = 3.0,
        minWinrateLost: Annotated[float, Field(description="Or winrate lost, 0 to 1")] = 0.1,
        lossThresholds: Annotated[
            list[float],
            Field(
                description="Points lost from which a move is good (not excellent), inaccuracy, mistake, "
                "blunder, disaster",
                json_schema_extra={"minItems": len(LOSS_BOUNDS), "maxItems": len(LOSS_BOUNDS)},
            ),
        ] = [*LOSS_BOUNDS],  # noqa: B006 - the schema shows it, and no code changes it
        allMoves: Annotated[bool, Field(description="Return all moves, not only mistakes")] = False,
        maxVisits: Annotated[
            int | None,
            Field(description="Per turn, 1 to maxVisits of getEngineStatus (fewer in a very long game)"),
        ] = None,
        maxTime: Annotated[
            float | None,
            Field(description="Seconds in total, to maxReviewTime of getEngineStatus"),
        ] = None,
        pvLength: PvLength = 10,
        picture: Picture = False,
        annotatedSgf: Annotated[bool, Field(description="Also the game as SGF with comments")] = False,
    ) -> Annotated[CallToolResult, GameReview]:
        """Review a game: what every move lost, the better moves, and how well each player played.

        For each mistake: points and winrate lost, class, phase, the network's probability of it, the
        engine's move and continuation. For each player, in total and by phase: mean loss, accuracy
        (100 * 0.75 to the power of the mean loss), moves in each class. A long game takes minutes. If
        time runs out, partial is true and unanalysed lists the missing turns; repeat the call to
        continue. picture draws a graph and the worst mistakes.
        """
        game = await read_whole_game(
            position, sgf, sgfBase64, variation=variation, game_number=gameNumber, last_move=lastMove
        )
        request = ReviewRequest(
            position=game.position,
            later=game.later,
            player=player,
            first_move=firstMove,
            last_move=lastMove,
            max_visits=maxVisits,
            max_time=maxTime,
            min_points_lost=minPointsLost,
            min_winrate_lost=minWinrateLost,
            loss_bounds=tuple(lossThresholds),
            all_moves=allMoves or picture or annotatedSgf,
            pv_length=pvLength,
        )
        result = await find_mistakes(service.analyst, request, _progress(ctx, "turns"), caller=_caller())
        positions = (game.position, *game.later)
        pictures = await asyncio.to_thread(of_whole_review, positions, result) if picture else []
        if annotatedSgf:
            histories = [check(each) for each in positions]
            result.annotated_sgf = await asyncio.to_thread(
                sgfwriter.write, histories, result, _information(game)
            )
        if not allMoves:
            result.moves = [move for move in result.moves if move.mistake]
            result.score_leads, result.winrates = [], []
        return _answer(result, game, *pictures)


def _add_evaluate_territory(server: MCPServer[dict[str, Any]], service: Service) -> None:
    @server.tool(
        name="evaluateTerritory", title="Evaluate the territory", annotations=_READ_ONLY, meta=_NEEDS_ANALYZE
    )
    async def evaluate_territory_(
        ctx: Context[dict[str, Any], Any],
        position: PositionArgument = None,
        sgf: Sgf = None,
        sgfBase64: SgfBase64 = None,
        moveNumber: MoveNumber = None,
        variation: Variation = MAIN,
        gameNumber: GameNumber = None,
        maxVisits: Visits = None,
        maxTime: Seconds = None,
        picture: Picture = False,
    ) -> Annotated[CallToolResult, TerritoryEvaluation]:
        """Evaluate who owns each point, which stones are dead, and the score by the game's rules.

        ownership is 1 for Black's points, -1 for White's; a point or chain is settled from 0.6 (Black)
        or -0.6 (White). The score counts settled points; scoreLead estimates the final score. Most
        useful late in a game.
        """
        game = await read_game(
            position, sgf, sgfBase64, move_number=moveNumber, variation=variation, game_number=gameNumber
        )
        request = TerritoryRequest(position=game.position, max_visits=maxVisits, max_time=maxTime)
        result = await evaluate_territory(
            service.analyst, request, _progress(ctx, "visits"), caller=_caller()
        )
        pictures = [await asyncio.to_thread(of_territory, game.position, result)] if picture else []
        return _answer(result, game, *pictures)


def _add_explain_move(server: MCPServer[dict[str, Any]], service: Service) -> None:
    @server.tool(name="explainMove", title="Explain a move", annotations=_READ_ONLY, meta=_NEEDS_ANALYZE)
    async def explain_move_(
        move: Annotated[str, Field(description='A vertex or "pass", in the position before it')],
        ctx: Context[dict[str, Any], Any],
        position: PositionArgument = None,
        sgf: Sgf = None,
        sgfBase64: SgfBase64 = None,
        moveNumber: MoveNumber = None,
        variation: Variation = MAIN,
        gameNumber: GameNumber = None,
        maxVisits: Annotated[
            int | None,
            Field(
                description=f"Per search (2 or 3), {MIN_VISITS} to maxVisits of getEngineStatus",
                json_schema_extra={"minimum": MIN_VISITS},
            ),
        ] = None,
        maxTime: Annotated[
            float | None,
            Field(description="Seconds per search, to maxTime of getEngineStatus"),
        ] = None,
        alternatives: Annotated[int, Field(description="1 to 10")] = 3,
        pvLength: PvLength = 12,
        picture: Picture = False,
    ) -> Annotated[CallToolResult, MoveExplanation]:
        """Explain any legal move: what follows it, compared with the best alternative.

        pointsLost and winrateLost compare it with the best alternative, for its player; continuation
        is the expected play after it (the refutation of a bad move); swings are the points whose
        owner differs between the two.
        """
        game = await read_game(
            position, sgf, sgfBase64, move_number=moveNumber, variation=variation, game_number=gameNumber
        )
        request = ExplanationRequest(
            position=game.position,
            move=move,
            max_visits=maxVisits,
            max_time=maxTime,
            alternatives=alternatives,
            pv_length=pvLength,
        )
        result = await explain_move(service.analyst, request, _progress(ctx, "visits"), caller=_caller())
        pictures = [await asyncio.to_thread(of_explanation, game.position, result)] if picture else []
        return _answer(result, game, *pictures)


def _add_read_record(server: MCPServer[dict[str, Any]]) -> None:
    @server.tool(name="readRecord", title="Read a record", annotations=_READ_ONLY, meta=_NEEDS_ANALYZE)
    async def read_record_(
        sgf: Sgf = None, sgfBase64: SgfBase64 = None, gameNumber: GameNumber = None
    ) -> Annotated[CallToolResult, RecordContents]:
        """List players, result, games and variations of a record. Fast: does not use the engine."""
        contents = await read_record(sgf, sgfBase64, gameNumber)
        return CallToolResult(
            content=[TextContent(type="text", text=contents.summary())],
            structured_content=contents.model_dump(mode="json", by_alias=True),
        )


def _information(game: Game) -> dict[str, str]:
    """What the record says of a game, as properties of an SGF root."""
    info = game.information
    if info is None:
        return {}
    values = {
        "PB": info.black,
        "BR": info.black_rank,
        "PW": info.white,
        "WR": info.white_rank,
        "RE": info.result,
        "DT": info.date,
        "EV": info.event,
        "PC": info.place,
        "HA": str(info.handicap) if info.handicap else None,
    }
    return {name: value for name, value in values.items() if value}


def _answer(result: Result, game: Game, *pictures: bytes) -> CallToolResult:
    result.warnings = list(dict.fromkeys((*game.warnings, *result.warnings)))
    result.partial = result.partial or game.partial
    result.game = game.information
    text = result.text()
    content: list[ContentBlock] = [TextContent(type="text", text=text)]
    for picture in pictures:
        data = base64.b64encode(picture).decode()
        content.append(ImageContent(type="image", data=data, mime_type="image/png"))
    return CallToolResult(
        content=content,
        structured_content={
            **result.model_dump(mode="json", by_alias=True),
            # Clients that show only the structured content show this instead of the text.
            "summary": text.partition("\n\n")[0],
        },
    )


def _progress(ctx: Context[dict[str, Any], Any], unit: str) -> Report | None:
    """A function that reports progress to the client; None if the client did not ask for progress."""
    if "progress_token" not in (ctx.request_context.meta or {}):
        return None

    async def report(done: int, total: int) -> None:
        # The client may have disconnected. The end of its call is handled elsewhere.
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await ctx.report_progress(done, total, f"{done} of {total} {unit}")

    return report


def _caller() -> str:
    token = get_access_token()
    return ANONYMOUS if token is None else token.client_id


def _add_engine(server: MCPServer[dict[str, Any]], service: Service) -> None:
    def report(*, changed: bool) -> CallToolResult:
        status = service.supervisor.status()
        katago, overlay = service.settings.config.katago, service.settings.overlay
        result = EngineReport(
            state=status.state,
            reason=status.reason,
            ready=service.supervisor.beating,
            changed=changed,
            restarts=status.restarts,
            engine_version=status.version,
            network=status.network,
            human_network=status.human_network,
            max_visits=katago.max_visits,
            default_visits=katago.default_visits,
            max_time=katago.max_time,
            max_review_visits=katago.max_review_visits,
            max_review_time=katago.max_review_time,
            lowered_until=None if overlay is None else overlay.expires_at,
            queued=service.analyst.busy,
        )
        text = f"Engine state: {status.state}" + (f": {status.reason}" if status.reason else ".")
        return CallToolResult(
            content=[TextContent(type="text", text=text)],
            structured_content=result.model_dump(mode="json", by_alias=True),
        )

    @server.tool(
        name="getEngineStatus",
        title="Get the engine's state",
        annotations=_READ_ONLY,
        meta=_NEEDS_ANALYZE,
    )
    async def get_engine_status() -> Annotated[CallToolResult, EngineReport]:
        """Report whether the engine is ready, its state, and the limits and defaults of visits and time."""
        return report(changed=False)

    @server.tool(
        name="startEngine",
        title="Start the engine",
        annotations=ToolAnnotations(idempotent_hint=True, destructive_hint=False),
        meta=_NEEDS_ADMIN,
    )
    async def start_engine() -> Annotated[CallToolResult, EngineReport]:
        """Start the engine after stopEngine, or retry at once after a failure. Needs scope admin.

        Returns at once; call getEngineStatus until the engine is ready.
        """
        _require_admin(service)
        return report(changed=service.supervisor.start())

    @server.tool(
        name="stopEngine",
        title="Stop the engine",
        annotations=ToolAnnotations(idempotent_hint=True, destructive_hint=True),
        meta=_NEEDS_ADMIN,
    )
    async def stop_engine() -> Annotated[CallToolResult, EngineReport]:
        """Stop the engine until startEngine is called. Running analyses fail. Needs scope admin."""
        _require_admin(service)
        return report(changed=service.supervisor.stop("stopped by an operator"))


def _require_admin(service: Service) -> None:
    token = get_access_token()
    scopes = token.scopes if token is not None else []
    if service.secured and ADMIN not in scopes:
        raise Rejected(
            "forbidden",
            f"the token lacks the scope {ADMIN!r}: this tool starts or stops the engine for all clients",
            accepted=f"a token with the scope {ADMIN!r}",
        )


class _Server(MCPServer[dict[str, Any]]):
    """An MCP server that limits, counts and logs tool calls, and formats failures."""

    def __init__(self, service: Service, name: str, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.arguments: dict[str, KeysView[str]] = {}
        """The arguments of each tool."""
        self._service = service

    async def list_tools(self) -> list[Tool]:
        structured = self._service.structured
        return [published(tool, with_output=structured) for tool in await super().list_tools()]

    def _tool_input_schema(self, name: str) -> dict[str, Any] | None:
        """Return None: no tool declares `Mcp-Param-*` headers that the SDK would check against the schema.

        With a schema, the SDK would traverse all of it three times for every call.
        """
        return None

    async def call_tool(
        self,
        name: str,
        arguments: dict[str, Any],
        context: Context[dict[str, Any], Any] | None = None,
    ) -> CallToolResult | InputRequiredResult:
        caller = _caller()
        probing.set(context is not None and PROBE_HEADER in (context.headers or {}))
        started = time.monotonic()
        status: Status = "cancelled"
        failure: Failure | None = None
        try:
            wait = self._service.limiter.take(caller)
            if wait is not None:
                self._service.metrics.rate_limited.inc()
                raise Rejected("rate_limited", "the token has made too many calls", retry_after=wait)
            accepted = self.arguments.get(name)
            if accepted is not None:
                arguments = normalized(arguments)
                if not arguments.keys() <= accepted:
                    raise unknown_argument(name, arguments.keys() - accepted, accepted)
            result = await super().call_tool(name, arguments, context)
            status = "ok"
            return self._in_form(result)
        except ToolError as error:
            failure = _failure(error, name)
            if failure is None:
                status = "error"
                raise
            for record in ("sgf", "sgfBase64"):
                if arguments.get(record) is not None:
                    failure = _of_record(failure, record)
            status = failure.status
            return self._in_form(_refusal(failure))
        except Exception:
            status = "error"
            raise
        finally:
            self._finish(name, caller, _address(context), status, failure, time.monotonic() - started)

    def _in_form(self, result: CallToolResult | InputRequiredResult) -> CallToolResult | InputRequiredResult:
        """The result in the form that the caller asked for."""
        if isinstance(result, CallToolResult) and not self._service.structured:
            return result.model_copy(update={"structured_content": None})
        return result

    def _finish(
        self,
        name: str,
        caller: str,
        client: str | None,
        status: Status,
        failure: Failure | None,
        seconds: float,
    ) -> None:
        metrics = self._service.metrics
        tool = name if name in TOOLS else UNKNOWN_TOOL
        metrics.requests.labels(tool, status).inc()
        if status == "ok" and tool in ANALYSIS_TOOLS:
            metrics.duration.labels(tool).observe(seconds)
        fields: dict[str, object] = {"tool": tool, "caller": caller, "client": client, "status": status}
        fields["seconds"] = round(seconds, 4)
        if failure is not None:
            fields["code"] = failure.code
        is_serious = status in ("unavailable", "timeout", "error")
        (_log.warning if is_serious else _log.info)("call", **fields)


def _address(context: Context[dict[str, Any], Any] | None) -> str | None:
    """The address of the client of a call; None without HTTP."""
    request = None if context is None else context.request_context.request
    client = getattr(request, "client", None)
    return None if client is None else client.host


def _failure(error: ToolError, tool: str) -> Failure | None:
    """The expected failure behind an error of the SDK; None for a bug of the server."""
    if isinstance(error, Failure):
        return error
    cause = error.__cause__
    if isinstance(cause, Failure):
        return cause
    if isinstance(cause, ValidationError):
        return explained(cause)
    if isinstance(error, UnexpectedToolError):
        return None
    return unknown_tool(tool)


def _of_record(failure: Failure, argument: str) -> Failure:
    """Report a failure of a call with a game record under the record's argument, not under `position`."""
    field = failure.field or ""
    if not isinstance(failure, Invalid) or not (field == "sgf" or field.startswith("position.")):
        return failure
    return Invalid(failure.code, failure.message, field=argument, accepted=failure.accepted)


def _refusal(failure: Failure) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=str(failure))],
        structured_content={"error": failure.details()},
        is_error=True,
    )
