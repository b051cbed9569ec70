"""What is worth saying about the hosts of a fleet. Pure: the same facts always give the same findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.fleet import facts as fleet_facts
from ansible_collections.katago.fleet.plugins.module_utils.gpu import kernels
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.module_utils.service import overlay
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet import expected
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.rotation import Rotation


@dataclass(frozen=True)
class Thresholds:
    """From when on something is worth saying."""

    certificate_days: float = 21
    backup_hours: float = 26
    clock_seconds: float = 5


@dataclass(frozen=True)
class Host:
    """What is known about a host.

    `unreachable`: why it could not be read, empty if it was. `skew`: seconds that its clock is ahead; None if
    that is unknown. `backups`: whether the inventory has a backup repository for it. `built`: the name of the
    release that the inventory builds, empty if that was not asked for; `unbuilt`: why it is unknown.
    `rotation`: None without load balancers.
    """

    facts: fleet_facts.Facts
    unreachable: str = ""
    expected: expected.Expected = field(default_factory=expected.Expected)
    skew: float | None = None
    backups: bool = False
    built: str = ""
    unbuilt: str = ""
    rotation: Rotation | None = None


@dataclass(frozen=True)
class Finding:
    """Something about a host. `kind`: its subject. `urgent`: clients or data are affected."""

    kind: str
    text: str
    urgent: bool = False


@dataclass(frozen=True)
class Version:
    """What hosts of a fleet should have in common. Names of releases also depend on the host's devices."""

    server: str
    engine: str
    networks: tuple[str, ...]

    def __str__(self) -> str:
        networks = ", ".join(each[:12] for each in self.networks)
        return f"server {self.server} with engine {self.engine}" + (
            f" and network {networks}" if networks else ""
        )


def of_fleet(hosts: Mapping[str, Host], thresholds: Thresholds, now: datetime) -> dict[str, list[Finding]]:
    """The findings by host, the urgent ones first."""
    running = {name: each for name, host in hosts.items() if (each := version(host))}
    counts = Counter(running.values())
    findings = {}
    for name, host in hosts.items():
        found = [*of_host(host, thresholds, now), *_mixed(running.get(name), counts)]
        findings[name] = sorted(found, key=lambda each: not each.urgent)
    return findings


def version(host: Host) -> Version | None:
    """What a host should have in common with the others; None if that is unknown."""
    release = host.facts.values.get("release")
    if release is None or not release.get("version"):
        return None
    networks = (release.get("assets") or {}).get("networks") or []
    return Version(release["version"], release.get("engine_version") or "unknown", tuple(sorted(networks)))


def of_host(host: Host, thresholds: Thresholds, now: datetime) -> Iterator[Finding]:
    """The findings on one host, without those that a comparison with the others gives."""
    if host.unreachable:
        yield Finding("unreachable", host.unreachable, urgent=True)
        return
    values = host.facts.values
    yield from _security(values)
    if why := values.get("undeployed"):
        yield Finding("release", why, urgent=True)
    else:
        yield from _service(values)
        yield from _release(values)
        yield from _override(values)
        yield from _drift(host)
    yield from _rotation(host)
    yield from _lock(values)
    yield from _backup(values, thresholds, now, expected=host.backups)
    yield from _certificate(values, thresholds, now)
    yield from _reboot(values)
    if host.skew is not None and abs(host.skew) > thresholds.clock_seconds:
        yield Finding("clock", f"its clock differs from the control node's by {host.skew:+.0f} s")
    for name, reason in sorted(host.facts.unknown.items()):
        yield Finding("unknown", f"{name} is unknown: {reason}")


def certificate_end(values: fleet_facts.Values) -> datetime | None:
    """When the service's certificate expires; None without TLS, or if it cannot be read."""
    text = values.get("certificate")
    if not text:
        return None
    try:
        return x509.load_pem_x509_certificate(text.encode()).not_valid_after_utc
    except ValueError:
        return None


def _mixed(own: Version | None, counts: Mapping[Version, int]) -> Iterator[Finding]:
    if own is None or len(counts) < 2:
        return
    others = [each for each in counts if each != own]
    most = max(others, key=lambda each: (counts[each], str(each)))
    if counts[own] > counts[most]:
        return
    yield Finding("mixed", f"it has {own}; {counts[most]} {_hosts(counts[most])} {most}")


def _hosts(count: int) -> str:
    return "host has" if count == 1 else "hosts have"


def _security(values: fleet_facts.Values) -> Iterator[Finding]:
    security = values.get("security")
    if security and (mode := security["mode"]):
        cut = ", clients are cut off" if security["isolated"] else ""
        yield Finding(
            "security",
            f"security mode since {mode['since']} by {mode['who']}: {mode['why']}{cut}",
            urgent=True,
        )


