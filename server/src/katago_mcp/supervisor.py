"""The supervisor: keeps one engine running, detects failures, and reports the engine's state.

One loop does all the work, in steps no longer than a tick, and records the time of each step. Health checks
and systemd's watchdog use the age of that time.
"""

import asyncio
import contextlib
import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from katago_mcp import progress
from katago_mcp.config import Health, Katago
from katago_mcp.engine import (
    Command,
    EndKind,
    Engine,
    EngineGone,
    EngineRefused,
    EngineSpawnError,
    launch,
)
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.notify import Notifier
from katago_mcp.settings import Settings

State = Literal["starting", "tuning", "ready", "hung", "backoff", "config_error", "stopped"]

CONFIG_ERROR_SECONDS = 5.0
"""An engine that aborts with a reason this soon after its start has a configuration error."""

_STALE_TICKS = 5
_T = TypeVar("_T")
_log = Log(__name__)


class EngineUnavailable(Exception):
    """No engine can accept a query now. `retry_after` is in seconds; None if an operator must start it."""

    def __init__(self, state: State, reason: str | None, retry_after: float | None) -> None:
        super().__init__(
            f"the engine cannot answer now, its state is {state}" + (f": {reason}" if reason else "")
        )
        self.state = state
        self.retry_after = retry_after


@dataclass(frozen=True)
class EngineStatus:
    """Status of the engine. `heartbeat_age`: seconds since the last heartbeat.

    While the engine starts, `starting_for` is the time since its start and `still_for` the time without
    progress, both in seconds.
    """

    state: State
    reason: str | None
    pid: int | None
    restarts: int
    version: str | None
    network: str | None
    human_network: str | None
    heartbeat_age: float | None
    starting_for: float | None = None
    still_for: float | None = None


class Identity(NamedTuple):
    """The engine's version, the names of its networks, and a digest of everything that its answers depend on.

    Unknown or missing values are None. The digest covers the version with its revision, and the content of
    the networks and of the configuration file: a file with the same name may have another content. Files
    included by the configuration file do not count.
    """

    version: str | None = None
    network: str | None = None
    human_network: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class _Ended:
    kind: EndKind
    text: str


