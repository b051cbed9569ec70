"""What the soak asks, and what must come of it: requests whose right answer is known beforehand.

One colour holds every third line of a 9x9 board and the other nothing, so that the board is that
colour's whatever the network thinks (as in a validation of a host). Only one move is allowed, so
that an answer that belongs to another request shows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils.service.checks import (
    LEAST_LEAD,
    LEAST_WINRATE,
    OCCUPIED,
    SIZE,
    VARIANTS,
    stones,
)
from katago_mcp.positions import COLUMNS, vertex
from tests.bench.ledger import Ask

VISITS = (2, 4)
ENDLESS_VISITS = 1000
_POINTS = [vertex((x, y)) for x in range(SIZE) for y in range(SIZE)]
_KOMI = 7.0
_REVIEWED = 4


@dataclass(frozen=True)
class Known:
    """A position that belongs to one colour, and the one move that its opponent is allowed."""

    owner: Literal["B", "W"]
    variant: int
    move: str
    held: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", frozenset(stones(self.variant)))

    @property
    def player(self) -> Literal["B", "W"]:
        """Who is to move."""
        return "W" if self.owner == "B" else "B"

    def position(self) -> dict[str, Any]:
        """The position as an argument."""
        return {
            "boardXSize": SIZE,
            "boardYSize": SIZE,
            "rules": "chinese",
            "komi": _KOMI,
            "initialStones": [[self.owner, point] for point in stones(self.variant)],
            "initialPlayer": self.player,
        }

    def sgf(self) -> str:
        """The position as a record."""
        points = "".join(f"[{_sgf(point)}]" for point in stones(self.variant))
        return f"(;FF[4]GM[1]SZ[{SIZE}]RU[Chinese]KM[{_KOMI:g}]A{self.owner}{points}PL[{self.player}])"

    def board(self) -> list[str]:
        """The rows from the top, as evaluateTerritory draws them."""
        stone = "X" if self.owner == "B" else "O"
        return [
            "".join(stone if vertex((x, y)) in self.held else "." for x in range(SIZE))
            for y in range(SIZE - 1, -1, -1)
        ]

    def lead_problems(self, answer: Mapping[str, Any]) -> list[str]:
        """What is wrong with the judgement of who is ahead."""
        sign = 1 if self.owner == "B" else -1
        lead, winrate = answer["scoreLead"], answer["winrate"]
        owners = winrate if sign > 0 else 1 - winrate
        # Written so that NaN is wrong.
        good = sign * lead >= LEAST_LEAD and LEAST_WINRATE <= owners <= 1
        return [] if good else [f"the board is {self.owner}'s, but scoreLead {lead}, winrate {winrate}"]


class Asker:
    """Makes requests, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        pool = random.Random(0)
        self._pool = [self._analysing(pool, repeats=True) for _ in range(60)]

    def next(self) -> Ask:
        """A request: half of them new to the server, the others repeated, refused or of no engine."""
        dice = self._dice
        kind = dice.random()
        if kind < 0.42:
            return self._analysing(dice, repeats=False)
        if kind < 0.74:
            return dice.choice(self._pool)
        if kind < 0.80:
            return self._cancelled(dice)
        if kind < 0.95:
            return dice.choice(REFUSED)
        return Ask("getEngineStatus", {}, _status_problems, needs_engine=False)

    def _analysing(self, dice: random.Random, *, repeats: bool) -> Ask:
        known = _known(dice)
        visits = dice.randint(*VISITS)
        make = dice.choices((_analysis, _territory, _explanation, _review), (6, 2, 1, 1))[0]
        ask = make(known, dice.random() < 0.5, visits)
        return Ask(ask.tool, ask.arguments, ask.problems, repeats=repeats)

    def _cancelled(self, dice: random.Random) -> Ask:
        ask = _analysis(_known(dice), False, ENDLESS_VISITS)
        return Ask(ask.tool, ask.arguments, ask.problems, cancelled_after=dice.uniform(0, 0.3))


def _known(dice: random.Random) -> Known:
    variant = dice.randrange(VARIANTS)
    free = [point for point in _POINTS if point not in stones(variant)]
    return Known(dice.choice(("B", "W")), variant, dice.choice(free))


def _game(known: Known, as_record: bool) -> dict[str, Any]:
    return {"sgf": known.sgf()} if as_record else {"position": known.position()}


def _analysis(known: Known, as_record: bool, visits: int) -> Ask:
    def problems(answer: Mapping[str, Any]) -> list[str]:
        moves = [move["move"] for move in answer["moves"]]
        seen = (answer["nextPlayer"], answer["turnNumber"], answer["rules"], answer["komi"], moves)
        wanted = (known.player, 0, "chinese", _KOMI, [known.move])
        wrong = [] if seen == wanted else [f"it is of another position: {seen}, not {wanted}"]
        if answer["visits"] < visits:
            wrong.append(f"{answer['visits']} visits of {visits}")
        return wrong + known.lead_problems(answer)

    asked = {**_game(known, as_record), "allowMoves": [known.move], "maxVisits": visits}
    return Ask("analyzePosition", asked, problems)


