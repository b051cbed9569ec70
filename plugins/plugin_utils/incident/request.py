"""What a procedure asks of an incident: its inputs as a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils.incident import wording
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import Status
from ansible_collections.katago.fleet.plugins.module_utils.severity import Severity

Verb = Literal["open", "update", "escalate", "close", "deliver", "show"]
LONGEST = 1000
"""The most characters that a text may have."""

_TEXTS = ("lead", "impact", "summary", "next_steps", "eta", "resolution", "public", "to", "why", "alert")


class InputError(Exception):
    """The inputs are not valid; the message has a sentence for each problem."""


@dataclass(frozen=True)
class Request:
    """The inputs of a run; empty for those that were not given."""

    verb: Verb
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


def parse(verb: Verb, inputs: Mapping[str, Any]) -> Request:
    """The request that the inputs of the procedure `incident_VERB` make.

    Names, types and choices were checked against the table of procedures.

    Raises:
        InputError: if a text is too long.
    """
    texts = {name: wording.plain_text(str(inputs.get(name) or "")) for name in _TEXTS}
    actions = tuple(filter(None, (wording.plain_text(str(each)) for each in inputs.get("actions") or ())))
    problems = [
        f"-e {name} has {len(text)} characters. The limit is {LONGEST}."
        for name, text in (*texts.items(), *(("actions", each) for each in actions))
        if len(text) > LONGEST
    ]
    if problems:
        raise InputError(" ".join(problems))
    return Request(
        verb=verb,
        incident=str(inputs.get("incident") or ""),
        resend=inputs.get("resend") is True,
        without_watch=inputs.get("without_watch") is True,
        severity=inputs.get("severity") or None,
        status=inputs.get("status") or None,
        started=str(inputs.get("started") or ""),
        actions=actions,
        **texts,
    )
