"""The errors of the tools: a closed catalogue of codes."""

import math
from dataclasses import dataclass
from typing import Literal

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Status = Literal["ok", "invalid", "rejected", "unavailable", "timeout", "error", "cancelled"]
"""How a call ended, the `status` of `katago_requests_total`.

`invalid`: the caller's mistake. `rejected`: a limit (load, rate, scope, drain).
`unavailable`, `timeout` and `error`: failures of the server or its engine.
"""


@dataclass(frozen=True)
class Entry:
    """One code of the catalogue.

    `fields` are the arguments that can cause the error, with `[i]` for an index and `*` for a name,
    or ANY_FIELD; empty if no argument can. `accepted` states what the server accepts instead. `retry`
    states whether and when the same call can succeed.
    """

    status: Status
    meaning: str
    fields: tuple[str, ...]
    accepted: str
    retry: str


ANY_FIELD = "any, as a path"

_NO_RETRY = "no: the same call fails again"
_LATER = "after `retryAfterSeconds`"
_ENGINE = "a call when `getEngineStatus` reports `ready`"

CATALOGUE: dict[str, Entry] = {
    "invalid_rules": Entry(
        "invalid",
        "The rule set, or one of its parts, is unknown.",
        ("position.rules", "position.rules.*"),
        "a rule set or value that the text lists",
        _NO_RETRY,
    ),
    "invalid_board_size": Entry(
        "invalid",
        "The board size is out of range.",
        ("position.boardXSize", "position.boardYSize", "sgf", "sgfBase64"),
        "an integer from 2 to 19",
        _NO_RETRY,
    ),
    "invalid_komi": Entry(
        "invalid",
        "Komi is not a multiple of 0.5, or out of range.",
        ("position.komi",),
        "a multiple of 0.5 from -400 to 400",
        _NO_RETRY,
    ),
    "invalid_stone": Entry(
        "invalid",
        "A setup stone is off the board, duplicated, without liberties, or has no valid colour.",
        ("position.initialStones[i]", "sgf", "sgfBase64"),
        "each point once, groups with a liberty, B or W",
        _NO_RETRY,
    ),
    "invalid_move": Entry(
        "invalid",
        "A move has no valid colour, or its vertex does not exist on this board.",
        ("position.moves[i]", "move", "allowMoves[i]", "avoidMoves[i]"),
        'a vertex without the letter I, or "pass"',
        _NO_RETRY,
    ),
    "illegal_move": Entry(
        "invalid",
        "Illegal move: occupied point, suicide, ko or superko. The text names its vertex; for a game move, "
        "its number from 1.",
        ("position.moves[i]", "move", "allowMoves"),
        "a legal move",
        _NO_RETRY,
    ),
    "too_many_moves": Entry(
        "invalid", "The game has too many moves.", ("position.moves",), "at most 2000 moves", _NO_RETRY
    ),
    "invalid_sgf": Entry(
        "invalid",
        "The record is not SGF, is not a game of Go, or no move can be read. The text names line and column.",
        ("sgf", "sgfBase64"),
        "a game record in SGF, FF[3] or FF[4]",
        _NO_RETRY,
    ),
    "invalid_variation": Entry(
        "invalid",
        "The record does not have this variation.",
        ("variation",),
        "`main`, or a fork and branch that the text lists",
        _NO_RETRY,
    ),
    "invalid_game_number": Entry(
        "invalid",
        "The record has fewer games.",
        ("gameNumber",),
        "1 to the number of games",
        _NO_RETRY,
    ),
    "invalid_move_number": Entry(
        "invalid",
        "The line has fewer moves, or could not be read completely. The text names place and reason.",
        ("moveNumber",),
        "0 to the number of moves of the line",
        _NO_RETRY,
    ),
    "no_moves": Entry(
        "invalid",
        "There is nothing to review: no move matches the requested range and player.",
        ("position.moves", "sgf", "sgfBase64", "player"),
        "a game with moves in this range by this player",
        _NO_RETRY,
    ),
    "invalid_range": Entry(
        "invalid",
        "The range of moves is empty, or not within the game.",
        ("firstMove", "lastMove"),
        "1 <= firstMove <= lastMove <= number of moves",
        _NO_RETRY,
    ),
    "invalid_thresholds": Entry(
        "invalid",
        "The thresholds of the loss classes are not five ascending numbers.",
        ("lossThresholds",),
        "five ascending numbers of points above 0",
        _NO_RETRY,
    ),
    "invalid_region": Entry(
        "invalid",
        "An entry of allowMoves or avoidMoves is not a valid rectangle, or both are set.",
        ("allowMoves[i]", "avoidMoves[i]", "avoidMoves"),
        'vertices, "pass", or rectangles such as "C3:G7", in only one argument',
        _NO_RETRY,
    ),
    "no_human_network": Entry(
        "invalid",
        "This server has no network trained on human games, which humanSLProfile needs.",
        ("humanSLProfile",),
        "a call without humanSLProfile; an operator can set `katago.humanModelPath`",
        _NO_RETRY,
    ),
    "invalid_profile": Entry(
        "invalid",
        "KataGo does not know this profile of human play.",
        ("humanSLProfile",),
        "rank_20k to rank_9d, preaz_20k to preaz_9d, proyear_1800 to proyear_2023",
        _NO_RETRY,
    ),
    "limit_exceeded": Entry(
        "invalid",
        "A number, a list's length or the record's size exceeds a limit of this server.",
        (
            *("maxVisits", "maxTime", "topMoves", "pvLength", "restrictedDepth", "alternatives"),
            *("minPointsLost", "minWinrateLost", "lastMove", "allowMoves", "avoidMoves", "sgf", "sgfBase64"),
        ),
        "the range that the text names",
        _NO_RETRY,
    ),
    "invalid_arguments": Entry(
        "invalid",
        "The arguments do not match the tool's input schema.",
        (ANY_FIELD,),
        "arguments that match the schema",
        _NO_RETRY,
    ),
    "unknown_tool": Entry(
        "invalid", "The server has no tool with this name.", (), "a tool that the text lists", _NO_RETRY
    ),
    "engine_refused": Entry(
        "invalid",
        "The engine rejected the query. The text is KataGo's own.",
        (ANY_FIELD,),
        "arguments that the engine accepts",
        _NO_RETRY,
    ),
    "overloaded": Entry(
        "rejected",
        "Too many analyses are waiting, or this one waited `server.maxWaitSeconds` without a free slot.",
        (),
        "fewer concurrent requests",
        _LATER,
    ),
    "rate_limited": Entry(
        "rejected", "The token has made too many calls.", (), "fewer calls per minute", _LATER
    ),
    "too_many_sessions": Entry(
        "rejected",
        "`server.maxSessionsPerToken` or `server.maxSessions` is reached. HTTP 503 with `error.data` for "
        "`initialize`.",
        (),
        "fewer sessions: end each with DELETE; or protocol 2026-07-28",
        _LATER,
    ),
    "draining": Entry(
        "rejected",
        "The server is shutting down, or an operator is draining it.",
        (),
        "another server",
        _LATER,
    ),
    "forbidden": Entry(
        "rejected",
        "The token lacks the scope that the tool needs.",
        (),
        "a token with the scope `admin`",
        _NO_RETRY,
    ),
    "engine_starting": Entry("unavailable", "The engine is starting.", (), _ENGINE, _LATER),
    "engine_tuning": Entry(
        "unavailable",
        "The engine is tuning itself for a new device. This takes minutes.",
        (),
        _ENGINE,
        _LATER,
    ),
    "engine_hung": Entry(
        "unavailable", "The engine stopped responding. The server is replacing it.", (), _ENGINE, _LATER
    ),
    "engine_backoff": Entry(
        "unavailable",
        "The engine failed. The server waits before it restarts the engine.",
        (),
        _ENGINE,
        _LATER,
    ),
    "engine_config_error": Entry(
        "unavailable",
        "The engine cannot use its files, for example a damaged network. The text is its reason.",
        (),
        "a call after an operator has fixed the files",
        _LATER,
    ),
    "engine_stopped": Entry(
        "unavailable",
        "An operator stopped the engine, before or during the search.",
        (),
        "a call after `startEngine`",
        "after `startEngine`",
    ),
    "engine_restarted": Entry(
        "unavailable", "The engine ended during the search. The server restarts it.", (), _ENGINE, _LATER
    ),
    "analysis_timeout": Entry(
        "timeout",
        "The engine gave no usable answer in time.",
        (),
        "lower maxVisits, or a maxTime as the text suggests",
        _LATER,
    ),
    "engine_answer_unreadable": Entry(
        "error",
        "The engine's answer lacks required data. This is a bug of the engine or the server.",
        (),
        "nothing that a caller can change; report it to the operator",
        _LATER,
    ),
}
"""Every error code of a failed call. Any other failure is a bug of the server."""


