"""The systemd sandboxes of programs: the service's own for what is run once, and that of further units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# What keeps a program of the project's own, which goes on without the control node, to what it is for.
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
    collect: bool = True,
) -> list[str]:
    """The systemd-run command that runs `argv` under `directives`.

    With `wait` its output comes back through the pipe; without, it goes on by itself. Either way it
    is the unit `unit`, which a caller that starts it again stops first. Without `collect` systemd keeps
    a unit that failed, and its result, until `transient_unit.clear`.
    """
    # Without waiting it is started all the same when the command returns, so that it can be asked for.
    how = ["--pipe", "--wait"] if wait else []
    kept = ["--collect"] if collect else []
    named = [f"--unit={unit}"] if unit else []
    settings = [f"--property={line}" for line in properties(directives)]
    return ["systemd-run", "--quiet", *kept, *how, *named, *settings, "--", *argv]
