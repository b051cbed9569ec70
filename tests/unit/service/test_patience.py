"""Waiting continues as long as the engine of a service that is not ready is starting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.service.patience import Patience


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def health(state: str, restarts: int = 0) -> tuple[int, dict[str, Any]]:
    return 200, {"engine": {"state": state, "restarts": restarts}}


def ends(
    states: Sequence[tuple[int, dict[str, Any]] | None], deadline: float, start_deadline: float
) -> int | None:
    """After how many seconds the waiting ends; `states` are the responses of /health, one a second."""
    clock = Clock()
    patience = Patience(deadline, start_deadline, clock)
    for second, answer in enumerate(states, 1):
        clock.now = second
        if patience.is_over(answer):
            return second
    return None


def test_waiting_continues_while_the_engine_starts() -> None:
    assert ends([health("starting")] * 30 + [health("tuning")] * 30, 5, 1000) is None


def test_waiting_for_a_start_is_limited() -> None:
    assert ends([health("starting")] * 100, 5, 60) == 60


def test_waiting_for_an_engine_that_does_not_start_is_limited() -> None:
    assert ends([health("backoff")] * 100, 5, 1000) == 5
    assert ends([None] * 100, 5, 1000) == 5
    assert ends([(503, {})] * 100, 5, 1000) == 5


def test_time_before_and_after_a_start_is_added_up() -> None:
    assert ends([None] * 3 + [health("starting")] * 50 + [health("backoff")] * 50, 5, 1000) == 55


def test_restart_after_a_failure_counts_as_not_starting() -> None:
    again = [health("starting")] * 10 + [health("backoff", 1)] + [health("starting", 1)] * 100
    assert ends(again, 5, 1000) == 15


def test_failures_before_the_waiting_do_not_matter() -> None:
    assert ends([health("ready", 3)] + [health("starting", 4)] * 50, 5, 1000) is None
