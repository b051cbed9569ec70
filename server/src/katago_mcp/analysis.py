"""Analysis of one position: who is ahead, and which moves are good.

Winrate, scoreLead and ownership are always from Black's perspective: each query sets
this, so that the engine's configuration does not matter [Analysis_Engine.md, reportAnalysisWinratesAs].
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from katago_mcp import comparison, positions
from katago_mcp.auth import ANONYMOUS
from katago_mcp.desk import PROGRESS_EVERY, Desk, Result, Wire, options_of, readable, within
from katago_mcp.errors import Invalid
from katago_mcp.flights import Report
from katago_mcp.positions import Checked, Colour, Position
from katago_mcp.scheduling import Claim, Effort

MAX_TOP_MOVES = 50
MAX_PV_LENGTH = 60

_MOVES_IN_SUMMARY, _PV_IN_SUMMARY = 5, 6
"""Candidates, and moves of each continuation, that the summary shows."""

_RANK = r"([1-9]|1\d|20)k|[1-9]d"
_PROFILE = re.compile(rf"(rank|preaz)_({_RANK})(_({_RANK}))?|proyear_(1[89]\d\d|200\d|201\d|202[0-3])")
"""Profiles of human play [Analysis_Engine.md, humanSLProfile]: ranks (of one or both players), or a year."""


class MoveAnalysis(Wire):
    """One candidate move."""

    move: str = Field(description='GTP vertex, or "pass".')
    winrate: float = Field(description="Black's winrate after this move, 0 to 1.")
    score_lead: float = Field(description="Black's lead in points after this move.")
    points_lost: float = Field(
        description="Points the player to move loses compared with the best move; negative if the "
        "search rated this move higher."
    )
    visits: int = Field(description="Visits of this move.")
    prior: float = Field(description="Network's probability of this move before search, 0 to 1.")
    human_prior: float | None = Field(
        default=None, description="Probability that a player of humanSLProfile plays it, 0 to 1."
    )
    order: int = Field(description="Rank by the engine; 0 is best.")
    symmetric_moves: list[str] = Field(
        default=[], description="Moves that are the same by the symmetry of the position; not listed again."
    )
    pv: list[str] = Field(description="Expected continuation, starting with this move.")
    ownership: list[float] | None = Field(
        default=None,
        description="Ownership after this move, in the format of the position's; only if requested.",
    )


class PositionAnalysis(Result):
    """The engine's evaluation of a position, from Black's perspective."""

    next_player: Literal["B", "W"] = Field(description="Who is to move.")
    turn_number: int = Field(description="Moves played so far.")
    board_x_size: int = Field(description="Columns of the board.")
    winrate: float = Field(description="Black's winrate, 0 to 1.")
    score_lead: float = Field(description="Black's lead in points; negative if White leads.")
    score_stdev: float = Field(
        description="Standard deviation of the predicted score, in points; biased high."
    )
    visits: int = Field(description="Visits searched.")
    moves: list[MoveAnalysis] = Field(description="Candidate moves, best first; empty after a single visit.")
    ownership: list[float] | None = Field(
        default=None,
        description="Row by row from the top left, 1 (Black) to -1 (White); only if requested.",
    )
    policy: list[float] | None = Field(
        default=None,
        description="Row by row from the top left, then pass; -1 where illegal; only if requested.",
    )
    human_policy: list[float] | None = Field(
        default=None, description="As policy, for a player of humanSLProfile; only if both are requested."
    )

    def summary(self) -> str:
        """The answer in a few lines."""
        lines = [
            f"{colour_name(self.next_player)} to move (turn {self.turn_number}). "
            f"{lead(self.score_lead)}; "
            f"Black wins {self.winrate:.1%} ({self.visits} visits"
            f"{', time ran out' if self.partial else ''}{', cached' if self.cached else ''}). {self.terms()}"
        ]
        lines += [_candidate(move, _PV_IN_SUMMARY) for move in self.moves[:_MOVES_IN_SUMMARY]]
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def details(self) -> list[str]:
        """What was asked for beyond the summary: further moves, whole continuations, policy, ownership."""
        lines = []
        if len(self.moves) > _MOVES_IN_SUMMARY or any(len(move.pv) > _PV_IN_SUMMARY for move in self.moves):
            lines += [_candidate(move) for move in self.moves]
        if any(move.human_prior is not None for move in self.moves):
            chosen = ", ".join(f"{move.move} {move.human_prior or 0:.1%}" for move in self.moves)
            lines.append(f"Probability for a player of the profile: {chosen}")
        for title, values in (("Network's", self.policy), ("Profile's", self.human_policy)):
            if values is not None:
                lines.append(f"{title} probability in percent, . where illegal; pass {_percent(values[-1])}:")
                lines += grid([_percent(value) for value in values[:-1]], self.board_x_size)
        if self.ownership is not None:
            lines += ["Ownership in percent, 100 is Black's, -100 White's:", *self._owners(self.ownership)]
        for move in self.moves:
            if move.ownership is not None:
                lines += [f"Ownership after {move.move}:", *self._owners(move.ownership)]
        return lines

    def _owners(self, values: list[float]) -> list[str]:
        return grid([f"{100 * value:.0f}" for value in values], self.board_x_size)


def _candidate(move: MoveAnalysis, most: int | None = None) -> str:
    same = f" (also {' '.join(move.symmetric_moves)})" if move.symmetric_moves else ""
    return (
        f"{move.order + 1}. {move.move}{same}: Black {move.winrate:.1%}, lead {move.score_lead:+.1f}, "
        f"loses {move.points_lost:.1f}, {move.visits} visits, network {move.prior:.1%}, "
        f"pv {' '.join(move.pv[:most])}"
    )


def _percent(value: float) -> str:
    return "." if value < 0 else f"{100 * value:.0f}"


def grid(cells: Sequence[str], width: int) -> list[str]:
    """The points of a board as rows from the top, `width` cells each, with coordinates."""
    size = max(map(len, cells), default=1)
    height = len(cells) // width
    rows = [
        f"{height - row:2} " + " ".join(f"{cell:>{size}}" for cell in cells[row * width : (row + 1) * width])
        for row in range(height)
    ]
    columns = " ".join(f"{letter:>{size}}" for letter in positions.COLUMNS[:width])
    return [*rows, f"   {columns}"]


@dataclass(frozen=True)
class Request:
    """A request to analyse a position. `max_time` is in seconds; None means the server's default.

    `allow_moves` and `avoid_moves` hold vertices, "pass" and rectangles such as "C3:G7"; they
    limit the moves of the player to move in the first `restricted_depth` moves of every continuation.
    A few named `allow_moves` are compared: each gets its share of the visits, see `comparison`.
    """

    position: Position
    max_visits: int | None = None
    max_time: float | None = None
    include_policy: bool = False
    include_ownership: bool = False
    include_moves_ownership: bool = False
    allow_moves: tuple[str, ...] = ()
    avoid_moves: tuple[str, ...] = ()
    restricted_depth: int = 1
    human_profile: str | None = None
    top_moves: int = 10
    pv_length: int = 15


@dataclass(frozen=True)
class Limits:
    """Visits and seconds of one search, within the server's limits."""

    visits: int
    seconds: float

    def effort(self, searches: int = 1) -> Effort:
        """What so many searches with these limits need of one slot."""
        return Effort(self.visits * searches, self.seconds * searches)


