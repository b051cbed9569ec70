"""What APT itself says of the files that the role gives it, in a root of its own."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import gpu_driver, packages
from ansible_collections.katago.fleet.plugins.modules import gpu_driver as module
from tests.unit.test_gpu_driver import BARE, DEFAULTS, THEIRS

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="the machine has no APT")
NAMES = ("PREFERENCES", "SOURCES", "STANZAS", "KEYRING", "UNATTENDED", "BLACKLIST", "DROP_IN")


@dataclass
class Root:
    """A root of APT with archives beside it."""

    path: Path

    @property
    def etc(self) -> Path:
        """Where its sources are."""
        return self.path / "etc/apt"

    def archive(
        self, name: str, suite: str, components: dict[str, dict[str, str]], *, codename: str, origin: str
    ) -> str:
        """An archive with packages, `components` gives their versions; its address."""
        top = self.path / name / "dists" / suite
        digests = []
        for component, versions in components.items():
            index = top / component / "binary-amd64/Packages"
            index.parent.mkdir(parents=True)
            index.write_text("\n".join(map(_package, versions.items())))
            digest = hashlib.sha256(index.read_bytes()).hexdigest()
            digests.append(f" {digest} {index.stat().st_size} {index.relative_to(top)}")
        (top / "Release").write_text(
            f"Origin: {origin}\nLabel: {origin}\nSuite: stable\nCodename: {codename}\n"
            "Date: Sat, 01 Jan 2022 00:00:00 UTC\n"
            f"Components: {' '.join(components)}\nArchitectures: amd64\nSHA256:\n" + "\n".join(digests) + "\n"
        )
        return f"file:{self.path / name}"

    def source(self, text: str, name: str = "host.list") -> None:
        """Write a file of the host's sources, and have APT read it."""
        (self.etc / "sources.list.d" / name).write_text(text)
        packages.run(["apt-get", "update"])

    def candidate(self, package: str) -> str:
        """The version that APT would install."""
        policy = packages.run(["apt-cache", "policy", package])
        return policy.partition("Candidate: ")[2].splitlines()[0]


def _package(of: tuple[str, str]) -> str:
    name, version = of
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody\n"
        f"Filename: pool/{name}.deb\nSize: 1\nSHA256: {'0' * 64}\nDescription: none\n"
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Root]:
    """A root of APT, and the module's files in it."""
    made = Root(tmp_path / "root")
    for directory in ("sources.list.d", "preferences.d", "keyrings", "apt.conf.d"):
        (made.etc / directory).mkdir(parents=True)
    for directory in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg"):
        (made.path / directory).mkdir(parents=True)
    (made.path / "var/lib/dpkg/status").write_text("")
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir "{made.path}";\nDir::State::status "{made.path}/var/lib/dpkg/status";\n'
        'APT::Architecture "amd64";\nAPT::Architectures {"amd64";};\nAPT::Sandbox::User "root";\n'
        'Acquire::Languages "none";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    places = {name: made.path / str(getattr(gpu_driver, name)).lstrip("/") for name in NAMES}
    for name, place in places.items():
        monkeypatch.setattr(gpu_driver, name, place)
    monkeypatch.setattr(module, "APT", made.etc)
    monkeypatch.setattr(
        module, "OF_APT", tuple(places[name] for name in ("KEYRING", "SOURCES", "STANZAS", "PREFERENCES"))
    )
    monkeypatch.setattr(module, "FILES", tuple(places.values()))
    monkeypatch.setattr(gpu_driver, "STATE", tmp_path / "state")
    monkeypatch.setattr(module, "RECORD", tmp_path / "state/state.json")
    monkeypatch.setattr(module, "ARCHIVES", tmp_path / "state/archives")
    yield made


def debian(root: Root, *, suite: str = "bookworm") -> str:
    """Debian's archive, of which the host takes main."""
    versions = {"nvidia-kernel-dkms": "535.309.01-1", "firmware-iwlwifi": "1"}
    return root.archive(
        "debian",
        suite,
        {"main": {"libc6": "2.36"}, "non-free": versions},
        codename="bookworm",
        origin="Debian",
    )


def add(**record: Any) -> None:
    """Add the archives of Debian's driver."""
    module.write_record({"components": ["non-free"], **record})
    module.add_sources(DEFAULTS, {}, BARE)


def entries(root: Root, kind: str, suite: str, address: str) -> str:
    """A host's own entry of an archive, in each form that APT knows."""
    if kind == "trusted":
        return f"deb [trusted=yes] {address} {suite} main\n"
    inline = "".join(f" {line}\n" for line in ARMOURED.splitlines())
    return (
        f"Types: deb\nURIs: {address}\nSuites: {suite}\nComponents: main\nTrusted: yes\nSigned-By:\n{inline}"
    )


