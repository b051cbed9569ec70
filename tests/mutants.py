"""Mutation test of the alerts: changes one detail of a rule at a time, and expects that its cases notice.

python -m tests.mutants [ALERT ...]   prints the mutants that no case notices; exits 1 if they are too many

A mutant has another threshold, duration, comparison, label, logical operator or aggregation. Those that
survive are equivalent to the rule, or they show which case is missing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import rules
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS, Alert
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.recordings import (
    Recording,
    needed,
)
from tests.unit.monitoring import promtool
from tests.unit.monitoring.cases import CASES, seconds

LEAST_KILLED = 0.9
_FACTOR = 1.25

_STRING = r'"[^"]*"'
# What is no threshold: names, strings, durations and the arguments of functions in names.
_NUMBER = re.compile(rf"{_STRING}|\[[^\]]*\]|offset \S+|[A-Za-z_:][\w:]*|(?P<number>\d+(?:\.\d+)?)")
_COMPARISON = re.compile(rf"{_STRING}|\{{[^}}]*\}}|(?P<operator>[<>!=]=|[<>])")
_MATCHER = re.compile(r'[a-z_]+(?P<operator>=~|!~|!=|=)"[^"]*",?')
_WORD = re.compile(
    rf"{_STRING}|\{{[^}}]*\}}|\b(?P<word>and|or|unless|sum|max|min|avg|min_over_time|max_over_time)\b"
)
_GROUPING = re.compile(r"(?:by|on) \((?P<labels>[a-z_, ]+)\) ?")
_OPPOSITE = {">": ("<", ">="), "<": (">", "<="), ">=": ("<", ">"), "==": ("!=",), "!=": ("==",)}
_MATCHERS = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
_WORDS = {
    "and": ("or", "unless"),
    "or": ("and",),
    "unless": ("and",),
    "sum": ("max",),
    "max": ("min",),
    "min": ("max",),
    "avg": ("sum",),
    "min_over_time": ("max_over_time",),
    "max_over_time": ("min_over_time",),
}


@dataclass(frozen=True)
class Mutant:
    """A changed rule: what was changed, and the rules of the alert with the change."""

    alert: Alert
    change: str
    alerts: tuple[Alert, ...]
    recordings: tuple[Recording, ...]


def mutants(alert: Alert) -> Iterator[Mutant]:
    """Every mutant of an alert, and of the recordings that no earlier alert uses."""
    recordings = needed(alert.expression)
    for duration in _durations(alert.for_):
        yield Mutant(
            alert, f"for {alert.for_ or '0s'} -> {duration}", (replace(alert, for_=duration),), recordings
        )
    for change, expression in expressions(alert.expression):
        yield Mutant(alert, change, (replace(alert, expression=expression),), recordings)
    for index, recording in enumerate(recordings):
        if next(each for each in ALERTS if recording in needed(each.expression)) != alert:
            continue
        for change, expression in expressions(recording.expression):
            changed = replace(recording, expression=expression)
            others = (*recordings[:index], changed, *recordings[index + 1 :])
            yield Mutant(alert, f"{recording.name}: {change}", (alert,), others)


def expressions(expression: str) -> Iterator[tuple[str, str]]:
    """Every change of an expression: what was changed, and the result."""
    for match in _NUMBER.finditer(expression):
        if match["number"]:
            value = float(match["number"])
            changed = (1.0,) if value == 0 else (0.0,) if value == 1 else (value * _FACTOR, value / _FACTOR)
            for number in changed:
                yield _change(expression, match.span("number"), f"{number:.12g}")
    for pattern, group, table in ((_COMPARISON, "operator", _OPPOSITE), (_WORD, "word", _WORDS)):
        for match in pattern.finditer(expression):
            for each in table[match[group]] if match[group] else ():
                yield _change(expression, match.span(group), each)
    for match in _MATCHER.finditer(expression):
        yield _change(expression, match.span("operator"), _MATCHERS[match["operator"]])
        yield _change(expression, match.span(), "")
    for match in _GROUPING.finditer(expression):
        if match[0].startswith("by"):
            yield _change(expression, match.span(), "")


def _change(expression: str, span: tuple[int, int], text: str) -> tuple[str, str]:
    start, end = span
    changed = expression[:start] + text + expression[end:]
    return f"{expression[start:end]} -> {text or 'nothing'} at {start}", changed


def _durations(duration: str) -> Iterator[str]:
    if not duration:
        yield "2m"
        return
    yield f"{seconds(duration) * 2}s"
    yield f"{seconds(duration) // 2}s"


def survives(mutant: Mutant) -> bool:
    """Whether every case of the alert passes with the mutant. Quick cases run first."""
    text = rules.rendered(mutant.alerts, mutant.recordings)
    cases = [case for case in CASES if case.alert == mutant.alert.name]
    severities = {mutant.alert.name: mutant.alert.severity}
    return all(
        not promtool.failures(text, [case for case in cases if case.step == step], severities)
        for step in sorted({case.step for case in cases})
    )


def main(names: Sequence[str]) -> int:
    """Test the mutants of the named alerts, or of all."""
    todo = [mutant for alert in ALERTS if not names or alert.name in names for mutant in mutants(alert)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        survivors = [
            mutant for mutant, survived in zip(todo, pool.map(survives, todo), strict=True) if survived
        ]
    for mutant in survivors:
        print(f"{mutant.alert.name}: {mutant.change}")
    share = 1 - len(survivors) / len(todo)
    print(
        f"{len(todo)} mutants, {len(survivors)} survive, {share:.1%} killed;"
        f" at least {LEAST_KILLED:.0%} expected"
    )
    return 0 if share >= LEAST_KILLED else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
