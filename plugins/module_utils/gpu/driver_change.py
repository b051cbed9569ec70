"""Changes the driver's packages: records the host's state, then installs, pins and holds packages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    apt_sources,
    dkms,
    driver_files,
    driver_inspection,
    driver_packages,
    driver_plan,
    driver_record,
    driver_versions,
    kernels,
    programs,
    texts,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_plan import Plan
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import Record
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import NVIDIA, Settings


def start(host: Host, plan: Plan, *, service: bool) -> None:
    """Record the host's state, unless an interrupted run has already recorded it."""
    if host.record.unfinished:
        return
    now = apt.query()
    before = host.record
    unread = driver_files.OF_APT if host.sources_trouble else ()
    driver_record.write(
        Record(
            unfinished=True,
            begun=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            packages=now.present,
            earlier=before.earlier,
            held_before=now.held,
            held=before.held,
            own_held_before=before.held,
            files={str(path): None if path in unread else texts.read(path) for path in driver_files.FILES},
            components=tuple(sorted({*before.components, *plan.components})),
            components_before=before.components,
            target=plan.target,
            loaded=host.loaded,
            loaded_kind=host.loaded_kind,
            service=service,
        )
    )


def release_holds() -> None:
    """Remove the holds of this role's last change, so that APT can change to another branch or source."""
    apt.hold(set(driver_record.read().held) & set(apt.query().held), held=False)


def record_changes(changes: Sequence[apt.Change]) -> None:
    """Add what APT is about to change to the record, keeping what an interrupted run recorded."""
    record = driver_record.read()
    before = {change.name: change.old for change in changes}
    after = {change.name: change.new for change in changes}
    driver_record.write(
        replace(record, changes={**before, **record.changes}, brought={**record.brought, **after})
    )


def add_sources(settings: Settings, host: Host) -> None:
    """Add the archives with the driver to APT's sources, and allow only the driver from them.

    Raises:
        DriverError: APT cannot read its sources with the new ones. The previous files are back in place.
    """
    before = {path: None if host.sources_trouble else texts.read(path) for path in driver_files.OF_APT}
    try:
        write_sources(settings, host)
        apt_sources.index_targets()
    except apt.PackagesError as error:
        for path, text in before.items():
            texts.put(path, text)
        raise DriverError(
            f"APT cannot read its sources after the driver's sources were added: {error}."
            " The previous sources are back in place."
        ) from error
    apt.get("update", archives=driver_record.ARCHIVES)


def write_sources(settings: Settings, host: Host) -> None:
    """Write the source files and pins for the driver's archives."""
    components = driver_record.read().components
    contents = driver_files.contents(
        settings,
        components=components,
        releases=host.releases,
        version=driver_versions.wanted_version(settings, host),
        branch=driver_packages.branch_of(settings, host),
    )
    sources: dict[Path, str | None] = {driver_files.SOURCES: None, driver_files.STANZAS: None}
    for path in sources:
        texts.put(path, None)
    if settings.source == NVIDIA:
        texts.put(driver_files.KEYRING, settings.key)
        sources[driver_files.SOURCES] = apt_sources.nvidia_source(host.system, host.release, settings.url)
    elif components:
        archives = apt_sources.archives(apt_sources.index_targets())
        own = apt_sources.own_archives(archives, host.codename)
        sources = apt_sources.sources(apt_sources.sources_of_host(), own, components)
        if not any(sources.values()):
            raise DriverError(
                f"No entry in {apt_sources.APT}/sources.list or sources.list.d has main of {host.codename}."
                f" Add these components to one yourself: {', '.join(components)}"
            )
    for path, text in sources.items():
        texts.put(path, text)
    texts.put(driver_files.PREFERENCES, contents[str(driver_files.PREFERENCES)])


def install(settings: Settings, *, continued: bool) -> Plan:
    """Install the planned packages, write this role's files and verify the built module; return the plan.

    `continued`: whether an interrupted run started the change and may have left packages half installed.

    Raises:
        DriverError: the plan is refused, APT fails, or the module cannot be built.
    """
    host = driver_inspection.inspect(settings)
    plan = driver_plan.plan(settings, replace(host, record=replace(host.record, unfinished=continued)))
    driver_plan.refuse(plan)
    began = time.time()
    if plan.installs:
        release_holds()
        if plan.vendor == "nvidia":
            add_sources(settings, host)
            host = driver_inspection.inspect(settings)
            plan = driver_plan.plan(settings, host)
        else:
            apt.get("update", archives=driver_record.ARCHIVES)
        try:
            packages = requested(settings, plan, host)
            changes = apt.simulate(packages, driver_record.ARCHIVES)
        except apt.PackagesError as error:
            # APT's lists were updated after the plan was made, so its problems may be new.
            problems = "".join(f"\n- {problem}" for problem in plan.problems)
            raise DriverError(
                f"APT refused the packages. Nothing was installed. {error}{problems}"
            ) from error
        check(changes, settings, host.installed)
        check_branch(changes, plan, host, apt.query().present, version=settings.version)
        record_changes(changes)
        with contextlib.suppress(apt.PackagesError):
            # Completes what an interrupted run left half configured. APT reports real errors next.
            apt.run(["dpkg", "--configure", "-a"])
        try:
            apt.get("install", *packages, archives=driver_record.ARCHIVES)
        except apt.PackagesError as error:
            raise DriverError(f"{error}{dkms.build_failure(began)}") from error
    if plan.vendor == "nvidia":
        configure(settings, plan, host)
        verify_build(plan)
    return plan


