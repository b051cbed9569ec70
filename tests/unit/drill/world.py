"""A host below a directory whose systemd, firewall, mounts and processes are fakes, and that can die."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, files
from ansible_collections.katago.fleet.plugins.module_utils.drill import step, steps_files
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host, Places
from ansible_collections.katago.fleet.plugins.module_utils.drill.inject import Asked
from ansible_collections.katago.fleet.plugins.module_utils.release import history, layout
from ansible_collections.katago.fleet.plugins.module_utils.release import links as release_links
from ansible_collections.katago.fleet.plugins.module_utils.service import overlay_apply

SERVICE = paths.SERVICE_UNIT
HAPROXY = paths.LOAD_BALANCER_UNIT
METRICS = paths.HOST_METRICS_TIMER
BOOT = "boot-1"
NOW = 1_795_000_000.0
PAGES = 12


class KilledError(BaseException):
    """The process was killed here."""


@dataclass
class Process:
    """A process of a unit."""

    unit: str
    start: int
    state: str = "S"
    is_engine: bool = False


@dataclass
class World:
    """What outlives the processes that work on the host."""

    root: Path
    units: dict[str, str] = field(default_factory=dict)
    enabled: set[str] = field(default_factory=set)
    processes: dict[int, Process] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    covered: dict[Path, Path] = field(default_factory=dict)
    boot: str = BOOT
    uptime: float = 5000.0
    skew: float = 0.0
    is_container: bool = False
    release: str = ""
    tokens: bytes = b""
    pids: Iterator[int] = field(default_factory=lambda: iter(range(100, 10_000)))
    changes: int = 0
    dies_at: int | None = None

    def change(self) -> None:
        """Called before each change of the host; the process dies at one of them."""
        if self.dies_at is not None and self.changes == self.dies_at:
            raise KilledError
        self.changes += 1

    def start(self, unit: str) -> None:
        """Start a unit, unless a drop-in prevents it."""
        if (self.root / "run/systemd/system" / f"{unit}.d" / paths.DRILL_DROP_IN).exists():
            return
        if unit == SERVICE and not self._starts():
            self.units[unit] = "failed"
            return
        if self.units.get(unit) not in ("active", None):
            self.kill(unit)
        self.units[unit] = "active"
        if unit == SERVICE:
            self.release = layout.Layout(self.root / "opt/katago-mcp").current_release() or ""
            self.processes[next(self.pids)] = Process(unit, start=int(self.uptime))
            self.processes[next(self.pids)] = Process(unit, start=int(self.uptime), is_engine=True)
        elif unit.endswith(".service"):
            self.processes[next(self.pids)] = Process(unit, start=int(self.uptime))

    def kill(self, unit: str) -> None:
        """End all processes of a unit."""
        self.processes = {pid: each for pid, each in self.processes.items() if each.unit != unit}

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.uptime += seconds

    def reboot(self) -> None:
        """Reboot: what is in memory is gone, and enabled units start."""
        for name in ("run/systemd/system", "run/systemd/system.control", "run/katago-drill"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in ("run/systemd/system", "run/systemd/system.control"):
            (self.root / name).mkdir()
        for path in list(self.covered):
            self.uncover(path)
        self.boot, self.tables = "boot-2", {}
        self.processes = {}
        for unit in list(self.units):
            self.units[unit] = "inactive"
        for unit in sorted(self.enabled & self.units.keys()):
            self.start(unit)

    def cover(self, path: Path) -> None:
        """Mount an empty file system over a directory."""
        below = path.with_name(f".below-{path.name}")
        path.rename(below)
        path.mkdir()
        self.covered[path] = below

    def uncover(self, path: Path) -> None:
        """Unmount it."""
        shutil.rmtree(path)
        self.covered.pop(path).rename(path)

    def _starts(self) -> bool:
        current = self.root / "opt/katago-mcp/current"
        try:
            return isinstance(json.loads((current / "config.json").read_text())["server"]["port"], int)
        except (OSError, ValueError, KeyError):
            return False


class FakeHost(Host):
    """A process that works on the world."""

    def __init__(self, world: World) -> None:
        super().__init__(places(world.root))
        self.world = world

    def run(self, *command: str | Path, stdin: str = "", seconds: float = 10.0) -> tuple[int, str]:
        words = [str(each) for each in command]
        name = Path(words[0]).name
        if words[1:] == ["--version"]:
            return 0, ""
        if name == "nft":
            return self._nft(words[1:], stdin)
        if name == "mount":
            self.world.change()
            self.world.cover(Path(words[-1]))
        elif name == "umount":
            self.world.change()
            self.world.uncover(Path(words[-1]))
        elif name == "systemd-run":
            self.world.change()
            self.world.units[paths.DRILL_HELPER_UNIT] = "active"
            self._killed_by_helper(words[-2])
        elif name == "systemd-detect-virt":
            return (0 if self.world.is_container else 1), ""
        elif name in ("openssl", "tc"):
            return super().run(*command, stdin=stdin, seconds=seconds)
        return 0, ""

    def _nft(self, words: list[str], stdin: str) -> tuple[int, str]:
        if words[0] == "-f":
            self.world.change()
            self.world.tables["katago_drill"] = stdin
        elif words[0] == "delete":
            self.world.change()
            del self.world.tables[words[-1]]
        elif "ruleset" in words:
            tables = self.world.tables
            return 0, "".join(f"table inet {name} {{\n{tables[name]}}}\n" for name in tables)
        elif words[:2] == ["list", "table"] and words[-1] not in self.world.tables:
            return 1, "No such file or directory"
        return 0, ""

    def _killed_by_helper(self, work: str) -> None:
        count = 5 if work == "kill-service" else 1
        if work == "kill-service":
            self.world.kill(SERVICE)
            self.world.units[SERVICE] = "failed"
        files.write(self.places.volatile / "kills", f"{count}\n".encode(), mode=0o600)

    def systemctl(self, *arguments: str, check: bool = True) -> None:
        verb, unit = arguments[0], arguments[-1]
        self.world.change()
        if verb == "stop":
            self.world.kill(unit)
            if unit == paths.DRILL_HELPER_UNIT:
                # A transient unit.
                self.world.units.pop(unit, None)
            elif unit in self.world.units:
                self.world.units[unit] = "inactive"
        elif verb in ("start", "restart"):
            if verb == "restart":
                self.world.kill(unit)
                self.world.units[unit] = "inactive"
            self.world.start(unit)
        elif verb == "kill":
            self.world.kill(unit)
        elif verb == "enable":
            self.world.enabled.add(unit)
            self.world.units.setdefault(unit, "inactive")
        elif verb == "disable":
            self.world.enabled.discard(unit)
            self.world.units.pop(unit, None)
        elif verb == "set-property":
            file = self.places.runtime_properties / f"{arguments[2]}.d" / "50-CPUQuota.conf"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"[Service]\n{unit}\n")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        group = f"system.slice/{unit}"
        return {
            "ActiveState": self.world.units.get(unit, "inactive"),
            "LoadState": "loaded" if unit in self.world.units else "not-found",
            "UnitFileState": "enabled" if unit in self.world.enabled else "disabled",
            "ControlGroup": f"/{group}" if (self.places.control_groups[0] / group).is_dir() else "",
            "CPUQuotaPerSecUSec": "infinity",
            "Type": "notify",
        }

    def processes(self, unit: str) -> list[int]:
        return [pid for pid, each in self.world.processes.items() if each.unit == unit]

    def engines(self) -> list[int]:
        return [pid for pid in self.processes(SERVICE) if self.world.processes[pid].is_engine]

    def process_state(self, pid: int) -> str | None:
        return self.world.processes[pid].state if pid in self.world.processes else None

    def process_start(self, pid: int) -> int:
        return self.world.processes[pid].start if pid in self.world.processes else 0

    def signal(self, pid: int, number: signal.Signals) -> None:
        self.world.change()
        if pid in self.world.processes:
            self.world.processes[pid].state = "T" if number == signal.SIGSTOP else "S"

    def ready(self) -> bool:
        engines = [self.world.processes[pid] for pid in self.engines()]
        return self.world.units[SERVICE] == "active" and any(each.state == "S" for each in engines)

    def service_ports(self) -> set[int]:
        return {8080, 9090}

    def restart_reasons(self) -> list[str]:
        current = self.layout.current_release()
        return [] if self.world.release == current else [f"it runs {self.world.release}"]

    def boot(self) -> tuple[str, float]:
        return self.world.boot, self.world.uptime

    def time(self) -> float:
        return NOW + self.world.uptime - 5000.0 + self.world.skew

    def set_time(self, seconds: float) -> None:
        self.world.change()
        self.world.skew = seconds - (NOW + self.world.uptime - 5000.0)

    def pause(self, seconds: float) -> None:
        self.world.pass_time(seconds)


def places(root: Path) -> Places:
    """The places of a host below a directory."""
    moved: dict[str, Any] = {}
    for name, value in vars(Places()).items():
        if isinstance(value, tuple):
            moved[name] = tuple(root / each.relative_to("/") for each in value)
        else:
            moved[name] = root / value.relative_to("/")
    return replace(Places(), **moved)


def build(root: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A healthy host: a service with an engine, a load balancer, backups and TLS."""
    world = World(root)
    where = places(root)
    for path in (
        *(where.directory.parent, where.program.parent, where.system_units, where.tokens.parent),
        *(where.cache, where.history.parent, where.backup_secrets, where.load_balancer.parent),
        *(where.runtime_units, where.runtime_properties, where.releases, where.nft.parent),
        *(where.proc / "self", where.timer_stamps),
    ):
        path.mkdir(parents=True, exist_ok=True)
    where.program.write_text("")
    where.nft.write_text("")
    where.load_balancer.write_text("{}")
    where.tokens.write_text(json.dumps({"tokens": [{"name": "anna", "sha256": "a" * 64}]}))
    where.tokens.chmod(0o640)
    for name in ("repository", "password"):
        (where.backup_secrets / name).write_text(f"the {name}\n")
        (where.backup_secrets / name).chmod(0o600)
    where.answers.write_bytes(b"".join(bytes([number]) * 4096 for number in range(PAGES)))
    (where.cache / "pocl").mkdir()
    (where.cache / "pocl/kernel").write_bytes(b"compiled")
    (where.proc / "self/mountinfo").write_text("22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n")
    (where.proc / "self/status").write_text("Name:\tpython3\nCapEff:\t000001ffffffffff\n")
    name = _release(where.releases)
    (where.releases / "current").symlink_to(f"releases/{name}")
    history.append(history.Record("2026-11-29T10:00:00Z", "anna", name, None, "new"), where.history)
    history.append(
        history.Record("2026-11-29T10:01:00Z", "anna", name, None, "validated", "good"), where.history
    )
    for unit in (SERVICE, HAPROXY, METRICS):
        world.units[unit] = "inactive"
        world.enabled.add(unit)
        world.start(unit)
    _fake(world, monkeypatch)
    return world


