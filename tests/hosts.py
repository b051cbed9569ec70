"""What tests read on the hosts of a lab, and the faults that they inject and remove."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import testinfra

from lab import paths

SERVICE = "katago-mcp.service"
HISTORY = "/var/lib/katago-mcp/history.jsonl"
LOCK = "/run/katago-mcp.lock"
STATE = "/var/lib/katago-mcp"
CACHE_FILE = "/var/cache/katago-mcp/answers.sqlite3"
# The newest answers may still be in SQLite's journal beside the file. Every answer contains the word.
_DAMAGE = f"""
import pathlib, sqlite3
sqlite3.connect('{CACHE_FILE}').execute('PRAGMA wal_checkpoint')
file = pathlib.Path('{CACHE_FILE}').open('r+b')
content = file.read()
place = content.rindex(b'scoreLead')
file.seek(place)
file.write(bytes([content[place] ^ 1]))
"""
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/fault.conf"


def connect(name: str) -> Any:
    """Connect to a host of the lab with testinfra."""
    inventory = str(paths.ROOT / "inventories" / "lab")
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory)


def main_pid(host: Any) -> int:
    """The main process of the service; 0 if there is none."""
    return int(host.check_output(f"systemctl show {SERVICE} --property=MainPID --value"))


def current(host: Any) -> str:
    """The name of the current release."""
    return Path(host.check_output("readlink /opt/katago-mcp/current")).name


def history(host: Any) -> list[dict[str, Any]]:
    """The history of the host's releases."""
    return [json.loads(line) for line in host.check_output(f"cat {HISTORY}").splitlines()]


def damage_cache(host: Any) -> str:
    """Flip a bit of an answer in the cache; return the new digest of the file."""
    host.check_output("python3 -c %s", _DAMAGE)
    return str(host.file(CACHE_FILE).sha256sum)


def untouched(host: Any) -> tuple[str, int, list[dict[str, Any]], bool]:
    """What a refused procedure must not change: release, process, history, and whether there is a lock."""
    return current(host), main_pid(host), history(host), host.file(LOCK).exists


@contextlib.contextmanager
def drop_in(host: Any, *lines: str) -> Iterator[None]:
    """Add settings to the unit, which apply from its next start."""
    host.check_output(f"mkdir -p $(dirname {DROP_IN})")
    text = "\n".join(["[Service]", *lines])
    host.check_output(f"cat > {DROP_IN} <<'END'\n{text}\nEND")
    host.check_output("systemctl daemon-reload")
    try:
        yield
    finally:
        host.check_output(f"rm {DROP_IN} && systemctl daemon-reload")


@contextlib.contextmanager
def small_disk(host: Any, directory: str, options: str, fill: str) -> Iterator[None]:
    """Mount a small disk over a directory, copy its content there, and fill the disk."""
    host.check_output(f"mkdir -p /mnt/small && mount -t tmpfs -o {options} tmpfs /mnt/small")
    # Not the quarantine: it may be as large as everything else.
    packed = f"tar --create --exclude=./quarantine --directory={directory} ."
    host.check_output(
        f"{packed} | tar --extract --directory=/mnt/small && mount --bind /mnt/small {directory}"
    )
    host.check_output(f"cd {directory} && mkdir filler && {fill}; true")
    try:
        yield
    finally:
        # What the service wrote meanwhile is a cache; the history is compared with what it was.
        host.check_output(f"umount --lazy {directory} /mnt/small")


@contextlib.contextmanager
def no_space(host: Any, directory: str = STATE) -> Iterator[str]:
    fill = "dd if=/dev/zero of=filler/zeros bs=4k 2>/dev/null"
    with small_disk(host, directory, f"size={taken(host, directory, '--block-size=1M') + 6}m", fill):
        assert host.run(f"dd if=/dev/zero of={directory}/more bs=4k count=1").rc != 0
        yield "No space left on device"


@contextlib.contextmanager
def no_inodes(host: Any, directory: str = STATE) -> Iterator[str]:
    fill = "seq 1000 | xargs -I N touch filler/N 2>/dev/null"
    with small_disk(host, directory, f"nr_inodes={taken(host, directory, '--inodes') + 400}", fill):
        assert host.run(f"touch {directory}/more").rc != 0
        assert "100%" in host.check_output(f"df -i {directory} | tail -1")
        yield "No space left on device"


def taken(host: Any, directory: str, unit: str) -> int:
    """The size of a directory without its quarantine, in the units of a `du` option."""
    return int(host.check_output(f"du --summarize --exclude=quarantine {unit} {directory}").split()[0])


@contextlib.contextmanager
def read_only(host: Any) -> Iterator[str]:
    """Make all file systems of the host read-only, except those in memory."""
    directories = ("/opt", "/etc", "/var", "/tmp", "/home")
    for directory in directories:
        # With what is mounted below, such as the journal, which would otherwise be hidden.
        host.check_output(f"mount --rbind {directory} {directory} && mount --make-rslave {directory}")
        host.check_output(f"mount -o remount,bind,ro {directory}")
    try:
        assert host.run(f"touch {STATE}/x /tmp/x").rc != 0
        yield "Read-only file system"
    finally:
        for directory in directories:
            host.check_output(f"umount --lazy {directory}")