def requested(settings: Settings, plan: Plan, host: Host) -> Sequence[str]:
    """The packages to request from APT; kept archives if only they have the requested version."""
    if plan.vendor != "nvidia" or not driver_versions.needs_kept_archives(settings, host):
        return plan.packages
    earlier = host.record.earlier
    kept = [apt.archive(driver_record.ARCHIVES, name, version) for name, version in earlier.items()]
    return [*(name for name in plan.packages if name not in earlier), *map(str, filter(None, kept))]


def check(changes: Sequence[apt.Change], settings: Settings, installed: Mapping[str, str]) -> None:
    """Refuse changes beyond the driver and, unless forced, changes that could not be restored."""
    problems = []
    for change in changes:
        if not change.new and not driver_packages.is_replaced(change, installed):
            problems.append(
                f"APT would remove {change.name} {change.old}, which is not part of the installed driver."
                " Remove it yourself, or keep the driver as it is."
            )
        elif change.name.startswith("linux-image-"):
            problems.append(
                f"APT would also install the kernel {change.name} {change.new}."
                " Upgrade the kernel and reboot into it first."
            )
        elif (
            change.old
            and not settings.force
            and apt.unavailable({change.name: change.old}, driver_record.ARCHIVES)
        ):
            problems.append(
                f"{change.name} {change.old} would be {'replaced' if change.new else 'removed'}, and it could"
                " not be restored: no archive has this version any more. To change it anyway:"
                " -e gpu_driver_force=true"
            )
    if problems:
        raise DriverError("\n".join(problems))


def check_branch(
    changes: Sequence[apt.Change],
    plan: Plan,
    host: Host,
    present: Mapping[str, str],
    *,
    version: str = "",
) -> None:
    """Refuse a driver of another branch or source than planned; the devices were checked against the plan.

    `version`: the requested version.
    """
    if plan.vendor != "nvidia":
        return
    if strays := driver_versions.strays(
        changes, host, present, dkms_package=plan.dkms_package, branch=plan.branch, version=version
    ):
        offered = ", ".join(host.available) or "none"
        raise DriverError(
            f"The plan is {plan.target}, but APT would install packages of another branch, source or version:"
            f" {', '.join(strays)}. Available versions of {plan.dkms_package}: {offered}. Choose one with"
            " gpu_driver_branch or gpu_driver_version. Check for other pins: apt-cache policy "
            + plan.dkms_package
        )


def configure(settings: Settings, plan: Plan, host: Host) -> None:
    """Hold the driver's packages, pin their version, and disable nouveau, also in the initramfs."""
    record = driver_record.read()
    version = driver_packages.upstream(apt.query().installed.get(plan.dkms_package)) or ""
    contents = driver_files.contents(
        settings, components=record.components, releases=host.releases, version=version, branch=plan.branch
    )
    for path, text in contents.items():
        texts.put(Path(path), text)
    held = driver_packages.held(plan.packages)
    driver_record.write(replace(record, held=tuple(held)))
    apt.hold(held, held=True)
    can_boot = kernels.bootable()
    stale = kernels.stale(can_boot, driver_files.BLACKLIST)
    for kernel in sorted({*stale, kernels.newest(can_boot)} - {""}):
        if Path(f"/boot/initrd.img-{kernel}").exists():
            apt.run(["update-initramfs", "-u", "-k", kernel])


def verify_build(plan: Plan) -> None:
    """Check that the module exists for the kernel that will boot; build it if it does not.

    Raises:
        DriverError: the module cannot be built, or DKMS did not install a file.
    """
    kernel = kernels.newest(kernels.bootable())
    version = driver_packages.upstream(apt.query().installed.get(plan.dkms_package))
    if dkms.built().get(kernel) != version:
        began = time.time()
        _, output = programs.ask(["dkms", "autoinstall", "-k", kernel], seconds=1800)
        if (built := dkms.built().get(kernel)) != version:
            raise DriverError(
                f"The kernel module {version} is not built for {kernel}, the kernel that will boot."
                f" Built for it: {built or 'none'}. {apt.last_lines(output)}{dkms.build_failure(began)}"
            )
    if not list(Path(f"/lib/modules/{kernel}").glob("updates/dkms/nvidia*.ko*")):
        raise DriverError(
            f"DKMS reports the module as installed for {kernel}, but /lib/modules/{kernel}/updates/dkms has"
            " none. Check its builds: dkms status"
        )
