"""The kernels of a host: which can boot, which does, and the packages with their headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def header_package(image: str) -> str:
    """The package with the headers for a package with a kernel."""
    return re.sub(r"^linux-image-(unsigned-)?", "linux-headers-", image)


def follows(image: str) -> bool:
    """Whether a package with a kernel follows the newest, as linux-image-generic-hwe-22.04 does."""
    return not re.match(r"linux-image-(unsigned-)?\d", image)


def newest(kernels: Iterable[str]) -> str:
    """The kernel that boot loaders take by default: the one with the highest version."""
    return max(kernels, key=kernel_version, default="")


def kernel_version(kernel: str) -> tuple[int, ...]:
    """The numbers in a kernel's name, to compare."""
    return tuple(int(number) for number in re.findall(r"\d+", kernel))


def bootable() -> list[str]:
    """The kernels in /boot; where there is none, those whose headers are installed."""
    kernels = [path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*")]
    return kernels or [path.parent.name for path in Path("/lib/modules").glob("*/build")]


def stale(kernels: Sequence[str], held: Path) -> list[str]:
    """The kernels whose initramfs is older than a file that it must hold; [] where that file is not there."""
    if not held.exists():
        return []
    changed = held.stat().st_mtime
    images = {kernel: Path(f"/boot/initrd.img-{kernel}") for kernel in kernels}
    return [kernel for kernel, path in images.items() if path.exists() and path.stat().st_mtime < changed]
