"""The program katago-self-healing, which the service's unit and a timer start on the host."""

from __future__ import annotations

import fcntl
import os

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.healer import Healer, Host, Places


def main() -> int:
    """Run once, after another instance has ended."""
    guard = os.open(paths.SELF_HEALING_GUARD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # Released by the kernel when the process ends.
    fcntl.flock(guard, fcntl.LOCK_EX)
    return Healer(Places(), Host()).run()
