"""Fixed times at which calls start, whatever earlier calls do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

# Times that passed while this process could not run are made up for, but not those of a longer suspension.
_LONGEST_DELAY = 1.0


def ticks(interval: float, seconds: float, stopped: threading.Event) -> Iterator[None]:
    """Wait for times that are `interval` seconds apart, for `seconds` or until `stopped` is set."""
    at = time.monotonic()
    end = at + seconds
    while at < end and not stopped.wait(max(0.0, at - time.monotonic())):
        yield
        at = max(at + interval, time.monotonic() - _LONGEST_DELAY)
