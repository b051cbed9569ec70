"""Defines the items of evidence that are collected from a host, in two tiers: `hot` (volatile) and `full`."""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths

Part = Literal["host", "service", "load_balancer"]
"""What an item belongs to: any host, one with the service, or a load balancer."""
PARTS: tuple[Part, ...] = ("host", "service", "load_balancer")
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

    Or from HAProxy: `runtime` is a command for its runtime socket.

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
    runtime: str = ""
    fallback_files: tuple[str, ...] = ()
    tier: Tier = "hot"
    seconds: float = 5
    limit: int = 256 * KIB
    keep: Literal["newest", "first"] = "first"
    secret_free: bool = False
    journal: bool = False
    part: Part = "host"

    def resolved(self, process: Mapping[str, str]) -> Collector:
        """The same collector with `$pid` and `$group` replaced in its files."""
        files = tuple(string.Template(file).safe_substitute(process) for file in self.files)
        return replace(self, files=files)


def _journal(
    name: str,
    *matches: str,
    lines: int,
    tier: Tier,
    seconds: float,
    limit: int,
    part: Part = "host",
) -> Collector:
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
    return Collector(
        name, command, tier=tier, seconds=seconds, limit=limit, keep="newest", journal=True, part=part
    )


def _group(*patterns: str) -> tuple[str, ...]:
    """The files of the unit's control group, below every place where cgroup hierarchies are mounted."""
    return tuple(f"{root}/$group/{pattern}" for root in paths.CONTROL_GROUPS for pattern in patterns)


_HOT = (
    Collector("metrics.txt", address="metrics:/metrics", limit=MIB, part="service"),
    Collector("health.json", address="server:/health", part="service"),
    Collector("ready.json", address="server:/ready", part="service"),
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
    Collector("unit-processes.jsonl", function="processes", part="service"),
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
        part="service",
    ),
    Collector("limits.txt", files=("/proc/$pid/limits",), secret_free=True, part="service"),
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
        part="service",
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
    Collector("gpu.txt", ("nvidia-smi", "--query"), limit=MIB, part="service"),
    Collector("kernel.txt", ("dmesg", "--time-format=iso"), limit=512 * KIB, keep="newest"),
    Collector("history.jsonl", files=(str(paths.HISTORY),), keep="newest", part="service"),
    Collector("lock.json", files=(str(paths.HOST_LOCK),)),
    Collector(
        "security-mode.json",
        files=(str(paths.SECURITY_MODE_VOLATILE), str(paths.SECURITY_MODE_LASTING)),
        part="service",
    ),
    Collector("overlay.json", files=(str(paths.OVERLAY),), part="service"),
    _journal(
        "journal.jsonl",
        f"--unit={paths.SERVICE_UNIT}",
        lines=3000,
        tier="hot",
        seconds=5,
        limit=2 * MIB,
        part="service",
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
        part="service",
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
        "journal-backup.jsonl",
        f"--unit={paths.BACKUP_UNIT}",
        lines=1000,
        tier="full",
        seconds=20,
        limit=MIB,
        part="service",
    ),
    Collector("boots.txt", ("journalctl", "--list-boots", "--no-pager"), tier="full", seconds=20),
    Collector("core-dumps.txt", ("coredumpctl", "list", "--no-pager"), tier="full", seconds=20),
    Collector(
        "unit-properties.txt",
        ("systemctl", "show", paths.SERVICE_UNIT),
        tier="full",
        seconds=10,
        part="service",
    ),
    Collector(
        "unit-files.txt", ("systemctl", "cat", paths.SERVICE_UNIT), tier="full", seconds=10, part="service"
    ),
    Collector(
        "sandbox.txt",
        ("systemd-analyze", "security", paths.SERVICE_UNIT, "--no-pager"),
        tier="full",
        seconds=20,
        part="service",
    ),
    Collector(
        "units.txt",
        ("systemctl", "list-units", "--all", "--plain", "--full", "--no-pager"),
        tier="full",
        seconds=10,
    ),
    Collector("timers.txt", ("systemctl", "list-timers", "--all", "--no-pager"), tier="full", seconds=10),
    Collector("config.json", files=(str(paths.CONFIG),), tier="full", part="service"),
    # Differs from config.json after a switch, until the service is restarted.
    Collector("config-running.json", files=("/proc/$pid/cwd/config.json",), tier="full", part="service"),
    Collector(
        "release.txt",
        files=("/opt/katago-mcp/current/manifest.json", "/opt/katago-mcp/current/analysis.cfg"),
        tier="full",
        part="service",
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
        part="service",
    ),
    Collector("baseline.json", files=(f"{paths.STATE}/baseline.json",), tier="full", part="service"),
    Collector(
        "backup.txt",
        files=(
            str(paths.BACKUP_STATE),
            str(paths.BACKUP_SETTINGS),
            "/var/lib/prometheus/node-exporter/katago_backup.prom",
        ),
        tier="full",
        part="service",
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
        part="service",
    ),
    Collector("dkms.txt", ("dkms", "status"), tier="full", part="service"),
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