class Analyst(Desk):
    """A desk that analyses single positions."""

    async def analyze(
        self, request: Request, report: Report | None = None, *, caller: str = ANONYMOUS
    ) -> PositionAnalysis:
        """Analyse a position; `report` receives the visits while the search runs.

        Raises:
            Invalid: if the request is not valid.
            Rejected: if the server drains or is overloaded.
            Unavailable: if the engine is not available, or ended during the search.
            TimedOut: if the engine gave no answer in time.
            Broken: if the engine's answer is not usable.
        """
        checked = positions.check(request.position)
        search_limits = limits(self, request.max_visits, request.max_time)
        within("topMoves", request.top_moves, 1, MAX_TOP_MOVES)
        within("pvLength", request.pv_length, 1, MAX_PV_LENGTH)
        within("restrictedDepth", request.restricted_depth, 1, MAX_PV_LENGTH)
        self._check_profile(request.human_profile)
        options = _options(checked, search_limits, request)
        moves, illegal = comparison.compared(checked, _named(request, options))
        least = comparison.share(search_limits.visits, moves) if moves else 0
        # Half of the time is left for the moves that the first search neglects.
        seconds = search_limits.seconds / 2 if moves else search_limits.seconds

        async def work(claim: Claim, note: Report) -> PositionAnalysis:
            async def progress(reply: dict[str, Any]) -> None:
                root = reply.get("rootInfo")
                if isinstance(root, dict):
                    await note(int(root.get("visits", 0)), search_limits.visits)

            # Always requested: another caller may join this search and want progress.
            query = checked.query() | options | {"reportDuringSearchEvery": PROGRESS_EVERY}
            async with self.turn(claim):
                answer = await self.search(_within(query, seconds), seconds, progress)
                alone = await self._alone(query, answer.reply, moves, least, seconds)
            result = _read(_compared(answer.reply, alone), checked, search_limits, request)
            result.partial = result.partial or any(each["rootInfo"]["visits"] < least for each in alone)
            result.warnings = [*checked.warnings, *illegal, *answer.warnings]
            self.metrics.visits.inc(result.visits + sum(each["rootInfo"]["visits"] for each in alone))
            return result

        parameters = {"options": options, "topMoves": request.top_moves, "pvLength": request.pv_length}
        if moves:
            parameters["share"] = least
        return await self.answer(
            PositionAnalysis,
            "analyzePosition",
            checked,
            parameters,
            work,
            effort=search_limits.effort(2 if moves else 1),
            caller=caller,
            report=report,
        )

    async def _alone(
        self, query: dict[str, Any], reply: dict[str, Any], moves: Sequence[str], least: int, seconds: float
    ) -> list[dict[str, Any]]:
        """The replies of searches for the compared moves that have too few visits in a reply."""
        with readable():
            neglected = comparison.lacking(reply["moveInfos"], moves, least)
        replies = []
        for move in neglected:
            only = [{**query["allowMoves"][0], "moves": [move]}]
            each = seconds / len(neglected)
            again = _within(query, each) | {"allowMoves": only, "maxVisits": least}
            replies.append((await self.search(again, each, None)).reply)
        return replies

    def _check_profile(self, profile: str | None) -> None:
        if profile is None:
            return
        if self.katago.human_model_path is None:
            raise Invalid(
                "no_human_network",
                "this server has no network trained on human games",
                field="humanSLProfile",
                accepted="a call without humanSLProfile (an operator can set katago.humanModelPath)",
            )
        if _PROFILE.fullmatch(profile) is None:
            raise Invalid(
                "invalid_profile",
                f"{profile[:24]!r} is not a profile",
                field="humanSLProfile",
                accepted="a profile such as rank_5k, preaz_3d, rank_5k_3d or proyear_1995",
            )


