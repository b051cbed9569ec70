"""Parsing nvidia-smi's answers, and the facts that triage gets from them."""

from __future__ import annotations

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import nvidia_health, nvidia_smi
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from tests.unit.gpu.hosts import A40

HEALTHY = "00000000:01:00.0, NVIDIA A40, 535.309.01, Enabled, 41, 46068, 4\n"


SECOND = "00000000:41:00.0, NVIDIA A40, 535.309.01, Enabled, 43, 46068, 1201\n"


MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.309\n"


NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest"
    " NVIDIA driver is installed and running.\n\n"
)


LOST = (
    "Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the system to recover"
    " this GPU\n"
)


def test_answer_of_nvidia_smi_is_read_by_line() -> None:
    answer = nvidia_smi.parse_smi(0, HEALTHY + SECOND)
    assert answer.trouble is None
    assert answer.cards[1] == nvidia_smi.Card(
        "00000000:41:00.0", "NVIDIA A40", "535.309.01", True, 43, 46068, 1201
    )


def test_value_that_a_card_does_not_report_is_none() -> None:
    line = "00000000:01:00.0, GT 1030, 535.309.01, [N/A], [N/A], 2048, [Not Supported]\n"
    (card,) = nvidia_smi.parse_smi(0, line).cards
    assert (card.persistence, card.temperature, card.memory_used_mb) == (None, None, None)


@pytest.mark.parametrize(
    ("status", "output", "trouble"),
    [
        (9, NO_DRIVER, "no_driver"),
        (18, MISMATCH, "mismatch"),
        (6, "No devices were found\n", "no_device"),
        (15, LOST, "lost"),
        (15, "", "lost"),
        (16, "", "reset"),
        (255, "Unable to determine the device handle for GPU0000:01:00.0: Unknown Error\n", "lost"),
        (
            12,
            "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the"
            " NVIDIA Display Driver is properly installed and present in your system.\n",
            "no_library",
        ),
        (127, "nvidia-smi is not installed", "unknown"),
        (0, "", "no_device"),
        (0, "a line that is none of its own\n", "unknown"),
    ],
)
def test_failures_of_nvidia_smi_are_distinguished(status: int, output: str, trouble: str) -> None:
    answer = nvidia_smi.parse_smi(status, output)
    assert (answer.trouble, answer.cards) == (trouble, ())
    assert answer.words


@pytest.mark.parametrize("warning", ["WARNING: infoROM is corrupted at gpu 0000:01:00.0\n", ""])
def test_corrupted_inforom_leaves_the_answer_usable(warning: str) -> None:
    answer = nvidia_smi.parse_smi(14, HEALTHY + SECOND + warning)
    assert (len(answer.cards), answer.trouble) == (2, None)
    (note,) = answer.notes
    assert "infoROM is corrupted" in note
    assert nvidia_smi.problems(answer, expected=2, version="535.309.01") == []


def test_corrupted_inforom_without_an_answer_is_a_failure() -> None:
    answer = nvidia_smi.parse_smi(14, "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n")
    assert answer.trouble == "no_device"
    assert "infoROM" in answer.words


@pytest.mark.parametrize(
    ("values", "trouble"),
    [
        (
            "NVIDIA A40, 535.309.01, Enabled, [GPU requires reset], 46068, [GPU requires reset]",
            "reset",
        ),
        ("NVIDIA A40, 535.309.01, Enabled, [GPU is lost], 46068, 4", "lost"),
        (", ".join(["[Unknown Error]"] * 6), "unknown"),
        ("NVIDIA A40, 535.309.01, Enabled, [Unknown Error], 46068, 4", "unknown"),
        ("NVIDIA A40, 535.309.01, [Insufficient Permissions], 41, 46068, 4", "unknown"),
        (
            "NVIDIA A40, 535.309.01, Enabled, [N/A], [Not Supported],"
            " [Requested functionality has been deprecated]",
            None,
        ),
    ],
)
def test_field_that_could_not_be_read_is_a_failure(values: str, trouble: str | None) -> None:
    """The values in brackets are nvmlErrorString's, as nvidia-smi prints them."""
    answer = nvidia_smi.parse_smi(0, f"00000000:01:00.0, {values}\n")
    assert answer.trouble == trouble
    assert bool(nvidia_smi.problems(answer, expected=1, version="535.309.01")) == (trouble is not None)


def test_healthy_cards_have_no_problems() -> None:
    answer = nvidia_smi.parse_smi(0, HEALTHY + SECOND)
    assert nvidia_smi.problems(answer, expected=2, version="535.309.01") == []


@pytest.mark.parametrize(
    ("output", "expected", "text"),
    [
        (HEALTHY, 2, "reports 1 devices; expected: 2"),
        (
            HEALTHY.replace("535.309.01", "535.261.03"),
            1,
            "uses the driver 535.261.03, but 535.309.01 is installed",
        ),
        (HEALTHY.replace("Enabled", "Disabled"), 1, "persistence disabled"),
        (HEALTHY.replace("Enabled", "[N/A]"), 1, "does not report whether persistence is enabled"),
    ],
)
def test_problems_with_cards_are_reported(output: str, expected: int, text: str) -> None:
    (problem,) = nvidia_smi.problems(nvidia_smi.parse_smi(0, output), expected=expected, version="535.309.01")
    assert text in problem


def test_failure_is_quoted_in_nvidia_smis_own_words() -> None:
    (problem,) = nvidia_smi.problems(nvidia_smi.parse_smi(18, MISMATCH), expected=1, version="535.309.01")
    assert "Driver/library version mismatch" in problem


