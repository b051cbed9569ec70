"""What a tool answers when it cannot do what it was asked: a closed catalogue of codes."""

import math
from dataclasses import dataclass
from typing import Literal

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Status = Literal["ok", "invalid", "rejected", "unavailable", "timeout", "error", "cancelled"]
"""How a call ended, the `status` of `katago_requests_total`.

`invalid` is the caller's mistake; `rejected` is a limit (load, rate, scope, drain);
`unavailable`, `timeout` and `error` are the server's own.
"""


@dataclass(frozen=True)
class Entry:
    """One code of the catalogue.

    `fields` are the arguments that can be at fault, with `[i]` for an index and `*` for a name,
    or ANY_FIELD; none when no argument is. `accepted` says what would do; `retry` says whether and
    when the same call can succeed later.
    """

    status: Status
    meaning: str
    fields: tuple[str, ...]
    accepted: str
    retry: str


ANY_FIELD = "any, by its path"

_NO_RETRY = "no: the same call fails again"
_LATER = "after `retryAfterSeconds`"
_ENGINE = "a call when `getEngineStatus` says ready"

CATALOGUE: dict[str, Entry] = {
    "invalid_rules": Entry(
        "invalid",
        "The rule set is not known, or one of its parts is not.",
        ("position.rules", "position.rules.*"),
        "a name, or the values of a part, that the text lists",
        _NO_RETRY,
    ),
    "invalid_board_size": Entry(
        "invalid",
        "The board cannot have that many lines.",
        ("position.boardXSize", "position.boardYSize", "sgf", "sgfBase64"),
        "an integer from 2 to 19",
        _NO_RETRY,
    ),
    "invalid_komi": Entry(
        "invalid",
        "Komi is no multiple of a half, or beyond reason.",
        ("position.komi",),
        "a multiple of 0.5 from -400 to 400",
        _NO_RETRY,
    ),
    "invalid_stone": Entry(
        "invalid",
        "A stone of the setup is off the board, set up twice, without liberties, or of no colour.",
        ("position.initialStones[i]", "sgf", "sgfBase64"),
        "each point once, groups with a liberty, B or W",
        _NO_RETRY,
    ),
    "invalid_move": Entry(
        "invalid",
        "A move has no colour or no vertex that exists on this board.",
        ("position.moves[i]", "move", "allowMoves[i]", "avoidMoves[i]"),
        'a vertex without the letter I, or "pass"',
        _NO_RETRY,
    ),
    "illegal_move": Entry(
        "invalid",
        "The rules do not allow a move: the point is occupied, it is suicide, it retakes a ko, or under "
        "superko it repeats a position (the text says which). The text names its vertex, and of a move of "
        "the game the index, counted from 0; of allowMoves it names the first.",
        ("position.moves[i]", "move", "allowMoves"),
        "a move that the rules allow",
        _NO_RETRY,
    ),
    "too_many_moves": Entry(
        "invalid", "The game is longer than any game.", ("position.moves",), "at most 2000 moves", _NO_RETRY
    ),
    "invalid_sgf": Entry(
        "invalid",
        "The record is no SGF, or not of a game of Go; the text gives line and column, from 1.",
        ("sgf", "sgfBase64"),
        "a game record in SGF, FF[3] or FF[4]",
        _NO_RETRY,
    ),
    "invalid_variation": Entry(
        "invalid",
        "The record has no such variation.",
        ("variation",),
        "main, or a fork and branch that the text lists",
        _NO_RETRY,
    ),
    "invalid_move_number": Entry(
        "invalid",
        "The line of the record has fewer moves, or is cut short: the text gives place and reason.",
        ("moveNumber",),
        "a number from 0 to the moves of the line",
        _NO_RETRY,
    ),
    "no_moves": Entry(
        "invalid",
        "There is nothing to review: no move of the game is in the range, or by the player, asked for.",
        ("position.moves", "sgf", "sgfBase64", "player"),
        "a game with moves, a range within it, and a player who moved in it",
        _NO_RETRY,
    ),
    "invalid_range": Entry(
        "invalid",
        "The range of moves is empty or lies outside of the game.",
        ("firstMove", "lastMove"),
        "1 <= firstMove <= lastMove <= number of moves",
        _NO_RETRY,
    ),
    "invalid_thresholds": Entry(
        "invalid",
        "The bounds between the classes of loss are not five ascending numbers.",
        ("lossThresholds",),
        "five ascending numbers of points above 0",
        _NO_RETRY,
    ),
    "invalid_region": Entry(
        "invalid",
        "An entry of allowMoves or avoidMoves is no rectangle, or both arguments are given.",
        ("allowMoves[i]", "avoidMoves[i]", "avoidMoves"),
        'vertices, "pass", or rectangles such as "C3:G7", in one of the two arguments',
        _NO_RETRY,
    ),
    "no_human_network": Entry(
        "invalid",
        "humanSLProfile needs a network trained on human games, and this server has none.",
        ("humanSLProfile",),
        "a call without humanSLProfile; or the operator sets katago.humanModelPath",
        _NO_RETRY,
    ),
    "invalid_profile": Entry(
        "invalid",
        "The profile of human play is not one that KataGo knows.",
        ("humanSLProfile",),
        "rank_20k to rank_9d, preaz_20k to preaz_9d, proyear_1800 to proyear_2023",
        _NO_RETRY,
    ),
    "limit_exceeded": Entry(
        "invalid",
        "A number, or the length of a list or of the record, is outside of what this server allows.",
        (
            *("maxVisits", "maxTime", "topMoves", "pvLength", "restrictedDepth", "alternatives"),
            *("minPointsLost", "minWinrateLost", "lastMove", "allowMoves", "avoidMoves", "sgf", "sgfBase64"),
        ),
        "the range that the text gives",
        _NO_RETRY,
    ),
    "invalid_arguments": Entry(
        "invalid",
        "The arguments do not fit the tool's input schema.",
        (ANY_FIELD,),
        "arguments that fit the schema",
        _NO_RETRY,
    ),
    "unknown_tool": Entry("invalid", "There is no such tool.", (), "a tool that the text lists", _NO_RETRY),
    "engine_refused": Entry(
        "invalid",
        "The engine itself refused the query; the text is KataGo's own.",
        (ANY_FIELD,),
        "arguments that the engine takes",
        _NO_RETRY,
    ),
    "overloaded": Entry(
        "rejected",
        "So many analyses wait already; or this one waited `server.maxWaitSeconds` and had no turn.",
        (),
        "fewer requests at a time",
        _LATER,
    ),
    "rate_limited": Entry(
        "rejected", "The token has made too many calls.", (), "fewer calls a minute", _LATER
    ),
    "too_many_sessions": Entry(
        "rejected",
        "The token, or all clients together, have as many sessions open as `server.maxSessionsPerToken` or "
        "`server.maxSessions` allows. It answers no tool but `initialize`, before protocol 2026-07-28, with "
        "HTTP 503, `Retry-After`, and this as `error.data`.",
        (),
        "fewer sessions, each ended with DELETE; or protocol 2026-07-28",
        _LATER,
    ),
    "draining": Entry("rejected", "The server is being taken out of service.", (), "another server", _LATER),
    "forbidden": Entry(
        "rejected",
        "The token lacks the scope that the tool needs.",
        (),
        "a token with the scope `admin`",
        _NO_RETRY,
    ),
    "engine_starting": Entry("unavailable", "The engine is starting.", (), _ENGINE, _LATER),
    "engine_tuning": Entry(
        "unavailable", "The engine tunes itself to a new device, for minutes.", (), _ENGINE, _LATER
    ),
    "engine_hung": Entry(
        "unavailable", "The engine gave no sign of life and is being replaced.", (), _ENGINE, _LATER
    ),
    "engine_backoff": Entry(
        "unavailable", "The engine failed; the server waits before it starts another.", (), _ENGINE, _LATER
    ),
    "engine_config_error": Entry(
        "unavailable",
        "The engine was given something unusable, such as a damaged network; the text is its own reason.",
        (),
        "a call after an operator has repaired it",
        _LATER,
    ),
    "engine_stopped": Entry(
        "unavailable",
        "The engine was stopped on purpose, before or during the search.",
        (),
        "a call after `startEngine`",
        "when somebody starts the engine",
    ),
    "engine_restarted": Entry(
        "unavailable", "The engine ended during the search; another one starts.", (), _ENGINE, _LATER
    ),
    "analysis_timeout": Entry(
        "timeout",
        "The engine gave no answer in time, or none that says enough.",
        (),
        "fewer maxVisits, or another maxTime",
        _LATER,
    ),
    "engine_answer_unreadable": Entry(
        "error",
        "The engine's answer lacks what its protocol promises: a defect, of the engine or the server.",
        (),
        "nothing that a caller could change",
        _LATER,
    ),
}
"""Every code that a failed call can begin with; any other failure is a defect of the server."""


