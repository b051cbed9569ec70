"""Limits of a service that are lowered for a while, as the service shows them."""

from __future__ import annotations

from typing import TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape

Number = int | float


class Shown(TypedDict):
    """The overlay that `/health` shows: what it lowers, until when, why, and who laid it."""

    keys: dict[str, Number]
    expiresAt: str
    why: str
    who: str


def shown(value: object) -> Shown | None:
    """The one that an answer has under `overlay`; None when there is none. Raises shape.ShapeError."""
    return shape.typed(Shown, value, "the overlay in /health") if value else None


def words(value: object) -> str:
    """What the overlay that `/health` shows means for people; empty when there is none."""
    try:
        laid = shown(value)
    except shape.ShapeError as error:
        return f"limits are lowered, and the service does not say which: {error}"
    if laid is None:
        return ""
    keys = ", ".join(f"{key} {written(value)}" for key, value in laid["keys"].items()) or "none that counts"
    return f"limits are lowered until {laid['expiresAt']} by {laid['who']} ({keys}; {laid['why']})"


def written(value: Number) -> str:
    """A limit as people read it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