def details(temperature: str, reasons: str = "", memory: str = "", more: str = "") -> str:
    """An answer of `nvidia-smi -q -x`, without elements that are not read."""
    return (
        '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n'
        "<nvidia_smi_log>\n\t<attached_gpus>1</attached_gpus>\n"
        f'\t<gpu id="00000000:01:00.0">{reasons}<fb_memory_usage>{memory}</fb_memory_usage>'
        f"<utilization><gpu_util>62 %</gpu_util></utilization>"
        f"<temperature>{temperature}</temperature>{more}</gpu>\n</nvidia_smi_log>\n"
    )


# From an A40 with driver 535, and from an RTX 4000 Ada with driver 550.
DEGREES = (
    "<gpu_temp>41 C</gpu_temp><gpu_temp_tlimit>N/A</gpu_temp_tlimit>"
    "<gpu_temp_max_threshold>98 C</gpu_temp_max_threshold>"
    "<gpu_temp_slow_threshold>95 C</gpu_temp_slow_threshold>"
    "<gpu_temp_max_gpu_threshold>88 C</gpu_temp_max_gpu_threshold>"
)


MARGINS = (
    "<gpu_temp>41 C</gpu_temp><gpu_temp_tlimit>46 C</gpu_temp_tlimit>"
    "<gpu_temp_max_tlimit_threshold>-12 C</gpu_temp_max_tlimit_threshold>"
    "<gpu_temp_slow_tlimit_threshold>-2 C</gpu_temp_slow_tlimit_threshold>"
    "<gpu_temp_max_gpu_tlimit_threshold>0 C</gpu_temp_max_gpu_tlimit_threshold>"
)


MEMORY = "<total>8192 MiB</total><reserved>85 MiB</reserved><used>984 MiB</used><free>7123 MiB</free>"


@pytest.mark.parametrize(("temperature", "warm", "slow"), [(DEGREES, 88, 95), (MARGINS, 87, 89)])
def test_limits_of_the_temperature_are_the_cards_own(temperature: str, warm: int, slow: int) -> None:
    (condition,) = nvidia_smi.parse_details(0, details(temperature, memory=MEMORY))
    assert (condition.temperature, condition.warm_at, condition.slow_at) == (41, warm, slow)
    assert (condition.free_percent, condition.utilization, condition.recovery) == (87.0, 62, "")


@pytest.mark.parametrize("word", ["event", "throttle"])
def test_slowdowns_are_read_under_both_of_their_names(word: str) -> None:
    def reason(name: str, value: str) -> str:
        tag = f"clocks_{word}_reason_{name}"
        return f"<{tag}>{value}</{tag}>"

    text = (
        f"<clocks_{word}_reasons>{reason('gpu_idle', 'Active')}{reason('sw_power_cap', 'Active')}"
        f"{reason('hw_thermal_slowdown', 'Active')}{reason('hw_power_brake_slowdown', 'N/A')}"
        f"{reason('sw_thermal_slowdown', 'Not Active')}</clocks_{word}_reasons>"
    )
    (condition,) = nvidia_smi.parse_details(0, details(DEGREES, text))
    assert condition.slowed == ("hw_thermal_slowdown",)


def test_condition_that_a_card_does_not_report_is_none() -> None:
    (condition,) = nvidia_smi.parse_details(
        14, "WARNING: infoROM is corrupted\n" + details("<gpu_temp>N/A</gpu_temp>")
    )
    assert (condition.temperature, condition.warm_at, condition.slow_at, condition.free_percent) == (
        None,
    ) * 4


@pytest.mark.parametrize(("action", "recovery"), [("None", ""), ("N/A", ""), ("Reset", "Reset")])
def test_recovery_action_that_the_driver_requests_is_read(action: str, recovery: str) -> None:
    more = f"<gpu_recovery_action>{action}</gpu_recovery_action>"
    (condition,) = nvidia_smi.parse_details(0, details(DEGREES, more=more))
    assert condition.recovery == recovery


@pytest.mark.parametrize(
    ("status", "output"), [(0, ""), (9, NO_DRIVER), (0, "<nvidia_smi_log><gpu></nvidia_smi_log>")]
)
def test_invalid_details_are_refused(status: int, output: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        nvidia_smi.parse_details(status, output)


def state(
    status: int, output: str, *, loaded: str | None, devices: tuple[Device, ...], more: str = ""
) -> object:
    log = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."
    answers: dict[tuple[str, ...], tuple[int, str]] = {
        nvidia_smi.SMI: (status, output),
        nvidia_smi.SMI_DETAILS: (0, more or details(DEGREES)),
    }
    return nvidia_health.health(
        lambda command: answers[tuple(command)], lambda: log, devices=devices, loaded=loaded
    )


def test_triage_gets_cards_and_errors_of_a_driver_in_use() -> None:
    health = state(0, HEALTHY, loaded="535.309.01", devices=(A40,))
    assert isinstance(health, dict)
    assert (health["devices"], health["trouble"], health["cards"][0]["temperature"]) == (1, None, 41)
    assert health["xids"][0]["code"] == 79
    assert (health["conditions"][0]["slow_at"], health["unread"]) == (95, "")


def test_triage_learns_that_the_condition_of_a_card_cannot_be_read() -> None:
    health = state(0, HEALTHY, loaded="535.309.01", devices=(A40,), more="killed")
    assert isinstance(health, dict)
    assert (health["conditions"], health["unread"]) == ([], "killed")


def test_gpu_without_an_installed_driver_is_no_failure() -> None:
    assert state(127, "nvidia-smi is not installed", loaded=None, devices=(A40,)) is None
    assert state(9, NO_DRIVER, loaded=None, devices=(A40,)) is not None
    assert state(0, HEALTHY, loaded=None, devices=()) is None
