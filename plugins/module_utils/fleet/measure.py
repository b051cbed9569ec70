"""Reads the facts of the overview on a host, each with its own deadline."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import Outcome, State
from ansible_collections.katago.fleet.plugins.module_utils.common import workers
from ansible_collections.katago.fleet.plugins.module_utils.fleet import facts
from ansible_collections.katago.fleet.plugins.module_utils.gpu import kernels, nvidia_kernel
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed, history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    endpoints,
    host_secrets,
    http,
    overlay,
    unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage import checks

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n")


@dataclass(frozen=True)
class Places:
    """The paths that are read. `releases`: the root of all releases. `boot`, `reboot`: of the system."""

    releases: Path = paths.RELEASE_ROOT
    unit_file: Path = paths.SERVICE_UNIT_FILE
    history: Path = paths.HISTORY
    lock: Path = paths.HOST_LOCK
    backup_settings: Path = paths.BACKUP_SETTINGS
    backup_state: Path = paths.BACKUP_STATE
    certificate: Path = paths.PINNED_CERTIFICATE
    kernel_modules: Path = paths.KERNEL_MODULES
    boot: Path = Path("/boot")
    reboot: Path = Path("/run/reboot-required")


def measure(places: Places, patience: float) -> dict[str, workers.Entry]:
    """Read all facts at the same time. `patience`: the deadline of each one, in seconds."""
    layout = release_layout.Layout(places.releases)
    readers: dict[str, Callable[[], Any]] = {
        "undeployed": lambda: deployed.undeployed(layout, places.unit_file),
        "release": lambda: release(layout, places.history),
        "service": lambda: service(layout, patience / 3),
        "config": lambda: checks.config(layout),
        "lock": lambda: checks.lock(places.lock),
        "security": checks.security,
        "backup": lambda: backup(places.backup_settings, places.backup_state),
        "reboot": lambda: reboot(places.boot, places.reboot),
        "driver": lambda: nvidia_kernel.loaded_version("nvidia", places.kernel_modules),
    }
    running = workers.Measuring()
    for name, reader in readers.items():
        running.start(name, reader, patience)
    running.start("certificate", lambda: certificate(layout, places.certificate), patience)
    entries = running.results()
    # It is public, and would look like a secret.
    public = entries.pop("certificate")
    shown: dict[str, workers.Entry] = host_secrets.redacted(entries)
    # Last, since the control node compares it with its own clock when the answer arrives.
    return {**shown, "certificate": public, "clock": {"value": time.time()}}


def release(layout: release_layout.Layout, path: Path) -> facts.Release:
    """The releases of the host, from its links, its process, its history and the manifest."""
    current = layout.current_release()
    records = history.read(path)
    switches = [each for each in records if each.verdict is None and each.release == current]
    targets = history.rollback_targets(records, available=layout.complete(), besides=current)
    pid = unit.state().pid
    read: facts.Release = {
        "current": current,
        "running": unit.running_release(pid) if pid else None,
        "since": switches[-1].at if switches else "",
        "verdict": history.standing(records, current) if current else None,
        "previous": next((each.previous for each in reversed(switches) if each.previous != current), None),
        "target": targets[0] if targets else None,
    }
    if manifest := release_layout.manifest(layout.current):
        read["version"] = manifest["version"]
        read["engine_version"] = manifest["engine_version"]
        read["assets"] = assets(manifest)
    return read


def assets(manifest: release_layout.Manifest) -> dict[str, list[str]]:
    """The sha256 of the engines and networks that a release depends on, by the directory of their kind."""
    found: dict[str, list[str]] = {"engines": [], "networks": []}
    for path in map(Path, manifest["stands_on"]):
        if path.is_relative_to(paths.ASSETS):
            kind, sha256 = path.relative_to(paths.ASSETS).parts[:2]
            if kind in found:
                found[kind].append(sha256)
    return {kind: sorted(each) for kind, each in found.items()}


def service(layout: release_layout.Layout, seconds: float) -> facts.Service:
    """The service's unit, whether it is ready, and its lowered limits."""
    details = unit.details()
    at = endpoints.Endpoints.of_release(layout)
    ready, reason = None, ""
    override = None
    if details["pid"]:
        answer = at.probe("/ready", seconds)
        ready = answer is not None and answer[0] == 200
        reason = "" if ready else str(answer[1].get("reason") or "") if answer else "no answer"
        health = at.probe("/health", seconds)
        override = overlay.shown(health[1].get("overlay")) if health else None
    return {
        "active": details["active"],
        "started_at": details["started_at"],
        "ready": ready,
        "reason": reason,
        "override": override,
    }


def backup(settings: Path, state_file: Path) -> facts.Backup:
    """The backups by the host's own record. Raises ShapeError if it is damaged."""
    state = State.read(state_file)
    verified = state.last_good
    return {
        "set_up": settings.exists(),
        "last": _run(state.last_run) if state.last_run else None,
        "verified_at": verified.at if verified else "",
        "snapshot": verified.snapshot if verified else "",
    }


def _run(outcome: Outcome) -> facts.Run:
    return {"at": outcome.at, "ok": outcome.ok, "message": outcome.message}


def certificate(layout: release_layout.Layout, path: Path) -> str | None:
    """The first certificate of the service's file, never a key beside it; None if the service has no TLS."""
    if not http.secured(checks.config(layout)):
        return None
    found = _CERTIFICATE.search(path.read_text())
    if found is None:
        raise workers.NoResult(f"{path} has no certificate")
    return found[0]


def reboot(boot: Path, required: Path) -> facts.Reboot:
    """What the system says about a reboot, and its kernels."""
    listed = required.with_name(f"{required.name}.pkgs")
    packages = sorted(set(listed.read_text().split())) if listed.exists() else []
    installed = [path.name.removeprefix("vmlinuz-") for path in boot.glob("vmlinuz-*")]
    return {
        "required": required.exists(),
        "packages": packages,
        "running": platform.release(),
        "newest": kernels.newest(installed),
    }
