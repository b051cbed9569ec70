"""Evaluates who owns each point, which stones are dead, and the score by the rules of the game.

The engine predicts the owner of every point at the end of the game, from 1 (Black) to -1 (White), and the
spread of this value within its search [Analysis_Engine.md, includeOwnership, includeOwnershipStdev]. A
point or a chain of stones is settled if its ownership is at least SETTLED in size. An empty point below
NEUTRAL is neutral (dame, or shared). Other points, and stones that are not settled, are unsettled. A chain
is dead if its mean ownership is settled for the opponent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from katago_mcp import positions
from katago_mcp.analysis import grid, lead, limits, rounded
from katago_mcp.auth import ANONYMOUS
from katago_mcp.desk import PROGRESS_EVERY, Desk, Result, Wire, options_of, readable
from katago_mcp.flights import Report
from katago_mcp.positions import Board, Checked, Colour, Point, Position, opponent_of, vertex
from katago_mcp.scheduling import Claim

SETTLED = 0.6
NEUTRAL = 0.2
UNCERTAIN = 0.3
"""Points are listed as uncertain if the spread of their ownership is at least this much."""


class Side(Wire):
    """Score of one player."""

    stones: int = Field(description="Living stones on the board.")
    territory: int = Field(
        description="Points of this player without a living stone, including points of dead stones."
    )
    prisoners: int = Field(description="Opponent's stones captured by the moves.")
    dead_stones_taken: int = Field(description="Opponent's dead stones on the board.")
    komi: float = Field(description="Komi; 0 for Black.")
    handicap_bonus: int = Field(description="Points for the opponent's handicap stones.")
    total: float = Field(
        description="Score by the rules: stones and territory, or territory, prisoners and dead stones; "
        "plus komi and handicap bonus."
    )


class Score(Wire):
    """Score of the settled points. Other points count for nobody."""

    scoring: Literal["area", "territory"] = Field(description="Scoring of the rules.")
    black: Side = Field(description="Black's score.")
    white: Side = Field(description="White's score.")
    black_lead: float = Field(description="Black's total minus White's; the engine's estimate is scoreLead.")
    open_points: int = Field(description="Points that count for nobody because they are not settled.")
    not_known: list[str] = Field(description="What this score does not take into account.")


class Uncertainty(Wire):
    """Certainty of the engine."""

    score_stdev: float = Field(description="Standard deviation of the predicted score; biased high.")
    mean_ownership_stdev: float = Field(description="Mean standard deviation of ownership, 0 to 1.")
    points: list[str] = Field(description="Points whose ownership deviates by 0.3 or more.")


class TerritoryEvaluation(Result):
    """Owner of each point, and the score."""

    next_player: Literal["B", "W"] = Field(description="Who is to move.")
    turn_number: int = Field(description="Moves played so far.")
    winrate: float = Field(description="Black's winrate, 0 to 1.")
    score_lead: float = Field(description="Black's lead in points, estimated by the engine.")
    visits: int = Field(description="Visits searched.")
    board: list[str] = Field(description="Rows from the top: X Black, O White, x and o dead, . empty.")
    ownership: list[list[float]] = Field(
        description="Rows from the top, each from the left: 1 (Black) to -1 (White)."
    )
    ownership_stdev: list[list[float]] = Field(description="Standard deviation of ownership, same format.")
    black_territory: list[str] = Field(description="Settled points of Black without a living stone.")
    white_territory: list[str] = Field(description="Settled points of White without a living stone.")
    dead_black: list[str] = Field(description="Dead black stones.")
    dead_white: list[str] = Field(description="Dead white stones.")
    neutral: list[str] = Field(description="Empty points with ownership between -0.2 and 0.2.")
    unsettled: list[str] = Field(
        description="Other points, and chains of stones, with ownership between -0.6 and 0.6."
    )
    score: Score = Field(description="Score by the rules of the game.")
    uncertainty: Uncertainty = Field(description="Certainty of score and ownership.")

    def summary(self) -> str:
        """The evaluation in a few lines."""
        score = self.score
        parts = {
            "area": "{side.stones} stones, {side.territory} points",
            "territory": "{side.territory} points, {side.prisoners} prisoners, "
            "{side.dead_stones_taken} dead stones captured",
        }[score.scoring]
        lines = [
            f"The engine's estimate: {lead(self.score_lead)}; Black wins {self.winrate:.1%} "
            f"({self.visits} visits{', time ran out' if self.partial else ''}"
            f"{', cached' if self.cached else ''}). {self.terms()}",
            f"Settled points, {score.scoring} scoring ({self.rules}): {lead(score.black_lead)}, "
            f"{score.open_points} points unsettled or neutral.",
            f"Black {score.black.total:g}: {parts.format(side=score.black)}.",
            f"White {score.white.total:g}: {parts.format(side=score.white)}, komi {self.komi:g}"
            + (f", handicap {score.white.handicap_bonus}" if score.white.handicap_bonus else "")
            + ".",
        ]
        for name, vertices in (
            ("Dead black stones", self.dead_black),
            ("Dead white stones", self.dead_white),
            ("Unsettled", self.unsettled),
        ):
            if vertices:
                more = f" and {len(vertices) - 20} more" if len(vertices) > 20 else ""
                lines.append(f"{name}: {' '.join(vertices[:20])}{more}")
        lines += ["\n".join(self.board)]
        lines += [f"Not counted: {text}" for text in score.not_known]
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def details(self) -> list[str]:
        """The owner of every point, how certain it is, and the whole lists of points."""
        width = len(self.ownership[0])
        lines = [
            f"{name}: {' '.join(vertices)}"
            for name, vertices in (
                ("Black's territory", self.black_territory),
                ("White's territory", self.white_territory),
                ("Dead black stones", self.dead_black),
                ("Dead white stones", self.dead_white),
                ("Neutral", self.neutral),
                ("Unsettled", self.unsettled),
                ("Uncertain owner", self.uncertainty.points),
            )
            if vertices
        ]
        for title, rows in (
            ("Ownership in percent, 100 is Black's, -100 White's:", self.ownership),
            ("Its standard deviation in percent:", self.ownership_stdev),
        ):
            lines += [title, *grid([f"{100 * value:.0f}" for row in rows for value in row], width)]
        return lines


@dataclass(frozen=True)
class TerritoryRequest:
    """A request to evaluate a position; None means the server's default."""

    position: Position
    max_visits: int | None = None
    max_time: float | None = None


