"""Reviews of whole games: queries, results, and interrupted reviews."""

import asyncio
import os
import signal
from typing import Any

import pytest

from katago_mcp import graphs, illustrations
from katago_mcp.errors import Failure, Invalid, TimedOut, Unavailable
from katago_mcp.positions import Position
from katago_mcp.review import ReviewRequest, accuracy_of, find_mistakes, phase_of
from katago_mcp.review_answer import GameReview
from rig import Rig, rig, until
from support import CHANCES, PATIENCE, Site

pytestmark = pytest.mark.anyio

MOVES = [("B", "A1"), ("W", "C3"), ("B", "D4"), ("W", "A2")]
LEADS = [0.0, 0.0, 4.0, -3.0, -2.0]
"""Black's A1 loses nothing, White's C3 loses 4 points, Black's D4 7, White's A2 1."""


def game(moves: list[tuple[str, str]] = MOVES, **fields: Any) -> Position:
    return Position(board_x_size=5, board_y_size=5, moves=moves, **fields)


async def review(made: Rig, position: Position | None = None, **fields: Any) -> GameReview:
    fields = {"max_visits": 10, "all_moves": True} | fields
    async with asyncio.timeout(PATIENCE):
        return await find_mistakes(made.analyst, ReviewRequest(position or game(), **fields))


