"""Graphics processors: what is on the PCI bus, what NVIDIA's tools and the kernel's log say of it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

Vendor = Literal["nvidia", "amd", "intel"]
Trouble = Literal["no_driver", "mismatch", "no_device", "lost", "reset", "no_library", "unknown"]

VENDORS: Mapping[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
"""By PCI vendor; also the order in which one is chosen where a host has several."""

PCI = Path("/sys/bus/pci/devices")
DEV = Path("/dev")
PROC = Path("/proc/driver/nvidia/gpus")
VERSION = Path("/proc/driver/nvidia/version")

OPENCL_VENDORS: Mapping[str, tuple[str, ...]] = {
    "amd": ("AMD", "Advanced Micro Devices, Inc."),
    "intel": ("Intel", "Intel(R) Corporation"),
}
"""The vendors of cards as OpenCL has them, Mesa's words and their own; PoCL has others for processors."""

AUTO = "auto"
"""The vendor that leaves the choice to what is there."""

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
SMI_DETAILS = ("nvidia-smi", "-q", "-x")
"""Asks for all that each device knows of itself, in XML."""

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
# What nvidia-smi(1) and NVML say of themselves when they cannot answer.
_TROUBLES: tuple[tuple[str, Trouble], ...] = (
    (r"Driver/library version mismatch", "mismatch"),
    (r"GPU is lost|fallen off the bus|Unable to determine the device handle", "lost"),
    (r"couldn't communicate with the NVIDIA driver|Driver Not Loaded", "no_driver"),
    (r"No devices were found", "no_device"),
    (r"couldn't find libnvidia-ml|NVML library|NVML Shared Library", "no_library"),
)
_NOT_INSTALLED = 127
# RETURN VALUE of nvidia-smi(1); what it does not list are the numbers of NVML, nvmlReturn_t.
_STATUSES: Mapping[int, Trouble] = {6: "no_device", 9: "no_driver", 12: "no_library", 15: "lost", 16: "reset"}
SLOWDOWNS: Mapping[str, str] = {
    "hw_thermal_slowdown": "its heat, by its hardware",
    "hw_power_brake_slowdown": "the brake of its power supply",
    "sw_thermal_slowdown": "its heat, by its driver",
}
"""Why a device's clocks are held down where that tells of trouble; others are idle clocks and power caps."""
# The whole answer is there all the same.
_CORRUPTED_INFOROM = 14
_WARNING = "WARNING:"
# A field without a value has the reason in brackets, in the words of nvmlErrorString. These say that the card
# has no such thing; all others that it could not be asked.
_UNTOLD = ("[N/A]", "[Not Supported]", "[Requested functionality has been deprecated]")
_FIELD_TROUBLES: Mapping[str, Trouble] = {"[GPU is lost]": "lost", "[GPU requires reset]": "reset"}
_XID = re.compile(
    r"NVRM: Xid \(PCI:(?P<device>[0-9a-f:.]+)(?: GPU-I:\d+)?\): (?P<code>\d+), *(?P<text>.*)", re.I
)
_RESET, _REBOOT = "reset the GPU", "reboot the host"
XID_ACTIONS: Mapping[int, str] = {
    **dict.fromkeys((46, 48, 62, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158), _RESET),
    **dict.fromkeys((79, 151), _REBOOT),
    54: "connect the card's auxiliary power",
}
"""What is to be done after an Xid, where restarting the service is not enough.

The immediate actions of NVIDIA's Xid Catalog (Analyzing Xid Errors with the Xid Catalog): RESET_GPU, with 48
and 74, whose conditions a reset clears; RESTART_BM and RESTART_VM; CHECK_MECHANICALS. All others are faults
of programs, or are ignored; what 144 to 150 need depends on registers, and the driver says it by Xid 154.
"""
RECOVERY_XID = 154
"""The driver's word for what the others need: None, Drain P2P, Drain and Reset, GPU Reset Required, ..."""
_RECOVERY = re.compile(r" to 0x[0-9a-f]+ \((?P<action>[^()]+)\)", re.I)


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
class Condition:
    """How a device fares by its own account; None for what it does not tell.

    Temperatures in degrees Celsius, the limits being the device's own: `warm_at` is the highest that it is
    to run at, and from `slow_at` on its hardware slows it down. `slowed`: which of `SLOWDOWNS` hold its
    clocks down. `free_percent` of its memory, `utilization` in percent. `recovery`: what its driver asks
    for, empty for nothing.
    """

    address: str
    temperature: int | None
    warm_at: int | None
    slow_at: int | None
    slowed: tuple[str, ...]
    free_percent: float | None
    utilization: int | None
    recovery: str


