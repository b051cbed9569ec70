"""Which network the lab deploys: the small one beside the checkout where there is one, else one from PyPI."""

from __future__ import annotations

import os

from lab import paths

SMALL = {
    "source": "file",
    "path": str(paths.SHARED / "katago" / "g170-b6c96-s175395328-d26788732.bin.gz"),
    "sha256": "f5d32604e3675c480c7c8f6aa579a1ea857135628a0afccc8fa56330fbacd38d",
}
PACKAGED = {
    "source": "pypi",
    "requirement": "katrain==1.10.1",
    "member": "katrain/models/g170e-b15c192-s1672170752-d466197061.bin.gz",
    "sha256": "8eddea97a853564338543ba7d44826284347542b070c5dbee61945e8be3258d0",
}


TUNING_RESULTS = paths.SHARED / "katago" / "opencltuning"


def shared_wanted() -> bool:
    """Whether what lies beside the checkout may be used: not when LAB_ASSETS is `packages`."""
    return os.environ.get("LAB_ASSETS") != "packages"


def tuning_results(*, shared: bool) -> str:
    """The value of `katago_tuning_results` for the lab's hosts."""
    return str(TUNING_RESULTS) if shared and TUNING_RESULTS.is_dir() else ""


def network(*, shared: bool) -> dict[str, str]:
    """The value of `katago_network` for the lab's hosts."""
    if shared and (paths.SHARED / "katago").is_dir():
        return SMALL
    return PACKAGED
