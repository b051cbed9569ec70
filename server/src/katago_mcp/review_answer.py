"""The answer of a review: every move's judgement, each player's statistics, and their text."""

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field

from katago_mcp.analysis import colour_name
from katago_mcp.desk import Result, Wire

_MISSING_LISTED = 5
"""Turns without a result that the summary lists."""

Phase = Literal["opening", "middlegame", "endgame"]
LossClass = Literal["excellent", "good", "inaccuracy", "mistake", "blunder", "disaster"]
PHASES: tuple[Phase, ...] = get_args(Phase)
CLASSES: tuple[LossClass, ...] = get_args(LossClass)


class MoveReview(Wire):
    """One played move, from its player's perspective."""

    number: int = Field(description="Number of the move, from 1.")
    player: Literal["B", "W"] = Field(description="Player of the move.")
    move: str = Field(description='GTP vertex, or "pass".')
    points_lost: float = Field(
        description="Points that its player lost; slightly negative values are noise. At most 0 for the "
        "engine's choice."
    )
    winrate_lost: float = Field(description="Winrate that its player lost, 0 to 1.")
    loss_class: LossClass = Field(
        description="By pointsLost: excellent below 0.5, good below 1.5, inaccuracy below 3, mistake "
        "below 6, blunder below 12, else disaster (or by lossThresholds)."
    )
    mistake: bool = Field(
        description="Whether the loss reaches minPointsLost or minWinrateLost. Never for the engine's choice."
    )
    phase: Phase = Field(description="Phase of the game.")
    best: bool = Field(
        description="Whether it is the engine's choice or a mirror image of it (with one visit: the "
        "network's likeliest move)."
    )
    prior: float = Field(description="Network's probability of the move before search, 0 to 1.")
    policy_rank: int = Field(description="Rank of that probability; 1 is the highest.")
    difficulty: float | None = Field(
        description="Mean points lost by the moves that the engine considered, weighted by the network's "
        "probability; null if there are none."
    )
    better_move: str | None = Field(
        description="The engine's choice if it differs (with one visit: the network's likeliest move)."
    )
    better_pv: list[str] = Field(description="Expected continuation, starting with the better move.")
    refutation: list[str] = Field(description="Expected continuation after the move that was played.")
    score_lead: float = Field(description="Black's lead in points after the move.")
    winrate: float = Field(description="Black's winrate after the move.")

    def lesson(self) -> str:
        """The move, what it lost, the better move and the line that punishes this one, in short."""
        better = f"better {' '.join(self.better_pv[:3])}" if self.better_move else ""
        punished = f"punished by {' '.join(self.refutation[:3])}" if self.refutation else ""
        lost = f"-{max(0.0, self.points_lost):.1f} points"
        return f"{self.number}. {self.move} ({', '.join(filter(None, (lost, better, punished)))})"

    def text(self) -> str:
        """Everything about the move in one line."""
        mark = "mistake, " if self.mistake else ""
        line = (
            f"{self.number}. {self.player} {self.move} ({mark}{self.loss_class}): "
            f"loses {self.points_lost:.1f} points and {self.winrate_lost:.1%}; "
            f"then Black {self.winrate:.1%}, lead {self.score_lead:+.1f}; "
            f"number {self.policy_rank} by network probability ({self.prior:.1%})"
        )
        if self.better_move:
            line += f"; better {' '.join(self.better_pv)}"
        if self.mistake and self.refutation:
            line += f"; punished by {' '.join(self.refutation)}"
        return line


class Statistics(Wire):
    """Quality of a set of moves."""

    moves: int = Field(description="Number of reviewed moves.")
    mean_points_lost: float | None = Field(description="Mean of pointsLost; null without moves.")
    mean_winrate_lost: float | None = Field(description="Mean of winrateLost; null without moves.")
    accuracy: float | None = Field(
        description="100 * 0.75 ** meanPointsLost: 100 without loss, 75 at one point per move, 56 at two."
    )
    mean_difficulty: float | None = Field(
        description="Mean of difficulty, in points: how hard the moves were to find; null without moves."
    )
    best_moves: int = Field(description="Moves that were the engine's choice.")
    mistakes: int = Field(description="Moves that are mistakes.")
    classes: dict[LossClass, int] = Field(description="Number of moves in each loss class.")


class PlayerReview(Wire):
    """How well one player played, in total and in each phase."""

    player: Literal["B", "W"] = Field(description="The player.")
    overall: Statistics = Field(description="All reviewed moves.")
    phases: dict[Phase, Statistics] = Field(description="Moves of each phase.")
    instructive: list[int] = Field(
        description="Numbers of up to three mistakes to learn from, most costly first; one point counts as "
        "much as 2 % of winrate."
    )


class TurningPoint(Wire):
    """The move with which the player who is ahead at the end took the lead for the last time."""

    number: int = Field(description="Number of the move, from 1.")
    player: Literal["B", "W"] = Field(description="Player of the move.")
    move: str = Field(description='GTP vertex, or "pass".')
    points_lost: float = Field(description="Points that its player lost; negative for a gain.")
    better_move: str | None = Field(description="The engine's choice if it differs.")


class Unanalysed(Wire):
    """A turn without a result, and why."""

    turn: int = Field(description="Moves played before it.")
    code: str = Field(description='Error code; or "out_of_turn" if the other colour was to move.')
    message: str = Field(description="Reason.")
    moves: list[int] = Field(description="Numbers of the moves that were not reviewed because of this.")


