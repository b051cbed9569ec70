"""Graphics processors: what is on the PCI bus, what NVIDIA's tools and the kernel's log say of it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Vendor = Literal["nvidia", "amd", "intel"]
Trouble = Literal["no_driver", "mismatch", "no_device", "lost", "no_library", "unknown"]

VENDORS: Mapping[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
"""By PCI vendor; also the order in which one is chosen where a host has several."""

PCI = Path("/sys/bus/pci/devices")
DEV = Path("/dev")

SMI_FIELDS = (
    "pci.bus_id",
    "name",
    "driver_version",
    "persistence_mode",
    "temperature.gpu",
    "memory.total",
    "memory.used",
)
SMI = (
    "nvidia-smi",
    f"--query-gpu={','.join(SMI_FIELDS)}",
    "--format=csv,noheader,nounits",
)
"""Asks for one line a device: memory in MiB, temperature in degrees Celsius."""

# Display controllers and processing accelerators [PCI Code and ID Assignment, 03xx and 1200].
_CLASSES = ("0x03", "0x1200")
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
# What nvidia-smi(1) and NVML say of themselves when they cannot answer.
_TROUBLES: tuple[tuple[str, Trouble], ...] = (
    (r"Driver/library version mismatch", "mismatch"),
    (r"GPU is lost|fallen off the bus|Unable to determine the device handle", "lost"),
    (r"couldn't communicate with the NVIDIA driver|Driver Not Loaded", "no_driver"),
    (r"No devices were found", "no_device"),
    (r"couldn't find libnvidia-ml|NVML library|NVML Shared Library", "no_library"),
)
_NOT_INSTALLED = 127
# RETURN VALUE of nvidia-smi(1).
_STATUSES: Mapping[int, Trouble] = {9: "no_driver", 12: "no_library", 15: "lost"}
_XID = re.compile(r"NVRM: Xid \(PCI:(?P<device>[0-9a-f:.]+)\): (?P<code>\d+), *(?P<text>.*)", re.I)
# Xids that leave a GPU unusable until it is reset or the host is rebooted, or that tell of a dying one
# [NVIDIA's XID Errors: 48 double bit error, 62, 119 and 120 its own controller, 64 and 95 memory,
# 74 NVLink, 79 off the bus]. Others are mostly faults of a program.
FATAL_XIDS = frozenset({48, 62, 64, 74, 79, 95, 119, 120})


@dataclass(frozen=True)
class Device:
    """A GPU. `address` on the bus; `driver` of the kernel that has it, empty without one.

    `simulated`: named by an operator, and not on the bus. `architecture` of NVIDIA's chips.
    """

    address: str
    vendor: Vendor
    id: str
    driver: str = ""
    simulated: bool = False

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


@dataclass(frozen=True)
class Card:
    """What nvidia-smi says of a device; None for what it does not know of it.

    `persistence`: whether the driver stays loaded without a client. Temperature in degrees Celsius,
    memory in MiB.
    """

    address: str
    name: str
    driver: str
    persistence: bool | None
    temperature: int | None
    memory_mb: int | None
    memory_used_mb: int | None


@dataclass(frozen=True)
class Smi:
    """An answer of nvidia-smi: its cards, or the trouble and its own words for it."""

    cards: tuple[Card, ...] = ()
    trouble: Trouble | None = None
    words: str = ""


def on_bus(root: Path = PCI) -> list[Device]:
    """The GPUs on the PCI bus, in the order of their addresses.

    Intel's on bus 0 is part of the processor and does not count: a host with it is a CPU host.
    """
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
        if known == "intel" and directory.name.startswith("0000:00:"):
            continue
        driver = directory / "driver"
        devices.append(
            Device(
                address=directory.name,
                vendor=known,
                id=number.removeprefix("0x"),
                driver=driver.resolve().name if driver.exists() else "",
            )
        )
    return devices


def named(devices: Iterable[Mapping[str, Any]], found: Sequence[Device]) -> list[Device]:
    """The devices that an operator names in place of those on the bus.

    Each has `vendor` (four hexadecimal digits or nvidia, amd, intel) and `device` (four hexadecimal
    digits). One that is on the bus too is the one on the bus. ValueError names what is malformed.
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
        result.append(real or Device(address="", vendor=vendor, id=identity, simulated=True))
    return result


def chosen(devices: Iterable[Device]) -> list[Device]:
    """Those of the vendor that is used where a host has several."""
    found = list(devices)
    for vendor in VENDORS.values():
        if mine := [each for each in found if each.vendor == vendor]:
            return mine
    return []


