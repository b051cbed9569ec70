"""The inputs of the incident playbooks, checked together before anything is done."""

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
"""The most characters that a text may have."""

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
"""The extra variables of the playbooks, in addition to role variables."""


class InputError(Exception):
    """The inputs are not valid. The message has a sentence for each problem."""


@dataclass(frozen=True)
class Request:
    """The inputs of a run; empty for those that were not given."""

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
        """The given texts among `names`."""
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def parse(given: Mapping[str, Any], now: datetime) -> Request:
    """Parse and check the inputs. None and empty values count as not given.

    Raises:
        InputError: if inputs are not valid. The message lists all problems.
    """
    values = {name: value for name, value in given.items() if value not in (None, "", [])}
    do = str(values.get("do", ""))
    if do not in DOES:
        raise InputError(f"-e do is {do!r}. Accepted: {', '.join(DOES)}.")
    problems = [
        f"-e {name} cannot be used with do={do}. It accepts: {', '.join(_TAKES[do]) or 'no other input'}."
        for name in sorted(values)
        if name not in ("do", "incident", "resend", *_TAKES[do])
    ]
    texts = {}
    for name in _TEXTS:
        if name in values:
            texts[name] = wording.one_line(str(values[name]))
            if len(texts[name]) > LONGEST:
                problems.append(f"-e {name} has {len(texts[name])} characters. The limit is {LONGEST}.")
    for name, accepted in (("severity", SEVERITIES), ("status", state.STATUSES)):
        if name in values and values[name] not in accepted:
            problems.append(f"-e {name} is {str(values[name])!r}. Accepted: {', '.join(accepted)}.")
    started = ""
    if "started" in values:
        try:
            started = _time(str(values["started"]), now)
        except ValueError as error:
            problems.append(f"-e started is {str(values['started'])!r}. {error}.")
    if do == "escalate" and "to" not in values:
        problems.append(
            "-e to is missing. Give the role of the contact in incident_roster, such as -e to=senior."
        )
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
        raise ValueError("Give a time in UTC such as 2026-01-31T08:05Z") from None
    if at.tzinfo is None:
        raise ValueError("Add the time zone, such as 2026-01-31T08:05Z")
    if at > now:
        raise ValueError(f"That is in the future; it is now {timestamps.stamp(now)}")
    return timestamps.stamp(at.astimezone(UTC))


def _list(value: object) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else str(value or "").split(";")
    return tuple(text for text in (wording.one_line(str(each)) for each in entries) if text)
