"""Follows work that runs in its own unit on a host: shows its progress, and stops it if it makes none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import progress

POLL_SECONDS = 5
SHOW_SECONDS = 15


class WorkError(Exception):
    """The work did not succeed; the message states the cause and the next step."""


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
    """Wait until the work is done; return the last answer of the host.

    `what`: the name of the work. `step` runs "poll" or "stop" on the host. A poll returns `state` (running,
    done, absent), `seconds` since the start, `log` (the last lines) and `activity`. `sentence` turns a poll
    and these seconds into a progress message, which `show` displays every 15 s. The work is stopped after
    `patience` seconds without progress. After `deadline` seconds, the wait ends and the work continues; the
    role's `variable` sets the deadline.

    Raises:
        WorkError: the work ended without a result, was stopped, or takes too long.
    """
    began = shown = time.monotonic()
    watch: progress.Watch | None = None
    while True:
        polled = step("poll")
        if polled["state"] == "done":
            return polled
        log = f"Last log lines: {polled['log']}" if polled["log"] else "It wrote nothing."
        if polled["state"] == "absent":
            raise WorkError(f"{what} ended without a result. {log}")
        activity = progress.Activity.from_json(polled["activity"])
        watch = watch or progress.Watch(activity)
        if watch.look(activity) > patience:
            step("stop")
            raise WorkError(
                f"{what} was stopped because it made no progress: it wrote no line and used no processor for"
                f" {watch.still:.0f} s. {log}"
            )
        now = time.monotonic()
        if now - began > deadline:
            raise WorkError(
                f"{what} was not done within {now - began:.0f} s, but it still makes progress. It continues"
                f" on the host. Run again to join it, or raise {variable}."
            )
        if now - shown >= SHOW_SECONDS:
            shown = now
            show(sentence(polled, max(float(polled["seconds"]), now - began)))
        time.sleep(POLL_SECONDS)
