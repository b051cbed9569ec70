"""A driver change and its restore: the calls of APT and dpkg, and the remaining files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_change,
    driver_files,
    driver_inspection,
    driver_packages,
    driver_plan,
    driver_record,
    driver_restore,
    kernels,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import Record
from ansible_collections.katago.fleet.plugins.modules.gpu_driver_record import record
from tests.unit.gpu import places
from tests.unit.gpu.hosts import BARE, DEFAULTS

V1, V2 = "535.261.03-1", "1:535.309.01-1"
SETTINGS = replace(DEFAULTS, headers=("linux-headers-amd64",), version="latest", reboot="when_needed")
WANTED = driver_plan.plan(SETTINGS, BARE).packages
HELD = driver_packages.held(WANTED)
MINE = [name for name in WANTED if driver_packages.belongs(name)]
BEFORE = {**dict.fromkeys(MINE, V1), "linux-headers-amd64": "6.1", "ocl-icd-libopencl1": "2", "libc6": "2.36"}


@dataclass
class Machine:
    """A host with fake APT and dpkg, which log their calls."""

    archives: Path
    present: dict[str, str] = field(default_factory=lambda: dict(BEFORE))
    held: set[str] = field(default_factory=lambda: {*HELD, "libc6"})
    calls: list[tuple[str, ...]] = field(default_factory=list)
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def get(self, *arguments: str, archives: Path, simulate: bool = False) -> str:
        """Run an upgrade, which also installs `libnvidia-new` and upgrades `libxcb1`, or run a restore."""
        assert archives == self.archives
        self.calls.append((*(("simulate",) if simulate else ()), *arguments))
        if simulate:
            return self.simulated(arguments[0])
        if arguments == ("install", *WANTED):
            self.present |= {**dict.fromkeys(MINE, V2), "libnvidia-new": V2, "libxcb1": "2"}
            for name in MINE:
                self.keep(name, V2)
        elif arguments[0] == "purge":
            self.present = {name: old for name, old in self.present.items() if name not in arguments}
        elif arguments[0] == "install":
            for argument in arguments[1:]:
                name, version = argument.split("=") if "=" in argument else Path(argument).name.split("_")[:2]
                self.present[name] = version
        return ""

    def simulated(self, what: str) -> str:
        """APT's output for the upgrade, or for the removal of its new package."""
        if what == "remove":
            return f"Remv libnvidia-new [{V2}]\n"
        lines = [f"Inst {name} [{V1}] ({V2} Debian:12/stable [amd64])" for name in MINE]
        lines += [
            f"Inst libnvidia-new ({V2} Debian:12/stable [amd64])",
            "Inst libxcb1 [1] (2 Debian:12 [amd64])",
        ]
        return "\n".join(lines)

    def run(self, command: Sequence[str]) -> str:
        """Hold packages. The archives have the first version of `libxcb1` and the second of the driver."""
        self.ran.append(tuple(command))
        if command[0] == "apt-mark":
            change = set(command[2:])
            self.held = self.held | change if command[1] == "hold" else self.held - change
        if command[:2] == ["apt-cache", "madison"]:
            version = "1" if command[2] == "libxcb1" else V2
            return f"{command[2]} | {version} | http://archive.example.org/debian bookworm/main Packages\n"
        return ""

    def query(self) -> apt.Packages:
        """The installed packages."""
        return apt.Packages(self.present, self.present, tuple(sorted(self.held)))

    def keep(self, name: str, version: str) -> str:
        """Create a package's archive where APT keeps it; return its path."""
        path = self.archives / f"{name}_{version.replace(':', '%3a')}_amd64.deb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return str(path)

    @property
    def marks(self) -> list[tuple[str, ...]]:
        """The holds that were set and removed, in order."""
        return [command[1:] for command in self.ran if command[0] == "apt-mark"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A host with a driver that the role installed, its kept archives and the role's files."""
    made = Machine(tmp_path / "var/lib/katago-gpu-driver/archives")
    made.present["libxcb1"] = "1"
    for name in MINE:
        made.keep(name, V1)
    places.move(monkeypatch, tmp_path)
    monkeypatch.setattr(kernels, "bootable", list)
    monkeypatch.setattr(driver_change, "verify_build", lambda _: None)
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: inspected(made))
    for name in ("get", "run", "query"):
        monkeypatch.setattr(apt, name, getattr(made, name))
    driver_files.PREFERENCES.write_text("previous pins\n")
    driver_record.write(Record(held=tuple(HELD)))
    return made


