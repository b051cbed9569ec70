"""The device nodes that the service's sandbox opens, from the kernel's view to the lines of the unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity

ROLE = Path(__file__).resolve().parents[3] / "roles" / "katago"
CARDS = {
    "nvidia": ("0000:01:00.0", "10de", "2235"),
    "amd": ("0000:03:00.0", "1002", "74a1"),
    "intel": ("0000:07:00.0", "8086", "56c0"),
    "amd, of the processor": ("0000:0c:00.0", "1002", "164e"),
    "intel, of the processor": ("0000:00:02.0", "8086", "4680"),
    "aspeed, of the board": ("0000:06:00.0", "1a03", "2000"),
}


class Machine:
    """A host's /sys, /proc and /dev with these cards, whose drivers are all loaded."""

    def __init__(self, root: Path, *cards: str) -> None:
        self.dev, self.pci, self.proc = root / "dev", root / "pci", root / "proc"
        (self.dev / "dri").mkdir(parents=True)
        for number, card in enumerate(cards, start=128):
            address, vendor, device = CARDS[card]
            directory = self.pci / address
            (directory / "drm" / f"renderD{number}").mkdir(parents=True)
            for name, text in (("class", "0x030000"), ("vendor", f"0x{vendor}"), ("device", f"0x{device}")):
                (directory / name).write_text(text)
            (self.dev / "dri" / f"renderD{number}").touch()
            if vendor == "10de":
                (self.proc / address).mkdir(parents=True)
                (self.proc / address / "information").write_text("Device Minor: \t 0\n")
                for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-modeset"):
                    (self.dev / name).touch()
            if vendor == "1002":
                (self.dev / "kfd").touch()


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Preflight's facts about a host with these cards."""

    def usable(*cards: str, vendor: str = "auto") -> tuple[str | None, list[str]]:
        machine = Machine(tmp_path, *cards)
        monkeypatch.setattr(paths, "PCI_DEVICES", machine.pci)
        monkeypatch.setattr(paths, "DEV", machine.dev)
        monkeypatch.setattr(paths, "NVIDIA_GPUS", machine.proc)
        gpu = capacity.usable_gpu(vendor)
        if gpu is None:
            return None, []
        return gpu.vendor, [node.replace(str(machine.dev), "/dev") for node in gpu.nodes]

    return usable


NVIDIA = ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"]


@pytest.mark.parametrize(
    ("cards", "requested", "vendor", "nodes"),
    [
        (["nvidia"], "auto", "nvidia", NVIDIA),
        (["nvidia", "amd"], "auto", "nvidia", NVIDIA),
        (["nvidia", "amd"], "amd", "amd", ["/dev/dri/renderD129", "/dev/kfd"]),
        (["nvidia", "amd"], "none", None, []),
        (["nvidia", "amd"], "intel", None, []),
        (["intel, of the processor", "amd"], "auto", "amd", ["/dev/dri/renderD129", "/dev/kfd"]),
        (["aspeed, of the board", "amd", "intel"], "intel", "intel", ["/dev/dri/renderD130"]),
        (["amd, of the processor", "intel"], "auto", "intel", ["/dev/dri/renderD129"]),
        (["amd, of the processor"], "auto", None, []),
        (["amd, of the processor"], "amd", "amd", ["/dev/dri/renderD128", "/dev/kfd"]),
        (["intel, of the processor", "aspeed, of the board"], "auto", None, []),
    ],
)
def test_engine_can_use_exactly_the_requested_gpus(
    usable: Any, cards: list[str], requested: str, vendor: str | None, nodes: list[str]
) -> None:
    assert usable(*cards, vendor=requested) == (vendor, nodes)


def unit_lines(vendor: str | None, nodes: list[str]) -> list[str]:
    """The role's sandbox as passed to systemd, for these facts of preflight."""
    loader = DataLoader()
    variables = {
        name: value
        for part in ("defaults", "vars")
        for name, value in loader.load_from_file(
            str(ROLE / part / "main.yml"), trusted_as_template=True
        ).items()
    }
    facts = {"host": {"gpu": vendor is not None, "gpu_vendor": vendor, "gpu_nodes": nodes}}
    templar = Templar(loader, variables={**variables, "preflight_facts": facts})
    return systemd_run.properties(templar.template(variables["katago_sandbox"]))


@pytest.mark.parametrize(
    ("cards", "lines"),
    [
        ([], []),
        (["intel, of the processor", "nvidia"], [f"DeviceAllow={node} rw" for node in NVIDIA]),
        (
            ["intel, of the processor", "amd"],
            ["DeviceAllow=/dev/dri/renderD129 rw", "DeviceAllow=/dev/kfd rw"],
        ),
        (["amd, of the processor", "intel"], ["DeviceAllow=/dev/dri/renderD129 rw"]),
    ],
)
def test_sandbox_opens_exactly_the_nodes_of_the_gpus_that_are_used(
    usable: Any, cards: list[str], lines: list[str]
) -> None:
    vendor, nodes = usable(*cards)
    unit = unit_lines(vendor, nodes)
    assert [line for line in unit if line.startswith("DeviceAllow=")] == lines
    assert "DevicePolicy=closed" in unit
    assert f"PrivateDevices={'no' if lines else 'yes'}" in unit
    assert ("SupplementaryGroups=render" in unit) == (vendor in ("amd", "intel"))