def _service(values: fleet_facts.Values) -> Iterator[Finding]:
    service = values.get("service")
    if service is None:
        return
    if service["active"] != "active":
        yield Finding("service", f"the service is {service['active']}", urgent=True)
    elif not service["ready"]:
        yield Finding(
            "service", f"the service is not ready: {service['reason'] or 'no reason given'}", urgent=True
        )


def _release(values: fleet_facts.Values) -> Iterator[Finding]:
    release = values.get("release")
    if release is None:
        return
    current, running = release["current"], release["running"]
    if running is not None and running != current:
        yield Finding(
            "release", f"it runs {running}, but the current release is {current or 'none'}", urgent=True
        )
    if current and release["verdict"] == "bad":
        yield Finding("release", f"{current} was rejected", urgent=True)
    elif current and release["verdict"] is None:
        yield Finding("release", f"{current} is not validated")


def _override(values: fleet_facts.Values) -> Iterator[Finding]:
    service = values.get("service")
    if service and (override := service["override"]):
        yield Finding("limits", overlay.describe(override))


def _drift(host: Host) -> Iterator[Finding]:
    for text in expected.drift(host.facts.values, host.expected):
        yield Finding("drift", text)
    release = host.facts.values.get("release")
    if host.built and release and release["current"] and release["current"] != host.built:
        yield Finding("drift", f"its release is {release['current']}, the inventory builds {host.built}")
    if host.unbuilt:
        yield Finding("drift", f"the inventory's release is unknown: {host.unbuilt}")


def _rotation(host: Host) -> Iterator[Finding]:
    if host.rotation and host.rotation.state != "in":
        state = {"out": "out of rotation", "down": "gets no requests", "unknown": "rotation is unknown"}
        yield Finding(
            "rotation",
            f"{state[host.rotation.state]}: {host.rotation.why}",
            urgent=host.rotation.state == "down",
        )


def _lock(values: fleet_facts.Values) -> Iterator[Finding]:
    if lock := values.get("lock"):
        age = host_lock.duration(lock["age_seconds"])
        dead = "; that run is dead" if lock.get("life") == "dead" else ""
        yield Finding(
            "lock", f"locked by {lock['owner']} for {lock['procedure']} since {lock['since']} ({age}){dead}"
        )


def _backup(
    values: fleet_facts.Values, thresholds: Thresholds, now: datetime, *, expected: bool
) -> Iterator[Finding]:
    backup = values.get("backup")
    if backup is None or not (expected or backup["set_up"]):
        return
    if not backup["set_up"]:
        yield Finding("backup", "backups are not set up")
        return
    last = backup["last"]
    if last and not last["ok"]:
        yield Finding("backup", f"the backup of {last['at']} failed: {last['message']}", urgent=True)
    if not backup["verified_at"]:
        yield Finding("backup", "there is no verified backup", urgent=True)
        return
    seconds = age(backup["verified_at"], now)
    if seconds is None or seconds < -thresholds.clock_seconds:
        moment = f"{backup['verified_at']!r:.40}"
        yield Finding(
            "backup", f"the age of the last verified backup is unknown: its time is {moment}", urgent=True
        )
    elif seconds / 3600 > thresholds.backup_hours:
        yield Finding("backup", f"the last verified backup is {host_lock.duration(seconds)} old", urgent=True)


def age(moment: str, now: datetime) -> float | None:
    """The seconds since a time of a record; None if it is no time."""
    try:
        return (now - timestamps.parse(moment)).total_seconds()
    except ValueError:
        return None


def _certificate(values: fleet_facts.Values, thresholds: Thresholds, now: datetime) -> Iterator[Finding]:
    end = certificate_end(values)
    if end is None:
        if values.get("certificate"):
            yield Finding("certificate", "its certificate cannot be read")
        return
    left = (end - now).total_seconds() / 86400
    if left <= 0:
        yield Finding("certificate", f"its certificate expired at {timestamps.stamp(end)}", urgent=True)
    elif left < thresholds.certificate_days:
        yield Finding(
            "certificate", f"its certificate expires at {timestamps.stamp(end)}, in {left:.0f} days"
        )


def _reboot(values: fleet_facts.Values) -> Iterator[Finding]:
    reboot = values.get("reboot")
    if reboot is None:
        return
    if reboot["required"]:
        by = f" because of {', '.join(reboot['packages'])}" if reboot["packages"] else ""
        yield Finding("reboot", f"the system asks for a reboot{by}")
    if reboot["newest"] and kernels.kernel_version(reboot["newest"]) > kernels.kernel_version(
        reboot["running"]
    ):
        yield Finding(
            "reboot", f"it runs the kernel {reboot['running']}, and {reboot['newest']} is installed"
        )
