"""Checks that a service really analyses: the requests of a validation, and the verdict on the responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.common.prometheus import Scrape
from ansible_collections.katago.fleet.plugins.module_utils.service import overlay as service_overlay

SIZE = 9
KOMI = 7.0
# One colour has stones on every third line of a 9x9 board, and the other has none. With any network, that
# colour owns the board by at least half of its points.
_COLUMNS = "ABCDEFGHJ"
_WALLS = tuple(f"{column}{row}" for row in (3, 5, 7) for column in _COLUMNS)
# More stones of that colour on a subset of the edge make a different position.
_EDGE = tuple(f"{column}{row}" for row in (1, 9) for column in _COLUMNS[1:-1])
_POSITIONS = 1 << len(_EDGE)
# Different values of pvLength and topMoves make different requests of the same position. There are so many
# variants that even a cache with the requests of years does not have the next one.
_PV_LENGTHS, _TOP_MOVES = 60, 50
VARIANTS = _POSITIONS * _PV_LENGTHS * _TOP_MOVES
LEAST_LEAD = 20.0
LEAST_WINRATE = 0.95
OCCUPIED = "E5"
# The limits of the configuration's section `katago` that getEngineStatus reports.
LIMITS = ("maxVisits", "defaultVisits", "maxTime", "maxReviewVisits", "maxReviewTime")
_MISDIRECTED = 421
TOKENS_PATH = "/admin/tokens/reload"
_CALLS = 4
_MOST_DAMAGE = 5
_CODES: Mapping[str, frozenset[str]] = {
    "invalid": frozenset(
        {
            *("invalid_rules", "invalid_board_size", "invalid_komi", "invalid_stone", "invalid_move"),
            *("illegal_move", "too_many_moves", "invalid_sgf", "invalid_variation", "invalid_game_number"),
            "invalid_move_number",
            *("no_moves", "invalid_range", "invalid_thresholds", "invalid_region", "no_human_network"),
            *("invalid_profile", "limit_exceeded", "invalid_arguments", "unknown_tool", "engine_refused"),
        }
    ),
    "rejected": frozenset({"overloaded", "rate_limited", "too_many_sessions", "draining", "forbidden"}),
    "unavailable": frozenset(
        {
            *("engine_starting", "engine_tuning", "engine_hung", "engine_backoff", "engine_config_error"),
            *("engine_stopped", "engine_restarted"),
        }
    ),
    "timeout": frozenset({"analysis_timeout"}),
}
"""The server's error codes by status; all others are errors [docs/reference/errors.md]."""


class Move(TypedDict):
    """A candidate of an analysis, in GTP coordinates."""

    move: str


class Analysis(TypedDict):
    """The fields of a response of `analyzePosition` that are checked."""

    scoreLead: float
    winrate: float
    visits: int
    moves: list[Move]
    cached: NotRequired[bool]


@dataclass(frozen=True)
class Check:
    """One check of a validation: its name, whether it passed, and what was observed."""

    name: str
    ok: bool
    message: str


@dataclass(frozen=True)
class Observed:
    """What was observed of a service around and during `calls(...)`.

    `ready`, `health`: HTTP status and JSON body; None without a response. `answers`: the output of
    `katago-mcp call`. `before`, `after`: scrapes around the calls; None without a response.
    `tokens`: the response of `TOKENS_PATH`; None without a response, or if it was not requested.
    `names`: the status of a request under each name that clients use; None without a response.
    """

    ready: tuple[int, Mapping[str, Any]] | None
    health: tuple[int, Mapping[str, Any]] | None
    answers: Mapping[str, Any]
    before: Scrape | None
    after: Scrape | None
    tokens: tuple[int, Mapping[str, Any]] | None = None
    names: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """What a validation expects: release, versions of its manifest, and configured limits.

    `tokens`: the sha256 of the tokens file that the server reads; empty if the file cannot be read; None
    if the configuration names no tokens file.
    """

    release: str
    version: str
    engine_version: str
    limits: Mapping[str, float]
    tokens: str | None = None


