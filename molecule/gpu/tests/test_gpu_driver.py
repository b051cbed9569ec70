"""The driver for a simulated GPU: plan, refusals, restore, installation, and hosts that stay unchanged.

The tests depend on each other's order, because every build of a module takes minutes.
"""

from __future__ import annotations

import concurrent.futures
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    devices,
    dkms,
    driver_files,
    driver_packages,
    driver_record,
    kernels,
    nvidia_smi,
)
from lab import runtime
from tests import fleet, hosts

BOOKWORM, TRIXIE = "katago-1", "katago-2"
# An A40, which both branches and both kernel modules support. It is simulated, so no device is expected.
DEVICE: dict[str, Any] = {
    "gpu_driver_devices": [{"vendor": "nvidia", "device": "2235"}],
    "gpu_driver_expected_devices": 0,
}
OWN_FILES = (
    driver_files.PREFERENCES,
    driver_files.SOURCES,
    driver_files.STANZAS,
    driver_files.UNATTENDED,
    driver_files.BLACKLIST,
    driver_files.DROP_IN,
)
BOOT = "systemctl show --property=UserspaceTimestampMonotonic --value"


# Runs the module's source on the host, so that it reads the host's /dev. Containers have no driver's /proc.
_CARDS = {"0000:01:00.0": 0, "0000:41:00.0": 1}
_NODES = (
    "import pathlib, sys, types; module = types.ModuleType('devices'); sys.modules['devices'] = module;"
    " exec(sys.stdin.read(), module.__dict__);"
    f" cards = [module.Device(address, 'nvidia', '2235') for address in {list(_CARDS)}];"
    " dev, pci, proc = map(pathlib.Path, ('/dev', '/sys/bus/pci/devices', '/run/gpus'));"
    " print(*module.nodes(cards, dev=dev, pci=pci, proc=proc))"
)


def play(name: str, *arguments: str, **variables: Any) -> fleet.Run:
    return fleet.play("gpu_driver.yml", f"--limit={name}", *arguments, variables={**DEVICE, **variables})


def packages(host: Any) -> str:
    """Every package with version and state."""
    listed: str = host.check_output("dpkg-query --show --showformat='${Package} ${Version} ${Status}\\n'")
    # A purged package leaves only its name behind.
    gone = ("not-installed", "config-files")
    return "\n".join(line for line in listed.splitlines() if not line.endswith(gone))


def traces(host: Any) -> list[str]:
    """The role's files that exist."""
    return [str(path) for path in OWN_FILES if host.file(str(path)).exists]


def unfinished(host: Any) -> bool:
    record = host.file(str(driver_record.RECORD))
    return bool(record.exists and json.loads(record.content_string)["unfinished"])


def kernel(host: Any) -> str:
    """The kernel that would boot."""
    return kernels.newest(
        name.removeprefix("/boot/vmlinuz-") for name in host.check_output("ls /boot/vmlinuz-*").split()
    )


@pytest.mark.parametrize("name", [BOOKWORM, TRIXIE])
def test_host_without_a_gpu_is_not_changed(name: str) -> None:
    host = hosts.connect(name)
    before = packages(host)
    run = fleet.play("gpu_driver.yml", f"--limit={name}")
    assert run.returncode == 0, run.output
    assert "no GPU: nothing to do" in run.output
    assert run.changed[name] == 0
    assert packages(host) == before


@pytest.mark.parametrize(("name", "branch"), [(BOOKWORM, "535"), (TRIXIE, "550")])
def test_check_mode_prints_the_plan_and_changes_nothing(name: str, branch: str) -> None:
    host = hosts.connect(name)
    before = packages(host)
    run = play(name, "--check")
    assert run.returncode == 0, run.output
    for line in (
        "device: nvidia 2235 at no address (simulated), ampere",
        "driver in use: none; loaded: none",
        f"driver installed: none; target: NVIDIA's driver {branch} (proprietary",
        f"kernel that will boot: {kernel(host)}",
        "reboot: not needed",
    ):
        assert line in run.output
    assert packages(host) == before
    assert traces(host) == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (BOOKWORM, "nvidia-open-kernel-dkms cannot be installed"),
        (TRIXIE, "nvidia-open-kernel-dkms does not compile for"),
    ],
)
def test_combination_that_is_known_to_fail_is_refused(name: str, problem: str) -> None:
    host = hosts.connect(name)
    before = packages(host)
    run = play(name, gpu_driver_kernel_module="open")
    assert run.returncode != 0
    assert "Refused; nothing was changed on this host." in run.output
    assert problem in run.output
    assert packages(host) == before
    assert traces(host) == []


