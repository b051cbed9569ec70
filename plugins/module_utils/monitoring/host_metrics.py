"""Writes what only the host knows as metrics, for node exporter's textfile collector.

A separate program under a systemd timer. Every metric exists from the first run on, also before its first
event. A reading that fails has the metric `katago_host_reading_ok` 0; its other metrics then have no value.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    commands,
    digest,
    directories,
    endings,
    files,
    unit_state,
    workers,
    x509,
)
from ansible_collections.katago.fleet.plugins.module_utils.common.exposition import Metric, Samples
from ansible_collections.katago.fleet.plugins.module_utils.fleet import measure
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock, security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget, fleet_state, uptime
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit
from ansible_collections.katago.fleet.plugins.module_utils.triage import checks

READING_SECONDS = 20
# The whole release is read again after this time, even if no file looks changed.
RECHECK_SECONDS = 86400
_VERDICTS = {"good": "validated", "bad": "rejected", None: "none"}
_PREFIX = "katago_host_"
_REPAIRS: tuple[str, ...] = get_args(healing_state.Name)
_STATUSES: tuple[str, ...] = get_args(healing_state.Status)
# A repair that has started has no result yet.
_RESULTS = tuple(result for result in get_args(healing_state.Result) if result != "started")
_FLEET_RESULTS = tuple(result for result in get_args(fleet_state.Result) if result != "started")

METRICS = tuple(
    Metric(f"{_PREFIX}{name}", description, labels)
    for name, description, labels in (
        ("reading_ok", "1 if the last reading succeeded, else 0.", ("reading",)),
        ("readings_timestamp_seconds", "When the host was last read, in Unix time.", ()),
        ("deployed", "1 if the service was ever deployed on the host, else 0.", ()),
        ("service_active", "1 if the unit of the service is active, else 0.", ()),
        ("failed_units", "Failed units katago-* besides the service.", ()),
        ("release_info", "Always 1.", ("release", "version", "engine", "network")),
        ("release_running", "1 if the service runs the current release, else 0.", ()),
        ("release_verdict", "1 for the verdict on the current release, else 0.", ("verdict",)),
        ("release_changed_files", "Files of the current release that differ from its manifest.", ()),
        ("override_active", "1 while an override lowers limits, else 0.", ()),
        ("override_expires_timestamp_seconds", "When the override expires, in Unix time; 0 without one.", ()),
        (
            "lock_since_timestamp_seconds",
            "When a procedure took the lock, in Unix time; 0 if it is free.",
            (),
        ),
        ("security_mode", "1 in security mode, else 0.", ()),
        ("backup_set_up", "1 if backups are set up, else 0.", ()),
        ("backup_last_timestamp_seconds", "When the last backup was made, in Unix time; 0 without one.", ()),
        ("backup_last_success", "1 if the last backup succeeded, else 0.", ()),
        (
            "backup_verified_timestamp_seconds",
            "When the last backup was made that was also verified, in Unix time; 0 without one.",
            (),
        ),
        ("reboot_required", "1 if the system asks for a reboot, else 0.", ()),
        (
            "certificate_expires_timestamp_seconds",
            "When the service's certificate on disk expires, in Unix time; 0 without TLS.",
            (),
        ),
        ("healing_set_up", "1 if self-healing is set up, else 0.", ()),
        ("healing_status", "1 for the current status of self-healing, else 0.", ("status",)),
        (
            "healing_since_timestamp_seconds",
            "Since when it has this status, in Unix time; 0 for none.",
            (),
        ),
        ("healing_checked_timestamp_seconds", "When it last ran, in Unix time; 0 if it never did.", ()),
        ("healing_escalated", "1 if it leaves a fault to a person, else 0.", ()),
        (
            "healing_repairs_total",
            "Finished repairs since the installation, by result.",
            ("repair", "result"),
        ),
        (
            "healing_budget_left",
            "Repairs that the budget still allows in this hour and on this day; 0 if it is not set up.",
            ("period",),
        ),
        ("fleet_healing_set_up", "1 if the host repairs the fleet, else 0.", ()),
        (
            "fleet_healing_running",
            "1 while alerts reach the program that repairs the fleet and it does not fail, else 0.",
            (),
        ),
        ("fleet_healing_dry_run", "1 if the program only reports what it would do, else 0.", ()),
        ("fleet_healing_paused", "1 while repairs of the fleet are paused, else 0.", ()),
        (
            "fleet_healing_paused_since_timestamp_seconds",
            "Since when repairs of the fleet are paused, in Unix time; 0 if they are not.",
            (),
        ),
        ("fleet_healing_escalated", "1 if a fault of the fleet is left to a person, else 0.", ()),
        (
            "fleet_healing_stopped",
            "1 after repairs of the fleet have stopped until a person resumes them, else 0.",
            (),
        ),
        (
            "fleet_healing_repairs_total",
            "Finished repairs of the fleet since the installation, by result.",
            ("result",),
        ),
        (
            "fleet_healing_budget_left",
            "Repairs of the fleet that the budget still allows; 0 if they are not set up.",
            ("period",),
        ),
        ("gpu_devices", "NVIDIA GPUs on the PCI bus.", ()),
        ("gpu_responding", "NVIDIA GPUs that the driver reports.", ()),
        ("gpu_xids", "Xid errors in the kernel's log of the last day.", ("fatal",)),
        ("gpu_temperature_celsius", "Temperature of the GPU.", ("device",)),
        ("gpu_memory_bytes", "Memory of the GPU.", ("device",)),
        ("gpu_memory_used_bytes", "Used memory of the GPU.", ("device",)),
        ("gpu_slowed", "1 while temperature or power lower the clock of the GPU, else 0.", ("device",)),
    )
)


@dataclass(frozen=True)
class Places:
    """The paths that are read. `checked`: where the result of reading the release is kept in memory."""

    releases: Path = paths.RELEASE_ROOT
    unit_file: Path = paths.SERVICE_UNIT_FILE
    history: Path = paths.HISTORY
    overlay: Path = paths.OVERLAY
    lock: Path = paths.HOST_LOCK
    security: tuple[Path, Path] = paths.SECURITY_MODE
    backup_settings: Path = paths.BACKUP_SETTINGS
    backup_state: Path = paths.BACKUP_STATE
    certificate: Path = paths.PINNED_CERTIFICATE
    healing_settings: Path = paths.SELF_HEALING_SETTINGS
    healing_state: Path = paths.SELF_HEALING_STATE
    fleet_healing_settings: Path = paths.FLEET_HEALING_SETTINGS
    fleet_healing_state: Path = paths.FLEET_HEALING_STATE
    fleet_healing_pause: Sequence[Path] = paths.FLEET_HEALING_PAUSE
    boot: Path = Path("/boot")
    reboot: Path = Path("/run/reboot-required")
    pci_devices: Path = paths.PCI_DEVICES
    kernel_modules: Path = paths.KERNEL_MODULES
    checked: Path = paths.HOST_METRICS_CHECKED


def readers(places: Places) -> dict[str, Callable[[], Any]]:
    """What is read, by the name of the reading. Each returns plain values."""
    layout = release_layout.Layout(places.releases)
    return {
        "service": lambda: service(layout, places.unit_file),
        "release": lambda: measure.release(layout, places.history),
        "files": lambda: changed_files(layout, places.checked, time.time()),
        "override": lambda: override_expiry(places.overlay, datetime.now(UTC)),
        "lock": lambda: lock_since(places.lock),
        "security_mode": lambda: security_mode.standing(*places.security) is not None,
        "backup": lambda: measure.backup(places.backup_settings, places.backup_state),
        "self_healing": lambda: self_healing(places.healing_settings, places.healing_state),
        "fleet_healing": lambda: fleet_healing(
            places.fleet_healing_settings,
            places.fleet_healing_state,
            places.fleet_healing_pause,
            uptime.read(),
        ),
        "fleet_healing_units": lambda: places.fleet_healing_settings.exists() and runs_fleet_healing(),
        "reboot": lambda: measure.reboot(places.boot, places.reboot)["required"],
        "certificate": lambda: certificate_expiry(layout, places.certificate),
        "gpu": lambda: checks.gpu(places.pci_devices, places.kernel_modules),
    }


def service(layout: release_layout.Layout, unit_file: Path) -> dict[str, Any]:
    """Whether the service is deployed and active, and how many other units have failed."""
    status, listed = commands.ask(
        ["systemctl", "list-units", "--failed", "--plain", "--no-legend", f"{paths.OWN_UNITS}*"],
        READING_SECONDS / 2,
    )
    if status:
        raise workers.NoResult(f"systemctl failed: {endings.describe(listed, status=status)}")
    failed = [line.split()[0] for line in listed.splitlines() if line.split()]
    return {
        "deployed": not deployed.undeployed(layout, unit_file),
        "active": service_unit.state().active == "active",
        "failed": len([name for name in failed if name != paths.SERVICE_UNIT]),
    }


def changed_files(layout: release_layout.Layout, checked: Path, now: float) -> int:
    """How many files of the current release, and of what it depends on, differ from the manifest.

    Reading a network takes long, so the result is kept until a file looks changed (size, times, inode), or
    for `RECHECK_SECONDS`. `now` in Unix time.
    """
    manifest = release_layout.manifest(layout.current)
    if manifest is None:
        return 0
    signature = _signature([layout.current.resolve(), *map(Path, manifest["stands_on"])])
    try:
        known = json.loads(checked.read_text())
    except (OSError, ValueError):
        known = {}
    is_recent = 0 <= now - float(known.get("at") or 0) < RECHECK_SECONDS
    if known.get("signature") == signature and is_recent:
        return int(known["changed"])
    changed = len(release_layout.damage(layout.current))
    result = {"signature": signature, "at": now, "changed": changed}
    directories.make(checked.parent, own=checked.parent, mode=directories.PRIVATE)
    files.write(checked, json.dumps(result).encode(), mode=0o600)
    return changed


def _signature(roots: list[Path]) -> str:
    """Identifies the state of all files without reading them; the time of change cannot be set back."""
    lines = []
    for root in roots:
        for directory, names, file_names in os.walk(root):
            names.sort()
            for name in sorted(file_names):
                lines.append(_state(Path(directory) / name))
        if not root.is_dir():
            lines.append(_state(root))
    return digest.of_text("\n".join(lines))


def _state(path: Path) -> str:
    try:
        status = path.lstat()
    except OSError as error:
        return f"{path} {error.errno}"
    return (
        f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino} {status.st_mode}"
    )


def override_expiry(overlay: Path, now: datetime) -> float:
    """When the override in force expires, in Unix time; 0 if there is none.

    Raises KeyError or ValueError if it is damaged.
    """
    try:
        document = json.loads(overlay.read_text())
    except FileNotFoundError:
        return 0.0
    expires = timestamps.parse(str(document["expiresAt"]))
    return expires.timestamp() if expires > now else 0.0


def lock_since(lock: Path) -> float:
    """When the host's lock was taken, in Unix time; 0 if nobody holds it."""
    holder = host_lock.holder(lock)
    return timestamps.parse(holder.since).timestamp() if holder else 0.0


