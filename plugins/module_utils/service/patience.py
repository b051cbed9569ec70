"""How long a service is waited for that is not ready yet: as long as its engine starts and makes progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

# The states in which the server waits for its engine, as long as that makes progress.
STARTING = ("starting", "tuning")


class Patience:
    """How much longer a service that is not ready is waited for.

    `deadline`: seconds in which it is not ready for any other reason than an engine that starts. While
    that one makes progress it is waited for, as the server itself does, `start_deadline` seconds at most.
    """

    def __init__(
        self, deadline: float, start_deadline: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._left = deadline
        self._clock = clock
        self._looked = clock()
        self._end = self._looked + max(deadline, start_deadline)
        self._failures: object = None

    def is_over(self, health: tuple[int, dict[str, Any]] | None) -> bool:
        """Whether it was waited for long enough; `health` is what /health answers now."""
        now = self._clock()
        if not self._starts(health):
            self._left -= now - self._looked
        self._looked = now
        return self._left <= 0 or now >= self._end

    def _starts(self, health: tuple[int, dict[str, Any]] | None) -> bool:
        engine = health[1].get("engine") if health else None
        if not isinstance(engine, Mapping):
            return False
        failures = engine.get("restarts")
        if engine.get("state") not in STARTING:
            return False
        if self._failures is None:
            self._failures = failures
        # One that has ended since starts again and again, and may never be ready.
        return failures == self._failures
