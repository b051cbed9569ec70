"""What APT and dpkg print, and what is quoted of it."""

from __future__ import annotations

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import apt


def test_packages_that_are_half_there_are_present_and_not_installed() -> None:
    known = apt.parse_status(
        "libc6\t2.36\tii \nnvidia-smi\t535\thi \nnvidia-open-kernel-dkms\t550\tiF \n"
        "old\t1\trc \nnever\t\tun \n"
    )
    assert known.installed == {"libc6": "2.36", "nvidia-smi": "535"}
    assert known.present.keys() == {"libc6", "nvidia-smi", "nvidia-open-kernel-dkms"}
    assert known.held == ("nvidia-smi",)


def test_simulation_of_apt_is_read() -> None:
    text = (
        "Inst libcuda1 [535.261.03-1] (535.309.01-1 Debian:12/stable [amd64])\n"
        "Inst nvidia-smi (535.309.01-1 Debian:12/stable [amd64])\n"
        "Remv xserver [2] \nConf libcuda1 (535.309.01-1 Debian:12/stable [amd64])\n"
    )
    assert apt.changes(text) == [
        apt.Change("libcuda1", "535.261.03-1", "535.309.01-1"),
        apt.Change("nvidia-smi", "", "535.309.01-1"),
        apt.Change("xserver", "2", ""),
    ]


def test_words_of_a_command_that_failed_have_no_password_of_a_proxy() -> None:
    said = "echo 'E: Could not connect to http://apt:Canary-7Qx9-proxy@cache.example.org:3142' >&2; exit 100"
    with pytest.raises(apt.PackagesError, match=r"cache\.example\.org") as failed:
        apt.run(["sh", "-c", said])
    assert "Canary-7Qx9-proxy" not in str(failed.value)