def stones(variant: int) -> list[str]:
    """The points with stones in a variant of the position, 0 to `VARIANTS` - 1."""
    return [*_WALLS, *(point for bit, point in enumerate(_EDGE) if variant >> bit & 1)]


def calls(visits: int, variant: int) -> list[dict[str, Any]]:
    """The tool calls of a validation; `visits` and `variant` vary, so that no cache has the answers."""

    return [
        {"tool": "getEngineStatus", "arguments": {}},
        _analyse("B", visits, variant),
        _analyse("W", visits, variant),
        _analyse("B", visits, variant, [["W", OCCUPIED]]),
    ]


def most_visits(config: Mapping[str, Any], health: tuple[int, Mapping[str, Any]] | None) -> int:
    """The most visits that a call may request: as configured, or as lowered by an override."""
    configured = configured_visits(config)
    if configured is None:
        raise ValueError("katago.maxVisits is missing, or is not a whole number")
    lowered = lowered_visits(health[1]) if health else None
    return configured if lowered is None else lowered


def lowered_visits(health: Mapping[str, Any]) -> int | None:
    """katago.maxVisits as lowered by an override, by the body of `/health`; None if it is not lowered."""
    overlay = health.get("overlay")
    keys = overlay.get("keys") if isinstance(overlay, Mapping) else None
    lowered = keys.get("katago.maxVisits") if isinstance(keys, Mapping) else None
    return lowered if isinstance(lowered, int) else None