@dataclass(frozen=True)
class Smi:
    """An answer of nvidia-smi: its cards, or the trouble and its own words for it.

    `notes`: what it warns of beside a whole answer.
    """

    cards: tuple[Card, ...] = ()
    trouble: Trouble | None = None
    words: str = ""
    notes: tuple[str, ...] = ()


def on_bus(root: Path = PCI) -> list[Device]:
    """The GPUs on the PCI bus, in the order of their addresses."""
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


def nodes(devices: Iterable[Device], *, dev: Path = DEV, pci: Path = PCI, proc: Path = PROC) -> list[str]:
    """The device nodes that an engine needs of `devices`, and no others.

    NVIDIA's: each card, their control and their unified memory. AMD's: the compute interface and each
    card's render node. Intel's: each card's render node. [] where no driver made one for them.
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


def parse_smi(status: int, output: str) -> Smi:
    """What `SMI` answered, by its exit status and all that it wrote."""
    words = " ".join(output.split())[:300]
    for pattern, trouble in _TROUBLES:
        if re.search(pattern, output, re.I):
            return Smi(trouble=trouble, words=words)
    if status not in (0, _CORRUPTED_INFOROM):
        return Smi(trouble=_STATUSES.get(status, "unknown"), words=words or f"exit status {status}")
    notes = tuple(line for line in output.splitlines() if line.startswith(_WARNING))
    if status and not notes:
        notes = (f"{_WARNING} infoROM is corrupted (exit status {status})",)
    lines = [line for line in output.splitlines() if line not in notes]
    rows = [row for row in csv.reader(lines, skipinitialspace=True) if row]
    if not rows:
        return Smi(trouble="no_device", words=" ".join(("nvidia-smi names no device", *notes)))
    if any(len(row) != len(SMI_FIELDS) for row in rows):
        return Smi(trouble="unknown", words=words)
    cards = tuple(_card(row) for row in rows)
    for row in rows:
        for name, field in zip(SMI_FIELDS, row, strict=True):
            if field.strip().startswith("[") and field.strip() not in _UNTOLD:
                trouble = _FIELD_TROUBLES.get(field.strip(), "unknown")
                return Smi(cards, trouble, f"{name} of {row[0].strip()} is {field.strip()}", notes)
    return Smi(cards=cards, notes=notes)


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


def parse_details(status: int, output: str) -> tuple[Condition, ...]:
    """What `SMI_DETAILS` answered; ValueError when it is not that."""
    begin, end = output.find("<nvidia_smi_log"), output.find("</nvidia_smi_log>")
    if status not in (0, _CORRUPTED_INFOROM) or begin < 0 or end < 0:
        raise ValueError(" ".join(output.split())[:300] or f"exit status {status}")
    try:
        log = ElementTree.fromstring(output[begin : end + len("</nvidia_smi_log>")])  # noqa: S314 - of root's own program
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML: {error}") from None
    return tuple(_condition(device) for device in log.findall("gpu"))


def _condition(device: ElementTree.Element) -> Condition:
    temperature = _number_in(device, "temperature/gpu_temp")
    total, free = (_number_in(device, f"fb_memory_usage/{name}") for name in ("total", "free"))
    # Until the driver 535 they were throttle reasons.
    active = {
        reason.tag.partition("_reason_")[2]
        for name in ("clocks_event_reasons", "clocks_throttle_reasons")
        for reason in device.findall(f"{name}/*")
        if (reason.text or "").strip() == "Active"
    }
    recovery = (device.findtext("gpu_recovery_action") or "").strip()
    return Condition(
        address=device.get("id", ""),
        temperature=temperature,
        warm_at=_limit(device, "max_gpu", temperature),
        slow_at=_limit(device, "slow", temperature),
        slowed=tuple(name for name in SLOWDOWNS if name in active),
        free_percent=round(100 * free / total, 1) if total and free is not None else None,
        utilization=_number_in(device, "utilization/gpu_util"),
        recovery="" if recovery in ("None", "N/A") else recovery,
    )


def _limit(device: ElementTree.Element, name: str, temperature: int | None) -> int | None:
    """A limit of the temperature, which newer devices tell as what is left until it."""
    limit = _number_in(device, f"temperature/gpu_temp_{name}_threshold")
    left = _number_in(device, "temperature/gpu_temp_tlimit")
    least = _number_in(device, f"temperature/gpu_temp_{name}_tlimit_threshold")
    if limit is not None or temperature is None or left is None or least is None:
        return limit
    return temperature + left - least


def _number_in(device: ElementTree.Element, path: str) -> int | None:
    found = re.match(r"\s*(-?\d+)\b", device.findtext(path) or "")
    return int(found[1]) if found else None


def without(answer: Smi, addresses: Iterable[str]) -> Smi:
    """An answer without the devices at addresses of the bus; nvidia-smi writes their domain longer."""
    left_out = {_place(address) for address in addresses}
    return replace(answer, cards=tuple(card for card in answer.cards if _place(card.address) not in left_out))


def _place(address: str) -> str:
    domain, _, place = address.lower().partition(":")
    return f"{domain.lstrip('0')}:{place}"


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
        elif card.persistence is None:
            problems.append(f"{card.address} does not tell whether persistence is enabled")
    return problems


def xids(kernel_log: str) -> list[dict[str, Any]]:
    """NVIDIA's error reports in the kernel's log, by device and code, the fatal ones first.

    `action`: what the newest of them needs beyond a restart of the service, empty for nothing; `fatal`
    those that need something.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for match in _XID.finditer(kernel_log):
        key = match["device"], int(match["code"])
        seen = found.setdefault(key, {"device": key[0], "code": key[1], "count": 0})
        action = xid_action(key[1], match["text"])
        seen |= {"count": seen["count"] + 1, "fatal": bool(action), "action": action}
        seen["text"] = match["text"][:160]
    return sorted(found.values(), key=lambda each: (not each["fatal"], each["device"], each["code"]))


