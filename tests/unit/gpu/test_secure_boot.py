"""Secure Boot, and the key that DKMS signs with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import secure_boot
from tests.unit.gpu.hosts import BARE, DEFAULTS, problems, stub_programs


@pytest.mark.parametrize(
    ("content", "enabled"),
    [
        (b"\x06\x00\x00\x00\x01", True),
        (b"\x06\x00\x00\x00\x00", False),
        (b"\x01\x00\x00\x00\x00", False),
        (b"\x06\x00\x00\x00", None),
        (None, None),
    ],
)
def test_secure_boot_is_the_byte_after_the_attributes(
    content: bytes | None, enabled: bool | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variable = tmp_path / secure_boot.SECURE_BOOT.name
    if content is not None:
        variable.write_bytes(content)
    monkeypatch.setattr(secure_boot, "SECURE_BOOT", variable)
    assert secure_boot.enabled() is enabled


@pytest.mark.parametrize(
    ("system", "texts", "key"),
    [
        ("debian", [], "/var/lib/dkms/mok.pub"),
        ("debian", ["# mok_certificate=/no\n", 'mok_certificate="/k/own.der"\n'], "/k/own.der"),
        ("ubuntu", ["mok_certificate=/k/own.der\n"], "/var/lib/shim-signed/mok/MOK.der"),
        ("ubuntu", ["mok_signing_key=/k/own.key\nmok_certificate=/k/own.der\n"], "/k/own.der"),
    ],
)
def test_key_of_secure_boot_is_the_one_that_dkms_signs_with(system: str, texts: list[str], key: str) -> None:
    assert secure_boot.signing_certificate(system, texts) == key


@pytest.mark.parametrize(
    ("status", "output", "state"),
    [
        (1, "{key} is already enrolled", "enrolled"),
        (0, "{key} is not enrolled", "not_enrolled"),
        (1, "{key} is already in the enrollment request", "requested"),
        (255, "EFI variables are not supported on this system", "unknown"),
        (127, "mokutil is not installed", "unknown"),
    ],
)
def test_answers_of_mokutil(
    status: int, output: str, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "own.der"
    parts = tmp_path / "framework.conf.d"
    parts.mkdir()
    (parts / "own.conf").write_text(f"mok_certificate={key}\n")
    monkeypatch.setattr(secure_boot, "FRAMEWORK", tmp_path)
    commands = stub_programs(monkeypatch, mokutil=(status, output.format(key=key)))
    assert secure_boot.signing_key("debian") == (str(key), "missing")
    key.touch()
    assert secure_boot.signing_key("debian") == (str(key), state)
    assert commands == [["mokutil", "--test-key", str(key)]]


@pytest.mark.parametrize(
    ("release", "key", "command"),
    [
        ("12", secure_boot.DKMS_KEY, "-keyout /var/lib/dkms/mok.key -outform DER -out /var/lib/dkms/mok.pub"),
        ("13", secure_boot.DKMS_KEY, "dkms generate_mok"),
        ("24.04", secure_boot.UBUNTU_KEY, "update-secureboot-policy --new-key"),
        ("13", "/k/own.der", "-keyout KEY -outform DER -out /k/own.der"),
    ],
)
def test_missing_key_is_created_before_it_is_enrolled(release: str, key: str, command: str) -> None:
    text = " ".join(
        problems(DEFAULTS, replace(BARE, release=release, secure_boot=True, key=key, key_state="missing"))
    )
    assert command in text
    assert f"enroll it: mokutil --import {key}" in text
