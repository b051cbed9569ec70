"""A service that merely responds does not pass: every field of its responses is checked."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, prometheus
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.service import observe
from ansible_collections.katago.fleet.plugins.module_utils.service.checks import Expected, Observed

ROOT = Path(__file__).resolve().parents[3]
VISITS = 12
CONFIG: dict[str, Any] = {"katago": {"maxVisits": 1000, "defaultVisits": 200, "maxTime": 30}}
EXPECTED = Expected(release="0.1.0-aa", version="0.1.0", engine_version="1.18.1", limits=CONFIG["katago"])
OVERLAY = {
    "keys": {"katago.maxVisits": 10, "katago.defaultVisits": 10, "server.maxQueued": 4},
    "expiresAt": "2026-01-01T00:00:00Z",
    "why": "load",
    "who": "anna@control",
}


def scrape(*, requests: int, visits: int, up: str = "1", release: str = "0.1.0-aa") -> prometheus.Scrape:
    return prometheus.parse(
        f"katago_engine_up {up}\n"
        f'katago_mcp_build_info{{version="0.1.0",release="{release}"}} 1\n'
        f"katago_visits_total {visits}\n"
        f'katago_requests_total{{tool="analyzePosition",status="ok"}} {requests}\n'
    )


def analysis(sign: int) -> dict[str, Any]:
    return {
        "ok": True,
        "error": None,
        "structured": {
            "scoreLead": sign * 70.0,
            "winrate": 0.99 if sign > 0 else 0.01,
            "visits": VISITS,
            "cached": False,
            "moves": [{"move": "E6"}],
        },
    }


def healthy() -> Observed:
    engine = {"state": "ready", "engineVersion": "1.18.1", "loweredUntil": None, **CONFIG["katago"]}
    status = {"ok": True, "structured": engine}
    refused = {"ok": False, "error": "illegal_move: move 0, E5, is on an occupied point"}
    return Observed(
        ready=(200, {"ready": True}),
        health=(200, {"release": "0.1.0-aa"}),
        answers={
            "server": {"name": "katago-mcp", "version": "0.1.0"},
            "results": [status, analysis(1), analysis(-1), refused],
        },
        before=scrape(requests=5, visits=1000),
        after=scrape(requests=7, visits=1000 + 2 * VISITS),
    )


def failed(observed: Observed) -> list[str]:
    return [check.name for check in service_checks.judge(observed, EXPECTED, visits=VISITS) if not check.ok]


def test_healthy_service_passes_every_check() -> None:
    assert failed(healthy()) == []


def test_server_that_answers_200_to_everything_fails_every_check() -> None:
    silly = Observed((200, {}), (200, {}), {"error": "no MCP"}, prometheus.parse(""), prometheus.parse(""))
    assert failed(silly) == [
        "release",
        "mcp",
        "engine_up",
        "build_info",
        "katago_visits_total",
        "katago_requests_total",
    ]


def test_service_that_does_not_respond_fails() -> None:
    assert failed(Observed(None, None, {}, None, None)) == [
        "ready",
        "health",
        "release",
        "mcp",
        "metrics",
    ]


IN_FORCE = {"ok": True, "tokens": 3, "sha256": "aa"}


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ((200, IN_FORCE), "3 tokens are in force"),
        ((200, {**IN_FORCE, "sha256": "bb"}), "tokens differ from the tokens file"),
        ((200, {}), "tokens differ from the tokens file"),
        (
            (422, {**IN_FORCE, "problems": ["auth.tokensFile: no JSON"]}),
            "keeps its previous tokens: auth.tokensFile: no JSON",
        ),
        ((404, {}), "answered 404"),
        ((401, {}), "rejects the host's own token"),
        (None, "did not answer"),
    ],
)
def test_tokens_of_the_file_are_in_force(response: tuple[int, dict[str, Any]] | None, message: str) -> None:
    checks = service_checks.judge(
        replace(healthy(), tokens=response), replace(EXPECTED, tokens="aa"), visits=VISITS
    )
    (check,) = [each for each in checks if each.name == "tokens"]
    assert (check.ok, message in check.message) == (response == (200, IN_FORCE), True)


@pytest.mark.parametrize(
    ("names", "ok", "message"),
    [
        (
            {"go.example.org": 400, "go.example.org:8443": 406},
            True,
            "serves go.example.org, go.example.org:8443",
        ),
        ({"go.example.org": 400, "GO.other": 421}, False, "refuses GO.other (421); correct"),
        ({"go.example.org": None}, False, "did not answer under go.example.org"),
    ],
)
def test_clients_are_served_under_every_name(names: dict[str, int | None], ok: bool, message: str) -> None:
    checks = service_checks.judge(replace(healthy(), names=names), EXPECTED, visits=VISITS)
    (check,) = [each for each in checks if each.name == "hosts"]
    assert check.ok == ok
    assert check.message.startswith(message)


def test_names_of_clients_are_those_of_the_configuration() -> None:
    config = {"server": {"allowedHosts": ["go.example.org:*", "go.example.org", "[fd00::1]:8443"]}}
    assert service_checks.client_names(config) == ["go.example.org", "[fd00::1]:8443"]
    assert (
        service_checks.client_names({}) == service_checks.client_names({"server": {"allowedHosts": 3}}) == []
    )


def test_tokens_are_not_checked_without_a_tokens_file() -> None:
    checks = service_checks.judge(healthy(), EXPECTED, visits=VISITS)
    assert "tokens" not in [check.name for check in checks]


def test_unreadable_tokens_file_is_never_in_force(tmp_path: Path) -> None:
    manifest = {"version": "0.1.0", "engine_version": "1.18.1"}
    path = tmp_path / "tokens.json"
    config = {**CONFIG, "auth": {"tokensFile": str(path)}}
    assert observe.expected(manifest, config, "r").tokens == ""
    path.write_text("{}")
    assert observe.expected(manifest, config, "r").tokens == digest.of_text("{}")
    assert observe.expected(manifest, CONFIG, "r").tokens is None


def with_result(index: int, change: Callable[[dict[str, Any]], None]) -> Observed:
    observed = healthy()
    answers = copy.deepcopy(dict(observed.answers))
    change(answers["results"][index])
    return replace(observed, answers=answers)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scoreLead", 3.0),
        ("scoreLead", -70.0),
        ("scoreLead", None),
        ("scoreLead", float("nan")),
        ("winrate", 0.5),
        ("winrate", 1.5),
        ("visits", VISITS - 1),
        ("cached", True),
        ("moves", []),
        ("moves", [{"move": "E5"}]),
    ],
)
def test_one_implausible_field_fails_the_analysis(field: str, value: object) -> None:
    observed = with_result(1, lambda result: result["structured"].update({field: value}))
    assert failed(observed) == ["black_owns_board"]


def test_winrate_and_lead_must_follow_the_colours() -> None:
    """An engine that reports from the side to move fails; it must report from Black's side."""
    observed = with_result(2, lambda result: result.update(analysis(1)))
    assert failed(observed) == ["white_owns_board"]


