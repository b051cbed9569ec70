"""Restores the previous driver from the record, or finishes a change and keeps what a later restore needs."""

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
    """The packages that were removed, restored to their previous version, and missing from all archives."""

    removed: list[str]
    installed: dict[str, str]
    lacking: dict[str, str]


NOTHING_RESTORED = Restored(removed=[], installed={}, lacking={})


def restore() -> Restored:
    """Restore the packages that the change concerned, their holds and this role's files; return the result.

    Changes that others made since are kept.
    """
    record = driver_record.read()
    if not record.unfinished:
        return NOTHING_RESTORED
    for path in driver_files.OF_APT:
        texts.put(path, record.files.get(str(path)))
    with contextlib.suppress(apt.PackagesError):
        # May fail for the same reason that the change failed.
        apt.run(["dpkg", "--configure", "-a"])
    now = apt.query()
    apt.hold(set(record.held) & set(now.held) - set(record.held_before), held=False)
    removed, previous = restoration(record.changes, record.brought, now.present)
    removed = apt.removable(removed, driver_record.ARCHIVES)
    if lacking := apt.unavailable(previous, driver_record.ARCHIVES):
        with contextlib.suppress(apt.PackagesError):
            # The update for the change replaced the lists of the previous archives.
            apt.get("update", archives=driver_record.ARCHIVES)
        lacking = apt.unavailable(lacking, driver_record.ARCHIVES)
    installed = {name: version for name, version in previous.items() if name not in lacking}
    apt.restore(removed, installed, driver_record.ARCHIVES)
    restored = (record.changes.keys() | set(record.own_held_before)) & apt.query().present.keys()
    apt.hold(restored & set(record.held_before), held=True)
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
    """Remove all kept archives except those of the installed driver and of the previous one."""
    mine = [each for each in apt.query().installed.items() if driver_packages.belongs(each[0])]
    mine += driver_record.read().earlier.items()
    needed = {apt.archive(driver_record.ARCHIVES, name, version) for name, version in mine}
    for path in driver_record.ARCHIVES.glob("*.deb"):
        if path not in needed:
            path.unlink()
    shutil.rmtree(driver_record.ARCHIVES / "partial", ignore_errors=True)


def finish() -> bool:
    """Mark the change as finished; return whether one was unfinished."""
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
    """Load the previous driver; return why that needs a reboot, empty if it does not.

    `before`: the version that was loaded, None if no driver was. `kind`: its kernel module, open or
    proprietary.
    """
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
        return f"the {now_kind} kernel module is loaded, but the {kind} one is installed"
    return f"loaded driver: {now or 'none'}, but installed driver: {installed or 'none'}"


def restoration(
    before: Mapping[str, str], brought: Mapping[str, str], now: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The packages to remove, and the packages to install in their previous versions.

    `before`: the previous versions of the changed packages; empty for a package that was not installed.
    `brought`: the versions that the change installed. `now`: the present versions. A package that is not part
    of the driver and has another version than the change installed is left alone.
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
    """The versions of the driver's packages that a change replaced; `kept` if it replaced no driver.

    `changes`: the changed packages whose previous archives are kept. `kept`: the result of the last change.
    """
    replaced = {name: old for name, old in changes.items() if driver_packages.belongs(name)}
    return replaced if any(map(driver_packages.DKMS.fullmatch, replaced)) else dict(kept)
