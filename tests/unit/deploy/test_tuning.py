"""Tuning results are identified by device, network shape and engine version."""

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.action import engine_tuning
from ansible_collections.katago.fleet.plugins.modules.engine_tuning import TUNING_FOR

PROBED = {"device": "pthread-skylake-avx512-AMD EPYC", "channels": "96", "version": "8"}


def test_device_and_shape_are_read_from_the_tuners_log() -> None:
    line = "Beginning GPU tuning for pthread-skylake-avx512-AMD EPYC modelVersion 8 channels 96"
    match = TUNING_FOR.search(line)
    assert match is not None
    assert match.groupdict() == PROBED


def test_name_is_a_file_name_and_differs_by_engine() -> None:
    name = engine_tuning.result_name(PROBED, "1.18.1")
    assert name == "pthread-skylake-avx512-AMD-EPYC_c96_mv8_v1.18.1"
    assert name != engine_tuning.result_name(PROBED, "1.18.2")


def test_result_from_elsewhere_is_found_by_katagos_own_file_name(tmp_path: Path) -> None:
    mine = tmp_path / "tune13_gpupthreadskylakeavx512AMDEPYC_x19_y19_c96_mv8.txt"
    other = tmp_path / "tune13_gpupthreadskylakeavx512AMDEPYC_x19_y19_c192_mv8.txt"
    mine.touch()
    other.touch()
    assert engine_tuning.made_elsewhere(str(tmp_path), PROBED) == mine
    assert engine_tuning.made_elsewhere(str(tmp_path), PROBED | {"device": "cpu"}) is None
    assert engine_tuning.made_elsewhere("", PROBED) is None


CARRIED = "tune13_gpupthreadskylakeavx512AMDEPYC_x19_y19_c96_mv8.txt"


def test_supplied_result_fits_any_device() -> None:
    probed = PROBED | {"device": "cpu-haswell-AMD EPYC", "readable": True}
    assert engine_tuning.unfit(CARRIED, probed, "1.18.1") == ""


@pytest.mark.parametrize(
    ("name", "probed", "reason"),
    [
        (CARRIED, {"channels": "192"}, "96 channels and model version 8, but the network has 192 channels"),
        (CARRIED, {"version": "11"}, "the network has 96 channels and model version 11"),
        (CARRIED.replace("x19_y19", "x13_y13"), {}, "for boards of 13x13"),
        (CARRIED, {"readable": False}, "cannot be read by the engine 1.18.1"),
        ("tuning.txt", {}, "does not have KataGo's own file name"),
    ],
)
def test_supplied_result_that_does_not_fit_is_refused_with_the_reason(
    name: str, probed: dict[str, Any], reason: str
) -> None:
    assert reason in engine_tuning.unfit(name, PROBED | {"readable": True} | probed, "1.18.1")