ARMOURED = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----
.
mDMEYxampleAAAA
-----END PGP PUBLIC KEY BLOCK-----
"""


@pytest.mark.parametrize(("kind", "name"), [("trusted", "host.list"), ("inline", "host.sources")])
@pytest.mark.parametrize("suite", ["bookworm", "stable"])
def test_apt_reads_the_hosts_sources_with_those_of_the_driver(
    root: Root, kind: str, name: str, suite: str
) -> None:
    root.source(entries(root, kind, suite, debian(root, suite=suite)), name)
    add()
    assert root.candidate("nvidia-kernel-dkms") == "535.309.01-1"
    assert root.candidate("firmware-iwlwifi") == "(none)"


def test_sources_that_apt_cannot_read_are_taken_back_at_once(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = debian(root)
    root.source(f"deb [trusted=yes] {address} bookworm main\n")
    bad = {gpu_driver.SOURCES: f"deb {address} bookworm non-free\n", gpu_driver.STANZAS: None}
    monkeypatch.setattr(gpu_driver, "sources", lambda *_: bad)
    with pytest.raises(module.DriverError, match="Conflicting values set for option Trusted"):
        add()
    assert not gpu_driver.SOURCES.exists()
    assert not gpu_driver.PREFERENCES.exists()
    packages.run(["apt-get", "update"])


def test_own_sources_that_break_apt_are_seen_and_written_anew(root: Root) -> None:
    address = debian(root)
    root.source(f"deb [trusted=yes] {address} bookworm main\n")
    module.put(gpu_driver.SOURCES, f"deb {address} bookworm non-free\n")
    with module.readable_sources() as (trouble, options):
        assert "Conflicting values" in trouble
        found = gpu_driver.archives(module.index_targets(options))
        assert [each.component for each in found] == ["main"]
        assert packages.versions("libc6", options) == ["2.36"]
    host = gpu_driver.Seen(**{**vars(BARE), "sources_trouble": trouble})
    assert "APT reads no source" in " ".join(gpu_driver.plan(DEFAULTS, host).because)
    module.write_record({"components": ["non-free"]})
    module.add_sources(DEFAULTS, {}, host)
    assert root.candidate("nvidia-kernel-dkms") == "535.309.01-1"


def test_broken_sources_are_not_recorded_as_those_to_go_back_to(root: Root) -> None:
    module.put(gpu_driver.SOURCES, "broken")
    host = gpu_driver.Seen(**{**vars(BARE), "sources_trouble": "Conflicting values"})
    module.begin(DEFAULTS, host, gpu_driver.plan(DEFAULTS, host), service=False)
    assert module.record()["files"][str(gpu_driver.SOURCES)] is None


def test_way_back_mends_the_sources_before_it_asks_apt(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    address = debian(root)
    root.source(f"deb [trusted=yes] {address} bookworm main\n")
    module.begin(DEFAULTS, BARE, gpu_driver.plan(DEFAULTS, BARE), service=False)
    module.put(gpu_driver.SOURCES, f"deb {address} bookworm non-free\n")
    readable: list[str] = []
    monkeypatch.setattr(
        packages, "hold", lambda *_, **__: readable.append(packages.run(gpu_driver.INDEXTARGETS))
    )
    module.undo()
    assert readable
    assert not module.record()["unfinished"]
    assert not gpu_driver.SOURCES.exists()


def test_apt_takes_the_planned_branch_of_nvidias_and_nothing_of_theirs_for_debians(root: Root) -> None:
    theirs = root.archive(
        "nvidia", "cuda", {"main": {"nvidia-kernel-dkms": "595.45.04-1"}}, codename="cuda", origin="NVIDIA"
    )
    older = root.archive(
        "older", "cuda", {"main": {"nvidia-kernel-dkms": "580.95.05-1"}}, codename="cuda", origin="NVIDIA"
    )
    own = f"deb [trusted=yes] {debian(root)} bookworm main non-free\n"
    root.source(own + f"deb [trusted=yes] {theirs} cuda main\ndeb [trusted=yes] {older} cuda main\n")
    assert root.candidate("nvidia-kernel-dkms") == "595.45.04-1"
    for settings, version in ((THEIRS, "580.95.05-1"), (DEFAULTS, "535.309.01-1")):
        texts = gpu_driver.files(
            settings, components=(), version="", branch=gpu_driver.branch_of(settings, BARE)
        )
        module.put(gpu_driver.PREFERENCES, texts[str(gpu_driver.PREFERENCES)])
        assert root.candidate("nvidia-kernel-dkms") == version
    offers = packages.offers("nvidia-kernel-dkms")
    archives = gpu_driver.archives(module.index_targets())
    assert [each.version for each in offers if gpu_driver.of_nvidia(each.uri, archives, "")] == [
        "595.45.04-1",
        "580.95.05-1",
    ]


def test_headers_are_known_to_be_gone_only_where_apt_has_read_its_archives(root: Root) -> None:
    images = ["linux-image-6.1.0-56-amd64", "linux-image-6.1.0-57-amd64", "linux-image-amd64"]
    versions = {"linux-headers-6.1.0-57-amd64": "6.1.193-1", "linux-headers-amd64": "6.1.193-1"}
    address = root.archive("debian", "bookworm", {"main": versions}, codename="bookworm", origin="Debian")

    def known() -> dict[str, tuple[str, ...]]:
        own = gpu_driver.own_archives(gpu_driver.archives(module.index_targets()), "bookworm")
        return module.header_versions(images, own, ())

    (root.etc / "sources.list.d/host.list").write_text(f"deb [trusted=yes] {address} bookworm main\n")
    assert known() == {"linux-headers-amd64": ()}
    packages.run(["apt-get", "update"])
    assert known() == {
        "linux-headers-6.1.0-56-amd64": (),
        "linux-headers-6.1.0-57-amd64": ("6.1.193-1",),
        "linux-headers-amd64": ("6.1.193-1",),
    }
