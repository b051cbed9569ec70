"""What the kernel reports about NVIDIA's driver: the loaded module, and the errors (Xids) in its log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict

_XID = re.compile(
    r"NVRM: Xid \(PCI:(?P<device>[0-9a-f:.]+)(?: GPU-I:\d+)?\): (?P<code>\d+), *(?P<text>.*)", re.I
)

_RESET, _REBOOT = "reset the GPU", "reboot the host"

XID_ACTIONS: Mapping[int, str] = {
    **dict.fromkeys((46, 48, 62, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158), _RESET),
    **dict.fromkeys((79, 151), _REBOOT),
    54: "connect the card's auxiliary power",
}
"""The action for each Xid for which a restart of the service is not enough.

From the immediate actions in NVIDIA's Xid Catalog (Analyzing Xid Errors with the Xid Catalog): RESET_GPU, and
48 and 74, whose conditions a reset clears; RESTART_BM and RESTART_VM; CHECK_MECHANICALS. All other Xids are
program faults or can be ignored. The action for 144 to 150 depends on registers; the driver reports it with
Xid 154.
"""

RECOVERY_XID = 154
"""The Xid that names the recovery action: None, Drain P2P, Drain and Reset, GPU Reset Required, ..."""

_RECOVERY = re.compile(r" to 0x[0-9a-f]+ \((?P<action>[^()]+)\)", re.I)


class Xid(TypedDict):
    """The reports of one code by one device: their number and the text of the newest.

    `action`: the action that it needs beyond a restart of the service; empty if none. `fatal`: whether it
    needs one.
    """

    device: str
    code: int
    count: int
    fatal: bool
    action: str
    text: str


def xids(kernel_log: str) -> list[Xid]:
    """NVIDIA's error reports in the kernel's log, by device and code, fatal ones first."""
    reports: dict[tuple[str, int], Xid] = {}
    for match in _XID.finditer(kernel_log):
        device, code = match["device"], int(match["code"])
        earlier = reports.get((device, code))
        action = xid_action(code, match["text"])
        reports[device, code] = Xid(
            device=device,
            code=code,
            count=earlier["count"] + 1 if earlier else 1,
            fatal=bool(action),
            action=action,
            text=match["text"][:160],
        )
    return sorted(reports.values(), key=lambda each: (not each["fatal"], each["device"], each["code"]))


def xid_action(code: int, text: str) -> str:
    """The action that an Xid needs beyond a restart of the service; empty if none."""
    if code != RECOVERY_XID:
        return XID_ACTIONS.get(code, "")
    named = _RECOVERY.search(text)
    if named is None:
        return "unknown: the driver's recovery action cannot be read"
    return "" if named["action"] == "None" else named["action"]


def loaded_version(module: str, root: Path) -> str | None:
    """The version of a loaded kernel module. `root`: sysfs' directory of modules.

    None if it is not loaded; empty if it reports no version.
    """
    directory = root / module
    if not directory.is_dir():
        return None
    try:
        return (directory / "version").read_text().strip()
    except OSError:
        return ""


def loaded_kind(path: Path) -> Literal["open", "proprietary"] | None:
    """Which of NVIDIA's kernel modules is loaded, by the driver's version file `path`; None if unknown."""
    try:
        match = re.search(r"^NVRM version: NVIDIA UNIX (Open )?.*Kernel Module\b", path.read_text(), re.M)
    except OSError:
        return None
    return None if match is None else "open" if match[1] else "proprietary"
