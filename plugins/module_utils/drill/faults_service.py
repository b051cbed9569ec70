"""Faults of the service and its engine: stopped, killed, crashing, hung, slow, overloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.drill import fault, program, step
from ansible_collections.katago.fleet.plugins.module_utils.drill.fault import Fault, Request, Seen
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host, RefusedError
from ansible_collections.katago.fleet.plugins.module_utils.drill.parameters import Parameter
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step
from ansible_collections.katago.fleet.plugins.module_utils.drill.steps_files import Lowered
from ansible_collections.katago.fleet.plugins.module_utils.drill.steps_units import (
    Continued,
    Helper,
    Hung,
    Quota,
    Unit,
    limits_processors,
    quota_file,
)
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.module_utils.service import limits, overlay_apply

_LONGEST_HELPER = 600
_KILLED_SECONDS = 120
_SERVICE = Unit(paths.SERVICE_UNIT)


def _stopped(host: Host, _request: Request) -> list[Step]:
    fault.require_service(host)
    return [Unit(paths.SERVICE_UNIT, "stop")]


def _load_balancer_stopped(host: Host, _request: Request) -> list[Step]:
    if not host.places.load_balancer.is_file():
        raise RefusedError("This host is not a load balancer of the fleet. Choose one of them.")
    fault.require_running(host, paths.LOAD_BALANCER_UNIT, "Repair it with playbooks/load_balancer.yml")
    return [Unit(paths.LOAD_BALANCER_UNIT, "stop")]


def _is_down(host: Host, steps: Sequence[Step]) -> Seen:
    down = [each.remains(host) for each in steps if isinstance(each, Unit)]
    return Seen(all(down), "; ".join(filter(None, down)) or "all units run")


def _killed(host: Host, _request: Request) -> list[Step]:
    fault.require_service(host)
    return [_SERVICE, Helper("kill-service", _KILLED_SECONDS)]


def _has_failed(host: Host, _steps: Sequence[Step]) -> Seen:
    kills, active = _kills(host), host.active(paths.SERVICE_UNIT)
    return Seen(kills > 0 and active != "active", f"{paths.SERVICE_UNIT} is {active} after {kills} kills")


def _crashing(host: Host, request: Request) -> list[Step]:
    _require_engine(host)
    return [_SERVICE, Helper("kill-engines", min(request.number("seconds"), request.ttl))]


def _crashes(host: Host, steps: Sequence[Step]) -> Seen:
    kills = _kills(host)
    helper = fault.remains(host, [each for each in steps if isinstance(each, Helper)])
    return Seen(helper.landed and kills > 0, f"the engine was killed {kills} times; {helper.text}")


def _kills(host: Host) -> int:
    path: Path = host.places.volatile / program.KILLS
    return int(path.read_text()) if path.is_file() else 0


def _hung(host: Host, _request: Request) -> list[Step]:
    engines = _require_engine(host)
    return [_SERVICE, Hung(paths.SERVICE_UNIT, tuple((pid, host.process_start(pid)) for pid in engines))]


def _is_hung(host: Host, steps: Sequence[Step]) -> Seen:
    return fault.remains(host, [each for each in steps if isinstance(each, Hung)])


def _slow(host: Host, request: Request) -> list[Step]:
    fault.require_service(host)
    file = quota_file(host, paths.SERVICE_UNIT)
    quota = host.show(paths.SERVICE_UNIT, "CPUQuotaPerSecUSec").get("CPUQuotaPerSecUSec", "infinity")
    if file.exists() or quota != "infinity":
        raise RefusedError(f"The processor time of {paths.SERVICE_UNIT} is limited already, to {quota}.")
    percent = request.number("percent")
    if limits_processors(host):
        return [Quota(paths.SERVICE_UNIT, percent)]
    _require_engine(host)
    return [_SERVICE, Continued(paths.SERVICE_UNIT, all=True), Helper("slow-engines", request.ttl, percent)]


def _is_slow(host: Host, steps: Sequence[Step]) -> Seen:
    return fault.remains(host, [each for each in steps if isinstance(each, Quota | Helper)])


def _errors(host: Host, request: Request) -> list[Step]:
    fault.require_service(host)
    before = _automatic_override(host)
    try:
        config, _ = overlay_apply.look()
        asked = limits.parse({"concurrent": 1, "queued": 0}, request.ttl / 60, "drill")
        usable = {key: value for key, value in asked.limits.items() if _can_lower(config, key, value)}
        limits.in_force(config, usable)
    except (overlay_apply.RefusedError, limits.OverlayError) as error:
        raise RefusedError(str(error)) from error
    busy = Helper("keep-busy", request.ttl)
    return [_SERVICE, Lowered(request.drill, usable, request.ttl / 60, before), busy]


def _automatic_override(host: Host) -> str:
    """The override of self-healing, as an earlier drill may leave it; empty if no limits are lowered."""
    content = step.content_of(host.places.overlay)
    if content is None:
        return ""
    try:
        document = shape.typed(limits.Document, shape.parsed(content), "the override")
        timestamps.parse(document["expiresAt"])
        who = document["who"]
    except ValueError:
        who = "an unknown program"
    if who != host_lock.SELF_HEALING:
        raise RefusedError(
            f"Limits of the service are lowered already by {who}. Restore them first:"
            " playbooks/mitigate_undo.yml"
        )
    return content.decode()


def _is_refusing(host: Host, steps: Sequence[Step]) -> Seen:
    return fault.remains(host, [each for each in steps if isinstance(each, Lowered | Helper)])


def _can_lower(config: dict[str, object], key: str, value: float) -> bool:
    section, name = key.split(".")
    values = config.get(section)
    configured = values.get(name) if isinstance(values, dict) else None
    return isinstance(configured, int | float) and configured > value


def _require_engine(host: Host) -> list[int]:
    fault.require_service(host)
    if engines := host.engines():
        return engines
    raise RefusedError("The service has no running engine. Repair it, or choose another fault.")


FAULTS = (
    Fault(
        "service_down",
        "The service is stopped.",
        "a running service",
        _stopped,
        _is_down,
    ),
    Fault(
        "service_killed",
        "The service is killed until systemd gives up.",
        "a running service",
        _killed,
        _has_failed,
    ),
    Fault(
        "engine_crash_loop",
        "The engine is killed each time that it starts.",
        "a running engine",
        _crashing,
        _crashes,
        (Parameter("seconds", "how long the engine is killed", 60, least=5, most=_LONGEST_HELPER),),
    ),
    Fault(
        "engine_hung",
        "The engine does not respond: its process is stopped by a signal.",
        "a running engine",
        _hung,
        _is_hung,
    ),
    Fault(
        "engine_slow",
        "The engine is slow: its processor time is limited.",
        "a running engine without a limit",
        _slow,
        _is_slow,
        (Parameter("percent", "of one processor, or of the time", 10, least=1, most=90),),
    ),
    Fault(
        "error_burst",
        "The service refuses most requests: its limits are lowered, and one client keeps it busy.",
        "a running service whose limits no person has lowered",
        _errors,
        _is_refusing,
    ),
    Fault(
        "load_balancer_down",
        "HAProxy is stopped on a load balancer.",
        "a load balancer of the fleet",
        _load_balancer_stopped,
        _is_down,
    ),
)
