"""Reads the arguments of tool calls: accepts other forms that have only one meaning, and explains the rest.

Assistants write arguments in many forms: colours in words, moves without colours, one board size, nulls for
what they leave out, JSON in a string. `normalized` converts what is unambiguous to the documented form.
"""

import difflib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from katago_mcp.errors import Invalid
from katago_mcp.komi import read_komi
from katago_mcp.lines import vertex_of
from katago_mcp.metrics import TOOLS
from katago_mcp.positions import MAX_SIZE, Position
from katago_mcp.rules import read_rules

EXAMPLES: dict[str, Any] = {
    "position": {"boardXSize": 9, "boardYSize": 9, "rules": "chinese", "moves": [["B", "E5"], ["W", "C3"]]},
    "sgf": "(;SZ[9];B[ee];W[cg])",
    "sgfBase64": "KDtTWls5XTtCW2VlXSk=",
    "moveNumber": 1,
    "variation": "main",
    "maxVisits": 200,
    "maxTime": 10,
    "allowMoves": ["D4", "C3:G7"],
    "avoidMoves": ["pass"],
    "player": "B",
    "lossThresholds": [0.5, 1.5, 3, 6, 12],
    "move": "D4",
    "humanSLProfile": "rank_5k",
}
"""A valid value of each argument that a caller may get wrong."""

_OPTIONAL_PARTS: dict[str, Any] = {
    "initialStones": [["B", "G7"], ["W", "C7"]],
    "initialPlayer": "B",
    "komi": 7,
}
"""Valid values of the parts of a position that the example leaves out."""


_GAMES = ("position", "sgf", "sgfBase64")
_BLANK_IS_ABSENT = frozenset({"sgf", "sgfBase64", "humanSLProfile", "variation", "player"})
_BOTH_PLAYERS = frozenset({"both", "all", "any"})
_COLOURS = {"b": "B", "black": "B", "w": "W", "white": "W"}
_POSITION_KEYS = tuple(field.alias or name for name, field in Position.model_fields.items())
_SIZES = ("boardXSize", "boardYSize")
_COLOUR_KEYS = ("color", "colour", "player")
_VERTEX_KEYS = ("vertex", "move", "point", "coord", "coordinate", "position")
_SEPARATORS = re.compile(r"[\s,;]+")
_MOVE = re.compile(
    r"(?:\d{1,4}[.:)]\s*+)?(?:(black|white|[bw])\s*+[:=]?\s*+)?(?:(pass|[a-z]\d{1,2})(?![a-z0-9])|\[((?-i:[a-t]{2})?)\])"
    r"[\s,;]*+",
    re.IGNORECASE,
)
"""A move with or without number and colour: Q16, BQ16, "B: Q16", "1. Q16", or in SGF's notation B[pd]."""

_KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list",
    "tuple": "a list of colour and vertex",
    "model": "an object",
    "dict": "an object",
}
"""What pydantic's error types that start so expected."""


