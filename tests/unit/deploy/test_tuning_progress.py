"""The tuner's progress, computed from real log lines of KataGo v1.18.1."""

from __future__ import annotations

import pytest

from ansible_collections.katago.fleet.plugins.modules.engine_tuning import JOURNAL_LINE, STEP
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import tuning_progress

# From a tuning on a CPU, which has no 16-bit arithmetic. The logger writes the time first.
LOG = """\
2026-11-28 13:44:17+0000: Tuner starting...
==============================================================================
Tuning device 0: pthread-skylake-avx512-AMD EPYC
Beginning GPU tuning for pthread-skylake-avx512-AMD EPYC modelVersion 8 channels 96
2026-11-28 13:44:17+0000: Dummy tuning thread starting
Setting winograd3x3TileSize = 4
------------------------------------------------------
Tuning xGemmDirect for 1x1 convolutions and matrix mult
Testing 55 different configs
Tuning 0/55 (reference) Calls/sec 392.204 ErrorProp 1.57002e-07 WGD=8 MDIMCD=1 NDIMCD=1
Tuning 11/55 Calls/sec 513.147 ErrorProp 1.58187e-07 WGD=32 MDIMCD=8 NDIMCD=8
Tuning 40/55 ...
Tuning xGemm for convolutions
Testing 69 different configs
Tuning 6/69 Calls/sec 607.637 ErrorProp 4.96772e-08 MWG=32 NWG=32
Tuning 60/69 ...
Tuning hGemmWmma for convolutions
8 errors generated.
Testing 144 different configs
FP16 tensor core tuning failed, assuming no FP16 tensor core support
Tuning hGemmWmmaNCHW for 1x1 convolutions
Testing 72 different configs
Tuning xGemm for convolutions - trying with FP16 storage
Testing 69 different configs
FP16 storage tuning failed, assuming no FP16 storage support
Using FP32 storage!
Tuning winograd transform for convolutions
Testing 45 different configs
Tuning 4/45 Calls/sec 668.728 ErrorProp 0  transLocalSize0=2 transLocalSize1=1
Tuning winograd untransform for convolutions
Testing 109 different configs
Tuning 80/109 ...
Tuning global pooling strides
Testing 104 different configs
Tuning 20/104 ...
Tuning pointWise (addPointWise + swiGLU)
Testing 20 different configs
Tuning 3/20 Calls/sec 24172.8 ErrorProp 0 ELTS_PER_THREAD=2 LOCAL_SIZE=64
Tuning addChannelBiasesNCHW
Testing 12 different configs
Tuning 2/12 Calls/sec 17648.5 ErrorProp 0 XY_ELTS_PER_THREAD=2
Tuning spatialRMSNorm
Testing 25 different configs
Tuning 24/25 Calls/sec 4221.26 ErrorProp 1.22961e-06 TILE_SIZE=512
2026-11-28 13:48:03+0000: Tuning dummy thread numeric total: 6.94356e+07
Done tuning
""".splitlines()


def upto(line: str) -> tuning_progress.Progress | None:
    """The progress after the lines up to one of them, as they come from a host."""
    return tuning_progress.of_lines([each for each in LOG[: LOG.index(line) + 1] if STEP.match(each)])


@pytest.mark.parametrize(
    ("line", "step", "name"),
    [
        ("Tuning 40/55 ...", 1, "xGemmDirect"),
        ("Tuning 60/69 ...", 2, "xGemm"),
        ("Tuning hGemmWmma for convolutions", 3, "hGemmWmma"),
        ("Tuning hGemmWmmaNCHW for 1x1 convolutions", 4, "hGemmWmmaNCHW"),
        ("Tuning xGemm for convolutions - trying with FP16 storage", 5, "xGemm, FP16"),
        ("Tuning winograd transform for convolutions", 6, "winograd transform"),
        ("Tuning 80/109 ...", 7, "winograd untransform"),
        ("Tuning 20/104 ...", 8, "global pooling"),
        ("Tuning pointWise (addPointWise + swiGLU)", 9, "pointWise"),
        ("Tuning addChannelBiasesNCHW", 10, "addChannelBiasesNCHW"),
        ("Tuning spatialRMSNorm", 11, "spatialRMSNorm"),
    ],
)
def test_step_is_reported(line: str, step: int, name: str) -> None:
    progress = upto(line)
    assert progress is not None
    assert (progress.step, progress.name) == (step, name)


def test_nothing_is_reported_before_the_first_step() -> None:
    assert upto("Setting winograd3x3TileSize = 4") is None


def test_share_grows_with_every_line() -> None:
    steps = [line for line in LOG if STEP.match(line)]
    positions = [tuning_progress.of_lines(steps[:number]) for number in range(1, len(steps) + 1)]
    shares = [progress.share for progress in positions if progress]
    assert shares == sorted(shares)
    assert 0.95 < shares[-1] < 1


def test_unknown_step_does_not_lower_the_progress() -> None:
    lines = ["Tuning global pooling strides", "Tuning 100/104 ..."]
    before = tuning_progress.of_lines(lines)
    after = tuning_progress.of_lines([*lines, "Tuning what is new", "Tuning 0/30 (reference)"])
    assert before is not None
    assert after is not None
    assert (after.step, after.share > before.share) == (8, True)


def test_time_left_is_estimated_from_the_finished_share() -> None:
    progress = tuning_progress.Progress(3, "hGemmWmma", 0.4)
    assert progress.sentence(60) == "tuning, kernel 3 of 11 (hGemmWmma), 40 %, about 90 s left"
    assert progress.sentence(600) == "tuning, kernel 3 of 11 (hGemmWmma), 40 %, about 15 min left"


def test_time_left_shrinks_while_the_tuner_writes_nothing() -> None:
    progress = tuning_progress.Progress(3, "hGemmWmma", 0.4)
    assert progress.sentence(60, since=30).endswith("about 60 s left")
    assert progress.sentence(60, since=600).endswith("about 10 s left")


def test_lines_of_the_journal_are_read_with_their_time() -> None:
    line = "1795873461.755123 katago-1 AppRun[812]: Tuning 0/55 (reference) Calls/sec 392.204 A: 1"
    match = JOURNAL_LINE.fullmatch(line)
    assert match is not None
    assert match["at"] == "1795873461.755123"
    assert match["text"] == "Tuning 0/55 (reference) Calls/sec 392.204 A: 1"


def test_no_time_is_estimated_from_too_little_progress() -> None:
    assert tuning_progress.Progress(1, "xGemmDirect", 0.01).sentence(5) == (
        "tuning, kernel 1 of 11 (xGemmDirect), 1 %"
    )