def _release(root: Path) -> str:
    content = {
        "config.json": json.dumps({"server": {"host": "127.0.0.1", "port": 8080}}),
        "analysis.cfg": "maxVisits = 100\n",
        SERVICE: "[Service]\n",
        "venv/bin/katago-mcp": "#!/bin/sh\n",
    }
    scratch = root / "releases" / "scratch"
    for path, text in content.items():
        (scratch / path).parent.mkdir(parents=True, exist_ok=True)
        (scratch / path).write_text(text)
    inputs = {
        "engine_version": "1.18.1",
        "files": {path: digest.of_text(text) for path, text in content.items() if "/" not in path},
        "stands_on": {},
    }
    name = layout.name("0.2.0", inputs)
    manifest = {**inputs, "name": name, "version": "0.2.0", "files": digest.of_tree(scratch)}
    (scratch / layout.MANIFEST).write_text(json.dumps(manifest))
    scratch.rename(root / "releases" / name)
    return name


def _fake(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the changes of files, and fake what steps do with other modules."""
    overlay = places(world.root).overlay

    def lower(request: Any, who: str) -> None:
        document = {"who": who, "why": request.why, "expiresAt": "2026-11-30T12:00:00Z"}
        files.write(overlay, json.dumps(document).encode(), mode=0o644)

    def apply(_: object, document: Any) -> None:
        files.write(overlay, json.dumps(document, indent=1).encode() + b"\n", mode=0o644)

    def counted(module: object, name: str) -> None:
        original = getattr(module, name)

        def change(*arguments: object, **named: object) -> object:
            world.change()
            return original(*arguments, **named)

        monkeypatch.setattr(module, name, change)

    counted(files, "write")
    counted(files, "append")
    counted(files, "link")
    counted(os, "pwrite")
    counted(shutil, "copytree")
    counted(shutil, "copyfile")
    # Nothing here survives a power failure.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(overlay_apply, "lower", lower)
    monkeypatch.setattr(overlay_apply, "apply", apply)
    monkeypatch.setattr(overlay_apply, "disarm", lambda: None)
    monkeypatch.setattr(
        overlay_apply,
        "look",
        lambda: (
            {
                "katago": {"maxConcurrent": 4, "maxVisits": 500, "defaultVisits": 100, "maxTime": 30.0},
                "server": {"maxQueued": 16},
            },
            None,
        ),
    )
    monkeypatch.setattr(
        release_links, "of_host", lambda layout, release: {layout.current: f"releases/{release}"}
    )
    monkeypatch.setattr(step, "mounts", lambda _: _mounted(world))
    # Filling stops after a few files: the file system of the test is large.
    monkeypatch.setattr(steps_files, "MOST_INODES", 3)
    monkeypatch.setattr(steps_files.Full, "_use_bytes", lambda _, filler: (filler / "bytes").touch())


def _mounted(world: World) -> dict[str, list[str]]:
    return {"/": ["/dev/sda1"], **{str(path): [steps_files.MOUNT_SOURCE] for path in world.covered}}


def state(world: World) -> dict[str, object]:
    """Everything on the host that a drill must leave as it was."""
    drill = places(world.root).directory
    ignored = (drill, places(world.root).volatile, places(world.root).history)
    tree = {
        str(path.relative_to(world.root)): _file(path)
        for path in sorted(world.root.rglob("*"))
        if not any(path.is_relative_to(each) for each in ignored) and "/proc/" not in str(path)
    }
    services = sorted(each.unit for each in world.processes.values())
    return {
        **tree,
        "units": {name: active for name, active in world.units.items() if active != "inactive"},
        "enabled": sorted(world.enabled),
        "processes": [services, sorted({each.state for each in world.processes.values()})],
        "tables": dict(world.tables),
        "covered": sorted(world.covered),
        "clock": round(world.skew),
        "release": world.release,
    }


def _file(path: Path) -> object:
    mode = stat.S_IMODE(path.lstat().st_mode)
    if path.is_symlink():
        return str(path.readlink())
    return (mode, path.read_bytes()) if path.is_file() else mode


def asked(fault: str, **parameters: object) -> Asked:
    """A request for a fault."""
    return Asked("2026-11-30-1", fault, 300, parameters)