class Details(BaseModel):
    """Why a call failed."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    code: str = Field(description="Error code.")
    message: str = Field(description="What is wrong.")
    field: str | None = Field(description="The argument that caused the error, if any.")
    accepted: str | None = Field(description="What the server accepts instead.")
    retry_after_seconds: int | None = Field(description="When the same call can succeed; null if never.")


class Failure(ToolError):
    """An expected failure of a tool call.

    `code` is a key of the catalogue. `field` is the argument that caused the failure. `accepted` states
    what the server accepts instead. `retry_after` is in seconds.

    Raises:
        ValueError: if the catalogue lacks the code, or has it with another status.
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
        """The failure as JSON, as defined by `Details`."""
        details = Details(
            code=self.code,
            message=self.message,
            field=self.field,
            accepted=self.accepted,
            retry_after_seconds=self.retry_after,
        )
        return details.model_dump(by_alias=True)


class Invalid(Failure):
    """The arguments are not valid."""


class Rejected(Failure):
    """A limit of the server or of the token rejects the call."""

    status = "rejected"


class Unavailable(Failure):
    """The engine is not available."""

    status = "unavailable"


class TimedOut(Failure):
    """The engine did not answer in time."""

    status = "timeout"


class Broken(Failure):
    """The engine's answer is not usable."""

    status = "error"