async def refused(site: Site, position: Position | None = None, **fields: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await review(Rig(site, {}), position, **fields)
    return caught.value


async def test_a_game_is_one_query_with_every_turn_once(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        await review(made)
        (query,) = site.queries()
    assert query["analyzeTurns"] == [0, 1, 2, 3, 4]
    assert query["maxVisits"] == 10
    assert query["includePolicy"] is True
    assert query["priority"] < 0
    assert query["overrideSettings"]["reportAnalysisWinratesAs"] == "BLACK"


async def test_losses_are_from_the_players_perspective(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=LEADS)
        result = await review(made)
    assert [(move.number, move.player, move.move) for move in result.moves] == [
        (number, colour, vertex) for number, (colour, vertex) in enumerate(MOVES, start=1)
    ]
    assert [move.points_lost for move in result.moves] == [0.0, 4.0, 7.0, 1.0]
    assert [move.winrate_lost for move in result.moves] == [0.0, 0.04, 0.07, 0.01]
    assert [move.loss_class for move in result.moves] == ["excellent", "mistake", "blunder", "good"]
    assert result.mistakes == [3, 2]
    assert result.partial is False


async def test_better_move_and_rank_of_the_played_move_are_returned(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await review(made, pv_length=2)
    first, second = result.moves[:2]
    assert (first.best, first.better_move, first.better_pv) == (True, None, [])
    assert (second.best, second.better_move, second.better_pv) == (False, "A1", ["A1", "A2"])
    assert (second.policy_rank, second.prior) == (1, round(1 / 26, 5))


async def test_engines_own_choice_is_never_a_mistake_and_lowers_no_accuracy(site: Site) -> None:
    # The engine always chooses A1 and then A2: moves 1 and 4 of the game are its choice.
    played = [("B", "A1"), ("W", "C3"), ("B", "D4"), ("W", "A1"), ("B", "A2")]
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=[0.0, -9.0, -9.0, -9.0, -9.0, -9.0])
        result = await review(made, game([("B", "A1"), ("W", "C3")]))
        mirrored = await review(made, game(played[:2]), max_visits=20)
    first = result.moves[0]
    assert (first.best, first.mistake, first.loss_class) == (True, False, "excellent")
    assert (first.points_lost, first.winrate_lost) == (0, 0)
    assert result.mistakes == []
    assert result.doubtful == mirrored.doubtful == [1]
    assert result.players[0].overall.accuracy == 100
    assert result.players[0].overall.mistakes == 0
    (warning,) = result.warnings
    assert warning.startswith("10 visits per turn are too few to judge every move")
    assert "1 of the engine's own choices lost as much as a mistake (moves 1)" in warning


async def test_engines_choice_that_gains_by_the_next_search_is_not_doubtful(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=[0.0, 9.0, 9.0])
        result = await review(made, game([("B", "A1"), ("W", "C3")]))
    assert result.moves[0].points_lost == -9
    assert result.doubtful == []
    assert result.warnings == []


async def test_refutation_is_the_expected_play_after_the_move(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await review(made, pv_length=2)
    assert [move.refutation for move in result.moves] == [["A1", "A2"]] * 3 + [["A1", "A2"]]


async def test_difficulty_is_the_mean_loss_weighted_by_priors(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        # The fake engine's two moves are equally probable; one gains its player 2 points, one 0.5.
        site.behave(leads=[3.0, -3.0, 1.0, 0.0, 0.0])
        result = await review(made)
    black, white = result.players
    assert [move.difficulty for move in result.moves] == [1.75, 1.75, 0.25, 0.0]
    assert black.overall.mean_difficulty == 1.0
    assert white.phases["opening"].mean_difficulty == 1.75
    assert white.phases["endgame"].mean_difficulty is None


async def test_turns_without_an_answer_leave_a_gap_in_the_picture(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=LEADS, turns={"2": "nothing"})
        result = await review(made)
    assert [move.number for move in result.moves] == [1, 4]
    first, last = (graphs.GraphPoint(move.number, move.score_lead, move.winrate) for move in result.moves)
    gap = (graphs.GraphPoint(2), graphs.GraphPoint(3))
    title = "Moves 1 to 4, 10 visits per turn. Rules chinese, komi 7.5."
    drawn = graphs.graph(graphs.GraphPicture((first, *gap, last), title=title))
    assert illustrations.of_review(result) == drawn


async def test_only_mistakes_are_listed_unless_all_are_requested(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=LEADS)
        result = await review(made, all_moves=False, min_points_lost=5, min_winrate_lost=1)
    assert [move.number for move in result.moves] == [3]
    assert sum(player.overall.moves for player in result.players) == 4


async def test_statistics_are_per_player_and_phase(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=LEADS)
        result = await review(made)
    black, white = result.players
    assert black.overall.mean_points_lost == 3.5
    assert black.overall.accuracy == round(accuracy_of(3.5), 1) == 36.5
    assert white.overall.classes["mistake"] == 1
    assert black.overall.best_moves == 1
    # On 25 points the opening ends with move 3.
    assert [black.phases[phase].moves for phase in ("opening", "middlegame", "endgame")] == [2, 0, 0]
    assert [white.phases[phase].moves for phase in ("opening", "middlegame", "endgame")] == [1, 1, 0]
    assert white.phases["endgame"].accuracy is None
    assert "accuracy 36.5" in result.summary()


async def test_first_lines_say_who_won_where_and_what_to_learn(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=LEADS)
        result = await review(made)
    course, black, white, terms = result.summary().splitlines()
    assert course == (
        "White is ahead by 2.0 points after move 4 (Black wins 46.0%). White took the lead for the last time "
        "with move 3: Black D4 lost 7.0 points, better A1."
    )
    assert black == (
        "Black: 1 of 2 moves are the engine's choice, accuracy 36.5, 3.50 points lost per move, 1 mistake. "
        "To learn from: 3. D4 (-7.0 points, better A1 A2 B2, punished by A1 A2 B2)."
    )
    assert white.startswith("White: 0 of 2 moves are the engine's choice")
    assert "To learn from: 2. C3 (-4.0 points" in white
    assert terms == ("Moves 1 to 4: 4 reviewed, 2 mistakes (10 visits per turn). Rules chinese, komi 7.5.")
    assert (result.score_lead, result.winrate) == (-2.0, 0.46)
    assert result.score_leads == LEADS
    assert len(result.winrates) == 5


async def test_player_who_always_led_has_no_turning_point(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=[1.0, 2.0, 5.0, 1.0, 3.0])
        result = await review(made, all_moves=False)
    assert result.turning_point is None
    assert result.summary().splitlines()[0] == (
        "Black is ahead by 3.0 points after move 4 (Black wins 51.0%), and was ahead all the time."
    )
    assert (result.score_leads, result.winrates) == ([], [])


async def test_end_without_a_result_is_not_known(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=LEADS, turns={"4": "nothing"})
        result = await review(made)
    assert (result.score_lead, result.turning_point) == (None, None)
    assert result.score_leads[-1] is None
    assert "Who is ahead after move 4 is not known" in result.summary()


async def test_lessons_are_the_costliest_mistakes_of_each_player(site: Site) -> None:
    moves = [("BW"[index % 2], f"{column}3") for index, column in enumerate("ABCDE")]
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=[0.0, -4.0, -4.0, -9.0, -9.0, -19.0])
        result = await review(made, game(moves))
    black, white = result.players
    assert black.instructive == [5, 3, 1]
    assert white.instructive == []


async def test_text_alone_has_every_move_that_was_asked_for(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(leads=LEADS)
        result = await review(made)
    short, details = result.text().split("\n\n")
    assert short == result.summary()
    assert [line.split(" ")[0] for line in details.splitlines()[2:6]] == ["1.", "2.", "3.", "4."]
    assert "3. B D4 (mistake, blunder): loses 7.0 points and 7.0%; then Black 45.0%, lead -3.0; " in details
    assert details.splitlines()[-2].endswith("after each move: +0.0 +0.0 +4.0 -3.0 -2.0")


@pytest.mark.parametrize(
    ("number", "points", "phase"),
    [
        (50, 361, "opening"),
        (51, 361, "middlegame"),
        (151, 361, "middlegame"),
        (152, 361, "endgame"),
        (11, 81, "opening"),
        (12, 81, "middlegame"),
        (35, 81, "endgame"),
    ],
)
def test_the_phase_follows_from_number_and_board(number: int, points: int, phase: str) -> None:
    assert phase_of(number, points) == phase


async def test_only_the_turns_of_the_range_and_player_are_searched(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await review(made, first_move=2, last_move=4, player="W")
        (query,) = site.queries()
    assert query["analyzeTurns"] == [1, 2, 3, 4]
    assert [move.number for move in result.moves] == [2, 4]
    assert [player.player for player in result.players] == ["W"]


SET_UP = Position(
    board_x_size=5,
    board_y_size=5,
    initial_stones=[("B", "A1"), ("W", "C3"), ("B", "E5")],
    moves=[("W", "B2"), ("B", "D4")],
)
"""Continues after two moves of `MOVES`, with one more stone on the board."""


async def test_moves_before_and_after_a_setup_are_one_review(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        site.behave(leads=LEADS)
        result = await review(made, game(MOVES[:2]), later=(SET_UP,))
        again = await review(made, game(MOVES[:2]), later=(SET_UP,))
        before, after = site.queries()
    assert [(query["analyzeTurns"], query["moves"]) for query in (before, after)] == [
        ([0, 1, 2], [list(move) for move in MOVES[:2]]),
        ([0, 1, 2], [["W", "B2"], ["B", "D4"]]),
    ]
    assert after["initialStones"] == [["B", "A1"], ["W", "C3"], ["B", "E5"]]
    # White's B2 is reviewed from the board with the extra stone, where the leads start again.
    assert [(move.number, move.player, move.move, move.points_lost) for move in result.moves] == [
        (1, "B", "A1", 0.0),
        (2, "W", "C3", 4.0),
        (3, "W", "B2", 0.0),
        (4, "B", "D4", -4.0),
    ]
    assert (result.first_move, result.last_move, result.turns_analysed) == (1, 4, 6)
    assert (result.partial, result.unanalysed) == (False, [])
    assert [warning for warning in result.warnings if "stones were set up after move 2:" in warning]
    assert again.cached


async def test_range_may_start_in_a_later_history(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await review(made, game(MOVES[:2]), later=(SET_UP,), first_move=4)
        (query,) = site.queries()
    assert query["analyzeTurns"] == [1, 2]
    assert [move.number for move in result.moves] == [4]


async def test_missing_turns_are_numbered_across_histories(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(turns={"2": "nothing"})
        result = await review(made, game(MOVES[:2]), later=(SET_UP,))
    assert [(missing.turn, missing.moves) for missing in result.unanalysed] == [(2, [2]), (4, [4])]


async def test_reviews_that_differ_after_a_setup_are_not_joined(site: Site) -> None:
    other = SET_UP.model_copy(update={"moves": [("W", "B2"), ("B", "E4")]})
    async with rig(site) as made:
        await made.reaches("ready")
        results = await asyncio.gather(
            *(review(made, game(MOVES[:2]), later=(later,)) for later in (SET_UP, other))
        )
    assert [result.moves[-1].move for result in results] == ["D4", "E4"]


async def test_progress_counts_turns(site: Site) -> None:
    reports: list[tuple[int, int]] = []

    async def report(done: int, total: int) -> None:
        reports.append((done, total))

    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=0.1)
        await find_mistakes(made.analyst, ReviewRequest(game(), max_visits=10), report)
    assert {total for _, total in reports} == {5}
    assert len(reports) >= 3
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})


async def test_review_is_cached_turn_by_turn(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        first = await review(made)
        again = await review(made)
        longer = await review(made, game([*MOVES, ("B", "E5")]))
        turns = [query["analyzeTurns"] for query in site.queries()]
    assert (first.cached, again.cached) == (False, True)
    assert again.moves == first.moves
    # The cached last turn of the shorter game does not contain the next move.
    assert turns == [[0, 1, 2, 3, 4], [4, 5]]
    assert longer.turns_cached == 4


async def test_thresholds_do_not_change_the_search(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        await review(made)
        await review(made, min_points_lost=1)
        assert len(site.queries()) == 1


async def test_turn_without_a_result_is_reported_and_the_rest_is_returned(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(turns={"2": "nothing", "4": "odd"})
        result = await review(made)
    assert result.partial
    assert [(missing.turn, missing.code, missing.moves) for missing in result.unanalysed] == [
        (2, "analysis_timeout", [2, 3]),
        (4, "engine_answer_unreadable", [4]),
    ]
    assert [move.number for move in result.moves] == [1]
    assert "Turn 2 has no result" in result.summary()


async def test_finished_turns_are_returned_when_time_runs_out(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        site.behave(turns={"3": "silent"})
        result = await review(made, max_time=1)
        assert result.partial
        assert [move.number for move in result.moves] == [1, 2]
        assert [missing.turn for missing in result.unanalysed] == [3]
        assert result.unanalysed[0].code == "analysis_timeout"
        await until(lambda: bool(site.queries("terminate")))
        site.behave()
        again = await review(made)
    assert (again.partial, again.turns_cached) == (False, 4)
    assert site.queries()[-1]["analyzeTurns"] == [3]


async def test_time_that_is_too_short_for_any_turn_is_a_failure(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="silent")
        with pytest.raises(TimedOut):
            await review(made, max_time=0.2)


async def test_finished_turns_are_returned_when_the_engine_dies(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(turns={"3": "die"})
        result = await review(made)
    assert [move.number for move in result.moves] == [1, 2]
    assert [(missing.turn, missing.code) for missing in result.unanalysed] == [
        (3, "engine_restarted"),
        (4, "engine_restarted"),
    ]


async def test_an_engine_that_dies_before_the_first_turn_is_a_failure(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="silent")
        call = asyncio.create_task(review(made))
        await until(lambda: bool(site.queries()))
        os.kill(made.pid(), signal.SIGKILL)
        with pytest.raises(Unavailable):
            await call


async def test_cancelled_review_ends_its_search_and_keeps_finished_turns_cached(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        site.behave(turns={"3": "silent"})
        call = asyncio.create_task(review(made))
        await until(lambda: made.value("katago_cache_entries") == 4)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: bool(site.queries("terminate")))
        site.behave()
        again = await review(made)
    assert again.turns_cached == 4


async def test_turn_with_fewer_visits_than_requested_is_not_cached(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        site.behave(turns={"1": "hasty"})
        assert (await review(made)).partial
        site.behave()
        assert (await review(made)).turns_cached == 4


@pytest.mark.parametrize(("size", "chances"), CHANCES)
async def test_prior_and_rank_belong_to_the_played_move_and_not_to_a_mirror_image(
    site: Site, size: tuple[int, int], chances: dict[str, float]
) -> None:
    moves = [("BW"[index % 2], move) for index, move in enumerate(chances)]
    played = Position(board_x_size=size[0], board_y_size=size[1], moves=moves)
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(policy=chances)
        result = await review(made, played)
        likeliest = await review(made, played, max_visits=1)
    assert {move.move: move.prior for move in result.moves} == chances
    assert [move.policy_rank for move in result.moves] == [*range(1, len(chances) + 1)]
    assert {move.better_move for move in likeliest.moves[1:]} == {next(iter(chances))}
    assert likeliest.moves[0].best


async def test_with_one_visit_the_better_move_is_the_networks_likeliest(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await review(made, game([("B", "A5"), ("W", "C3")]), max_visits=1)
    # For the fake network, all moves are equally likely; the first one is the upper left corner.
    assert [(move.best, move.better_move, move.better_pv) for move in result.moves] == [
        (True, None, []),
        (False, "A5", ["A5"]),
    ]
    assert result.partial is False


async def test_move_out_of_turn_is_reported_and_not_reviewed(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await review(made, game([("B", "A1"), ("B", "C3"), ("W", "D4")]))
    assert [move.number for move in result.moves] == [1, 3]
    assert [(missing.code, missing.moves) for missing in result.unanalysed] == [("out_of_turn", [2])]
    assert result.partial is False


async def test_an_illegal_move_is_named_by_number_and_vertex(site: Site) -> None:
    failure = await refused(site, game([("B", "C3"), ("W", "D4"), ("B", "C3"), ("W", "C3")]))
    assert (failure.code, failure.field) == ("illegal_move", "position.moves[2]")
    assert "move 3 (B C3)" in failure.message
    assert site.queries() == []


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"first_move": 0}, "invalid_range", "firstMove"),
        ({"first_move": 5}, "invalid_range", "firstMove"),
        ({"last_move": 5}, "invalid_range", "lastMove"),
        ({"first_move": 3, "last_move": 2}, "invalid_range", "lastMove"),
        ({"first_move": 1, "last_move": 1, "player": "W"}, "no_moves", "player"),
        ({"loss_bounds": (1.0, 2.0)}, "invalid_thresholds", "lossThresholds"),
        ({"loss_bounds": (1.0, 2.0, 3.0, 3.0, 4.0)}, "invalid_thresholds", "lossThresholds"),
        ({"loss_bounds": (1.0, 2.0, float("nan"), 3.0, 4.0)}, "invalid_thresholds", "lossThresholds"),
        ({"min_points_lost": float("nan")}, "limit_exceeded", "minPointsLost"),
        ({"min_winrate_lost": 2}, "limit_exceeded", "minWinrateLost"),
        ({"max_visits": 1001}, "limit_exceeded", "maxVisits"),
        ({"max_time": 901}, "limit_exceeded", "maxTime"),
        ({"pv_length": 0}, "limit_exceeded", "pvLength"),
    ],
)
async def test_invalid_review_is_rejected_with_its_field(
    site: Site, fields: dict[str, Any], code: str, field: str
) -> None:
    failure = await refused(site, **fields)
    assert (failure.code, failure.field) == (code, field)
    assert failure.accepted


async def test_a_game_without_moves_is_refused(site: Site) -> None:
    assert (await refused(site, game([]))).code == "no_moves"


async def test_total_visits_are_limited(site: Site) -> None:
    site.write(katago={"maxReviewVisits": 50})
    failure = await refused(site, max_visits=11)
    assert (failure.field, failure.accepted) == ("maxVisits", "1 to 10 on this server")


async def test_default_visits_are_lowered_to_the_limit(site: Site) -> None:
    site.write(katago={"maxReviewVisits": 50})
    async with rig(site) as made:
        await made.reaches("ready")
        assert (await review(made, max_visits=None)).visits_per_turn == 10


@pytest.mark.parametrize(("moves", "bound"), [(722, 200_000), (4, 4)])
async def test_turns_of_a_review_are_limited(site: Site, moves: int, bound: int) -> None:
    site.write(katago={"maxReviewVisits": bound})
    failure = await refused(site, game([("BW"[index % 2], "pass") for index in range(moves)]))
    assert isinstance(failure, Invalid)
    assert (failure.code, failure.field) == ("limit_exceeded", "lastMove")