def nodes(dev: Path = DEV) -> list[str]:
    """The device nodes that an engine needs of the GPUs that are there, and no others.

    NVIDIA's: each card, its control and its unified memory. AMD's: the compute interface and each
    card's render node. Intel's: each card's render node. [] without a GPU that has a driver.
    """
    cards = sorted((each for each in dev.glob("nvidia[0-9]*") if each.name[6:].isdigit()), key=_number)
    if cards:
        return [str(each) for each in (*cards, dev / "nvidiactl", dev / "nvidia-uvm")]
    render = sorted((dev / "dri").glob("renderD*"), key=_number)
    interface = [dev / "kfd"] if (dev / "kfd").exists() else []
    return [str(each) for each in (*interface, *render)]


def _number(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name))


def parse_smi(status: int, output: str) -> Smi:
    """What `SMI` answered, by its exit status and all that it wrote."""
    words = " ".join(output.split())[:300]
    for pattern, trouble in _TROUBLES:
        if re.search(pattern, output, re.I):
            return Smi(trouble=trouble, words=words)
    if status:
        return Smi(trouble=_STATUSES.get(status, "unknown"), words=words or f"exit status {status}")
    rows = [row for row in csv.reader(output.splitlines(), skipinitialspace=True) if row]
    if not rows:
        return Smi(trouble="no_device", words="nvidia-smi names no device")
    if any(len(row) != len(SMI_FIELDS) for row in rows):
        return Smi(trouble="unknown", words=words)
    return Smi(cards=tuple(_card(row) for row in rows))


def _card(row: Sequence[str]) -> Card:
    address, name, driver, persistence, temperature, memory, used = (field.strip() for field in row)
    return Card(
        address=address,
        name=name,
        driver=driver,
        persistence={"Enabled": True, "Disabled": False}.get(persistence),
        temperature=_integer(temperature),
        memory_mb=_integer(memory),
        memory_used_mb=_integer(used),
    )


def _integer(field: str) -> int | None:
    return int(field) if field.isdigit() else None


def smi_problems(answer: Smi, *, expected: int, version: str) -> list[str]:
    """What is wrong with an answer: the number of devices, another driver than `version`, no persistence.

    [] when all is well.
    """
    if answer.trouble:
        return [f"nvidia-smi: {answer.words}"]
    problems = []
    if len(answer.cards) != expected:
        problems.append(f"nvidia-smi names {len(answer.cards)} devices; expected are {expected}")
    for card in answer.cards:
        if version and card.driver != version:
            problems.append(f"{card.address} runs the driver {card.driver}; {version} is installed")
        if card.persistence is False:
            problems.append(f"{card.address} has persistence disabled; nvidia-persistenced must run")
    return problems


def xids(kernel_log: str) -> list[dict[str, Any]]:
    """NVIDIA's error reports in the kernel's log, by device and code, the fatal ones first."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for match in _XID.finditer(kernel_log):
        key = match["device"], int(match["code"])
        seen = found.setdefault(key, {"device": key[0], "code": key[1], "count": 0})
        seen |= {"count": seen["count"] + 1, "fatal": key[1] in FATAL_XIDS, "text": match["text"][:160]}
    return sorted(found.values(), key=lambda each: (not each["fatal"], each["device"], each["code"]))


def loaded_version(module: str = "nvidia", root: Path = Path("/sys/module")) -> str | None:
    """The version of a loaded kernel module; None when it is not loaded, empty when it tells none."""
    directory = root / module
    if not directory.is_dir():
        return None
    try:
        return (directory / "version").read_text().strip()
    except OSError:
        return ""


def state(
    run: Callable[[Sequence[str]], tuple[int, str]],
    kernel_log: Callable[[], str],
    *,
    devices: Sequence[Device],
    loaded: str | None,
) -> dict[str, Any] | None:
    """What NVIDIA's tools and the kernel say of `devices`; None for a host that does not use any of NVIDIA.

    `run` gives a command's exit status (127 where it is not installed) and output, `kernel_log` the
    kernel's newest lines. `loaded` is the version of the loaded driver.
    """
    mine = [each for each in devices if each.vendor == "nvidia"]
    if not mine:
        return None
    status, output = run(SMI)
    if status == _NOT_INSTALLED and loaded is None:
        return None
    answer = parse_smi(status, output)
    return {
        "devices": len(mine),
        "loaded": loaded,
        "trouble": answer.trouble,
        "words": answer.words,
        "cards": [asdict(card) for card in answer.cards],
        "xids": xids(kernel_log()),
    }
