"""The strings of JSON with their places: what their keys and their positions in lists say about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import secret_arguments
from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import (
    holds_names,
    is_container,
    is_secret_name,
    is_setting,
    names_next,
)

_OBJECT_START, _LIST_START, _LIST_CLOSE, _COMMA, _COLON = "{[],:"
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^"{}\[\]:,\s]+')


@dataclass
class Context:
    """Where a string of JSON is. `secret`: its key says that it is a secret. `span`: a part of it is one."""

    path: tuple[str, ...]
    name: str
    secret: bool
    span: tuple[int, int] | None = None


@dataclass
class _Level:
    kind: str
    name: str
    secret: bool
    names: bool = False
    key: str = ""


def strings(text: str) -> Iterator[tuple[int, int, str, Context]]:
    """The strings of valid JSON except keys: start, end, literal and context."""
    levels: list[_Level] = [_Level("", "", False)]
    tokens = [(match.start(), match.end(), match[0]) for match in _JSON_TOKEN.finditer(text)]
    secrets, named = _positions(tokens), _named(tokens)
    for index, (start, end, token) in enumerate(tokens):
        level = levels[-1]
        if token in ("{", "["):
            name = level.key if level.kind == "{" else level.name
            below = is_container(name) or (token == _LIST_START and is_secret_name(name))
            names = token == _OBJECT_START and holds_names(name)
            levels.append(_Level(token, name, below or (level.secret and token == _LIST_START), names))
        elif token in ("}", "]"):
            levels.pop()
        elif token not in (",", ":"):
            if level.kind == "{" and index + 1 < len(tokens) and tokens[index + 1][2] == ":":
                level.key = str(json.loads(token))
                continue
            key = level.key if level.kind == "{" else level.name
            secret = level.secret or index in named or (level.kind == "{" and is_secret_name(key))
            if level.names and token[0] == '"' and not is_setting(key):
                secret = True
            path = (level.key,) if len(levels) == 2 and level.kind == "{" else ()
            yield start, end, token, Context(path, key, secret, secrets.get(index))


def _named(tokens: Sequence[tuple[int, int, str]]) -> set[int]:
    """The values of objects that name a secret, such as `{"value": "X", "name": "DB_PASSWORD"}`."""
    secrets: set[int] = set()
    levels: list[tuple[list[str], list[int]]] = []
    for index, (_, _, token) in enumerate(tokens):
        if token in ("{", "["):
            levels.append(([], []))
        elif token in ("}", "]"):
            names, values = levels.pop()
            if any(map(is_secret_name, names)):
                secrets.update(values)
        elif token == _COLON and tokens[index + 1][2][0] == '"' and levels:
            key = str(json.loads(tokens[index - 1][2])).lower()
            if key in ("name", "key", "id", "field", "variable"):
                levels[-1][0].append(str(json.loads(tokens[index + 1][2])))
            elif key in ("value", "val", "content", "data"):
                levels[-1][1].append(index + 1)
    return secrets


def _positions(tokens: Sequence[tuple[int, int, str]]) -> dict[int, tuple[int, int]]:
    """The strings with secrets by their position in a list: arguments, pairs of name and value; and where."""
    secrets: dict[int, tuple[int, int]] = {}
    run: list[int] = []
    for index, (_, _, token) in enumerate(tokens):
        if token[0] == '"':
            run.append(index)
        elif token != _COMMA:
            if len(run) > 1 and token == _LIST_CLOSE:
                words = [str(json.loads(tokens[each][2])) for each in run]
                secrets |= {run[at]: (start, end) for at, start, end in secret_arguments.spans(words)}
                if len(run) == 2 and names_next(words[0]):
                    secrets[run[1]] = (0, len(words[1]))
            run = []
    return secrets


def parsed(text: str) -> Any:
    """A parsed object or list; None for anything else."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def embedded(line: str) -> list[tuple[int, int]]:
    """Where JSON objects are after other text in a line."""
    pieces: list[tuple[int, int]] = []
    decoder = json.JSONDecoder()
    at = line.find('{"')
    while at > 0:
        try:
            _, end = decoder.raw_decode(line, at)
        except (ValueError, RecursionError):
            break
        pieces.append((at, end))
        at = line.find('{"', end)
    return pieces
