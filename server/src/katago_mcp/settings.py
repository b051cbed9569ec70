"""The settings in force. Every part of the server reads them at the time of use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from katago_mcp.config import KEYS, Config, value_of
from katago_mcp.overlay import Overlay


@dataclass(frozen=True)
class Change:
    """A key whose value differs between two configurations; values as JSON."""

    key: str
    before: Any
    after: Any

    def as_json(self) -> dict[str, Any]:
        """The change as JSON: key, from, to."""
        return {"key": self.key, "from": self.before, "to": self.after}


def changes(before: Config, after: Config) -> list[Change]:
    """The differences between two configurations."""
    return [
        Change(key, _plain(value_of(before, key)), _plain(value_of(after, key)))
        for key in KEYS
        if value_of(before, key) != value_of(after, key)
    ]


class Settings:
    """The configuration, with the lower limits of an overlay if one is in force."""

    def __init__(self, config: Config) -> None:
        self.configured = config
        """The loaded configuration, without the overlay."""
        self.overlay: Overlay | None = None
        self.config = config
        """The configuration in force, with the overlay."""
        self._watchers: list[Callable[[], None]] = []

    def apply(self, configured: Config, overlay: Overlay | None) -> None:
        """Apply a configuration and an overlay, and call all watchers."""
        self.configured, self.overlay = configured, overlay
        self.config = configured if overlay is None else overlay.over(configured)
        for watcher in self._watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Register a function to call after every change."""
        self._watchers.append(watcher)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str | list) else str(value)
