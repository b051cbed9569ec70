"""NVIDIA's kernel module: which is loaded, and loading another."""

from __future__ import annotations

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.gpu import nvidia_kernel, programs

MODULES = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")
PERSISTENCED = "nvidia-persistenced.service"


def version() -> str | None:
    """The version of the loaded driver; None when none is loaded."""
    return nvidia_kernel.loaded_version("nvidia", paths.KERNEL_MODULES)


def kind() -> str | None:
    """Which of NVIDIA's kernel modules is loaded, as far as the driver says it."""
    return nvidia_kernel.loaded_kind(paths.NVIDIA_VERSION)


def remove() -> None:
    """Have the kernel remove the module, where nothing uses it."""
    programs.ask(["systemctl", "stop", PERSISTENCED])
    programs.ask(["modprobe", "--remove", *MODULES])
