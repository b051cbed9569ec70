"""Reads for how long the host has run since which boot, which a clock that jumps does not change."""

from __future__ import annotations

import time

from ansible_collections.katago.fleet.plugins.module_utils import paths


def read() -> tuple[str, float]:
    """The boot's id, and the seconds since that boot. Raises OSError."""
    boot = (paths.PROC / "sys/kernel/random/boot_id").read_text().strip()
    return boot, time.clock_gettime(time.CLOCK_BOOTTIME)
