"""The desk in front of the engine: limits, cache, joined requests, slots, and error codes.

All analysing tools send their queries through it. Answers are cached and joined under a digest of
everything that affects them: tool, engine version and configuration, networks, position with its moves,
and all options. The configuration file counts byte by byte, because any of KataGo's settings may affect
answers. So even another number of threads invalidates the cache.
Mirrored positions are different positions: ko and superko depend on the moves, and the network may answer
differently for a mirrored board.
"""

import asyncio
import contextlib
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from katago_mcp import cache as caching
from katago_mcp.cache import Cache
from katago_mcp.config import Katago
from katago_mcp.contents import GameInformation
from katago_mcp.engine import Answer, EngineGone, EngineRefused, Progress
from katago_mcp.errors import Broken, Invalid, Rejected, TimedOut, Unavailable
from katago_mcp.flights import Flights, GaveWay, Report
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.positions import Checked, Position
from katago_mcp.presence import client_left
from katago_mcp.scheduling import Claim, Effort, Full, Overdue, Slots
from katago_mcp.settings import Settings
from katago_mcp.supervisor import EngineUnavailable, Supervisor

PROGRESS_EVERY = 0.5

_ANSWER_FORMAT = 6
"""Part of every cache key. Increase it when the format of cached answers changes."""

DRAINED_SECONDS = 30
"""Retry hint while draining: by then the server is restarted or replaced."""

_READ_MAX = 64
"""Parsed answers kept in memory: parsing costs more than the cache lookup."""

_POSITION_FIELDS = frozenset(field.alias for field in Position.model_fields.values())
_log = Log(__name__)