async def evaluate_territory(
    desk: Desk, request: TerritoryRequest, report: Report | None = None, *, caller: str = ANONYMOUS
) -> TerritoryEvaluation:
    """Evaluate a position; `report` receives the visits while the search runs.

    Raises:
        Failure: as `Analyst.analyze` does.
    """
    checked = positions.check(request.position)
    search_limits = limits(desk, request.max_visits, request.max_time)
    options = options_of(search_limits.visits, search_limits.seconds) | {
        "includeOwnership": True,
        "includeOwnershipStdev": True,
    }

    async def work(claim: Claim, note: Report) -> TerritoryEvaluation:
        async def progress(reply: dict[str, Any]) -> None:
            root = reply.get("rootInfo")
            if isinstance(root, dict):
                await note(int(root.get("visits", 0)), search_limits.visits)

        query = checked.query() | options | {"reportDuringSearchEvery": PROGRESS_EVERY}
        async with desk.turn(claim):
            answer = await desk.search(query, search_limits.seconds, progress)
        with readable():
            result = evaluate(checked, answer.reply)
        result.partial = result.visits < search_limits.visits
        result.warnings = [*checked.warnings, *answer.warnings]
        desk.metrics.visits.inc(result.visits)
        return result

    return await desk.answer(
        TerritoryEvaluation,
        "evaluateTerritory",
        checked,
        {"options": options},
        work,
        effort=search_limits.effort(),
        caller=caller,
        report=report,
    )


def evaluate(checked: Checked, reply: dict[str, Any]) -> TerritoryEvaluation:
    """Read an evaluation from KataGo's reply about a position.

    Raises:
        KeyError, TypeError, ValueError: if the reply lacks required data.
    """
    root = reply["rootInfo"]
    board = positions.board_of(checked)
    points = positions.points_top_down(checked.width, checked.height)
    ownership = dict(zip(points, reply["ownership"], strict=True))
    stdev = dict(zip(points, reply["ownershipStdev"], strict=True))
    map_ = _Map(board, ownership)
    return TerritoryEvaluation(
        rules=checked.rules_name,
        komi=checked.komi,
        next_player=root["currentPlayer"],
        turn_number=checked.number,
        winrate=round(root["winrate"], 5),
        score_lead=round(root["scoreLead"], 3),
        visits=root["visits"],
        board=[
            "".join(map_.symbol((x, y)) for x in range(checked.width))
            for y in range(checked.height - 1, -1, -1)
        ],
        ownership=_rows(reply["ownership"], checked.width),
        ownership_stdev=_rows(reply["ownershipStdev"], checked.width),
        black_territory=_vertices(map_.territory["B"]),
        white_territory=_vertices(map_.territory["W"]),
        dead_black=_vertices(map_.dead["B"]),
        dead_white=_vertices(map_.dead["W"]),
        neutral=_vertices(map_.neutral),
        unsettled=_vertices(map_.unsettled),
        score=_score(checked, board, map_),
        uncertainty=Uncertainty(
            score_stdev=round(root["scoreStdev"], 3),
            mean_ownership_stdev=round(sum(stdev.values()) / len(stdev), 3),
            points=_vertices(point for point in points if stdev[point] >= UNCERTAIN),
        ),
    )


