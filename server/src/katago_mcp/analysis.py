"""One analysis: limits, queue, cache, the query to the engine, and the answer read from its reply.

Winrate, scoreLead and ownership are always from Black's perspective: the query says so, and does
not rely on the engine's configuration [Analysis_Engine.md, reportAnalysisWinratesAs].
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from katago_mcp import cache as caching
from katago_mcp import positions
from katago_mcp.cache import Cache
from katago_mcp.config import Health, Katago
from katago_mcp.engine import Answer, EngineGone, EngineRefused
from katago_mcp.errors import Broken, Invalid, Rejected, TimedOut, Unavailable
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.positions import Checked, Position
from katago_mcp.supervisor import EngineUnavailable, Supervisor

MAX_TOP_MOVES = 50
MAX_PV_LENGTH = 60

_ANSWER_FORMAT = 1
"""Part of every cache key: raised when the shape of cached answers changes."""

_PROGRESS_EVERY = 0.5
_POSITION_FIELDS = frozenset(field.alias for field in Position.model_fields.values())
_log = Log(__name__)

Report = Callable[[int, int], Awaitable[None]]
"""Called with visits so far and visits asked for."""


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class MoveAnalysis(_Wire):
    """One candidate move."""

    move: str = Field(description='GTP vertex, or "pass".')
    winrate: float = Field(description="Black's chance to win after this move, 0 to 1.")
    score_lead: float = Field(description="Points that Black is ahead after this move.")
    points_lost: float = Field(
        description="Points the player to move loses against the best move; negative when the "
        "search found it better than the move it would choose."
    )
    visits: int = Field(description="Visits spent on this move.")
    prior: float = Field(description="Probability the network gave the move before search, 0 to 1.")
    order: int = Field(description="Rank by the engine, 0 is best.")
    pv: list[str] = Field(description="Expected continuation, beginning with this move.")


class PositionAnalysis(_Wire):
    """What the engine thinks of a position, from Black's perspective."""

    perspective: Literal["BLACK"] = Field(default="BLACK", description="Whose winrate and score these are.")
    next_player: Literal["B", "W"] = Field(description="Who is to move.")
    turn_number: int = Field(description="Moves played so far.")
    winrate: float = Field(description="Black's chance to win, 0 to 1.")
    score_lead: float = Field(description="Points that Black is ahead; negative when White is.")
    score_stdev: float = Field(
        description="Spread of the predicted final score, in points; known to be biased high."
    )
    visits: int = Field(description="Visits searched.")
    rules: str = Field(description="Rule set used.")
    komi: float = Field(description="Komi used.")
    moves: list[MoveAnalysis] = Field(description="Candidate moves, best first.")
    ownership: list[float] | None = Field(
        default=None,
        description="Row by row from the top left, 1 Black's to -1 White's; only when asked for.",
    )
    policy: list[float] | None = Field(
        default=None,
        description="Row by row from the top left, then pass; -1 where illegal; only if asked for.",
    )
    cached: bool = Field(description="Whether the answer came from the cache.")
    partial: bool = Field(description="Whether time ran out before all visits were searched.")
    warnings: list[str] = Field(description="What was accepted although it looks wrong.")
    network: str | None = Field(description="Name of the neural network.")
    engine_version: str | None = Field(description="Version of KataGo.")

    def summary(self) -> str:
        """The answer in a few lines."""
        leader = "Black" if self.score_lead >= 0 else "White"
        lines = [
            f"{'Black' if self.next_player == 'B' else 'White'} to move (turn {self.turn_number}). "
            f"{leader} leads by {abs(self.score_lead):.1f} points; "
            f"Black wins {self.winrate:.1%} ({self.visits} visits"
            f"{', time ran out' if self.partial else ''}{', cached' if self.cached else ''})."
        ]
        lines += [
            f"{move.order + 1}. {move.move}: Black {move.winrate:.1%}, "
            f"lead {move.score_lead:+.1f}, loses {move.points_lost:.1f}, "
            f"{move.visits} visits, pv {' '.join(move.pv[:6])}"
            for move in self.moves[:5]
        ]
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


@dataclass(frozen=True)
class Request:
    """What is asked about a position. `max_time` in seconds; None takes the server's default."""

    position: Position
    max_visits: int | None = None
    max_time: float | None = None
    include_policy: bool = False
    include_ownership: bool = False
    top_moves: int = 10
    pv_length: int = 15


@dataclass(frozen=True)
class _Limits:
    visits: int
    seconds: float


