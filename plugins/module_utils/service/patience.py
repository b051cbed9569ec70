"""How long to wait for a service that is not ready: as long as its engine is starting and makes progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

# The states in which the server itself waits for its engine, as long as the engine makes progress.
STARTING = ("starting", "tuning")


class Patience:
    """Decides when to stop waiting for a service that is not ready.

    `deadline`: seconds to wait, not counting the time in which the engine is starting. `start_deadline`:
    the most seconds to wait in all. The server itself gives up on an engine that makes no progress.
    """

    def __init__(
        self, deadline: float, start_deadline: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._remaining = deadline
        self._clock = clock
        self._last_check = clock()
        self._end = self._last_check + max(deadline, start_deadline)
        self._failures: object = None

    def is_over(self, health: tuple[int, dict[str, Any]] | None) -> bool:
        """Whether to stop waiting; `health` is the current response of /health."""
        now = self._clock()
        if not self._is_starting(health):
            self._remaining -= now - self._last_check
        self._last_check = now
        return self._remaining <= 0 or now >= self._end

    def _is_starting(self, health: tuple[int, dict[str, Any]] | None) -> bool:
        engine = health[1].get("engine") if health else None
        if not isinstance(engine, Mapping):
            return False
        failures = engine.get("restarts")
        if engine.get("state") not in STARTING:
            return False
        if self._failures is None:
            self._failures = failures
        # An engine that has failed meanwhile may restart forever and never become ready.
        return failures == self._failures