class Details(BaseModel):
    """Why a call failed."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    code: str = Field(description="One of the catalogue of errors.")
    message: str = Field(description="What was wrong.")
    field: str | None = Field(description="The argument at fault, where one is.")
    accepted: str | None = Field(description="What would do.")
    retry_after_seconds: int | None = Field(description="When the same call can succeed; null when never.")


class Failure(ToolError):
    """An anticipated failure of a tool call.

    `code` is of the catalogue; `field` is the argument at fault; `accepted` says what would do;
    `retry_after` is in seconds.

    Raises:
        ValueError: if the catalogue does not know the code, or knows it with another status.
    """

    status: Status = "invalid"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        accepted: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        if code not in CATALOGUE or CATALOGUE[code].status != self.status:
            raise ValueError(f"the catalogue has no code {code!r} with the status {self.status!r}")
        self.code = code
        self.message = message
        self.field = field
        self.accepted = accepted
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))
        text = f"{code}: {message}"
        if field is not None:
            text += f" [{field}]"
        if accepted is not None:
            text += f"; accepted: {accepted}"
        if self.retry_after is not None:
            text += f"; retry in {self.retry_after} s"
        super().__init__(text)

    def details(self) -> dict[str, str | int | None]:
        """The failure as JSON, of the shape of `Details`."""
        details = Details(
            code=self.code,
            message=self.message,
            field=self.field,
            accepted=self.accepted,
            retry_after_seconds=self.retry_after,
        )
        return details.model_dump(by_alias=True)


class Invalid(Failure):
    """The arguments cannot be used as they are."""


class Rejected(Failure):
    """A limit of the server or of the token stands against the call."""

    status = "rejected"


class Unavailable(Failure):
    """The engine is not there to answer."""

    status = "unavailable"


class TimedOut(Failure):
    """The engine did not answer in time."""

    status = "timeout"


class Broken(Failure):
    """The engine answered what it should not have."""

    status = "error"
