"""Whether a service really analyses: what is asked of it, and the verdict on what it answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.common.prometheus import Scrape
from ansible_collections.katago.fleet.plugins.module_utils.service import overlay as service_overlay

SIZE = 9
KOMI = 7.0
# One colour holds every third line of a 9x9 board and the other nothing: whatever the network, the
# board belongs to that colour, by at least half of its points.
_COLUMNS = "ABCDEFGHJ"
_WALLS = tuple(f"{column}{row}" for row in (3, 5, 7) for column in _COLUMNS)
# Further stones of that colour on a subset of the edge make another position.
_EDGE = tuple(f"{column}{row}" for row in (1, 9) for column in _COLUMNS[1:-1])
_POSITIONS = 1 << len(_EDGE)
# How much of the answer is told makes another question of each, so that no cache knows it: also one that
# keeps what was asked in years.
_PV_LENGTHS, _TOP_MOVES = 60, 50
VARIANTS = _POSITIONS * _PV_LENGTHS * _TOP_MOVES
LEAST_LEAD = 20.0
LEAST_WINRATE = 0.95
OCCUPIED = "E5"
# What getEngineStatus says of the configuration's section `katago`.
LIMITS = ("maxVisits", "defaultVisits", "maxTime", "maxReviewVisits", "maxReviewTime")
TOKENS_PATH = "/admin/tokens/reload"
_CALLS = 4
_NOT_FAILED: Mapping[str, frozenset[str]] = {
    "invalid": frozenset(
        {
            *("invalid_rules", "invalid_board_size", "invalid_komi", "invalid_stone", "invalid_move"),
            *("illegal_move", "too_many_moves", "invalid_sgf", "invalid_variation", "invalid_move_number"),
            *("no_moves", "invalid_range", "invalid_thresholds", "invalid_region", "no_human_network"),
            *("invalid_profile", "limit_exceeded", "invalid_arguments", "unknown_tool", "engine_refused"),
        }
    ),
    "rejected": frozenset({"overloaded", "rate_limited", "too_many_sessions", "draining", "forbidden"}),
}
"""The server's codes of what it did not fail at [docs/reference/errors.md]."""


class Move(TypedDict):
    """A candidate of an analysis, in GTP coordinates."""

    move: str


class Analysis(TypedDict):
    """What is checked of the answer of `analyzePosition`, from the side of the player who asked."""

    scoreLead: float
    winrate: float
    visits: int
    moves: list[Move]
    cached: NotRequired[bool]


@dataclass(frozen=True)
class Check:
    """One thing that must hold, whether it does, and what was seen."""

    name: str
    ok: bool
    message: str


@dataclass(frozen=True)
class Observed:
    """What was seen of a service while it was asked `calls(...)`.

    `ready`, `health`: HTTP status and JSON body, or None when there was no answer. `answers`: what
    `katago-mcp call` printed. `before`, `after`: scrapes around the calls, None without an answer.
    `tokens`: the answer to `TOKENS_PATH`, None also when it was not asked for.
    """

    ready: tuple[int, Mapping[str, Any]] | None
    health: tuple[int, Mapping[str, Any]] | None
    answers: Mapping[str, Any]
    before: Scrape | None
    after: Scrape | None
    tokens: tuple[int, Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Expected:
    """What must be seen: the release and the engine of its manifest, the limits that are configured.

    `tokens`: the sha256 of the file of tokens that the server reads by itself, empty when it cannot be
    read; None when the server is configured to read none.
    """

    release: str
    version: str
    engine_version: str
    limits: Mapping[str, float]
    tokens: str | None = None


def stones(variant: int) -> list[str]:
    """The points that one colour holds in a variant, 0 to `VARIANTS` - 1, of the position."""
    return [*_WALLS, *(point for bit, point in enumerate(_EDGE) if variant >> bit & 1)]


def calls(visits: int, variant: int) -> list[dict[str, Any]]:
    """The tool calls of a validation; `visits` and `variant` vary, so that no cache answers them."""

    return [
        {"tool": "getEngineStatus", "arguments": {}},
        _analyse("B", visits, variant),
        _analyse("W", visits, variant),
        _analyse("B", visits, variant, [["W", OCCUPIED]]),
    ]


def most_visits(config: Mapping[str, Any], health: tuple[int, Mapping[str, Any]] | None) -> int:
    """The most visits that a call may ask for: as configured, or as lowered by an overlay."""
    configured = configured_visits(config)
    if configured is None:
        raise ValueError("katago.maxVisits is missing, or is not a whole number")
    overlay = health[1].get("overlay") if health else None
    keys = overlay.get("keys") if isinstance(overlay, Mapping) else None
    lowered = keys.get("katago.maxVisits") if isinstance(keys, Mapping) else None
    return lowered if isinstance(lowered, int) else configured


def configured_visits(config: Mapping[str, Any]) -> int | None:
    """The most visits of a configuration; None when it does not say."""
    section = config.get("katago")
    value = section.get("maxVisits") if isinstance(section, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def allowed(
    visits: int, config: Mapping[str, Any], health: tuple[int, Mapping[str, Any]] | None = None
) -> int:
    """So many visits, or the most that a call may ask for. `health` None leaves an overlay out of account.

    As many as are wanted when the configuration does not say.
    """
    if configured_visits(config) is None:
        return visits
    return min(visits, most_visits(config, health))


def probes(visits: int, variants: Sequence[int]) -> list[dict[str, Any]]:
    """One analysis for each variant of the position, Black's board; `variants` vary as in `calls`."""
    return [_analyse("B", visits, variant) for variant in variants]


def probe_problems(result: Mapping[str, Any], visits: int) -> list[str]:
    """What is wrong with the answer to one of `probes`; [] when it is what an engine must say."""
    check = _analysis("probe", result, 1, visits)
    return [] if check.ok else [check.message]


def status(result: Mapping[str, Any]) -> str:
    """As what the server counts a call with this result: `ok`, `invalid`, `rejected` or `error`.

    `error` stands for `unavailable` and `timeout` too; `unknown` for a call that it gave no answer to.
    """
    if result["ok"]:
        return "ok"
    code = str(result.get("error")).partition(":")[0]
    counted = next((name for name, codes in _NOT_FAILED.items() if code in codes), "error")
    return "unknown" if result.get("text") is None else counted


def _analyse(owner: str, visits: int, variant: int, moves: Sequence[list[str]] = ()) -> dict[str, Any]:
    told = variant // _POSITIONS
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
            "pvLength": 1 + told % _PV_LENGTHS,
            "topMoves": 1 + told // _PV_LENGTHS,
        },
    }