def self_healing(settings: Path, state_file: Path) -> dict[str, Any] | None:
    """What the program of self-healing recorded; None if it is not set up. Raises StateError."""
    if not settings.exists():
        return None
    state = healing_state.load(state_file)
    return {
        "status": state.status,
        "since": _unix(state.since),
        "checked": _unix(state.checked_at),
        "escalated": state.escalation is not None,
        "repairs": state.counts,
        "left": budget.left([each.total for each in state.repairs], state.clock.total),
    }


def fleet_healing(
    settings: Path, state_file: Path, pause: Sequence[Path], clock: tuple[str, float]
) -> dict[str, Any] | None:
    """What a monitoring host that repairs the fleet recorded; None for other hosts.

    `clock`: the boot's id and the seconds since that boot. Raises StateError, OSError.
    """
    if not settings.exists():
        return None
    state, own = fleet_state.load(state_file), fleet_state.settings(settings)
    since = healing_state.paused_at(pause)
    # The variable pauses since the settings were written.
    paused_at = settings.stat().st_mtime if own.paused and since is None else since
    return {
        "dry_run": own.dry_run,
        "paused": paused_at is not None,
        "paused_at": paused_at or 0.0,
        "stopped": state.is_stopped,
        "escalated": state.escalation is not None,
        "repairs": state.counts,
        "left": fleet_state.left(state, *clock),
    }


