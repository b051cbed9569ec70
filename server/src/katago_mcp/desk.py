"""The desk before the engine: limits, cache, joined requests, slots, and failures by their codes.

Every analysing tool asks through it. Answers are cached and joined under a digest of everything
that changes them: tool, engine version and configuration, networks, position with its moves, and
all options. The configuration counts by the bytes of its file: no setting of KataGo's is known here
not to matter, and so another number of threads costs the cache too.
Positions that mirror each other are not taken for one another: the rules of ko and superko look at
the moves, and the network does not promise the same answer for a turned board.
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
from katago_mcp.engine import Answer, EngineGone, EngineRefused, Progress
from katago_mcp.errors import Broken, Invalid, Rejected, TimedOut, Unavailable
from katago_mcp.flights import Flights, Report
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.positions import Checked, Position
from katago_mcp.scheduling import Claim, Full, Overdue, Slots
from katago_mcp.settings import Settings
from katago_mcp.supervisor import EngineUnavailable, Supervisor

PROGRESS_EVERY = 0.5

_ANSWER_FORMAT = 5
"""Part of every cache key: raised when the shape of cached answers changes."""

_DRAINED_SECONDS = 30
"""After which a server that drains is worth another try: it is restarted, or another one has its place."""

_READ_MAX = 64
"""Answers kept as they were read from the cache, which costs more than to find them there."""

_POSITION_FIELDS = frozenset(field.alias for field in Position.model_fields.values())
_log = Log(__name__)


class Wire(BaseModel):
    """What a tool returns: camelCase outside, snake_case here."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Result(Wire):
    """What every answer of an analysing tool says about itself."""

    perspective: Literal["BLACK"] = Field(
        default="BLACK", description="Whose winrates, scores and ownership these are."
    )
    rules: str = Field(
        description="Rule set used, by its name, or by KataGo's notation of its parts when it has none."
    )
    komi: float = Field(description="Komi used.")
    cached: bool = Field(default=False, description="Whether the answer came from the cache.")
    partial: bool = Field(default=False, description="Whether something is missing of what was asked for.")
    warnings: list[str] = Field(default=[], description="What was accepted although it looks wrong.")
    network: str | None = Field(default=None, description="Name of the neural network.")
    engine_version: str | None = Field(default=None, description="Version of KataGo.")

    @abstractmethod
    def summary(self) -> str:
        """The answer in a few lines, for people."""


_Wire = TypeVar("_Wire", bound=Wire)
_Result = TypeVar("_Result", bound=Result)


