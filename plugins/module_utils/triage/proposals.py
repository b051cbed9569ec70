"""What an operator can do besides the next playbook: free space, throttle a neighbor, shrink the cache."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.triage import at_work, rules_host
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    Consumer,
    Facts,
    Filesystem,
    OtherUse,
    Processes,
)

HOG_PERCENT_OF_HOST = 25
_CONSUMERS_SHOWN = 4
# Where a procedure's modules run: build a driver, install packages.
_SSH_SESSIONS = ("session-", "ssh.service", "ssh@", "sshd.service", "sshd@", "user@")

ROOM = {
    "/var/cache/katago-mcp-quarantine": "inspect the files, then delete them",
    "/var/lib/katago-mcp/quarantine": "inspect the files, then delete them",
    "/var/lib/systemd/coredump": "inspect the files, then delete them",
    "/var/log/journal": "journalctl --vacuum-size=200M",
    "/var/cache/apt/archives": "apt-get clean",
    "/var/cache/katago-mcp": "lower katago_mcp_cache_size_mb",
    "/opt/katago-mcp/releases": "lower katago_mcp_releases_kept",
    "/home": "ask the owner of the files",
}
"""How to free space in each directory of `facts.LARGE_DIRECTORIES`."""


def proposals(facts: Facts) -> Iterator[str]:
    """Propose commands, and changes of variables as a diff."""
    values = facts.values
    if "filesystems" in values and "consumers" in values:
        yield from _room(values["filesystems"], values["consumers"])
    if "processes" in values:
        for hog in hogs(values["processes"], at_work.is_at_work(values.get("lock"))):
            if hog["unit"].endswith((".service", ".scope")):
                yield f"systemctl set-property --runtime {shlex.quote(hog['unit'])} CPUWeight=20"
    if "memory" in values and values["memory"]["available_percent"] < rules_host.SCARCE_PERCENT:
        traffic = values.get("traffic")
        size = traffic["cache_max_bytes"] if traffic and traffic["served"] else None
        if size:
            mb = int(size) >> 20
            yield f"-katago_mcp_cache_size_mb: {mb}\n+katago_mcp_cache_size_mb: {max(1, mb // 2)}"
    if "unit" in values and (limits := values.get("limits")):
        limit = limits["open_files_limit"]
        if limit is not None and limit < limits["open_files_expected"]:
            for path in values["unit"]["drop_ins"]:
                yield f"inspect {path}; to remove it: rm {shlex.quote(path)} && systemctl daemon-reload"


def hogs(processes: Processes, is_at_work: bool = False) -> list[OtherUse]:
    """The other units that use at least `HOG_PERCENT_OF_HOST` percent of the host's processors.

    Never our own units. `is_at_work`: a procedure is at work, in the SSH sessions of the control node.
    """
    bound = HOG_PERCENT_OF_HOST * processes["processors"]
    busy = [each for each in processes["others"] if each["cpu_percent"] >= bound]
    return [
        each
        for each in busy
        if not each["unit"].startswith(paths.OWN_UNITS)
        and not (is_at_work and each["unit"].startswith(_SSH_SESSIONS))
    ]


def _room(filesystems: Sequence[Filesystem], consumers: Sequence[Consumer]) -> Iterator[str]:
    """Name the largest directories on file systems that are nearly full, and how to free space there."""
    scarce = {
        each["device"]
        for each in filesystems
        for percent in (each["free_percent"], each["free_inodes_percent"])
        if percent is not None and percent < rules_host.SCARCE_PERCENT
    }
    on_them = [each for each in consumers if each["device"] in scarce and each["inodes"]]
    for each in on_them[:_CONSUMERS_SHOWN]:
        size = f"{each['bytes'] / (1 << 20):.0f} MB in {each['inodes']} files"
        yield f"{each['path']} uses {size}; to free space: {ROOM.get(each['path'], 'ask the owner')}"