class Wire(BaseModel):
    """A model that a tool returns: camelCase in JSON, snake_case in Python."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Result(Wire):
    """Fields of every answer of an analysing tool."""

    perspective: Literal["BLACK"] = Field(
        default="BLACK", description="Perspective of winrates, scores and ownership."
    )
    rules: str = Field(
        description="Rule set used: its name, or KataGo's notation of its parts if it has none."
    )
    komi: float = Field(description="Komi used.")
    cached: bool = Field(default=False, description="Whether the answer came from the cache.")
    partial: bool = Field(default=False, description="Whether parts of the requested answer are missing.")
    game: GameInformation | None = Field(
        default=None, description="What the record says about the game; null for a position object."
    )
    warnings: list[str] = Field(
        default=[], description="Suspicious input that was accepted, and assumptions."
    )
    network: str | None = Field(default=None, description="Name of the neural network.")
    engine_version: str | None = Field(default=None, description="Version of KataGo.")

    @abstractmethod
    def summary(self) -> str:
        """The answer as a few lines of text for people, warnings included."""

    def terms(self) -> str:
        """Rules and komi as a sentence."""
        return f"Rules {self.rules}, komi {self.komi:g}."

    def details(self) -> list[str]:
        """Lines with everything that was asked for and is not in the summary."""
        return []

    def text(self) -> str:
        """The whole answer: the summary, what a record says of the game, an empty line, the details."""
        game = [] if self.game is None else [self.game.summary()]
        short = "\n".join([self.summary(), *game])
        return "\n\n".join(filter(None, (short, "\n".join(self.details()))))


_Wire = TypeVar("_Wire", bound=Wire)
_Result = TypeVar("_Result", bound=Result)


class Desk:
    """Gives tools access to the supervisor's engine, with at most `max_concurrent` queries at a time."""

    def __init__(
        self,
        settings: Settings,
        supervisor: Supervisor,
        cache: Cache | None,
        metrics: Metrics,
    ) -> None:
        self.metrics = metrics
        self.draining = False
        self._settings = settings
        self._supervisor = supervisor
        self._cache = cache
        self.slots = Slots(self.katago.max_concurrent, settings.config.server.max_queued, self._note_load)
        self._flights = Flights(self.slots, self._note_load)
        self._parsed: OrderedDict[str, tuple[bytes, Wire]] = OrderedDict()
        self._idle = asyncio.Event()
        self._idle.set()
        settings.watch(self._resize)

    @property
    def katago(self) -> Katago:
        """The limits in force, and the paths of the engine's files."""
        return self._settings.config.katago

    @property
    def saturated(self) -> bool:
        """Whether another request of a caller that already waits would be rejected."""
        return self.slots.saturated

    @property
    def busy(self) -> int:
        """Number of running or waiting requests. Identical requests count once."""
        return len(self._flights)

    async def idle(self) -> None:
        """Wait until no request is running or waiting."""
        await self._idle.wait()

    async def answer(
        self,
        kind: type[_Result],
        tool: str,
        checked: Checked,
        parameters: dict[str, Any],
        work: Callable[[Claim, Report], Awaitable[_Result]],
        *,
        effort: Effort,
        caller: str,
        report: Report | None,
        cached: bool = True,
        long: bool = False,
    ) -> _Result:
        """Answer from the cache, by joining an identical running request, or by `work`.

        An engine that is starting is waited for, at most as long as `effort` allows for one search.

        `parameters` is JSON with everything that the answer depends on, except the position, the engine and
        the networks. Every caller gets its own copy of the answer, with the caller's name for the rules.
        If `cached` is false, the cache is not used for the answer as a whole.

        Raises:
            Rejected: if the server drains or is overloaded.
            Failure: any failure of `work`.
        """
        if self.draining:
            raise _draining(
                "the server accepts no new analyses: it is shutting down or was drained by an operator"
            )
        own: dict[str, Any] = {"rules": checked.rules_name}
        if not self._identified:
            await self._supervisor.wait_for_start(effort.seconds)
        if cached:
            answer = await self.lookup(kind, self.key(tool, checked.digest, parameters))
            if answer is not None:
                return answer.model_copy(update=own | {"cached": True})
        await self._supervisor.wait_for_start(effort.seconds)
        # A restart may have changed the engine.
        name = self.key(tool, checked.digest, parameters)

        async def worked(claim: Claim, note: Report) -> _Result:
            result = await work(claim, note)
            engine = self._supervisor.identity
            result.network, result.engine_version = engine.network, engine.version
            # A partial answer depends on the load of the machine, so it is not cached.
            if cached and not result.partial:
                await self.store(name, result.model_dump(mode="json", by_alias=True))
            return result

        try:
            result = await self._flights.join(
                name, caller, worked, report, effort=effort, left=client_left(), long=long
            )
            return result.model_copy(update=own)
        except Full as error:
            raise self._overloaded("") from error
        except GaveWay as error:
            raise self._overloaded("the client left, and the search gave way to waiting calls: ") from error

    @contextlib.asynccontextmanager
    async def turn(self, claim: Claim) -> AsyncIterator[None]:
        """Hold a slot while the context lasts, for work that needs only one slot.

        Raises:
            Rejected: `overloaded` if no slot is free within `server.maxWaitSeconds`.
        """
        patience = self._settings.config.server.max_wait_seconds
        try:
            async with self.slots.slot(claim, patience):
                yield
        except Overdue as error:
            raise self._overloaded(f"no slot was free within {patience:g} s: ") from error

    def _overloaded(self, reason: str) -> Rejected:
        longest = self._settings.config.server.max_wait_seconds
        return Rejected(
            "overloaded",
            f"{reason}{self.slots.running} analyses are running and {self.slots.queued} are waiting",
            accepted="fewer concurrent requests",
            retry_after=min(longest, self.slots.expected_wait()),
        )

    def key(self, tool: str, position: str, parameters: dict[str, Any]) -> str:
        """The cache key of an answer; `position` is the position's digest. Includes the running engine."""
        return caching.key(
            {
                "format": _ANSWER_FORMAT,
                "engine": self._supervisor.identity.digest,
                "tool": tool,
                "position": position,
                "asked": parameters,
            }
        )

    async def lookup(self, kind: type[_Wire], name: str) -> _Wire | None:
        """The cached answer for a key; None while the engine's identity is unknown.

        The object is shared: copy it before you change it.
        """
        if self._cache is None or not self._identified:
            return None
        text = await self._cache.get(name)
        if text is None:
            return None
        parsed_text, parsed = self._parsed.get(name, (None, None))
        if parsed_text is text and isinstance(parsed, kind):
            return parsed
        try:
            answer = kind.model_validate_json(text)
        except ValidationError:
            _log.warning("cache_entry_of_another_shape")
            return None
        self._parsed[name] = text, answer
        self._parsed.move_to_end(name)
        if len(self._parsed) > _READ_MAX:
            self._parsed.popitem(last=False)
        return answer

    async def store(self, name: str, answer: dict[str, Any]) -> None:
        """Store an answer under a key that was computed before the search."""
        if self._cache is not None and self._identified:
            await self._cache.put(name, answer)

    async def search(self, query: dict[str, Any], seconds: float, progress: Progress | None) -> Answer:
        """Send one query to the engine. The caller holds a slot; `seconds` is the query's `maxTime`.

        Raises:
            Unavailable: if the engine is not available, or ended during the search.
            Invalid: if the engine rejected the query.
            TimedOut: if it gave no answer in time, or the search ended without a result.
        """
        # An engine with fewer threads than maxConcurrent processes some queries one after another, and
        # may first have to finish a turn of a review.
        limit = seconds * (self.katago.max_concurrent + 1) + self._grace
        with self._explained(limit, seconds):
            engine = self._supervisor.engine()
            async with asyncio.timeout(limit):
                answer = await engine.query(query, progress)
        if answer.reply.get("noResults"):
            raise TimedOut(
                "analysis_timeout",
                "the search ended before it had a result: maxTime is too short",
                accepted="a longer maxTime",
                retry_after=1,
            )
        return answer

    async def search_turns(
        self, query: dict[str, Any], seconds: float, received: Progress
    ) -> tuple[str, ...]:
        """Send one query with `analyzeTurns`. The caller holds a slot; `seconds` limits each turn's search.

        Raises as `search` does. The caller keeps the turns received before.
        """
        turns = len(query["analyzeTurns"])
        limit = seconds * (turns + self.katago.max_concurrent) + self._grace
        with self._explained(limit, seconds):
            engine = self._supervisor.engine()
            async with asyncio.timeout(limit):
                return await engine.query_turns(query, received)

    @property
    def _grace(self) -> float:
        return self._settings.config.health.heartbeat_timeout_seconds

    @property
    def _identified(self) -> bool:
        return self._supervisor.identity.digest is not None

    @contextlib.contextmanager
    def _explained(self, limit: float, seconds: float) -> Iterator[None]:
        try:
            yield
        except (EngineUnavailable, EngineGone) as error:
            if self.draining:
                message = "the server shut down before the analysis was done"
                raise _draining(message) from error
            raise self._without_engine(error) from error
        except EngineRefused as error:
            field = f"position.{error.field}" if error.field in _POSITION_FIELDS else error.field
            raise Invalid("engine_refused", str(error), field=field) from error
        except TimeoutError as error:
            raise TimedOut(
                "analysis_timeout",
                f"the engine gave no answer within {limit:g} s after the query was sent",
                accepted="lower maxVisits or a shorter maxTime",
                retry_after=seconds,
            ) from error

    def _without_engine(self, error: EngineUnavailable | EngineGone) -> Unavailable:
        if isinstance(error, EngineUnavailable):
            # An engine that has just ended stays "ready" until the supervisor notices.
            code = "engine_restarted" if error.state == "ready" else f"engine_{error.state}"
            return Unavailable(code, str(error), retry_after=error.retry_after)
        retry_after = self._supervisor.retry_after
        if retry_after is None:
            return Unavailable("engine_stopped", "an operator stopped the engine during the analysis")
        message = f"the engine ended during the analysis and is being restarted ({error})"
        return Unavailable("engine_restarted", message, retry_after=retry_after)

    def _resize(self) -> None:
        self.slots.resize(self.katago.max_concurrent, self._settings.config.server.max_queued)

    def _note_load(self) -> None:
        self.metrics.queued.set(self.slots.queued)
        self.metrics.in_flight.set(self.slots.running)
        if self.busy:
            self._idle.clear()
        else:
            self._idle.set()


def _draining(message: str) -> Rejected:
    return Rejected("draining", message, retry_after=DRAINED_SECONDS)


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Convert missing or invalid data in an engine's reply to the failure `engine_answer_unreadable`."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError) as error:
        _log.error("engine_answer_unreadable", errorType=type(error).__name__)
        raise Broken(
            "engine_answer_unreadable",
            "the engine's answer lacks data that the analysis protocol requires",
            retry_after=1,
        ) from error


def within(name: str, value: float, least: float, most: float) -> None:
    """Reject a number outside its range.

    Raises:
        Invalid: with the code `limit_exceeded` and the range.
    """
    # The comparison is also false for NaN.
    if not least <= value <= most:
        raise Invalid(
            "limit_exceeded",
            f"{name} cannot be {value:g}",
            field=name,
            accepted=f"{least:g} to {most:g} on this server",
        )


def options_of(visits: int, seconds: float) -> dict[str, Any]:
    """The common options of every query [Analysis_Engine.md, Queries].

    They override the engine's configuration: the perspective of winrates, and the time limit of a search.
    """
    return {
        "maxVisits": visits,
        "overrideSettings": {"maxTime": seconds, "reportAnalysisWinratesAs": "BLACK"},
    }
