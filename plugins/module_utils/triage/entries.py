"""Reads the entries of checks (a value, or the reason why it is unknown) into typed facts.

Data from a host, from a file or from an earlier version is validated here, once. After that, every fact has
its declared type.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ansible_collections.katago.fleet.plugins.module_utils.common import shape

ValuesT = TypeVar("ValuesT", bound=Mapping[str, object])

NOT_MEASURED = "it was not measured"


@dataclass(frozen=True)
class Facts(Generic[ValuesT]):
    """The known facts by name, and for the others the reason why they are unknown.

    `malformed`: the names in `unknown` whose reported value does not have the declared shape. A host runs the
    control node's code, so a malformed value is a bug in katago-mcp-fleet, or was changed in transit.
    """

    values: ValuesT
    unknown: Mapping[str, str]
    malformed: frozenset[str] = frozenset()

    def why(self, name: str) -> str:
        """Why a fact is unknown."""
        return self.unknown.get(name, NOT_MEASURED)


def read(
    kind: type[ValuesT], entries: object, checks: Mapping[str, Callable[[Any], object]] | None = None
) -> Facts[ValuesT]:
    """Read entries into the facts that `kind`, a TypedDict with only optional keys, declares.

    An entry is `{"value": ...}` or `{"unknown": reason}`. Other keys of an entry are ignored, and so are
    entries with undeclared names. `checks`: by fact name, functions for constraints that a type cannot
    express; they raise ShapeError.

    Raises:
        ShapeError: the entries are not an object. A malformed entry makes only its own fact unknown.
    """
    content = shape.mapping(entries, "the facts")
    values: dict[str, object] = {}
    unknown: dict[str, str] = {}
    malformed: set[str] = set()
    for name, declared in typing.get_type_hints(kind).items():
        if name not in content:
            continue
        try:
            entry = shape.mapping(content[name], name)
            if "value" not in entry:
                unknown[name] = shape.typed(str, entry.get("unknown", NOT_MEASURED), f"{name}.unknown")
                continue
            value: object = shape.typed(declared, entry["value"], name)
            if checks and name in checks:
                checks[name](value)
            values[name] = value
        except shape.ShapeError as error:
            unknown[name] = f"the reported value is malformed: {error}"
            malformed.add(name)
    return Facts(typing.cast(ValuesT, values), unknown, frozenset(malformed))


def as_entries(facts: Facts[Any]) -> dict[str, dict[str, object]]:
    """The facts as entries, which `read` accepts."""
    values = {name: {"value": value} for name, value in facts.values.items()}
    return {**values, **{name: {"unknown": why} for name, why in facts.unknown.items()}}
