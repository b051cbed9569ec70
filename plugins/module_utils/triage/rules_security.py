"""Rules for a host that somebody may have got into: security mode, bursts of refused logins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.triage import reason, rules_traffic
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import Security, Traffic
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

# A client with an old token asks again now and then; who guesses does not stop. Of a busy service, and of a
# long window, the bound grows along.
REFUSED_LOGINS = 20
REFUSED_LOGINS_PER_SECOND = 2
REFUSED_PERCENT_OF_ANSWERED = 10
_LOGIN = ("unauthenticated", "forbidden")


def breach() -> Reason:
    """What an operator says, and no host can."""
    return Reason(
        "P0",
        "breach",
        "an operator says so",
        "none",
        escalate="security breach",
        next=reason.isolation("a breach is known"),
        suspicious=True,
    )


def security_mode(security: Security) -> Iterator[Reason]:
    """The host is in security mode, or should be cut off and is not."""
    if (mode := security["mode"]) is None:
        return
    lost = security["isolated"] is False
    words = "and clients are NOT cut off, as they are to be" if lost else "and left as it is until that ends"
    yield Reason(
        "P0",
        "security_mode",
        f"the host is in security mode since {mode['since']}, by {mode['who']} ({mode['why']}), {words}",
        "isolated as the mode says" if lost else "no mode",
        escalate="security breach suspected",
        next=reason.isolation("the isolation was taken away") if lost else reason.SHOW_SECURITY,
        suspicious=True,
    )


def refused_logins(traffic: Traffic, own: Sequence[str]) -> Iterator[Reason]:
    """Many requests came without a valid token. `own`: the statuses of triage's own calls."""
    if not traffic["served"]:
        return
    if traffic["refused"] is None:
        yield reason.unknown("refused_logins", "katago_mcp_http_refused_total is missing or NaN")
        return
    counts = {kind: traffic["refused"].get(kind, 0) for kind in _LOGIN}
    refused = sum(counts.values())
    # Those that failed do not count: a burst must not hide behind the trouble that it makes.
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
            f"{refused:g} logins were refused in {traffic['seconds']:.0f} s ({kinds}), beside {answered:g}"
            " requests that were answered",
            f"fewer than {bound:g}",
            escalate="unusual access",
            next=reason.isolation("a burst of refused logins"),
            suspicious=True,
        )
