"""The outcomes of a soak's requests, and the rules that judge them. Uses no clock and no process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_OF_ONE_CALL = frozenset({"cached", "turnsCached", "game", "summary"})
"""Keys of an answer that differ between calls for the same position: a record and moves, first and again."""


@dataclass(frozen=True)
class Ask:
    """One request. `code` is the expected error; `problems` returns what is wrong with an answer.

    `cancelled_after` is in seconds. `repeats`: other requests may be equal to it.
    """

    tool: str
    arguments: dict[str, Any]
    problems: Callable[[Mapping[str, Any]], list[str]] = lambda _: []
    code: str | None = None
    cancelled_after: float | None = None
    repeats: bool = False
    needs_engine: bool = True

    @property
    def name(self) -> str:
        """The request as text. Equal requests have equal text."""
        return f"{self.tool} {json.dumps(self.arguments, sort_keys=True)}"


@dataclass
class Absence:
    """A time without an engine, in seconds of `time.monotonic`, and the errors that are allowed meanwhile."""

    codes: frozenset[str]
    started: float
    ended: float = float("inf")


@dataclass
class Ledger:
    """The outcomes and the problems of all requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    kept: dict[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    """Complete answers to repeated requests by name, each with the time since which it is cached."""
    unexpected_misses: int = 0

    def allows(self, code: str, started: float, ended: float) -> bool:
        """Whether a request overlapped with an absence of the engine that allows the error code."""
        return any(
            code in absence.codes and started <= absence.ended and ended >= absence.started
            for absence in self.absences
        )

    def judge(self, ask: Ask, answer: Mapping[str, Any], started: float, ended: float) -> str:
        """Return the outcome of an answered request, and record its problems."""
        error = answer.get("error")
        if isinstance(error, Mapping):
            code = str(error["code"])
            if ask.code is not None:
                self._expect(code == ask.code, ask, f"failed with {code}, expected {ask.code}")
                return "refused"
            allowed = ask.needs_engine and self.allows(code, started, ended)
            self._expect(
                allowed, ask, f"failed with {code} while the engine was available: {error['message']}"
            )
            return "away"
        self._expect(ask.code is None, ask, f"succeeded, expected the error {ask.code}")
        if ask.code is None:
            self._judge_answer(ask, answer, started, ended)
        return "right"

    def _judge_answer(self, ask: Ask, answer: Mapping[str, Any], started: float, ended: float) -> None:
        try:
            for text in ask.problems(answer):
                self._expect(False, ask, text)
        except (KeyError, IndexError, TypeError) as error:
            self._expect(False, ask, f"lacks a field or has a wrong type: {error!r}")
        codes = [turn["code"] for turn in answer.get("unanalysed", [])]
        excused = codes and all(self.allows(code, started, ended) for code in codes)
        self._expect(excused or not answer.get("partial"), ask, f"is partial: {codes}")
        if ask.repeats and not answer["partial"]:
            self._judge_repeated(ask, answer, started, ended)

    def _judge_repeated(self, ask: Ask, answer: Mapping[str, Any], started: float, ended: float) -> None:
        bare = {key: value for key, value in answer.items() if key not in _OF_ONE_CALL}
        # Requests at the same time may each search, or share one search.
        since, earlier = self.kept.setdefault(ask.name, (ended, bare))
        if since < started:
            self._expect(
                not answer["cached"] or bare == earlier, ask, "differs from the answer that was cached"
            )
            if not answer["cached"]:
                self.unexpected_misses += 1
                self.kept[ask.name] = ended, bare

    def _expect(self, holds: bool, ask: Ask, text: str) -> None:
        if not holds:
            self.problems.append(f"{ask.tool} {text} ({str(ask.arguments)[:160]})")


def quarters(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The second and the last quarter of a series. Both are empty when it is too short."""
    length = len(values) // 4
    return (values[length : 2 * length], values[-length:]) if length else ((), ())
