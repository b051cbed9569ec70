"""The host's capacity for engines: its GPUs, and memory for a second engine beside the running one."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices


@dataclass(frozen=True)
class Gpu:
    """The GPUs that an engine can use: their vendor and the device nodes that the engine needs."""

    vendor: str
    nodes: tuple[str, ...]


def gpus(vendor: str = devices.AUTO, named: Sequence[Mapping[str, Any]] = ()) -> list[devices.Device]:
    """The GPUs that the role gpu_driver uses.

    `vendor` is its gpu_driver_vendor, `named` its gpu_driver_devices.
    Raises ValueError, with the malformed part, if `named` is malformed.
    """
    detected = devices.on_bus(paths.PCI_DEVICES)
    return devices.chosen(devices.named(named, detected) if named else detected, vendor)


def usable_gpu(vendor: str = devices.AUTO, named: Sequence[Mapping[str, Any]] = ()) -> Gpu | None:
    """The GPUs of `gpus` for which the driver has created device nodes; None if there are none."""
    used = gpus(vendor, named)
    nodes = devices.nodes(used, dev=paths.DEV, pci=paths.PCI_DEVICES, proc=paths.NVIDIA_GPUS)
    return Gpu(used[0].vendor, tuple(nodes)) if nodes else None


def _available_mb() -> int:
    """Memory in MB that is available to a new process without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    raise ValueError("/proc/meminfo has no MemAvailable")


def _free_gpu_mb() -> int | None:
    """Free memory in MB of the first GPU; None on a host without NVIDIA's tools."""
    try:
        query = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return int(query.stdout.splitlines()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def reason_to_defer(needed_mb: int) -> str | None:
    """Why a second engine of `needed_mb` would endanger the running one; None if there is room for it."""
    return shortage(needed_mb, _available_mb(), _free_gpu_mb())


def shortage(needed_mb: int, available_mb: int, gpu_mb: int | None) -> str | None:
    """Why a second engine would endanger the running one; None if there is room for both."""
    if available_mb < needed_mb:
        return f"{available_mb} MB of memory are available, a second engine needs {needed_mb} MB"
    if gpu_mb is not None and gpu_mb < needed_mb:
        return f"{gpu_mb} MB of GPU memory are free, a second engine needs {needed_mb} MB"
    return None
