"""The kernels of a host: which ones can boot, which one will boot, and their header packages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def header_package(image: str) -> str:
    """The header package of a kernel package."""
    return re.sub(r"^linux-image-(unsigned-)?", "linux-headers-", image)


def follows(image: str) -> bool:
    """Whether a kernel package follows the newest kernel, such as linux-image-generic-hwe-22.04."""
    return not re.match(r"linux-image-(unsigned-)?\d", image)


def newest(kernels: Iterable[str]) -> str:
    """The kernel that boot loaders start by default: the one with the highest version."""
    return max(kernels, key=kernel_version, default="")


def kernel_version(kernel: str) -> tuple[int, ...]:
    """The numbers in a kernel's name, for comparison."""
    return tuple(int(number) for number in re.findall(r"\d+", kernel))


def bootable() -> list[str]:
    """The kernels in /boot; if there are none, the kernels whose headers are installed."""
    kernels = [path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*")]
    return kernels or [path.parent.name for path in Path("/lib/modules").glob("*/build")]


def stale(kernels: Sequence[str], file: Path) -> list[str]:
    """The kernels whose initramfs is older than a file that it must contain; [] if the file is missing."""
    if not file.exists():
        return []
    changed = file.stat().st_mtime
    images = {kernel: Path(f"/boot/initrd.img-{kernel}") for kernel in kernels}
    return [kernel for kernel, path in images.items() if path.exists() and path.stat().st_mtime < changed]
