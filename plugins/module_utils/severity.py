"""How bad it is: the levels of triage, the severities of incidents, and how soon each wants a response."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, get_args

Level = Literal["healthy", "unknown", "P3", "P2", "P1", "P0"]

LEVELS: tuple[Level, ...] = get_args(Level)
"""From the best to the worst."""

Severity = Literal["P0", "P1", "P2", "P3"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the worst to the least."""

RESPONSE = {
    "P0": timedelta(minutes=5),
    "P1": timedelta(minutes=30),
    "P2": timedelta(hours=2),
    "P3": timedelta(hours=24),
}
"""The time within which somebody must respond, by severity."""


def rank(level: Level) -> int:
    """The rank of a level; the higher, the worse."""
    return LEVELS.index(level)
