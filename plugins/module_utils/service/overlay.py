"""The temporary override of limits, as the service shows it."""

from __future__ import annotations

from typing import TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape

Number = int | float


class Shown(TypedDict):
    """The override that `/health` shows: the lowered limits, until when, why, and who applied it."""

    keys: dict[str, Number]
    expiresAt: str
    why: str
    who: str


def shown(value: object) -> Shown | None:
    """Parse `overlay` of a response of `/health`; None if there is no override. Raises shape.ShapeError."""
    return shape.typed(Shown, value, "the overlay in /health") if value else None


def describe(value: object) -> str:
    """Describe the override that `/health` shows, as part of a sentence; empty if there is none."""
    try:
        override = shown(value)
    except shape.ShapeError as error:
        return f"limits are lowered, but the service does not report which: {error}"
    if override is None:
        return ""
    keys = ", ".join(f"{key} {written(value)}" for key, value in override["keys"].items())
    return (
        f"limits are lowered until {override['expiresAt']} by {override['who']}"
        f" ({keys or 'no effect'}; {override['why']})"
    )


def written(value: Number) -> str:
    """A limit as text for people."""
    return f"{value:g}" if isinstance(value, float) else str(value)
