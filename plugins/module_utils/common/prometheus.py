"""Prometheus' text exposition format, parsed: names, labels and values, never matched as text."""

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
        """The value of the one series with these labels; None when there is none or it is NaN."""
        found = self.samples.get((name, frozenset(labels.items())))
        return None if found is None or math.isnan(found) else found

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of every series of a name."""
        return [dict(labels) for found, labels in self.samples if found == name]


def parse(text: str) -> Scrape:
    """Parse a scrape; a line that is neither a comment nor a sample raises ValueError."""
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
