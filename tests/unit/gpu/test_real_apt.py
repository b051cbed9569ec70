"""Runs the real APT on the role's files, in a separate root."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    apt_sources,
    dkms,
    driver_change,
    driver_files,
    driver_inspection,
    driver_packages,
    driver_plan,
    driver_record,
    driver_restore,
    kernels,
    secure_boot,
    texts,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import Record
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings
from ansible_collections.katago.fleet.plugins.modules.gpu_driver_record import record
from tests.unit.gpu import places
from tests.unit.gpu.hosts import BARE, DEFAULTS, THEIRS

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="the machine has no APT")


@dataclass
class Root:
    """A separate root for APT, with archives next to it."""

    path: Path
    relations: dict[str, str] = field(default_factory=dict)
    """Dependencies and conflicts of packages, by `name` or `name=version`."""

    @property
    def etc(self) -> Path:
        """The directory of its sources."""
        return self.path / "etc/apt"

    def archive(
        self, name: str, suite: str, components: dict[str, dict[str, str]], *, codename: str, origin: str
    ) -> str:
        """Create an archive with packages; return its address. `components`: the versions of the packages."""
        top = self.path / name / "dists" / suite
        digests = []
        for component, versions in components.items():
            index = top / component / "binary-amd64/Packages"
            index.parent.mkdir(parents=True)
            index.write_text("\n".join(self.package(*of) for of in versions.items()))
            digest = hashlib.sha256(index.read_bytes()).hexdigest()
            digests.append(f" {digest} {index.stat().st_size} {index.relative_to(top)}")
        (top / "Release").write_text(
            f"Origin: {origin}\nLabel: {origin}\nSuite: stable\nCodename: {codename}\n"
            "Date: Sat, 01 Jan 2022 00:00:00 UTC\n"
            f"Components: {' '.join(components)}\nArchitectures: amd64\nSHA256:\n" + "\n".join(digests) + "\n"
        )
        return f"file:{self.path / name}"

    def source(self, text: str, name: str = "host.list") -> None:
        """Write a file of the host's sources, and update APT's lists."""
        (self.etc / "sources.list.d" / name).write_text(text)
        apt.run(["apt-get", "update"])

    def package(self, name: str, version: str, status: str = "") -> str:
        """A package's paragraph in an index or in dpkg's status."""
        related = self.relations.get(f"{name}={version}", self.relations.get(name, ""))
        where = status or f"Filename: pool/{name}.deb\nSize: 1\nSHA256: {'0' * 64}\n"
        return (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody\n"
            f"{related}{where}Description: none\n"
        )

    def install(self, versions: dict[str, str]) -> None:
        """Mark packages as installed in dpkg's status."""
        self.change([apt.Change(name, "", new) for name, new in versions.items()])

    def change(self, changes: list[apt.Change]) -> None:
        """Apply the changes that APT simulated to dpkg's status."""
        status = self.path / "var/lib/dpkg/status"
        packages = {
            each.partition("\n")[0].removeprefix("Package: "): each
            for each in status.read_text().split("\n\n")
            if each.strip()
        }
        for change in changes:
            selection = "hold" if "\nStatus: hold" in packages.pop(change.name, "") else "install"
            if change.new:
                packages[change.name] = self.package(
                    change.name, change.new, f"Status: {selection} ok installed\n"
                ).rstrip()
        status.write_text("\n\n".join(packages.values()) + "\n")

    def candidate(self, package: str) -> str:
        """The version that APT would install."""
        policy = apt.run(["apt-cache", "policy", package])
        return policy.partition("Candidate: ")[2].splitlines()[0]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Root]:
    """A separate root for APT, with the role's files in it."""
    made = Root(tmp_path / "root")
    for directory in ("sources.list.d", "preferences.d", "keyrings", "apt.conf.d"):
        (made.etc / directory).mkdir(parents=True)
    for directory in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg/updates"):
        (made.path / directory).mkdir(parents=True)
    (made.path / "var/lib/dpkg/status").write_text("")
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir "{made.path}";\nDir::State::status "{made.path}/var/lib/dpkg/status";\n'
        'APT::Architecture "amd64";\nAPT::Architectures {"amd64";};\nAPT::Sandbox::User "root";\n'
        'Acquire::Languages "none";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setenv("DPKG_ADMINDIR", str(made.path / "var/lib/dpkg"))
    places.move(monkeypatch, made.path)
    yield made