def configured_visits(config: Mapping[str, Any]) -> int | None:
    """katago.maxVisits of a configuration; None if it is missing or malformed."""
    section = config.get("katago")
    value = section.get("maxVisits") if isinstance(section, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def allowed(
    visits: int, config: Mapping[str, Any], health: tuple[int, Mapping[str, Any]] | None = None
) -> int:
    """`visits`, capped at the most that a call may request. Without `health`, overrides do not count.

    Not capped if the configuration has no limit.
    """
    if configured_visits(config) is None:
        return visits
    return min(visits, most_visits(config, health))


def probes(visits: int, variants: Sequence[int]) -> list[dict[str, Any]]:
    """One analysis for each variant of the position in which Black owns the board."""
    return [_analyse("B", visits, variant) for variant in variants]


def probe_problems(result: Mapping[str, Any], visits: int) -> list[str]:
    """What is wrong with the response to one of `probes`; [] if it is correct."""
    check = _analysis("probe", result, 1, visits)
    return [] if check.ok else [check.message]


def status(result: Mapping[str, Any]) -> str:
    """The status under which the server counts a call with this result [server/README.md, Errors].

    `unknown` is a call to which the server did not respond.
    """
    if result["ok"]:
        return "ok"
    code = str(result.get("error")).partition(":")[0]
    counted = next((name for name, codes in _CODES.items() if code in codes), "error")
    return "unknown" if result.get("text") is None else counted


def _analyse(owner: str, visits: int, variant: int, moves: Sequence[list[str]] = ()) -> dict[str, Any]:
    response_size = variant // _POSITIONS
    return {
        "tool": "analyzePosition",
        "arguments": {
            "position": {
                "boardXSize": SIZE,
                "boardYSize": SIZE,
                "rules": "chinese",
                "komi": KOMI,
                "initialStones": [[owner, point] for point in stones(variant)],
                "initialPlayer": "W" if owner == "B" else "B",
                "moves": list(moves),
            },
            "maxVisits": visits,
            "pvLength": 1 + response_size % _PV_LENGTHS,
            "topMoves": 1 + response_size // _PV_LENGTHS,
        },
    }


def judge(observed: Observed, expected: Expected, *, visits: int) -> list[Check]:
    """Every check of the validation; the service is validated if all of them are ok."""
    return [
        _status("ready", observed.ready),
        _status("health", observed.health),
        _release(observed.health, expected),
        *_tokens(observed, expected),
        *_names(observed.names),
        *_answers(observed, expected, visits),
        *_metrics(observed, expected, visits),
    ]


def files(damage: Sequence[str], number: int, *, is_allowed: bool) -> Check:
    """Check the files of the release, by their `damage`. `number`: of those that the release has.

    `is_allowed`: whether the damage is only reported, because the operator knows it.
    """
    if not damage:
        return Check("files", True, f"{number} files match the manifest")
    more = f"; and {len(damage) - _MOST_DAMAGE} more" if len(damage) > _MOST_DAMAGE else ""
    return Check("files", is_allowed, f"{'; '.join(damage[:_MOST_DAMAGE])}{more}")


def failures(checks: Sequence[Check]) -> str:
    """The failed checks, one line for each."""
    return "\n".join(f"- {check.name}: {check.message}" for check in checks if not check.ok)


def as_dicts(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The checks as plain values."""
    return [asdict(check) for check in checks]


def _status(name: str, answer: tuple[int, Mapping[str, Any]] | None) -> Check:
    if answer is None:
        return Check(name, False, f"/{name} did not answer")
    status, body = answer
    reason = body.get("reason") or body.get("status") or ""
    return Check(name, status == 200, f"/{name} answered {status} {reason}".rstrip())


def _release(health: tuple[int, Mapping[str, Any]] | None, expected: Expected) -> Check:
    release = health[1].get("release") if health else None
    return Check("release", release == expected.release, f"runs {release}, expected {expected.release}")


def client_names(config: Mapping[str, Any]) -> list[str]:
    """The allowed host names of a configuration, as the Host header of a client has them."""
    server = config.get("server")
    entries = server.get("allowedHosts") if isinstance(server, Mapping) else None
    names = [str(entry).removesuffix(":*") for entry in entries] if isinstance(entries, list) else []
    return list(dict.fromkeys(names))


def _names(names: Mapping[str, int | None]) -> Iterator[Check]:
    """The service must serve clients under every name; 421 means that it does not know the name."""
    if not names:
        return
    refused = [name for name, status in names.items() if status == _MISDIRECTED]
    silent = [name for name, status in names.items() if status is None]
    problems = []
    if refused:
        problems.append(f"refuses {', '.join(refused)} (421); correct katago_mcp_allowed_hosts and deploy")
    if silent:
        problems.append(f"did not answer under {', '.join(silent)}")
    yield Check("hosts", not problems, "; ".join(problems) or f"serves {', '.join(names)}")


def _tokens(observed: Observed, expected: Expected) -> Iterator[Check]:
    """The running server uses the tokens that the tokens file has now."""
    if expected.tokens is None:
        return
    if observed.tokens is None:
        yield Check("tokens", False, f"{TOKENS_PATH} did not answer")
        return
    status, body = observed.tokens
    if status in (401, 403):
        problem = "the service rejects the host's own token, so it did not load the tokens file"
    elif status != 200:
        reason = "; ".join(map(str, body.get("problems") or [])) or f"{TOKENS_PATH} answered {status}"
        problem = f"the service did not load the tokens file and keeps its previous tokens: {reason}"
    elif body.get("sha256") != expected.tokens:
        problem = "the service's tokens differ from the tokens file"
    else:
        yield Check("tokens", True, f"{body.get('tokens')} tokens are in force, as in the tokens file")
        return
    yield Check("tokens", False, problem)


def _answers(observed: Observed, expected: Expected, visits: int) -> Iterator[Check]:
    answers, health = observed.answers, observed.health[1] if observed.health else {}
    results = answers.get("results") or []
    server = answers.get("server") or {}
    if len(results) != _CALLS:
        yield Check("mcp", False, str(answers.get("error") or "the MCP client got no response"))
        return
    yield Check(
        "mcp",
        server.get("version") == expected.version,
        f"server {server.get('name')} {server.get('version')}, expected version {expected.version}",
    )
    status, black, white, illegal = results
    yield _engine(status, expected)
    yield _limits(status, health, expected)
    yield _analysis("black_owns_board", black, 1, visits)
    yield _analysis("white_owns_board", white, -1, visits)
    refused = not illegal.get("ok") and "illegal" in str(illegal.get("error")).lower()
    yield Check("illegal_move", refused, f"a move on {OCCUPIED}, which is occupied: {_message(illegal)}")


def _engine(status: Mapping[str, Any], expected: Expected) -> Check:
    engine = status.get("structured") or {}
    ok = engine.get("state") == "ready" and engine.get("engineVersion") == expected.engine_version
    return Check(
        "engine",
        bool(status.get("ok")) and ok,
        f"state {engine.get('state')}, version {engine.get('engineVersion')},"
        f" expected ready, version {expected.engine_version}; {_message(status)}",
    )


def _limits(status: Mapping[str, Any], health: Mapping[str, Any], expected: Expected) -> Check:
    """The limits in force are as configured, or as lowered by the override that /health shows."""
    in_force = status.get("structured") or {}
    override = health.get("overlay") or {}
    lowered = {key.rpartition(".")[2]: value for key, value in override.get("keys", {}).items()}
    wrong = [
        f"{name} is {in_force[name]}, expected {lowered.get(name, value)}"
        for name, value in expected.limits.items()
        # After a rollback the release may be of an earlier version, which reports fewer limits.
        if name in in_force and in_force[name] != lowered.get(name, value)
    ]
    # If the override started or ended between the two responses, they cannot be compared.
    if bool(in_force.get("loweredUntil")) != bool(override):
        wrong = []
    return Check(
        "limits", not wrong, "; ".join(wrong) or service_overlay.describe(override) or "as configured"
    )


def _analysis(name: str, result: Mapping[str, Any], sign: int, visits: int) -> Check:
    """Check one analysis, with values from Black's side. `sign`: 1 if Black owns the board, -1 if White."""
    try:
        analysis = shape.typed(Analysis, result.get("structured"))
    except ValueError:
        return Check(name, False, f"no usable analysis; {_message(result)}")
    if not analysis["moves"]:
        return Check(name, False, f"no usable analysis; {_message(result)}")
    lead, winrate = analysis["scoreLead"], analysis["winrate"]
    searched, best = analysis["visits"], analysis["moves"][0]["move"]
    owner_winrate = winrate if sign > 0 else 1 - winrate
    problems = [
        problem
        for wrong, problem in (
            (not result.get("ok"), "the tool reported an error"),
            # Not written as `<`, so that NaN fails too.
            (not sign * lead >= LEAST_LEAD, f"scoreLead {lead:+.1f}"),
            (not LEAST_WINRATE <= owner_winrate <= 1, f"winrate {winrate:.3f}"),
            (searched < visits, f"{searched} visits of {visits}"),
            (analysis.get("cached") is not False, "answered from a cache"),
            (best in _WALLS, f"best move {best} is occupied"),
        )
        if wrong
    ]
    return Check(
        name,
        not problems,
        "; ".join(problems) or f"scoreLead {lead:+.1f}, winrate {winrate:.3f}, {searched} visits",
    )


def _metrics(observed: Observed, expected: Expected, visits: int) -> Iterator[Check]:
    before, after = observed.before, observed.after
    if before is None or after is None:
        yield Check("metrics", False, "/metrics did not answer in the exposition format")
        return
    up = after.value("katago_engine_up")
    yield Check("engine_up", up == 1, f"katago_engine_up is {up}")
    info = after.labels("katago_mcp_build_info")
    builds = [(labels.get("version"), labels.get("release")) for labels in info]
    yield Check(
        "build_info",
        builds == [(expected.version, expected.release)],
        f"katago_mcp_build_info shows {builds}, expected {expected.version}, {expected.release}",
    )
    for name, labels, least in (
        ("katago_visits_total", {}, 2 * visits),
        ("katago_requests_total", {"tool": "analyzePosition", "status": "ok"}, 2),
    ):
        rose = (after.value(name, **labels) or 0) - (before.value(name, **labels) or 0)
        yield Check(name, rose >= least, f"{name} rose by {rose:g}, expected at least {least}")


def _message(result: Mapping[str, Any]) -> str:
    return str(result.get("error") or result.get("text") or "no message")[:200]
