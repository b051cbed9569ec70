"""Reviews a whole game: what every move lost, and which move was better.

A game consists of one history of moves, or of several if stones were set up in mid-game; each turn belongs
to one history. All turns of a chunk are one query [Analysis_Engine.md, analyzeTurns]. Each turn's answer
is cached separately, so that an interrupted review resumes where it stopped, and a review of a longer
version of the game searches only the new turns. A chunk has a few turns per slot but takes only one slot.
So short requests run between two chunks and need not wait for the whole review; inside the engine they
run before the turns of a chunk that have not started.

Loss is the engine's evaluation before the move minus that after it, from the perspective of the player who
moves. It may be slightly negative, because both are estimates. Statistics count negative losses as zero.
"""

import asyncio
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from katago_mcp import positions
from katago_mcp.analysis import MAX_PV_LENGTH, Limits, colour_name, limits
from katago_mcp.auth import ANONYMOUS
from katago_mcp.desk import Desk, Wire, options_of, readable, within
from katago_mcp.engine import Progress
from katago_mcp.errors import Failure, Invalid, TimedOut
from katago_mcp.flights import Report
from katago_mcp.positions import Checked, Colour, Point, Position
from katago_mcp.review_answer import (
    CLASSES,
    PHASES,
    GameReview,
    MoveReview,
    Phase,
    PlayerReview,
    Statistics,
    TurningPoint,
    Unanalysed,
)
from katago_mcp.scheduling import Claim, Effort

MAX_TURNS = 2 * 361
"""Maximum turns of one review: twice the points of a 19x19 board."""

CHUNK_PER_SLOT = 4
"""Turns of a chunk, per concurrent query of the engine."""

PRIORITY = -1
"""Engine priority of a review's turns, below other queries [Analysis_Engine.md, priority]."""

LOSS_BOUNDS = (0.5, 1.5, 3.0, 6.0, 12.0)
"""Points lost at which the next loss class starts, as in KaTrain."""

OPENING, MIDDLEGAME = 0.14, 0.42
"""The opening and the middlegame last up to this share of the board's points."""

ACCURACY_BASE = 0.75

_LOOKUPS = 16
"""Concurrent cache lookups. A small number limits the wait for a stalled disk."""

_LESSONS = 3
_WINRATE_OF_A_POINT = 0.02

_DOUBTFUL_LISTED = 5
"""Maximum number of moves listed in the warning that visits are too few."""

_SETUPS_LISTED = 8
"""Maximum number of mid-game setups listed in a warning."""


@dataclass(frozen=True)
class ReviewRequest:
    """A request to review a game. Moves count from 1; None means all, or the server's default.

    The moves are those of `position`, followed by those of `later`; each starts from a new setup.
    `max_visits` applies to each turn; `max_time`, in seconds, to the whole review. A move is a mistake if it
    loses at least `min_points_lost` points or `min_winrate_lost` (0 to 1).
    """

    position: Position
    later: tuple[Position, ...] = ()
    player: Colour | None = None
    first_move: int | None = None
    last_move: int | None = None
    max_visits: int | None = None
    max_time: float | None = None
    min_points_lost: float = 3.0
    min_winrate_lost: float = 0.1
    loss_bounds: tuple[float, ...] = LOSS_BOUNDS
    all_moves: bool = False
    pv_length: int = 10


class _Turn(Wire):
    """The cached part of the engine's answer for one turn."""

    player: Literal["B", "W"]
    winrate: float
    score_lead: float
    visits: int
    best_move: str
    best_pv: list[str]
    difficulty: float | None
    played_best: bool
    played_prior: float
    played_rank: int


class _At(NamedTuple):
    """A turn: index of the history, and number of moves played in it, both from 0."""

    history: int
    turn: int


