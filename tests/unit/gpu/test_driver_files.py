"""The contents of the role's own files."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.katago.fleet.plugins.module_utils.gpu import apt_sources, driver_files, driver_plan
from tests.unit.gpu.hosts import BARE, DEFAULTS, OFFERED, PASCAL, THEIRS, pins


def test_added_components_only_provide_the_driver() -> None:
    mirror = apt_sources.Archive("http://m.example.org/debian", "bookworm", "main", "bookworm", "Mirror")
    pins = driver_files.contents(
        DEFAULTS,
        components=("non-free",),
        releases=apt_sources.pinned_releases([mirror], "bookworm"),
        version="535.309.01",
        branch="535",
    )[str(driver_files.PREFERENCES)]
    for release in (
        "o=Debian,n=bookworm",
        "o=Debian,n=bookworm-updates",
        "o=Debian,n=bookworm-security",
        "o=Mirror,n=bookworm",
    ):
        assert f"Package: *\nPin: release {release},c=non-free\nPin-Priority: -1\n" in pins
    assert pins.count("c=") == 4
    assert "Pin: version 535.309.01*\nPin-Priority: 1001\n" in pins
    assert pins.index("nvidia-persistenced") < pins.index("Pin: version")
    own = driver_files.contents(DEFAULTS, components=(), version="", branch="535")
    assert "c=" not in own[str(driver_files.PREFERENCES)]


def test_unattended_upgrades_leave_the_driver_alone() -> None:
    text = driver_files.contents(DEFAULTS, components=(), version="", branch="535")[
        str(driver_files.UNATTENDED)
    ]
    for prefix in ("nvidia-", "libnvidia-", "libcuda", "firmware-nvidia-"):
        assert f'"^{prefix}";' in text


def test_branch_is_pinned_while_the_version_is_unknown() -> None:
    host = replace(BARE, devices=(PASCAL,), available=OFFERED)
    assert driver_plan.plan(THEIRS, host).branch == "580"
    assert "Pin: version 580.*\nPin-Priority: 1001" in pins(THEIRS, host)
    assert "Pin: version 535.*\nPin-Priority: 1001" in pins(DEFAULTS, BARE)


def test_nvidias_packages_are_excluded_for_the_distributions_driver() -> None:
    first = pins(DEFAULTS, BARE).partition("\n\n")[0]
    assert "libnvidia-* " in first
    assert first.endswith("Pin: release o=NVIDIA\nPin-Priority: -1")
    assert "o=NVIDIA" not in pins(THEIRS, BARE)


def test_daemon_starts_without_the_program_that_creates_nodes() -> None:
    text = driver_files.contents(DEFAULTS, components=(), version="", branch="535")[str(driver_files.DROP_IN)]
    assert "ExecStartPost=-/usr/bin/nvidia-modprobe" in text
