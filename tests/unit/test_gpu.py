"""What is on the bus, and what NVIDIA's tools say, by samples of nvidia-smi(1)'s documented format."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import gpu

WELL = "00000000:01:00.0, NVIDIA A40, 535.309.01, Enabled, 41, 46068, 4\n"
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


def pci(root: Path, address: str, kind: str, vendor: str, device: str, driver: str = "") -> None:
    directory = root / address
    directory.mkdir(parents=True)
    for name, text in (("class", kind), ("vendor", vendor), ("device", device)):
        (directory / name).write_text(f"{text}\n")
    if driver:
        (root.parent / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (directory / "driver").symlink_to(root.parent / "drivers" / driver)


def test_gpus_are_found_by_class_and_vendor(tmp_path: Path) -> None:
    root = tmp_path / "devices"
    pci(root, "0000:01:00.0", "0x030200", "0x10de", "0x2235", driver="nouveau")
    pci(root, "0000:01:00.1", "0x040300", "0x10de", "0x1aef")
    pci(root, "0000:02:00.0", "0x030000", "0x1a03", "0x2000")
    pci(root, "0000:03:00.0", "0x120000", "0x1002", "0x74a1")
    assert gpu.on_bus(root) == [
        gpu.Device("0000:01:00.0", "nvidia", "2235", "nouveau"),
        gpu.Device("0000:03:00.0", "amd", "74a1"),
    ]


@pytest.mark.parametrize(
    ("address", "vendor", "device", "what"),
    [
        ("0000:00:02.0", "0x8086", "0x4680", "Intel's UHD 770, of a processor"),
        ("0000:0c:00.0", "0x1002", "0x164e", "AMD's Raphael, of a processor"),
        ("0000:05:00.0", "0x1002", "0x15d8", "AMD's Picasso, of a processor"),
        ("0000:01:05.0", "0x1002", "0x9715", "AMD's RS880, of a chipset"),
        ("0000:01:03.0", "0x1002", "0x515e", "AMD's ES1000, of a server's board"),
        ("0000:06:00.0", "0x1a03", "0x2000", "ASPEED's, of a server's board"),
        ("0000:07:00.0", "0x102b", "0x0536", "Matrox's, of a server's board"),
    ],
)
def test_gpu_of_processor_or_board_leaves_a_host_a_cpu_host(
    tmp_path: Path, address: str, vendor: str, device: str, what: str
) -> None:
    root = tmp_path / "devices"
    pci(root, address, "0x030000", vendor, device)
    assert gpu.chosen(gpu.on_bus(root)) == [], what


@pytest.mark.parametrize("device", ["0x6798", "0x67df", "0x687f", "0x69a0", "0x731f", "0x74a1", "0x7550"])
def test_discrete_cards_of_amd_count(tmp_path: Path, device: str) -> None:
    pci(tmp_path / "devices", "0000:03:00.0", "0x030000", "0x1002", device)
    assert len(gpu.chosen(gpu.on_bus(tmp_path / "devices"))) == 1


def test_integrated_gpu_is_used_where_it_is_asked_for() -> None:
    inside, card = gpu.Device("c", "amd", "164e", integrated=True), gpu.Device("3", "amd", "74a1")
    assert gpu.chosen([inside], "amd") == [inside]
    assert gpu.chosen([inside, card], "amd") == [card]
    (named,) = gpu.chosen(gpu.named([{"vendor": "amd", "device": "164e"}], [inside]))
    assert named.address == "c"


def test_host_without_a_bus_has_no_gpu(tmp_path: Path) -> None:
    assert gpu.on_bus(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("device", "chip"),
    [
        ("1b06", "pascal"),
        ("15f8", "pascal"),
        ("17c8", "maxwell"),
        ("1db6", "volta"),
        ("1eb8", "turing"),
        ("2184", "turing"),
        ("20b5", "ampere"),
        ("2235", "ampere"),
        ("2330", "hopper"),
        ("2484", "ampere"),
        ("26b9", "ada"),
        ("2b85", "blackwell"),
        ("102d", "kepler"),
    ],
)
def test_generation_of_a_chip_follows_from_its_id(device: str, chip: str) -> None:
    assert gpu.Device("", "nvidia", device).architecture == chip


def test_named_device_that_is_on_the_bus_is_that_one() -> None:
    real = gpu.Device("0000:01:00.0", "nvidia", "2235", "nvidia")
    asked = [{"vendor": "10de", "device": "2235"}, {"vendor": "nvidia", "device": "0x2235"}]
    assert gpu.named(asked, [real]) == [real, gpu.Device("", "nvidia", "2235", simulated=True)]


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"vendor": "matrox", "device": "0532"}, "nvidia, amd, intel"),
        ({"vendor": "nvidia", "device": "A40"}, "four hexadecimal digits"),
    ],
)
def test_malformed_device_is_refused_with_what_would_be_right(device: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gpu.named([device], [])


def test_nvidia_is_chosen_before_amd_before_intel() -> None:
    devices = [
        gpu.Device("3", "intel", "56c0"),
        gpu.Device("2", "amd", "74a1"),
        gpu.Device("1", "nvidia", "2235"),
    ]
    assert [each.vendor for each in gpu.chosen(devices)] == ["nvidia"]
    assert [each.vendor for each in gpu.chosen(devices[:2])] == ["amd"]
    assert gpu.chosen([]) == []


def test_vendor_that_is_asked_for_is_the_one() -> None:
    devices = [gpu.Device("2", "amd", "74a1"), gpu.Device("1", "nvidia", "2235")]
    assert [each.vendor for each in gpu.chosen(devices, "amd")] == ["amd"]
    assert gpu.chosen(devices, "intel") == []
    assert gpu.chosen(devices, "none") == []


def node(machine: Path, address: str, name: str) -> None:
    """A device node, and what the kernel says of the card that it belongs to."""
    (machine / "dev/dri").mkdir(parents=True, exist_ok=True)
    (machine / "dev" / name).touch()
    if name.startswith("dri/"):
        (machine / "pci" / address / "drm" / name.removeprefix("dri/")).mkdir(parents=True)
    else:
        (machine / "proc" / address).mkdir(parents=True)
        minor = name.removeprefix("nvidia")
        (machine / "proc" / address / "information").write_text(
            f"Model: \t\t NVIDIA A40\nBus Location: \t {address}\nDevice Minor: \t {minor}\n"
        )


def nodes(machine: Path, *devices: gpu.Device) -> list[str]:
    found = gpu.nodes(devices, dev=machine / "dev", pci=machine / "pci", proc=machine / "proc")
    return [each.removeprefix(f"{machine}/dev/") for each in found]


def test_engine_gets_exactly_the_nodes_of_its_cards(tmp_path: Path) -> None:
    cards = {"0000:01:00.0": "nvidia0", "0000:41:00.0": "nvidia10", "0000:21:00.0": "nvidia2"}
    for address, name in cards.items():
        node(tmp_path, address, name)
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"):
        (tmp_path / "dev" / name).touch()
    used = [gpu.Device(address, "nvidia", "2235") for address in cards]
    assert nodes(tmp_path, *used) == ["nvidia0", "nvidia2", "nvidia10", "nvidiactl", "nvidia-uvm"]
    assert nodes(tmp_path, used[2]) == ["nvidia2", "nvidiactl", "nvidia-uvm"]


def test_nodes_of_other_vendors_stay_closed(tmp_path: Path) -> None:
    node(tmp_path, "0000:00:02.0", "dri/renderD128")
    node(tmp_path, "0000:03:00.0", "dri/renderD129")
    node(tmp_path, "0000:07:00.0", "dri/renderD130")
    (tmp_path / "dev/kfd").touch()
    (tmp_path / "dev/dri/card0").touch()
    assert nodes(tmp_path, gpu.Device("0000:03:00.0", "amd", "74a1")) == ["dri/renderD129", "kfd"]
    assert nodes(tmp_path, gpu.Device("0000:07:00.0", "intel", "56c0")) == ["dri/renderD130"]


def test_host_without_device_nodes_gets_none(tmp_path: Path) -> None:
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/kfd").touch()
    (tmp_path / "dev/nvidia0").touch()
    assert nodes(tmp_path, gpu.Device("0000:03:00.0", "amd", "74a1")) == []
    assert nodes(tmp_path, gpu.Device("0000:01:00.0", "nvidia", "2235")) == []
    assert nodes(tmp_path, gpu.Device("", "amd", "74a1", simulated=True)) == []


def test_answer_of_nvidia_smi_is_read_by_line() -> None:
    answer = gpu.parse_smi(0, WELL + SECOND)
    assert answer.trouble is None
    assert answer.cards[1] == gpu.Card("00000000:41:00.0", "NVIDIA A40", "535.309.01", True, 43, 46068, 1201)


def test_what_a_card_does_not_tell_is_unknown() -> None:
    line = "00000000:01:00.0, GT 1030, 535.309.01, [N/A], [N/A], 2048, [Not Supported]\n"
    (card,) = gpu.parse_smi(0, line).cards
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
def test_failures_of_nvidia_smi_are_told_apart(status: int, output: str, trouble: str) -> None:
    answer = gpu.parse_smi(status, output)
    assert (answer.trouble, answer.cards) == (trouble, ())
    assert answer.words


@pytest.mark.parametrize("warning", ["WARNING: infoROM is corrupted at gpu 0000:01:00.0\n", ""])
def test_corrupted_inforom_leaves_the_answer_whole(warning: str) -> None:
    answer = gpu.parse_smi(14, WELL + SECOND + warning)
    assert (len(answer.cards), answer.trouble) == (2, None)
    (note,) = answer.notes
    assert "infoROM is corrupted" in note
    assert gpu.smi_problems(answer, expected=2, version="535.309.01") == []


def test_corrupted_inforom_without_an_answer_is_trouble() -> None:
    answer = gpu.parse_smi(14, "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n")
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
def test_field_that_could_not_be_read_is_trouble(values: str, trouble: str | None) -> None:
    """The values in brackets are nvmlErrorString's, as nvidia-smi prints them."""
    answer = gpu.parse_smi(0, f"00000000:01:00.0, {values}\n")
    assert answer.trouble == trouble
    assert bool(gpu.smi_problems(answer, expected=1, version="535.309.01")) == (trouble is not None)