async def find_mistakes(
    desk: Desk, request: ReviewRequest, report: Report | None = None, *, caller: str = ANONYMOUS
) -> GameReview:
    """Review a game; `report` receives the number of answered turns while the review runs.

    If time runs out or the engine ends, the answered turns are returned with `partial` set, and the other
    turns are in `unanalysed`. If no turn was answered, the failure is raised.

    Raises:
        Invalid: if the request is not valid; an illegal move is named.
        Rejected: if the server drains or is overloaded.
        Unavailable, TimedOut, Broken: if no turn was answered.
    """
    histories = tuple(positions.check(position) for position in (request.position, *request.later))
    review = _Review(desk, request, histories)
    return await desk.answer(
        GameReview,
        "findMistakes",
        histories[0],
        review.parameters(),
        review.run,
        effort=review.effort,
        caller=caller,
        report=report,
        cached=False,
        long=True,
    )


class _Review:
    def __init__(self, desk: Desk, request: ReviewRequest, histories: tuple[Checked, ...]) -> None:
        self._desk = desk
        self._request = request
        self._histories = histories
        self._checked = histories[0]
        self._starts = [0, *itertools.accumulate(len(history.moves) for history in histories)][:-1]
        self._moves = [move for history in histories for move in history.moves]
        self._before = [
            _At(index, turn) for index, history in enumerate(histories) for turn in range(len(history.moves))
        ]
        self._first, self._last = _range(request, len(self._moves))
        self._numbers = [
            number
            for number in range(self._first, self._last + 1)
            if request.player in (None, self._moves[number - 1][0])
        ]
        if not self._numbers:
            raise Invalid(
                "no_moves",
                "the requested player made no move in this range",
                field="player",
                accepted="a player who moved, or another range",
            )
        self._turns = sorted({at for number in self._numbers for at in self._around(number)})
        self._limits, self._seconds = self._find_limits()
        chunk = self._limits.effort(CHUNK_PER_SLOT * desk.katago.max_concurrent)
        self.effort = Effort(chunk.visits, min(chunk.seconds, self._seconds))
        within("minPointsLost", request.min_points_lost, 0, 1000)
        within("minWinrateLost", request.min_winrate_lost, 0, 1)
        within("pvLength", request.pv_length, 1, MAX_PV_LENGTH)
        bounds = request.loss_bounds
        if len(bounds) != len(LOSS_BOUNDS) or not all(
            low < high for low, high in zip((0.0, *bounds), bounds, strict=False)
        ):
            raise Invalid(
                "invalid_thresholds",
                "lossThresholds is not a list of ascending numbers above 0",
                field="lossThresholds",
                accepted=f"{len(LOSS_BOUNDS)} ascending numbers above 0, such as {list(LOSS_BOUNDS)}",
            )
        self._options = options_of(self._limits.visits, self._limits.seconds) | {
            "analysisPVLen": max(1, request.pv_length - 1),
            "includePolicy": True,
        }
        self._results: dict[_At, _Turn] = {}
        self._failed: dict[_At, Failure] = {}
        self._warnings: list[str] = []

    def _find_limits(self) -> tuple[Limits, float]:
        request, katago, turns = self._request, self._desk.katago, len(self._turns)
        if turns > MAX_TURNS:
            raise Invalid(
                "limit_exceeded",
                f"the range has {turns} turns, too many for one review",
                field="lastMove",
                accepted=f"at most {MAX_TURNS} turns: set firstMove and lastMove",
            )
        most = katago.max_review_visits // turns
        if most < 1:
            raise Invalid(
                "limit_exceeded",
                f"{turns} turns need as many visits, and one review may use {katago.max_review_visits}",
                field="lastMove",
                accepted=f"at most {katago.max_review_visits} turns: set firstMove and lastMove",
            )
        turn_limits = limits(self._desk, request.max_visits, None)
        if request.max_visits is None:
            turn_limits = Limits(min(turn_limits.visits, most), turn_limits.seconds)
        within("maxVisits", turn_limits.visits, 1, min(most, katago.max_visits))
        seconds = katago.max_review_time if request.max_time is None else request.max_time
        within("maxTime", seconds, 0.01, katago.max_review_time)
        return turn_limits, seconds

    def parameters(self) -> dict[str, Any]:
        """Everything that the review depends on, as JSON."""
        request = self._request
        return {
            "options": self._options,
            "later": [history.digest for history in self._histories[1:]],
            "turns": self._turns,
            "numbers": self._numbers,
            "seconds": self._seconds,
            "thresholds": [request.min_points_lost, request.min_winrate_lost, *request.loss_bounds],
            "allMoves": request.all_moves,
            "pvLength": request.pv_length,
        }

    async def run(self, claim: Claim, note: Report) -> GameReview:
        """Analyse all uncached turns, chunk by chunk."""
        names = {at: self._name(at) for at in self._turns}
        for start in range(0, len(self._turns), _LOOKUPS):
            batch = self._turns[start : start + _LOOKUPS]
            lookups = (self._desk.lookup(_Turn, names[at]) for at in batch)
            for at, cached_turn in zip(batch, await asyncio.gather(*lookups), strict=True):
                if cached_turn is not None:
                    self._results[at] = cached_turn
        cached = len(self._results)
        await note(cached, len(self._turns))

        async def received(history: int, reply: dict[str, Any]) -> None:
            at = _At(history, reply.get("turnNumber", -1))
            if at not in names or at in self._results:
                return
            try:
                result = self._read(at, reply)
            except Failure as failure:
                self._failed[at] = failure
                return
            self._results[at] = result
            self._desk.metrics.visits.inc(result.visits)
            await note(len(self._results), len(self._turns))
            if result.visits >= self._limits.visits:
                await self._desk.store(names[at], result.model_dump(mode="json", by_alias=True))

        missing = [at for at in self._turns if at not in self._results]
        try:
            async with asyncio.timeout(self._seconds):
                for chunk in self._chunks(missing):
                    async with self._desk.slots.slot(claim):
                        await self._ask(chunk, functools.partial(received, chunk[0].history))
        except TimeoutError:
            late = TimedOut(
                "analysis_timeout",
                f"the review ran out of time after {self._seconds:g} s",
                accepted="lower maxVisits, fewer moves, or the same call again, which continues from here",
                retry_after=1,
            )
            self._fail(missing, late)
        except Failure as failure:
            self._fail(missing, failure)
        if not self._results:
            raise next(iter(self._failed.values()))
        return self._result(cached)

    def _chunks(self, turns: list[_At]) -> Iterator[list[_At]]:
        """Split turns into chunks, each from one history."""
        size = CHUNK_PER_SLOT * self._desk.katago.max_concurrent
        for _, group in itertools.groupby(turns, key=lambda at: at.history):
            of_history = list(group)
            for start in range(0, len(of_history), size):
                yield of_history[start : start + size]

    async def _ask(self, chunk: list[_At], received: Progress) -> None:
        # Send only the moves needed: the engine replays them for every chunk.
        query = self._until(chunk[-1]).query() | self._options
        query |= {"analyzeTurns": [at.turn for at in chunk], "priority": PRIORITY}
        try:
            warnings = await self._desk.search_turns(query, self._limits.seconds, received)
        except Invalid as failure:
            self._fail(chunk, failure)
        else:
            self._warnings += [text for text in warnings if text not in self._warnings]

    def _fail(self, turns: Iterable[_At], failure: Failure) -> None:
        for at in turns:
            if at not in self._results:
                self._failed.setdefault(at, failure)

    def _around(self, number: int) -> tuple[_At, _At]:
        """The turns before and after a move."""
        before = self._before[number - 1]
        return before, before._replace(turn=before.turn + 1)

    def _played(self, at: _At) -> tuple[Colour, str] | None:
        """The move played at a turn; None at the end of a history."""
        moves = self._histories[at.history].moves
        return moves[at.turn] if at.turn < len(moves) else None

    def _until(self, at: _At) -> Checked:
        history = self._histories[at.history]
        return replace(history, moves=history.moves[: at.turn], next_player=None)

    def _name(self, at: _At) -> str:
        """The cache key of one turn's answer."""
        parameters = {
            "options": self._options,
            "played": self._played(at),
            "pvLength": self._request.pv_length,
        }
        return self._desk.key("turn", self._until(at).digest, parameters)

    def _read(self, at: _At, reply: dict[str, Any]) -> _Turn:
        if reply.get("noResults"):
            raise TimedOut("analysis_timeout", "the search of this turn ended before it had a result")
        with readable():
            root = reply["rootInfo"]
            infos = sorted(reply["moveInfos"], key=lambda info: int(info["order"]))
            move = self._played(at)
            played = None if move is None else move[1]
            policy = reply["policy"]
            prior, rank = _prior(policy, played, self._checked)
            if infos:
                best, pv = infos[0]["move"], infos[0]["pv"]
            else:
                # The first visit evaluates the position itself: only the network's likeliest move is known.
                best = _likeliest(policy, self._checked)
                pv = [best]
            return _Turn(
                player=root["currentPlayer"],
                winrate=root["winrate"],
                score_lead=root["scoreLead"],
                visits=root["visits"],
                best_move=best,
                best_pv=pv[: self._request.pv_length],
                difficulty=_difficulty(root, infos),
                played_best=played == best
                or any(info["move"] == played and info.get("isSymmetryOf") == best for info in infos),
                played_prior=prior,
                played_rank=rank,
            )

    def _result(self, cached: int) -> GameReview:
        request, checked = self._request, self._checked
        unanalysed = [self._missing(at) for at in self._turns if at not in self._results]
        moves = []
        for number in self._numbers:
            before, after = (self._results.get(at) for at in self._around(number))
            if before is not None and before.player != self._moves[number - 1][0]:
                unanalysed.append(
                    Unanalysed(
                        turn=number - 1,
                        code="out_of_turn",
                        message=f"{colour_name(before.player)} was to move",
                        moves=[number],
                    )
                )
            elif before is not None and after is not None:
                moves.append(self._judge(number, before, after))
        worst = sorted((move for move in moves if move.mistake), key=lambda move: -move.points_lost)
        doubtful = self._doubtful()
        short = any(turn.visits < self._limits.visits for turn in self._results.values())
        course = [self._results.get(at) for at in self._course()]
        leads = [None if turn is None else round(turn.score_lead, 2) + 0.0 for turn in course]
        winrates = [None if turn is None else round(turn.winrate, 4) for turn in course]
        players: tuple[Colour, ...] = ("B", "W") if request.player is None else (request.player,)
        return GameReview(
            cached=cached == len(self._turns),
            partial=short or any(missing.code != "out_of_turn" for missing in unanalysed),
            warnings=[*self._setup_warnings(), *self._visit_warnings(doubtful), *self._warnings],
            rules=checked.rules_name,
            komi=checked.komi,
            first_move=self._first,
            last_move=self._last,
            visits_per_turn=self._limits.visits,
            turns_analysed=len(self._results),
            turns_cached=cached,
            score_lead=leads[-1],
            winrate=winrates[-1],
            turning_point=self._turning_point(),
            score_leads=leads if request.all_moves else [],
            winrates=winrates if request.all_moves else [],
            players=[_player(player, moves) for player in players],
            mistakes=[move.number for move in worst],
            moves=[move for move in moves if request.all_moves or move.mistake],
            doubtful=doubtful,
            unanalysed=unanalysed,
        )

    def _setup_warnings(self) -> list[str]:
        """The warnings of each history, and where a new history starts."""
        starts = self._starts[1:]
        if not starts:
            return [*self._checked.warnings]
        numbers = ", ".join(str(start) for start in starts[:_SETUPS_LISTED])
        more = len(starts) - _SETUPS_LISTED
        setups = f"{numbers} and {more} more" if more > 0 else numbers
        later = [warning for history in self._histories[1:] for warning in history.warnings]
        return [
            *self._checked.warnings,
            f"stones were set up after move {setups}: later moves are reviewed without those before it",
            *positions.shorten(later),
        ]

    def _missing(self, at: _At) -> Unanalysed:
        failure = self._failed[at]
        return Unanalysed(
            turn=self._starts[at.history] + at.turn,
            code=failure.code,
            message=failure.message,
            moves=[number for number in self._numbers if at in self._around(number)],
        )

    def _loss(self, number: int, before: _Turn, after: _Turn) -> tuple[float, float]:
        """Points and winrate that a move lost by the searches before and after it."""
        sign = 1 if self._moves[number - 1][0] == "B" else -1
        return sign * (before.score_lead - after.score_lead), sign * (before.winrate - after.winrate)

    def _is_mistake(self, points: float, winrate: float) -> bool:
        return points >= self._request.min_points_lost or winrate >= self._request.min_winrate_lost

    def _course(self) -> list[_At]:
        """The turn before the first move of the range, and the turn after each of its moves."""
        numbers = range(self._first, self._last + 1)
        return [self._around(self._first)[0], *(self._around(number)[1] for number in numbers)]

    def _turning_point(self) -> TurningPoint | None:
        """The last move before which the player who is ahead at the end was not."""
        course = [self._results.get(at) for at in self._course()]
        end = course[-1]
        if end is None:
            return None
        sign = 1 if end.score_lead >= 0 else -1
        for index in range(len(course) - 1, 0, -1):
            before, after = course[index - 1], course[index]
            if before is not None and after is not None and sign * before.score_lead < 0:
                number = self._first + index - 1
                player, move = self._moves[number - 1]
                return TurningPoint(
                    number=number,
                    player=player,
                    move=move,
                    points_lost=round(self._loss(number, before, after)[0], 2) + 0.0,
                    better_move=None if before.played_best else before.best_move,
                )
        return None

    def _doubtful(self) -> list[int]:
        """The moves that were the engine's choice, but lost as much as a mistake."""
        numbers = []
        for number in self._numbers:
            before, after = (self._results.get(at) for at in self._around(number))
            if before is None or after is None or not before.played_best:
                continue
            if before.player == self._moves[number - 1][0] and self._is_mistake(
                *self._loss(number, before, after)
            ):
                numbers.append(number)
        return numbers

    def _visit_warnings(self, doubtful: Sequence[int]) -> list[str]:
        if not doubtful:
            return []
        some = ", ".join(map(str, doubtful[:_DOUBTFUL_LISTED]))
        more = ", ..." if len(doubtful) > _DOUBTFUL_LISTED else ""
        return [
            f"{self._limits.visits} visits per turn are too few to judge every move: by the search of the "
            f"next turn, {len(doubtful)} of the engine's own choices lost as much as a mistake "
            f"(moves {some}{more}). They do not count as mistakes. Raise maxVisits, or check a move with "
            "explainMove"
        ]

    def _judge(self, number: int, before: _Turn, after: _Turn) -> MoveReview:
        request = self._request
        colour, move = self._moves[number - 1]
        points, winrate = self._loss(number, before, after)
        if before.played_best:
            # What the next turn's search adds is the error of this one, not the player's.
            points, winrate = min(points, 0.0), min(winrate, 0.0)
        passed = sum(points >= bound for bound in request.loss_bounds)
        better = None if before.played_best else before.best_move
        return MoveReview(
            number=number,
            player=colour,
            move=move,
            points_lost=round(points, 2) + 0.0,
            winrate_lost=round(winrate, 4) + 0.0,
            loss_class=CLASSES[passed],
            mistake=not before.played_best and self._is_mistake(points, winrate),
            phase=phase_of(number, self._checked.width * self._checked.height),
            best=before.played_best,
            prior=round(before.played_prior, 5),
            policy_rank=before.played_rank,
            difficulty=None if before.difficulty is None else round(before.difficulty, 2),
            better_move=better,
            better_pv=before.best_pv if better else [],
            refutation=after.best_pv,
            score_lead=round(after.score_lead, 2) + 0.0,
            winrate=round(after.winrate, 4),
        )