class Supervisor:
    """Starts, watches, kills and restarts the engine."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        notifier: Notifier,
        environ: Mapping[str, str],
        command: Command,
        activity: Callable[[int], progress.Activity] = progress.of_session,
    ) -> None:
        """Create the supervisor. `activity` reads the activity of the processes of a session, by its id."""
        self._activity = activity
        self._settings = settings
        self._metrics = metrics
        self._notifier = notifier
        self._environ = environ
        self._command = command
        watchdog = notifier.watchdog_seconds
        self._watchdog_every = None if watchdog is None else watchdog / 3
        self._marked = time.monotonic()
        self._watchdog_sent = -math.inf
        self._state: State = "starting"
        self._reason: str | None = None
        self._engine: Engine | None = None
        self._enabled = True
        self._closing = False
        self._poke = asyncio.Event()
        self._changed = asyncio.Event()
        self._restarts = 0
        self._failures: deque[float] = deque()
        self._retry_at: float | None = None
        self._start_took = 5.0
        self._beat_at: float | None = None
        self._starting: tuple[float, progress.Watch] | None = None
        self._identity = Identity()

    @property
    def _katago(self) -> Katago:
        return self._settings.config.katago

    @property
    def _health(self) -> Health:
        return self._settings.config.health

    @property
    def _tick(self) -> float:
        return min(self._health.heartbeat_interval_seconds, 1.0, self._watchdog_every or math.inf)

    @property
    def fresh(self) -> bool:
        """Whether the loop made a step recently."""
        return time.monotonic() - self._marked < _STALE_TICKS * self._tick + 1

    @property
    def beating(self) -> bool:
        """Whether the engine is ready and answered a heartbeat recently."""
        health = self._health
        limit = health.heartbeat_interval_seconds + health.heartbeat_timeout_seconds
        age = self.status().heartbeat_age
        return self._state == "ready" and age is not None and age < limit

    @property
    def retry_after(self) -> float | None:
        """Estimated seconds until an engine is ready again; None if it was stopped by an operator."""
        if not self._enabled:
            return None
        if self._state in ("backoff", "config_error") and self._retry_at is not None:
            return max(0.0, self._retry_at - time.monotonic()) + self._start_took
        if self._state in ("ready", "hung"):
            return self._delay(len(self._recent()) + 1) + self._start_took
        return self._start_took

    @property
    def identity(self) -> Identity:
        """The identity of the engine, also while it restarts."""
        return self._identity

    def status(self) -> EngineStatus:
        """The current status of the engine."""
        now = time.monotonic()
        since, watch = self._starting or (None, None)
        return EngineStatus(
            state=self._state,
            reason=self._reason,
            pid=self._engine.pid if self._engine is not None else None,
            restarts=self._restarts,
            version=self._identity.version,
            network=self._identity.network,
            human_network=self._identity.human_network,
            heartbeat_age=None if self._beat_at is None else now - self._beat_at,
            starting_for=None if since is None else now - since,
            still_for=None if watch is None else watch.still,
        )

    def engine(self) -> Engine:
        """The engine, ready for queries.

        Raises:
            EngineUnavailable: in every state except `ready`, and as soon as the engine is to stop.
        """
        if not self._enabled:
            raise EngineUnavailable("stopped", self._reason, None)
        if self._state != "ready" or self._engine is None or self._engine.ended.is_set():
            raise EngineUnavailable(self._state, self._reason, self.retry_after)
        return self._engine

    async def wait_for(self, *states: State) -> State:
        """Wait until the engine is in one of the states. Returns that state."""
        while self._state not in states:
            self._changed.clear()
            await self._changed.wait()
        return self._state

    async def wait_for_start(self, seconds: float) -> None:
        """Wait until the engine is ready, if it should be so within `seconds`. Returns in any case then."""
        deadline = time.monotonic() + seconds
        while self._enabled and self._state in ("starting", "hung", "backoff"):
            expected, remaining = self.retry_after, deadline - time.monotonic()
            # An engine that starts may be faster than the last one. A pause before a restart is exact.
            if remaining <= 0 or (self._state != "starting" and (expected is None or expected > remaining)):
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._changed.wait()

    def start(self) -> bool:
        """Start the engine and skip any backoff. Returns False if it is already running or starting."""
        changed = not self._enabled or self._state in ("backoff", "config_error")
        self._enabled = True
        if changed:
            self._failures.clear()
            self._poke.set()
        return changed

    def stop(self, reason: str) -> bool:
        """Stop the engine. Returns False if it is already stopped."""
        changed = self._enabled
        self._enabled = False
        self._reason = reason
        self._poke.set()
        return changed

    def restart(self) -> None:
        """Replace the engine at once, without backoff."""
        if self._engine is not None and not self._engine.ended.is_set():
            self._engine.end("requested", "was restarted by an operator")
        else:
            self._failures.clear()
        self._enabled = True
        self._poke.set()

    def close(self) -> None:
        """Stop the engine and the loop."""
        self._closing = True
        self.stop("the server is stopping")

    async def run(self) -> None:
        """Keep an engine running until `close` is called."""
        while not self._closing:
            self._poke.clear()
            self._retry_at = None
            if not self._enabled:
                self._set("stopped", self._reason)
                await self._pause(math.inf)
                continue
            self._set("starting", None)
            ended = await self._one_engine()
            if self._closing or not self._enabled:
                continue
            await self._after(ended)
        self._set("stopped", self._reason)

    async def _one_engine(self) -> _Ended:
        command = replace(self._command, write_seconds=self._health.heartbeat_timeout_seconds)
        # Read before the engine starts, because the file may be replaced later.
        config = await asyncio.to_thread(_digest, command.config)
        try:
            async with launch(command, self._environ, self._metrics) as engine:
                self._engine = engine
                _log.info("engine_started", pid=engine.pid)
                await self._guard(engine, command, config)
        except EngineSpawnError as error:
            return _Ended("config_error", str(error))
        finally:
            self._engine = None
            self._beat_at = None
        text = engine.end_text
        if engine.end_kind in ("exited", "config_error") and engine.reason is not None:
            text += f": {engine.reason}"
        return _Ended(engine.end_kind, text)

    async def _guard(self, engine: Engine, command: Command, config: str | None) -> None:
        if not await self._wait_until_ready(engine, command, config):
            return
        # An earlier poke has had its effect, and must not shorten later pauses.
        self._poke.clear()
        while self._enabled and not engine.ended.is_set():
            if await self._beat(engine):
                await self._pause(self._health.heartbeat_interval_seconds, engine.ended)
        if not self._enabled:
            engine.quit("was stopped")

    async def _wait_until_ready(self, engine: Engine, command: Command, config: str | None) -> bool:
        started = time.monotonic()
        watch = progress.Watch(
            lambda: self._activity(engine.pid), lambda: engine.lines, longest_step=_STALE_TICKS * self._tick
        )
        self._starting = started, watch
        identifying = asyncio.create_task(_identify(engine, command, config))
        try:
            while not identifying.done() and self._enabled:
                if engine.tuning not in (None, self._reason):
                    self._set("tuning", engine.tuning)
                still = watch.check()
                if still > self._katago.start_timeout_seconds:
                    engine.end("start_timeout", _still(still, engine))
                elif (took := time.monotonic() - started) > self._katago.tuning_timeout_seconds:
                    engine.end(
                        "start_timeout", f"was not ready within {took:.0f} s, although it made progress"
                    )
                await self._step({identifying}, self._tick)
            if not identifying.done():
                return False
            try:
                self._identity = await identifying
            except EngineRefused as error:
                engine.end("garbage", f"rejected the query for its version: {error}")
                return False
            except EngineGone:
                await engine.ended.wait()
                early = time.monotonic() - started < CONFIG_ERROR_SECONDS
                if early and engine.end_kind == "exited" and engine.reason is not None:
                    engine.end_kind = "config_error"
                return False
        finally:
            self._starting = None
            identifying.cancel()
            with contextlib.suppress(asyncio.CancelledError, EngineGone, EngineRefused):
                await identifying
        self._start_took = min(max(time.monotonic() - started, 1.0), 60.0)
        self._beat_at = time.monotonic()
        self._set("ready", None)
        return True

    async def _beat(self, engine: Engine) -> bool:
        """Send a heartbeat. An engine that does not answer in time is ended as hung.

        If the host is too busy to give it CPU time, it gets more time, up to `katago.startTimeoutSeconds`. A
        pause of this process restarts its time once, because the answer may have come meanwhile.
        """
        seconds = self._health.heartbeat_timeout_seconds
        heartbeat = asyncio.create_task(engine.query({"action": "query_version"}))
        try:
            started = time.monotonic()
            last = started + max(seconds, self._katago.start_timeout_seconds)
            deadline = started + seconds
            sample: tuple[float, progress.Activity] | None = None
            was_paused = False
            while not heartbeat.done() and self._enabled and (now := time.monotonic()) < deadline:
                if sample is None and now > started + seconds / 2:
                    sample = now, self._activity(engine.pid)
                step = min(self._tick, max(0.0, deadline - now))
                await self._step({heartbeat}, step)
                late = time.monotonic() - now - step
                now = time.monotonic()
                if late > self._tick and not was_paused:
                    was_paused, deadline = True, now + seconds
                    last = max(last, deadline)
                if sample is not None and deadline <= now < last and not heartbeat.done():
                    activity = self._activity(engine.pid)
                    if progress.is_starved(sample[1], activity, now - sample[0]):
                        sample, deadline = (now, activity), min(last, now + seconds)
            seconds = time.monotonic() - started
            if heartbeat.done():
                with contextlib.suppress(EngineGone, EngineRefused):
                    await heartbeat
                    self._beat_at = time.monotonic()
                    return True
                return not engine.ended.is_set()
            if self._enabled:
                self._set("hung", f"no heartbeat for {seconds:.1f} s")
                engine.end("hung", f"hung: no heartbeat for {seconds:.1f} s")
            return False
        finally:
            heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError, EngineGone, EngineRefused):
                await heartbeat

    async def _after(self, ended: _Ended) -> None:
        self._restarts += 1
        self._metrics.engine_restarts.labels(ended.kind).inc()
        if ended.kind == "requested":
            _log.info("engine_restarting", reason=ended.kind)
            return
        self._failures.append(time.monotonic())
        failures = len(self._recent())
        delay = self._delay(failures)
        reason = ended.text
        state: State = "backoff"
        if ended.kind == "config_error":
            state, delay = "config_error", self._katago.restart_backoff_max_seconds
        elif failures > self._katago.restart_budget:
            window = self._katago.restart_window_seconds
            reason += (
                f" ({failures} failures within {window:g} s exceed the restart budget: waiting {delay:g} s)"
            )
        self._retry_at = time.monotonic() + delay
        self._set(state, reason)
        await self._pause(delay)

    def _recent(self) -> deque[float]:
        horizon = time.monotonic() - self._katago.restart_window_seconds
        while self._failures and self._failures[0] < horizon:
            self._failures.popleft()
        return self._failures

    def _delay(self, failures: int) -> float:
        longest = self._katago.restart_backoff_max_seconds
        if failures > self._katago.restart_budget:
            return longest
        doubled: float = self._katago.restart_backoff_seconds * 2.0 ** min(failures - 1, 32)
        return min(longest, doubled)

    def _set(self, state: State, reason: str | None) -> None:
        changed = (state, reason) != (self._state, self._reason)
        self._state, self._reason = state, reason
        self._metrics.engine_state(state)
        self._notifier.status(f"engine {state}" + (f": {reason}" if reason else ""))
        self._changed.set()
        if changed:
            is_failure = state in ("hung", "backoff", "config_error")
            (_log.warning if is_failure else _log.info)("engine_state", state=state, reason=reason)

    async def _pause(self, seconds: float, until: asyncio.Event | None = None) -> None:
        """Sleep in steps. Ends early when poked, or when the event is set."""
        deadline = time.monotonic() + seconds
        waits: list[Coroutine[Any, Any, object]] = [self._poke.wait()]
        if until is not None:
            waits.append(until.wait())
        tasks = {asyncio.ensure_future(wait) for wait in waits}
        try:
            while not any(task.done() for task in tasks):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return
                await self._step(tasks, min(remaining, self._tick))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _step(self, tasks: "set[asyncio.Task[_T]]", seconds: float) -> None:
        self._mark()
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        self._mark()

    def _mark(self) -> None:
        now = time.monotonic()
        self._marked = now
        if self._watchdog_every is not None and now - self._watchdog_sent >= self._watchdog_every:
            self._watchdog_sent = now
            self._notifier.watchdog()


def _still(seconds: float, engine: Engine) -> str:
    """Why a start failed: the time without progress, and the engine's last log lines."""
    lines = engine.last_lines
    output = f"its last log lines: {' | '.join(lines)}" if lines else "it wrote no output"
    return (
        f"gave no sign of progress for {seconds:.0f} s while it started"
        f" (no output, no CPU time used or waited for); {output}"
    )


async def _identify(engine: Engine, command: Command, config: str | None) -> Identity:
    networks = [path for path in (command.network, command.human_network) if path is not None]
    # While the engine loads them.
    reading = [asyncio.create_task(asyncio.to_thread(_digest, path)) for path in networks]
    try:
        version = (await engine.query({"action": "query_version"})).reply
        models = (await engine.query({"action": "query_models"})).reply.get("models")
        digests = await asyncio.gather(*reading)
    finally:
        for task in reading:
            task.cancel()
    names = [
        str(model.get("internalName") or model.get("name"))
        for model in (models if isinstance(models, list) else [])
        if isinstance(model, dict)
    ]
    # The main network comes first, then that of -human-model.
    network, human_network = ([*names, None, None])[:2]
    revision = str(version.get("version")), str(version.get("git_hash"))
    parts = [*revision, config, *digests]
    digest = None if None in parts else hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return Identity(revision[0], network, human_network, digest)


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file in hexadecimal; None if it cannot be read (the engine reports that itself)."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