def _territory(known: Known, as_record: bool, visits: int) -> Ask:
    def problems(answer: Mapping[str, Any]) -> list[str]:
        wrong = [] if answer["board"] == known.board() else [f"it is another board: {answer['board']}"]
        sign = 1 if known.owner == "B" else -1
        mean = sum(map(sum, answer["ownership"])) / SIZE**2
        if not sign * mean >= 0.5:
            wrong.append(f"the board is {known.owner}'s, but the mean ownership is {mean:.2f}")
        return wrong + known.lead_problems(answer)

    return Ask("evaluateTerritory", {**_game(known, as_record), "maxVisits": visits}, problems)


def _explanation(known: Known, as_record: bool, visits: int) -> Ask:
    def problems(answer: Mapping[str, Any]) -> list[str]:
        seen = (answer["move"], answer["player"], answer["turnNumber"])
        wanted = (known.move, known.player, 0)
        wrong = [] if seen == wanted else [f"it explains {seen}, not {wanted}"]
        occupied = [other["move"] for other in answer["alternatives"] if other["move"] in known.held]
        return wrong + [f"{move} is occupied" for move in occupied] + known.lead_problems(answer)

    asked = {**_game(known, as_record), "move": known.move, "maxVisits": visits}
    return Ask("explainMove", asked, problems)


def _review(known: Known, _: bool, visits: int) -> Ask:
    free = [point for point in _POINTS if point not in known.held and point != known.move]
    moves = [[known.player, known.move]]
    # Far from one another on a board of few stones, so that none is suicide and none takes anything.
    moves += [[known.owner, "pass"], [known.player, free[known.variant % len(free)]], [known.owner, "pass"]]

    def problems(answer: Mapping[str, Any]) -> list[str]:
        judged = [[move["player"], move["move"]] for move in answer["moves"]]
        absent = {number for turn in answer["unanalysed"] for number in turn["moves"]}
        wanted = [move for number, move in enumerate(moves, 1) if number not in absent]
        wrong = [] if judged == wanted else [f"it reviews {judged}, not {wanted}"]
        return wrong + [text for move in answer["moves"] for text in known.lead_problems(move)]

    asked = {
        "position": {**known.position(), "moves": moves[:_REVIEWED]},
        "maxVisits": visits,
        "allMoves": True,
    }
    return Ask("findMistakes", asked, problems)


def _status_problems(answer: Mapping[str, Any]) -> list[str]:
    return [] if answer["network"] and answer["engineVersion"] else [f"it knows no engine: {dict(answer)}"]


def _sgf(point: str) -> str:
    column, row = COLUMNS.index(point[0]), SIZE - int(point[1:])
    return chr(ord("a") + column) + chr(ord("a") + row)


def _refused(tool: str, arguments: dict[str, Any], code: str) -> Ask:
    return Ask(tool, arguments, code=code, needs_engine=False)


def _on_board(**fields: Any) -> dict[str, Any]:
    return {"position": {"boardXSize": SIZE, "boardYSize": SIZE, **fields}}


_SHORT = "(;SZ[9];B[ee];W[cc])"
_WALL = _on_board(initialStones=[["B", point] for point in stones(0)])
_TWO = _on_board(moves=[["B", "E5"], ["W", "C3"]])

REFUSED = (
    _refused("analyzePosition", _on_board(rules="go!"), "invalid_rules"),
    _refused("analyzePosition", {"position": {"boardXSize": 20}}, "invalid_board_size"),
    _refused("evaluateTerritory", _on_board(komi=6.25), "invalid_komi"),
    _refused("analyzePosition", _on_board(initialStones=[["B", "D4"], ["B", "D4"]]), "invalid_stone"),
    _refused("analyzePosition", _on_board(moves=[["B", "Z99"]]), "invalid_move"),
    _refused("findMistakes", _on_board(moves=[["B", "D4"], ["W", "D4"]]), "illegal_move"),
    _refused("explainMove", {**_WALL, "move": OCCUPIED}, "illegal_move"),
    _refused("explainMove", {**_WALL, "move": "I5"}, "invalid_move"),
    _refused("analyzePosition", _on_board(moves=[["B", "pass"]] * 2001), "too_many_moves"),
    _refused("analyzePosition", {"sgf": "(;SZ[9];B[ee"}, "invalid_sgf"),
    _refused("findMistakes", {"sgf": _SHORT, "variation": "7.7"}, "invalid_variation"),
    _refused("analyzePosition", {"sgf": _SHORT, "moveNumber": 9}, "invalid_move_number"),
    _refused("findMistakes", _on_board(), "no_moves"),
    _refused("findMistakes", {**_TWO, "firstMove": 2, "lastMove": 1}, "invalid_range"),
    _refused("findMistakes", {**_TWO, "lossThresholds": [5, 4, 3, 2, 1]}, "invalid_thresholds"),
    _refused("analyzePosition", {**_TWO, "allowMoves": ["A1"], "avoidMoves": ["B1"]}, "invalid_region"),
    _refused("analyzePosition", {**_TWO, "humanSLProfile": "rank_5k"}, "no_human_network"),
    _refused("analyzePosition", {**_TWO, "maxVisits": 0}, "limit_exceeded"),
    _refused("evaluateTerritory", {"position": 7}, "invalid_arguments"),
    _refused("analyzePosition", {}, "invalid_arguments"),
    _refused("makeCoffee", {}, "unknown_tool"),
    _refused("startEngine", {}, "forbidden"),
    _refused("stopEngine", {}, "forbidden"),
)
"""Requests that nobody can carry out, each with the code that says so."""
