"""Figures of a host, read from /proc and from the file systems. No tool needs to be installed."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import process as common_process

PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_SECTOR = 512
# The unit of st_blocks, independent of the file system's block size.
_BLOCK = 512
# PF_KTHREAD of the kernel's include/linux/sched.h.
_KERNEL_THREAD = 0x00200000
# Disks and partitions with I/O of their own, without loop devices, RAM disks and optical drives.
_DISK = re.compile(r"(?:sd|hd|vd|xvd|nvme|mmcblk|dm-|md)\w*")


@dataclass(frozen=True)
class Process:
    """A process in one sample. `ticks`: CPU time since its start. `unit`: its systemd unit."""

    pid: int
    parent: int
    name: str
    state: str
    ticks: int
    memory_bytes: int
    unit: str


@dataclass(frozen=True)
class Sample:
    """All processes and disks at one moment. `at`: by time.monotonic(). `disks`: None if not available."""

    at: float
    processes: Mapping[int, Process]
    disks: Mapping[str, tuple[int, int, int]] | None


def memory(proc: Path) -> dict[str, float]:
    """Total memory, available memory and free swap, in bytes. `available_percent`: of the total memory."""
    fields = dict(re.findall(r"^(\w+): +(\d+) kB$", (proc / "meminfo").read_text(), re.M))
    total, available = int(fields["MemTotal"]) << 10, int(fields["MemAvailable"]) << 10
    return {
        "total_bytes": total,
        "available_bytes": available,
        "available_percent": round(100 * available / total, 2),
        "swap_free_bytes": int(fields.get("SwapFree", 0)) << 10,
    }


def pressure(proc: Path) -> dict[str, Any]:
    """Stalls in percent of the last 10 and 60 s, by resource and kind; `absent` if the kernel has none."""
    stalls: dict[str, Any] = {}
    for resource in ("cpu", "memory", "io"):
        try:
            lines = (proc / "pressure" / resource).read_text().splitlines()
        except OSError as error:
            return {"absent": f"{proc / 'pressure' / resource}: {error.strerror}"}
        stalls[resource] = {
            kind: {name: float(value) for name, value in re.findall(r"(avg10|avg60)=([\d.]+)", line)}
            for kind, line in (line.split(" ", 1) for line in lines)
        }
    return stalls


def load(proc: Path) -> dict[str, Any]:
    """The load averages of 1, 5 and 15 minutes, and the number of processors."""
    averages = [float(word) for word in (proc / "loadavg").read_text().split()[:3]]
    return {"averages": averages, "processors": os.cpu_count() or 1}


def limits(pid: int, proc: Path) -> dict[str, int | None]:
    """The limit of open files of a process (None: unlimited), and the number of its open files."""
    text = (proc / str(pid) / "limits").read_text()
    match = re.search(r"^Max open files +(\S+)", text, re.M)
    if match is None:
        raise ValueError(f"/proc/{pid}/limits has no line 'Max open files'")
    return {
        "open_files_limit": None if match[1] == "unlimited" else int(match[1]),
        "open_files": len(list((proc / str(pid) / "fd").iterdir())),
    }


def filesystems(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The file systems of the paths: free space, free inodes (None if not counted), whether read-only.

    A file system that is mounted both read-only and writable has two entries.
    """
    entries: dict[tuple[int, bool], dict[str, Any]] = {}
    for path in paths:
        device = Path(path).stat().st_dev
        status = os.statvfs(path)
        read_only = bool(status.f_flag & os.ST_RDONLY)
        if (device, read_only) in entries:
            entries[device, read_only]["paths"].append(path)
            continue
        entries[device, read_only] = {
            "paths": [path],
            "device": device,
            "free_bytes": status.f_bavail * status.f_frsize,
            "free_percent": _percent(status.f_bavail, status.f_blocks - status.f_bfree + status.f_bavail),
            "free_inodes_percent": _percent(status.f_favail, status.f_files),
            "read_only": read_only,
        }
    return list(entries.values())


