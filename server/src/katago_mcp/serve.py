"""The running server: builds its parts, serves them, and takes them down in order."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import MCPServer

from katago_mcp import __version__, http, logs, tools
from katago_mcp.analysis import Analyst
from katago_mcp.auth import RateLimiter, Tokens
from katago_mcp.cache import Cache
from katago_mcp.config import Loaded
from katago_mcp.engine import Command
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.notify import Notifier
from katago_mcp.supervisor import Supervisor

_FLUSH_SECONDS = 1.0
_log = Log(__name__)


@dataclass(frozen=True)
class _Parts:
    supervisor: Supervisor
    analyst: Analyst
    cache: Cache | None
    metrics: Metrics
    mcp: MCPServer[dict[str, Any]]


async def serve(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Serve Streamable HTTP until SIGTERM or SIGINT, then drain.

    Raises:
        ConfigError: if the tokens file cannot be used.
        BindError: if a port cannot be listened on.
    """
    server, metrics_config = loaded.config.server, loaded.config.metrics
    tokens = None if loaded.tokens_file is None else Tokens(loaded.tokens_file)
    notifier = Notifier(environ)
    stop = _stop_signal()
    with contextlib.ExitStack() as sockets:
        sock = sockets.enter_context(http.bind(server.host, server.port))
        metrics_sock = None
        if metrics_config.enabled:
            metrics_sock = sockets.enter_context(http.bind(metrics_config.host, metrics_config.port))
        async with _running(loaded, environ, notifier, tokens) as parts:
            operations = http.Operations(
                supervisor=parts.supervisor,
                analyst=parts.analyst,
                cache=parts.cache,
                metrics=parts.metrics,
                release=loaded.release,
                secured=tokens is not None,
                started=time.monotonic(),
            )
            app = http.application(parts.mcp, operations, http.security(server))
            async with contextlib.AsyncExitStack() as servers:
                if metrics_sock is not None:
                    scrape = http.metrics_application(parts.metrics)
                    await servers.enter_async_context(http.serving(scrape, metrics_sock))
                await servers.enter_async_context(http.serving_mcp(app, parts.mcp, sock))
                _log.info(
                    "listening",
                    host=server.host,
                    port=server.port,
                    version=__version__,
                    release=loaded.release,
                    secured=tokens is not None,
                )
                notifier.ready()
                await stop.wait()
                notifier.stopping()
                await _drain(parts, app, server.drain_timeout_seconds)


async def stdio(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Serve one client over stdin and stdout until it closes them."""
    async with _running(loaded, environ, Notifier({}), None) as parts:
        await parts.mcp.run_stdio_async()


@contextlib.asynccontextmanager
async def _running(
    loaded: Loaded, environ: Mapping[str, str], notifier: Notifier, tokens: Tokens | None
) -> AsyncIterator[_Parts]:
    config = loaded.config
    metrics = Metrics(__version__, loaded.release)
    cache = Cache(config.cache, metrics) if config.cache.enabled else None
    if cache is not None:
        await cache.open()
    command = Command(
        binary=config.katago.binary_path,
        network=config.katago.model_path,
        config=config.katago.config_path,
        home=config.katago.home_data_dir,
        human_network=config.katago.human_model_path,
        write_seconds=config.health.heartbeat_timeout_seconds,
    )
    supervisor = Supervisor(config.katago, config.health, metrics, notifier, environ, command)
    analyst = Analyst(config.katago, config.health, config.server.max_queued, supervisor, cache, metrics)
    service = tools.Service(
        supervisor=supervisor,
        analyst=analyst,
        metrics=metrics,
        limiter=RateLimiter(config.rate_limit),
        max_visits=config.katago.max_visits,
        max_time=config.katago.max_time,
        secured=tokens is not None,
    )
    mcp = tools.build(service, tokens)
    logs.configure(config.logging.level, config.logging.format)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(supervisor.run())
            try:
                yield _Parts(supervisor, analyst, cache, metrics, mcp)
            finally:
                supervisor.close()
    finally:
        if cache is not None:
            await cache.close()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _drain(parts: _Parts, app: http.Application, seconds: float) -> None:
    """Refuse new analyses, let running ones finish in time, end the others with an answer."""
    parts.analyst.draining = True
    _log.info("draining", inFlight=parts.analyst.busy, pid=os.getpid())
    try:
        async with asyncio.timeout(seconds):
            await parts.analyst.idle()
    except TimeoutError:
        _log.warning("drain_cut_short", inFlight=parts.analyst.busy)
    parts.supervisor.close()
    await parts.supervisor.wait_for("stopped")
    # Calls that lost the engine just now still answer; the answers have to leave first.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FLUSH_SECONDS):
            await app.answered()
    _log.info("stopped")
