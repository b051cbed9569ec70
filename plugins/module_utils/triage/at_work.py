"""The procedure that holds a host's lock: who is at work, and which findings it causes itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.module_utils.triage import reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import Lock
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

LONGEST_SECONDS = 3600
"""A procedure that takes longer no longer explains a finding."""

# Procedures that hold the lock and do not interrupt the service; they only use the processors.
_QUIET = ("backup", "baseline", "evidence", "validate")
_CAUSED_BY_LOAD = ("performance",)
# An interrupted service explains every other finding.
_NEVER_CAUSED = (
    "breach",
    "certificate",
    "filesystems",
    "gpu",
    "journal",
    "memory",
    "ports",
    "pressure",
    "refused_logins",
    "rotation",
    "security_mode",
)


def is_at_work(lock: Lock | None) -> bool:
    """Whether the lock's procedure is at work, as far as known, and not for too long."""
    if lock is None or lock.get("life") == "dead":
        return False
    return lock["age_seconds"] <= LONGEST_SECONDS


def text(lock: Lock) -> str:
    """Who is at work since when with which procedure, and what to do about it."""
    age = host_lock.duration(lock["age_seconds"])
    who = f"{lock['procedure']} of {lock['owner']}, since {lock['since']} ({age} ago)"
    if lock.get("life") == "dead":
        return (
            f"the host's lock is stale: it is held for {who}, but that run is dead. To finish it,"
            f" the same person repeats {lock['procedure']}.yml; other procedures are refused, and say how to"
            " break the lock"
        )
    if not is_at_work(lock):
        return (
            f"the host's lock has been held for a long time, for {who}. Ask {lock['owner']}; other procedures"
            " are refused, and say how to break the lock"
        )
    return (
        f"a procedure is at work on this host: {who}. Wait until it finishes; others are refused until then"
    )


def attributed(reasons: Sequence[Reason], lock: Lock) -> list[Reason]:
    """The reasons, those that the procedure itself may cause with an unknown level.

    With a reason that names the procedure, if there are such. A suspicious reason is never explained.
    """
    caused = [each for each in reasons if _may_cause(lock, each)]
    if not caused:
        return list(reasons)
    named = Reason("unknown", "lock", text(lock), "no procedure at work", next=reason.TRIAGE)
    return [named, *(_explained(each) if each in caused else each for each in reasons)]


def _may_cause(lock: Lock, found: Reason) -> bool:
    if found.suspicious:
        return False
    if lock["procedure"] in _QUIET:
        return found.rule in _CAUSED_BY_LOAD
    return found.rule not in _NEVER_CAUSED or (found.rule, lock["procedure"]) == ("gpu", "gpu_driver")


def _explained(found: Reason) -> Reason:
    measured = f"{found.measured}; the procedure at work may be the cause"
    return replace(found, level="unknown", measured=measured, escalate=None, next=None)
