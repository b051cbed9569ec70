"""Secure Boot: whether it is on, which key DKMS signs with, and how that key is enrolled."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils.gpu import programs, texts

KeyState = Literal["enrolled", "requested", "not_enrolled", "missing", "unknown"]

DKMS_KEY = "/var/lib/dkms/mok.pub"

UBUNTU_KEY = "/var/lib/shim-signed/mok/MOK.der"


def remedy(key: str, state: KeyState, release: str) -> str:
    """What is wrong with the key that DKMS signs modules with, and the commands that enroll it.

    `release`: of the distribution.
    """
    enroll = f"mokutil --import {key}, then confirm at the console during a reboot."
    if state == "requested":
        return f"the enrollment of {key} was asked for; confirm it at the console during a reboot."
    if state == "not_enrolled":
        return f"{key}, which DKMS signs with, is not enrolled. Enroll it: {enroll}"
    if state == "unknown":
        return (
            f"whether {key}, which DKMS signs with, is enrolled cannot be told. See what keeps"
            f" mokutil from it (apt-get install mokutil): mokutil --test-key {key}"
        )
    if key == UBUNTU_KEY:
        make = "update-secureboot-policy --new-key (of shim-signed)"
    elif key == DKMS_KEY and release != "12":
        make = "dkms generate_mok (of dkms)"
    else:
        # Debian 12's DKMS has no command for it; this is what it does when it first signs.
        private = str(Path(key).with_suffix(".key")) if key == DKMS_KEY else "KEY"
        make = (
            "openssl req -new -x509 -nodes -days 36500 -subj '/CN=DKMS module signing key'"
            f" -newkey rsa:2048 -keyout {private} -outform DER -out {key}"
        )
    return f"{key}, which DKMS signs with, is not there yet. Create it: {make}; enroll it: {enroll}"


def signing_certificate(system: str, configurations: Iterable[str]) -> str:
    """The certificate of the key that DKMS signs with, by the texts of its framework.conf and its parts.

    Ubuntu's DKMS takes that of shim-signed where no key is set, whatever certificate is.
    """
    found: dict[str, str] = {}
    for text in configurations:
        found |= re.findall(r"^\s*(mok_certificate|mok_signing_key)=[\"']?([^\"'\s#]*)", text, re.M)
    if system == "ubuntu" and not found.get("mok_signing_key"):
        return UBUNTU_KEY
    return found.get("mok_certificate") or DKMS_KEY


def key_state(status: int, output: str) -> KeyState:
    """What `mokutil --test-key` answered."""
    if "already enrolled" in output:
        return "enrolled"
    if "already in the enrollment request" in output:
        return "requested"
    return "not_enrolled" if status in (0, 1) and "is not enrolled" in output else "unknown"


SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")

FRAMEWORK = Path("/etc/dkms")


def enabled() -> bool | None:
    """Whether Secure Boot is on; None where it cannot be told."""
    try:
        # Four bytes of attributes come before the value.
        return SECURE_BOOT.read_bytes()[4] == 1
    except (OSError, IndexError):
        return None


def signing_key(system: str) -> tuple[str, KeyState]:
    """The certificate of the key that DKMS signs with, and what the firmware has of it."""
    parts = sorted((FRAMEWORK / "framework.conf.d").glob("*.conf"))
    configurations = [texts.read(path) or "" for path in (FRAMEWORK / "framework.conf", *parts)]
    key = signing_certificate(system, configurations)
    if not Path(key).exists():
        return key, "missing"
    return key, key_state(*programs.ask(["mokutil", "--test-key", key]))