def test_well_cards_have_no_problems() -> None:
    answer = gpu.parse_smi(0, WELL + SECOND)
    assert gpu.smi_problems(answer, expected=2, version="535.309.01") == []


@pytest.mark.parametrize(
    ("output", "expected", "words"),
    [
        (WELL, 2, "names 1 devices; expected are 2"),
        (WELL.replace("535.309.01", "535.261.03"), 1, "runs the driver 535.261.03; 535.309.01 is installed"),
        (WELL.replace("Enabled", "Disabled"), 1, "persistence disabled"),
        (WELL.replace("Enabled", "[N/A]"), 1, "does not tell whether persistence is enabled"),
    ],
)
def test_what_is_wrong_with_cards_is_said(output: str, expected: int, words: str) -> None:
    (problem,) = gpu.smi_problems(gpu.parse_smi(0, output), expected=expected, version="535.309.01")
    assert words in problem


def test_trouble_is_said_in_its_own_words() -> None:
    (problem,) = gpu.smi_problems(gpu.parse_smi(18, MISMATCH), expected=1, version="535.309.01")
    assert "Driver/library version mismatch" in problem


def test_xids_are_grouped_and_the_fatal_ones_come_first() -> None:
    log = (
        "[ 10.1] NVRM: Xid (PCI:0000:01:00): 31, pid=812, name=katago, Ch 0000000e, MMU Fault\n"
        "[ 11.0] usb 1-1: new high-speed USB device\n"
        "[ 12.5] NVRM: Xid (PCI:0000:01:00): 31, pid=813, name=katago, Ch 0000000e, MMU Fault again\n"
        "[ 99.2] NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', GPU has fallen off the bus.\n"
    )
    lost, fault = gpu.xids(log)
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
        (154, "in other words", "what the driver asks for, which cannot be read"),
    ],
)
def test_xid_needs_what_nvidias_catalogue_says(code: int, text: str, action: str) -> None:
    (xid,) = gpu.xids(f"[ 9.1] NVRM: Xid (PCI:0000:01:00): {code}, {text}\n")
    assert (xid["action"], xid["fatal"]) == (action, bool(action))