def test_illegal_move_must_be_refused_as_illegal() -> None:
    assert failed(with_result(3, lambda result: result.update(analysis(1)))) == ["illegal_move"]
    assert failed(with_result(3, lambda result: result.update({"error": "overloaded"}))) == ["illegal_move"]


def test_engine_must_be_the_deployed_one_and_ready() -> None:
    for change in ({"state": "backoff"}, {"engineVersion": "1.17.0"}):
        observed = with_result(0, lambda result, change=change: result["structured"].update(change))  # type: ignore[misc]
        assert failed(observed) == ["engine"]


def test_release_that_is_not_the_deployed_one_fails() -> None:
    observed = replace(healthy(), health=(200, {"release": "0.1.0-bb"}))
    assert failed(observed) == ["release"]
    observed = replace(healthy(), after=scrape(requests=7, visits=2000, release="0.1.0-bb"))
    assert failed(observed) == ["build_info"]


def test_not_ready_fails_with_its_reason() -> None:
    checks = service_checks.judge(
        replace(healthy(), ready=(503, {"reason": "engine is tuning"})), EXPECTED, visits=VISITS
    )
    assert service_checks.failures(checks) == "- ready: /ready answered 503 engine is tuning"


def test_counters_that_did_not_rise_fail() -> None:
    observed = replace(healthy(), after=scrape(requests=5, visits=1000))
    assert failed(observed) == ["katago_visits_total", "katago_requests_total"]


def test_engine_up_of_zero_fails() -> None:
    observed = replace(healthy(), after=scrape(requests=7, visits=2000, up="0"))
    assert failed(observed) == ["engine_up"]


def test_calls_request_the_visits_and_a_move_on_an_occupied_point() -> None:
    status, black, white, illegal = service_checks.calls(VISITS, variant=5)
    assert status["tool"] == "getEngineStatus"
    assert black["arguments"]["maxVisits"] == white["arguments"]["maxVisits"] == VISITS
    stones = {point for _, point in illegal["arguments"]["position"]["initialStones"]}
    assert illegal["arguments"]["position"]["moves"][0][1] in stones


