"""The requests of the soak, and their expected answers.

One colour has stones on every third line of a 9x9 board, the other has none. So that colour owns the
board, whatever the network thinks (the validation of a host uses the same positions). Only one move is
allowed, so that an answer to a different request is detected.
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
    """A position that one colour owns, and the only move that its opponent may play."""

    owner: Literal["B", "W"]
    variant: int
    move: str
    held: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", frozenset(stones(self.variant)))

    @property
    def player(self) -> Literal["B", "W"]:
        """The colour to move."""
        return "W" if self.owner == "B" else "B"

    def position(self) -> dict[str, Any]:
        """The position as an argument of a tool."""
        return {
            "boardXSize": SIZE,
            "boardYSize": SIZE,
            "rules": "chinese",
            "komi": _KOMI,
            "initialStones": [[self.owner, point] for point in stones(self.variant)],
            "initialPlayer": self.player,
        }

    def sgf(self) -> str:
        """The position as a game record in SGF."""
        points = "".join(f"[{_sgf(point)}]" for point in stones(self.variant))
        return f"(;FF[4]GM[1]SZ[{SIZE}]RU[Chinese]KM[{_KOMI:g}]A{self.owner}{points}PL[{self.player}])"

    def board(self) -> list[str]:
        """The rows of the board from the top, as evaluateTerritory draws them."""
        stone = "X" if self.owner == "B" else "O"
        return [
            "".join(stone if vertex((x, y)) in self.held else "." for x in range(SIZE))
            for y in range(SIZE - 1, -1, -1)
        ]

    def lead_problems(self, answer: Mapping[str, Any]) -> list[str]:
        """The problems of an answer's scoreLead and winrate."""
        sign = 1 if self.owner == "B" else -1
        lead, winrate = answer["scoreLead"], answer["winrate"]
        owners = winrate if sign > 0 else 1 - winrate
        # NaN fails these comparisons.
        correct = sign * lead >= LEAST_LEAD and LEAST_WINRATE <= owners <= 1
        return [] if correct else [f"{self.owner} owns the board, but scoreLead is {lead}, winrate {winrate}"]


class Asker:
    """Creates requests. The same seed gives the same requests."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        pool = random.Random(0)
        self._pool = [self._analysing(pool, repeats=True) for _ in range(60)]

    def next(self) -> Ask:
        """Return a request. Half of them are new to the server; others repeat, fail, or need no engine."""
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
        actual = (answer["nextPlayer"], answer["turnNumber"], answer["rules"], answer["komi"], moves)
        expected = (known.player, 0, "chinese", _KOMI, [known.move])
        wrong = [] if actual == expected else [f"the answer has {actual}, expected {expected}"]
        if answer["visits"] < visits:
            wrong.append(f"only {answer['visits']} of {visits} visits")
        return wrong + known.lead_problems(answer)

    arguments = {**_game(known, as_record), "allowMoves": [known.move], "maxVisits": visits}
    return Ask("analyzePosition", arguments, problems)


def _territory(known: Known, as_record: bool, visits: int) -> Ask:
    def problems(answer: Mapping[str, Any]) -> list[str]:
        wrong = [] if answer["board"] == known.board() else [f"the board differs: {answer['board']}"]
        sign = 1 if known.owner == "B" else -1
        mean = sum(map(sum, answer["ownership"])) / SIZE**2
        if not sign * mean >= 0.5:
            wrong.append(f"{known.owner} owns the board, but the mean ownership is {mean:.2f}")
        return wrong + known.lead_problems(answer)

    return Ask("evaluateTerritory", {**_game(known, as_record), "maxVisits": visits}, problems)


def _explanation(known: Known, as_record: bool, visits: int) -> Ask:
    def problems(answer: Mapping[str, Any]) -> list[str]:
        actual = (answer["move"], answer["player"], answer["turnNumber"])
        expected = (known.move, known.player, 0)
        wrong = [] if actual == expected else [f"it explains {actual}, expected {expected}"]
        occupied = [other["move"] for other in answer["alternatives"] if other["move"] in known.held]
        return wrong + [f"{move} is occupied" for move in occupied] + known.lead_problems(answer)

    arguments = {**_game(known, as_record), "move": known.move, "maxVisits": visits}
    return Ask("explainMove", arguments, problems)


def _review(known: Known, _: bool, visits: int) -> Ask:
    free = [point for point in _POINTS if point not in known.held and point != known.move]
    moves = [[known.player, known.move]]
    # Far apart on a board with few stones, so that no move is suicide or a capture.
    moves += [[known.owner, "pass"], [known.player, free[known.variant % len(free)]], [known.owner, "pass"]]

    def problems(answer: Mapping[str, Any]) -> list[str]:
        judged = [[move["player"], move["move"]] for move in answer["moves"]]
        absent = {number for turn in answer["unanalysed"] for number in turn["moves"]}
        expected = [move for number, move in enumerate(moves, 1) if number not in absent]
        wrong = [] if judged == expected else [f"it reviews {judged}, expected {expected}"]
        return wrong + [text for move in answer["moves"] for text in known.lead_problems(move)]

    arguments = {
        "position": {**known.position(), "moves": moves[:_REVIEWED]},
        "maxVisits": visits,
        "allMoves": True,
    }
    return Ask("findMistakes", arguments, problems)


def _status_problems(answer: Mapping[str, Any]) -> list[str]:
    return (
        []
        if answer["network"] and answer["engineVersion"]
        else [f"network or engineVersion is empty: {dict(answer)}"]
    )


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
"""Invalid or forbidden requests, each with its error code."""
