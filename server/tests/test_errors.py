"""The catalogue of errors is closed, and a call can get each of its codes."""

import asyncio
import base64
import os
import re
import signal
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import pytest

from katago_mcp.errors import ANY_FIELD, CATALOGUE, Failure, Invalid, Rejected, Status
from rig import Rig, asking, rig, until
from support import Site
from test_sessions import begin, opened

pytestmark = pytest.mark.anyio

GAME = {"boardXSize": 9, "boardYSize": 9, "moves": [["B", "D4"], ["W", "F6"]]}


def position(**fields: Any) -> dict[str, Any]:
    return {"position": {**GAME, **fields}}


def record(text: str, **arguments: Any) -> dict[str, Any]:
    return {"sgf": f"(;SZ[9]{text})", **arguments}


def encoded(text: str) -> dict[str, Any]:
    return {"sgfBase64": base64.b64encode(text.encode()).decode()}


PASSES = [["BW"[index % 2], "pass"] for index in range(2001)]
DEAD_CORNER = [["B", "A1"], ["W", "A2"], ["W", "B1"]]

ARGUMENTS: list[tuple[str, str | None, str, dict[str, Any]]] = [
    ("invalid_rules", "position.rules", "analyzePosition", position(rules="go!")),
    ("invalid_rules", "position.rules.ko", "explainMove", {**position(rules={"ko": "NONE"}), "move": "E5"}),
    ("invalid_board_size", "position.boardXSize", "analyzePosition", position(boardXSize=20)),
    ("invalid_board_size", "position.boardYSize", "evaluateTerritory", position(boardYSize=1)),
    ("invalid_board_size", "sgf", "findMistakes", {"sgf": "(;SZ[37];B[aa])"}),
    ("invalid_board_size", "sgfBase64", "findMistakes", encoded("(;SZ[37];B[aa])")),
    ("invalid_komi", "position.komi", "analyzePosition", position(komi=6.25)),
    ("invalid_stone", "position.initialStones[0]", "analyzePosition", position(initialStones=DEAD_CORNER)),
    ("invalid_stone", "sgf", "analyzePosition", record("AB[aa]AW[ab][ba]")),
    ("invalid_stone", "sgfBase64", "evaluateTerritory", encoded("(;SZ[9]AB[aa]AW[ab][ba])")),
    ("invalid_move", "position.moves[1]", "findMistakes", position(moves=[["B", "D4"], ["W", "K4"]])),
    ("invalid_move", "move", "explainMove", {**position(), "move": "I5"}),
    ("invalid_move", "allowMoves[1]", "analyzePosition", {**position(), "allowMoves": ["A1", "Z9"]}),
    ("invalid_move", "avoidMoves[0]", "analyzePosition", record(";B[ee]", avoidMoves=["Z9"])),
    ("illegal_move", "position.moves[1]", "findMistakes", position(moves=[["B", "D4"], ["W", "D4"]])),
    ("illegal_move", "move", "explainMove", record(";B[ee]", move="E5")),
    ("illegal_move", "allowMoves", "analyzePosition", {**position(), "allowMoves": ["D4", "F6"]}),
    ("too_many_moves", "position.moves", "analyzePosition", position(moves=PASSES)),
    ("invalid_sgf", "sgf", "findMistakes", {"sgf": "no game"}),
    ("invalid_sgf", "sgfBase64", "findMistakes", encoded("no game")),
    ("invalid_variation", "variation", "analyzePosition", record(";B[ee]", variation="1.2")),
    ("invalid_game_number", "gameNumber", "readRecord", record(";B[ee]", gameNumber=2)),
    ("invalid_move_number", "moveNumber", "explainMove", record(";B[ee]", moveNumber=2, move="D4")),
    ("no_moves", "position.moves", "findMistakes", position(moves=[])),
    ("no_moves", "sgf", "findMistakes", record("AB[aa]")),
    ("no_moves", "sgfBase64", "findMistakes", encoded("(;SZ[9]AB[aa])")),
    ("no_moves", "player", "findMistakes", record(";B[ee]", player="W")),
    ("invalid_range", "firstMove", "findMistakes", {**position(), "firstMove": 3}),
    ("invalid_range", "lastMove", "findMistakes", {**position(), "lastMove": 3}),
    ("invalid_thresholds", "lossThresholds", "findMistakes", {**position(), "lossThresholds": [1]}),
    ("invalid_region", "allowMoves[0]", "analyzePosition", {**position(), "allowMoves": ["A1:pass"]}),
    ("invalid_region", "avoidMoves[1]", "analyzePosition", record("", avoidMoves=["A1", "pass:A1"])),
    (
        *("invalid_region", "avoidMoves", "analyzePosition"),
        {**position(), "allowMoves": ["A1"], "avoidMoves": ["A2"]},
    ),
    ("no_human_network", "humanSLProfile", "analyzePosition", {**position(), "humanSLProfile": "rank_5k"}),
    ("limit_exceeded", "maxVisits", "evaluateTerritory", {**position(), "maxVisits": 0}),
    ("limit_exceeded", "maxTime", "findMistakes", {**position(), "maxTime": 100_000}),
    ("limit_exceeded", "topMoves", "analyzePosition", {**position(), "topMoves": 51}),
    ("limit_exceeded", "pvLength", "findMistakes", {**position(), "pvLength": 0}),
    ("limit_exceeded", "restrictedDepth", "analyzePosition", {**position(), "restrictedDepth": 61}),
    ("limit_exceeded", "alternatives", "explainMove", {**position(), "move": "E5", "alternatives": 0}),
    ("limit_exceeded", "minPointsLost", "findMistakes", {**position(), "minPointsLost": -1}),
    ("limit_exceeded", "minWinrateLost", "findMistakes", {**position(), "minWinrateLost": 2}),
    ("limit_exceeded", "lastMove", "findMistakes", position(moves=PASSES[:800])),
    ("limit_exceeded", "allowMoves", "analyzePosition", {**position(), "allowMoves": ["A1"] * 401}),
    ("limit_exceeded", "avoidMoves", "analyzePosition", {**position(), "avoidMoves": ["A1"] * 401}),
    ("limit_exceeded", "sgf", "analyzePosition", record(";B[]" * 2001)),
    ("limit_exceeded", "sgfBase64", "analyzePosition", encoded("(;" + ";B[]" * 2001 + ")")),
    ("invalid_arguments", "sgfBase64", "analyzePosition", {"sgfBase64": "(;SZ[9])"}),
    ("invalid_arguments", "position, sgf, sgfBase64", "evaluateTerritory", {}),
    ("invalid_arguments", "position.moves[0][1]", "findMistakes", position(moves=[["B"]])),
    ("unknown_tool", None, "analysePosition", {}),
]


