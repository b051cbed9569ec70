"""The catalogue is closed, and every code of it is one that a call can get."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import pytest

from katago_mcp.errors import CATALOGUE, Failure, Invalid, Rejected, Status
from rig import Rig, asking, rig, until
from support import Site
from test_sessions import begin, opened

pytestmark = pytest.mark.anyio

GAME = {"boardXSize": 9, "boardYSize": 9, "moves": [["B", "D4"], ["W", "F6"]]}


def position(**fields: Any) -> dict[str, Any]:
    return {"position": {**GAME, **fields}}


ARGUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "invalid_rules": ("analyzePosition", position(rules="go!")),
    "invalid_board_size": ("analyzePosition", position(boardXSize=20)),
    "invalid_komi": ("analyzePosition", position(komi=6.25)),
    "invalid_stone": ("analyzePosition", position(initialStones=[["B", "pass"]])),
    "invalid_move": ("explainMove", {**position(), "move": "I5"}),
    "illegal_move": ("findMistakes", position(moves=[["B", "D4"], ["W", "D4"]])),
    "too_many_moves": ("analyzePosition", position(moves=[["B", "pass"]] * 2001)),
    "no_moves": ("findMistakes", position(moves=[])),
    "invalid_range": ("findMistakes", {**position(), "firstMove": 3}),
    "invalid_thresholds": ("findMistakes", {**position(), "lossThresholds": [1]}),
    "invalid_region": ("analyzePosition", {**position(), "allowMoves": ["A1"], "avoidMoves": ["A2"]}),
    "no_human_network": ("analyzePosition", {**position(), "humanSLProfile": "rank_5k"}),
    "limit_exceeded": ("evaluateTerritory", {**position(), "maxVisits": 0}),
    "invalid_arguments": ("evaluateTerritory", {}),
    "unknown_tool": ("analysePosition", {}),
    "invalid_sgf": ("findMistakes", {"sgf": "no game"}),
    "invalid_variation": ("analyzePosition", {"sgf": "(;SZ[9];B[ee])", "variation": "1.2"}),
    "invalid_move_number": ("explainMove", {"sgf": "(;SZ[9];B[ee])", "moveNumber": 2, "move": "D4"}),
}


@pytest.mark.parametrize("code", ARGUMENTS)
async def test_wrong_arguments(site: Site, code: str) -> None:
    tool, arguments = ARGUMENTS[code]
    async with asking(Rig(site, {})) as ask:
        error = await ask(tool, **arguments)
    assert error["code"] == code
    assert (error["field"] is None) == (CATALOGUE[code].field is None)
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
        return await ask(**position())


async def engine_tuning(site: Site) -> dict[str, Any]:
    site.behave(start="tune", seconds=600)
    async with rig(site) as made, asking(made) as ask:
        await made.reaches("tuning")
        return await ask("findMistakes", **position())


async def engine_hung(site: Site) -> dict[str, Any]:
    site.write(health={"heartbeatTimeoutSeconds": 0.3})
    async with rig(site) as made, asking(made) as ask:
        await made.reaches("ready")
        # The state lasts until the engine is reaped: it is shown here without one.
        made.supervisor._set("hung", "no heartbeat")
        return await ask("explainMove", **position(), move="E5")


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
async def test_situations(site: Site, code: str) -> None:
    error = await SITUATIONS[code](site)
    assert error["code"] == code
    assert (error["retryAfterSeconds"] is not None) == (CATALOGUE[code].retry == "after `retryAfterSeconds`")


def test_every_code_of_the_catalogue_is_produced_here() -> None:
    assert ARGUMENTS.keys() | SITUATIONS.keys() == CATALOGUE.keys()


@pytest.mark.parametrize(("kind", "code"), [(Invalid, "made_up"), (Rejected, "invalid_komi")])
def test_no_failure_has_a_code_or_a_status_of_its_own(kind: type[Failure], code: str) -> None:
    with pytest.raises(ValueError, match="the catalogue has no code"):
        kind(code, "a text")


def test_every_status_of_the_catalogue_is_one_of_the_metrics() -> None:
    assert {entry.status for entry in CATALOGUE.values()} < set(get_args(Status))