def test_newest_recovery_action_of_a_gpu_counts() -> None:
    changed = "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from"
    log = f"{changed} 0x0 (None) to 0x4 (Drain and Reset)\n{changed} 0x4 (Drain and Reset) to 0x0 (None)\n"
    (xid,) = gpu.xids(log)
    assert (xid["count"], xid["fatal"]) == (2, False)


def test_xid_of_a_part_of_a_gpu_is_the_gpus() -> None:
    (xid,) = gpu.xids("NVRM: Xid (PCI:0000:01:00 GPU-I:05): 95, pid=812, Uncontained: LTC TAG (0x2,0x0).")
    assert (xid["device"], xid["fatal"]) == ("0000:01:00", True)


def test_version_of_a_loaded_module_is_read(tmp_path: Path) -> None:
    (tmp_path / "nvidia").mkdir()
    (tmp_path / "nouveau").mkdir()
    (tmp_path / "nvidia" / "version").write_text("535.309.01\n")
    assert gpu.loaded_version("nvidia", tmp_path) == "535.309.01"
    assert gpu.loaded_version("nouveau", tmp_path) == ""
    assert gpu.loaded_version("amdgpu", tmp_path) is None


def details(temperature: str, reasons: str = "", memory: str = "", more: str = "") -> str:
    """An answer of `nvidia-smi -q -x`, without what nobody reads."""
    return (
        '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n'
        "<nvidia_smi_log>\n\t<attached_gpus>1</attached_gpus>\n"
        f'\t<gpu id="00000000:01:00.0">{reasons}<fb_memory_usage>{memory}</fb_memory_usage>'
        f"<utilization><gpu_util>62 %</gpu_util></utilization>"
        f"<temperature>{temperature}</temperature>{more}</gpu>\n</nvidia_smi_log>\n"
    )


