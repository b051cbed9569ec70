"""The driver's settings: the role's variables, and the option `settings` of its modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DISTRIBUTION, NVIDIA = "distribution", "nvidia"

PROPRIETARY, OPEN = "proprietary", "open"

LATEST = "latest"


@dataclass(frozen=True)
class Settings:
    """The role's variables. An empty value leaves the choice to the role.

    `devices`: None to use the devices on the bus. `expected`: the number of devices; None for all of them.
    `url`, `key`: of NVIDIA's repository or a mirror.
    """

    devices: Sequence[Mapping[str, Any]] | None = None
    vendor: str = "auto"
    source: str = DISTRIBUTION
    kernel_module: str = PROPRIETARY
    branch: str = ""
    version: str = ""
    opencl: str = ""
    expected: int | None = None
    reboot: str = "never"
    headers: Sequence[str] = ()
    force: bool = False
    url: str = ""
    key: str = ""


ARGUMENTS: Mapping[str, Any] = {
    "type": "dict",
    "default": {},
    "apply_defaults": True,
    "options": {
        "vendor": {"choices": ["auto", "nvidia", "amd", "intel", "none"], "default": "auto"},
        "devices": {"type": "list", "elements": "dict", "default": []},
        "expected_devices": {"type": "int", "default": -1},
        "source": {"choices": [DISTRIBUTION, NVIDIA], "default": DISTRIBUTION},
        # Its key is a public key, not a secret.
        "repository": {"type": "dict", "default": {}, "no_log": False},
        "kernel_module": {"choices": [PROPRIETARY, OPEN], "default": PROPRIETARY},
        "branch": {"type": "str", "default": ""},
        "version": {"type": "str", "default": ""},
        "opencl": {"type": "str", "default": ""},
        "headers": {"type": "list", "elements": "str", "default": []},
        "reboot": {"choices": ["never", "when_needed"], "default": "never"},
        "force": {"type": "bool", "default": False},
    },
}
"""The specification of the modules' option `settings`; the documentation fragment gpu_driver documents it."""


def from_options(options: Mapping[str, Any]) -> Settings:
    """The settings from a module's option `settings`, as specified by `ARGUMENTS`."""
    expected = options["expected_devices"]
    return Settings(
        devices=options["devices"] or None,
        vendor=options["vendor"],
        source=options["source"],
        kernel_module=options["kernel_module"],
        branch=options["branch"],
        version=options["version"],
        opencl=options["opencl"],
        expected=None if expected < 0 else expected,
        reboot=options["reboot"],
        headers=options["headers"],
        force=options["force"],
        url=str(options["repository"].get("url") or ""),
        key=str(options["repository"].get("key") or ""),
    )
