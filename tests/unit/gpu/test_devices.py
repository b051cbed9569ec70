"""Which GPUs a host has, which are used, and which device nodes they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device


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
    assert devices.on_bus(root) == [
        Device("0000:01:00.0", "nvidia", "2235", "nouveau"),
        Device("0000:03:00.0", "amd", "74a1"),
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
def test_host_with_only_an_integrated_gpu_is_a_cpu_host(
    tmp_path: Path, address: str, vendor: str, device: str, what: str
) -> None:
    root = tmp_path / "devices"
    pci(root, address, "0x030000", vendor, device)
    assert devices.chosen(devices.on_bus(root)) == [], what


@pytest.mark.parametrize("device", ["0x6798", "0x67df", "0x687f", "0x69a0", "0x731f", "0x74a1", "0x7550"])
def test_discrete_amd_cards_are_used(tmp_path: Path, device: str) -> None:
    pci(tmp_path / "devices", "0000:03:00.0", "0x030000", "0x1002", device)
    assert len(devices.chosen(devices.on_bus(tmp_path / "devices"))) == 1


def test_integrated_gpu_is_used_on_request() -> None:
    inside, card = Device("c", "amd", "164e", integrated=True), Device("3", "amd", "74a1")
    assert devices.chosen([inside], "amd") == [inside]
    assert devices.chosen([inside, card], "amd") == [card]
    (named,) = devices.chosen(devices.named([{"vendor": "amd", "device": "164e"}], [inside]))
    assert named.address == "c"


def test_host_without_a_bus_has_no_gpu(tmp_path: Path) -> None:
    assert devices.on_bus(tmp_path / "nowhere") == []


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
def test_generation_of_a_chip_is_derived_from_its_id(device: str, chip: str) -> None:
    assert Device("", "nvidia", device).architecture == chip


def test_listed_device_selects_the_device_on_the_bus() -> None:
    real = Device("0000:01:00.0", "nvidia", "2235", "nvidia")
    listed = [{"vendor": "10de", "device": "2235"}, {"vendor": "nvidia", "device": "0x2235"}]
    assert devices.named(listed, [real]) == [real, Device("", "nvidia", "2235", simulated=True)]


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        ({"vendor": "matrox", "device": "0532"}, "nvidia, amd, intel"),
        ({"vendor": "nvidia", "device": "A40"}, "four hexadecimal digits"),
    ],
)
def test_malformed_device_is_refused_with_the_accepted_values(device: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        devices.named([device], [])


def test_nvidia_is_chosen_before_amd_before_intel() -> None:
    cards = [
        Device("3", "intel", "56c0"),
        Device("2", "amd", "74a1"),
        Device("1", "nvidia", "2235"),
    ]
    assert [each.vendor for each in devices.chosen(cards)] == ["nvidia"]
    assert [each.vendor for each in devices.chosen(cards[:2])] == ["amd"]
    assert devices.chosen([]) == []


def test_requested_vendor_is_used() -> None:
    cards = [Device("2", "amd", "74a1"), Device("1", "nvidia", "2235")]
    assert [each.vendor for each in devices.chosen(cards, "amd")] == ["amd"]
    assert devices.chosen(cards, "intel") == []
    assert devices.chosen(cards, "none") == []


def node(machine: Path, address: str, name: str) -> None:
    """Create a device node, and the kernel's information about its card."""
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


def nodes(machine: Path, *cards: Device) -> list[str]:
    paths = devices.nodes(cards, dev=machine / "dev", pci=machine / "pci", proc=machine / "proc")
    return [each.removeprefix(f"{machine}/dev/") for each in paths]


def test_engine_gets_exactly_the_nodes_of_its_cards(tmp_path: Path) -> None:
    cards = {"0000:01:00.0": "nvidia0", "0000:41:00.0": "nvidia10", "0000:21:00.0": "nvidia2"}
    for address, name in cards.items():
        node(tmp_path, address, name)
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"):
        (tmp_path / "dev" / name).touch()
    used = [Device(address, "nvidia", "2235") for address in cards]
    assert nodes(tmp_path, *used) == ["nvidia0", "nvidia2", "nvidia10", "nvidiactl", "nvidia-uvm"]
    assert nodes(tmp_path, used[2]) == ["nvidia2", "nvidiactl", "nvidia-uvm"]


def test_nodes_of_other_vendors_stay_closed(tmp_path: Path) -> None:
    node(tmp_path, "0000:00:02.0", "dri/renderD128")
    node(tmp_path, "0000:03:00.0", "dri/renderD129")
    node(tmp_path, "0000:07:00.0", "dri/renderD130")
    (tmp_path / "dev/kfd").touch()
    (tmp_path / "dev/dri/card0").touch()
    assert nodes(tmp_path, Device("0000:03:00.0", "amd", "74a1")) == ["dri/renderD129", "kfd"]
    assert nodes(tmp_path, Device("0000:07:00.0", "intel", "56c0")) == ["dri/renderD130"]


def test_host_without_device_nodes_gets_none(tmp_path: Path) -> None:
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/kfd").touch()
    (tmp_path / "dev/nvidia0").touch()
    assert nodes(tmp_path, Device("0000:03:00.0", "amd", "74a1")) == []
    assert nodes(tmp_path, Device("0000:01:00.0", "nvidia", "2235")) == []
    assert nodes(tmp_path, Device("", "amd", "74a1", simulated=True)) == []


A40 = Device("0000:01:00.0", "nvidia", "2235", "nvidia")


def test_backends_depend_on_the_device() -> None:
    assert devices.backends("nvidia")[0] == "trt"
    assert devices.backends("amd") == ("opencl",)
    assert "eigen" in devices.backends("none")