def test_driver_that_needs_a_forbidden_reboot_is_refused() -> None:
    run = play(BOOKWORM, gpu_driver_expected_devices=1)
    assert run.returncode != 0
    assert "gpu_driver_reboot is never" in run.output


def test_apt_refuses_conflicting_packages_and_the_sources_are_restored() -> None:
    host = hosts.connect(BOOKWORM)
    before = packages(host)
    run = play(BOOKWORM, gpu_driver_kernel_module="open", gpu_driver_force=True)
    assert run.returncode != 0
    assert "APT refused the packages. Nothing was installed." in run.output
    assert "nvidia-open-kernel-dkms : Depends: firmware-nvidia-gsp" in run.output
    assert packages(host) == before
    assert traces(host) == []
    assert not unfinished(host)


def test_failed_build_is_quoted_and_the_host_is_restored() -> None:
    host = hosts.connect(TRIXIE)
    before = packages(host)
    run = play(TRIXIE, gpu_driver_kernel_module="open", gpu_driver_force=True)
    assert run.returncode != 0
    assert "DKMS could not build nvidia-current-open" in run.output
    assert "error:" in run.output
    assert "packages were removed again" in run.output
    assert packages(host) == before
    assert traces(host) == []
    assert not unfinished(host)
    assert host.check_output("apt-mark showhold") == ""


def test_driver_is_installed() -> None:
    run = play(TRIXIE)
    assert run.returncode == 0, run.output
    assert "no device was expected, so none was verified" in run.output


def test_next_run_continues_after_a_power_cut() -> None:
    host = hosts.connect(BOOKWORM)
    before = packages(host)
    target = fleet.host_named(BOOKWORM)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        cut = pool.submit(play, BOOKWORM)
        fleet.eventually(
            lambda: host.run("pgrep --exact make").rc == 0, within=900, what="DKMS builds the module"
        )
        runtime.podman("kill", target.container)
        assert cut.result().returncode != 0
    fleet.LAB.create(len(fleet.LAB.hosts()))
    assert unfinished(host)
    run = play(BOOKWORM)
    assert run.returncode == 0, run.output
    assert "was not finished" in run.output
    assert not unfinished(host)
    recorded = json.loads(host.file(str(driver_record.RECORD)).content_string)["packages"]
    assert recorded.keys() == {line.split()[0] for line in before.splitlines()}


@pytest.mark.parametrize("name", [BOOKWORM, TRIXIE])
def test_module_is_built_for_the_kernel_that_will_boot(name: str) -> None:
    host = hosts.connect(name)
    boots = kernel(host)
    assert boots in dkms.modules(host.check_output("dkms status"))
    module = host.check_output(f"ls /lib/modules/{boots}/updates/dkms/nvidia-current.ko*")
    version = driver_packages.upstream(host.package("nvidia-kernel-dkms").version)
    assert host.check_output(f"modinfo --field version {module}") == version
    assert host.check_output(f"modinfo --field vermagic {module}").split()[0] == boots


@pytest.mark.parametrize("name", [BOOKWORM, TRIXIE])
def test_driver_is_held_and_not_upgraded(name: str) -> None:
    host = hosts.connect(name)
    held = set(host.check_output("apt-mark showhold").split())
    assert {"nvidia-kernel-dkms", "libcuda1", "nvidia-smi", "firmware-nvidia-gsp"} <= held
    blacklist = host.check_output("apt-config dump Unattended-Upgrade::Package-Blacklist")
    assert '"^libnvidia-"' in blacklist
    policy = host.check_output("apt-cache policy nvidia-kernel-dkms")
    assert "1001" in policy