def consumers(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The size of each existing directory in bytes and inodes, the largest first.

    Other file systems mounted below a directory are not counted. `device` is the same number as in
    `filesystems`.
    """
    sizes_by_path = []
    for path in paths:
        if not Path(path).is_dir():
            continue
        device = Path(path).stat().st_dev
        sizes = [entry.st_blocks * _BLOCK for entry in _entries(path, device)]
        sizes_by_path.append({"path": path, "device": device, "bytes": sum(sizes), "inodes": len(sizes)})
    return sorted(sizes_by_path, key=lambda each: each["bytes"], reverse=True)


def _entries(path: str, device: int) -> Iterator[os.stat_result]:
    for directory, names, files in os.walk(path):
        # Files that are deleted during the walk are not counted.
        with contextlib.suppress(OSError):
            names[:] = [name for name in names if Path(directory, name).lstat().st_dev == device]
        for name in (*names, *files):
            with contextlib.suppress(OSError):
                yield Path(directory, name).lstat()


def sample(at: float, proc: Path) -> Sample:
    """Take a sample of all processes (without kernel threads) and of the disks' counters."""
    processes = {}
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        try:
            name, fields = common_process.stat(directory)
            unit = common_process.unit(directory)
        except OSError:
            continue
        if int(fields[6]) & _KERNEL_THREAD:
            continue
        pid = int(directory.name)
        processes[pid] = Process(
            pid=pid,
            parent=int(fields[1]),
            name=name,
            state=fields[0],
            ticks=int(fields[11]) + int(fields[12]),
            memory_bytes=int(fields[21]) * _PAGE,
            unit=unit,
        )
    return Sample(at, processes, _disks(proc))


def by_unit(before: Sample, after: Sample, *, without: int | None = None) -> list[dict[str, Any]]:
    """The usage of each unit between two samples, by processor time, highest first.

    `cpu_percent`: of one processor. `without`: a process to leave out, with all its descendants.
    """
    seconds = max(after.at - before.at, 1e-3)
    left_out = _below(after.processes, without)
    units: dict[str, list[dict[str, Any]]] = {}
    for process in after.processes.values():
        if process.pid in left_out:
            continue
        earlier = before.processes.get(process.pid)
        ticks = process.ticks - (earlier.ticks if earlier else 0)
        units.setdefault(process.unit, []).append(
            {
                "pid": process.pid,
                "parent": process.parent,
                "name": process.name,
                "state": process.state,
                "cpu_percent": round(100 * max(ticks, 0) / _TICKS / seconds, 1),
                "memory_bytes": process.memory_bytes,
            }
        )
    used = [
        {
            "unit": unit,
            "cpu_percent": round(sum(each["cpu_percent"] for each in members), 1),
            "memory_bytes": sum(each["memory_bytes"] for each in members),
            "processes": members,
        }
        for unit, members in units.items()
    ]
    return sorted(used, key=lambda unit: unit["cpu_percent"], reverse=True)


def by_disk(before: Sample, after: Sample) -> list[dict[str, Any]] | dict[str, str]:
    """The activity of each disk between two samples: busy time in percent, bytes read and written per second.

    `absent` with the reason if the counters are not available.
    """
    if before.disks is None or after.disks is None:
        return {"absent": f"{PROC / 'diskstats'} cannot be read"}
    seconds = max(after.at - before.at, 1e-3)
    return [
        {
            "disk": disk,
            "busy_percent": round(min(100.0, (busy - before.disks[disk][2]) / 10 / seconds), 1),
            "read_bytes_per_second": round((read - before.disks[disk][0]) * _SECTOR / seconds),
            "written_bytes_per_second": round((written - before.disks[disk][1]) * _SECTOR / seconds),
        }
        for disk, (read, written, busy) in sorted(after.disks.items())
        if disk in before.disks
    ]


def device(proc: Path) -> str:
    """The computing devices of the host: the GPUs that NVIDIA's driver lists, or else the processors."""
    gpus = sorted((proc / "driver" / "nvidia" / "gpus").glob("*/information"))
    models = [re.search(r"^Model:\s*(.+)$", gpu.read_text(), re.M) for gpu in gpus]
    if not models:
        models = list(re.finditer(r"^model name\s*:\s*(.+)$", (proc / "cpuinfo").read_text(), re.M))
    names = Counter(model[1].strip() for model in models if model)
    return ", ".join(f"{count} x {name}" for name, count in names.items()) or "unknown"


def machine(proc: Path) -> dict[str, Any]:
    """The identity of this machine, which survives a reinstallation: name, device, number of processors.

    `/etc/machine-id` changes with a reinstallation, and containers share the firmware's ID.
    """
    return {"name": os.uname().nodename, "device": device(proc), "processors": os.cpu_count() or 1}


def upgrades(log: Path, since: str) -> list[str]:
    """The packages that dpkg installed or upgraded since a time, `YYYY-MM-DD HH:MM:SS` in host time."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    matches = (re.match(r"(\S+ \S+) (?:upgrade|install) ([^: ]+)", line) for line in lines)
    return [match[2] for match in matches if match and match[1] >= since]


def _below(processes: Mapping[int, Process], root: int | None) -> set[int]:
    tree = set() if root is None else {root}
    grown = True
    while grown:
        more = {each.pid for each in processes.values() if each.parent in tree} - tree
        tree |= more
        grown = bool(more)
    return tree


def _disks(proc: Path) -> dict[str, tuple[int, int, int]] | None:
    try:
        lines = (proc / "diskstats").read_text().splitlines()
    except OSError:
        return None
    rows = (line.split() for line in lines)
    return {row[2]: (int(row[5]), int(row[9]), int(row[12])) for row in rows if _DISK.fullmatch(row[2])}


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None