def xid_action(code: int, text: str) -> str:
    """What an Xid needs beyond a restart of the service; empty for nothing."""
    if code != RECOVERY_XID:
        return XID_ACTIONS.get(code, "")
    named = _RECOVERY.search(text)
    if named is None:
        return "what the driver asks for, which cannot be read"
    return "" if named["action"] == "None" else named["action"]


def loaded_version(module: str = "nvidia", root: Path = Path("/sys/module")) -> str | None:
    """The version of a loaded kernel module; None when it is not loaded, empty when it tells none."""
    directory = root / module
    if not directory.is_dir():
        return None
    try:
        return (directory / "version").read_text().strip()
    except OSError:
        return ""


def loaded_kind(path: Path = VERSION) -> Literal["open", "proprietary"] | None:
    """Which of NVIDIA's kernel modules is loaded, as the driver says it; None where it says nothing."""
    try:
        found = re.search(r"^NVRM version: NVIDIA UNIX (Open )?.*Kernel Module\b", path.read_text(), re.M)
    except OSError:
        return None
    return None if found is None else "open" if found[1] else "proprietary"


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
    conditions: Sequence[Condition] = ()
    unread = ""
    if not answer.trouble:
        try:
            conditions = parse_details(*run(SMI_DETAILS))
        except ValueError as error:
            unread = str(error)
    return {
        "devices": len(mine),
        "loaded": loaded,
        "trouble": answer.trouble,
        "words": answer.words,
        "notes": list(answer.notes),
        "cards": [asdict(card) for card in answer.cards],
        "conditions": [asdict(condition) for condition in conditions],
        "unread": unread,
        "xids": xids(kernel_log()),
    }