def listed(code: str, field: str | None) -> set[str]:
    """The catalogue's patterns that match the field of an error."""
    patterns = set()
    for pattern in CATALOGUE[code].fields:
        shape = re.escape(pattern).replace(r"\[i\]", r"\[\d+\]").replace(r"\*", r"\w+")
        if field is not None and (pattern == ANY_FIELD or re.fullmatch(shape, field)):
            patterns.add(pattern)
    return patterns


@pytest.mark.parametrize(("code", "field", "tool", "arguments"), ARGUMENTS)
async def test_wrong_arguments(
    site: Site, code: str, field: str | None, tool: str, arguments: dict[str, Any]
) -> None:
    async with asking(Rig(site, {})) as ask:
        error = await ask(tool, **arguments)
    assert (error["code"], error["field"]) == (code, field)
    assert bool(listed(code, field)) == bool(CATALOGUE[code].fields)
    assert error["accepted"]
    assert error["retryAfterSeconds"] is None


async def invalid_profile(site: Site) -> dict[str, Any]:
    (site.directory / "human.bin.gz").write_bytes(b"weights")
    site.write(katago={"humanModelPath": "human.bin.gz"})
    async with asking(Rig(site, {})) as ask:
        return await ask(**position(), humanSLProfile="rank_99k")


async def overloaded(site: Site) -> dict[str, Any]:
    site.write(katago={"maxConcurrent": 1}, server={"maxQueued": 0})
    async with rig(site) as made, asking(made) as ask:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        running = asyncio.create_task(made.analyze())
        await until(lambda: made.analyst.saturated)
        error = await ask(**position())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return error


async def rate_limited(site: Site) -> dict[str, Any]:
    async with asking(Rig(site, {}), burst=1) as ask:
        await ask("evaluateTerritory")
        return await ask("evaluateTerritory")


async def too_many_sessions(site: Site) -> dict[str, Any]:
    site.write(server={"maxSessionsPerToken": 1})
    with site.serving() as running:
        opened(running, None)
        error: dict[str, Any] = begin(running, None).json()["error"]["data"]
    return error


async def draining(site: Site) -> dict[str, Any]:
    made = Rig(site, {})
    made.analyst.draining = True
    async with asking(made) as ask:
        return await ask("findMistakes", **position())


async def forbidden(site: Site) -> dict[str, Any]:
    async with asking(Rig(site, {}), secured=True) as ask:
        return await ask("stopEngine")


async def engine_starting(site: Site) -> dict[str, Any]:
    site.behave(start="mute")
    async with rig(site) as made, asking(made) as ask:
        return await ask(**position(), maxTime=0.1)