def inspected(machine: Machine) -> Host:
    """The host's facts."""
    return replace(
        BARE,
        lacking_components=(),
        installed=machine.present,
        held=sorted(machine.held),
        available=(V2,),
        record=driver_record.read(),
    )


def test_every_package_is_restored_after_a_failed_build(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise DriverError("not built")

    monkeypatch.setattr(driver_change, "verify_build", fails)
    continued = record(SETTINGS, service=True, write=True)["continued"]
    with pytest.raises(DriverError, match="not built"):
        driver_change.install(SETTINGS, continued=continued)
    assert machine.calls == [("update",), ("simulate", "install", *WANTED), ("install", *WANTED)]
    assert machine.marks == [("unhold", *sorted(HELD)), ("hold", *sorted(HELD))]
    assert "previous pins" not in driver_files.PREFERENCES.read_text()
    assert driver_record.read().service
    machine.calls.clear()
    machine.ran.clear()
    before = {"libxcb1": "1", **dict.fromkeys(sorted(MINE), V1)}
    undone = driver_restore.restore()
    assert undone == {"removed": ["libnvidia-new"], "installed": dict(sorted(before.items())), "lacking": {}}
    kept = {name: str(machine.archives / f"{name}_{V1}_amd64.deb") for name in MINE}
    assert machine.calls == [
        ("simulate", "remove", "libnvidia-new"),
        ("purge", "libnvidia-new"),
        ("install", *(kept.get(name, f"{name}={version}") for name, version in undone["installed"].items())),
    ]
    assert machine.marks == [("hold", *sorted(HELD))]
    assert ("dpkg", "--configure", "-a") in machine.ran
    assert machine.present == {**BEFORE, "libxcb1": "1"}
    assert machine.held == {*HELD, "libc6"}
    assert {str(path) for path in machine.archives.iterdir()} == set(kept.values())
    assert driver_files.PREFERENCES.read_text() == "previous pins\n"
    assert not any(path.exists() for path in driver_files.FILES if path != driver_files.PREFERENCES)
    assert not driver_record.read().unfinished
    assert driver_record.read().held == tuple(HELD)
    assert driver_restore.restore() == {"removed": [], "installed": {}, "lacking": {}}


def test_finished_upgrade_keeps_the_archives_of_the_new_and_the_previous_driver(machine: Machine) -> None:
    machine.keep("libxcb1", "2")
    machine.keep("libcuda1", "535.230.02-1")
    (machine.archives / "partial").mkdir()
    continued = record(SETTINGS, service=False, write=True)["continued"]
    driver_change.install(SETTINGS, continued=continued)
    assert driver_restore.finish()
    assert {path.name for path in machine.archives.iterdir()} == {
        f"{name}_{version}_amd64.deb" for name in MINE for version in (V1, V2.replace(":", "%3a"))
    }
    assert machine.held == {*HELD, "libc6"}
    assert driver_record.read().earlier == dict.fromkeys(MINE, V1)
    assert not driver_restore.finish()


def test_kept_archive_must_match_the_full_name_and_version(machine: Machine) -> None:
    path = machine.keep("nvidia-smi", V2)
    assert str(apt.archive(machine.archives, "nvidia-smi", V2)) == path
    for name, version in (("smi", V2), ("nvidia-smi", "535.309.01-1"), ("nvidia-smi", "1:535.309.01")):
        assert apt.archive(machine.archives, name, version) is None


def test_purge_keeps_packages_that_others_now_depend_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {"dkms": ["dkms", "build-essential"], "nvidia-smi": ["nvidia-smi"]}

    def get(what: str, *names: str, archives: Path, simulate: bool) -> str:
        assert (what, simulate) == ("remove", True)
        return "".join(f"Remv {each} [1]\n" for name in names for each in needed[name])

    monkeypatch.setattr(apt, "get", get)
    assert apt.removable(["dkms", "nvidia-smi"], machine.archives) == ["nvidia-smi"]
    assert apt.removable(["nvidia-smi"], machine.archives) == ["nvidia-smi"]
    assert apt.removable([], machine.archives) == []
