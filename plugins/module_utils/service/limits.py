"""Temporarily lowered limits: the operator's request, the override's file, and the timer that ends it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.service import overlay

SHORTEST_MINUTES = 0.1
LONGEST_MINUTES = 1440.0
LONGEST_WHY = 1000
"""Characters; the server accepts no more."""


@dataclass(frozen=True)
class Limit:
    """A limit: its name for operators, and the key of the configuration that it lowers.

    `least`: the smallest value, in the operator's unit. `factor`: one operator's unit in the key's unit.
    """

    name: str
    key: str
    least: overlay.Number = 1
    whole: bool = True
    factor: int = 1


LIMITS = (
    Limit("visits", "katago.maxVisits"),
    Limit("default_visits", "katago.defaultVisits"),
    Limit("seconds", "katago.maxTime", whole=False),
    Limit("review_visits", "katago.maxReviewVisits"),
    Limit("review_seconds", "katago.maxReviewTime", whole=False),
    Limit("concurrent", "katago.maxConcurrent"),
    Limit("queued", "server.maxQueued", least=0),
    Limit("cache_mb", "cache.maxSizeBytes", factor=1 << 20),
)
_MAX_VISITS, _DEFAULT_VISITS = "katago.maxVisits", "katago.defaultVisits"


class OverlayError(Exception):
    """The request is invalid; `problems` has every invalid value and what would be accepted."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Request:
    """An operator's request: limits by key of the configuration, duration in minutes, and reason."""

    limits: Mapping[str, overlay.Number]
    minutes: float
    why: str


class Document(TypedDict):
    """The override's file as the server reads it; `set`: values by key of the configuration."""

    set: dict[str, overlay.Number]
    expiresAt: str
    why: str
    who: str


def parse(limits: Mapping[str, object], minutes: object, why: str) -> Request:
    """Check a request on its own, without a host. Values may be numbers or texts of numbers.

    Raises:
        OverlayError: with every problem at once.
    """
    problems: list[str] = []
    requested = {name: value for name, value in limits.items() if value is not None}
    values = {}
    for limit in LIMITS:
        if limit.name in requested:
            number = _number(requested[limit.name], whole=limit.whole)
            if number is None or number < limit.least:
                kind = "a whole number" if limit.whole else "a number"
                problems.append(
                    f"{limit.name} is {requested[limit.name]!r}; give {kind} of at least {limit.least}."
                )
            else:
                values[limit.key] = number * limit.factor
    if not requested:
        problems.append(f"No limit is given: give one or more of {', '.join(each.name for each in LIMITS)}.")
    span = _number(minutes, whole=False)
    if span is None or not SHORTEST_MINUTES <= span <= LONGEST_MINUTES:
        problems.append(
            f"minutes is {minutes!r}; give a number from {SHORTEST_MINUTES:g} to {LONGEST_MINUTES:g}. To"
            " change a limit permanently, deploy it."
        )
    if not why.strip() or len(why) > LONGEST_WHY:
        problems.append(
            f"why has {len(why.strip())} characters; give the reason in 1 to {LONGEST_WHY} characters."
        )
    if problems or span is None:
        raise OverlayError(problems)
    return Request(values, float(span), why.strip())


def in_force(config: Mapping[str, Any], limits: Mapping[str, overlay.Number]) -> dict[str, overlay.Number]:
    """The keys that an override with `limits` lowers, with their lowered values.

    Raises:
        OverlayError: if a limit is above the configured one, if the configuration does not have it, or if
            nothing would be lowered.
    """
    problems = []
    names = {limit.key: limit for limit in LIMITS}
    lowered: dict[str, overlay.Number] = {}
    for key, value in limits.items():
        configured, limit = _value(config, key), names[key]
        if configured is None:
            problems.append(
                f"{limit.name} is given, but the configuration has no {key}. Deploy a newer release first."
            )
        elif value > configured:
            problems.append(
                f"{limit.name} is {value / limit.factor:g}, and {key} is configured as"
                f" {configured / limit.factor:g}: give less. A mitigation only lowers."
            )
        elif value < configured:
            lowered[key] = value
    most, default = lowered.get(_MAX_VISITS), _value(config, _DEFAULT_VISITS)
    if most is not None and default is not None and most < lowered.get(_DEFAULT_VISITS, default):
        lowered[_DEFAULT_VISITS] = most
    if not lowered and not problems:
        values = ", ".join(f"{key} is {_value(config, key)}" for key in limits)
        problems.append(f"Nothing would be lowered: {values} already.")
    if problems:
        raise OverlayError(problems)
    return {limit.key: lowered[limit.key] for limit in LIMITS if limit.key in lowered}