def judge(observed: Observed, expected: Expected, *, visits: int) -> list[Check]:
    """Every check of the validation; the service is validated when all of them are ok."""
    return [
        _status("ready", observed.ready),
        _status("health", observed.health),
        _release(observed.health, expected),
        *_tokens(observed, expected),
        *_answers(observed, expected, visits),
        *_metrics(observed, expected, visits),
    ]


def failures(checks: Sequence[Check]) -> str:
    """The failed checks as one line for each."""
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
    seen = health[1].get("release") if health else None
    return Check("release", seen == expected.release, f"runs {seen}, expected {expected.release}")


def _tokens(observed: Observed, expected: Expected) -> Iterator[Check]:
    """The running server has the tokens of the file, whenever that was written."""
    if expected.tokens is None:
        return
    if observed.tokens is None:
        yield Check("tokens", False, f"{TOKENS_PATH} did not answer")
        return
    status, body = observed.tokens
    if status in (401, 403):
        words = "the service refuses the host's own token, so it did not take the tokens of the file"
    elif status != 200:
        told = "; ".join(map(str, body.get("problems") or [])) or f"{TOKENS_PATH} answered {status}"
        words = f"the service did not take the tokens of the file and goes on with those it had: {told}"
    elif body.get("sha256") != expected.tokens:
        words = "the tokens in force are not those of the file"
    else:
        yield Check("tokens", True, f"{body.get('tokens')} tokens are in force, those of the file")
        return
    yield Check("tokens", False, words)


def _answers(observed: Observed, expected: Expected, visits: int) -> Iterator[Check]:
    answers, health = observed.answers, observed.health[1] if observed.health else {}
    results = answers.get("results") or []
    server = answers.get("server") or {}
    if len(results) != _CALLS:
        yield Check("mcp", False, str(answers.get("error") or "the MCP client got no answers"))
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
    yield Check("illegal_move", refused, f"a move on {OCCUPIED}, which is occupied: {_words(illegal)}")


def _engine(status: Mapping[str, Any], expected: Expected) -> Check:
    seen = status.get("structured") or {}
    ok = seen.get("state") == "ready" and seen.get("engineVersion") == expected.engine_version
    return Check(
        "engine",
        bool(status.get("ok")) and ok,
        f"state {seen.get('state')}, version {seen.get('engineVersion')},"
        f" expected ready, version {expected.engine_version}; {_words(status)}",
    )


def _limits(status: Mapping[str, Any], health: Mapping[str, Any], expected: Expected) -> Check:
    """The limits in force are the configured ones, or those that the overlay of /health lowers."""
    seen = status.get("structured") or {}
    shown = health.get("overlay") or {}
    lowered = {key.rpartition(".")[2]: value for key, value in shown.get("keys", {}).items()}
    wrong = [
        f"{name} is {seen[name]}, expected {lowered.get(name, value)}"
        for name, value in expected.limits.items()
        # A release of an earlier version, which a rollback may lead to, tells fewer of them.
        if name in seen and seen[name] != lowered.get(name, value)
    ]
    # One that began or ended between the two answers decides nothing.
    if bool(seen.get("loweredUntil")) != bool(shown):
        wrong = []
    return Check(
        "limits", not wrong, "; ".join(wrong) or service_overlay.words(shown) or "as they are configured"
    )


def _analysis(name: str, result: Mapping[str, Any], sign: int, visits: int) -> Check:
    """`sign`: 1 when the board is Black's, -1 when it is White's; values are from Black's side."""
    try:
        analysis = shape.typed(Analysis, result.get("structured"))
    except ValueError:
        return Check(name, False, f"no usable analysis; {_words(result)}")
    if not analysis["moves"]:
        return Check(name, False, f"no usable analysis; {_words(result)}")
    lead, winrate = analysis["scoreLead"], analysis["winrate"]
    searched, best = analysis["visits"], analysis["moves"][0]["move"]
    owner_winrate = winrate if sign > 0 else 1 - winrate
    problems = [
        words
        for wrong, words in (
            (not result.get("ok"), "the tool reported an error"),
            # Written so that NaN fails it.
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
    told = [(labels.get("version"), labels.get("release")) for labels in info]
    yield Check(
        "build_info",
        told == [(expected.version, expected.release)],
        f"katago_mcp_build_info says {told}, expected {expected.version}, {expected.release}",
    )
    for name, labels, least in (
        ("katago_visits_total", {}, 2 * visits),
        ("katago_requests_total", {"tool": "analyzePosition", "status": "ok"}, 2),
    ):
        rose = (after.value(name, **labels) or 0) - (before.value(name, **labels) or 0)
        yield Check(name, rose >= least, f"{name} rose by {rose:g}, expected at least {least}")


def _words(result: Mapping[str, Any]) -> str:
    return str(result.get("error") or result.get("text") or "no words")[:200]
