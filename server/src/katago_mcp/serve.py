"""The running server: builds its parts, serves them, and stops them in order."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer

from katago_mcp import __version__, http, logs, tools
from katago_mcp.analysis import Analyst
from katago_mcp.auth import RateLimiter, Tokens
from katago_mcp.cache import Cache
from katago_mcp.config import Loaded, Server
from katago_mcp.connections import Connections, raise_descriptor_limit
from katago_mcp.engine import Command
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.notify import Notifier
from katago_mcp.reload import Reloader
from katago_mcp.session_ids import SessionIds, SessionKeys, configured_keys
from katago_mcp.settings import Settings
from katago_mcp.shared_address import endpoint
from katago_mcp.shared_cache import SharedAnswers
from katago_mcp.shared_connection import Connection, file_problems, password_file
from katago_mcp.supervisor import Supervisor
from katago_mcp.tls import Tls

_FLUSH_SECONDS = 2.0
_SCRAPE_LIMITS = Server(max_connections=64, max_connections_per_client=32)
"""Limits of the metrics port."""

_log = Log(__name__)


@dataclass(frozen=True)
class _Parts:
    settings: Settings
    reloader: Reloader
    tls: Tls | None
    supervisor: Supervisor
    analyst: Analyst
    cache: Cache | None
    metrics: Metrics
    mcp: MCPServer[dict[str, Any]]


async def serve(loaded: Loaded, environ: Mapping[str, str], overlay: Path | None = None) -> None:
    """Serve Streamable HTTP until SIGTERM or SIGINT, then drain; SIGHUP reloads.

    `overlay` is the path of the overlay file, which may be missing.

    Raises:
        ConfigError: if the tokens, the certificate or the session key are not valid.
        BindError: if the server cannot listen on a port.
    """
    server, metrics_config = loaded.config.server, loaded.config.metrics
    tokens = None if loaded.tokens_file is None else Tokens(loaded.tokens_file)
    session_keys = SessionKeys(loaded.config.auth.session_key_file)
    notifier = Notifier(environ)
    stop = _event_of(signal.SIGTERM, signal.SIGINT)
    hangup = _event_of(signal.SIGHUP)
    with contextlib.ExitStack() as sockets:
        sock = sockets.enter_context(http.bind(server.host, server.port))
        metrics_sock = None
        if metrics_config.enabled:
            metrics_sock = sockets.enter_context(http.bind(metrics_config.host, metrics_config.port))
        async with _running(loaded, environ, notifier, tokens, overlay, session_keys) as parts:
            operations = http.Operations(
                settings=parts.settings,
                reloader=parts.reloader,
                supervisor=parts.supervisor,
                analyst=parts.analyst,
                cache=parts.cache,
                metrics=parts.metrics,
                release=loaded.release,
                tokens=tokens,
                session_ids=SessionIds(
                    session_keys, lambda: parts.settings.config.server.session_lifetime_seconds
                ),
                started=time.monotonic(),
            )
            app = http.application(parts.mcp, operations)
            async with contextlib.AsyncExitStack() as servers:
                if metrics_sock is not None:
                    scrape = http.metrics_application(parts.metrics)
                    scrapers = Connections(lambda: _SCRAPE_LIMITS, Metrics(__version__, None))
                    await servers.enter_async_context(http.serving(scrape, metrics_sock, scrapers))
                connections = Connections(
                    lambda: parts.settings.config.server, parts.metrics, raise_descriptor_limit()
                )
                await servers.enter_async_context(
                    http.serving_mcp(app, parts.mcp, sock, connections, parts.tls)
                )
                await servers.enter_async_context(_running_beside(_reload_on(hangup, parts.reloader)))
                _log.info(
                    "listening",
                    host=server.host,
                    port=server.port,
                    version=__version__,
                    release=loaded.release,
                    secured=tokens is not None,
                    tls=parts.tls is not None,
                )
                notifier.ready()
                await stop.wait()
                notifier.stopping()
                await _drain(parts, app)


async def stdio(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Serve one client over stdin and stdout until it disconnects. It does not use the shared cache."""
    async with _running(loaded, environ, Notifier({}), None, None, None) as parts:
        await parts.mcp.run_stdio_async()