@pytest.mark.parametrize("name", [BOOKWORM, TRIXIE])
def test_added_components_only_provide_the_driver(name: str) -> None:
    host = hosts.connect(name)
    policy = host.check_output("apt-cache policy firmware-iwlwifi")
    assert "Candidate: (none)" in policy
    assert "-1" in policy


@pytest.mark.parametrize("name", [BOOKWORM, TRIXIE])
def test_nouveau_is_disabled_in_the_system_and_in_the_initramfs(name: str) -> None:
    host = hosts.connect(name)
    inside = host.check_output(f"lsinitramfs /boot/initrd.img-{kernel(host)}")
    assert f"{driver_files.BLACKLIST}"[1:] in inside.splitlines()
    assert "blacklist nouveau" in host.file(str(driver_files.BLACKLIST)).content_string


@pytest.mark.parametrize("name", [BOOKWORM, TRIXIE])
def test_host_without_its_gpu_has_no_failed_units_of_the_driver(name: str) -> None:
    failed = hosts.connect(name).check_output("systemctl list-units --failed --plain --no-legend")
    assert "nvidia" not in failed


@pytest.mark.parametrize("name", [BOOKWORM, TRIXIE])
def test_second_run_changes_nothing(name: str) -> None:
    host = hosts.connect(name)
    before = (
        packages(host),
        host.check_output("apt-mark showhold"),
        host.check_output("stat -c %Y /boot/initrd*"),
    )
    run = play(name)
    assert run.returncode == 0, run.output
    assert "to do: nothing" in run.output
    assert run.changed[name] == 0
    assert before == (
        packages(host),
        host.check_output("apt-mark showhold"),
        host.check_output("stat -c %Y /boot/initrd*"),
    )


def test_permitted_reboot_happens_and_a_driver_that_is_not_loaded_is_reported() -> None:
    """The container boots with the machine's kernel, so the module for its own kernel is never loaded."""
    host = hosts.connect(TRIXIE)
    before = packages(host), host.check_output("apt-mark showhold")
    boot = host.check_output(BOOT)
    run = play(TRIXIE, gpu_driver_expected_devices=1, gpu_driver_reboot="when_needed")
    assert run.returncode != 0
    assert "The host was rebooted, but another reboot is needed" in run.output
    assert "0 packages were removed again" in run.output
    assert host.check_output(BOOT) != boot
    assert (packages(host), host.check_output("apt-mark showhold")) == before
    assert not unfinished(host)
    assert not host.file(hosts.LOCK).exists


def test_failure_of_the_real_nvidia_smi_is_recognised() -> None:
    """Without a device, this is the only answer of the real program that can be tested."""
    done = hosts.connect(TRIXIE).run("nvidia-smi")
    assert nvidia_smi.parse_smi(done.rc, done.stdout + done.stderr).trouble == "no_driver"


def test_sandbox_names_exactly_the_nodes_of_the_cards() -> None:
    """Checks that systemd accepts the nodes. Containers have no device control that would enforce them."""
    host = hosts.connect(TRIXIE)
    names = [f"/dev/{name}" for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm")]
    others = ["/dev/nvidia-modeset", "/dev/nvidia-uvm-tools"]
    host.check_output("; ".join(f"mknod {node} c 10 200" for node in (*names, *others)))
    for address, minor in _CARDS.items():
        host.check_output(
            f"mkdir -p /run/gpus/{address} && echo 'Device Minor: {minor}' > /run/gpus/{address}/information"
        )
    unit = "katago-probe.service"
    try:
        listed = host.check_output(
            f"python3 -c {shlex.quote(_NODES)} <<'END'\n{Path(devices.__file__).read_text()}\nEND"
        ).split()
        directives = {"DevicePolicy": "closed", "DeviceAllow": [f"{node} rw" for node in listed]}
        host.check_output(shlex.join(systemd_run.command(directives, ["sleep", "60"], unit=unit, wait=False)))
        shown = host.check_output(f"systemctl show {unit} --property=DevicePolicy,DeviceAllow").splitlines()
    finally:
        host.run(f"systemctl stop {unit}; rm -r /run/gpus {' '.join((*names, *others))}")
    assert sorted(shown) == sorted(["DevicePolicy=closed", *(f"DeviceAllow={node} rw" for node in names)])
