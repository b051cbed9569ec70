"""The GPUs of a host: those on the PCI bus, which of them are used, and the device nodes that they need.

Decides from the paths that it is given; imports nothing of this collection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

Vendor = Literal["nvidia", "amd", "intel"]

VENDORS: Mapping[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
"""By PCI vendor; also the order in which one is chosen where a host has several."""

OPENCL_VENDORS: Mapping[str, tuple[str, ...]] = {
    "amd": ("AMD", "Advanced Micro Devices, Inc."),
    "intel": ("Intel", "Intel(R) Corporation"),
}
"""The vendors of cards as OpenCL has them, Mesa's words and their own; PoCL has others for processors."""

AUTO = "auto"
"""The vendor that leaves the choice to what is there."""

# Display controllers and processing accelerators [PCI Code and ID Assignment, 03xx and 1200].
_CLASSES = ("0x03", "0x1200")

# AMD's discrete cards of the generations GCN, RDNA and CDNA. Ids below 2000 and from 9600 on are parts of
# processors and chipsets, the others chips that OpenCL has no driver for, as servers' ES1000 [pci.ids, 1002].
_DISCRETE_AMD = (range(0x6600, 0x7000), range(0x7300, 0x7800))

# Device ids of NVIDIA's chips, first of each range; Kepler and older have no driver that KataGo can use.
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
    """A GPU. `address` on the bus; `driver` of the kernel that has it, empty without one.

    `simulated`: named by an operator, and not on the bus. `integrated`: part of the processor or the
    board, and used only where that is asked for. `architecture` of NVIDIA's chips.
    """

    address: str
    vendor: Vendor
    id: str
    driver: str = ""
    simulated: bool = False
    integrated: bool = False

    @property
    def architecture(self) -> str:
        """NVIDIA's name of the chip's generation; empty for other vendors."""
        if self.vendor != "nvidia":
            return ""
        number = int(self.id, 16)
        return next(name for first, name in reversed(_ARCHITECTURES) if number >= first)

    def __str__(self) -> str:
        """As a plan names it."""
        kind = f", {self.architecture}" if self.architecture else ""
        return f"{self.vendor} {self.id} at {self.address or 'no address (simulated)'}{kind}"


def on_bus(root: Path) -> list[Device]:
    """The GPUs on the PCI bus, by its directory of devices in sysfs, in the order of their addresses."""
    devices = []
    for directory in sorted(root.glob("*")):
        try:
            kind, vendor, number = (
                (directory / name).read_text().strip() for name in ("class", "vendor", "device")
            )
        except OSError:
            continue
        known = VENDORS.get(vendor.removeprefix("0x"))
        if known is None or not kind.startswith(_CLASSES):
            continue
        driver = directory / "driver"
        devices.append(
            Device(
                address=directory.name,
                vendor=known,
                id=number.removeprefix("0x"),
                driver=driver.resolve().name if driver.exists() else "",
                integrated=_is_integrated(directory.name, known, int(number, 16)),
            )
        )
    return devices


def _is_integrated(address: str, vendor: Vendor, number: int) -> bool:
    if vendor == "intel":
        return address.startswith("0000:00:")
    return vendor == "amd" and not any(number in ids for ids in _DISCRETE_AMD)


def named(devices: Iterable[Mapping[str, Any]], found: Sequence[Device]) -> list[Device]:
    """The devices that an operator names in place of those on the bus.

    Each has `vendor` (four hexadecimal digits or nvidia, amd, intel) and `device` (four hexadecimal
    digits). One that is on the bus too is the one on the bus, and counts even where it is integrated.
    ValueError names what is malformed.
    """
    left = list(found)
    result = []
    for number, device in enumerate(devices):
        place = f"gpu_driver_devices[{number}]"
        given = str(device.get("vendor", "")).lower().removeprefix("0x")
        vendor = VENDORS.get(given) or next((each for each in VENDORS.values() if each == given), None)
        if vendor is None:
            raise ValueError(f"{place}.vendor is {given!r}; it must be one of nvidia, amd, intel.")
        identity = str(device.get("device", "")).lower().removeprefix("0x")
        if not re.fullmatch(r"[0-9a-f]{4}", identity):
            raise ValueError(
                f"{place}.device is {identity!r}; it must be the four hexadecimal digits of `lspci -n`."
            )
        real = next((each for each in left if (each.vendor, each.id) == (vendor, identity)), None)
        if real:
            left.remove(real)
            real = replace(real, integrated=False)
        result.append(real or Device(address="", vendor=vendor, id=identity, simulated=True))
    return result


def chosen(devices: Iterable[Device], vendor: str = AUTO) -> list[Device]:
    """Those that are used: of `vendor`, with auto of the first that there is; [] on a CPU host.

    Integrated ones are used only where their vendor is named, and has no other there.
    """
    found = list(devices)
    for each in VENDORS.values() if vendor == AUTO else (vendor,):
        mine = [device for device in found if device.vendor == each]
        discrete = [device for device in mine if not device.integrated]
        if used := discrete or (mine if vendor != AUTO else []):
            return used
    return []


def nodes(devices: Iterable[Device], *, dev: Path, pci: Path, proc: Path) -> list[str]:
    """The device nodes that an engine needs of `devices`, and no others.

    NVIDIA's: each card, their control and their unified memory. AMD's: the compute interface and each
    card's render node. Intel's: each card's render node. [] where no driver made one for them.
    `pci`: the bus's devices in sysfs, `proc`: what NVIDIA's driver says of its GPUs.
    """
    cards: list[Path] = []
    shared: list[Path] = []
    for device in devices:
        if device.vendor == "nvidia":
            cards += _nvidia_nodes(device.address, dev, proc)
            shared = [dev / "nvidiactl", dev / "nvidia-uvm"]
            continue
        # The driver names a card's nodes below the card itself.
        cards += [dev / "dri" / each.name for each in (pci / device.address / "drm").glob("renderD*")]
        if device.vendor == "amd" and (dev / "kfd").exists():
            shared = [dev / "kfd"]
    return [str(each) for each in (*sorted(cards, key=_number), *shared)] if cards else []


def used_by_engine(words: str, vendor: str, names: Sequence[str]) -> str | None:
    """The device that KataGo says it uses: of NVIDIA's one of `names`, of another vendor's any; or None."""
    if vendor == "nvidia":
        return next((name for name in names if name in words), None)
    theirs = "|".join(map(re.escape, OPENCL_VENDORS[vendor]))
    found = re.search(rf"Using OpenCL Device \d+: (.+) \((?:{theirs})\)", words)
    return found[1] if found else None


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
    """KataGo's backends that work on a host's device, the fastest first."""
    return {
        "nvidia": ("trt", "cuda", "opencl"),
        "amd": ("opencl",),
        "intel": ("opencl",),
    }.get(vendor, ("opencl", "eigenavx2", "eigen"))
