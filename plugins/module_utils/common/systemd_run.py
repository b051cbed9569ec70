"""Sandboxes of systemd units: properties for systemd-run, and the hardening of our own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# The sandbox of our own programs that run on a host without the control node.
HARDENED = """\
ProtectSystem=strict
ProtectHome=true
PrivateTmp=true
PrivateDevices=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
LockPersonality=true
NoNewPrivileges=true
SystemCallArchitectures=native
"""

Directives = Mapping[str, "str | bool | Sequence[str]"]


def properties(directives: Directives) -> list[str]:
    """`Key=value` for every directive. A list yields one line for each of its values."""
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
    collect: bool = True,
) -> list[str]:
    """The systemd-run command that runs `argv` under `directives` as the unit `unit`.

    `wait`: wait for the program and return its output; otherwise it continues in the background. Before a
    caller starts the same unit again, it must stop the old one. Without `collect`, systemd keeps a failed
    unit and its result until `transient_unit.clear`.
    """
    # Also without `wait`, the unit has been started when the command returns, so its state can be queried.
    waiting = ["--pipe", "--wait"] if wait else []
    collecting = ["--collect"] if collect else []
    named = [f"--unit={unit}"] if unit else []
    settings = [f"--property={line}" for line in properties(directives)]
    return ["systemd-run", "--quiet", *collecting, *waiting, *named, *settings, "--", *argv]
