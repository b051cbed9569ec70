"""Defines the items of evidence that are collected from a host, in two tiers: `hot` (volatile) and `full`."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths

Tier = Literal["hot", "full"]
TIERS: tuple[Tier, ...] = ("hot", "full")
SECONDS: Mapping[Tier, float] = {"hot": 5, "full": 30}
"""How long the collectors of a tier may run. Including Ansible, `hot` takes at most 10 s, both tiers 60 s."""
REDACTION_SECONDS: Mapping[Tier, float] = {"hot": 2.5, "full": 12}
"""How long the redaction of an item may take at least. An item that takes longer is withheld."""

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Collector:
    """One item, collected by a command, from files, from an address of the service, or by a function.

    `seconds`: its deadline. `limit` and `keep`: how many bytes are kept, the `newest` or the `first`.
    `files`: may contain wildcards, `$pid` for the main process and `$group` for the path of the unit's
    control group. `fallback_files`: read instead on a host without the command. `secret_free`: the item
    cannot contain a secret. `journal`: the item is journalctl's JSON.
    """

    name: str
    command: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    address: str = ""
    function: str = ""
    fallback_files: tuple[str, ...] = ()
    tier: Tier = "hot"
    seconds: float = 5
    limit: int = 256 * KIB
    keep: Literal["newest", "first"] = "first"
    secret_free: bool = False
    journal: bool = False

    def resolved(self, process: Mapping[str, str]) -> Collector:
        """The same collector with `$pid` and `$group` replaced in its files."""
        files = tuple(string.Template(file).safe_substitute(process) for file in self.files)
        return replace(self, files=files)


def _journal(name: str, *matches: str, lines: int, tier: Tier, seconds: float, limit: int) -> Collector:
    command = (
        "journalctl",
        *matches,
        f"--lines={lines}",
        "--output=json",
        "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_PID,_SYSTEMD_UNIT,UNIT,MESSAGE_ID",
        "--all",
        "--no-pager",
        "--quiet",
    )
    return Collector(name, command, tier=tier, seconds=seconds, limit=limit, keep="newest", journal=True)


def _group(*patterns: str) -> tuple[str, ...]:
    """The files of the unit's control group, below every place where cgroup hierarchies are mounted."""
    return tuple(f"{root}/$group/{pattern}" for root in paths.CONTROL_GROUPS for pattern in patterns)


_HOT = (
    Collector("metrics.txt", address="metrics:/metrics", limit=MIB),
    Collector("health.json", address="server:/health"),
    Collector("ready.json", address="server:/ready"),
    Collector(
        "processes.txt",
        (
            "ps",
            "-e",
            "-o",
            "pid,ppid,user,stat,wchan:24,etimes,pcpu,pmem,rss,nlwp,unit,comm",
            "--sort=-rss",
        ),
    ),
    Collector("unit-processes.jsonl", function="processes"),
    Collector(
        "unit.txt",
        (
            "systemctl",
            "show",
            paths.SERVICE_UNIT,
            "--property=LoadState,ActiveState,SubState,Result,MainPID,ExecMainStatus,ExecMainCode,NRestarts,"
            "ActiveEnterTimestamp,StateChangeTimestamp,MemoryCurrent,MemoryPeak,CPUUsageNSec,TasksCurrent,"
            "StatusText,WatchdogTimestamp,DropInPaths,NeedDaemonReload,ControlGroup",
        ),
    ),
    Collector("limits.txt", files=("/proc/$pid/limits",), secret_free=True),
    Collector(
        "control-group.txt",
        files=(
            *_group("memory.*", "cpu.*", "io.*", "pids.*", "cgroup.*"),
            *(
                f"/sys/fs/cgroup/{controller}/$group/{controller}.*"
                for controller in ("memory", "pids", "cpu", "cpuacct", "blkio")
            ),
        ),
        secret_free=True,
    ),
    Collector("memory.txt", files=("/proc/meminfo", "/proc/vmstat"), secret_free=True),
    Collector("pressure.txt", files=("/proc/pressure/*",), secret_free=True),
    Collector("load.txt", files=("/proc/loadavg", "/proc/uptime", "/proc/stat"), secret_free=True),
    Collector("disk-io.txt", files=("/proc/diskstats",), secret_free=True),
    Collector("disk.txt", ("df", "-P", "-T")),
    Collector("inodes.txt", ("df", "-P", "-i")),
    Collector("mounts.txt", files=("/proc/self/mountinfo",)),
    Collector(
        "sockets.txt",
        ("ss", "--numeric", "--all", "--tcp", "--udp", "--unix", "--processes", "--info"),
        fallback_files=(
            "/proc/net/tcp",
            "/proc/net/tcp6",
            "/proc/net/udp",
            "/proc/net/udp6",
            "/proc/net/unix",
        ),
        limit=MIB,
    ),
    Collector("gpu.txt", ("nvidia-smi", "--query"), limit=MIB),
    Collector("kernel.txt", ("dmesg", "--time-format=iso"), limit=512 * KIB, keep="newest"),
    Collector("history.jsonl", files=(str(paths.HISTORY),), keep="newest"),
    Collector("lock.json", files=(str(paths.HOST_LOCK),)),
    Collector(
        "security-mode.json", files=(str(paths.SECURITY_MODE_VOLATILE), str(paths.SECURITY_MODE_LASTING))
    ),
    Collector("overlay.json", files=(str(paths.OVERLAY),)),
    _journal(
        "journal.jsonl", f"--unit={paths.SERVICE_UNIT}", lines=3000, tier="hot", seconds=5, limit=2 * MIB
    ),
)

