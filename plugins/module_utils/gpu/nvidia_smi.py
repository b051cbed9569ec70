"""Queries for nvidia-smi, and parsers for its answers."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from xml.etree import ElementTree

Trouble = Literal["no_driver", "mismatch", "no_device", "lost", "reset", "no_library", "unknown"]

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
"""Prints one line for each device: memory in MiB, temperature in degrees Celsius."""

SMI_DETAILS = ("nvidia-smi", "-q", "-x")
"""Prints all data of each device as XML."""

# Error messages of nvidia-smi(1) and NVML.
_TROUBLES: tuple[tuple[str, Trouble], ...] = (
    (r"Driver/library version mismatch", "mismatch"),
    (r"GPU is lost|fallen off the bus|Unable to determine the device handle", "lost"),
    (r"couldn't communicate with the NVIDIA driver|Driver Not Loaded", "no_driver"),
    (r"No devices were found", "no_device"),
    (r"couldn't find libnvidia-ml|NVML library|NVML Shared Library", "no_library"),
)

NOT_INSTALLED = 127

# RETURN VALUE of nvidia-smi(1). Values that it does not list are NVML's nvmlReturn_t.
_STATUSES: Mapping[int, Trouble] = {6: "no_device", 9: "no_driver", 12: "no_library", 15: "lost", 16: "reset"}

SLOWDOWNS: Mapping[str, str] = {
    "hw_thermal_slowdown": "its temperature (hardware slowdown)",
    "hw_power_brake_slowdown": "its power supply (power brake)",
    "sw_thermal_slowdown": "its temperature (driver slowdown)",
}
"""Clock slowdowns that indicate a problem. Other reasons are normal: idle clocks and power caps."""

# nvidia-smi prints its complete answer despite this status.
_CORRUPTED_INFOROM = 14

_WARNING = "WARNING:"

# A field without a value has the reason in brackets, a text of nvmlErrorString. With these texts, the card
# does not support the field. With all others, reading the field failed.
_UNSUPPORTED = ("[N/A]", "[Not Supported]", "[Requested functionality has been deprecated]")

_FIELD_TROUBLES: Mapping[str, Trouble] = {"[GPU is lost]": "lost", "[GPU requires reset]": "reset"}


@dataclass(frozen=True)
class Card:
    """A device as reported by nvidia-smi; None for a value that it does not report.

    `persistence`: whether the driver stays loaded without a client. Temperature in degrees Celsius, memory in
    MiB.
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
    """The condition that a device reports; None for a value that it does not report.

    Temperatures are in degrees Celsius, and the limits are the device's own: `warm_at` is its highest
    operating temperature, and its hardware slows down from `slow_at`. `slowed`: the active `SLOWDOWNS`.
    `free_percent`: free memory in percent. `utilization` in percent. `recovery`: the recovery action that the
    driver requests; empty if none.
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
    """An answer of nvidia-smi: its cards, or the kind of failure and nvidia-smi's own message (`words`).

    `notes`: its warnings next to a complete answer.
    """

    cards: tuple[Card, ...] = ()
    trouble: Trouble | None = None
    words: str = ""
    notes: tuple[str, ...] = ()


def parse_smi(status: int, output: str) -> Smi:
    """Parse the answer to `SMI`. `output`: everything that it wrote."""
    message = " ".join(output.split())[:300]
    for pattern, trouble in _TROUBLES:
        if re.search(pattern, output, re.I):
            return Smi(trouble=trouble, words=message)
    if status not in (0, _CORRUPTED_INFOROM):
        return Smi(trouble=_STATUSES.get(status, "unknown"), words=message or f"exit status {status}")
    notes = tuple(line for line in output.splitlines() if line.startswith(_WARNING))
    if status and not notes:
        notes = (f"{_WARNING} infoROM is corrupted (exit status {status})",)
    lines = [line for line in output.splitlines() if line not in notes]
    rows = [row for row in csv.reader(lines, skipinitialspace=True) if row]
    if not rows:
        return Smi(trouble="no_device", words=" ".join(("nvidia-smi reports no device", *notes)))
    if any(len(row) != len(SMI_FIELDS) for row in rows):
        return Smi(trouble="unknown", words=message)
    cards = tuple(_card(row) for row in rows)
    for row in rows:
        for name, field in zip(SMI_FIELDS, row, strict=True):
            if field.strip().startswith("[") and field.strip() not in _UNSUPPORTED:
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
    """Parse the answer to `SMI_DETAILS`.

    Raises:
        ValueError: nvidia-smi failed, or its output is not the expected XML.
    """
    start, end = output.find("<nvidia_smi_log"), output.find("</nvidia_smi_log>")
    if status not in (0, _CORRUPTED_INFOROM) or start < 0 or end < 0:
        raise ValueError(" ".join(output.split())[:300] or f"exit status {status}")
    try:
        log = ElementTree.fromstring(output[start : end + len("</nvidia_smi_log>")])  # noqa: S314 - of root's own program
    except ElementTree.ParseError as error:
        raise ValueError(f"its output is not valid XML: {error}") from None
    return tuple(_condition(device) for device in log.findall("gpu"))


def _condition(device: ElementTree.Element) -> Condition:
    temperature = _number_in(device, "temperature/gpu_temp")
    total, free = (_number_in(device, f"fb_memory_usage/{name}") for name in ("total", "free"))
    # Up to driver 535, the element was called clocks_throttle_reasons.
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
    """A temperature limit. Newer devices report it relative to the current temperature."""
    limit = _number_in(device, f"temperature/gpu_temp_{name}_threshold")
    margin = _number_in(device, "temperature/gpu_temp_tlimit")
    threshold = _number_in(device, f"temperature/gpu_temp_{name}_tlimit_threshold")
    if limit is not None or temperature is None or margin is None or threshold is None:
        return limit
    return temperature + margin - threshold


def _number_in(device: ElementTree.Element, path: str) -> int | None:
    match = re.match(r"\s*(-?\d+)\b", device.findtext(path) or "")
    return int(match[1]) if match else None


def without(answer: Smi, addresses: Iterable[str]) -> Smi:
    """The answer without the devices at `addresses`. nvidia-smi writes addresses with a longer domain."""
    left_out = {_place(address) for address in addresses}
    return replace(answer, cards=tuple(card for card in answer.cards if _place(card.address) not in left_out))


def _place(address: str) -> str:
    domain, _, place = address.lower().partition(":")
    return f"{domain.lstrip('0')}:{place}"


def problems(answer: Smi, *, expected: int, version: str) -> list[str]:
    """The problems with an answer: wrong number of devices, another driver than `version`, no persistence.

    [] if there are none. An empty `version` accepts any driver.
    """
    if answer.trouble:
        return [f"nvidia-smi: {answer.words}"]
    problems = []
    if len(answer.cards) != expected:
        problems.append(f"nvidia-smi reports {len(answer.cards)} devices; expected: {expected}")
    for card in answer.cards:
        if version and card.driver != version:
            problems.append(f"{card.address} uses the driver {card.driver}, but {version} is installed")
        if card.persistence is False:
            problems.append(f"{card.address} has persistence disabled; nvidia-persistenced must run")
        elif card.persistence is None:
            problems.append(f"{card.address} does not report whether persistence is enabled")
    return problems
