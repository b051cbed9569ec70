"""What reviewing a whole game costs beyond the engine's own work, and what the cache saves of it."""

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


async def measure(found: subjects.Kit, arguments: argparse.Namespace) -> Report:
    """Review one game with engines that know nothing of it, bare and through the server, in turns.

    Every review has an engine of its own, started for it, so that its cache of evaluations is cold.
    """
    record, origin = games.record()
    asked = _query(record, arguments.visits)
    turns = len(asked["analyzeTurns"])
    again: list[float] = []

    async def served(_: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            made = subjects.site(found, Path(scratch))
            first, kept = await _review(made, record, arguments.visits)
            second, repeated = await _review(made, record, arguments.visits)
        _expect(kept, turns, cached=False)
        _expect(repeated, turns, cached=True)
        again.append(second)
        return first

    async def bare(_: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            async with subjects.bare(found, Path(scratch)) as engine:
                begun = time.monotonic()
                await engine.ask(asked)
                return time.monotonic() - begun

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
    """All turns of the game in one query, with what a review asks for of each."""
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
            begun = time.monotonic()
            answer = await subjects.call(session, "findMistakes", {"sgf": record, "maxVisits": visits})
            return time.monotonic() - begun, answer


def _expect(answer: dict[str, Any], turns: int, *, cached: bool) -> None:
    seen = (answer["turnsAnalysed"], answer["partial"], answer["cached"])
    if seen != (turns, False, cached):
        raise RuntimeError(f"turnsAnalysed, partial, cached are {seen}, not {(turns, False, cached)}")