_LOAD_BALANCER_UNITS = (paths.LOAD_BALANCER_UNIT, paths.KEEPALIVED_UNIT)

# No file with a key: the certificate's file has its key too.
_LOAD_BALANCER = (
    Collector("haproxy-servers.csv", runtime="show stat", part="load_balancer", limit=MIB),
    Collector("haproxy-info.txt", runtime="show info", part="load_balancer"),
    Collector("haproxy-servers-state.txt", runtime="show servers state", part="load_balancer", limit=MIB),
    Collector("rotation.json", files=(str(paths.ROTATION),), part="load_balancer"),
    Collector("virtual-address.txt", ("ip", "-brief", "address"), part="load_balancer"),
    Collector(
        "load-balancer-units.txt",
        (
            "systemctl",
            "show",
            *_LOAD_BALANCER_UNITS,
            "--property=Id,LoadState,ActiveState,SubState,Result,MainPID,ExecMainStatus,NRestarts,"
            "ActiveEnterTimestamp,StateChangeTimestamp,MemoryCurrent,TasksCurrent,DropInPaths,NeedDaemonReload",
        ),
        part="load_balancer",
    ),
    *(
        _journal(
            f"journal-{name}.jsonl",
            f"--unit={unit}",
            lines=3000,
            tier="hot",
            seconds=5,
            limit=2 * MIB,
            part="load_balancer",
        )
        for name, unit in (("haproxy", paths.LOAD_BALANCER_UNIT), ("keepalived", paths.KEEPALIVED_UNIT))
    ),
    Collector("haproxy.cfg", files=(str(paths.HAPROXY_CONFIG),), tier="full", part="load_balancer"),
    Collector("keepalived.conf", files=(str(paths.KEEPALIVED_CONFIG),), tier="full", part="load_balancer"),
    Collector(
        "load-balancer-settings.json",
        files=(str(paths.LOAD_BALANCER_SETTINGS),),
        tier="full",
        part="load_balancer",
    ),
    Collector(
        "load-balancer-unit-files.txt",
        ("systemctl", "cat", *_LOAD_BALANCER_UNITS),
        tier="full",
        seconds=10,
        part="load_balancer",
    ),
)

ALL = (*_HOT, *_LOAD_BALANCER, *_FULL)


def of(tier: Tier, of_parts: Collection[Part]) -> tuple[Collector, ...]:
    """The collectors of a tier for these parts, the most volatile items first."""
    return tuple(each for each in ALL if each.tier == tier and each.part in of_parts)


def names(*tiers: Tier, of_parts: Collection[Part] = ("host", "service")) -> list[str]:
    """The names of all items of these tiers; of a host with the service if no parts are given."""
    return [collector.name for tier in tiers for collector in of(tier, of_parts)]
