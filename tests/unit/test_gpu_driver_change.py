"""What a change of the driver asks of APT and dpkg, what its way back does, and which files are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import gpu_driver, packages
from ansible_collections.katago.fleet.plugins.modules import gpu_driver as gpu_driver_module
from tests.unit.test_gpu_driver import BARE, DEFAULTS

V1, V2 = "535.261.03-1", "1:535.309.01-1"
SETTINGS = replace(DEFAULTS, headers=("linux-headers-amd64",), version="latest", reboot="when_needed")
WANTED = gpu_driver.plan(SETTINGS, BARE).packages
HELD = gpu_driver.held_packages(WANTED)
MINE = [name for name in WANTED if gpu_driver.belongs(name)]
BEFORE = {**dict.fromkeys(MINE, V1), "linux-headers-amd64": "6.1", "ocl-icd-libopencl1": "2", "libc6": "2.36"}


@dataclass
class Host:
    """A host whose APT and dpkg do what they are asked, and tell it."""

    archives: Path
    present: dict[str, str] = field(default_factory=lambda: dict(BEFORE))
    held: set[str] = field(default_factory=lambda: {*HELD, "libc6"})
    asked: list[tuple[str, ...]] = field(default_factory=list)
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def apt(self, *arguments: str, archives: Path, simulate: bool = False) -> str:
        """Carry out an upgrade, which also brings `libnvidia-new` and upgrades `libxcb1`, or a way back."""
        assert archives == self.archives
        self.asked.append((*(("simulate",) if simulate else ()), *arguments))
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
        """What APT prints of the upgrade, or of its new package's removal."""
        if what == "remove":
            return f"Remv libnvidia-new [{V2}]\n"
        lines = [f"Inst {name} [{V1}] ({V2} Debian:12/stable [amd64])" for name in MINE]
        lines += [
            f"Inst libnvidia-new ({V2} Debian:12/stable [amd64])",
            "Inst libxcb1 [1] (2 Debian:12 [amd64])",
        ]
        return "\n".join(lines)

    def run(self, command: Sequence[str]) -> str:
        """Hold packages; the archives have the first version of `libxcb1`, and of the driver the second."""
        self.ran.append(tuple(command))
        if command[0] == "apt-mark":
            change = set(command[2:])
            self.held = self.held | change if command[1] == "hold" else self.held - change
        if command[:2] == ["apt-cache", "madison"]:
            version = "1" if command[2] == "libxcb1" else V2
            return f"{command[2]} | {version} | http://archive.example.org/debian bookworm/main Packages\n"
        return ""

    def known(self) -> packages.Known:
        """What is installed."""
        return packages.Known(self.present, self.present, tuple(sorted(self.held)))

    def keep(self, name: str, version: str) -> str:
        """A package's archive as APT keeps it; its path."""
        path = self.archives / f"{name}_{version.replace(':', '%3a')}_amd64.deb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return str(path)

    @property
    def marks(self) -> list[tuple[str, ...]]:
        """The holds that were put and taken away, in their order."""
        return [command[1:] for command in self.ran if command[0] == "apt-mark"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with the role's driver, whose archives were kept, and the role's files of it."""
    made = Host(tmp_path / "state/archives")
    made.present["libxcb1"] = "1"
    for name in MINE:
        made.keep(name, V1)
    names = ("PREFERENCES", "SOURCES", "STANZAS", "KEYRING", "UNATTENDED", "BLACKLIST", "DROP_IN")
    files = [tmp_path / name for name in names]
    for name, path in zip(names, files, strict=True):
        monkeypatch.setattr(gpu_driver, name, path)
    monkeypatch.setattr(gpu_driver, "STATE", tmp_path / "state")
    monkeypatch.setattr(gpu_driver_module, "RECORD", tmp_path / "state/state.json")
    monkeypatch.setattr(gpu_driver_module, "ARCHIVES", made.archives)
    monkeypatch.setattr(gpu_driver_module, "FILES", files)
    monkeypatch.setattr(gpu_driver_module, "OF_APT", [gpu_driver.PREFERENCES, gpu_driver.SOURCES])
    monkeypatch.setattr(gpu_driver_module, "bootable", list)
    monkeypatch.setattr(gpu_driver_module, "verify_build", lambda _: None)
    monkeypatch.setattr(gpu_driver_module, "look", lambda _: seen(made))
    for name in ("apt", "run", "known"):
        monkeypatch.setattr(packages, name, getattr(made, name))
    gpu_driver.PREFERENCES.write_text("pins of before\n")
    gpu_driver_module.write_record({"held": HELD, "unfinished": False, "components": []})
    return made


def seen(host: Host) -> gpu_driver.Seen:
    """The host as the module looks at it."""
    return replace(
        BARE,
        lacking_components=(),
        installed=host.present,
        held=sorted(host.held),
        available=(V2,),
        record=gpu_driver_module.record(),
    )


def test_upgrade_whose_build_fails_is_taken_back_package_by_package(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise gpu_driver_module.DriverError("not built")

    monkeypatch.setattr(gpu_driver_module, "verify_build", fails)
    continued = gpu_driver_module.prepare(SETTINGS, service=True)
    with pytest.raises(gpu_driver_module.DriverError, match="not built"):
        gpu_driver_module.install(SETTINGS, {}, continued=continued)
    assert host.asked == [("update",), ("simulate", "install", *WANTED), ("install", *WANTED)]
    assert host.marks == [("unhold", *sorted(HELD)), ("hold", *sorted(HELD))]
    assert "pins of before" not in gpu_driver.PREFERENCES.read_text()
    assert gpu_driver_module.record()["service"]
    host.asked.clear()
    host.ran.clear()
    before = {"libxcb1": "1", **dict.fromkeys(sorted(MINE), V1)}
    undone = gpu_driver_module.undo()
    assert undone == {"removed": ["libnvidia-new"], "installed": dict(sorted(before.items())), "lacking": {}}
    kept = {name: str(host.archives / f"{name}_{V1}_amd64.deb") for name in MINE}
    assert host.asked == [
        ("simulate", "remove", "libnvidia-new"),
        ("purge", "libnvidia-new"),
        ("install", *(kept.get(name, f"{name}={version}") for name, version in undone["installed"].items())),
    ]
    assert host.marks == [("hold", *sorted(HELD))]
    assert ("dpkg", "--configure", "-a") in host.ran
    assert host.present == {**BEFORE, "libxcb1": "1"}
    assert host.held == {*HELD, "libc6"}
    assert {str(path) for path in host.archives.iterdir()} == set(kept.values())
    assert gpu_driver.PREFERENCES.read_text() == "pins of before\n"
    assert not any(path.exists() for path in gpu_driver_module.FILES if path != gpu_driver.PREFERENCES)
    assert not gpu_driver_module.record()["unfinished"]
    assert gpu_driver_module.record()["held"] == HELD
    assert gpu_driver_module.undo() == {"removed": [], "installed": {}, "lacking": {}}


def test_upgrade_that_ends_keeps_the_archives_of_this_driver_and_of_the_one_before(host: Host) -> None:
    host.keep("libxcb1", "2")
    host.keep("libcuda1", "535.230.02-1")
    (host.archives / "partial").mkdir()
    continued = gpu_driver_module.prepare(SETTINGS, service=False)
    gpu_driver_module.install(SETTINGS, {}, continued=continued)
    assert gpu_driver_module.finish()
    assert {path.name for path in host.archives.iterdir()} == {
        f"{name}_{version}_amd64.deb" for name in MINE for version in (V1, V2.replace(":", "%3a"))
    }
    assert host.held == {*HELD, "libc6"}
    assert gpu_driver_module.record()["earlier"] == dict.fromkeys(MINE, V1)
    assert not gpu_driver_module.finish()


def test_kept_archive_is_that_of_the_whole_name_and_version(host: Host) -> None:
    path = host.keep("nvidia-smi", V2)
    assert str(packages.archive(host.archives, "nvidia-smi", V2)) == path
    for name, version in (("smi", V2), ("nvidia-smi", "535.309.01-1"), ("nvidia-smi", "1:535.309.01")):
        assert packages.archive(host.archives, name, version) is None


def test_purge_takes_nothing_that_others_need_by_now(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {"dkms": ["dkms", "build-essential"], "nvidia-smi": ["nvidia-smi"]}

    def apt(what: str, *names: str, archives: Path, simulate: bool) -> str:
        assert (what, simulate) == ("remove", True)
        return "".join(f"Remv {each} [1]\n" for name in names for each in needed[name])

    monkeypatch.setattr(packages, "apt", apt)
    assert packages.removable(["dkms", "nvidia-smi"], host.archives) == ["nvidia-smi"]
    assert packages.removable(["nvidia-smi"], host.archives) == ["nvidia-smi"]
    assert packages.removable([], host.archives) == []
