"""Restores what was recorded before a driver changed, or keeps what may be needed to go back later."""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    dkms,
    driver_files,
    driver_packages,
    driver_record,
    kernel_module,
    kernels,
    programs,
    texts,
)


class Restored(TypedDict):
    """The packages that were removed, those in their previous versions, and those that no archive has."""

    removed: list[str]
    installed: dict[str, str]
    lacking: dict[str, str]


NOTHING_RESTORED = Restored(removed=[], installed={}, lacking={})


def restore() -> Restored:
    """Restore the packages that APT was to change, their holds and this role's files; what was done.

    What others changed since stays.
    """
    record = driver_record.read()
    if not record.unfinished:
        return NOTHING_RESTORED
    for path in driver_files.OF_APT:
        texts.put(path, record.files.get(str(path)))
    with contextlib.suppress(apt.PackagesError):
        # Fails again where that is why it is restored.
        apt.run(["dpkg", "--configure", "-a"])
    now = apt.query()
    apt.hold(set(record.held) & set(now.held) - set(record.held_before), held=False)
    removed, wanted = restoration(record.changes, record.brought, now.present)
    removed = apt.removable(removed, driver_record.ARCHIVES)
    if lacking := apt.unavailable(wanted, driver_record.ARCHIVES):
        with contextlib.suppress(apt.PackagesError):
            # APT forgot the previous archives when it read those of the change.
            apt.get("update", archives=driver_record.ARCHIVES)
        lacking = apt.unavailable(lacking, driver_record.ARCHIVES)
    installed = {name: version for name, version in wanted.items() if name not in lacking}
    apt.restore(removed, installed, driver_record.ARCHIVES)
    back = (record.changes.keys() | set(record.own_held_before)) & apt.query().present.keys()
    apt.hold(back & set(record.held_before), held=True)
    for name, text in record.files.items():
        texts.put(Path(name), text)
    kernel = kernels.newest(kernels.bootable())
    if Path(f"/boot/initrd.img-{kernel}").exists():
        apt.run(["update-initramfs", "-u", "-k", kernel])
    tidy()
    driver_record.write(
        replace(record, unfinished=False, held=record.own_held_before, components=record.components_before)
    )
    return Restored(removed=removed, installed=installed, lacking=lacking)


def tidy() -> None:
    """Keep only the archives to go back to: of the driver that is installed, and of the one before it."""
    mine = [each for each in apt.query().installed.items() if driver_packages.belongs(each[0])]
    mine += driver_record.read().earlier.items()
    needed = {apt.archive(driver_record.ARCHIVES, name, version) for name, version in mine}
    for path in driver_record.ARCHIVES.glob("*.deb"):
        if path not in needed:
            path.unlink()
    shutil.rmtree(driver_record.ARCHIVES / "partial", ignore_errors=True)


def finish() -> bool:
    """Finish the change; whether there was one."""
    record = driver_record.read()
    if not record.unfinished:
        return False
    replaced = {
        name: old
        for name, old in record.changes.items()
        if old and apt.archive(driver_record.ARCHIVES, name, old)
    }
    record = replace(record, earlier=earlier(replaced, record.earlier))
    driver_record.write(record)
    tidy()
    driver_record.write(replace(record, unfinished=False))
    return True


def reload(before: str | None, kind: str | None) -> str:
    """Have loaded what was `before`, and its `kind`; why that needs a reboot, empty when it does not."""
    version, loaded_kind = kernel_module.version(), kernel_module.kind()
    is_other_kind = None not in (kind, loaded_kind) and loaded_kind != kind
    if version == before and not is_other_kind:
        return ""
    installed = dkms.built().get(platform.release())
    if version is not None and (version != installed or is_other_kind):
        kernel_module.remove()
    if installed is not None:
        programs.ask(["modprobe", "nvidia"])
        programs.ask(["systemctl", "start", kernel_module.PERSISTENCED])
    now, now_kind = kernel_module.version(), kernel_module.kind()
    if now == installed:
        if None in (kind, now_kind) or now_kind == kind:
            return ""
        return f"the {now_kind} kernel module is loaded, and the {kind} one is installed"
    return f"the driver {now or 'none'} is loaded, and {installed or 'none'} is installed"


def restoration(
    before: Mapping[str, str], brought: Mapping[str, str], now: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """How to go back from the packages `now`: which are removed, which installed in their versions `before`.

    `before`: of the packages that were changed, and no others; empty for one that was not there. `brought`:
    the versions that they were changed to; what is not of the driver, and has another by now, stays.
    """
    removed = sorted(name for name, old in before.items() if not old and name.partition(":")[0] in now)
    installed = {
        name: old
        for name, old in before.items()
        if old
        and now.get(name) != old
        and (driver_packages.belongs(name) or name not in now or now[name] == brought.get(name))
    }
    return removed, dict(sorted(installed.items()))


def earlier(changes: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """The driver's packages that a change replaced, with versions; those `kept` where it replaced none.

    `changes`: the packages of which the previous archives were kept.
    """
    replaced = {name: old for name, old in changes.items() if driver_packages.belongs(name)}
    return replaced if any(map(driver_packages.DKMS.fullmatch, replaced)) else dict(kept)
