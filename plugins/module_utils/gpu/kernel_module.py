"""NVIDIA's kernel module: which one is loaded, and its removal."""

from __future__ import annotations

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.gpu import nvidia_kernel, programs

MODULES = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")
PERSISTENCED = "nvidia-persistenced.service"


def version() -> str | None:
    """The version of the loaded driver; None if none is loaded."""
    return nvidia_kernel.loaded_version("nvidia", paths.KERNEL_MODULES)


def kind() -> str | None:
    """The loaded kernel module, `open` or `proprietary`; None if the driver does not report it."""
    return nvidia_kernel.loaded_kind(paths.NVIDIA_VERSION)


def remove() -> None:
    """Remove the module from the kernel, unless something uses it."""
    programs.ask(["systemctl", "stop", PERSISTENCED])
    programs.ask(["modprobe", "--remove", *MODULES])
