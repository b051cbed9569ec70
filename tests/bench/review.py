"""Time to review a whole game, compared with the bare engine, and with the cache."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from katago_mcp import sgf
from katago_mcp.desk import options_of
from katago_mcp.positions import check
from support import Site
from tests.bench import games, subjects
from tests.bench.report import Figure, Report, median, paired, ratio

MOST_RATIO = 1.05
LEAST_SPEEDUP = 50.0


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--visits", type=int, default=10, help="visits of a turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of reviews (default: %(default)s)")


async def measure(kit: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Review one game alternately with the bare engine and through the server.

    Every review starts a new engine, so that its evaluation cache is cold.
    """
    record, origin = games.record()
    whole_game = _query(record, arguments.visits)
    turns = len(whole_game["analyzeTurns"])
    again: list[float] = []

    async def served(_: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            made = subjects.site(kit, Path(scratch))
            first, kept = await _review(made, record, arguments.visits)
            second, repeated = await _review(made, record, arguments.visits)
        _expect(kept, turns, cached=False)
        _expect(repeated, turns, cached=True)
        again.append(second)
        return first

    async def bare(_: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            async with subjects.bare(kit, Path(scratch)) as engine:
                started = time.monotonic()
                await engine.ask(whole_game)
                return time.monotonic() - started

    pairs = await paired(arguments.rounds, served, bare)
    first = [seconds for seconds, _ in pairs]
    figures: list[Figure] = [
        median("bare engine, one analyzeTurns query", [seconds for _, seconds in pairs], "s"),
        median("findMistakes", first, "s"),
        ratio("findMistakes / bare engine", pairs, at_most=MOST_RATIO),
        median("findMistakes again, after a restart of the server", again, "s"),
        ratio("the first time / again", list(zip(first, again, strict=True)), at_least=LEAST_SPEEDUP),
    ]
    setting = f"{origin}, {turns} turns of {arguments.visits} visits; {arguments.rounds} pairs of reviews"
    return Report("review", setting, tuple(figures))


def _query(record: str, visits: int) -> dict[str, Any]:
    """One query for all turns of the game, with the options of a review."""
    checked = check(sgf.read(record).line(sgf.MAIN).position(None))
    query = checked.query() | options_of(visits, subjects.MAX_TIME)
    return query | {
        "analysisPVLen": 9,
        "includePolicy": True,
        "analyzeTurns": list(range(len(checked.moves) + 1)),
    }


async def _review(made: Site, record: str, visits: int) -> tuple[float, dict[str, Any]]:
    with subjects.serving(made) as running:
        async with subjects.client(running.url, subjects.token(0)) as session:
            started = time.monotonic()
            answer = await subjects.call(session, "findMistakes", {"sgf": record, "maxVisits": visits})
            return time.monotonic() - started, answer


def _expect(answer: dict[str, Any], turns: int, *, cached: bool) -> None:
    actual = (answer["turnsAnalysed"], answer["partial"], answer["cached"])
    if actual != (turns, False, cached):
        raise RuntimeError(f"turnsAnalysed, partial, cached are {actual}, expected {(turns, False, cached)}")
