"""Values of JSON from outside, each checked: an error names place, value and what is accepted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T", str, int, float, bool)
C = TypeVar("C", bound=str)

_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_SHOWN = 60


class MalformedError(ValueError):
    """JSON from outside is not what it must be; the message says where, what it is and what is accepted."""


class _Required:
    """No default: the key must be there."""


REQUIRED: Final = _Required()


@dataclass(frozen=True)
class Fields:
    """The keys of a JSON object; `place` is where it comes from, such as a path."""

    place: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, value: object, place: str) -> Fields:
        """Those of a value that must be an object. Raises MalformedError."""
        if not isinstance(value, Mapping):
            raise MalformedError(f"{place} is {_shown(value)}, not an object")
        return cls(place, value)

    @classmethod
    def parse(cls, content: str | bytes, place: str) -> Fields:
        """Those of a JSON text. Raises MalformedError."""
        try:
            value = json.loads(content)
        except ValueError as error:
            raise MalformedError(f"{place} is not JSON: {error}") from error
        return cls.of(value, place)

    @classmethod
    def read(cls, path: Path) -> Fields:
        """Those of a file. Raises OSError, MalformedError."""
        return cls.parse(path.read_bytes(), str(path))

    def get(self, name: str, kind: type[T], default: T | _Required = REQUIRED) -> T:
        """A value of this kind; `default` where the key is missing. Raises MalformedError."""
        if name not in self.values:
            if isinstance(default, _Required):
                raise MalformedError(f"{self.place} has no {name}; it must be {_KINDS[kind]}")
            return default
        value = _as(self.values[name], kind)
        if value is None:
            raise self.wrong(name, _KINDS[kind])
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """A value of this kind; None where it is null or missing. Raises MalformedError."""
        return None if self.values.get(name) is None else self.get(name, kind)

    def number(self, name: str) -> int | float:
        """A number as it is written, whole or not. Raises MalformedError."""
        value = self.get(name, float)
        return int(value) if isinstance(self.values[name], int) else value

    def choice(self, name: str, accepted: Sequence[C], default: C | _Required = REQUIRED) -> C:
        """A text that is one of those; `default` where the key is missing. Raises MalformedError."""
        if name not in self.values and not isinstance(default, _Required):
            return default
        for each in accepted:
            if self.values.get(name) == each:
                return each
        raise self.wrong(name, f"one of {', '.join(accepted)}")

    def section(self, name: str) -> Fields:
        """The object below a key. Raises MalformedError."""
        return Fields.of(self.values.get(name), f"{self.place}: {name}")

    def sections(self, name: str) -> list[Fields]:
        """The objects of a list below a key. Raises MalformedError."""
        return [Fields.of(each, f"{self.place}: {name}[{at}]") for at, each in enumerate(self._list(name))]

    def texts(self, name: str) -> list[str]:
        """A list of texts below a key. Raises MalformedError."""
        found = self._list(name)
        if not all(isinstance(each, str) for each in found):
            raise self.wrong(name, "a list of texts")
        return found

    def text_by_name(self, name: str) -> dict[str, str]:
        """The object below a key, all of whose values are texts. Raises MalformedError."""
        section = self.section(name)
        return {key: section.get(key, str) for key in section.values}

    def wrong(self, name: str, accepted: str) -> MalformedError:
        """The error of a key with a value that is not accepted."""
        return MalformedError(f"{self.place}: {name} is {_shown(self.values.get(name))}, not {accepted}")

    def _list(self, name: str) -> list[Any]:
        value = self.values.get(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return value


def _as(value: object, kind: type[T]) -> T | None:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return kind(value)
    # A bool is an int for Python, and none for JSON.
    return value if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) else None


def _shown(value: object) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