_FULL = (
    _journal(
        "journal-long.jsonl",
        f"--unit={paths.SERVICE_UNIT}",
        lines=20000,
        tier="full",
        seconds=30,
        limit=8 * MIB,
    ),
    _journal("journal-host.jsonl", "--priority=notice", lines=5000, tier="full", seconds=30, limit=4 * MIB),
    _journal(
        "journal-logins.jsonl",
        *("SYSLOG_IDENTIFIER=sshd", "SYSLOG_IDENTIFIER=sshd-session", "SYSLOG_IDENTIFIER=sudo"),
        lines=2000,
        tier="full",
        seconds=20,
        limit=MIB,
    ),
    _journal(
        "journal-backup.jsonl", f"--unit={paths.BACKUP_UNIT}", lines=1000, tier="full", seconds=20, limit=MIB
    ),
    Collector("boots.txt", ("journalctl", "--list-boots", "--no-pager"), tier="full", seconds=20),
    Collector("core-dumps.txt", ("coredumpctl", "list", "--no-pager"), tier="full", seconds=20),
    Collector("unit-properties.txt", ("systemctl", "show", paths.SERVICE_UNIT), tier="full", seconds=10),
    Collector("unit-files.txt", ("systemctl", "cat", paths.SERVICE_UNIT), tier="full", seconds=10),
    Collector(
        "sandbox.txt",
        ("systemd-analyze", "security", paths.SERVICE_UNIT, "--no-pager"),
        tier="full",
        seconds=20,
    ),
    Collector(
        "units.txt",
        ("systemctl", "list-units", "--all", "--plain", "--full", "--no-pager"),
        tier="full",
        seconds=10,
    ),
    Collector("timers.txt", ("systemctl", "list-timers", "--all", "--no-pager"), tier="full", seconds=10),
    Collector("config.json", files=(str(paths.CONFIG),), tier="full"),
    # Differs from config.json after a switch, until the service is restarted.
    Collector("config-running.json", files=("/proc/$pid/cwd/config.json",), tier="full"),
    Collector(
        "release.txt",
        files=("/opt/katago-mcp/current/manifest.json", "/opt/katago-mcp/current/analysis.cfg"),
        tier="full",
    ),
    Collector(
        "files.txt",
        (
            *("find", "/opt", "/etc", "/var/lib", "/var/cache", "-mindepth", "1", "-maxdepth", "4"),
            *("-not", "-path", "*/katago*", "-prune", "-o"),
            *("-printf", "%M %u:%g %s %TY-%Tm-%TdT%TH:%TM:%TS %p -> %l\n"),
        ),
        tier="full",
        seconds=20,
        limit=MIB,
    ),
    Collector(
        "quarantines.txt",
        (
            *("find", "/var/lib", "/var/cache", "-mindepth", "1", "-maxdepth", "8"),
            *("-not", "-path", "*/katago*", "-prune", "-o", "-path", "*quarantine*"),
            *("-printf", "%M %u:%g %s %TY-%Tm-%TdT%TH:%TM:%TS %p\n"),
        ),
        tier="full",
        seconds=20,
        limit=MIB,
    ),
    Collector("baseline.json", files=(f"{paths.STATE}/baseline.json",), tier="full"),
    Collector(
        "backup.txt",
        files=(
            str(paths.BACKUP_STATE),
            str(paths.BACKUP_SETTINGS),
            "/var/lib/prometheus/node-exporter/katago_backup.prom",
        ),
        tier="full",
    ),
    Collector(
        "packages.txt",
        ("dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture} ${Status}\n"),
        tier="full",
        seconds=15,
        limit=MIB,
    ),
    Collector("packages-log.txt", files=("/var/log/dpkg.log",), tier="full", keep="newest"),
    Collector("time.txt", ("timedatectl", "show"), tier="full", secret_free=True),
    Collector("time-sync.txt", ("timedatectl", "timesync-status"), tier="full"),
    Collector("time-chrony.txt", ("chronyc", "-n", "tracking"), tier="full"),
    Collector(
        "host.txt",
        files=(
            "/etc/os-release",
            "/proc/version",
            "/proc/cmdline",
            "/proc/cpuinfo",
            "/proc/driver/nvidia/version",
        ),
        tier="full",
    ),
    Collector(
        "gpu-driver.txt",
        files=("/sys/module/nvidia/version", "/var/lib/katago-gpu-driver/state.json"),
        tier="full",
    ),
    Collector("dkms.txt", ("dkms", "status"), tier="full"),
    Collector("interrupts.txt", files=("/proc/interrupts", "/proc/softirqs"), tier="full", secret_free=True),
    Collector(
        "addresses.txt", ("ip", "-statistics", "address"), fallback_files=("/proc/net/dev",), tier="full"
    ),
    Collector(
        "routes.txt",
        ("ip", "route", "show", "table", "all"),
        fallback_files=("/proc/net/route",),
        tier="full",
    ),
    Collector("firewall.txt", ("nft", "list", "ruleset"), tier="full", limit=MIB),
)

ALL = (*_HOT, *_FULL)


def of(tier: Tier) -> tuple[Collector, ...]:
    """The collectors of a tier, the most volatile items first."""
    return tuple(collector for collector in ALL if collector.tier == tier)


def names(*tiers: Tier) -> list[str]:
    """The names of all items of these tiers."""
    return [collector.name for tier in tiers for collector in of(tier)]
