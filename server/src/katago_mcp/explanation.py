"""Explains one move: compares the engine's search after it with that after the best alternative.

Two or three queries: the position; the position with only this move allowed, so that a move that the
engine would not consider gets its own search [Analysis_Engine.md, allowMoves]; and, if the move is the
engine's choice, the position without it [avoidMoves], to find the best alternative. Loss and ownership
compare the second query with the best alternative. All values are numbers, vertices or sequences of the
engine.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from katago_mcp import positions
from katago_mcp.analysis import MAX_PV_LENGTH, Limits, by_symmetry, colour_name, limits
from katago_mcp.auth import ANONYMOUS
from katago_mcp.desk import PROGRESS_EVERY, Desk, Result, Wire, options_of, readable, within
from katago_mcp.errors import Invalid, TimedOut
from katago_mcp.flights import Report
from katago_mcp.positions import Board, Checked, Colour, Point, Position, vertex
from katago_mcp.scheduling import Claim

SWING = 0.3
"""A point belongs to a swing if its ownership differs by at least this much (at most 2 is possible)."""

MOST_SEARCHES = 3
"""Searches of one explanation, one after another in the same slot."""

MIN_VISITS = 2
"""Minimum of each search: the first visit evaluates the position itself, later ones evaluate moves."""

MAX_ALTERNATIVES = 10
_MAX_REGIONS = 5


class Alternative(Wire):
    """An alternative move."""

    move: str = Field(description='GTP vertex, or "pass".')
    winrate: float = Field(description="Black's winrate after it, 0 to 1.")
    score_lead: float = Field(description="Black's lead in points after it.")
    visits: int = Field(description="Visits of this move.")
    prior: float = Field(description="Network's probability before search, 0 to 1.")
    pv: list[str] = Field(description="Expected continuation, starting with it.")


class Swing(Wire):
    """Connected points that change owner in the same direction between the two continuations."""

    gains: Literal["B", "W"] = Field(description="Who owns more of them after the explained move.")
    points: float = Field(description="Sum of the ownership changes, in points (1 to -1 counts as 2).")
    vertices: list[str] = Field(description="The points, largest change first.")
    stones: list[str] = Field(description="Those of them with a stone now.")


class MoveExplanation(Result):
    """A move compared with the best alternative."""

    move: str = Field(description="The explained move.")
    player: Literal["B", "W"] = Field(description="Player of the move.")
    turn_number: int = Field(description="Moves played before it.")
    best: bool = Field(description="Whether it is the engine's choice.")
    points_lost: float = Field(
        description="Points its player loses compared with the best alternative; negative for a gain."
    )
    winrate_lost: float = Field(description="Winrate its player loses, 0 to 1; may be negative.")
    score_lead: float = Field(description="Black's lead in points after it.")
    winrate: float = Field(description="Black's winrate after it, 0 to 1.")
    visits: int = Field(description="Visits of the search that allowed only this move.")
    prior: float = Field(description="Network's probability before search, 0 to 1.")
    policy_rank: int = Field(description="Rank of that probability; 1 is the highest.")
    searched_order: int | None = Field(
        description="Rank in the unrestricted search, 0 is best; null if it did not consider the move."
    )
    searched_visits: int = Field(description="Visits of it in the unrestricted search.")
    continuation: list[str] = Field(description="Expected play after the move (refutation of a bad move).")
    alternatives: list[Alternative] = Field(description="Other moves, best first.")
    swings: list[Swing] = Field(
        description="Regions whose ownership differs by 0.3 or more from that after the best "
        "alternative, largest first."
    )

    def summary(self) -> str:
        """The explanation in a few lines."""
        best = self.alternatives[0] if self.alternatives else None
        lines = [
            f"{colour_name(self.player)} {self.move}: Black {self.winrate:.1%}, lead {self.score_lead:+.1f} "
            f"({self.visits} visits{', time ran out' if self.partial else ''}"
            f"{', cached' if self.cached else ''}). {self.terms()} It is "
            f"number {self.policy_rank} by network probability ({self.prior:.1%}); "
            + (
                "the engine's choice."
                if self.best
                else "not considered by the unrestricted search."
                if self.searched_order is None
                else f"number {self.searched_order + 1} in the unrestricted search."
            )
        ]
        if best is not None:
            verb = "loses" if self.points_lost >= 0 else "gains"
            lines.append(
                f"Compared with {best.move} it {verb} {abs(self.points_lost):.1f} points "
                f"(winrate {-self.winrate_lost:+.1%})."
            )
        if self.continuation:
            lines.append(f"Then: {' '.join(self.continuation[:8])}")
        lines += [
            f"Instead {other.move}: Black {other.winrate:.1%}, lead {other.score_lead:+.1f}, "
            f"pv {' '.join(other.pv[:6])}"
            for other in self.alternatives[:3]
        ]
        lines += [
            f"{colour_name(swing.gains)} gains {swing.points:.1f} points around {swing.vertices[0]}"
            + (f", stones {' '.join(swing.stones[:8])}" if swing.stones else "")
            for swing in self.swings[:3]
        ]
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def details(self) -> list[str]:
        """The whole continuations, every alternative, and every point of the swings."""
        lines = (
            [f"Expected play after {self.move}: {' '.join(self.continuation)}"] if self.continuation else []
        )
        lines += [
            f"Instead {other.move}: Black {other.winrate:.1%}, lead {other.score_lead:+.1f}, "
            f"{other.visits} visits, network {other.prior:.1%}, pv {' '.join(other.pv)}"
            for other in self.alternatives
        ]
        lines += [
            f"{colour_name(swing.gains)} gains {swing.points:.1f} points on {' '.join(swing.vertices)}"
            + (f"; stones {' '.join(swing.stones)}" if swing.stones else "")
            for swing in self.swings
        ]
        return lines


@dataclass(frozen=True)
class ExplanationRequest:
    """A request to explain a move (GTP vertex or "pass") of the player to move.

    `max_visits` (at least MIN_VISITS) and `max_time` apply to each of the two or three searches.
    """

    position: Position
    move: str
    max_visits: int | None = None
    max_time: float | None = None
    alternatives: int = 3
    pv_length: int = 12


async def explain_move(
    desk: Desk, request: ExplanationRequest, report: Report | None = None, *, caller: str = ANONYMOUS
) -> MoveExplanation:
    """Explain a move; `report` receives the visits of all searches together.

    Raises:
        Invalid: with `invalid_move` or `illegal_move` and the field `move`, or as
            `Analyst.analyze` does.
        Failure: as `Analyst.analyze` does; `analysis_timeout` also if a search had no time for a
            second visit.
    """
    checked = positions.check(request.position)
    explanation = _Explanation(desk, request, checked)
    parameters = {
        "options": explanation.options,
        "move": explanation.move,
        "alternatives": request.alternatives,
        "pvLength": request.pv_length,
    }
    return await desk.answer(
        MoveExplanation,
        "explainMove",
        checked,
        parameters,
        explanation.run,
        effort=explanation.effort,
        caller=caller,
        report=report,
    )


class _Explanation:
    def __init__(self, desk: Desk, request: ExplanationRequest, checked: Checked) -> None:
        self._desk = desk
        self._request = request
        self._checked = checked
        self._board = positions.board_of(checked)
        self._player = positions.to_move(checked)
        self._limits: Limits = limits(desk, request.max_visits, request.max_time, MIN_VISITS)
        within("alternatives", request.alternatives, 1, MAX_ALTERNATIVES)
        within("pvLength", request.pv_length, 1, MAX_PV_LENGTH)
        point = positions.read_move(request.move, checked.width, checked.height, "move")
        self.move = vertex(point)
        reason = self._board.refusal(self._player, point)
        if reason is not None:
            raise self._illegal(reason)
        self._index = positions.policy_index(point, checked.width, checked.height)
        self.effort = self._limits.effort(MOST_SEARCHES)
        self.options = options_of(self._limits.visits, self._limits.seconds) | {
            "analysisPVLen": request.pv_length,
            "includePolicy": True,
            "includeMovesOwnership": True,
        }
        self._warnings: list[str] = []
        self._visits = 0

    def _illegal(self, reason: str) -> Invalid:
        return Invalid(
            "illegal_move",
            f"{self._player} {self.move}: {reason}",
            field="move",
            accepted="a legal move of the player to move",
        )

    async def run(self, claim: Claim, note: Report) -> MoveExplanation:
        """Run two or three searches in one slot, and compare them."""
        async with self._desk.turn(claim):
            free = await self._search({}, 0, 2, note)
            with readable():
                best = [info["move"] for info in by_symmetry(free["moveInfos"])[0]]
            is_best = self.move in best
            searches = 3 if is_best else 2
            forced = await self._search(self._only("allowMoves", [self.move]), 1, searches, note)
            others = free
            if is_best:
                # Without its mirror images too: they are the same move, not alternatives.
                others = await self._search(self._only("avoidMoves", best), 2, searches, note)
        with readable():
            forced_infos = _infos(forced)
            if not forced_infos:
                raise self._illegal("the engine considers it illegal")
            result = self._compare(free, forced_infos[0], others)
        result.partial = any(
            reply["rootInfo"]["visits"] < self._limits.visits for reply in (free, forced, others)
        )
        result.warnings = [*self._checked.warnings, *self._warnings]
        self._desk.metrics.visits.inc(self._visits)
        return result

    def _only(self, name: str, moves: list[str]) -> dict[str, Any]:
        return {name: [{"player": self._player, "moves": moves, "untilDepth": 1}]}

    async def _search(self, extra: dict[str, Any], done: int, searches: int, note: Report) -> dict[str, Any]:
        each = self._limits.visits

        async def progress(reply: dict[str, Any]) -> None:
            root = reply.get("rootInfo")
            if isinstance(root, dict):
                await note(done * each + int(root.get("visits", 0)), searches * each)

        query = self._checked.query() | self.options | extra | {"reportDuringSearchEvery": PROGRESS_EVERY}
        answer = await self._desk.search(query, self._limits.seconds, progress)
        self._warnings += [text for text in answer.warnings if text not in self._warnings]
        with readable():
            visits = answer.reply["rootInfo"]["visits"]
            self._visits += visits
            if visits < MIN_VISITS and not answer.reply["moveInfos"]:
                raise TimedOut(
                    "analysis_timeout",
                    "the search ended before it had evaluated a single move: maxTime is too short",
                    accepted="a longer maxTime",
                    retry_after=1,
                )
        await note((done + 1) * each, searches * each)
        return answer.reply

    def _compare(
        self, free: dict[str, Any], forced: dict[str, Any], others: dict[str, Any]
    ) -> MoveExplanation:
        request, checked = self._request, self._checked
        sign = 1 if self._player == "B" else -1
        classes = by_symmetry(others["moveInfos"])
        infos = [same[0] for same in classes if all(info["move"] != self.move for info in same)]
        first = by_symmetry(free["moveInfos"])
        searched = next((info for info in _infos(free) if info["move"] == self.move), None)
        best = infos[0] if infos else forced
        policy = free["policy"]
        swings = _swings(self._board, forced["ownership"], best["ownership"])
        return MoveExplanation(
            rules=checked.rules_name,
            komi=checked.komi,
            move=self.move,
            player=self._player,
            turn_number=checked.number,
            best=any(info["move"] == self.move for info in first[0]),
            points_lost=round(sign * (best["scoreLead"] - forced["scoreLead"]), 3) + 0.0,
            winrate_lost=round(sign * (best["winrate"] - forced["winrate"]), 5) + 0.0,
            score_lead=round(forced["scoreLead"], 3),
            winrate=round(forced["winrate"], 5),
            visits=forced["visits"],
            prior=round(max(0.0, policy[self._index]), 5),
            policy_rank=1 + sum(value > policy[self._index] for value in policy),
            searched_order=None if searched is None else searched["order"],
            searched_visits=0 if searched is None else searched["visits"],
            continuation=forced["pv"][1 : request.pv_length + 1],
            alternatives=[
                Alternative(
                    move=info["move"],
                    winrate=round(info["winrate"], 5),
                    score_lead=round(info["scoreLead"], 3),
                    visits=info["visits"],
                    prior=round(info["prior"], 5),
                    pv=info["pv"][: request.pv_length],
                )
                for info in infos[: request.alternatives]
            ],
            swings=swings,
        )


def _infos(reply: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(reply["moveInfos"], key=lambda info: int(info["order"]))


def _swings(board: Board, after: list[float], instead: list[float]) -> list[Swing]:
    """Regions of connected points whose ownership differs in the same direction, largest sum first."""
    points = positions.points_top_down(board.width, board.height)
    changes = {
        point: change
        for point, one, other in zip(points, after, instead, strict=True)
        if abs(change := one - other) >= SWING
    }
    regions = []
    left = set(changes)
    while left:
        region, frontier = set(), [left.pop()]
        while frontier:
            point = frontier.pop()
            region.add(point)
            for neighbour in board.neighbours(point):
                if neighbour in left and changes[neighbour] * changes[point] > 0:
                    left.discard(neighbour)
                    frontier.append(neighbour)
        regions.append(_swing(board, {point: changes[point] for point in region}))
    return sorted(regions, key=lambda swing: -swing.points)[:_MAX_REGIONS]


def _swing(board: Board, changes: dict[Point, float]) -> Swing:
    ordered = sorted(changes, key=lambda point: (-abs(changes[point]), point))
    gains: Colour = "B" if changes[ordered[0]] > 0 else "W"
    return Swing(
        gains=gains,
        points=round(sum(abs(change) for change in changes.values()), 2),
        vertices=[vertex(point) for point in ordered],
        stones=[vertex(point) for point in ordered if point in board.stones],
    )
