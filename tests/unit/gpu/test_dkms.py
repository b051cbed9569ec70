"""Parsing DKMS' status and build logs."""

from __future__ import annotations

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import dkms
from tests.unit.gpu.hosts import KERNEL


def test_modules_of_dkms_are_read_by_kernel() -> None:
    status = (
        f"nvidia-current/535.309.01, {KERNEL}, x86_64: installed\n"
        "nvidia-current/535.309.01, 6.1.0-50-amd64, x86_64: built\n"
        "zfs/2.1.11, 6.1.0-50-amd64, x86_64: installed\n"
        "nvidia/580.95.05, 6.12.118+deb13-amd64, x86_64: installed (Original modules exist)\n"
    )
    assert dkms.modules(status) == {KERNEL: "535.309.01", "6.12.118+deb13-amd64": "580.95.05"}


@pytest.mark.parametrize(
    "name",
    ["nvidia", "nvidia-open", "nvidia-current", "nvidia-current-open", "nvidia-srv", "nvidia-srv-open"],
)
def test_other_modules_of_nvidia_are_not_the_driver(name: str) -> None:
    status = (
        f"nvidia-fs/2.24.3, {KERNEL}, x86_64: installed\n"
        f"{name}/535.309.01, {KERNEL}, x86_64: installed\n"
        f"nvidia-fs/2.24.3, {KERNEL}, x86_64: installed\n"
        f"nvidia-peermem, 1.3, {KERNEL}, x86_64: installed\n"
    )
    assert dkms.modules(status) == {KERNEL: "535.309.01"}
    older = status.replace(f"{name}/", f"{name}, ")
    assert dkms.modules(older) == {KERNEL: "535.309.01"}


def test_compiler_is_quoted_from_a_failed_build() -> None:
    log = (
        "  CC [M]  nvidia/nv.o\n"
        "nvidia-drm/nvidia-drm-drv.c:204:6: error: 'struct drm_driver' has no member named 'date'\n"
        "make[2]: *** [scripts/Makefile.build:249: nvidia-drm/nvidia-drm-drv.o] Error 1\n"
        "make[1]: Leaving directory\n"
    )
    assert "no member named 'date'" in dkms.compiler_errors(log)[0]
    assert dkms.compiler_errors("killed\n") == ["killed"]
