"""Rules for a possible intrusion: a reported breach, security mode, bursts of refused logins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.triage import reason, rules_traffic
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import Security, Traffic
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

# A client with an expired token retries now and then; an attacker who guesses tokens does not stop.
# The bound grows with the length of the window and with the number of answered requests.
REFUSED_LOGINS = 20
REFUSED_LOGINS_PER_SECOND = 2
REFUSED_PERCENT_OF_ANSWERED = 10
_LOGIN = ("unauthenticated", "forbidden")


def breach() -> Reason:
    """The reason for a breach that an operator reported. No check on a host can detect one."""
    return Reason(
        "P0",
        "breach",
        "an operator reported a security breach (-e breach=true)",
        "no breach",
        escalate="security breach",
        next=reason.isolation("an operator reported a breach"),
        suspicious=True,
    )


def security_mode(security: Security) -> Iterator[Reason]:
    """Report a host that is in security mode, and whether its isolation is missing."""
    if (mode := security["mode"]) is None:
        return
    lost = security["isolated"] is False
    effect = (
        "clients are NOT cut off, although the mode requires it"
        if lost
        else "playbooks do not change the host until the mode is off"
    )
    yield Reason(
        "P0",
        "security_mode",
        f"the host is in security mode since {mode['since']}, set by {mode['who']} ({mode['why']}); {effect}",
        "clients are cut off" if lost else "security mode is off",
        escalate="security breach suspected",
        next=reason.isolation("the isolation was removed") if lost else reason.SHOW_SECURITY,
        suspicious=True,
    )


def refused_logins(traffic: Traffic, own: Sequence[str]) -> Iterator[Reason]:
    """Report a burst of requests without a valid token. `own`: the statuses of triage's own calls."""
    if not traffic["served"]:
        return
    if traffic["refused"] is None:
        yield reason.unknown("refused_logins", "katago_mcp_http_refused_total is missing or NaN")
        return
    counts = {kind: traffic["refused"].get(kind, 0) for kind in _LOGIN}
    refused = sum(counts.values())
    # Failed requests do not count as answered: a burst must not hide behind the failures that it causes.
    judged, failed = rules_traffic.of_others(traffic["requests"] or {}, own)
    answered = judged - failed
    bound = max(
        REFUSED_LOGINS,
        REFUSED_LOGINS_PER_SECOND * traffic["seconds"],
        REFUSED_PERCENT_OF_ANSWERED * answered / 100,
    )
    if refused >= bound:
        kinds = ", ".join(f"{count:g} {kind}" for kind, count in counts.items())
        yield Reason(
            "P1",
            "refused_logins",
            f"{refused:g} logins were refused in {traffic['seconds']:.0f} s ({kinds}); {answered:g} client"
            " requests were answered in the same time",
            f"fewer than {bound:g} refused logins",
            escalate="unusual access",
            next=reason.isolation("a burst of refused logins"),
            suspicious=True,
        )