def runs_fleet_healing() -> bool:
    """Whether alerts reach the program that repairs the fleet, and it does not fail.

    Raises OSError, subprocess.SubprocessError.
    """
    receives = all(
        unit_state.read(unit).active for unit in (paths.FLEET_HEALING_RECEIVER, paths.FLEET_HEALING_PATH_UNIT)
    )
    program = unit_state.properties(paths.FLEET_HEALING_UNIT, "ActiveState", "SubState")
    # After a failure, systemd starts the program again a minute later.
    fails = program.get("ActiveState") == "failed" or program.get("SubState") == "auto-restart"
    return receives and not fails


def _unix(time: str) -> float:
    return timestamps.parse(time).timestamp() if time else 0.0


def certificate_expiry(layout: release_layout.Layout, path: Path) -> float:
    """When the service's certificate on disk expires, in Unix time; 0 without TLS."""
    pem = measure.certificate(layout, path)
    return x509.not_after(pem) if pem else 0.0


def exposition(entries: Mapping[str, workers.Entry], now: float) -> str:
    """The metrics of all readings. `now`: in Unix time."""
    samples = Samples(METRICS)

    def add(name: str, value: float, **labels: str) -> None:
        samples.add(f"{_PREFIX}{name}", value, **labels)

    add("readings_timestamp_seconds", now)
    for reading, entry in entries.items():
        add("reading_ok", "value" in entry, reading=reading)
    values = {reading: entry["value"] for reading, entry in entries.items() if "value" in entry}
    for reading, write in _WRITERS.items():
        if reading in values:
            write(add, values[reading])
    return samples.text()


