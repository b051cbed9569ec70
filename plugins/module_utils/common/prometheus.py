"""A parser of Prometheus' text exposition format: names, labels and values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_SAMPLE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?")
_LABEL = re.compile(r'\s*(?P<name>[A-Za-z_]\w*)\s*=\s*"(?P<value>(?:[^"\\]|\\.)*)"\s*,?')
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Scrape:
    """The samples of one scrape, by name and labels."""

    samples: Mapping[Key, float]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the series with exactly these labels; None if it is missing or NaN."""
        value = self.samples.get((name, frozenset(labels.items())))
        return None if value is None or math.isnan(value) else value

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of every series of a name."""
        return [dict(labels) for series, labels in self.samples if series == name]


def parse(text: str) -> Scrape:
    """Parse a scrape. Raises ValueError for a line that is neither a comment nor a sample."""
    samples: dict[Key, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} is not a sample: {line[:80]!r}")
        labels = {
            label["name"]: re.sub(r'\\[\\"n]', lambda escape: _ESCAPES[escape[0]], label["value"])
            for label in _LABEL.finditer(match["labels"] or "")
        }
        samples[match["name"], frozenset(labels.items())] = float(match["value"])
    return Scrape(samples)
