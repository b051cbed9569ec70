"""Validates external JSON, from files or programs, against a declared type.

Hosts have no validation library. This module supports only what our own records use: dataclasses, TypedDicts,
lists, mappings, literals and plain values.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

T = TypeVar("T")

_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}
_LONGEST_SHOWN = 60


class ShapeError(ValueError):
    """A value does not have the declared type. The message names place, value and what is accepted."""


def parsed(content: str | bytes) -> object:
    """Parse a JSON text. Raises ShapeError."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise ShapeError(f"it is not JSON: {error}") from error
    except RecursionError as error:
        raise ShapeError("it has too many objects inside of each other") from error


def record(kind: type[T], value: object, place: str = "") -> T:
    """Build a dataclass from a JSON object that has the dataclass's fields and no others.

    Raises:
        ShapeError: the message names the field.
    """
    hints = typing.get_type_hints(kind)
    declared = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    content = mapping(value, place)
    if surplus := sorted(content.keys() - declared.keys()):
        raise ShapeError(f"{_at(place, surplus[0])} is not a known field")
    required = [
        name
        for name, field in declared.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    _require(content, required, place)
    return kind(**{name: _checked(hints[name], each, _at(place, name)) for name, each in content.items()})


def typed(kind: type[T], value: object, place: str = "") -> T:
    """Return the value itself if it has the type `kind`, such as a TypedDict.

    Undeclared keys are allowed, since a later version may have written them.

    Raises:
        ShapeError: the message names the key.
    """
    checked: T = _checked(kind, value, place)
    return checked


def mapping(value: object, place: str = "") -> Mapping[str, Any]:
    """Return the value if it is a JSON object. Raises ShapeError."""
    if not isinstance(value, Mapping):
        raise ShapeError(_wrong(value, place, "an object"))
    return value


def _checked(kind: Any, value: object, place: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any or kind is object:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(typing.get_args(kind), value, place)
    if origin is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise ShapeError(_wrong(value, place, f"one of {', '.join(map(str, choices))}"))
        return value
    if origin in (typing.Required, typing.NotRequired):
        return _checked(typing.get_args(kind)[0], value, place)
    if typing.is_typeddict(kind):
        return _typed_dict(kind, value, place)
    if dataclasses.is_dataclass(kind):
        return (
            value
            if isinstance(value, typing.cast(type, kind))
            else record(typing.cast(Any, kind), value, place)
        )
    if origin is not None:
        return _collection(origin, typing.get_args(kind), value, place)
    if isinstance(value, bool) and kind is not bool:
        raise ShapeError(_wrong(value, place, _NAMES.get(kind, "something else")))
    if not isinstance(value, (int, float) if kind is float else kind):
        raise ShapeError(_wrong(value, place, _NAMES.get(kind, f"a {kind.__name__}")))
    return value


def _one_of(kinds: Sequence[Any], value: object, place: str) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _checked(kind, value, place)
        except ShapeError as error:
            problems.append(error)
    # If the only alternative is null, the error of the other type is the useful one.
    telling = [error for error, kind in zip(problems, kinds, strict=True) if kind is not type(None)]
    raise telling[0]


def _typed_dict(kind: Any, value: object, place: str) -> Mapping[str, Any]:
    content = mapping(value, place)
    hints = typing.get_type_hints(kind, include_extras=True)
    # With postponed annotations, `__required_keys__` also contains the optional keys.
    optional = {name for name, hint in hints.items() if typing.get_origin(hint) is typing.NotRequired}
    _require(content, sorted(kind.__required_keys__ - optional), place)
    for name, hint in hints.items():
        if name in content:
            _checked(hint, content[name], _at(place, name))
    return content


def _collection(origin: Any, arguments: Sequence[Any], value: object, place: str) -> Any:
    if issubclass(origin, Mapping):
        content = mapping(value, place)
        for name, each in content.items():
            _checked(arguments[-1], each, _at(place, str(name)))
        return content
    if not isinstance(value, (list, tuple)):
        raise ShapeError(_wrong(value, place, "a list"))
    items = [_checked(arguments[0], each, f"{place}[{number}]") for number, each in enumerate(value)]
    return origin(items) if origin in (tuple, frozenset, set) else items


def _require(content: Mapping[str, Any], names: Iterable[str], place: str) -> None:
    for name in names:
        if name not in content:
            raise ShapeError(f"{_at(place, name)} is missing")


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _wrong(value: object, place: str, accepted: str) -> str:
    shown = repr(value) if not isinstance(value, (Mapping, list)) else f"a {type(value).__name__}"
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}..."
    return f"{place or 'the value'} is {shown}, not {accepted}"
