"""One pass of triage over a load balancer: its checks and their deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import workers
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets
from ansible_collections.katago.fleet.plugins.module_utils.triage import checks, checks_load_balancer
from ansible_collections.katago.fleet.plugins.module_utils.triage.measure import Options, Places

_WRITTEN = ("/", "/etc", "/run", "/var", "/var/lib")


def measure(options: Options, places: Places) -> dict[str, workers.Entry]:
    """Run all checks at the same time and return their entries, with the host's secrets redacted."""
    quick = options.patience / 3
    running = workers.Measuring()
    for name, check in checks_of(places).items():
        running.start(name, check, quick)
    entries = dict(running.results())
    # Public, and it looks like a secret.
    certificate = entries.pop("certificate")
    running.start("clock", time.time, quick)
    shown: dict[str, workers.Entry] = host_secrets.redacted({**entries, "clock": running.results()["clock"]})
    return {**shown, "certificate": certificate}


def checks_of(places: Places) -> dict[str, Callable[[], Any]]:
    """The checks by the name of their fact."""
    return {
        "haproxy": checks_load_balancer.running_haproxy,
        "haproxy_config": checks_load_balancer.haproxy_config,
        "rotation": checks_load_balancer.rotation_state,
        "virtual_address": checks_load_balancer.virtual_address,
        "certificate": checks_load_balancer.certificate,
        "filesystems": lambda: checks.filesystems(_WRITTEN),
        "memory": lambda: checks.memory(places.proc),
        "pressure": lambda: checks.pressure(places.proc),
        "load": lambda: checks.load(places.proc),
        "system": lambda: checks.system(places.os_release),
        "packages": lambda: checks.packages(places.package_log),
        "lock": lambda: checks.lock(places.lock),
        "last_lines": lambda: checks_load_balancer.last_lines(checks.LAST_LINES),
    }
