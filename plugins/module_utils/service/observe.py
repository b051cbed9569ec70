"""Collects what `checks` judges: readiness, known positions through MCP, and metrics before and after."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, shape
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    admin,
    checks,
    credentials,
    endpoints,
    http,
    unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.service.patience import Patience

FEWEST_VISITS = 8
MOST_VISITS = 24
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Seen:
    """The observations, the visits that were requested, and the results of the additional calls."""

    observed: checks.Observed
    visits: int
    more: Sequence[Mapping[str, Any]]


class Versions(TypedDict):
    """The versions of server and engine in a release's manifest."""

    version: str
    engine_version: str


def expected(manifest: Mapping[str, Any], config: Mapping[str, Any], release: str) -> checks.Expected:
    """What a validation of a release expects. Raises ValueError if manifest or config lack a value."""
    tokens = credentials.tokens_file(config)
    settings = shape.mapping(config.get("katago"), "katago")
    versions = shape.typed(Versions, manifest, "manifest.json")
    return checks.Expected(
        release=release,
        version=versions["version"],
        engine_version=versions["engine_version"],
        limits={name: settings[name] for name in checks.LIMITS if name in settings},
        tokens=None if tokens is None else _sha256(tokens),
    )


def _sha256(path: Path) -> str:
    try:
        return digest.of_file(path)
    except OSError:
        return ""


def wait_until_ready(at: endpoints.Endpoints, patience: Patience) -> tuple[int, dict[str, Any]] | None:
    """Wait for readiness; the first response of /ready with status 200, or the last one before giving up."""
    while True:
        answer = at.probe("/ready")
        if answer and answer[0] == 200:
            return answer
        if patience.is_over(at.probe("/health")) or unit.state().active == "failed":
            return answer
        time.sleep(POLL_SECONDS)


def observe(
    layout: release_layout.Layout,
    config: dict[str, Any],
    deadline: float,
    call_deadline: float,
    more: Sequence[Mapping[str, Any]] = (),
    start_deadline: float = 0,
) -> Seen:
    """Wait for readiness, then make `checks.calls` and the additional calls `more`, with scrapes around them.

    `deadline`, `start_deadline`: seconds to become ready, see `Patience`. `call_deadline`: seconds for all
    calls. The number of visits is random, and not above the limit of an override.
    """
    at = endpoints.Endpoints.of(config)
    ready = wait_until_ready(at, Patience(deadline, start_deadline))
    visits = FEWEST_VISITS + secrets.randbelow(MOST_VISITS - FEWEST_VISITS + 1)
    visits = min(visits, checks.most_visits(config, at.probe("/health")))
    tokens = None
    if credentials.tokens_file(config) is not None:
        tokens = admin.post(config, checks.TOKENS_PATH, seconds=http.ASK_SECONDS)
    calls = checks.calls(visits, secrets.randbelow(checks.VARIANTS))
    before = at.scrape()
    answers: dict[str, Any] = {"error": "not called, because the service was not ready"}
    if ready and ready[0] == 200:
        command = layout.current / "venv" / "bin" / "katago-mcp"
        answers = at.call(command, [*calls, *more], call_deadline)
    results = list(answers.get("results") or [])
    if results:
        answers = {**answers, "results": results[: len(calls)]}
    observed = checks.Observed(
        ready=ready,
        health=at.probe("/health"),
        answers=answers,
        before=before,
        after=at.scrape(),
        tokens=tokens,
        names={name: at.status_under(name) for name in checks.client_names(config)},
    )
    return Seen(observed, visits, results[len(calls) :])
