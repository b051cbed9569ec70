"""Reads the kernel's log and files about NVIDIA's driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import nvidia_kernel


def test_xids_are_grouped_and_the_fatal_ones_come_first() -> None:
    log = (
        "[ 10.1] NVRM: Xid (PCI:0000:01:00): 31, pid=812, name=katago, Ch 0000000e, MMU Fault\n"
        "[ 11.0] usb 1-1: new high-speed USB device\n"
        "[ 12.5] NVRM: Xid (PCI:0000:01:00): 31, pid=813, name=katago, Ch 0000000e, MMU Fault again\n"
        "[ 99.2] NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', GPU has fallen off the bus.\n"
    )
    lost, fault = nvidia_kernel.xids(log)
    assert (lost["code"], lost["fatal"], lost["count"]) == (79, True, 1)
    assert (fault["code"], fault["fatal"], fault["count"]) == (31, False, 2)
    assert fault["text"].endswith("again")


@pytest.mark.parametrize(
    ("code", "text", "action"),
    [
        (79, "pid='<unknown>', GPU has fallen off the bus.", "reboot the host"),
        (140, "ECC unrecovered error", "reset the GPU"),
        (48, "pid=812, DBE (double bit error)", "reset the GPU"),
        (109, "pid=812, name=katago, Ch 00000008, errorString CTX SWITCH TIMEOUT", "reset the GPU"),
        (119, "pid=812, name=katago, Timeout after 6s of waiting for RPC response", "reset the GPU"),
        (13, "pid=812, Graphics Exception: Shader Program Header 11 Error", ""),
        (43, "pid=812, Ch 00000018", ""),
        (63, "pid=812, Row Remapper: New row marked for remapping, reset gpu to activate.", ""),
        (94, "pid=812, Contained: SM (0x1). RST: No, D-RST: No", ""),
        (
            154,
            "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
            "GPU Reset Required",
        ),
        (
            154,
            "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
            "Node Reboot Required",
        ),
        (154, "GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)", "Drain and Reset"),
        (154, "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)", ""),
        (154, "in other words", "unknown: the driver's recovery action cannot be read"),
    ],
)
def test_action_for_an_xid_follows_nvidias_catalogue(code: int, text: str, action: str) -> None:
    (xid,) = nvidia_kernel.xids(f"[ 9.1] NVRM: Xid (PCI:0000:01:00): {code}, {text}\n")
    assert (xid["action"], xid["fatal"]) == (action, bool(action))


def test_newest_recovery_action_of_a_gpu_applies() -> None:
    changed = "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from"
    log = f"{changed} 0x0 (None) to 0x4 (Drain and Reset)\n{changed} 0x4 (Drain and Reset) to 0x0 (None)\n"
    (xid,) = nvidia_kernel.xids(log)
    assert (xid["count"], xid["fatal"]) == (2, False)


def test_xid_of_a_gpu_instance_counts_for_its_gpu() -> None:
    (xid,) = nvidia_kernel.xids(
        "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 95, pid=812, Uncontained: LTC TAG (0x2,0x0)."
    )
    assert (xid["device"], xid["fatal"]) == ("0000:01:00", True)


def test_version_of_a_loaded_module_is_read(tmp_path: Path) -> None:
    (tmp_path / "nvidia").mkdir()
    (tmp_path / "nouveau").mkdir()
    (tmp_path / "nvidia" / "version").write_text("535.309.01\n")
    assert nvidia_kernel.loaded_version("nvidia", tmp_path) == "535.309.01"
    assert nvidia_kernel.loaded_version("nouveau", tmp_path) == ""
    assert nvidia_kernel.loaded_version("amdgpu", tmp_path) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
            "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)\n",
            "open",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.309.01  Wed Jul 1\n", "proprietary"),
        ("", None),
        (None, None),
    ],
)
def test_loaded_kernel_module_reports_its_kind(text: str | None, kind: str | None, tmp_path: Path) -> None:
    path = tmp_path / "version"
    if text is not None:
        path.write_text(text)
    assert nvidia_kernel.loaded_kind(path) == kind