def handicap_bonus(checked: Checked) -> int:
    """White's points for handicap stones under the rules, as KataGo counts them.

    Handicap stones are Black's stones before White's first stone, set up or played, if there are at least
    two and White has no setup stones [Analysis_Engine.md, whiteHandicapBonus].
    """
    if checked.rules.white_handicap_bonus == "0" or any(colour == "W" for colour, _ in checked.stones):
        return 0
    count = len(checked.stones)
    for colour, move in checked.moves:
        if move != "pass":
            if colour == "W":
                break
            count += 1
    less = checked.rules.white_handicap_bonus == "N-1"
    return count - less if count >= 2 else 0


class _Map:
    """Classifies every point of a board: living stone, territory, neutral or unsettled."""

    def __init__(self, board: Board, ownership: dict[Point, float]) -> None:
        self.board = board
        self.living: dict[Colour, list[Point]] = {"B": [], "W": []}
        self.dead: dict[Colour, list[Point]] = {"B": [], "W": []}
        self.territory: dict[Colour, list[Point]] = {"B": [], "W": []}
        self.neutral: list[Point] = []
        self.unsettled: list[Point] = []
        fate = _chain_means(board, ownership)
        for point, value in ownership.items():
            colour = board.stones.get(point)
            settled = fate.get(point, value)
            owner: Colour | None = None
            if abs(settled) >= SETTLED:
                owner = "B" if settled > 0 else "W"
            if colour is not None:
                if owner is None:
                    self.unsettled.append(point)
                elif owner == colour:
                    self.living[colour].append(point)
                else:
                    self.dead[colour].append(point)
                    self.territory[owner].append(point)
            elif owner is not None:
                self.territory[owner].append(point)
            else:
                (self.neutral if abs(value) < NEUTRAL else self.unsettled).append(point)

    def symbol(self, point: Point) -> str:
        colour = self.board.stones.get(point)
        if colour is None:
            return "."
        symbol = "X" if colour == "B" else "O"
        return symbol.lower() if point in self.dead[colour] else symbol


def _chain_means(board: Board, ownership: dict[Point, float]) -> dict[Point, float]:
    means: dict[Point, float] = {}
    for point in board.stones:
        if point not in means:
            chain, _ = board.group(point)
            means |= dict.fromkeys(chain, sum(ownership[stone] for stone in chain) / len(chain))
    return means


def _score(checked: Checked, board: Board, map_: _Map) -> Score:
    territory = checked.rules.scoring == "TERRITORY"
    bonus = handicap_bonus(checked)

    def side(colour: Colour) -> Side:
        opponent = opponent_of(colour)
        komi = checked.komi if colour == "W" else 0.0
        extra = bonus if colour == "W" else 0
        stones, points = len(map_.living[colour]), len(map_.territory[colour])
        prisoners, dead = board.captured[opponent], len(map_.dead[opponent])
        counted = points + prisoners + dead if territory else stones + points
        return Side(
            stones=stones,
            territory=points,
            prisoners=prisoners,
            dead_stones_taken=dead,
            komi=komi,
            handicap_bonus=extra,
            total=counted + komi + extra,
        )

    black, white = side("B"), side("W")
    return Score(
        scoring="territory" if territory else "area",
        black=black,
        white=white,
        black_lead=black.total - white.total,
        open_points=len(map_.neutral) + len(map_.unsettled),
        not_known=_not_known(checked, territory=territory),
    )


def _not_known(checked: Checked, *, territory: bool) -> list[str]:
    texts = []
    if checked.rules.tax != "NONE":
        texts.append("seki: under these rules, eyes of groups in seki are not territory")
    if checked.rules.tax == "ALL":
        texts.append("group tax: two points for each living group")
    if territory and checked.stones:
        texts.append("prisoners captured before the first move")
    if checked.rules.has_button:
        texts.append("the button, worth half a point")
    return texts


def _rows(values: list[float], width: int) -> list[list[float]]:
    return [rounded(values[start : start + width], 2) for start in range(0, len(values), width)]


def _vertices(points: Iterable[Point]) -> list[str]:
    return [vertex(point) for point in points]