class Analyst:
    """Answers requests with the engine of a supervisor, at most `max_concurrent` at a time."""

    def __init__(
        self,
        katago: Katago,
        health: Health,
        max_queued: int,
        supervisor: Supervisor,
        cache: Cache | None,
        metrics: Metrics,
    ) -> None:
        self._katago = katago
        self._grace = health.heartbeat_timeout_seconds
        self._max_queued = max_queued
        self._supervisor = supervisor
        self._cache = cache
        self._metrics = metrics
        self._slots = asyncio.Semaphore(katago.max_concurrent)
        self._running = 0
        self._queued = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False

    @property
    def saturated(self) -> bool:
        """Whether another request would be refused."""
        return self._running >= self._katago.max_concurrent and self._queued >= self._max_queued

    @property
    def busy(self) -> int:
        """Requests being answered or waiting."""
        return self._running + self._queued

    async def idle(self) -> None:
        """Wait until nothing is being answered."""
        await self._idle.wait()

    async def analyze(self, request: Request, report: Report | None = None) -> PositionAnalysis:
        """Answer a request; `report` hears of the visits while the search runs.

        Raises:
            Invalid: if the request cannot be answered as it is.
            Rejected: if the server drains or is overloaded.
            Unavailable: if there is no engine, or it ended during the search.
            TimedOut: if the engine gave no answer in time.
            Broken: if the engine's answer makes no sense.
        """
        checked = positions.check(request.position)
        limits = self._limits(request)
        if self.draining:
            raise Rejected(
                "draining",
                "the server takes no new analyses because it is being taken out of service",
                retry_after=30,
            )
        status = self._supervisor.status()
        name = None
        if self._cache is not None and status.version is not None and status.network is not None:
            name = _key(status.version, status.network, checked, limits, request)
            kept = await self._cache.get(name)
            if kept is not None:
                found = self._kept(kept, checked)
                if found is not None:
                    return found
        async with self._slot():
            answer = await self._search(checked, limits, request, report)
        status = self._supervisor.status()
        result = _read(answer.reply, checked, limits, request, answer.warnings)
        result.network, result.engine_version = status.network, status.version
        self._metrics.visits.inc(result.visits)
        # A partial answer depends on how busy the machine was; it is not worth repeating.
        if self._cache is not None and name is not None and not result.partial:
            await self._cache.put(name, result.model_dump(mode="json", by_alias=True))
        return result

    def _limits(self, request: Request) -> _Limits:
        katago = self._katago
        visits = katago.default_visits if request.max_visits is None else request.max_visits
        seconds = katago.max_time if request.max_time is None else request.max_time
        _within("maxVisits", visits, 1, katago.max_visits)
        _within("maxTime", seconds, 0.01, katago.max_time)
        _within("topMoves", request.top_moves, 1, MAX_TOP_MOVES)
        _within("pvLength", request.pv_length, 1, MAX_PV_LENGTH)
        return _Limits(visits, seconds)

    def _kept(self, kept: dict[str, Any], checked: Checked) -> PositionAnalysis | None:
        try:
            found = PositionAnalysis.model_validate(kept)
        except ValidationError:
            _log.warning("cache_entry_of_another_shape")
            return None
        return found.model_copy(update={"cached": True, "warnings": list(checked.warnings)})

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self.saturated:
            raise Rejected(
                "overloaded",
                f"{self._running} analyses run and {self._queued} wait already",
                accepted="fewer requests at a time",
                retry_after=self._katago.max_time,
            )
        self._queued += 1
        self._note_load()
        try:
            await self._slots.acquire()
        finally:
            self._queued -= 1
            self._note_load()
        self._running += 1
        self._note_load()
        try:
            yield
        finally:
            self._running -= 1
            self._slots.release()
            self._note_load()

    def _note_load(self) -> None:
        self._metrics.queued.set(self._queued)
        self._metrics.in_flight.set(self._running)
        if self.busy:
            self._idle.clear()
        else:
            self._idle.set()

    async def _search(
        self, checked: Checked, limits: _Limits, request: Request, report: Report | None
    ) -> Answer:
        query = _query(checked, limits, request, progress=report is not None)

        async def progress(reply: dict[str, Any]) -> None:
            root = reply.get("rootInfo")
            if report is not None and isinstance(root, dict):
                await report(int(root.get("visits", 0)), limits.visits)

        # An engine with fewer threads than maxConcurrent works some queries off one by one.
        seconds = limits.seconds * self._katago.max_concurrent + self._grace
        try:
            engine = self._supervisor.engine()
            async with asyncio.timeout(seconds):
                return await engine.query(query, None if report is None else progress)
        except EngineUnavailable as error:
            raise Unavailable(f"engine_{error.state}", str(error), retry_after=error.retry_after) from error
        except EngineGone as error:
            retry_after = self._supervisor.retry_after
            if retry_after is None:
                code, message = "engine_stopped", "the engine was stopped while analysing"
            else:
                code = "engine_restarted"
                message = f"the engine restarted while analysing ({error})"
            raise Unavailable(code, message, retry_after=retry_after) from error
        except EngineRefused as error:
            field = f"position.{error.field}" if error.field in _POSITION_FIELDS else error.field
            raise Invalid("engine_refused", str(error), field=field) from error
        except TimeoutError as error:
            raise TimedOut(
                "analysis_timeout",
                f"the engine gave no answer within {seconds:g} s",
                accepted="fewer maxVisits or a shorter maxTime",
                retry_after=limits.seconds,
            ) from error