def limits(desk: Desk, max_visits: int | None, max_time: float | None, least_visits: int = 1) -> Limits:
    """Visits and seconds of a search: the requested values, or the server's defaults.

    Raises:
        Invalid: if a value exceeds the server's limit, or the visits are below `least_visits`.
    """
    katago = desk.katago
    if katago.max_visits < least_visits:
        raise Invalid(
            "limit_exceeded",
            f"this tool needs {least_visits} visits, but this server allows only {katago.max_visits}",
            field="maxVisits",
            accepted="a call when getEngineStatus reports a higher maxVisits",
        )
    visits = max(katago.default_visits, least_visits) if max_visits is None else max_visits
    seconds = katago.max_time if max_time is None else max_time
    within("maxVisits", visits, least_visits, katago.max_visits)
    within("maxTime", seconds, 0.01, katago.max_time)
    return Limits(visits, seconds)


def by_symmetry(infos: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The moves, best first. Moves that are the same by symmetry are together, the searched one first.

    The engine searches one of them, and gives the others its values [Analysis_Engine.md, isSymmetryOf].
    """
    classes: dict[str, list[dict[str, Any]]] = {}
    for info in sorted(infos, key=lambda info: int(info["order"])):
        members = classes.setdefault(info.get("isSymmetryOf", info["move"]), [])
        if "isSymmetryOf" in info:
            members.append(info)
        else:
            members.insert(0, info)
    return list(classes.values())


def rounded(values: list[float], digits: int) -> list[float]:
    """Round numbers; minus zero becomes zero."""
    return [round(value, digits) + 0.0 for value in values]


def colour_name(colour: Colour) -> str:
    """The colour's name: Black or White."""
    return "Black" if colour == "B" else "White"


def lead(score_lead: float) -> str:
    """Who leads and by how much, as text."""
    return f"{'Black' if score_lead >= 0 else 'White'} leads by {abs(score_lead):.1f} points"


def restriction(
    checked: Checked, allow: tuple[str, ...], avoid: tuple[str, ...], depth: int
) -> dict[str, Any]:
    """The part of a query that restricts the player to move [Analysis_Engine.md, allowMoves].

    Raises:
        Invalid: if both lists are set, an entry is not a vertex or rectangle, or none of the
            allowed moves is legal.
    """
    if allow and avoid:
        raise Invalid(
            "invalid_region",
            "allowMoves and avoidMoves are both set",
            field="avoidMoves",
            accepted="only one of them",
        )
    name, entries = ("allowMoves", allow) if allow else ("avoidMoves", avoid)
    if not entries:
        return {}
    player = positions.to_move(checked)
    moves = positions.read_region(list(entries), checked.width, checked.height, name)
    if allow:
        board = positions.board_of(checked)
        points = [positions.parse_vertex(move, checked.width, checked.height) for move in moves]
        reasons = [board.refusal(player, point) for point in points]
        if all(reasons):
            raise Invalid(
                "illegal_move",
                f"none of the allowed moves is legal for {player} ({moves[0]}: {reasons[0]})",
                field=name,
                accepted="at least one legal move",
            )
    return {name: [{"player": player, "moves": moves, "untilDepth": depth}]}


def _options(checked: Checked, search_limits: Limits, request: Request) -> dict[str, Any]:
    options = options_of(search_limits.visits, search_limits.seconds) | {
        # KataGo does not count the first move.
        "analysisPVLen": max(1, request.pv_length - 1),
        "includeOwnership": request.include_ownership,
        "includeMovesOwnership": request.include_moves_ownership,
        "includePolicy": request.include_policy,
    }
    options |= restriction(checked, request.allow_moves, request.avoid_moves, request.restricted_depth)
    if request.human_profile is not None:
        options["overrideSettings"]["humanSLProfile"] = request.human_profile
    return options


def _named(request: Request, options: dict[str, Any]) -> list[str]:
    """The moves of `allow_moves`; none if it has a rectangle, or restricts more than the next move."""
    if request.restricted_depth > 1 or any(":" in entry for entry in request.allow_moves):
        return []
    return [move for rule in options.get("allowMoves", []) for move in rule["moves"]]


def _within(query: dict[str, Any], seconds: float) -> dict[str, Any]:
    """A query with another time limit."""
    return query | {"overrideSettings": query["overrideSettings"] | {"maxTime": seconds}}


def _compared(reply: dict[str, Any], alone: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A reply with the moves that were searched alone. A move that the engine calls illegal has no info."""
    if not alone:
        return reply
    with readable():
        infos = [info for each in alone for info in each["moveInfos"][:1]]
        player = reply["rootInfo"]["currentPlayer"]
        return reply | {"moveInfos": comparison.merged(reply["moveInfos"], infos, player)}


def _read(
    reply: dict[str, Any], checked: Checked, search_limits: Limits, request: Request
) -> PositionAnalysis:
    """Read KataGo's reply [Analysis_Engine.md, Responses]."""
    with readable():
        root = reply["rootInfo"]
        player = root["currentPlayer"]
        sign = 1 if player == "B" else -1
        classes = by_symmetry(reply["moveInfos"])
        best = classes[0][0] if classes else root
        moves = [
            MoveAnalysis(
                move=info["move"],
                winrate=round(info["winrate"], 5),
                score_lead=round(info["scoreLead"], 3),
                points_lost=round(sign * (best["scoreLead"] - info["scoreLead"]), 3) + 0.0,
                visits=info["visits"],
                prior=round(info["prior"], 5),
                human_prior=round(info["humanPrior"], 5) if "humanPrior" in info else None,
                order=order,
                symmetric_moves=[each["move"] for each in same],
                pv=info["pv"][: request.pv_length],
                ownership=rounded(info["ownership"], 3) if request.include_moves_ownership else None,
            )
            for order, (info, *same) in enumerate(classes[: request.top_moves])
        ]
        human = request.include_policy and "humanPolicy" in reply
        return PositionAnalysis(
            partial=root["visits"] < search_limits.visits,
            next_player=player,
            turn_number=checked.number,
            board_x_size=checked.width,
            winrate=round(root["winrate"], 5),
            score_lead=round(root["scoreLead"], 3),
            score_stdev=round(root["scoreStdev"], 3),
            visits=root["visits"],
            rules=checked.rules_name,
            komi=checked.komi,
            moves=moves,
            ownership=rounded(reply["ownership"], 3) if request.include_ownership else None,
            policy=rounded(reply["policy"], 5) if request.include_policy else None,
            human_policy=rounded(reply["humanPolicy"], 5) if human else None,
        )
