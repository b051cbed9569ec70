"""Changes the driver's packages: records what is there, installs, holds, and restores what was recorded."""

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
    """Record what is there, unless an earlier run that was interrupted did."""
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
    """Take away the holds of this role's last change, which keep APT from another branch or source."""
    apt.hold(set(driver_record.read().held) & set(apt.query().held), held=False)


def remember(changes: Sequence[apt.Change]) -> None:
    """Record what APT is about to change, beside what it changed in a run that was interrupted."""
    record = driver_record.read()
    before = {change.name: change.old for change in changes}
    after = {change.name: change.new for change in changes}
    driver_record.write(
        replace(record, changes={**before, **record.changes}, brought={**record.brought, **after})
    )


def add_sources(settings: Settings, host: Host) -> None:
    """The archives with the driver are known to APT, and nothing else is taken from them.

    DriverError, and APT's files are as before, where APT could not read its sources with them.
    """
    before = {path: None if host.sources_trouble else texts.read(path) for path in driver_files.OF_APT}
    try:
        write_sources(settings, host)
        apt_sources.index_targets()
    except apt.PackagesError as error:
        for path, text in before.items():
            texts.put(path, text)
        raise DriverError(f"APT cannot read its sources with those of the driver: {error}") from error
    apt.get("update", archives=driver_record.ARCHIVES)


def write_sources(settings: Settings, host: Host) -> None:
    """Write the files from which APT knows the driver's archives."""
    components = driver_record.read().components
    contents = driver_files.contents(
        settings,
        components=components,
        releases=host.releases,
        version=driver_versions.wanted_version(settings, host),
        branch=driver_packages.branch_of(settings, host),
    )
    wanted: dict[Path, str | None] = {driver_files.SOURCES: None, driver_files.STANZAS: None}
    for path in wanted:
        texts.put(path, None)
    if settings.source == NVIDIA:
        texts.put(driver_files.KEYRING, settings.key)
        wanted[driver_files.SOURCES] = apt_sources.nvidia_source(host.system, host.release, settings.url)
    elif components:
        found = apt_sources.archives(apt_sources.index_targets())
        own = apt_sources.own_archives(found, host.codename)
        wanted = apt_sources.sources(apt_sources.sources_of_host(), own, components)
        if not any(wanted.values()):
            raise DriverError(
                f"No entry in {apt_sources.APT}/sources.list or sources.list.d takes main of {host.codename};"
                f" add the driver's components to one yourself: {', '.join(components)}"
            )
    for path, text in wanted.items():
        texts.put(path, text)
    texts.put(driver_files.PREFERENCES, contents[str(driver_files.PREFERENCES)])


def install(settings: Settings, *, continued: bool) -> Plan:
    """Bring packages, files and module to what is planned; DriverError says what stands in the way.

    `continued`: whether an earlier run began the change, and may have left packages half way.
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
            wanted = requested(settings, plan, host)
            changes = apt.simulate(wanted, driver_record.ARCHIVES)
        except apt.PackagesError as error:
            # Its archives were read again since the plan.
            problems = "".join(f"\n- {problem}" for problem in plan.problems)
            raise DriverError(
                f"APT refuses the packages, so none was installed: {error}{problems}"
            ) from error
        check(changes, settings, host.installed)
        check_branch(changes, plan, host, apt.query().present, version=settings.version)
        remember(changes)
        with contextlib.suppress(apt.PackagesError):
            # Whatever an interrupted run left half way; what is really wrong APT says next.
            apt.run(["dpkg", "--configure", "-a"])
        try:
            apt.get("install", *wanted, archives=driver_record.ARCHIVES)
        except apt.PackagesError as error:
            raise DriverError(f"{error}{dkms.build_failure(began)}") from error
    if plan.vendor == "nvidia":
        configure(settings, plan, host)
        verify_build(plan)
    return plan


def requested(settings: Settings, plan: Plan, host: Host) -> Sequence[str]:
    """What APT is asked for: the packages, or the kept archives where only they have the wanted version."""
    if plan.vendor != "nvidia" or not driver_versions.returns(settings, host):
        return plan.packages
    earlier = host.record.earlier
    kept = [apt.archive(driver_record.ARCHIVES, name, version) for name, version in earlier.items()]
    return [*(name for name in plan.packages if name not in earlier), *map(str, filter(None, kept))]


def check(changes: Sequence[apt.Change], settings: Settings, installed: Mapping[str, str]) -> None:
    """Refuse what APT would do beyond the driver, and, unless forced, what could not be restored."""
    problems = []
    for change in changes:
        if not change.new and not driver_packages.is_replaced(change, installed):
            problems.append(
                f"APT would remove {change.name} {change.old}."
                " Remove it yourself, or keep the driver as it is."
            )
        elif change.name.startswith("linux-image-"):
            problems.append(
                f"APT would also install the kernel {change.name} {change.new}."
                " Upgrade the kernel first, and boot it."
            )
        elif (
            change.old
            and not settings.force
            and apt.unavailable({change.name: change.old}, driver_record.ARCHIVES)
        ):
            problems.append(
                f"{change.name} {change.old} would be {'replaced' if change.new else 'removed'}, and no archive"
                " has it any more, so it could not be restored. Try it anyway: -e gpu_driver_force=true"
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
    """Refuse a driver that is not of the planned branch and source, which the devices were judged by.

    `version`: the one that was asked for.
    """
    if plan.vendor != "nvidia":
        return
    if strays := driver_versions.strays(
        changes, host, present, dkms_package=plan.dkms_package, branch=plan.branch, version=version
    ):
        offered = ", ".join(host.available) or "none"
        raise DriverError(
            f"Planned is {plan.target}; APT would install packages of another branch, source or version: {', '.join(strays)}."
            f" Versions of {plan.dkms_package} in its archives: {offered}. Choose by gpu_driver_branch or"
            " gpu_driver_version; look for pins of others: apt-cache policy " + plan.dkms_package
        )


def configure(settings: Settings, plan: Plan, host: Host) -> None:
    """Hold the driver's packages, and write pins and what keeps nouveau off, also into the initramfs."""
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
    """The module of the installed driver is there for the kernel that will boot."""
    kernel = kernels.newest(kernels.bootable())
    version = driver_packages.upstream(apt.query().installed.get(plan.dkms_package))
    if dkms.built().get(kernel) != version:
        began = time.time()
        _, output = programs.ask(["dkms", "autoinstall", "-k", kernel], seconds=1800)
        if (found := dkms.built().get(kernel)) != version:
            raise DriverError(
                f"The module {version} is not built for {kernel}, which will boot and has"
                f" {found or 'none'}: {apt.last_lines(output)}{dkms.build_failure(began)}"
            )
    if not list(Path(f"/lib/modules/{kernel}").glob("updates/dkms/nvidia*.ko*")):
        raise DriverError(
            f"DKMS calls the module installed for {kernel}, and /lib/modules/{kernel}/updates/dkms has none."
        )