def debian(root: Root, *, suite: str = "bookworm") -> str:
    """Debian's archive, from which the host uses main."""
    versions = {"nvidia-kernel-dkms": "535.309.01-1", "firmware-iwlwifi": "1"}
    return root.archive(
        "debian",
        suite,
        {"main": {"libc6": "2.36"}, "non-free": versions},
        codename="bookworm",
        origin="Debian",
    )


def add() -> None:
    """Add the archives of Debian's driver."""
    driver_record.write(Record(components=("non-free",)))
    driver_change.add_sources(DEFAULTS, BARE)


def entries(root: Root, kind: str, suite: str, address: str) -> str:
    """Write the host's own entry of an archive, in one of APT's formats."""
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
@pytest.mark.parametrize("written", ["file:", "file://", "mirror+file://"])
def test_apt_reads_the_hosts_sources_together_with_the_drivers(
    root: Root, kind: str, name: str, suite: str, written: str
) -> None:
    address = debian(root, suite=suite)
    if written.startswith("mirror"):
        mirrors = root.etc / "mirrors.list"
        mirrors.write_text(f"{address}\n")
        address = str(mirrors)
    root.source(entries(root, kind, suite, written + address.removeprefix("file:")), name)
    add()
    assert root.candidate("nvidia-kernel-dkms") == "535.309.01-1"
    assert root.candidate("firmware-iwlwifi") == "(none)"


@pytest.mark.parametrize("codename", ["bookworm", "stable"])
def test_components_of_other_archives_stay_usable(root: Root, codename: str) -> None:
    theirs = root.archive(
        "theirs", "bookworm", {"non-free": {"virtualbox-7.0": "7.0.20"}}, codename=codename, origin="Oracle"
    )
    own = f"deb [trusted=yes] {debian(root)} bookworm main\n"
    secure = root.archive(
        "security",
        "bookworm-security",
        {"main": {"openssl": "3"}, "non-free": {"intel-microcode": "3"}},
        codename="bookworm-security",
        origin="Debian",
    )
    own += f"deb [trusted=yes] {secure} bookworm-security main\n"
    root.source(own + f"deb [trusted=yes] {theirs} bookworm non-free\n")
    add()
    assert root.candidate("virtualbox-7.0") == "7.0.20"
    assert root.candidate("nvidia-kernel-dkms") == "535.309.01-1"
    assert root.candidate("firmware-iwlwifi") == "(none)"
    assert root.candidate("intel-microcode") == "(none)"


