"""Queries the engine of a release on a GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import commands
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.modules import gpu_query
from tests.unit.gpu.hosts import stub_programs

MESA = "Using OpenCL Device 0: AMD Radeon RX 7900 XTX (radeonsi, navi31, LLVM 15.0.6) (AMD) OpenCL 3.0 (Ext"


ROCM = "Using OpenCL Device 1: gfx1100 (Advanced Micro Devices, Inc.) OpenCL 2.0 (Extensions:"


ARC = (
    "Using OpenCL Device 0: Intel(R) Arc(TM) A770 Graphics (Intel(R) Corporation) OpenCL 3.0 NEO (Extensions:"
)


POCL = "Using OpenCL Device 0: cpu-znver3-AMD EPYC 7543 (AuthenticAMD) OpenCL 3.0 PoCL (Extensions:"


FOUND = "Found OpenCL Device 0: gfx1100 (Advanced Micro Devices, Inc.) (score 11000200)\n"


@pytest.mark.parametrize(
    ("vendor", "output", "device"),
    [
        ("amd", MESA, "AMD Radeon RX 7900 XTX (radeonsi, navi31, LLVM 15.0.6)"),
        ("amd", ROCM, "gfx1100"),
        ("intel", ARC, "Intel(R) Arc(TM) A770 Graphics"),
        ("intel", MESA, None),
        ("amd", FOUND + POCL, None),
    ],
)
def test_opencl_device_is_identified_by_its_vendor(vendor: str, output: str, device: str | None) -> None:
    assert devices.used_by_engine(output, vendor, ["amd 744c at 0000:03:00.0"]) == device


ANSWER = '{"id":"gpu","rootInfo":{"visits":2}}'


@pytest.mark.parametrize(
    ("status", "output", "problem"),
    [
        (0, f"TensorRT backend thread 0: Found GPU NVIDIA A40 memory 1\n{ANSWER}", None),
        (0, f"Using OpenCL Device 0: pocl-cpu\n{ANSWER}", "does not work on NVIDIA A40: Using OpenCL"),
        (0, "Found GPU NVIDIA A40", "does not work"),
        (1, f"Found GPU NVIDIA A40\n{ANSWER}\nCUDA error", "CUDA error"),
    ],
)
def test_engine_must_answer_on_the_device(
    status: int, output: str, problem: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = tmp_path / "releases/one"
    release.mkdir(parents=True)
    (tmp_path / "current").symlink_to(release)
    paths = {"binaryPath": "/k/katago", "modelPath": "/k/net.bin.gz", "configPath": "analysis.cfg"}
    (release / "config.json").write_text(json.dumps({"katago": paths}))
    calls: list[str] = []

    def answer(command: Sequence[str], seconds: float | None = None, given: str = "") -> tuple[int, str]:
        if command[1] == "version":
            return 0, "Using TensorRT backend"
        calls.extend((" ".join(command), given))
        return status, output

    monkeypatch.setattr(commands, "ask", answer)
    directives = {"DeviceAllow": ["/dev/nvidia0 rw"]}
    if problem:
        with pytest.raises(DriverError, match=problem):
            gpu_query.query(["NVIDIA A40"], directives, tmp_path, vendor="nvidia")
    else:
        assert gpu_query.query(["NVIDIA A40"], directives, tmp_path, vendor="nvidia").endswith(
            "answered on NVIDIA A40"
        )
    assert "DeviceAllow=/dev/nvidia0 rw" in calls[0]
    assert "/k/katago analysis -model /k/net.bin.gz" in calls[0]
    assert json.loads(calls[1])["maxVisits"] == 2


def test_host_without_a_release_or_with_a_cpu_engine_is_not_queried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "no release yet" in gpu_query.query(["NVIDIA A40"], {}, tmp_path, vendor="nvidia")
    (tmp_path / "current").symlink_to(tmp_path)
    engine = {"binaryPath": "/k/katago", "modelPath": "/k/net.bin.gz", "configPath": "analysis.cfg"}
    (tmp_path / "config.json").write_text(json.dumps({"katago": engine}))
    stub_programs(monkeypatch, **{"/k/katago": (0, "Using Eigen(CPU) backend")})
    assert "does not use a GPU" in gpu_query.query(["NVIDIA A40"], {}, tmp_path, vendor="nvidia")
    stub_programs(monkeypatch, **{"/k/katago": (0, "Using CUDA backend")})
    assert "does not support a GPU by amd" in gpu_query.query(["amd 744c"], {}, tmp_path, vendor="amd")
