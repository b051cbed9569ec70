"""The levels of triage, the severities of incidents, and their response times."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, get_args

Level = Literal["healthy", "unknown", "P3", "P2", "P1", "P0"]

LEVELS: tuple[Level, ...] = get_args(Level)
"""Ordered from best to worst."""

Severity = Literal["P0", "P1", "P2", "P3"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""Ordered from most to least severe."""

RESPONSE = {
    "P0": timedelta(minutes=5),
    "P1": timedelta(minutes=30),
    "P2": timedelta(hours=2),
    "P3": timedelta(hours=24),
}
"""The maximum response time by severity."""


def rank(level: Level) -> int:
    """The rank of a level. A higher rank is worse."""
    return LEVELS.index(level)
