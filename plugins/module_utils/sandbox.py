"""Programs run once under the same systemd sandbox as the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Directives = Mapping[str, "str | bool | Sequence[str]"]


def properties(directives: Directives) -> list[str]:
    """`Key=value` for every directive; a list gives a line for each of its values."""
    lines = []
    for key, value in directives.items():
        if isinstance(value, bool):
            lines.append(f"{key}={'yes' if value else 'no'}")
        elif isinstance(value, str):
            lines.append(f"{key}={value}")
        else:
            lines.extend(f"{key}={item}" for item in value)
    return lines


def command(
    directives: Directives,
    argv: Sequence[str],
    *,
    unit: str | None = None,
    wait: bool = True,
) -> list[str]:
    """The systemd-run command that runs `argv` under `directives`.

    With `wait` its output comes back through the pipe; without, it goes on by itself. Either way it
    is the unit `unit`, which a caller that starts it again stops first.
    """
    how = ["--pipe", "--wait"] if wait else ["--no-block"]
    named = [f"--unit={unit}"] if unit else []
    settings = [f"--property={line}" for line in properties(directives)]
    return ["systemd-run", "--quiet", "--collect", *how, *named, *settings, "--", *argv]
