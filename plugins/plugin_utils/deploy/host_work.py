"""Follows work that a host does in a unit of its own: shows how far it is, and ends what no longer moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import progress

POLL_SECONDS = 5
SHOW_SECONDS = 15


class WorkError(Exception):
    """The work did not succeed; the message says what was seen, and what to do."""


def follow(
    what: str,
    step: Callable[[str], Mapping[str, Any]],
    show: Callable[[str], None],
    sentence: Callable[[Mapping[str, Any], float], str],
    *,
    patience: float,
    deadline: float,
    variable: str,
) -> Mapping[str, Any]:
    """Wait until the work is done, and return what the host said of it then.

    `what` names the work. `step` has the host do "poll" or "stop"; a poll answers `state` (running, done,
    absent), `seconds` since the start, `log` (the last lines) and `activity`. `sentence` says how far it
    is by a poll and those seconds; `show` displays that every 15 s. It is stopped when nothing moves for
    `patience` seconds, and no longer waited for after `deadline`, which the role's `variable` sets.

    Raises:
        WorkError: when it ended without a result, was stopped, or takes too long.
    """
    began = shown = time.monotonic()
    watch: progress.Watch | None = None
    while True:
        polled = step("poll")
        if polled["state"] == "done":
            return polled
        wrote = f"Last log lines: {polled['log']}" if polled["log"] else "It wrote nothing."
        if polled["state"] == "absent":
            raise WorkError(f"{what} ended without a result. {wrote}")
        activity = progress.Activity.from_json(polled["activity"])
        watch = watch or progress.Watch(activity)
        if watch.look(activity) > patience:
            step("stop")
            raise WorkError(
                f"{what} was stopped, since it wrote no line and used no processor for {watch.still:.0f} s."
                f" {wrote}"
            )
        now = time.monotonic()
        if now - began > deadline:
            raise WorkError(
                f"{what} was not done within {now - began:.0f} s, though it was at work. It continues on the"
                f" host: run again to join it, or raise {variable}."
            )
        if now - shown >= SHOW_SECONDS:
            shown = now
            show(sentence(polled, max(float(polled["seconds"]), now - began)))
        time.sleep(POLL_SECONDS)