@contextlib.asynccontextmanager
async def _running(
    loaded: Loaded,
    environ: Mapping[str, str],
    notifier: Notifier,
    tokens: Tokens | None,
    overlay: Path | None,
    session_keys: SessionKeys | None,
) -> AsyncIterator[_Parts]:
    config = loaded.config
    settings = Settings(config)
    metrics = Metrics(__version__, loaded.release)
    shared = None if session_keys is None else _shared_cache(settings, environ, session_keys, metrics)
    cache = Cache(lambda: settings.config.cache, metrics, shared) if config.cache.enabled else None
    tls = None if loaded.tls is None else Tls(loaded.tls, metrics)
    reloader = Reloader(settings, loaded, environ, overlay, cache, tls, metrics)
    await reloader.start()
    command = Command(
        binary=config.katago.binary_path,
        network=config.katago.model_path,
        config=config.katago.config_path,
        home=config.katago.home_data_dir,
        human_network=config.katago.human_model_path,
    )
    supervisor = Supervisor(settings, metrics, notifier, environ, command)
    analyst = Analyst(settings, supervisor, cache, metrics)
    service = tools.Service(
        supervisor=supervisor,
        analyst=analyst,
        metrics=metrics,
        limiter=RateLimiter(lambda: settings.config.rate_limit),
        settings=settings,
        secured=tokens is not None,
    )
    mcp = tools.build(service, tokens)

    def configure_logs() -> None:
        logs.configure(settings.config.logging.level, settings.config.logging.format)

    # Again, because the SDK reconfigures logging when the tools are built.
    configure_logs()
    settings.watch(configure_logs)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(supervisor.run())
            beside = [tasks.create_task(reloader.run())]
            if shared is not None:
                beside.append(tasks.create_task(shared.run()))
            try:
                yield _Parts(settings, reloader, tls, supervisor, analyst, cache, metrics, mcp)
            finally:
                supervisor.close()
                if shared is not None:
                    await shared.flush()
                for task in beside:
                    task.cancel()
    finally:
        if cache is not None:
            await cache.close()


def _shared_cache(
    settings: Settings, environ: Mapping[str, str], keys: SessionKeys, metrics: Metrics
) -> SharedAnswers | None:
    """The configured shared cache; None without one. Problems with its files do not stop the server."""
    config = settings.configured
    shared, key_file = config.shared_cache, config.auth.session_key_file
    if shared.url is None:
        return None
    password = password_file(shared, environ.get("CREDENTIALS_DIRECTORY"))
    if problems := file_problems(shared, password):
        _log.error("shared_cache_misconfigured", problems=problems)
    if not configured_keys(key_file):
        metrics.shared_state("down")
        problem = (
            f"auth.sessionKeyFile: {key_file} does not exist, so there is no key to verify entries of the "
            "shared cache with: create it, with the same key on all hosts, and restart"
        )
        _log.error("shared_cache_refused", problems=[problem])
        return None
    return SharedAnswers(
        Connection(endpoint(shared.url), shared, password, metrics),
        keys,
        config.cache.directory,
        lambda: settings.config.cache.ttl_seconds,
        metrics,
    )


def _event_of(*signals: signal.Signals) -> asyncio.Event:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, event.set)
    return event


async def _reload_on(hangup: asyncio.Event, reloader: Reloader) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        await reloader.reload()


@contextlib.asynccontextmanager
async def _running_beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        finally:
            task.cancel()


async def _drain(parts: _Parts, app: http.Application) -> None:
    """Reject new analyses, wait for running ones up to the timeout, then fail the rest with an answer."""
    parts.analyst.draining = True
    _log.info("draining", inFlight=parts.analyst.busy, pid=os.getpid())
    try:
        async with asyncio.timeout(parts.settings.config.server.drain_timeout_seconds):
            await parts.analyst.idle()
    except TimeoutError:
        _log.warning("drain_cut_short", inFlight=parts.analyst.busy)
    parts.supervisor.close()
    await parts.supervisor.wait_for("stopped")
    # Calls that just lost the engine still send an answer. Wait until these are sent. A call that came now
    # would start an answer and lose its session before the end, so it is refused.
    app.closed = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FLUSH_SECONDS):
            await app.answered()
    _log.info("stopped")