class GameReview(Result):
    """Review of a game."""

    first_move: int = Field(description="Number of the first move of the range.")
    last_move: int = Field(description="Number of the last move of the range.")
    visits_per_turn: int = Field(description="Requested visits per turn.")
    turns_analysed: int = Field(description="Turns with a result.")
    turns_cached: int = Field(description="Turns from the cache.")
    score_lead: float | None = Field(description="Black's lead in points after lastMove; null if not known.")
    winrate: float | None = Field(description="Black's winrate after lastMove; null if not known.")
    turning_point: TurningPoint | None = Field(
        description="Where the player who is ahead after lastMove took the lead for the last time; null if "
        "that player always led."
    )
    score_leads: list[float | None] = Field(
        description="With allMoves: Black's lead before firstMove and after each move; null if not known."
    )
    winrates: list[float | None] = Field(description="With allMoves: Black's winrates, as scoreLeads.")
    players: list[PlayerReview] = Field(description="Summary for each requested player.")
    mistakes: list[int] = Field(description="Numbers of the moves that are mistakes, worst first.")
    moves: list[MoveReview] = Field(
        description="In the order played: mistakes, or with allMoves all reviewed moves."
    )
    annotated_sgf: str | None = Field(
        default=None, description="The reviewed game as SGF with comments and variations; only if requested."
    )
    doubtful: list[int] = Field(
        description="Numbers of moves that were the engine's choice, but lost as much as a mistake by the "
        "search of the next turn. Visits are too few to judge such positions."
    )
    unanalysed: list[Unanalysed] = Field(description="Turns without a result; empty if complete.")

    def summary(self) -> str:
        """Who is ahead and since when, each player's worst mistakes, and the terms of the review."""
        by_number = {move.number: move for move in self.moves}
        reviewed = sum(player.overall.moves for player in self.players)
        lines = [
            self._course(),
            *(_of_player(player, by_number) for player in self.players),
            f"Moves {self.first_move} to {self.last_move}: {reviewed} reviewed, "
            f"{_mistakes(len(self.mistakes))} ({self.visits_per_turn} visits per turn"
            f"{', not complete' if self.partial else ''}{', cached' if self.cached else ''}). {self.terms()}",
        ]
        lines += [
            f"Turn {missing.turn} has no result: {missing.code}: {missing.message}"
            for missing in self.unanalysed[:_MISSING_LISTED]
        ]
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def details(self) -> list[str]:
        """Each player's phases, every listed move, further turns without a result, the course of the game."""
        lines = [_phases(player) for player in self.players if player.overall.moves]
        lines += [move.text() for move in self.moves]
        lines += [
            f"Turn {missing.turn} has no result: {missing.code}: {missing.message}"
            for missing in self.unanalysed[_MISSING_LISTED:]
        ]
        if self.score_leads:
            leads = " ".join("?" if each is None else f"{each:+.1f}" for each in self.score_leads)
            lines.append(f"Black's lead before move {self.first_move} and after each move: {leads}")
            winrates = " ".join("?" if each is None else f"{100 * each:.0f}" for each in self.winrates)
            lines.append(f"Black's winrate in percent, likewise: {winrates}")
        if self.annotated_sgf:
            lines += ["The reviewed game as SGF:", self.annotated_sgf]
        return lines

    def _course(self) -> str:
        if self.score_lead is None or self.winrate is None:
            return f"Who is ahead after move {self.last_move} is not known: its turn has no result."
        leader, turn = ("Black" if self.score_lead >= 0 else "White"), self.turning_point
        text = (
            f"{leader} is ahead by {abs(self.score_lead):.1f} points after move {self.last_move} "
            f"(Black wins {self.winrate:.1%})"
        )
        if turn is None:
            return f"{text}, and was ahead all the time."
        better = f", better {turn.better_move}" if turn.better_move else ""
        changed = "lost" if turn.points_lost >= 0 else "gained"
        return (
            f"{text}. {leader} took the lead for the last time with move {turn.number}: "
            f"{colour_name(turn.player)} {turn.move} {changed} {abs(turn.points_lost):.1f} points{better}."
        )


def _mistakes(count: int) -> str:
    return f"{count} mistake{'' if count == 1 else 's'}"


def _of_player(player: PlayerReview, by_number: Mapping[int, MoveReview]) -> str:
    overall, name = player.overall, colour_name(player.player)
    if overall.mean_points_lost is None:
        return f"{name}: no move was reviewed."
    text = (
        f"{name}: {overall.best_moves} of {overall.moves} moves are the engine's choice, accuracy "
        f"{overall.accuracy:.1f}, {overall.mean_points_lost:.2f} points lost per move, "
        f"{_mistakes(overall.mistakes)}."
    )
    lessons = "; ".join(by_number[number].lesson() for number in player.instructive)
    return f"{text} To learn from: {lessons}." if lessons else text


def _phases(player: PlayerReview) -> str:
    phases = ", ".join(
        f"{phase} {statistics.mean_points_lost:.2f}"
        for phase, statistics in player.phases.items()
        if statistics.mean_points_lost is not None
    )
    classes = ", ".join(f"{count} {name}" for name, count in player.overall.classes.items() if count)
    return f"{colour_name(player.player)}: points lost per move: {phases}; moves: {classes}"