Add = Callable[..., None]


def _write_service(add: Add, value: Mapping[str, Any]) -> None:
    add("deployed", value["deployed"])
    add("service_active", value["active"])
    add("failed_units", value["failed"])


def _write_release(add: Add, value: Mapping[str, Any]) -> None:
    for verdict, name in _VERDICTS.items():
        add("release_verdict", value["verdict"] == verdict, verdict=name)
    add("release_running", value["running"] == value["current"])
    if "version" in value:
        engines, networks = (
            ",".join(each[:12] for each in value["assets"][kind]) for kind in ("engines", "networks")
        )
        add(
            "release_info",
            1,
            release=value["current"],
            version=value["version"],
            engine=engines,
            network=networks,
        )


def _write_override(add: Add, expires: float) -> None:
    add("override_active", expires > 0)
    add("override_expires_timestamp_seconds", expires)


def _write_backup(add: Add, value: Mapping[str, Any]) -> None:
    last = value["last"]
    add("backup_set_up", value["set_up"])
    add("backup_last_timestamp_seconds", timestamps.parse(last["at"]).timestamp() if last else 0)
    add("backup_last_success", bool(last and last["ok"]))
    verified = value["verified_at"]
    add("backup_verified_timestamp_seconds", timestamps.parse(verified).timestamp() if verified else 0)


