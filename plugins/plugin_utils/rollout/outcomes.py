"""What becomes of the hosts of a rollout, in the words of its plan, its progress and its summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

UNCHANGED = "no change is needed"
DONE = "switched by an interrupted run"
UNREACHABLE = "unreachable"
INTERRUPTED = "interrupted"
FAILED_SOAK = "failed its soak, and was not rolled back"
FAILURES: Mapping[str, str] = {
    "refused": "refused; nothing was changed on it",
    "partial": "failed",
    "unknown": "failed; its state is unknown",
    UNREACHABLE: "unreachable; its state is unknown",
    INTERRUPTED: "the run ended while it was switched",
}
"""Results of a host that failed, and what they mean. All but the last two are those of its procedure."""


def untouched(failed: Sequence[str], soak: str | None) -> str:
    """Why the remaining hosts were not touched. `soak`: the state of an unfinished or unknown soak."""
    if failed:
        return f"{', '.join(failed)} failed"
    return f"the soak is {soak}" if soak in ("unknown", INTERRUPTED) else "the run was interrupted"


def grouped(reasons: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[str]:
    """Hosts with their reasons, one entry for each reason: `k1, k2: no change is needed`."""
    groups: dict[str, list[str]] = {}
    for host, why in dict(reasons).items():
        groups.setdefault(why, []).append(host)
    return [f"{', '.join(hosts)}: {why}" for why, hosts in groups.items()]
