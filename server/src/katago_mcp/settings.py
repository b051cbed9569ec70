"""The settings in force: one owner, read by every part of the server at the moment of use."""

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
    """What differs between two configurations."""
    return [
        Change(key, _plain(value_of(before, key)), _plain(value_of(after, key)))
        for key in KEYS
        if value_of(before, key) != value_of(after, key)
    ]


class Settings:
    """A configuration, lowered by an overlay while there is one."""

    def __init__(self, config: Config) -> None:
        self.configured = config
        """As it was loaded."""
        self.overlay: Overlay | None = None
        self.config = config
        """As it is in force."""
        self._watchers: list[Callable[[], None]] = []

    def apply(self, configured: Config, overlay: Overlay | None) -> None:
        """Put a configuration and an overlay in force, and tell those who have to act on that."""
        self.configured, self.overlay = configured, overlay
        self.config = configured if overlay is None else overlay.over(configured)
        for watcher in self._watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have `watcher` called after every change."""
        self._watchers.append(watcher)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str | list) else str(value)
