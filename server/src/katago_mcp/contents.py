"""What a record says about its games: players, result, moves, variations, and the games of a collection."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from katago_mcp import sgf
from katago_mcp.errors import Invalid
from katago_mcp.gameinfo import Player
from katago_mcp.sgf import Record

MAX_LISTED = 100
"""Maximum number of games, and of variations, in a list."""

_MAX_TEXT = 120


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class GameInformation(_Wire):
    """What the record says about a game. Texts are as written; null if the record does not say."""

    number: int = Field(description="Number of the game in the file, from 1.")
    games: int = Field(description="Number of games in the file.")
    black: str | None = Field(description="Black's name.")
    black_rank: str | None = Field(description="Black's rank.")
    white: str | None = Field(description="White's name.")
    white_rank: str | None = Field(description="White's rank.")
    result: str | None = Field(description="Result, such as B+3.5 or W+R.")
    date: str | None = Field(description="Date.")
    event: str | None = Field(description="Event.")
    place: str | None = Field(description="Place.")
    rules: str | None = Field(description="Rules.")
    handicap: int = Field(description="Handicap stones; 0 in an even game.")
    komi: float | None = Field(description="Komi in points.")
    board: str = Field(description="Columns x rows.")
    moves: int = Field(description="Moves of the main line.")
    variations: int = Field(description="Variations, at most 100; readRecord lists them.")

    @classmethod
    def of(cls, record: Record, number: int = 1) -> Self:
        """The information about game `number` of a file."""
        return cls(
            number=number,
            games=record.tree.games,
            black=_shortened(record.black.name),
            black_rank=_shortened(record.black.rank),
            white=_shortened(record.white.name),
            white_rank=_shortened(record.white.rank),
            result=_shortened(record.result),
            date=_shortened(record.date),
            event=_shortened(record.event),
            place=_shortened(record.place),
            rules=_shortened(record.rules_text),
            handicap=record.handicap,
            komi=record.komi,
            board=f"{record.width}x{record.height}",
            moves=_moves(record),
            variations=len(record.variations(MAX_LISTED)),
        )

    def summary(self) -> str:
        """The information in one line."""
        facts = [
            f"{_player(Player(self.black, self.black_rank))} (Black) - "
            f"{_player(Player(self.white, self.white_rank))} (White)",
            f"result {self.result}" if self.result else "no result",
            *(text for text in (self.event, self.place, self.date) if text),
            f"handicap {self.handicap}" if self.handicap else "",
            f"komi {self.komi:g}" if self.komi is not None else "",
            f"rules {self.rules}" if self.rules else "",
            self.board,
            f"{self.moves} moves",
            f"{self.variations} variations" if self.variations else "",
        ]
        which = f"Game {self.number} of {self.games}" if self.games > 1 else "Game"
        return f"{which}: {', '.join(fact for fact in facts if fact)}."


class GameEntry(_Wire):
    """A game of the file."""

    number: int = Field(description="The argument gameNumber.")
    title: str = Field(description="Players, result, event and date, or why it cannot be read.")
    moves: int = Field(description="Moves of its main line.")


class VariationEntry(_Wire):
    """A line that branches off another one."""

    variation: str = Field(description="The argument variation.")
    after_move: int = Field(description="Moves before it.")
    first_move: str | None = Field(description="Its first move, such as W Q4.")
    moves: int = Field(description="Its moves.")
    comment: str | None = Field(description="Start of the comment there.")


class RecordContents(_Wire):
    """The contents of a record."""

    game: GameInformation = Field(description="The chosen game.")
    game_list: list[GameEntry] = Field(description="Games of the file, at most 100.")
    variation_list: list[VariationEntry] = Field(description="Variations of the game, at most 100.")
    partial: bool = Field(description="Whether parts of the game could not be read; warnings name them.")
    warnings: list[str] = Field(description="Assumptions, and what could not be read.")

    def summary(self) -> str:
        """The contents as text."""
        lines = [self.game.summary()]
        if len(self.game_list) > 1:
            lines.append("Games (gameNumber: title, moves):")
            lines += [f"{game.number}: {game.title}, {game.moves}" for game in self.game_list]
        if self.variation_list:
            lines.append("Variations (variation: after move, first move, moves):")
            lines += [
                f"{entry.variation}: {entry.after_move}, {entry.first_move or 'no move'}, {entry.moves}"
                + (f": {entry.comment}" if entry.comment else "")
                for entry in self.variation_list
            ]
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def read_contents(data: str | bytes, number: int | None = None) -> RecordContents:
    """Read what a file contains, and the information about one of its games, by default the first.

    Raises as `sgf.read` does.
    """
    record = sgf.read(data, number=number)
    line = record.line()
    return RecordContents(
        game=GameInformation.of(record, number or 1),
        game_list=[_entry(at, game) for at, game in enumerate(sgf.read_all(data)[:MAX_LISTED], 1)],
        variation_list=[
            VariationEntry(
                variation=variation.name,
                after_move=variation.after_move,
                first_move=variation.first_move,
                moves=variation.moves,
                comment=_shortened(variation.comment),
            )
            for variation in record.variations(MAX_LISTED)
        ],
        partial=line.is_partial(),
        warnings=[*record.warnings, *line.warnings],
    )


def _entry(number: int, game: Record | Invalid) -> GameEntry:
    if isinstance(game, Invalid):
        return GameEntry(number=number, title=f"cannot be read: {game.message}", moves=0)
    facts = [f"{_player(game.black)} - {_player(game.white)}", game.result, game.event, game.date]
    title = ", ".join(text for text in (_shortened(fact) for fact in facts) if text)
    return GameEntry(number=number, title=title, moves=_moves(game))


def _moves(record: Record) -> int:
    """The number of moves on the main line, playable or not."""
    node = record.nodes[0]
    while node.children:
        node = record.nodes[node.children[0]]
    return node.moves


def _player(player: Player) -> str:
    return " ".join(text for text in (player.name or "?", player.rank) if text)


def _shortened(text: str | None) -> str | None:
    if text is None:
        return None
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[:_MAX_TEXT]}..."
