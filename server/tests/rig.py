"""A supervisor and an analyst with the configuration of a site, without a server."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from mcp import Client

from katago_mcp import progress, tools
from katago_mcp.analysis import Analyst, PositionAnalysis, Request
from katago_mcp.auth import RateLimiter
from katago_mcp.cache import Cache
from katago_mcp.config import RateLimit, load
from katago_mcp.engine import Command
from katago_mcp.metrics import Metrics
from katago_mcp.notify import Notifier
from katago_mcp.positions import Position
from katago_mcp.reload import Reloader
from katago_mcp.settings import Settings
from katago_mcp.supervisor import State, Supervisor
from support import PATIENCE, Site

Ask = Callable[..., Awaitable[dict[str, Any]]]
GAME = Position(moves=[("B", "D4"), ("W", "Q16")])


class Rig:
    """The parts that answer calls. With `cached`, they use the cache of the site."""

    def __init__(
        self,
        site: Site,
        environ: dict[str, str],
        *,
        cached: bool = False,
        activity: Callable[[int], progress.Activity] = progress.of_session,
    ) -> None:
        loaded = load(site.path, {})
        katago = loaded.config.katago
        self.site = site
        self.metrics = Metrics("1", None)
        self.settings = Settings(loaded.config)
        self.cache = Cache(lambda: self.settings.config.cache, self.metrics) if cached else None
        self.reloader = Reloader(self.settings, loaded, environ, None, self.cache, None, self.metrics)
        command = Command(
            katago.binary_path,
            katago.model_path,
            katago.config_path,
            katago.home_data_dir,
            human_network=katago.human_model_path,
        )
        self.supervisor = Supervisor(self.settings, self.metrics, Notifier({}), environ, command, activity)
        self.analyst = Analyst(self.settings, self.supervisor, self.cache, self.metrics)

    def restarts(self, reason: str) -> float | None:
        return self.metrics.registry.get_sample_value("katago_engine_restarts_total", {"reason": reason})

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)

    async def reaches(self, *states: State) -> State:
        async with asyncio.timeout(PATIENCE):
            return await self.supervisor.wait_for(*states)

    async def analyze(self, **fields: Any) -> PositionAnalysis:
        async with asyncio.timeout(PATIENCE):
            return await self.analyst.analyze(Request(GAME, **fields))

    def pid(self) -> int:
        pid = self.supervisor.status().pid
        assert pid is not None
        return pid


@contextlib.asynccontextmanager
async def rig(
    site: Site,
    environ: Mapping[str, str] | None = None,
    *,
    cached: bool = False,
    activity: Callable[[int], progress.Activity] = progress.of_session,
) -> AsyncIterator[Rig]:
    """A rig whose supervisor runs while the context lasts."""
    made = Rig(site, {"PATH": os.environ["PATH"], **(environ or {})}, cached=cached, activity=activity)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(made.supervisor.run())
        try:
            yield made
        finally:
            made.supervisor.close()
            if made.cache is not None:
                await made.cache.close()


@contextlib.asynccontextmanager
async def asking(made: Rig, *, secured: bool = False, burst: int | None = None) -> AsyncIterator[Ask]:
    """Call the tools of a rig through the protocol, with arguments that fail."""
    limit = RateLimit() if burst is None else RateLimit(enabled=True, requests_per_minute=1, burst=burst)
    service = tools.Service(
        supervisor=made.supervisor,
        analyst=made.analyst,
        metrics=made.metrics,
        limiter=RateLimiter(lambda: limit),
        settings=made.settings,
        secured=secured,
    )
    async with Client(tools.build(service, None)) as session:

        async def ask(tool: str = "analyzePosition", **arguments: Any) -> dict[str, Any]:
            result = await session.call_tool(tool, arguments)
            assert result.is_error
            assert result.structured_content is not None
            error: dict[str, Any] = result.structured_content["error"]
            return error

        yield ask


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true, or fail."""
    async with asyncio.timeout(PATIENCE):
        # The condition depends on another process, so there is no event to wait for.
        while not condition():
            await asyncio.sleep(0.01)
