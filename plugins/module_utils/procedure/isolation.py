"""The firewall table that cuts a host in security mode off from clients, and the ports it closes."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.service import admin, endpoints
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit

TABLE = "katago_security"
_SSH_PORT = 22
_LISTENING = "0A"


def ruleset(ports: Collection[int], ssh: Collection[int], user: int | None) -> str:
    """What nft loads, in one transaction, instead of what it had of the table.

    Clients are cut off from `ports`, connections that are open too; the host itself is not, nor is
    anybody from the ports `ssh`, which are none of the former. With `user`, a numeric id, what it sends
    out is dropped. All else is left to the host's own firewall.
    """
    cut, kept = (", ".join(map(str, sorted(each))) for each in (ports, ssh))
    egress = "" if user is None else f"\t\tmeta skuid {user} drop\n"
    return f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
	chain input {{
		type filter hook input priority -10; policy accept;
		iifname "lo" accept
		tcp dport {{ {kept} }} accept
		tcp dport {{ {cut} }} drop
	}}

	chain output {{
		type filter hook output priority -10; policy accept;
		oifname "lo" accept
		tcp sport {{ {kept} }} accept
		tcp sport {{ {cut} }} drop
{egress}\t}}
}}
"""


def unit() -> str:
    """The unit that loads the table at every boot, before the network, while the mode is on."""
    return f"""\
[Unit]
Description=Isolation of the KataGo MCP server in security mode
DefaultDependencies=no
ConditionPathExists={paths.SECURITY_MODE_LASTING}
RequiresMountsFor={paths.SECURITY_DIRECTORY}
Wants=network-pre.target
# Which begins by flushing all tables.
After=nftables.service
Before=network-pre.target {paths.SERVICE_UNIT} shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart={paths.NFT} -f {paths.ISOLATION_RULES}

[Install]
WantedBy=sysinit.target
"""


def listed() -> str | None:
    """The table as nft lists it, None when there is none.

    Raises:
        OSError: if nft cannot be run.
    """
    done = subprocess.run(
        [paths.NFT, "list", "table", "inet", TABLE], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout if done.returncode == 0 else None


def look() -> dict[str, Any]:
    """The mode as plain values, None when the host is in none; whether its table is the one that was loaded.

    `isolated` is None where it is not to be.
    """
    mode = security_mode.standing(*paths.SECURITY_MODE)
    if mode is None or not mode.isolated:
        return {"mode": mode and asdict(mode), "isolated": None}
    try:
        there = listed()
    except (OSError, subprocess.SubprocessError):
        there = None
    return {"mode": asdict(mode), "isolated": bool(mode.rules) and there == mode.rules}


def service_ports() -> set[int]:
    """Every port of the service: by the configurations of release and process, and by its sockets."""
    ports = set[int]()
    configurations = [_current_config(), admin.running_config()]
    for config in configurations:
        try:
            bound = endpoints.Endpoints.of(config) if config else endpoints.Endpoints()
        except ValueError:
            bound = endpoints.Endpoints()
        ports |= {bound.port, bound.metrics_port}
    members = service_unit.processes(service_unit.control_group())
    return ports | listening((each["pid"] for each in members), paths.PROC)


def ssh_ports(environment: Mapping[str, str], proc: Path) -> set[int]:
    """The ports by which an operator comes in: that of this very connection, and those of sshd."""
    ports = set[int]()
    # Client's address and port, server's address and port [ssh(1), Environment].
    connection = environment.get("SSH_CONNECTION", "").split()
    if len(connection) == 4 and connection[3].isdigit():
        ports.add(int(connection[3]))
    for directory in proc.glob("[0-9]*"):
        try:
            is_sshd = (directory / "comm").read_text().strip() == "sshd"
        except OSError:
            continue
        if is_sshd:
            ports |= listening([int(directory.name)], proc)
    return ports or {_SSH_PORT}


def listening(pids: Iterable[int], proc: Path) -> set[int]:
    """The TCP ports on which processes listen, whatever the address."""
    inodes = set[str]()
    for pid in pids:
        # Processes and files come and go while they are looked at.
        with contextlib.suppress(OSError):
            for file in (proc / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if found := re.fullmatch(r"socket:\[(\d+)\]", str(file.readlink())):
                        inodes.add(found[1])
    ports = set[int]()
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        # Local address, remote address, state ... inode [proc(5)].
        fields = [line.split() for line in lines]
        ports |= {
            int(row[1].rpartition(":")[2], 16) for row in fields if row[3] == _LISTENING and row[9] in inodes
        }
    return ports


def _current_config() -> dict[str, Any] | None:
    try:
        return admin.read_config(layout.Layout(paths.RELEASE_ROOT).current)
    except (OSError, ValueError):
        return None