def normalized(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in the documented form. What cannot be converted stays as it is.

    Null and a blank text mean that an argument is absent.
    """
    result = {
        name: value
        for name, value in arguments.items()
        if value is not None and not (value == "" and name in _BLANK_IS_ABSENT)
    }
    # Without a game, the refusal names the argument that the caller passed.
    if not any(name in result for name in _GAMES):
        result |= {name: arguments[name] for name in _GAMES if arguments.get(name) is not None}
    if "position" in result:
        result["position"] = _position(result["position"])
        is_record = "sgf" in result or "sgfBase64" in result
        if is_record and _is_blank(result["position"]):
            # Clients with strict schemas must fill in every argument.
            del result["position"]
    for name in ("allowMoves", "avoidMoves"):
        if isinstance(result.get(name), str) and not result[name].lstrip().startswith("["):
            result[name] = _words(result[name])
    if "player" in result:
        result["player"] = _colour(result["player"])
        if str(result["player"]).strip().lower() in _BOTH_PLAYERS:
            # Without the argument, both are reviewed.
            del result["player"]
    return result


def unknown_argument(tool: str, unknown: Collection[str], accepted: Collection[str]) -> Invalid:
    """The failure for unknown arguments, which the SDK would silently ignore."""
    name = min(unknown)
    return Invalid(
        "invalid_arguments",
        f"{tool} has no argument {name[:40]!r}{_suggestion(name, accepted)}",
        field=name[:40],
        accepted=f"only {', '.join(accepted)}" if accepted else "no arguments",
    )


def unknown_tool(name: str) -> Invalid:
    """The failure for a tool that does not exist."""
    return Invalid(
        "unknown_tool",
        f"this server has no tool with this name{_suggestion(name, TOOLS)}",
        accepted=", ".join(TOOLS),
    )


def explained(error: ValidationError) -> Invalid:
    """The failure for arguments of another form: what is wrong, and a whole example of what is accepted."""
    details = error.errors(include_url=False)
    location = details[0]["loc"]
    return Invalid(
        "invalid_arguments",
        "; ".join(_problem(dict(detail)) for detail in details[:5]),
        field=_path(location),
        accepted=_example(location),
    )


def _renamed(position: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a position under their documented names, if only case or separators differ."""
    by_letters = {_letters(name): name for name in _POSITION_KEYS}
    result = {}
    for name, value in position.items():
        documented = by_letters.get(_letters(name), name)
        result[name if documented in position else documented] = value
    return result


def _position(value: Any) -> Any:
    value = _parsed(value)
    if isinstance(value, list):
        value = {"moves": value}
    if not isinstance(value, dict):
        return value
    result = {name: part for name, part in _renamed(value).items() if part is not None}
    for name in [name for name in result if _letters(name) == "boardsize"]:
        sizes = _sizes(result[name])
        if sizes is not None and all(
            result.get(key, size) == size for key, size in zip(_SIZES, sizes, strict=True)
        ):
            del result[name]
            result |= dict(zip(_SIZES, sizes, strict=True))
    for name, read in (("rules", _rules), ("komi", _komi)):
        if isinstance(result.get(name), str):
            result[name] = read(result[name])
    if "initialPlayer" in result:
        result["initialPlayer"] = _colour(result["initialPlayer"])
    height = result.get(_SIZES[1], MAX_SIZE)
    stones = _moves(_flat(result.get("initialStones")), None, height)
    if stones is not None:
        result["initialStones"] = stones
    moves = _moves(result.get("moves"), _first_player(result), height)
    if moves is not None:
        result["moves"] = moves
    return result


def _parsed(value: Any) -> Any:
    """The value of JSON in a text; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _sizes(value: Any) -> tuple[int, int] | None:
    """Columns and rows of 9, "9", "9x9" or [9, 9]."""
    if isinstance(value, str):
        value = re.split(r"\s*[x\u00d7:]\s*", value.strip().lower())
    parts = value if isinstance(value, list) else [value]
    if len(parts) == 1:
        parts = parts * 2
    try:
        columns, rows = (int(part) for part in parts)
    except (TypeError, ValueError):
        return None
    return columns, rows


def _first_player(position: Mapping[str, Any]) -> str:
    player = position.get("initialPlayer")
    if player in ("B", "W"):
        return str(player)
    stones = position.get("initialStones") or []
    colours = {stone[0] for stone in stones if isinstance(stone, list) and stone}
    return "W" if colours and colours <= {"B"} else "B"


def _rules(text: str) -> Any:
    """Rules that a text names without doubt; other text as it is. A komi would be lost, so it is refused."""
    reading = read_rules(text)
    return reading.rules if reading and reading.certain and "komi" not in text.lower() else text


def _komi(text: str) -> Any:
    """Komi in points that a text names without doubt; other text as it is."""
    points, is_as_written = read_komi(text)
    return points if is_as_written else text


def _flat(stones: Any) -> Any:
    """Stones of {"B": ["D4"], "W": "Q16"} as pairs; any other value as it is."""
    stones = _parsed(stones)
    if not isinstance(stones, dict) or not all(_is_colour(name) for name in stones):
        return stones
    lists = {
        colour: _words(points) if isinstance(points, str) else points for colour, points in stones.items()
    }
    return [
        [colour, point]
        for colour, points in lists.items()
        if points is not None
        for point in (points if isinstance(points, list) else [points])
    ]


def _moves(value: Any, first: str | None, height: Any) -> list[Any] | None:
    """Moves as [colour, vertex]; None if they cannot be read.

    Moves without a colour alternate, from `first` on. Without `first`, each needs a colour; in one text, a
    colour stands for all stones up to the next colour.
    """
    value = _parsed(value)
    is_text = isinstance(value, str)
    if is_text:
        value = _scanned(value, height) or _words(value)
    if not isinstance(value, list):
        return None
    # Colours and vertices in turn, such as one move instead of a list of moves.
    if len(value) % 2 == 0 and any(all(map(_is_colour, value[side::2])) for side in (0, 1)):
        value = [value[index : index + 2] for index in range(0, len(value), 2)]
    result: list[Any] = []
    due = first
    for entry in value:
        move = _move(entry, due, height)
        result.append(entry if move is None else move)
        if move is not None and first is not None:
            due = "W" if move[0] == "B" else "B"
        elif move is not None and is_text:
            due = move[0]
    return result


def _scanned(text: str, height: Any) -> list[list[str]] | None:
    """The moves in a text as [colour, vertex] or [vertex]; None if the text has anything else."""
    moves: list[list[str]] = []
    offset = len(text) - len(text.lstrip(" \t\r\n;"))
    while offset < len(text):
        match = _MOVE.match(text, offset)
        if match is None:
            return None
        colour, point, sgf_point = match.groups()
        if sgf_point is not None and colour and isinstance(height, int):
            point = vertex_of(sgf_point, MAX_SIZE, height)
        if point is None:
            return None
        moves.append([colour, point] if colour else [point])
        offset = match.end()
    return moves


def _move(entry: Any, due: str | None, height: Any) -> list[str] | None:
    """One move as [colour, vertex]; None if it cannot be read."""
    parts: list[Any] = []
    if isinstance(entry, dict):
        colour = next((entry[key] for key in _COLOUR_KEYS if key in entry), due)
        parts = [colour, next((entry[key] for key in _VERTEX_KEYS if key in entry), None)]
        if len(entry) == 1 and _is_colour(*entry):
            parts = [*entry, *entry.values()]
    elif isinstance(entry, str):
        scanned = _scanned(entry, height) or [_words(entry)]
        parts = scanned[0] if len(scanned) == 1 else []
    elif isinstance(entry, list):
        parts = entry
    if len(parts) == 1 and not _is_colour(parts[0]):
        parts = [due, *parts]
    if len(parts) == 2 and _is_colour(parts[1]) and not _is_colour(parts[0]):
        parts = parts[::-1]
    if len(parts) != 2 or not _is_colour(parts[0]) or not isinstance(parts[1], str):
        return None
    return [_colour(parts[0]), parts[1]]


def _is_colour(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in _COLOURS


def _is_blank(position: Any) -> bool:
    """Whether a position has nothing, or states that it has no moves and no stones."""
    if not isinstance(position, dict):
        return False
    stones = position.get("moves"), position.get("initialStones")
    return not position or (stones[0] == [] and not stones[1])


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text) if word]


def _colour(value: Any) -> Any:
    return _COLOURS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _problem(detail: dict[str, Any]) -> str:
    path, kind, value = _path(detail["loc"]), detail["type"], detail["input"]
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        return f"{path}: there is no such key{_suggestion(name, (*_POSITION_KEYS, 'boardSize'))}"
    if kind == "missing":
        return f"{path}: is missing"
    if kind == "literal_error":
        return f"{path}: {_shown(value)} is not one of {detail['ctx']['expected']}"
    if kind in ("too_long", "too_short"):
        limits = detail["ctx"]
        bound = f"most {limits['max_length']}" if kind == "too_long" else f"least {limits['min_length']}"
        return f"{path}: it has {limits['actual_length']} items: at {bound} are accepted"
    expected = next((text for start, text in _KINDS.items() if kind.startswith(start)), None)
    return f"{path}: {_shown(value)} is not {expected}" if expected else f"{path}: {detail['msg']}"


def _shown(value: Any) -> str:
    if isinstance(value, str | int | float):
        return repr(value)[:40]
    return "an object" if isinstance(value, dict) else "a list"


def _example(location: tuple[int | str, ...]) -> str:
    argument, part = (*map(str, location), "", "")[:2]
    arguments = {} if argument in _GAMES else {"position": EXAMPLES["position"]}
    value = EXAMPLES.get(argument)
    if value is None:
        return "arguments that match the tool's input schema"
    if argument == "position" and part in _OPTIONAL_PARTS:
        value = {**value, part: _OPTIONAL_PARTS[part]}
    return f"for example {json.dumps({**arguments, argument: value})}"


def _suggestion(name: str, known: Collection[str]) -> str:
    by_letters = {_letters(entry): entry for entry in known}
    nearest = difflib.get_close_matches(_letters(name), by_letters, n=1)
    return f": did you mean {by_letters[nearest[0]]}?" if nearest else ""


def _letters(name: str) -> str:
    return re.sub(r"[_\-\s]", "", name[:40]).lower()


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
