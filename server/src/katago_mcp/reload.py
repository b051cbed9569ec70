"""Reloading: the configuration and the overlay are read again while the server runs.

A configuration that is not valid is refused whole. An overlay that is not valid leaves the one in
force as it was, and the other way round: what is wrong with the one does not keep the other out.
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
        "metrics.enabled",
        "metrics.host",
        "metrics.port",
        "auth.tokensFile",
        "tls.enabled",
        "tls.certificateFile",
        "tls.keyFile",
    }
)
"""The keys whose values are taken once, when the server starts."""

_LONGEST_LOOK = 5.0
"""Seconds after which the clock is looked at again: somebody may have set it."""

_log = Log(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a reload did; with `problems`, the configuration was refused and stays as it was."""

    changed: tuple[Change, ...] = ()
    needs_restart: tuple[Change, ...] = ()
    problems: tuple[str, ...] = ()


class Reloader:
    """Puts configuration and overlay in force, at the start and whenever it is asked to."""

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
        """What is wrong with the overlay's file; empty when it can be used, or is not there."""
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
        await self._put(self._settings.configured, await self._read_overlay())

    async def reload(self) -> Outcome:
        """Read configuration, certificate and overlay again, and put in force what can be."""
        async with self._one_at_a_time:
            found = await self._read_overlay()
            configured = self._settings.configured
            try:
                read = await asyncio.to_thread(self._read_config)
            except ConfigError as error:
                await self._put(configured, found)
                self._metrics.reloads.labels("refused").inc()
                _log.error("reload_refused", problems=list(error.problems))
                return Outcome(problems=error.problems)
            differing = changes(configured, read)
            changed = tuple(change for change in differing if change.key not in NEEDS_RESTART)
            kept = tuple(change for change in differing if change.key in NEEDS_RESTART)
            taken = {change.key: config.value_of(read, change.key) for change in changed}
            await self._put(config.with_values(configured, taken), found)
            self._metrics.reloads.labels("applied").inc()
            _log.info(
                "reloaded",
                changed=[change.as_json() for change in changed],
                needsRestart=[change.as_json() for change in kept],
            )
            return Outcome(changed, kept)

    async def run(self) -> None:
        """Lift the overlay when its time is over, for as long as the server runs."""
        while True:
            self._changed.clear()
            laid = self._settings.overlay
            seconds = None
            if laid is not None:
                seconds = min(_LONGEST_LOOK, (laid.expires_at - datetime.now(UTC)).total_seconds())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            async with self._one_at_a_time:
                laid = self._settings.overlay
                if laid is not None and laid.expired(datetime.now(UTC)):
                    await self._put(self._settings.configured, None)

    def _read_config(self) -> Config:
        loaded = config.load(self._loaded.path, self._environ)
        if loaded.release != self._loaded.release:
            raise ConfigError(
                [
                    f"{loaded.path}: belongs to the release {loaded.release}, and this server was started "
                    f"from {self._loaded.release}: restart it"
                ]
            )
        if self._tls is not None:
            self._tls.renew()
        return loaded.config

    async def _read_overlay(self) -> Overlay | None:
        """The overlay in the file; the one in force when the file cannot be used."""
        if self._overlay_file is None:
            return None
        try:
            found = await asyncio.to_thread(overlay.read, self._overlay_file)
        except OverlayError as error:
            self.overlay_problems = error.problems
            self._metrics.overlay_invalid.set(1)
            _log.error("overlay_refused", problems=list(error.problems))
            return self._settings.overlay
        self.overlay_problems = ()
        self._metrics.overlay_invalid.set(0)
        return found

    async def _put(self, configured: Config, wanted: Overlay | None) -> None:
        before = self._settings.overlay
        found = None if wanted is None or wanted.expired(datetime.now(UTC)) else wanted
        self._settings.apply(configured, found)
        self._metrics.overlay_active.set(found is not None)
        self._metrics.overlay_expires.set(0 if found is None else found.expires_at.timestamp())
        self._changed.set()
        if found is not None and found != before:
            _log.warning("overlay_in_force", **found.as_json(configured))
        elif found is None and before is not None:
            _log.info("overlay_lifted", expired=before.expired(datetime.now(UTC)))
        elif found is None and wanted is not None:
            _log.info("overlay_expired", expiresAt=wanted.as_json(configured)["expiresAt"])
        if self._cache is not None:
            await self._cache.fit()