class Desk:
    """Lets tools use the engine of a supervisor, at most `max_concurrent` queries at a time."""

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
        self._read: OrderedDict[str, tuple[bytes, Wire]] = OrderedDict()
        self._idle = asyncio.Event()
        self._idle.set()
        settings.watch(self._resize)

    @property
    def katago(self) -> Katago:
        """The limits in force, and what is known of the engine's files."""
        return self._settings.config.katago

    @property
    def saturated(self) -> bool:
        """Whether another request of a caller who waits already would be refused."""
        return self.slots.saturated

    @property
    def busy(self) -> int:
        """Requests being answered or waiting; identical ones count once."""
        return len(self._flights)

    async def idle(self) -> None:
        """Wait until nothing is being answered."""
        await self._idle.wait()

    async def answer(
        self,
        kind: type[_Result],
        tool: str,
        checked: Checked,
        asked: dict[str, Any],
        work: Callable[[Claim, Report], Awaitable[_Result]],
        *,
        caller: str,
        report: Report | None,
        cached: bool = True,
        long: bool = False,
    ) -> _Result:
        """Answer from the cache, or together with an identical request in flight, or by `work`.

        `asked` is JSON that holds everything the answer depends on, besides the position, the engine and
        the networks. Every caller gets an answer of its own, which calls the rules by the caller's name.
        With `cached` false the answer is neither looked up nor kept as a whole.

        Raises:
            Rejected: if the server drains or is overloaded.
            Failure: what `work` raises.
        """
        if self.draining:
            raise _draining("the server takes no new analyses because it is being taken out of service")
        name = self.key(tool, checked.digest, asked)
        own: dict[str, Any] = {"rules": checked.rules_name}
        if cached:
            kept = await self.kept(kind, name)
            if kept is not None:
                return kept.model_copy(update=own | {"cached": True})

        async def worked(claim: Claim, note: Report) -> _Result:
            result = await work(claim, note)
            engine = self._supervisor.identity
            result.network, result.engine_version = engine.network, engine.version
            # A partial answer depends on how busy the machine was; it is not worth repeating.
            if cached and not result.partial:
                await self.keep(name, result.model_dump(mode="json", by_alias=True))
            return result

        try:
            result = await self._flights.join(name, caller, worked, report, long=long)
            return result.model_copy(update=own)
        except Full as error:
            raise self._overloaded("") from error

    @contextlib.asynccontextmanager
    async def turn(self, claim: Claim) -> AsyncIterator[None]:
        """Hold a slot while the context lasts, for work that waits for one turn only.

        Raises:
            Rejected: `overloaded` if the turn does not come within `server.maxWaitSeconds`.
        """
        patience = self._settings.config.server.max_wait_seconds
        try:
            async with self.slots.slot(claim, patience):
                yield
        except Overdue as error:
            raise self._overloaded(f"no turn came within {patience:g} s: ") from error

    def _overloaded(self, reason: str) -> Rejected:
        longest = self._settings.config.server.max_wait_seconds
        return Rejected(
            "overloaded",
            f"{reason}{self.slots.running} analyses run and {self.slots.queued} wait already",
            accepted="fewer requests at a time",
            retry_after=min(longest, self.slots.expected_wait(self.katago.max_time)),
        )

    def key(self, tool: str, position: str, asked: dict[str, Any]) -> str:
        """The key of an answer about a position, given by its digest, of the engine that runs as it runs."""
        engine = self._supervisor.identity
        return caching.key(
            {
                "format": _ANSWER_FORMAT,
                "engine": engine.version,
                "network": engine.network,
                "humanNetwork": engine.human_network,
                "config": engine.config,
                "tool": tool,
                "position": position,
                "asked": asked,
            }
        )

    async def kept(self, kind: type[_Wire], name: str) -> _Wire | None:
        """What the cache holds under a key; nothing while it is not known which engine runs.

        Others may be given the same object: whoever changes something makes a copy.
        """
        if self._cache is None or not self._identified:
            return None
        text = await self._cache.get(name)
        if text is None:
            return None
        of, found = self._read.get(name, (None, None))
        if of is text and isinstance(found, kind):
            return found
        try:
            answer = kind.model_validate_json(text)
        except ValidationError:
            _log.warning("cache_entry_of_another_shape")
            return None
        self._read[name] = text, answer
        self._read.move_to_end(name)
        if len(self._read) > _READ_MAX:
            self._read.popitem(last=False)
        return answer

    async def keep(self, name: str, answer: dict[str, Any]) -> None:
        """Keep an answer under a key that was made before it was searched for."""
        if self._cache is not None and self._identified:
            await self._cache.put(name, answer)

    async def search(self, query: dict[str, Any], seconds: float, progress: Progress | None) -> Answer:
        """One query to the engine, within a slot; `seconds` is the `maxTime` in it.

        Raises:
            Unavailable: if there is no engine, or it ended during the search.
            Invalid: if the engine refused the query.
            TimedOut: if it gave no answer in time, or ended the search before it had a result.
        """
        # An engine with fewer threads than maxConcurrent works some queries off one by one, and
        # may first have to finish the turn of a review.
        limit = seconds * (self.katago.max_concurrent + 1) + self._grace
        with self._explained(limit, seconds):
            engine = self._supervisor.engine()
            async with asyncio.timeout(limit):
                answer = await engine.query(query, progress)
        if answer.reply.get("noResults"):
            raise TimedOut(
                "analysis_timeout",
                "the search ended before it had a result",
                accepted="a longer maxTime",
                retry_after=1,
            )
        return answer

    async def search_turns(
        self, query: dict[str, Any], seconds: float, received: Progress
    ) -> tuple[str, ...]:
        """One query with `analyzeTurns`, within a slot; `seconds` bounds every turn's search.

        Raises as `search` does; what was received before is the caller's to keep.
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
        engine = self._supervisor.identity
        return None not in (engine.version, engine.network, engine.config)

    @contextlib.contextmanager
    def _explained(self, limit: float, seconds: float) -> Iterator[None]:
        try:
            yield
        except (EngineUnavailable, EngineGone) as error:
            if self.draining:
                message = "the server was taken out of service before the analysis was done"
                raise _draining(message) from error
            raise self._without_engine(error) from error
        except EngineRefused as error:
            field = f"position.{error.field}" if error.field in _POSITION_FIELDS else error.field
            raise Invalid("engine_refused", str(error), field=field) from error
        except TimeoutError as error:
            raise TimedOut(
                "analysis_timeout",
                f"the engine gave no answer within {limit:g} s after it was asked",
                accepted="fewer maxVisits or a shorter maxTime",
                retry_after=seconds,
            ) from error

    def _without_engine(self, error: EngineUnavailable | EngineGone) -> Unavailable:
        if isinstance(error, EngineUnavailable):
            # An engine that has just ended is "ready" until the supervisor has taken notice.
            code = "engine_restarted" if error.state == "ready" else f"engine_{error.state}"
            return Unavailable(code, str(error), retry_after=error.retry_after)
        retry_after = self._supervisor.retry_after
        if retry_after is None:
            return Unavailable("engine_stopped", "the engine was stopped while analysing")
        message = f"the engine restarted while analysing ({error})"
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
    return Rejected("draining", message, retry_after=_DRAINED_SECONDS)


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Turn what is missing in an engine's reply into the failure `engine_answer_unreadable`."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError) as error:
        _log.error("engine_answer_unreadable", errorType=type(error).__name__)
        raise Broken(
            "engine_answer_unreadable",
            "the engine's answer lacks what the analysis protocol promises",
            retry_after=1,
        ) from error


def within(name: str, value: float, least: float, most: float) -> None:
    """Refuse a number outside of its range.

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
    """What every query says besides its position [Analysis_Engine.md, Queries].

    It settles what the engine's configuration would decide otherwise: whose winrates are reported,
    and how long a search may take.
    """
    return {
        "maxVisits": visits,
        "overrideSettings": {"maxTime": seconds, "reportAnalysisWinratesAs": "BLACK"},
    }
