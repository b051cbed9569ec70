"""The GPUs of a host: GPUs on the PCI bus, the ones that are used, and the device nodes that they need.

Reads only the paths passed to it and imports nothing from this collection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

Vendor = Literal["nvidia", "amd", "intel"]

VENDORS: Mapping[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
"""Vendor names by PCI vendor id, in order of preference if a host has several."""

OPENCL_VENDORS: Mapping[str, tuple[str, ...]] = {
    "amd": ("AMD", "Advanced Micro Devices, Inc."),
    "intel": ("Intel", "Intel(R) Corporation"),
}
"""The vendor strings that OpenCL reports for GPUs, by Mesa and by the vendor. PoCL's CPUs have others."""

AUTO = "auto"
"""Choose the vendor by the GPUs on the PCI bus."""

# Display controllers and processing accelerators [PCI Code and ID Assignment, 03xx and 1200].
_CLASSES = ("0x03", "0x1200")

# Device ids of AMD's discrete GCN, RDNA and CDNA cards. Ids below 2000 and from 9600 on belong to processors
# and chipsets. The rest have no OpenCL driver, such as the ES1000 in servers [pci.ids, 1002].
_DISCRETE_AMD = (range(0x6600, 0x7000), range(0x7300, 0x7800))

# The first device id of each range of NVIDIA's chips. Kepler and older have no driver that KataGo can use.
_ARCHITECTURES: tuple[tuple[int, str], ...] = (
    (0x0000, "kepler"),
    (0x1340, "maxwell"),
    (0x15F0, "pascal"),
    (0x1600, "maxwell"),
    (0x1B00, "pascal"),
    (0x1D80, "volta"),
    (0x1E00, "turing"),
    (0x2080, "ampere"),
    (0x2180, "turing"),
    (0x2200, "ampere"),
    (0x2300, "hopper"),
    (0x2400, "ampere"),
    (0x2600, "ada"),
    (0x2900, "blackwell"),
)


@dataclass(frozen=True)
class Device:
    """A GPU. `address`: its PCI address. `driver`: the kernel driver bound to it; empty if none.

    `simulated`: named by the operator but not on the bus. `integrated`: part of the processor or the board,
    and used only on request.
    """

    address: str
    vendor: Vendor
    id: str
    driver: str = ""
    simulated: bool = False
    integrated: bool = False

    @property
    def architecture(self) -> str:
        """NVIDIA's name for the chip's generation; empty for other vendors."""
        if self.vendor != "nvidia":
            return ""
        number = int(self.id, 16)
        return next(name for first, name in reversed(_ARCHITECTURES) if number >= first)

    def __str__(self) -> str:
        """The device as the plan shows it."""
        kind = f", {self.architecture}" if self.architecture else ""
        return f"{self.vendor} {self.id} at {self.address or 'no address (simulated)'}{kind}"


def on_bus(root: Path) -> list[Device]:
    """The GPUs on the PCI bus, ordered by address. `root`: the bus's device directory in sysfs."""
    devices = []
    for directory in sorted(root.glob("*")):
        try:
            kind, vendor, number = (
                (directory / file).read_text().strip() for file in ("class", "vendor", "device")
            )
        except OSError:
            continue
        name = VENDORS.get(vendor.removeprefix("0x"))
        if name is None or not kind.startswith(_CLASSES):
            continue
        driver = directory / "driver"
        devices.append(
            Device(
                address=directory.name,
                vendor=name,
                id=number.removeprefix("0x"),
                driver=driver.resolve().name if driver.exists() else "",
                integrated=_is_integrated(directory.name, name, int(number, 16)),
            )
        )
    return devices


def _is_integrated(address: str, vendor: Vendor, number: int) -> bool:
    if vendor == "intel":
        return address.startswith("0000:00:")
    return vendor == "amd" and not any(number in ids for ids in _DISCRETE_AMD)


