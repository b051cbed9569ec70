"""The facts of the overview: `measure.py` reads them on a host, and the control node compares them.

As in triage, every fact is an entry: a value, or the reason why it is unknown. What another version reported
may lack facts.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.service import overlay
from ansible_collections.katago.fleet.plugins.module_utils.triage import entries
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts


class Release(TypedDict):
    """The releases of a host.

    `current`: the one that the host is switched to; `running`: the one of the process, None without one.
    `since`: when the host was switched to the current one, empty if its history does not have it. `verdict`:
    `good` (validated), `bad` (rejected), or None since the last switch. `previous`: the current one until the
    last change, or None. `target`: the rollback target, or None. `version`, `engine_version`, `assets` (the
    sha256 of engines and of networks): of the current one, as its manifest has them.
    """

    current: str | None
    running: str | None
    since: str
    verdict: str | None
    previous: str | None
    target: str | None
    version: NotRequired[str]
    engine_version: NotRequired[str]
    assets: NotRequired[dict[str, list[str]]]


class Service(TypedDict):
    """The service: `active` as in systemctl(1); `started_at` in seconds since the epoch, or None.

    `ready`: whether /ready has status 200, None without a process. `reason`: why it is not ready. `override`:
    the lowered limits; None without.
    """

    active: str
    started_at: float | None
    ready: bool | None
    reason: str
    override: overlay.Shown | None


class Run(TypedDict):
    """The last backup: when, whether it succeeded, and its message."""

    at: str
    ok: bool
    message: str


class Backup(TypedDict):
    """The backups: `verified_at` and `snapshot` of the last verified one, empty without one."""

    set_up: bool
    last: Run | None
    verified_at: str
    snapshot: str


class Reboot(TypedDict):
    """Why the host should be rebooted.

    `required`: whether the system says so; `packages`: because of these. `running`, `newest`: its kernels;
    `newest` is empty if it has none of its own, as in a container.
    """

    required: bool
    packages: list[str]
    running: str
    newest: str


class Values(TypedDict, total=False):
    """The known facts by name.

    `undeployed`: why the service is not deployed, empty if it is. `config`: the configuration of the current
    release. `certificate`: the service's certificate in PEM, None without TLS. `clock`: the host's time in
    seconds since the epoch. `driver`: the version of the loaded GPU driver, None without one.
    """

    undeployed: str
    release: Release
    service: Service
    config: dict[str, Any]
    lock: triage_facts.Lock | None
    security: triage_facts.Security
    backup: Backup
    certificate: str | None
    reboot: Reboot
    clock: float
    driver: str | None


Facts = entries.Facts[Values]


def read(reported: object) -> Facts:
    """Read the entries of a host. Raises ShapeError if they are no object."""
    return entries.read(Values, reported, {"service": _require_start})


def _require_start(service: Service) -> None:
    started = service["started_at"]
    try:
        if started is not None:
            timestamps.stamp(started)
    except (ValueError, OverflowError, OSError) as error:
        raise shape.ShapeError(f"service.started_at is {started!r}, not a time") from error