def phase_of(number: int, points: int) -> Phase:
    """The phase of a move by its number, from 1, on a board with `points` points.

    The opening lasts up to 14 % of the points, the middlegame up to 42 %: moves 50 and 151 on 19x19,
    11 and 34 on 9x9. The rest is the endgame. Nothing else matters.
    """
    if number <= OPENING * points:
        return "opening"
    return "middlegame" if number <= MIDDLEGAME * points else "endgame"


def accuracy_of(mean_points_lost: float) -> float:
    """Accuracy from 0 to 100 for a mean loss in points: each point multiplies it by 0.75."""
    return float(100 * ACCURACY_BASE**mean_points_lost)


def _range(request: ReviewRequest, moves: int) -> tuple[int, int]:
    if not moves:
        raise Invalid(
            "no_moves", "the game has no moves", field="position.moves", accepted="a game with moves"
        )
    first = 1 if request.first_move is None else request.first_move
    last = moves if request.last_move is None else request.last_move
    if not 1 <= first <= last <= moves:
        raise Invalid(
            "invalid_range",
            f"moves {first} to {last} are not a range of this game, which has moves 1 to {moves}",
            field="firstMove" if not 1 <= first <= moves else "lastMove",
            accepted=f"1 <= firstMove <= lastMove <= {moves}",
        )
    return first, last


