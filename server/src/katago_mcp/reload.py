"""Reloads the configuration and the overlay while the server runs.

An invalid configuration is rejected as a whole. An invalid overlay leaves the previous overlay in force.
The two are independent: an error in one file does not stop the other from being applied.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from katago_mcp import config, overlay
from katago_mcp.cache import Cache
from katago_mcp.config import Config, ConfigError, Loaded
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.overlay import Overlay, OverlayError
from katago_mcp.settings import Change, Settings, changes
from katago_mcp.tls import Tls

NEEDS_RESTART = frozenset(
    {
        "server.host",
        "server.port",
        "katago.binaryPath",
        "katago.modelPath",
        "katago.humanModelPath",
        "katago.configPath",
        "katago.homeDataDir",
        "cache.enabled",
        "cache.directory",
        "sharedCache.url",
        "sharedCache.passwordFile",
        "sharedCache.caFile",
        "sharedCache.timeoutSeconds",
        "metrics.enabled",
        "metrics.host",
        "metrics.port",
        "auth.tokensFile",
        "auth.sessionKeyFile",
        "tls.enabled",
        "tls.certificateFile",
        "tls.keyFile",
    }
)
"""The keys that are read only when the server starts."""

_MAX_SLEEP = 5.0
"""Maximum seconds between checks of the clock, which may be changed."""

_log = Log(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of a reload. With `problems`, the configuration was rejected and did not change."""

    changed: tuple[Change, ...] = ()
    needs_restart: tuple[Change, ...] = ()
    problems: tuple[str, ...] = ()


class Reloader:
    """Applies configuration and overlay, at start and on each reload."""

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        environ: Mapping[str, str],
        overlay_file: Path | None,
        cache: Cache | None,
        tls: Tls | None,
        metrics: Metrics,
    ) -> None:
        self.overlay_problems: tuple[str, ...] = ()
        """What is wrong with the overlay file; empty if it is valid or missing."""
        self._settings = settings
        self._loaded = loaded
        self._environ = environ
        self._overlay_file = overlay_file
        self._cache = cache
        self._tls = tls
        self._metrics = metrics
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Read the overlay for the first time."""
        await self._apply(self._settings.configured, await self._read_overlay())

    async def reload(self) -> Outcome:
        """Read configuration, certificate and overlay again, and apply what does not need a restart."""
        async with self._one_at_a_time:
            new_overlay = await self._read_overlay()
            configured = self._settings.configured
            try:
                read = await asyncio.to_thread(self._read_config)
            except ConfigError as error:
                await self._apply(configured, new_overlay)
                self._metrics.reloads.labels("refused").inc()
                _log.error("reload_refused", problems=list(error.problems))
                return Outcome(problems=error.problems)
            differing = changes(configured, read)
            changed = tuple(change for change in differing if change.key not in NEEDS_RESTART)
            pending = tuple(change for change in differing if change.key in NEEDS_RESTART)
            applied = {change.key: config.value_of(read, change.key) for change in changed}
            await self._apply(config.with_values(configured, applied), new_overlay)
            self._metrics.reloads.labels("applied").inc()
            _log.info(
                "reloaded",
                changed=[change.as_json() for change in changed],
                needsRestart=[change.as_json() for change in pending],
            )
            return Outcome(changed, pending)

    async def run(self) -> None:
        """Remove the overlay when it expires. Runs as long as the server."""
        while True:
            self._changed.clear()
            active = self._settings.overlay
            seconds = None
            if active is not None:
                seconds = min(_MAX_SLEEP, (active.expires_at - datetime.now(UTC)).total_seconds())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            async with self._one_at_a_time:
                active = self._settings.overlay
                if active is not None and active.expired(datetime.now(UTC)):
                    await self._apply(self._settings.configured, None)

    def _read_config(self) -> Config:
        loaded = config.load(self._loaded.path, self._environ)
        if loaded.release != self._loaded.release:
            raise ConfigError(
                [
                    f"{loaded.path}: belongs to release {loaded.release}, but this server runs release "
                    f"{self._loaded.release}: restart the server"
                ]
            )
        if self._tls is not None:
            self._tls.renew()
        return loaded.config

    async def _read_overlay(self) -> Overlay | None:
        """The overlay in the file, or the previous overlay if the file is not valid."""
        if self._overlay_file is None:
            return None
        try:
            new_overlay = await asyncio.to_thread(overlay.read, self._overlay_file)
        except OverlayError as error:
            self.overlay_problems = error.problems
            self._metrics.overlay_invalid.set(1)
            _log.error("overlay_refused", problems=list(error.problems))
            return self._settings.overlay
        self.overlay_problems = ()
        self._metrics.overlay_invalid.set(0)
        return new_overlay

    async def _apply(self, configured: Config, requested: Overlay | None) -> None:
        before = self._settings.overlay
        active = None if requested is None or requested.expired(datetime.now(UTC)) else requested
        self._settings.apply(configured, active)
        self._metrics.overlay_active.set(active is not None)
        self._metrics.overlay_expires.set(0 if active is None else active.expires_at.timestamp())
        self._changed.set()
        if active is not None and active != before:
            _log.warning("overlay_in_force", **active.as_json(configured))
        elif active is None and before is not None:
            _log.info("overlay_lifted", expired=before.expired(datetime.now(UTC)))
        elif active is None and requested is not None:
            _log.info("overlay_expired", expiresAt=requested.as_json(configured)["expiresAt"])
        if self._cache is not None:
            await self._cache.fit()
