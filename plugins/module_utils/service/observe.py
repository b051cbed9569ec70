"""Asks a service what `validation` judges: readiness, known positions through MCP, metrics around them."""

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
    """What was seen, the visits that were asked for, and the results of calls made besides."""

    observed: checks.Observed
    visits: int
    more: Sequence[Mapping[str, Any]]


class Versions(TypedDict):
    """What the manifest of a release says of its server and its engine."""

    version: str
    engine_version: str


def expected(manifest: Mapping[str, Any], config: Mapping[str, Any], release: str) -> checks.Expected:
    """What must be seen of a release. Raises ValueError when manifest or config do not say."""
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
    """The last answer of /ready: the first 200, or what it said when the patience was over."""
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
    """Wait for readiness, then ask what `validation.calls` asks and `more`, with scrapes around it.

    `deadline`, `start_deadline`: seconds to be ready, as `Patience` has them.
    `call_deadline`: seconds for all calls. The visits are drawn, or as many
    as an overlay leaves.
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
    answers: dict[str, Any] = {"error": "not asked, since it was not ready"}
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
    )
    return Seen(observed, visits, results[len(calls) :])
