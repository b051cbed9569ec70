"""What became of a soak's requests, and whether each ended as it may. No clock and no process in here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ask:
    """One request. `code` is the error that it must end with; `problems` judges an answer.

    `cancelled_after` is in seconds. `repeats` is whether others ask the same.
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
        """What is asked, as text that is equal for equal requests."""
        return f"{self.tool} {json.dumps(self.arguments, sort_keys=True)}"


@dataclass
class Absence:
    """A time during which the engine is away, and the errors that say so. Seconds of `monotonic`."""

    codes: frozenset[str]
    begun: float
    ended: float = float("inf")


@dataclass
class Ledger:
    """What became of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    kept: dict[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    """Complete answers to what is asked repeatedly, and since when they are here."""
    unexpected_misses: int = 0

    def allows(self, code: str, begun: float, ended: float) -> bool:
        """Whether the engine was away, in a way that an error says, at some time of a request."""
        return any(
            code in absence.codes and begun <= absence.ended and ended >= absence.begun
            for absence in self.absences
        )

    def judge(self, ask: Ask, answer: Mapping[str, Any], begun: float, ended: float) -> str:
        """The outcome of a request that was answered, with what is wrong about it noted."""
        error = answer.get("error")
        if isinstance(error, Mapping):
            code = str(error["code"])
            if ask.code is not None:
                self._expect(code == ask.code, ask, f"ended with {code}, not {ask.code}")
                return "refused"
            allowed = ask.needs_engine and self.allows(code, begun, ended)
            self._expect(allowed, ask, f"ended with {code} while the engine was there: {error['message']}")
            return "away"
        self._expect(ask.code is None, ask, f"was answered, and not refused with {ask.code}")
        if ask.code is None:
            self._judge_answer(ask, answer, begun, ended)
        return "right"

    def _judge_answer(self, ask: Ask, answer: Mapping[str, Any], begun: float, ended: float) -> None:
        try:
            for text in ask.problems(answer):
                self._expect(False, ask, text)
        except (KeyError, IndexError, TypeError) as error:
            self._expect(False, ask, f"lacks what it promises: {error!r}")
        codes = [turn["code"] for turn in answer.get("unanalysed", [])]
        excused = codes and all(self.allows(code, begun, ended) for code in codes)
        self._expect(excused or not answer.get("partial"), ask, f"is partial: {codes}")
        if ask.repeats and not answer["partial"]:
            self._judge_repeated(ask, answer, begun, ended)

    def _judge_repeated(self, ask: Ask, answer: Mapping[str, Any], begun: float, ended: float) -> None:
        bare = {key: value for key, value in answer.items() if key not in ("cached", "turnsCached")}
        # What was answered meanwhile may have been searched for twice, or together.
        since, earlier = self.kept.setdefault(ask.name, (ended, bare))
        if since < begun:
            self._expect(not answer["cached"] or bare == earlier, ask, "is not what the cache was given")
            if not answer["cached"]:
                self.unexpected_misses += 1
                self.kept[ask.name] = ended, bare

    def _expect(self, good: bool, ask: Ask, text: str) -> None:
        if not good:
            self.problems.append(f"{ask.tool} {text} ({str(ask.arguments)[:160]})")


def quarters(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The second and the last quarter of a series; empty when it is too short."""
    length = len(values) // 4
    return (values[length : 2 * length], values[-length:]) if length else ((), ())
