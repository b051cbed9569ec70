"""Entries of checks, a value or why it is unknown, and the typed facts that they are read into.

The border: what a host, a file or an earlier version of the product wrote is checked here, once. Past it a
fact has the type that is declared for it.
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
    """The facts that are known, by name, and why the others are not.

    `malformed`: those of `unknown` whose reported value does not have the declared shape. The checks of a
    host run with the code of the control node, so such a value is a defect of this product or was changed on
    its way.
    """

    values: ValuesT
    unknown: Mapping[str, str]
    malformed: frozenset[str] = frozenset()

    def why(self, name: str) -> str:
        """Why a fact is not known."""
        return self.unknown.get(name, NOT_MEASURED)


def read(
    kind: type[ValuesT], entries: object, checks: Mapping[str, Callable[[Any], object]] | None = None
) -> Facts[ValuesT]:
    """The facts that a TypedDict of all optional keys declares, from entries by name.

    An entry is `{"value": ...}` or `{"unknown": reason}`; other keys of it, and entries of other names, are
    left alone. `checks`, by name, look at what a type cannot declare and raise ShapeError.

    Raises:
        ShapeError: when the entries are no object. An entry of another shape costs its own fact alone.
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
            unknown[name] = f"what was reported cannot be used: {error}"
            malformed.add(name)
    return Facts(typing.cast(ValuesT, values), unknown, frozenset(malformed))


def as_entries(facts: Facts[Any]) -> dict[str, dict[str, object]]:
    """The facts as JSON, from which `read` makes them again."""
    known = {name: {"value": value} for name, value in facts.values.items()}
    return {**known, **{name: {"unknown": why} for name, why in facts.unknown.items()}}