def _write_self_healing(add: Add, value: Mapping[str, Any] | None) -> None:
    add("healing_set_up", value is not None)
    add("healing_since_timestamp_seconds", value["since"] if value else 0)
    add("healing_checked_timestamp_seconds", value["checked"] if value else 0)
    add("healing_escalated", bool(value and value["escalated"]))
    for status in _STATUSES:
        add("healing_status", bool(value and value["status"] == status), status=status)
    for period in ("hour", "day"):
        add("healing_budget_left", value["left"][period] if value else 0, period=period)
    counts = value["repairs"] if value else {}
    # A repair that only an earlier version had keeps its count.
    for repair in dict.fromkeys((*_REPAIRS, *counts)):
        for result in _RESULTS:
            add("healing_repairs_total", counts.get(repair, {}).get(result, 0), repair=repair, result=result)


def _write_fleet_healing(add: Add, value: Mapping[str, Any] | None) -> None:
    add("fleet_healing_set_up", value is not None)
    for name in ("dry_run", "paused", "stopped", "escalated"):
        add(f"fleet_healing_{name}", bool(value and value[name]))
    add("fleet_healing_paused_since_timestamp_seconds", value["paused_at"] if value else 0)
    for period in ("hour", "day"):
        add("fleet_healing_budget_left", value["left"][period] if value else 0, period=period)
    counts = value["repairs"].values() if value else ()
    for result in _FLEET_RESULTS:
        total = sum(by_result.get(result, 0) for by_result in counts)
        add("fleet_healing_repairs_total", total, result=result)


def _write_gpu(add: Add, value: Mapping[str, Any] | None) -> None:
    add("gpu_devices", value["devices"] if value else 0)
    add("gpu_responding", len(value["cards"]) if value and not value["trouble"] else 0)
    xids = value["xids"] if value else []
    for name, is_fatal in (("yes", True), ("no", False)):
        add("gpu_xids", sum(each["count"] for each in xids if each["fatal"] == is_fatal), fatal=name)
    for card in value["cards"] if value else []:
        for name, number, factor in (
            ("temperature_celsius", card["temperature"], 1),
            ("memory_bytes", card["memory_mb"], 1 << 20),
            ("memory_used_bytes", card["memory_used_mb"], 1 << 20),
        ):
            if number is not None:
                add(f"gpu_{name}", number * factor, device=card["address"])
    for condition in value["conditions"] if value else []:
        add("gpu_slowed", bool(condition["slowed"]), device=condition["address"])


_WRITERS: Mapping[str, Callable[[Add, Any], None]] = {
    "service": _write_service,
    "release": _write_release,
    "files": lambda add, changed: add("release_changed_files", changed),
    "override": _write_override,
    "lock": lambda add, since: add("lock_since_timestamp_seconds", since),
    "security_mode": lambda add, is_on: add("security_mode", is_on),
    "backup": _write_backup,
    "self_healing": _write_self_healing,
    "fleet_healing": _write_fleet_healing,
    "fleet_healing_units": lambda add, is_running: add("fleet_healing_running", is_running),
    "reboot": lambda add, is_required: add("reboot_required", is_required),
    "certificate": lambda add, expires: add("certificate_expires_timestamp_seconds", expires),
    "gpu": _write_gpu,
}


def measured(places: Places) -> dict[str, workers.Entry]:
    """Read everything at the same time, each reading with its own deadline."""
    running = workers.Measuring()
    for name, reader in readers(places).items():
        running.start(name, reader, READING_SECONDS)
    return running.results()


def main() -> int:
    """Read the host and replace the file of metrics. The journal gets the reason of every failed reading."""
    entries = measured(Places())
    for name, entry in entries.items():
        if "unknown" in entry:
            print(f"{name} cannot be read: {entry['unknown']}", file=sys.stderr)
    files.write(paths.HOST_METRICS, exposition(entries, time.time()).encode(), mode=0o644)
    return 0
