"""The sandbox of the service's unit, for other units that run its program as the service does."""

from __future__ import annotations

# Prefixes of the unit's directives that are not part of its sandbox.
_NOT_SANDBOX = (
    "Exec",
    "Type",
    "Restart",
    "Timeout",
    "Watchdog",
    "KillMode",
    "LoadCredential",
    "WorkingDirectory",
)


def directives(unit: str) -> dict[str, list[str]]:
    """The sandbox directives of a unit's [Service] section: every value, by directive."""
    values: dict[str, list[str]] = {}
    section = ""
    for line in unit.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";", *_NOT_SANDBOX)):
            key, value = line.split("=", 1)
            values.setdefault(key, []).append(value)
    return values
