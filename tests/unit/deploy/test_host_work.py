"""Following work on a host: progress is shown, and work without progress is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import progress
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import host_work

Polls = Callable[[int], Mapping[str, Any]]


def poll(number: int, *, state: str = "running", moves: bool = True, log: str = "a line") -> dict[str, Any]:
    activity = progress.Activity({"7": float(number) if moves else 0.0})
    return {"state": state, "seconds": number * 5.0, "log": log, "activity": asdict(activity), "n": number}


class Work:
    """Work whose answer depends on the number of the poll; a poll takes 5 s."""

    def __init__(self, polls: Polls, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[str] = []
        self.steps: list[str] = []
        self._polls = polls
        clock = {"now": 0.0}
        time = SimpleNamespace(
            monotonic=lambda: clock["now"],
            sleep=lambda seconds: clock.update(now=clock["now"] + seconds),
        )
        monkeypatch.setattr(host_work, "time", time)
        monkeypatch.setattr(progress.Watch.__init__, "__defaults__", (time.monotonic,))

    def step(self, name: str) -> Mapping[str, Any]:
        self.steps.append(name)
        return self._polls(self.steps.count("poll")) if name == "poll" else {}

    def follow(self) -> Mapping[str, Any]:
        return host_work.follow(
            "The work",
            self.step,
            self.shown.append,
            lambda polled, elapsed: f"{polled['n']} after {elapsed:.0f} s",
            patience=60,
            deadline=600,
            variable="katago_tuning_deadline",
        )


def test_result_is_returned_and_progress_is_shown_every_15_s(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(lambda n: poll(n, state="done" if n == 10 else "running"), monkeypatch)
    assert work.follow()["n"] == 10
    assert work.shown == ["4 after 20 s", "7 after 35 s"]


def test_work_that_makes_progress_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(lambda n: poll(n, state="done" if n == 100 else "running"), monkeypatch)
    work.follow()
    assert "stop" not in work.steps


def test_work_without_progress_is_stopped_and_its_log_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(lambda n: poll(n, moves=n < 5), monkeypatch)
    with pytest.raises(host_work.WorkError, match=r"no processor for 65 s\. Last log lines: a line"):
        work.follow()
    assert work.steps[-1] == "stop"


def test_work_that_takes_too_long_continues_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(poll, monkeypatch)
    with pytest.raises(host_work.WorkError, match="raise katago_tuning_deadline"):
        work.follow()
    assert "stop" not in work.steps


def test_work_that_ended_without_output_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(lambda n: poll(n, state="absent", log=""), monkeypatch)
    with pytest.raises(host_work.WorkError, match=r"ended without a result\. It wrote nothing\."):
        work.follow()