def named(devices: Iterable[Mapping[str, Any]], on_bus: Sequence[Device]) -> list[Device]:
    """The devices that the operator names instead of the devices on the bus.

    Each entry has `vendor` (four hexadecimal digits or nvidia, amd, intel) and `device` (four hexadecimal
    digits). An entry that matches a device on the bus selects that device, even an integrated one.

    Raises:
        ValueError: an entry is malformed; the message names it.
    """
    unmatched = list(on_bus)
    result = []
    for number, device in enumerate(devices):
        place = f"gpu_driver_devices[{number}]"
        value = str(device.get("vendor", "")).lower().removeprefix("0x")
        vendor = VENDORS.get(value) or next((each for each in VENDORS.values() if each == value), None)
        if vendor is None:
            raise ValueError(f"{place}.vendor is {value!r}; it must be one of nvidia, amd, intel.")
        identity = str(device.get("device", "")).lower().removeprefix("0x")
        if not re.fullmatch(r"[0-9a-f]{4}", identity):
            raise ValueError(
                f"{place}.device is {identity!r}; it must be four hexadecimal digits, as shown by `lspci -n`."
            )
        real = next((each for each in unmatched if (each.vendor, each.id) == (vendor, identity)), None)
        if real:
            unmatched.remove(real)
            real = replace(real, integrated=False)
        result.append(real or Device(address="", vendor=vendor, id=identity, simulated=True))
    return result


def chosen(devices: Iterable[Device], vendor: str = AUTO) -> list[Device]:
    """The devices of `vendor` that the engine uses; [] on a CPU host. `auto`: the first vendor present.

    Integrated devices are used only if `vendor` names their vendor and it has no discrete device there.
    """
    candidates = list(devices)
    for each in VENDORS.values() if vendor == AUTO else (vendor,):
        mine = [device for device in candidates if device.vendor == each]
        discrete = [device for device in mine if not device.integrated]
        if used := discrete or (mine if vendor != AUTO else []):
            return used
    return []


def nodes(devices: Iterable[Device], *, dev: Path, pci: Path, proc: Path) -> list[str]:
    """The device nodes that an engine needs to use `devices`, and no others; [] if there are none.

    NVIDIA: a node for each card, nvidiactl and nvidia-uvm. AMD: each card's render node and kfd. Intel: each
    card's render node. The driver creates the nodes. `pci`: the bus's device directory in sysfs. `proc`: the
    directory where NVIDIA's driver describes its GPUs.
    """
    cards: list[Path] = []
    shared: list[Path] = []
    for device in devices:
        if device.vendor == "nvidia":
            cards += _nvidia_nodes(device.address, dev, proc)
            shared = [dev / "nvidiactl", dev / "nvidia-uvm"]
            continue
        # The driver lists a card's nodes in the card's own directory.
        cards += [dev / "dri" / each.name for each in (pci / device.address / "drm").glob("renderD*")]
        if device.vendor == "amd" and (dev / "kfd").exists():
            shared = [dev / "kfd"]
    return [str(each) for each in (*sorted(cards, key=_number), *shared)] if cards else []


def used_by_engine(output: str, vendor: str, names: Sequence[str]) -> str | None:
    """The device that KataGo reports as used, or None.

    For NVIDIA, one of `names`. For another vendor, any of its OpenCL devices. `output`: KataGo's log.
    """
    if vendor == "nvidia":
        return next((name for name in names if name in output), None)
    opencl_vendors = "|".join(map(re.escape, OPENCL_VENDORS[vendor]))
    match = re.search(rf"Using OpenCL Device \d+: (.+) \((?:{opencl_vendors})\)", output)
    return match[1] if match else None


def _nvidia_nodes(address: str, dev: Path, proc: Path) -> list[Path]:
    try:
        minor = re.search(r"^Device Minor:\s*(\d+)", (proc / address / "information").read_text(), re.M)
    except OSError:
        return []
    node = dev / f"nvidia{minor[1]}" if minor else None
    return [node] if node and node.exists() else []


def _number(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name))


def backends(vendor: str) -> tuple[str, ...]:
    """KataGo's backends that work on a device of `vendor`, the fastest first."""
    return {
        "nvidia": ("trt", "cuda", "opencl"),
        "amd": ("opencl",),
        "intel": ("opencl",),
    }.get(vendor, ("opencl", "eigenavx2", "eigen"))