def expiry(minutes: float, now: datetime) -> datetime:
    """When the override ends: UTC, rounded up to a whole second, as systemd's timers need it."""
    return (now + timedelta(minutes=minutes, microseconds=999_999)).astimezone(UTC).replace(microsecond=0)


def document(limits: Mapping[str, overlay.Number], expires: datetime, why: str, who: str) -> Document:
    """The content of the override's file."""
    return {"set": dict(limits), "expiresAt": f"{expires:%Y-%m-%dT%H:%M:%SZ}", "why": why, "who": who}


def units(expires: datetime) -> dict[Path, str]:
    """The timer and the service unit that end the override: path to content.

    They need no control node and work after a reboot. The service unit removes both at the end. The server
    also ends an override itself when its time is over, so units that a power cut leaves are harmless.
    """
    timer, ending = (
        paths.SERVICE_UNIT_FILE.with_name(paths.OVERLAY_TIMER),
        paths.SERVICE_UNIT_FILE.with_name(paths.OVERLAY_EXPIRY_UNIT),
    )
    systemctl = "/usr/bin/systemctl"
    return {
        ending: f"""\
[Unit]
Description=Restore the limits of the KataGo MCP server

[Service]
Type=oneshot
ExecStart=/usr/bin/rm --force {paths.OVERLAY}
# Fails if the server does not run, which does no harm.
ExecStart=-{systemctl} reload {paths.SERVICE_UNIT}
ExecStart={systemctl} disable {paths.OVERLAY_TIMER}
ExecStart=/usr/bin/rm --force {timer} {ending}
ExecStart={systemctl} daemon-reload
""",
        timer: f"""\
[Unit]
Description=Time to restore the limits of the KataGo MCP server

[Timer]
OnCalendar={expires:%Y-%m-%d %H:%M:%S} UTC
AccuracySec=1s
Persistent=true

[Install]
WantedBy=timers.target
""",
    }


def effective(config: Mapping[str, Any], lowered: Mapping[str, overlay.Number]) -> dict[str, overlay.Number]:
    """Every limit that can be lowered, with the value in force."""
    configured = {limit.key: _value(config, limit.key) for limit in LIMITS}
    return {key: lowered.get(key, value) for key, value in configured.items() if value is not None}


def lines(limits: Mapping[str, overlay.Number], until: str | None) -> str:
    """Limits in force as text, one line for each."""
    texts = [f"{key}: {overlay.written(value)}" for key, value in limits.items()]
    return "".join(f"{line}\n" for line in [*texts, f"until: {until or 'the next deployment'}"])


def changes(before: Mapping[str, overlay.Number], after: Mapping[str, overlay.Number]) -> str:
    """The changes as text: `katago.maxVisits 1000 to 200, katago.maxTime 30 to 10`."""
    return ", ".join(
        f"{key} {overlay.written(before[key])} to {overlay.written(value)}"
        for key, value in after.items()
        if before.get(key) != value
    )


def differences(value: object, document: Document, lowered: Mapping[str, overlay.Number]) -> Iterator[str]:
    """How the override that `/health` shows differs from the one that was applied."""
    if not isinstance(value, Mapping):
        yield "the service shows no lowered limits"
        return
    expected = {
        "keys": dict(lowered),
        "expiresAt": document["expiresAt"],
        "why": document["why"],
        "who": document["who"],
    }
    for name, each in expected.items():
        if value.get(name) != each:
            yield f"{name} is {value.get(name)!r}, expected {each!r}"


def _value(config: Mapping[str, Any], key: str) -> overlay.Number | None:
    section_name, name = key.split(".")
    section = config.get(section_name)
    value = section.get(name) if isinstance(section, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: object, *, whole: bool) -> overlay.Number | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(str(value))
    except ValueError:
        return None
    if not math.isfinite(number) or (whole and not number.is_integer()):
        return None
    return int(number) if whole else number
