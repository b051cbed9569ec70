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
from katago_mcp.metrics import TOOLS
from katago_mcp.positions import Position
from katago_mcp.rules import read_notation

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

_GAMES = ("position", "sgf", "sgfBase64")
_BLANK_IS_ABSENT = frozenset({"sgf", "sgfBase64", "humanSLProfile", "variation", "player"})
_COLOURS = {"b": "B", "black": "B", "w": "W", "white": "W"}
_POSITION_KEYS = tuple(field.alias or name for name, field in Position.model_fields.items())
_SIZES = ("boardXSize", "boardYSize")
_COLOUR_KEYS = ("color", "colour", "player")
_VERTEX_KEYS = ("vertex", "move", "point", "coord")
_SEPARATORS = re.compile(r"[\s,;]+")
_KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list",
    "tuple": "a list",
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
    argument = str(location[0]) if location else ""
    return Invalid(
        "invalid_arguments",
        "; ".join(_problem(dict(detail)) for detail in details[:5]),
        field=_path(location),
        accepted=_example(argument),
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
    if isinstance(rules := result.get("rules"), str) and (parts := read_notation(rules)) is not None:
        result["rules"] = parts
    if "initialPlayer" in result:
        result["initialPlayer"] = _colour(result["initialPlayer"])
    stones = _moves(result.get("initialStones"), None)
    if stones is not None:
        result["initialStones"] = stones
    moves = _moves(result.get("moves"), _first_player(result))
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


def _moves(value: Any, first: str | None) -> list[Any] | None:
    """Moves as [colour, vertex]; None if they cannot be read.

    Moves without a colour alternate, from `first` on. Without `first`, each needs a colour.
    """
    value = _parsed(value)
    if isinstance(value, str):
        value = _words(value)
        if len(value) > 1 and all(word.lower() in _COLOURS for word in value[::2]):
            value = [value[index : index + 2] for index in range(0, len(value), 2)]
    if not isinstance(value, list):
        return None
    # One move instead of a list of moves.
    if len(value) == 2 and all(isinstance(part, str) for part in value) and value[0].lower() in _COLOURS:
        value = [value]
    result: list[Any] = []
    due = first
    for entry in value:
        move = _move(entry, due)
        result.append(entry if move is None else move)
        if move is not None and first is not None:
            due = "W" if move[0] == "B" else "B"
    return result


def _move(entry: Any, due: str | None) -> list[str] | None:
    """One move as [colour, vertex]; None if it cannot be read."""
    if isinstance(entry, dict):
        colour = next((entry[key] for key in _COLOUR_KEYS if key in entry), due)
        point = next((entry[key] for key in _VERTEX_KEYS if key in entry), None)
        parts: list[Any] = [colour, point]
    elif isinstance(entry, str):
        words = _words(entry)
        parts = [due, *words] if len(words) == 1 else list(words)
    elif isinstance(entry, list):
        parts = [due, *entry] if len(entry) == 1 and str(entry[0]).lower() not in _COLOURS else entry
    else:
        return None
    if len(parts) != 2:
        return None
    colour_text, vertex = parts
    if not isinstance(colour_text, str) or not isinstance(vertex, str):
        return None
    colour = _COLOURS.get(colour_text.strip().lower())
    return None if colour is None else [colour, vertex]


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
    expected = next((text for start, text in _KINDS.items() if kind.startswith(start)), None)
    return f"{path}: {_shown(value)} is not {expected}" if expected else f"{path}: {detail['msg']}"


def _shown(value: Any) -> str:
    if isinstance(value, str | int | float):
        return repr(value)[:40]
    return "an object" if isinstance(value, dict) else "a list"


def _example(argument: str) -> str:
    arguments = {"position": EXAMPLES["position"]}
    if argument in _GAMES:
        arguments = {}
    value = EXAMPLES.get(argument)
    if value is None:
        return "arguments that match the tool's input schema"
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
