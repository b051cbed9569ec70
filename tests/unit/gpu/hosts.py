"""Hosts for the driver's tests, and stubs for their programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    apt_sources,
    driver_files,
    driver_packages,
    driver_plan,
    driver_versions,
    programs,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import Record
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings

KERNEL = "6.1.0-56-cloud-amd64"


A40 = Device("0000:01:00.0", "nvidia", "2235")


VERSION = "535.309.01-0+deb12u1"


BARE = Host(
    system="debian",
    release="12",
    codename="bookworm",
    architecture="x86_64",
    running=KERNEL,
    devices=(A40,),
    kernels=(KERNEL,),
    image_packages={f"linux-image-{KERNEL}": "6.1.192-2", "linux-image-cloud-amd64": "6.1.192-2"},
    header_versions={"linux-headers-cloud-amd64": ("6.1.192-2",)},
    lacking_components=apt_sources.COMPONENTS,
    releases=apt_sources.pinned_releases((), "bookworm"),
    disk_free_mb={"/usr": 9000, "/var": 9000, "/boot": 900},
)


TRIXIE = replace(
    BARE,
    release="13",
    codename="trixie",
    running="6.12.118+deb13-amd64",
    kernels=("6.12.118+deb13-amd64",),
    image_packages={"linux-image-6.12.118+deb13-amd64": "6.12.118-1"},
)


DEFAULTS = Settings()


def done(settings: Settings = DEFAULTS, bare: Host = BARE, **changes: Any) -> Host:
    """The host after the plan was executed and the driver was loaded."""
    plan = driver_plan.plan(settings, bare)
    texts = driver_files.contents(
        settings,
        components=plan.components,
        releases=bare.releases,
        version="535.309.01",
        branch=plan.branch,
    )
    host = replace(
        bare,
        installed=dict.fromkeys(plan.packages, VERSION),
        held=driver_packages.held(plan.packages),
        modules={KERNEL: "535.309.01"},
        loaded="535.309.01",
        files=dict(texts),
        record=Record(components=plan.components, held=tuple(driver_packages.held(plan.packages))),
    )
    return replace(host, **changes)


def problems(settings: Settings = DEFAULTS, host: Host = BARE) -> tuple[str, ...]:
    return driver_plan.plan(settings, host).problems


NEXT = "6.1.0-57-cloud-amd64"


OPEN = Settings(source="nvidia", key="armoured", kernel_module="open", reboot="when_needed")


def opened(kind: str | None) -> Host:
    """A host with the open kernel module installed, and a loaded module of the same version of this kind."""
    names = driver_plan.plan(OPEN, BARE).packages
    return replace(
        BARE,
        installed=dict.fromkeys(names, "580.95.05-1"),
        loaded="580.95.05",
        loaded_kind=kind,
        modules={KERNEL: "580.95.05"},
    )


def pending(**changes: Any) -> Host:
    """A host with a working driver, and a newer kernel for which the module is built."""
    host = done(
        kernels=(KERNEL, NEXT),
        image_packages={**BARE.image_packages, f"linux-image-{NEXT}": "6.1.193-1"},
        modules={KERNEL: "535.309.01", NEXT: "535.309.01"},
    )
    installed = {**host.installed, f"linux-headers-{NEXT}": "6.1.193-1"}
    return replace(host, installed=installed, **changes)


def aged(running: str = KERNEL, **changes: Any) -> Host:
    """A host with a newer kernel, whose archives no longer have the headers of its running kernel."""
    kernels = (KERNEL, NEXT)
    host = replace(
        BARE,
        running=running,
        kernels=kernels,
        image_packages={f"linux-image-{each}": "1" for each in kernels} | {"linux-image-cloud-amd64": "2"},
        header_versions={f"linux-headers-{KERNEL}": (), f"linux-headers-{NEXT}": ("6.1.193-1",)},
    )
    return replace(host, **changes)


def stub_programs(monkeypatch: pytest.MonkeyPatch, **answers: tuple[int, str]) -> list[list[str]]:
    """Stub the host's programs: each succeeds or returns its answer. Returns the list of commands."""
    commands: list[list[str]] = []

    def answer(command: Sequence[str], seconds: float = 0) -> tuple[int, str]:
        commands.append(list(command))
        return answers.get(command[0], (0, ""))

    monkeypatch.setattr(programs, "ask", answer)
    return commands


PASCAL = replace(A40, id="1b06")


OFFERED = ("595.45.04-1", "590.48.01-1", "580.95.05-1")


THEIRS = Settings(source="nvidia", key="armoured")


def pins(settings: Settings, host: Host) -> str:
    """The pins during a change of packages."""
    return driver_files.contents(
        settings,
        components=(),
        version=driver_versions.wanted_version(settings, host),
        branch=driver_packages.branch_of(settings, host),
    )[str(driver_files.PREFERENCES)]


def installed_of(version: str, settings: Settings, **changes: Any) -> Host:
    """A host with a version of NVIDIA's own driver."""
    names = driver_plan.plan(settings, BARE).packages
    host = replace(
        BARE,
        installed=dict.fromkeys(names, version),
        loaded=driver_packages.upstream(version),
        modules={KERNEL: driver_packages.upstream(version) or ""},
        available=OFFERED,
    )
    return replace(host, **changes)
