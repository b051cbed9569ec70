"""Decides whether a host must be visited to run a release, by what was observed on it."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.katago.fleet.plugins.module_utils.release import history


def reasons(
    release: str,
    *,
    current: str | None,
    damaged_links: Sequence[str],
    restart_reasons: Sequence[str],
    verdict: history.Verdict | None,
    credentials: Sequence[str],
    enabled: bool,
) -> list[str]:
    """Why a host must be visited; [] if it runs `release`, validated, and lacks nothing.

    `current`: its current release. `damaged_links`, `restart_reasons`: phrases of `links.damage` and
    `restart.reasons`. `verdict`: on `release`, since the last switch to it. `credentials`: the names of files
    that are missing or differ. `enabled`: whether systemd starts the service at boot.
    """
    if current != release:
        return [f"the current release is {current or 'none'}", *_credentials(credentials)]
    found = [*damaged_links, *restart_reasons]
    if verdict != "good":
        found.append("the release was rejected" if verdict else "the release is not validated")
    if not enabled:
        found.append("the service is not enabled at boot")
    return [*found, *_credentials(credentials)]


def rejected(verdict: history.Record | None) -> str:
    """When and why a release was rejected, by the newest verdict on it; empty if it was not."""
    if verdict is None or verdict.verdict != "bad":
        return ""
    return f"on {verdict.at}: {' '.join(verdict.why.split()).rstrip('.')}"


def _credentials(names: Sequence[str]) -> list[str]:
    return [f"credentials differ: {', '.join(names)}"] if names else []
