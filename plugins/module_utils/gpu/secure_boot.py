"""Secure Boot: its state, the key that DKMS signs with, and how to enroll that key."""

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
    """The problem with the key that DKMS signs modules with, and the commands that enroll the key.

    `key`: the path of its certificate. `release`: the distribution's release.
    """
    enroll = f"mokutil --import {key}, then confirm at the console during a reboot."
    if state == "requested":
        return f"the enrollment of {key} was requested; confirm it at the console during a reboot."
    if state == "not_enrolled":
        return f"{key}, which DKMS signs with, is not enrolled. Enroll it: {enroll}"
    if state == "unknown":
        return (
            f"mokutil cannot determine whether {key}, which DKMS signs with, is enrolled. Install mokutil"
            f" (apt-get install mokutil) and see its error: mokutil --test-key {key}"
        )
    if key == UBUNTU_KEY:
        make = "update-secureboot-policy --new-key (of shim-signed)"
    elif key == DKMS_KEY and release != "12":
        make = "dkms generate_mok (of dkms)"
    else:
        # Debian 12's DKMS has no command for this; it runs this command when it first signs a module.
        private = str(Path(key).with_suffix(".key")) if key == DKMS_KEY else "KEY"
        make = (
            "openssl req -new -x509 -nodes -days 36500 -subj '/CN=DKMS module signing key'"
            f" -newkey rsa:2048 -keyout {private} -outform DER -out {key}"
        )
    return f"{key}, which DKMS signs with, does not exist. Create it: {make}; then enroll it: {enroll}"


def signing_certificate(system: str, configurations: Iterable[str]) -> str:
    """The path of the certificate of the key that DKMS signs with.

    `configurations`: the texts of framework.conf and framework.conf.d. If no signing key is set, Ubuntu's
    DKMS uses the key of shim-signed, even if a certificate is set.
    """
    values: dict[str, str] = {}
    for text in configurations:
        values |= re.findall(r"^\s*(mok_certificate|mok_signing_key)=[\"']?([^\"'\s#]*)", text, re.M)
    if system == "ubuntu" and not values.get("mok_signing_key"):
        return UBUNTU_KEY
    return values.get("mok_certificate") or DKMS_KEY


def key_state(status: int, output: str) -> KeyState:
    """Parse the answer of `mokutil --test-key`."""
    if "already enrolled" in output:
        return "enrolled"
    if "already in the enrollment request" in output:
        return "requested"
    return "not_enrolled" if status in (0, 1) and "is not enrolled" in output else "unknown"


SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")

FRAMEWORK = Path("/etc/dkms")


def enabled() -> bool | None:
    """Whether Secure Boot is on; None if unknown."""
    try:
        # The value follows four bytes of attributes.
        return SECURE_BOOT.read_bytes()[4] == 1
    except (OSError, IndexError):
        return None


def signing_key(system: str) -> tuple[str, KeyState]:
    """The certificate of the key that DKMS signs with, and its enrollment state in the firmware."""
    parts = sorted((FRAMEWORK / "framework.conf.d").glob("*.conf"))
    configurations = [texts.read(path) or "" for path in (FRAMEWORK / "framework.conf", *parts)]
    key = signing_certificate(system, configurations)
    if not Path(key).exists():
        return key, "missing"
    return key, key_state(*programs.ask(["mokutil", "--test-key", key]))
