"""What playbooks/incident.yml is asked for: its inputs, checked together before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import state, wording
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import Status
from ansible_collections.katago.fleet.plugins.module_utils.severity import SEVERITIES, Severity

Do = Literal["open", "update", "escalate", "close", "tell", "show"]
DOES: tuple[Do, ...] = get_args(Do)
LONGEST = 1000
"""Characters of a text."""

_TEXTS = ("lead", "impact", "summary", "next_steps", "eta", "resolution", "public", "to", "why", "alert")
_TAKES: Mapping[str, tuple[str, ...]] = {
    "open": ("alert", "severity", "lead", "impact", "summary", "next_steps", "eta", "public", "started"),
    "update": (
        *("status", "severity", "lead", "impact", "summary", "actions", "next_steps", "eta", "resolution"),
        *("public", "without_watch"),
    ),
    "escalate": ("to", "why", "lead", "impact", "summary"),
    "close": ("resolution", "impact", "public", "without_watch"),
    "tell": (),
    "show": (),
}
NAMES = (
    "do",
    "incident",
    "resend",
    "triage_json",
    "breach",
    *sorted({n for t in _TAKES.values() for n in t}),
)
"""The extra variables of the playbook, besides those of roles."""


class InputError(Exception):
    """The inputs cannot be followed; the message has a sentence for everything that is wrong with them."""


@dataclass(frozen=True)
class Request:
    """What is asked for; empty for what was not given."""

    do: Do
    incident: str = ""
    resend: bool = False
    without_watch: bool = False
    severity: Severity | None = None
    status: Status | None = None
    started: str = ""
    alert: str = ""
    lead: str = ""
    impact: str = ""
    summary: str = ""
    actions: tuple[str, ...] = ()
    next_steps: str = ""
    eta: str = ""
    resolution: str = ""
    public: str = ""
    to: str = ""
    why: str = ""

    def texts(self, *names: str) -> dict[str, str]:
        """Those of the named texts that were given."""
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def parse(given: Mapping[str, Any], now: datetime) -> Request:
    """The request that inputs make; values that are None or empty were not given.

    Raises:
        InputError: with every problem at once.
    """
    values = {name: value for name, value in given.items() if value not in (None, "", [])}
    do = str(values.get("do", ""))
    if do not in DOES:
        raise InputError(f"-e do is {do!r}; give one of {', '.join(DOES)}.")
    problems = [
        f"-e {name} is given, and do={do} does not take it; it takes {', '.join(_TAKES[do]) or 'none'}."
        for name in sorted(values)
        if name not in ("do", "incident", "resend", *_TAKES[do])
    ]
    texts = {}
    for name in _TEXTS:
        if name in values:
            texts[name] = wording.one_line(str(values[name]))
            if len(texts[name]) > LONGEST:
                problems.append(f"-e {name} has {len(texts[name])} characters; give at most {LONGEST}.")
    for name, accepted in (("severity", SEVERITIES), ("status", state.STATUSES)):
        if name in values and values[name] not in accepted:
            problems.append(f"-e {name} is {str(values[name])!r}; give one of {', '.join(accepted)}.")
    started = ""
    if "started" in values:
        try:
            started = _time(str(values["started"]), now)
        except ValueError as error:
            problems.append(f"-e started is {str(values['started'])!r}; {error}.")
    if do == "escalate" and "to" not in values:
        problems.append("-e to is not given: whom to call, by the role in incident_roster.")
    if problems:
        raise InputError(" ".join(problems))
    return Request(
        do=do,
        incident=str(values.get("incident", "")),
        resend=values.get("resend") is True,
        without_watch=values.get("without_watch") is True,
        severity=values.get("severity"),
        status=values.get("status"),
        started=started,
        actions=_list(values.get("actions")),
        **texts,
    )


def _time(text: str, now: datetime) -> str:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("give a time in UTC such as 2026-01-31T08:05Z") from None
    if at.tzinfo is None:
        raise ValueError("say the time zone, such as 2026-01-31T08:05Z")
    if at > now:
        raise ValueError(f"it is only {timestamps.stamp(now)}")
    return timestamps.stamp(at.astimezone(UTC))


def _list(value: object) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else str(value or "").split(";")
    return tuple(text for text in (wording.one_line(str(each)) for each in entries) if text)