def test_sources_that_apt_cannot_read_are_removed_at_once(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = debian(root)
    root.source(f"deb [trusted=yes] {address} bookworm main\n")
    bad = {driver_files.SOURCES: f"deb {address} bookworm non-free\n", driver_files.STANZAS: None}
    monkeypatch.setattr(apt_sources, "sources", lambda *_: bad)
    with pytest.raises(DriverError, match="Conflicting values set for option Trusted"):
        add()
    assert not driver_files.SOURCES.exists()
    assert not driver_files.PREFERENCES.exists()
    apt.run(["apt-get", "update"])


def test_own_sources_that_break_apt_are_detected_and_written_again(root: Root) -> None:
    address = debian(root)
    root.source(f"deb [trusted=yes] {address} bookworm main\n")
    texts.put(driver_files.SOURCES, f"deb {address} bookworm non-free\n")
    with apt_sources.readable_sources() as (trouble, options):
        assert "Conflicting values" in trouble
        archives = apt_sources.archives(apt_sources.index_targets(options))
        assert [each.component for each in archives] == ["main"]
        assert apt.versions("libc6", options) == ["2.36"]
    host = Host(**{**vars(BARE), "sources_trouble": trouble})
    assert "APT cannot read its sources" in " ".join(driver_plan.plan(DEFAULTS, host).because)
    driver_record.write(Record(components=("non-free",)))
    driver_change.add_sources(DEFAULTS, host)
    assert root.candidate("nvidia-kernel-dkms") == "535.309.01-1"


def test_broken_sources_are_not_recorded_for_a_restore(root: Root) -> None:
    texts.put(driver_files.SOURCES, "broken")
    host = Host(**{**vars(BARE), "sources_trouble": "Conflicting values"})
    driver_change.start(host, driver_plan.plan(DEFAULTS, host), service=False)
    assert driver_record.read().files[str(driver_files.SOURCES)] is None


def test_restore_repairs_the_sources_before_it_calls_apt(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    address = debian(root)
    root.source(f"deb [trusted=yes] {address} bookworm main\n")
    driver_change.start(BARE, driver_plan.plan(DEFAULTS, BARE), service=False)
    texts.put(driver_files.SOURCES, f"deb {address} bookworm non-free\n")
    readable: list[str] = []
    monkeypatch.setattr(apt, "hold", lambda *_, **__: readable.append(apt.run(apt_sources.INDEXTARGETS)))
    driver_restore.restore()
    assert readable
    assert not driver_record.read().unfinished
    assert not driver_files.SOURCES.exists()


def test_pins_select_the_planned_nvidia_branch_and_exclude_nvidia_for_debians_driver(root: Root) -> None:
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
        contents = driver_files.contents(
            settings, components=(), version="", branch=driver_packages.branch_of(settings, BARE)
        )
        texts.put(driver_files.PREFERENCES, contents[str(driver_files.PREFERENCES)])
        assert root.candidate("nvidia-kernel-dkms") == version
    offers = apt.offers("nvidia-kernel-dkms")
    archives = apt_sources.archives(apt_sources.index_targets())
    assert [each.version for each in offers if apt_sources.of_nvidia(each.uri, archives, "")] == [
        "595.45.04-1",
        "580.95.05-1",
    ]


HEADERS = replace(DEFAULTS, headers=("linux-headers-amd64",))
WANTED = driver_plan.plan(HEADERS, BARE).packages
V1, V2 = "535.261.03-1", "535.309.01-1"


@pytest.fixture
def host(root: Root, monkeypatch: pytest.MonkeyPatch) -> Root:
    """A host whose package state is updated by what APT simulates."""
    real = apt.get

    def get(*arguments: str, archives: Path, simulate: bool = False) -> str:
        output = real(*arguments, archives=archives, simulate=simulate or arguments[0] != "update")
        if arguments[0] != "update" and not simulate:
            root.change(apt.changes(re.sub("^Purg ", "Remv ", output, flags=re.M)))
        return output

    monkeypatch.setattr(apt, "get", get)
    monkeypatch.setattr(kernels, "bootable", list)
    monkeypatch.setattr(driver_inspection, "inspect", lambda settings: inspected(settings))
    return root


def inspected(settings: Settings) -> Host:
    """The facts of a host with a device, from dpkg and APT."""
    now = apt.query()
    bare = replace(BARE, installed=now.installed, held=now.held, record=driver_record.read())
    dkms = driver_packages.of_driver(settings, bare, driver_packages.branch_of(settings, bare))[0]
    return replace(bare, lacking_components=(), available=apt.versions(dkms))


def offer(root: Root, name: str, versions: dict[str, str]) -> None:
    """Create an archive of the distribution, and its entry in the host's sources."""
    address = root.archive(name, "bookworm", {"main": versions}, codename="bookworm", origin="Debian")
    root.source(f"deb [trusted=yes] {address} bookworm main\n", f"{name}.list")


def driver(version: str) -> dict[str, str]:
    """The driver's packages in one version."""
    return dict.fromkeys(WANTED, version)


def change(settings: Settings) -> None:
    """Change the driver with the role's steps."""
    continued = record(settings, service=False, write=True)["continued"]
    driver_change.install(settings, continued=continued)


def fails(*_: object) -> None:
    """Do nothing, in place of a step."""
    raise DriverError("The module is not built")


def test_restore_keeps_what_others_changed_since_an_interrupted_run(
    host: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.relations["nvidia-kernel-dkms"] = "Depends: dkms, libgcc-s1 (>= 2)\n"
    host.relations["build-essential"] = "Depends: dkms\n"
    offer(host, "old", {"openssl": "3.0.17-1", "libgcc-s1": "1"})
    offer(host, "new", {"openssl": "3.0.17-2", "dkms": "3", "libgcc-s1": "2", **driver(V2)})
    host.install({"openssl": "3.0.17-1", "bash": "5", "libgcc-s1": "1"})
    monkeypatch.setattr(driver_change, "configure", fails)
    with pytest.raises(DriverError, match="is not built"):
        change(HEADERS)
    assert apt.query().installed["nvidia-kernel-dkms"] == V2
    since = {"openssl": "3.0.17-2", "postgresql-15": "15.14", "build-essential": "12", "bash": "5.1"}
    host.install(since)
    apt.hold(["postgresql-15", "nvidia-smi"], held=True)
    with pytest.raises(DriverError, match="is not built"):
        change(HEADERS)
    undone = driver_restore.restore()
    assert set(undone["removed"]) == set(WANTED)
    assert undone["installed"] == {"libgcc-s1": "1"}
    # A package that others installed now depends on dkms.
    assert apt.query().present == {**since, "dkms": "3", "libgcc-s1": "1"}
    assert apt.query().held == ("postgresql-15",)


def test_previous_driver_is_restored_even_if_an_archive_lost_another_package(host: Root) -> None:
    host.relations[f"nvidia-smi={V2}"] = "Depends: zlib1g (>= 2)\n"
    offer(host, "old", driver(V1))
    host.install({"zlib1g": "1", **driver(V1)})
    offer(host, "new", {"zlib1g": "2", **driver(V2)})
    forced = replace(HEADERS, version="latest", reboot="when_needed", force=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(driver_change, "configure", fails)
        with pytest.raises(DriverError, match="is not built"):
            change(forced)
    undone = driver_restore.restore()
    assert undone["lacking"] == {"zlib1g": "1"}
    assert undone["removed"] == []
    assert set(apt.query().installed.items()) == {("zlib1g", "2"), *((name, V1) for name in WANTED)}


UBUNTU = replace(BARE, system="ubuntu", release="24.04", codename="noble", lacking_components=())


def of_ubuntu(branch: str) -> dict[str, str]:
    """Ubuntu's packages of a branch, which conflict with those of other branches."""
    host = replace(UBUNTU, installed={f"nvidia-dkms-{branch}": ""})
    version = f"{branch.partition('-')[0]}.95.05-0ubuntu1"
    others = {"ocl-icd-libopencl1": "1", "linux-headers-amd64": "1"}
    return dict.fromkeys(driver_plan.plan(HEADERS, host).packages, version) | others


def test_branch_is_replaced_despite_the_roles_own_holds_and_a_restore_sets_them_again(
    host: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = of_ubuntu("570-server"), of_ubuntu("580-server")
    for name in (*old, *new):
        if kind := re.match(r"nvidia-\D+", name):
            host.relations[name] = "".join(
                f"{how}: {kind[0]}any\n" for how in ("Provides", "Conflicts", "Replaces")
            )
    offer(host, "archive", old | new)
    host.install({**old, "theirs": "1"})
    ours = driver_packages.held(old)
    apt.hold([*ours, "theirs"], held=True)
    driver_record.write(Record(held=tuple(ours)))
    monkeypatch.setattr(f"{__name__}.BARE", UBUNTU)
    monkeypatch.setattr(driver_change, "verify_build", fails)
    switched = replace(HEADERS, branch="580-server", reboot="when_needed")
    with pytest.raises(DriverError, match="is not built"):
        change(switched)
    assert apt.query().installed == {**new, "theirs": "1"}
    assert apt.query().held == tuple(sorted([*driver_packages.held(new), "theirs"]))
    driver_restore.restore()
    assert apt.query().installed == {**old, "theirs": "1"}
    assert apt.query().held == tuple(sorted([*ours, "theirs"]))
    assert driver_record.read().held == tuple(ours)


def test_source_is_changed_despite_the_roles_own_holds(host: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = "580.95.05-1"
    host.relations[f"libcuda1={newer}"] = "Breaks: nvidia-smi (<< 580)\n"
    host.relations["nvidia-driver-cuda"] = f"Depends: libcuda1 (= {newer})\n"
    offer(host, "debian", driver(V2))
    theirs = dict.fromkeys((*driver_plan.plan(THEIRS, BARE).packages, "libcuda1"), newer)
    offered = host.archive("nvidia", "cuda", {"main": theirs}, codename="cuda", origin="NVIDIA")
    host.install(driver(V2))
    ours = driver_packages.held(WANTED)
    apt.hold(ours, held=True)
    driver_record.write(Record(held=tuple(ours)))
    line = f"deb [trusted=yes] {offered} cuda main\n"
    monkeypatch.setattr(apt_sources, "nvidia_source", lambda *_: line)
    monkeypatch.setattr(driver_change, "verify_build", lambda _: None)
    theirs_wanted = replace(THEIRS, headers=HEADERS.headers, branch="580", reboot="when_needed")
    change(replace(theirs_wanted, key="armoured"))
    now = apt.query().installed
    assert (now["libcuda1"], now["nvidia-driver-cuda"]) == (newer, newer)
    assert "nvidia-smi" not in now


def test_change_is_refused_if_apt_would_not_install_the_requested_version(host: Root) -> None:
    offer(host, "archive", driver(V2))
    settings = replace(HEADERS, version="535.261.03")
    with pytest.raises(DriverError, match=r"Available: 535\.309\.01-1"):
        change(settings)
    bare = replace(inspected(settings), lacking_components=("non-free",))
    plan = driver_plan.plan(settings, bare)
    driver_change.start(bare, plan, service=False)
    texts.put(
        driver_files.PREFERENCES,
        driver_files.contents(settings, components=(), version="535.261.03", branch="535")[
            str(driver_files.PREFERENCES)
        ],
    )
    changes = apt.simulate(plan.packages, driver_record.ARCHIVES)
    with pytest.raises(DriverError, match=r"branch, source or version: nvidia-kernel-dkms 535\.309\.01-1"):
        driver_change.check_branch(changes, plan, inspected(settings), {}, version=settings.version)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="the machine makes no packages")
def test_earlier_version_is_kept_and_installed_again_when_no_archive_has_it(
    host: Root, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(driver_change, "verify_build", lambda _: None)
    mine = [name for name in WANTED if driver_packages.belongs(name)]
    for version in ("535.230.02-1", V1, V2):
        others = {name: "1" for name in WANTED if name not in mine}
        offer(host, f"archive{version}", {**others, **dict.fromkeys(mine, version)})
        change(replace(HEADERS, version="latest", reboot="when_needed"))
        for name in mine:
            keep(host, tmp_path, name, version)
        driver_restore.finish()
        (host.etc / f"sources.list.d/archive{version}.list").unlink()
    left = {path.name for path in driver_record.ARCHIVES.glob("*.deb")}
    assert left == {f"{name}_{version}_amd64.deb" for name in mine for version in (V1, V2)}
    for version, of in (("535.261.03", V1), ("535.309.01", V2)):
        change(replace(HEADERS, version=version, reboot="when_needed"))
        driver_restore.finish()
        assert {apt.query().installed[name] for name in mine} == {of}
    assert {path.name for path in driver_record.ARCHIVES.glob("*.deb")} == left


def keep(root: Root, at: Path, name: str, version: str) -> None:
    """Create a kept archive of a package, as APT leaves it."""
    control = at / "made/DEBIAN/control"
    control.parent.mkdir(parents=True, exist_ok=True)
    control.write_text(root.package(name, version, "Section: misc\n"))
    driver_record.ARCHIVES.mkdir(parents=True, exist_ok=True)
    apt.run(
        [
            "dpkg-deb",
            "--root-owner-group",
            "--build",
            str(at / "made"),
            str(driver_record.ARCHIVES / f"{name}_{version}_amd64.deb"),
        ]
    )


def test_headers_count_as_missing_only_if_apt_has_read_its_archives(root: Root) -> None:
    images = ["linux-image-6.1.0-56-amd64", "linux-image-6.1.0-57-amd64", "linux-image-amd64"]
    versions = {"linux-headers-6.1.0-57-amd64": "6.1.193-1", "linux-headers-amd64": "6.1.193-1"}
    address = root.archive("debian", "bookworm", {"main": versions}, codename="bookworm", origin="Debian")

    def known() -> dict[str, tuple[str, ...]]:
        own = apt_sources.own_archives(apt_sources.archives(apt_sources.index_targets()), "bookworm")
        return apt_sources.header_versions(images, own, ())

    (root.etc / "sources.list.d/host.list").write_text(f"deb [trusted=yes] {address} bookworm main\n")
    assert known() == {"linux-headers-amd64": ()}
    apt.run(["apt-get", "update"])
    assert known() == {
        "linux-headers-6.1.0-56-amd64": (),
        "linux-headers-6.1.0-57-amd64": ("6.1.193-1",),
        "linux-headers-amd64": ("6.1.193-1",),
    }


NOBLE = """\
PRETTY_NAME="Ubuntu 24.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
"""


@pytest.mark.parametrize(
    ("components", "fits"),
    [("main restricted universe multiverse", True), ("main universe", False)],
)
def test_host_with_ubuntus_own_sources_is_inspected_and_planned_for(
    components: str, fits: bool, root: Root, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = "580.95.05-0ubuntu0.24.04.2"
    archive = root.archive(
        "ubuntu",
        "noble",
        {
            "main": {"libc6": "2.39-0ubuntu8.6", "linux-headers-6.8.0-85-generic": "6.8.0-85.85"},
            "restricted": dict.fromkeys(("nvidia-dkms-580-server", "nvidia-utils-580-server"), driver),
            "universe": {"ocl-icd-libopencl1": "2.3.2-1build1"},
            "multiverse": {"unrar": "1:7.0.7-1build1"},
        },
        codename="noble",
        origin="Ubuntu",
    )
    root.source(
        f"Types: deb\nURIs: {archive}\nSuites: noble\nComponents: {components}\nTrusted: yes\n"
        "# As the installer of Ubuntu 24.04 writes them.\n",
        "ubuntu.sources",
    )
    root.install({"linux-image-6.8.0-85-generic": "6.8.0-85.85"})
    (tmp_path / "os-release").write_text(NOBLE)
    monkeypatch.setattr(paths, "OS_RELEASE", tmp_path / "os-release")
    monkeypatch.setattr(paths, "PCI_DEVICES", tmp_path)
    monkeypatch.setattr(paths, "KERNEL_MODULES", tmp_path)
    monkeypatch.setattr(paths, "NVIDIA_VERSION", tmp_path / "version")
    monkeypatch.setattr(kernels, "bootable", lambda: ["6.8.0-85-generic"])
    monkeypatch.setattr(platform, "release", lambda: "6.8.0-85-generic")
    monkeypatch.setattr(driver_inspection, "free_mb", lambda _: 9000)
    monkeypatch.setattr(driver_inspection, "persistence", lambda: None)
    monkeypatch.setattr(secure_boot, "enabled", lambda: False)
    monkeypatch.setattr(dkms, "built", dict)
    settings = Settings(devices=({"vendor": "nvidia", "device": "2235"},), expected=0)
    host = driver_inspection.inspect(settings)
    assert (host.system, host.release, host.codename) == ("ubuntu", "24.04", "noble")
    assert host.system_name == "Ubuntu 24.04.3 LTS (ubuntu 24.04)"
    assert set(host.components) == set(components.split())
    plan = driver_plan.plan(settings, host)
    assert plan.branch == "580-server"
    assert plan.components == ()
    assert plan.unknown
    if fits:
        assert host.available == (driver,)
        assert plan.problems == ()
    else:
        (problem,) = plan.problems
        assert "APT does not know nvidia-dkms-580-server" in problem
        assert "add-apt-repository --yes restricted" in problem