def test_every_variant_is_a_different_request_and_years_of_cached_requests_do_not_matter() -> None:
    edge = 1 << 14
    near = [0, 1, edge - 1, edge, edge + 1, 60 * edge - 1, 60 * edge, service_checks.VARIANTS - 1]
    requests = [json.dumps(call["arguments"]) for call in service_checks.probes(VISITS, near)]
    assert len(set(requests)) == len(near)
    last = json.loads(requests[-1])
    assert (last["pvLength"], last["topMoves"]) == (60, 50)
    # A cache keeps the requests of one probe every ten seconds for a day. One in 5000 new ones is a repeat.
    assert service_checks.VARIANTS / (24 * 360) > 5000


def test_positions_differ_and_have_no_stone_on_another_stone() -> None:
    variants = [service_checks.stones(variant) for variant in (0, 1, 5, service_checks.VARIANTS - 1)]
    assert all(len(set(points)) == len(points) for points in variants)
    assert len({tuple(points) for points in variants}) == len(variants)
    assert len(variants[-1]) < service_checks.SIZE**2 / 2 + 1


@pytest.mark.parametrize(
    ("health", "visits"),
    [
        (None, 1000),
        ((200, {}), 1000),
        ((200, {"overlay": None}), 1000),
        ((200, {"overlay": {"keys": {"katago.maxTime": 5}}}), 1000),
        ((200, {"overlay": {"keys": {"katago.maxVisits": 10}}}), 10),
    ],
)
def test_requested_visits_are_capped_by_an_override(
    health: tuple[int, dict[str, Any]] | None, visits: int
) -> None:
    assert service_checks.most_visits({"katago": {"maxVisits": 1000}}, health) == visits


def lowered(limits: dict[str, Any], overlay: dict[str, Any] | None) -> Observed:
    """A service that reports these limits and shows this override."""
    observed = healthy()
    results = copy.deepcopy(observed.answers["results"])
    results[0]["structured"] |= limits
    health = (200, {"release": "0.1.0-aa", "overlay": overlay})
    return replace(observed, health=health, answers={**observed.answers, "results": results})


LOWERED = {"maxVisits": 10, "defaultVisits": 10, "loweredUntil": "2026-01-01T00:00:00Z"}


def test_limits_that_an_override_lowers_are_expected() -> None:
    assert failed(lowered(LOWERED, OVERLAY)) == []


@pytest.mark.parametrize(
    ("limits", "overlay"),
    [
        ({"maxVisits": 999}, None),
        ({**LOWERED, "maxVisits": 1000}, OVERLAY),
        ({**LOWERED, "maxTime": 10}, OVERLAY),
        ({"maxTime": None}, None),
    ],
)
def test_limits_that_are_not_those_in_force_fail(
    limits: dict[str, Any], overlay: dict[str, Any] | None
) -> None:
    assert failed(lowered(limits, overlay)) == ["limits"]


def test_server_of_an_earlier_version_need_not_report_every_limit() -> None:
    observed = healthy()
    results = copy.deepcopy(observed.answers["results"])
    del results[0]["structured"]["defaultVisits"]
    assert failed(replace(observed, answers={**observed.answers, "results": results})) == []


def test_override_that_starts_or_ends_between_two_responses_is_no_failure() -> None:
    assert failed(lowered(LOWERED, None)) == []
    assert failed(lowered({}, OVERLAY)) == []


def test_status_of_a_call_is_the_one_that_the_server_counts() -> None:
    reference = (ROOT / "docs" / "reference" / "errors.md").read_text()
    statuses = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", reference, re.M))
    assert {"invalid", "rejected", "unavailable", "timeout", "error"} <= set(statuses.values())
    for code, counted in statuses.items():
        text = f"{code}: some message [maxVisits]; accepted: others"
        result = {"ok": False, "error": text, "text": text}
        assert service_checks.status(result) == counted, code
    assert service_checks.status({"ok": False, "error": "Error executing tool", "text": "Error"}) == "error"
    assert service_checks.status({"ok": False, "error": "Connection closed", "text": None}) == "unknown"
    assert service_checks.status(analysis(1)) == "ok"


@pytest.mark.parametrize(
    ("damage", "is_allowed", "ok", "message"),
    [
        ([], False, True, "7 files match the manifest"),
        (["config.json was changed"], False, False, "config.json was changed"),
        (["config.json was changed"], True, True, "config.json was changed"),
        (
            [f"{name} is missing" for name in "abcdefg"],
            False,
            False,
            "a is missing; b is missing; c is missing; d is missing; e is missing; and 2 more",
        ),
    ],
)
def test_release_that_does_not_match_its_manifest_fails_unless_it_is_allowed(
    damage: list[str], is_allowed: bool, ok: bool, message: str
) -> None:
    check = service_checks.files(damage, 7, is_allowed=is_allowed)
    assert (check.name, check.ok, check.message) == ("files", ok, message)