async def engine_tuning(site: Site) -> dict[str, Any]:
    site.behave(start="tune", seconds=600)
    async with rig(site) as made, asking(made) as ask:
        await made.reaches("tuning")
        return await ask("findMistakes", **position())


async def engine_hung(site: Site) -> dict[str, Any]:
    async with rig(site) as made, asking(made) as ask:
        await made.reaches("ready")
        # The state lasts only until the engine is reaped, so this test sets it without an engine.
        made.supervisor._set("hung", "no heartbeat")
        return await ask("explainMove", **position(), move="E5", maxTime=0.1)


async def engine_backoff(site: Site) -> dict[str, Any]:
    site.write(katago={"restartBackoffSeconds": 60})
    async with rig(site) as made, asking(made) as ask:
        await made.reaches("ready")
        os.kill(made.pid(), signal.SIGKILL)
        await made.reaches("backoff")
        return await ask("evaluateTerritory", **position())


async def engine_config_error(site: Site) -> dict[str, Any]:
    site.behave(start="missing")
    async with rig(site) as made, asking(made) as ask:
        await made.reaches("config_error")
        return await ask(**position())


async def engine_stopped(site: Site) -> dict[str, Any]:
    async with rig(site) as made, asking(made) as ask:
        await made.reaches("ready")
        made.supervisor.stop("by the test")
        await made.reaches("stopped")
        return await ask("findMistakes", **position())


async def behaving(site: Site, how: str, tool: str = "analyzePosition") -> dict[str, Any]:
    async with rig(site) as made, asking(made) as ask:
        await made.reaches("ready")
        site.behave(analysis=how)
        return await ask(tool, **position())


async def engine_restarted(site: Site) -> dict[str, Any]:
    return await behaving(site, "die", "findMistakes")


async def engine_refused(site: Site) -> dict[str, Any]:
    return await behaving(site, "refuse", "findMistakes")


async def analysis_timeout(site: Site) -> dict[str, Any]:
    return await behaving(site, "nothing", "evaluateTerritory")


async def engine_answer_unreadable(site: Site) -> dict[str, Any]:
    return await behaving(site, "odd", "evaluateTerritory")


SITUATIONS: dict[str, Callable[[Site], Awaitable[dict[str, Any]]]] = {
    made.__name__: made
    for made in (
        invalid_profile,
        overloaded,
        rate_limited,
        too_many_sessions,
        draining,
        forbidden,
        engine_starting,
        engine_tuning,
        engine_hung,
        engine_backoff,
        engine_config_error,
        engine_stopped,
        engine_restarted,
        engine_refused,
        analysis_timeout,
        engine_answer_unreadable,
    )
}


@pytest.mark.parametrize("code", SITUATIONS)
async def test_errors_from_the_state_of_the_server(site: Site, code: str) -> None:
    error = await SITUATIONS[code](site)
    assert error["code"] == code
    assert (error["field"] is None) == (not CATALOGUE[code].fields)
    assert error["field"] is None or listed(code, error["field"])
    assert (error["retryAfterSeconds"] is not None) == (CATALOGUE[code].retry == "after `retryAfterSeconds`")


def test_every_code_of_the_catalogue_is_tested() -> None:
    assert {code for code, *_ in ARGUMENTS} | SITUATIONS.keys() == CATALOGUE.keys()


def test_every_field_of_the_catalogue_is_tested() -> None:
    produced: dict[str, set[str]] = {}
    for code, field, *_ in ARGUMENTS:
        produced[code] = produced.get(code, set()) | listed(code, field)
    assert produced == {code: set(CATALOGUE[code].fields) for code in produced}


async def test_a_move_of_the_game_is_named_by_its_number_and_others_by_their_vertex(site: Site) -> None:
    async with asking(Rig(site, {})) as ask:
        played = await ask("findMistakes", **position(moves=[["B", "D4"], ["W", "D4"]]))
        explained = await ask("explainMove", **position(), move="D4")
        allowed = await ask("analyzePosition", **position(), allowMoves=["F6", "D4"])
    assert played["message"].startswith("move 2 (W D4): ")
    assert explained["message"].startswith("B D4: ")
    assert "(F6: " in allowed["message"]


@pytest.mark.parametrize(("kind", "code"), [(Invalid, "made_up"), (Rejected, "invalid_komi")])
def test_failure_needs_a_code_and_status_of_the_catalogue(kind: type[Failure], code: str) -> None:
    with pytest.raises(ValueError, match="the catalogue has no code"):
        kind(code, "a text")


def test_every_status_of_the_catalogue_is_one_of_the_metrics() -> None:
    assert {entry.status for entry in CATALOGUE.values()} < set(get_args(Status))