# Of an A40 by the driver 535, and of an RTX 4000 Ada by 550.
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
    (found,) = gpu.parse_details(0, details(temperature, memory=MEMORY))
    assert (found.temperature, found.warm_at, found.slow_at) == (41, warm, slow)
    assert (found.free_percent, found.utilization, found.recovery) == (87.0, 62, "")


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
    (found,) = gpu.parse_details(0, details(DEGREES, text))
    assert found.slowed == ("hw_thermal_slowdown",)


def test_what_a_card_does_not_tell_of_its_condition_is_unknown() -> None:
    (found,) = gpu.parse_details(14, "WARNING: infoROM is corrupted\n" + details("<gpu_temp>N/A</gpu_temp>"))
    assert (found.temperature, found.warm_at, found.slow_at, found.free_percent) == (None,) * 4


@pytest.mark.parametrize(("action", "recovery"), [("None", ""), ("N/A", ""), ("Reset", "Reset")])
def test_recovery_that_the_driver_asks_for_is_read(action: str, recovery: str) -> None:
    more = f"<gpu_recovery_action>{action}</gpu_recovery_action>"
    (found,) = gpu.parse_details(0, details(DEGREES, more=more))
    assert found.recovery == recovery


@pytest.mark.parametrize(
    ("status", "output"), [(0, ""), (9, NO_DRIVER), (0, "<nvidia_smi_log><gpu></nvidia_smi_log>")]
)
def test_details_that_are_none_are_refused(status: int, output: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        gpu.parse_details(status, output)


def state(
    status: int, output: str, *, loaded: str | None, devices: tuple[gpu.Device, ...], more: str = ""
) -> object:
    log = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."
    answers: dict[tuple[str, ...], tuple[int, str]] = {
        gpu.SMI: (status, output),
        gpu.SMI_DETAILS: (0, more or details(DEGREES)),
    }
    return gpu.state(lambda command: answers[tuple(command)], lambda: log, devices=devices, loaded=loaded)


A40 = gpu.Device("0000:01:00.0", "nvidia", "2235", "nvidia")


def test_triage_is_told_cards_and_errors_of_a_driver_that_is_used() -> None:
    found = state(0, WELL, loaded="535.309.01", devices=(A40,))
    assert isinstance(found, dict)
    assert (found["devices"], found["trouble"], found["cards"][0]["temperature"]) == (1, None, 41)
    assert found["xids"][0]["code"] == 79
    assert (found["conditions"][0]["slow_at"], found["unread"]) == (95, "")


def test_triage_is_told_that_the_condition_of_a_card_cannot_be_read() -> None:
    found = state(0, WELL, loaded="535.309.01", devices=(A40,), more="killed")
    assert isinstance(found, dict)
    assert (found["conditions"], found["unread"]) == ([], "killed")


def test_gpu_whose_driver_was_never_installed_is_no_trouble() -> None:
    assert state(127, "nvidia-smi is not installed", loaded=None, devices=(A40,)) is None
    assert state(9, NO_DRIVER, loaded=None, devices=(A40,)) is not None
    assert state(0, WELL, loaded=None, devices=()) is None


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
def test_kernel_module_that_is_loaded_says_which_it_is(
    text: str | None, kind: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "version"
    if text is not None:
        path.write_text(text)
    assert gpu.loaded_kind(path) == kind
