"""A drain waits until nothing is in flight for a moment, or until its deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.service import admin
from ansible_collections.katago.fleet.plugins.modules import service_drain


@pytest.fixture
def wait(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Iterable[int | None], float], tuple[int | None, float]]:
    """Waits on a clock of its own; returns the number at the end and the seconds that passed."""

    def run(numbers: Iterable[int | None], deadline: float) -> tuple[int | None, float]:
        clock = {"now": 0.0}
        time = SimpleNamespace(monotonic=lambda: clock["now"])
        monkeypatch.setattr(f"{service_drain.__name__}.time", time)
        values = iter(numbers)
        last: list[int | None] = []

        def look() -> int | None:
            last.append(next(values, last[-1] if last else None))
            return last[-1]

        number = service_drain.drained(
            look, deadline, lambda seconds: clock.update(now=clock["now"] + seconds)
        )
        return number, clock["now"]

    return run


@pytest.mark.parametrize(
    ("numbers", "deadline", "number", "looks"),
    [
        ([0], 60, 0, 3),
        ([2, 1, 0], 60, 0, 5),
        # One look without work is not enough.
        ([0, 1, 0], 60, 0, 5),
        ([None], 60, None, 3),
        # One look without an answer is not enough: a busy service may be slow.
        ([2, None, 1, 0], 60, 0, 6),
        ([3], 0, 3, 1),
        ([0], 0, 0, 1),
    ],
)
def test_drain_ends_when_nothing_is_in_flight(
    wait: Any, numbers: list[int | None], deadline: float, number: int | None, looks: int
) -> None:
    assert wait(numbers, deadline) == (number, pytest.approx((looks - 1) * service_drain.POLL_SECONDS))


def test_drain_ends_at_its_deadline_and_reports_what_still_runs(wait: Any) -> None:
    number, seconds = wait([4], 10)
    assert number == 4
    assert seconds == pytest.approx(10, abs=service_drain.POLL_SECONDS)


@pytest.mark.parametrize(
    ("config", "answer", "number"),
    [
        ({}, None, None),
        (None, None, None),
        ({"server": {}}, (200, {"inFlight": 2}), 2),
        # A service that is not ready reports it too.
        ({"server": {}}, (503, {"inFlight": 0}), 0),
        ({"server": {}}, (200, {}), None),
        ({"server": {}}, None, None),
    ],
)
def test_number_is_that_of_ready(
    monkeypatch: pytest.MonkeyPatch, config: Any, answer: Any, number: int | None
) -> None:
    monkeypatch.setattr(admin, "running_config", lambda: config)
    monkeypatch.setattr(admin, "get", lambda *_: answer)
    assert service_drain.reported() == number