def _prior(policy: Sequence[float], played: str | None, checked: Checked) -> tuple[float, int]:
    if played is None:
        return 0.0, 0
    point = positions.parse_vertex(played, checked.width, checked.height)
    index = positions.policy_index(point, checked.width, checked.height)
    # The policy is -1 for a move that the engine considers illegal, for example under superko.
    return max(0.0, policy[index]), 1 + sum(value > policy[index] for value in policy)


def _difficulty(root: dict[str, Any], infos: Sequence[dict[str, Any]]) -> float | None:
    """The mean loss of the searched moves in points, weighted by their priors."""
    sign = 1 if root["currentPlayer"] == "B" else -1
    weight = sum(info["prior"] for info in infos)
    if not weight:
        return None
    lost = (info["prior"] * max(0.0, sign * (root["scoreLead"] - info["scoreLead"])) for info in infos)
    return float(sum(lost) / weight)


def _likeliest(policy: Sequence[float], checked: Checked) -> str:
    moves: list[Point | None] = [*positions.points_top_down(checked.width, checked.height), None]
    return positions.vertex(moves[policy.index(max(policy))])


def _player(player: Colour, moves: list[MoveReview]) -> PlayerReview:
    own = [move for move in moves if move.player == player]
    mistakes = sorted((move for move in own if move.mistake), key=_cost, reverse=True)
    return PlayerReview(
        player=player,
        overall=_statistics(own),
        phases={phase: _statistics([move for move in own if move.phase == phase]) for phase in PHASES},
        instructive=[move.number for move in mistakes[:_LESSONS]],
    )


def _cost(move: MoveReview) -> float:
    """How much a mistake teaches: points alone would name only moves of decided games."""
    return move.winrate_lost + _WINRATE_OF_A_POINT * move.points_lost


def _statistics(moves: list[MoveReview]) -> Statistics:
    points = [max(0.0, move.points_lost) for move in moves]
    winrates = [max(0.0, move.winrate_lost) for move in moves]
    difficulties = [move.difficulty for move in moves if move.difficulty is not None]
    mean = sum(points) / len(points) if points else None
    return Statistics(
        moves=len(moves),
        mean_points_lost=None if mean is None else round(mean, 3),
        mean_winrate_lost=round(sum(winrates) / len(winrates), 4) if winrates else None,
        accuracy=None if mean is None else round(accuracy_of(mean), 1),
        mean_difficulty=round(sum(difficulties) / len(difficulties), 2) if difficulties else None,
        best_moves=sum(move.best for move in moves),
        mistakes=sum(move.mistake for move in moves),
        classes={name: sum(move.loss_class == name for move in moves) for name in CLASSES},
    )
