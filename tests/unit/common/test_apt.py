"""Parsing the output of APT and dpkg, and quoting it in errors."""

from __future__ import annotations

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import apt


def test_partly_installed_package_is_present_but_not_installed() -> None:
    packages = apt.parse_status(
        "libc6\t2.36\tii \nnvidia-smi\t535\thi \nnvidia-open-kernel-dkms\t550\tiF \n"
        "old\t1\trc \nnever\t\tun \n"
    )
    assert packages.installed == {"libc6": "2.36", "nvidia-smi": "535"}
    assert packages.present.keys() == {"libc6", "nvidia-smi", "nvidia-open-kernel-dkms"}
    assert packages.held == ("nvidia-smi",)


def test_simulation_of_apt_is_parsed() -> None:
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


def test_error_of_a_failed_command_has_no_password_of_a_proxy() -> None:
    script = (
        "echo 'E: Could not connect to http://apt:Canary-7Qx9-proxy@cache.example.org:3142' >&2; exit 100"
    )
    with pytest.raises(apt.PackagesError, match=r"cache\.example\.org") as failed:
        apt.run(["sh", "-c", script])
    assert "Canary-7Qx9-proxy" not in str(failed.value)


def test_reason_of_a_silent_failure_is_its_exit_status() -> None:
    assert apt.reason("one\n\ntwo\n", 1) == "one; two"
    assert apt.reason("\n", 1) == "it exited with status 1 without any output"
