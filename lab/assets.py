"""The lab's network (the small one beside the checkout, or one from PyPI) and its tuning results."""

from __future__ import annotations

import os
from pathlib import Path

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
# Tuning results of KataGo 1.18.1 on PoCL, with KataGo's own file names. The engine accepts them on every CPU.
TUNING = paths.ROOT / "lab" / "tuning"
SMALL_TUNING = TUNING / "tune13_gpupthreadskylakeavx512AMDEPYC_x19_y19_c96_mv8.txt"
PACKAGED_TUNING = TUNING / "tune13_gpupthreadskylakeavx512AMDEPYC_x19_y19_c192_mv8.txt"


def may_use_shared() -> bool:
    """Whether the assets beside the checkout may be used: not when LAB_ASSETS is `packages`."""
    return os.environ.get("LAB_ASSETS") != "packages"


def network(*, shared: bool) -> dict[str, str]:
    """The value of `katago_network` for the lab's hosts."""
    return SMALL if _small(shared=shared) else PACKAGED


def tuner_file(*, shared: bool) -> Path:
    """The tuning result for the lab's network."""
    return SMALL_TUNING if _small(shared=shared) else PACKAGED_TUNING


def _small(*, shared: bool) -> bool:
    return shared and (paths.SHARED / "katago").is_dir()
