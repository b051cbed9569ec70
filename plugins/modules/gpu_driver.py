#!/usr/bin/python
"""Installs, verifies and takes back the driver of a host's GPU."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver
short_description: The driver of a host's GPU, step by step
description:
  - C(look) tells whose GPU there is. C(plan) looks at the PCI bus, the kernel and the packages, and says
    what would be done. It changes nothing, and refuses what cannot work, with the plan.
  - C(begin) records what is there, and whether the service ran, before anything is changed or stopped. The
    record of a run that was interrupted is kept.
  - C(install) adds what the package sources lack, has APT say what it would do, installs, pins and holds
    the packages, keeps nouveau off, and verifies that the module is built for the kernel that will boot.
    A run that was interrupted is continued.
  - C(load) loads the module and tells whether a reboot is needed. C(verify) asks C(nvidia-smi),
    and of AMD's and Intel's cards looks for the render nodes.
  - C(query) has the engine of the current release analyse once in the service's sandbox, and looks for a
    device in what it says. A host without a release, or whose engine does without a GPU, is not asked.
  - C(undo) brings back the packages and files of before. C(finish) ends the change.
options:
  step:
    description: What is done.
    type: str
    choices: [look, plan, begin, install, load, verify, query, undo, finish]
    default: plan
  settings:
    description: What is wanted, the role's variables without their prefix.
    type: dict
    default: {}
    suboptions:
      vendor:
        description: Whose GPUs are used; C(auto) takes those on the bus, C(none) makes it a CPU host.
        type: str
        choices: [auto, nvidia, amd, intel, none]
        default: auto
      devices:
        description: GPUs in place of those on the bus; C(vendor) and C(device) of each.
        type: list
        elements: dict
        default: []
      expected_devices:
        description:
          - How many devices C(nvidia-smi) must name, or of AMD's and Intel's have a render node.
          - -1 for as many as there are, 0 asks none.
        type: int
        default: -1
      source:
        description: Where NVIDIA's driver comes from.
        type: str
        choices: [distribution, nvidia]
        default: distribution
      repository:
        description: C(url) of NVIDIA's repository or a mirror, and C(key), the armoured key that signs it.
        type: dict
        default: {}
      kernel_module:
        description: Which of NVIDIA's kernel modules.
        type: str
        choices: [proprietary, open]
        default: proprietary
      branch:
        description: The driver's branch; the system's own when it is empty.
        type: str
        default: ""
      version:
        description: The driver's version; empty keeps what is installed, C(latest) is the branch's newest.
        type: str
        default: ""
      opencl:
        description: Which OpenCL for a GPU of AMD or Intel.
        type: str
        default: ""
      headers:
        description: Packages with the kernels' headers, where the host's kernels belong to no package.
        type: list
        elements: str
        default: []
      reboot:
        description: Whether the host may be rebooted.
        type: str
        choices: [never, when_needed]
        default: never
      force:
        description: Try a combination that is known to fail, or a change whose way back no archive has.
        type: bool
        default: false
  service:
    description: Whether the service ran when the change was begun, for C(begin).
    type: bool
    default: false
  continued:
    description: Whether the change is one that an earlier run began, for C(install).
    type: bool
    default: false
  names:
    description: The names of the devices of which the engine must use one, for C(query).
    type: list
    elements: str
    default: []
  vendor:
    description: Whose devices they are, for C(query); of AMD's and Intel's the engine may use any.
    type: str
    choices: [nvidia, amd, intel]
    default: nvidia
  sandbox:
    description: The systemd directives of the service's sandbox, for C(query).
    type: dict
    default: {}
  root:
    description: Where releases are kept on the host.
    type: path
    default: /opt/katago-mcp
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: What the host's GPU needs is known
  katago.fleet.gpu_driver:
    step: plan
    settings: {reboot: when_needed}
"""

RETURN = r"""
plan:
  description:
    - "The plan: vendor, devices, target, kernel, driver_in_use, loaded, installed, packages, because, reboot,
      problems, acts, stops_service, and C(text) for operators."
  type: dict
  returned: C(step=plan), C(step=install)
vendor:
  description: Whose GPU there is, C(none) without one.
  type: str
  returned: C(step=look), C(step=verify)
service:
  description: Whether the service ran before an interrupted change; null when none was.
  type: bool
  returned: C(step=plan)
reboot:
  description: Why a reboot is needed; empty when it is not.
  type: str
  returned: C(step=plan), C(step=load), C(step=undo)
continued:
  description: Whether an earlier run had begun the change.
  type: bool
  returned: C(step=begin)
cards:
  description: What C(nvidia-smi) says of each device; C(name) of each of AMD's and Intel's.
  type: list
  elements: dict
  returned: C(step=verify)
nodes:
  description: The device nodes that an engine needs.
  type: list
  elements: str
  returned: C(step=verify)
queried:
  description: Which release's engine answered on which device, or why none was asked.
  type: str
  returned: C(step=query)
undone:
  description: The packages that were removed, those that were put back, and those that no archive has.
  type: dict
  returned: C(step=undo)
"""

import contextlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import gpu, gpu_driver, packages
from ansible_collections.katago.fleet.plugins.module_utils.common import commands, files, systemd_run
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout

RECORD = gpu_driver.STATE / "state.json"
ARCHIVES = gpu_driver.STATE / "archives"
# What APT reads before it does anything.
OF_APT = (gpu_driver.KEYRING, gpu_driver.SOURCES, gpu_driver.STANZAS, gpu_driver.PREFERENCES)
APT = Path("/etc/apt")
FILES = (*OF_APT, gpu_driver.UNATTENDED, gpu_driver.BLACKLIST, gpu_driver.DROP_IN)
SMI_SECONDS = 60
QUERY = {
    "id": "gpu",
    "rules": "japanese",
    "komi": 6.5,
    "boardXSize": 19,
    "boardYSize": 19,
    "moves": [],
    "maxVisits": 2,
}
QUERY_SECONDS = 300
QUERY_UNIT = "katago-gpu-query.service"
QUERY_CACHE = Path("/var/cache/katago-gpu-query")
MODULES = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")
PERSISTENCED = "nvidia-persistenced.service"
SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
FRAMEWORK = Path("/etc/dkms")
UVM = gpu.DEV / "nvidia-uvm"


class DriverError(Exception):
    """A step failed; the message says what was seen. `refused`: nothing was left changed."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


def ask(command: Sequence[str], seconds: float = SMI_SECONDS) -> tuple[int, str]:
    """As `asking.ask`: none of these programs may hold up the run."""
    return commands.ask(command, seconds)


def record() -> dict[str, Any]:
    """What was recorded of the last change; {} when there was none."""
    try:
        found: dict[str, Any] = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return {}
    return found


def write_record(content: Mapping[str, Any]) -> None:
    """Replace the record."""
    gpu_driver.STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.write(RECORD, (json.dumps(content, indent=1) + "\n").encode(), mode=0o644)


def read(path: Path) -> str | None:
    """A file's text; None when there is none."""
    try:
        return path.read_text()
    except OSError:
        return None


def put(path: Path, text: str | None) -> None:
    """Write a file, or remove it."""
    if text is None:
        path.unlink(missing_ok=True)
    elif read(path) != text:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        files.write(path, text.encode(), mode=0o644)


def secure_boot() -> bool | None:
    """Whether Secure Boot is on; None where it cannot be told."""
    try:
        # Four bytes of attributes come before the value.
        return SECURE_BOOT.read_bytes()[4] == 1
    except (OSError, IndexError):
        return None


def signing_key(system: str) -> tuple[str, gpu_driver.KeyState]:
    """The certificate of the key that DKMS signs with, and what the firmware has of it."""
    parts = sorted((FRAMEWORK / "framework.conf.d").glob("*.conf"))
    texts = [read(path) or "" for path in (FRAMEWORK / "framework.conf", *parts)]
    key = gpu_driver.signing_certificate(system, texts)
    if not Path(key).exists():
        return key, "missing"
    return key, gpu_driver.key_state(*ask(["mokutil", "--test-key", key]))


def persistence() -> bool | None:
    """Whether the daemon that keeps the driver loaded is enabled and runs; None where there is none."""
    status, words = ask(["systemctl", "is-enabled", PERSISTENCED])
    if status and words.strip() != "disabled":
        return None
    return status == 0 and ask(["systemctl", "is-active", PERSISTENCED])[0] == 0


def free_mb(path: str) -> int:
    """Space in MB that is free for root on the file system of `path`."""
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize >> 20