def _within(name: str, value: float, least: float, most: float) -> None:
    # The comparison is also false for NaN.
    if not least <= value <= most:
        raise Invalid(
            "limit_exceeded",
            f"{name} cannot be {value:g}",
            field=name,
            accepted=f"{least:g} to {most:g} on this server",
        )


def _key(version: str, network: str, checked: Checked, limits: _Limits, request: Request) -> str:
    position = asdict(checked)
    del position["warnings"]
    return caching.key(
        {
            "format": _ANSWER_FORMAT,
            "engine": version,
            "network": network,
            "position": position,
            "limits": asdict(limits),
            "policy": request.include_policy,
            "ownership": request.include_ownership,
            "topMoves": request.top_moves,
            "pvLength": request.pv_length,
        }
    )


def _query(checked: Checked, limits: _Limits, request: Request, *, progress: bool) -> dict[str, Any]:
    query: dict[str, Any] = {
        "rules": checked.rules,
        "komi": checked.komi,
        "boardXSize": checked.width,
        "boardYSize": checked.height,
        "initialStones": checked.stones,
        "initialPlayer": checked.initial_player,
        "moves": checked.moves,
        "maxVisits": limits.visits,
        # KataGo counts beyond the first move.
        "analysisPVLen": max(1, request.pv_length - 1),
        "includeOwnership": request.include_ownership,
        "includePolicy": request.include_policy,
        "overrideSettings": {"maxTime": limits.seconds, "reportAnalysisWinratesAs": "BLACK"},
    }
    if progress:
        query["reportDuringSearchEvery"] = _PROGRESS_EVERY
    return query


def _read(
    reply: dict[str, Any],
    checked: Checked,
    limits: _Limits,
    request: Request,
    warnings: tuple[str, ...],
) -> PositionAnalysis:
    """Read KataGo's reply [Analysis_Engine.md, Responses]."""
    if reply.get("noResults"):
        raise TimedOut(
            "analysis_timeout",
            "the search ended before it had a result",
            accepted="a longer maxTime",
            retry_after=1,
        )
    try:
        root = reply["rootInfo"]
        player = root["currentPlayer"]
        sign = 1 if player == "B" else -1
        infos = sorted(reply["moveInfos"], key=lambda info: int(info["order"]))
        moves = [
            MoveAnalysis(
                move=info["move"],
                winrate=round(info["winrate"], 5),
                score_lead=round(info["scoreLead"], 3),
                points_lost=round(sign * (infos[0]["scoreLead"] - info["scoreLead"]), 3) + 0.0,
                visits=info["visits"],
                prior=round(info["prior"], 5),
                order=info["order"],
                pv=info["pv"][: request.pv_length],
            )
            for info in infos[: request.top_moves]
        ]
        return PositionAnalysis(
            next_player=player,
            turn_number=reply["turnNumber"],
            winrate=round(root["winrate"], 5),
            score_lead=round(root["scoreLead"], 3),
            score_stdev=round(root["scoreStdev"], 3),
            visits=root["visits"],
            rules=checked.rules,
            komi=checked.komi,
            moves=moves,
            ownership=_numbers(reply["ownership"], 3) if request.include_ownership else None,
            policy=_numbers(reply["policy"], 5) if request.include_policy else None,
            cached=False,
            partial=root["visits"] < limits.visits,
            warnings=[*checked.warnings, *warnings],
            network=None,
            engine_version=None,
        )
    except (KeyError, TypeError, ValueError) as error:
        _log.error("engine_answer_unreadable", errorType=type(error).__name__)
        raise Broken(
            "engine_answer_unreadable",
            "the engine's answer lacks what the analysis protocol promises",
            retry_after=1,
        ) from error


def _numbers(values: list[float], digits: int) -> list[float]:
    return [round(value, digits) for value in values]