def bootable() -> list[str]:
    """The kernels in /boot; where there is none, those whose headers are installed."""
    kernels = [path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*")]
    return kernels or [path.parent.name for path in Path("/lib/modules").glob("*/build")]


def stale(kernels: Sequence[str]) -> list[str]:
    """The kernels whose initramfs is older than the file that it must hold."""
    if not gpu_driver.BLACKLIST.exists():
        return []
    changed = gpu_driver.BLACKLIST.stat().st_mtime
    images = {kernel: Path(f"/boot/initrd.img-{kernel}") for kernel in kernels}
    return [kernel for kernel, path in images.items() if path.exists() and path.stat().st_mtime < changed]


def index_targets(options: Sequence[str] = ()) -> str:
    """What APT takes packages from."""
    command, *arguments = gpu_driver.INDEXTARGETS
    return packages.run([command, *options, *arguments])


@contextlib.contextmanager
def readable_sources() -> Iterator[tuple[str, tuple[str, ...]]]:
    """APT's words where this role's own sources keep it from reading any, and options that leave them out."""
    ours = (gpu_driver.SOURCES, gpu_driver.STANZAS)
    try:
        index_targets()
        trouble = ""
    except packages.PackagesError as error:
        if not any(path.exists() for path in ours):
            raise
        trouble = str(error)
    if not trouble:
        yield "", ()
        return
    with tempfile.TemporaryDirectory(prefix="katago-gpu-driver.") as parts:
        for path in (APT / "sources.list.d").iterdir():
            if path not in ours:
                Path(parts, path.name).symlink_to(path)
        yield trouble, (f"--option=Dir::Etc::SourceParts={parts}",)


def header_versions(
    images: Iterable[str], own: Iterable[gpu_driver.Archive], options: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The versions that APT knows of the headers for packages with kernels.

    Those of one kernel are left out where APT has read none of the `own` archives, and cannot tell.
    """
    # What has no origin was not read.
    tells = any(each.origin for each in own)
    names = [gpu_driver.header_package(name) for name in images if tells or gpu_driver.follows(name)]
    return {name: tuple(packages.versions(name, options)) for name in names}


def sources_of_host() -> dict[str, str]:
    """APT's sources by file name, without this role's own."""
    paths = [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*"))]
    ours = (gpu_driver.SOURCES, gpu_driver.STANZAS)
    return {
        path.name: read(path) or ""
        for path in paths
        if path.suffix in (".list", ".sources") and path not in ours
    }


def look(settings: gpu_driver.Settings) -> gpu_driver.Seen:
    """The host as it is; without a GPU only as much as tells that there is none."""
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.M))
    host: dict[str, Any] = {
        "system": fields.get("ID", "unknown"),
        "release": fields.get("VERSION_ID", "unknown"),
        "codename": fields.get("VERSION_CODENAME", ""),
        "architecture": platform.machine(),
        "running": platform.release(),
        "devices": gpu.on_bus(),
    }
    bare = gpu_driver.Seen(**host)
    if gpu_driver.vendor_of(settings, bare.devices) == "none":
        return bare
    with readable_sources() as (trouble, options):
        return look_closely(settings, bare, options, trouble)


def look_closely(
    settings: gpu_driver.Settings, bare: gpu_driver.Seen, options: Sequence[str], trouble: str
) -> gpu_driver.Seen:
    """As `look`, of a host with a GPU; `options` have APT read its sources in spite of `trouble`."""
    installed = packages.known()
    archives = gpu_driver.archives(index_targets(options))
    own = gpu_driver.own_archives(archives, bare.codename)
    branch = gpu_driver.branch_of(settings, replace(bare, installed=installed.installed))
    dkms, _ = gpu_driver.driver_packages(settings, bare, branch)
    images = {
        name: version for name, version in installed.installed.items() if name.startswith("linux-image-")
    }
    enabled = secure_boot()
    key, key_state = signing_key(bare.system) if enabled else (bare.key, bare.key_state)
    kernels = bootable()
    available: dict[str, None] = {}
    others: dict[str, None] = {}
    for offer in packages.offers(dkms, options):
        theirs = gpu_driver.of_nvidia(offer.uri, archives, settings.url)
        wanted = theirs == (settings.source == gpu_driver.NVIDIA)
        (available if wanted else others)[offer.version] = None
    return replace(
        bare,
        kernels=kernels,
        image_packages=images,
        header_versions=header_versions(images, own, options),
        loaded=gpu.loaded_version(),
        loaded_kind=gpu.loaded_kind(),
        nouveau=gpu.loaded_version("nouveau") is not None,
        persistence=persistence(),
        secure_boot=enabled,
        key=key,
        key_state=key_state,
        installed=installed.installed,
        held=installed.held,
        modules=built(),
        available=tuple(available),
        elsewhere=tuple(version for version in others if version not in available),
        lacking_components=(
            gpu_driver.lacking_components(own, bare.codename) if bare.system == "debian" else ()
        ),
        release_known=bool(own),
        releases=gpu_driver.pinned_releases(own, bare.codename),
        sources_trouble=trouble,
        disk_free_mb={path: free_mb(path) for path in gpu_driver.DISK_MB},
        file_systems={path: Path(path).stat().st_dev for path in gpu_driver.DISK_MB},
        runfile=Path("/usr/bin/nvidia-uninstall").exists(),
        files={str(path): read(path) for path in FILES},
        stale=stale(kernels),
        record=record(),
    )


def begin(
    settings: gpu_driver.Settings, seen: gpu_driver.Seen, plan: gpu_driver.Plan, *, service: bool
) -> None:
    """Record what is there, unless an earlier run that was interrupted did."""
    if seen.record.get("unfinished"):
        return
    now = packages.known()
    write_record(
        {
            "unfinished": True,
            "begun": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "packages": dict(now.present),
            "changes": {},
            "brought": {},
            "earlier": dict(seen.record.get("earlier", {})),
            "held_before": list(now.held),
            "held": list(seen.record.get("held", ())),
            "own_held_before": list(seen.record.get("held", ())),
            "files": {
                str(path): None if seen.sources_trouble and path in OF_APT else read(path) for path in FILES
            },
            "components": sorted({*seen.record.get("components", ()), *plan.components}),
            "components_before": list(seen.record.get("components", ())),
            "target": plan.target,
            "loaded": seen.loaded,
            "loaded_kind": seen.loaded_kind,
            "service": service,
        }
    )


def release() -> None:
    """Take away the holds of this role's last change, which keep APT from another branch or source."""
    packages.hold(set(record()["held"]) & set(packages.known().held), held=False)


def remember(changes: Sequence[packages.Change]) -> None:
    """Record what APT is about to change, beside what it changed in a run that was interrupted."""
    kept = record()
    before = {change.name: change.old for change in changes}
    after = {change.name: change.new for change in changes}
    write_record(
        {
            **kept,
            "changes": before | kept.get("changes", {}),
            "brought": kept.get("brought", {}) | after,
        }
    )


def add_sources(settings: gpu_driver.Settings, repository: Mapping[str, Any], seen: gpu_driver.Seen) -> None:
    """The archives with the driver are known to APT, and nothing else is taken from them.

    DriverError, and APT's files are as before, where APT could not read its sources with them.
    """
    before = {path: None if seen.sources_trouble else read(path) for path in OF_APT}
    try:
        write_sources(settings, repository, seen)
        index_targets()
    except packages.PackagesError as error:
        for path, text in before.items():
            put(path, text)
        raise DriverError(f"APT cannot read its sources with those of the driver: {error}") from error
    packages.apt("update", archives=ARCHIVES)


def write_sources(
    settings: gpu_driver.Settings, repository: Mapping[str, Any], seen: gpu_driver.Seen
) -> None:
    """Write the files from which APT knows the driver's archives."""
    components = record()["components"]
    texts = gpu_driver.files(
        settings,
        components=components,
        releases=seen.releases,
        version=gpu_driver.wanted_version(settings, seen),
        branch=gpu_driver.branch_of(settings, seen),
    )
    wanted: dict[Path, str | None] = {gpu_driver.SOURCES: None, gpu_driver.STANZAS: None}
    for path in wanted:
        put(path, None)
    if settings.source == gpu_driver.NVIDIA:
        put(gpu_driver.KEYRING, str(repository.get("key") or ""))
        wanted[gpu_driver.SOURCES] = gpu_driver.nvidia_source(seen.system, seen.release, settings.url)
    elif components:
        found = gpu_driver.archives(index_targets())
        own = gpu_driver.own_archives(found, seen.codename)
        wanted = gpu_driver.sources(sources_of_host(), own, components)
        if not any(wanted.values()):
            raise DriverError(
                f"No entry in {APT}/sources.list or sources.list.d takes main of {seen.codename};"
                f" add the driver's components to one yourself: {', '.join(components)}"
            )
    for path, text in wanted.items():
        put(path, text)
    put(gpu_driver.PREFERENCES, texts[str(gpu_driver.PREFERENCES)])


def prepare(settings: gpu_driver.Settings, *, service: bool) -> bool:
    """Record what is there before anything is changed or stopped; whether an earlier run had begun."""
    seen = look(settings)
    plan = gpu_driver.plan(settings, seen)
    refuse(plan)
    begin(settings, seen, plan, service=service)
    return bool(seen.record.get("unfinished"))


def install(
    settings: gpu_driver.Settings, repository: Mapping[str, Any], *, continued: bool
) -> gpu_driver.Plan:
    """Bring packages, files and module to what is planned; DriverError says what stands in the way.

    `continued`: whether an earlier run began the change, and may have left packages half way.
    """
    seen = look(settings)
    plan = gpu_driver.plan(settings, replace(seen, record={**seen.record, "unfinished": continued}))
    refuse(plan)
    began = time.time()
    if plan.installs:
        release()
        if plan.vendor == "nvidia":
            add_sources(settings, repository, seen)
            seen = look(settings)
            plan = gpu_driver.plan(settings, seen)
        else:
            packages.apt("update", archives=ARCHIVES)
        try:
            wanted = requested(settings, plan, seen)
            changes = packages.simulate(wanted, ARCHIVES)
        except packages.PackagesError as error:
            # Its archives were read anew since the plan.
            problems = "".join(f"\n- {problem}" for problem in plan.problems)
            raise DriverError(
                f"APT refuses the packages, so none was installed: {error}{problems}"
            ) from error
        check(changes, settings, seen.installed)
        check_branch(changes, plan, seen, packages.known().present, version=settings.version)
        remember(changes)
        with contextlib.suppress(packages.PackagesError):
            # Whatever an interrupted run left half way; what is really wrong APT says next.
            packages.run(["dpkg", "--configure", "-a"])
        try:
            packages.apt("install", *wanted, archives=ARCHIVES)
        except packages.PackagesError as error:
            raise DriverError(f"{error}{build_failure(began)}") from error
    if plan.vendor == "nvidia":
        configure(settings, plan, seen)
        verify_build(plan)
    return plan


def requested(settings: gpu_driver.Settings, plan: gpu_driver.Plan, seen: gpu_driver.Seen) -> Sequence[str]:
    """What APT is asked for: the packages, or the kept archives where only they have the wanted version."""
    if plan.vendor != "nvidia" or not gpu_driver.returns(settings, seen):
        return plan.packages
    earlier = seen.record["earlier"]
    kept = [packages.archive(ARCHIVES, name, version) for name, version in earlier.items()]
    return [*(name for name in plan.packages if name not in earlier), *map(str, filter(None, kept))]


def refuse(plan: gpu_driver.Plan) -> None:
    """Fail with all problems of a plan at once, and the plan."""
    if plan.problems:
        listed = "\n".join((*(f"- {problem}" for problem in plan.problems), "The plan:", *plan.text()))
        raise DriverError(f"Refused; nothing was changed on this host.\n{listed}", refused=True)


def check(
    changes: Sequence[packages.Change], settings: gpu_driver.Settings, installed: Mapping[str, str]
) -> None:
    """Refuse what APT would do beyond the driver, and, unless it is forced, changes without a way back."""
    problems = []
    for change in changes:
        if not change.new and not gpu_driver.is_replaced(change, installed):
            problems.append(
                f"APT would remove {change.name} {change.old}."
                " Remove it yourself, or keep the driver as it is."
            )
        elif change.name.startswith("linux-image-"):
            problems.append(
                f"APT would also install the kernel {change.name} {change.new}."
                " Upgrade the kernel first, and boot it."
            )
        elif change.old and not settings.force and packages.lacking({change.name: change.old}, ARCHIVES):
            problems.append(
                f"{change.name} {change.old} is {'replaced' if change.new else 'removed'}, and no archive has"
                " it any more: there is no way back. Try it all the same: -e gpu_driver_force=true"
            )
    if problems:
        raise DriverError("\n".join(problems))


def check_branch(
    changes: Sequence[packages.Change],
    plan: gpu_driver.Plan,
    seen: gpu_driver.Seen,
    present: Mapping[str, str],
    *,
    version: str = "",
) -> None:
    """Refuse a driver that is not of the planned branch and source, which the devices were judged by.

    `version`: the one that was asked for.
    """
    if plan.vendor != "nvidia":
        return
    if strays := gpu_driver.strays(changes, plan, seen, present, version=version):
        offered = ", ".join(seen.available) or "none"
        raise DriverError(
            f"Planned is {plan.target}; what APT would leave there is not of it: {', '.join(strays)}."
            f" Versions of {plan.dkms_package} in its archives: {offered}. Choose by gpu_driver_branch or"
            " gpu_driver_version; look for pins of others: apt-cache policy " + plan.dkms_package
        )


def build_failure(since: float) -> str:
    """The compiler's message of a build of DKMS that failed since a time; empty when none did."""
    logs = sorted(Path("/var/lib/dkms").glob("*/*/build/make.log"), key=lambda path: path.stat().st_mtime)
    if not logs or logs[-1].stat().st_mtime < since - 1:
        return ""
    module = "/".join(logs[-1].parts[-4:-2])
    errors = gpu_driver.compiler_errors(logs[-1].read_text(errors="replace"))
    return f"\nDKMS could not build {module}:\n" + "\n".join(errors)


def configure(settings: gpu_driver.Settings, plan: gpu_driver.Plan, seen: gpu_driver.Seen) -> None:
    """Hold the driver's packages, and write pins and what keeps nouveau off, also into the initramfs."""
    kept = record()
    version = gpu_driver.upstream(packages.known().installed.get(plan.dkms_package)) or ""
    texts = gpu_driver.files(
        settings, components=kept["components"], releases=seen.releases, version=version, branch=plan.branch
    )
    for path, text in texts.items():
        put(Path(path), text)
    held = gpu_driver.held_packages(plan.packages)
    write_record({**kept, "held": held})
    packages.hold(held, held=True)
    kernels = bootable()
    for kernel in sorted({*stale(kernels), gpu_driver.newest(kernels)} - {""}):
        if Path(f"/boot/initrd.img-{kernel}").exists():
            packages.run(["update-initramfs", "-u", "-k", kernel])


def built() -> dict[str, str]:
    """The version of the module that DKMS built, by kernel."""
    status, words = ask(["dkms", "status"])
    return gpu_driver.dkms_modules(words) if status == 0 else {}


def verify_build(plan: gpu_driver.Plan) -> None:
    """The module of the installed driver is there for the kernel that will boot."""
    kernel = gpu_driver.newest(bootable())
    version = gpu_driver.upstream(packages.known().installed.get(plan.dkms_package))
    if built().get(kernel) != version:
        began = time.time()
        _, words = ask(["dkms", "autoinstall", "-k", kernel], seconds=1800)
        if (found := built().get(kernel)) != version:
            raise DriverError(
                f"The module {version} is not built for {kernel}, which will boot and has"
                f" {found or 'none'}: {packages.last_words(words)}{build_failure(began)}"
            )
    if not list(Path(f"/lib/modules/{kernel}").glob("updates/dkms/nvidia*.ko*")):
        raise DriverError(
            f"DKMS calls the module installed for {kernel}, and /lib/modules/{kernel}/updates/dkms has none."
        )


def is_loaded(settings: gpu_driver.Settings, seen: gpu_driver.Seen, plan: gpu_driver.Plan) -> bool:
    """Whether what is loaded is the installed driver, and of its kernel modules the wanted one."""
    return seen.loaded == plan.installed and not gpu_driver.other_kind(settings, seen)


def load(settings: gpu_driver.Settings) -> str:
    """Load the installed module in place of another; why that needs a reboot, empty when it is loaded.

    With no device expected nothing is loaded, and what would fail without one does not start.
    """
    seen = look(settings)
    plan = gpu_driver.plan(settings, seen)
    if plan.vendor != "nvidia":
        return ""
    if plan.expected == 0:
        ask(["systemctl", "disable", "--now", PERSISTENCED])
        ask(["systemctl", "reset-failed", PERSISTENCED])
        return ""
    if plan.reboot and (seen.nouveau or plan.kernel != seen.running):
        return plan.reboot
    if seen.loaded is not None and not is_loaded(settings, seen, plan):
        ask(["systemctl", "stop", PERSISTENCED])
        ask(["modprobe", "--remove", *MODULES])
    status, words = ask(["modprobe", "nvidia"])
    seen = replace(seen, loaded=gpu.loaded_version(), loaded_kind=gpu.loaded_kind())
    if not is_loaded(settings, seen, plan):
        if status:
            raise DriverError(f"The module cannot be loaded: {packages.last_words(words)}")
        return gpu_driver.plan(settings, look(settings)).reboot
    for number in range(plan.expected):
        ask(["nvidia-modprobe", "-u", "-c", str(number)])
    if not UVM.exists():
        raise DriverError(f"The driver is loaded, and {UVM} is not there. Install: nvidia-modprobe")
    ask(["systemctl", "daemon-reload"])
    status, words = ask(["systemctl", "enable", "--now", PERSISTENCED])
    if status:
        raise DriverError(f"{PERSISTENCED} does not start: {packages.last_words(words)}")
    return ""


def verify(settings: gpu_driver.Settings) -> list[dict[str, Any]]:
    """The devices as nvidia-smi names them, or the kernel; DriverError when something is wrong with them."""
    seen = look(settings)
    plan = gpu_driver.plan(settings, seen)
    if plan.expected == 0:
        return []
    if plan.vendor != "nvidia":
        return rendering(gpu_driver.devices_of(settings, seen.devices), plan.expected)
    used = gpu_driver.devices_of(settings, seen.devices)
    # The driver drives all that are on the bus, also those that gpu_driver_devices does not name.
    others = {each.address for each in seen.devices} - {each.address for each in used}
    answer = gpu.without(gpu.parse_smi(*ask(gpu.SMI)), others)
    if problems := gpu.smi_problems(answer, expected=plan.expected, version=plan.installed or ""):
        raise DriverError("The driver does not work: " + "; ".join(problems))
    return [asdict(card) for card in answer.cards]


def rendering(devices: Sequence[gpu.Device], expected: int) -> list[dict[str, Any]]:
    """The devices of AMD or Intel for which the kernel made a render node; DriverError unless `expected`."""
    able = [device for device in devices if gpu.nodes([device])]
    if len(able) != expected:
        unable = ", ".join(str(device) for device in devices if device not in able) or "none"
        raise DriverError(
            f"The driver does not work: {len(able)} devices have a render node, which OpenCL needs;"
            f" expected are {expected}. Without one: {unable}."
            " The kernel makes it when it has the device's driver and firmware: journalctl --dmesg"
        )
    return [{"name": str(device)} for device in able]


def query(names: Sequence[str], sandboxed: Mapping[str, Any], root: Path, *, vendor: str = "nvidia") -> str:
    """The device on which the current release's engine analysed once, or why it was not asked.

    DriverError has the engine's words when it gives no answer, or not on one of the devices `names` of
    NVIDIA's, or one of another `vendor`.
    """
    layout = release_layout.Layout(root)
    release = layout.current_release()
    if release is None:
        return "no release yet; the first one is tried before it is switched to"
    configured = json.loads((layout.current / "config.json").read_text())["katago"]
    binary = configured["binaryPath"]
    backend = ask([binary, "version"])[1]
    if "Using Eigen" in backend:
        return f"the engine of {release} does without a GPU"
    if vendor != "nvidia" and "Using OpenCL" not in backend:
        return f"the engine of {release} is not for a GPU of {vendor}; a deployment brings one that is"
    directives = {**sandboxed, "DynamicUser": True, "CacheDirectory": QUERY_CACHE.name}
    directives["RuntimeMaxSec"] = str(QUERY_SECONDS)
    argv = [binary, "analysis", "-model", configured["modelPath"]]
    argv += ["-config", str(layout.current / configured["configPath"])]
    argv += ["-override-config", f"homeDataDir={QUERY_CACHE},logToStderr=true"]
    # The engine ends with its input, after it has answered.
    status, words = commands.ask(
        systemd_run.command(directives, argv, unit=QUERY_UNIT),
        QUERY_SECONDS + 10,
        given=json.dumps(QUERY) + "\n",
    )
    device = gpu.used_by_engine(words, vendor, names)
    if status or '"rootInfo"' not in words or device is None:
        raise DriverError(
            f"The engine of {release} does not work on {' or '.join(names)}: {packages.last_words(words)}"
        )
    return f"the engine of {release} answered on {device}"


def undo() -> dict[str, Any]:
    """Bring the packages that APT was to change, their holds and files back; what was done.

    What others changed since stays. `lacking`: the versions of before that no archive has any more.
    """
    kept = record()
    if not kept.get("unfinished"):
        return {"removed": [], "installed": {}, "lacking": {}}
    for path in OF_APT:
        put(path, kept["files"].get(str(path)))
    with contextlib.suppress(packages.PackagesError):
        # Fails again where that is why it is undone.
        packages.run(["dpkg", "--configure", "-a"])
    now = packages.known()
    packages.hold(set(kept["held"]) & set(now.held) - set(kept["held_before"]), held=False)
    changes: dict[str, str] = kept.get("changes", {})
    removed, wanted = gpu_driver.restoration(changes, kept.get("brought", {}), now.present)
    removed = packages.removable(removed, ARCHIVES)
    if lacking := packages.lacking(wanted, ARCHIVES):
        with contextlib.suppress(packages.PackagesError):
            # APT forgot the archives of before when it read those of the change.
            packages.apt("update", archives=ARCHIVES)
        lacking = packages.lacking(lacking, ARCHIVES)
    installed = {name: version for name, version in wanted.items() if name not in lacking}
    packages.go_back(removed, installed, ARCHIVES)
    own_held = kept.get("own_held_before", [])
    back = (changes.keys() | set(own_held)) & packages.known().present.keys()
    packages.hold(back & set(kept["held_before"]), held=True)
    for path, text in kept["files"].items():
        put(Path(path), text)
    kernel = gpu_driver.newest(bootable())
    if Path(f"/boot/initrd.img-{kernel}").exists():
        packages.run(["update-initramfs", "-u", "-k", kernel])
    tidy()
    write_record({**kept, "unfinished": False, "held": own_held, "components": kept["components_before"]})
    return {"removed": removed, "installed": installed, "lacking": lacking}


def reload(before: str | None, kind: str | None) -> str:
    """Have loaded what was `before`, and its `kind`; why that needs a reboot, empty when it does not."""
    loaded = gpu.loaded_version()
    is_other_kind = None not in (kind, gpu.loaded_kind()) and gpu.loaded_kind() != kind
    if loaded == before and not is_other_kind:
        return ""
    installed = built().get(platform.release())
    if loaded is not None and (loaded != installed or is_other_kind):
        ask(["systemctl", "stop", PERSISTENCED])
        ask(["modprobe", "--remove", *MODULES])
    if installed is not None:
        ask(["modprobe", "nvidia"])
        ask(["systemctl", "start", PERSISTENCED])
    now, now_kind = gpu.loaded_version(), gpu.loaded_kind()
    if now == installed:
        if None in (kind, now_kind) or now_kind == kind:
            return ""
        return f"the {now_kind} kernel module is loaded, and the {kind} one is installed"
    return f"the driver {now or 'none'} is loaded, and {installed or 'none'} is installed"


def tidy() -> None:
    """Keep only the archives to go back to: of the driver that is installed, and of the one before it."""
    mine = [each for each in packages.known().installed.items() if gpu_driver.belongs(each[0])]
    mine += record().get("earlier", {}).items()
    needed = {packages.archive(ARCHIVES, name, version) for name, version in mine}
    for path in ARCHIVES.glob("*.deb"):
        if path not in needed:
            path.unlink()
    shutil.rmtree(ARCHIVES / "partial", ignore_errors=True)


def finish() -> bool:
    """End the change; whether there was one."""
    kept = record()
    if not kept.get("unfinished"):
        return False
    there = {
        name: old
        for name, old in kept.get("changes", {}).items()
        if old and packages.archive(ARCHIVES, name, old)
    }
    kept["earlier"] = gpu_driver.earlier(there, kept.get("earlier", {}))
    write_record(kept)
    tidy()
    write_record({**kept, "unfinished": False})
    return True


def refresh(settings: gpu_driver.Settings) -> None:
    """Have APT read its archives anew where what they have decides."""
    if settings.version == gpu_driver.LATEST or (
        settings.version and gpu_driver.lacks_version(settings, look(settings))
    ):
        with readable_sources() as (_, options):
            packages.apt("update", *options, archives=ARCHIVES)


def settings_of(given: Mapping[str, Any]) -> gpu_driver.Settings:
    """The settings that a module was given."""
    expected = given["expected_devices"]
    return gpu_driver.Settings(
        devices=given["devices"] or None,
        expected=None if expected < 0 else expected,
        has_key=bool(given["repository"].get("key")),
        url=str(given["repository"].get("url") or ""),
        **{
            name: given[name]
            for name in gpu_driver.Settings.__dataclass_fields__
            if name in given and name != "devices"
        },
    )


def main() -> None:
    """Do one step."""
    module = AnsibleModule(
        argument_spec={
            "step": {
                "choices": ["look", "plan", "begin", "install", "load", "verify", "query", "undo", "finish"],
                "default": "plan",
            },
            "settings": {
                "type": "dict",
                "default": {},
                "apply_defaults": True,
                "options": {
                    "vendor": {"choices": ["auto", "nvidia", "amd", "intel", "none"], "default": "auto"},
                    "devices": {"type": "list", "elements": "dict", "default": []},
                    "expected_devices": {"type": "int", "default": -1},
                    "source": {"choices": ["distribution", "nvidia"], "default": "distribution"},
                    # Its key is a public one.
                    "repository": {"type": "dict", "default": {}, "no_log": False},
                    "kernel_module": {"choices": ["proprietary", "open"], "default": "proprietary"},
                    "branch": {"type": "str", "default": ""},
                    "version": {"type": "str", "default": ""},
                    "opencl": {"type": "str", "default": ""},
                    "headers": {"type": "list", "elements": "str", "default": []},
                    "reboot": {"choices": ["never", "when_needed"], "default": "never"},
                    "force": {"type": "bool", "default": False},
                },
            },
            "service": {"type": "bool", "default": False},
            "continued": {"type": "bool", "default": False},
            "names": {"type": "list", "elements": "str", "default": []},
            "vendor": {"choices": ["nvidia", "amd", "intel"], "default": "nvidia"},
            "sandbox": {"type": "dict", "default": {}},
            "root": {"type": "path", "default": "/opt/katago-mcp"},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    settings = settings_of(parameters["settings"])
    step = parameters["step"]
    vendor = gpu_driver.vendor_of(settings, gpu.on_bus())
    result: dict[str, Any] = {"changed": False}
    try:
        if step == "look":
            result["vendor"] = vendor
        elif step == "plan" or module.check_mode:
            if vendor == "nvidia" and not module.check_mode:
                refresh(settings)
            plan = gpu_driver.plan(settings, look(settings))
            refuse(plan)
            kept = record() if plan.devices else {}
            result |= {
                "plan": plan.as_dict(),
                "changed": plan.acts and step == "install",
                "reboot": plan.reboot,
                "service": kept.get("service") if kept.get("unfinished") else None,
            }
        elif step == "begin":
            result["continued"] = prepare(settings, service=parameters["service"])
        elif step == "install":
            result |= {
                "plan": install(
                    settings, parameters["settings"]["repository"], continued=parameters["continued"]
                ).as_dict(),
                "changed": True,
            }
        elif step == "load":
            result["reboot"] = load(settings)
        elif step == "verify":
            result |= {
                "vendor": vendor,
                "cards": verify(settings),
                "nodes": gpu.nodes(gpu_driver.devices_of(settings, gpu.on_bus())),
            }
        elif step == "query":
            result["queried"] = query(
                parameters["names"],
                parameters["sandbox"],
                Path(parameters["root"]),
                vendor=parameters["vendor"],
            )
        elif step == "undo":
            kept = record()
            undone = undo()
            result |= {
                "undone": undone,
                "changed": bool(undone["removed"] or undone["installed"]),
                "reboot": reload(kept.get("loaded"), kept.get("loaded_kind"))
                if kept.get("unfinished")
                else "",
            }
        else:
            result["changed"] = finish()
    except (DriverError, packages.PackagesError, OSError, ValueError, KeyError) as error:
        module.fail_json(msg=str(error), refused=getattr(error, "refused", False))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
