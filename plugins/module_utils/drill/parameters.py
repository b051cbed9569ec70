"""The parameters of faults, and the check of those that a request gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Value = int | str


class ParameterError(Exception):
    """A parameter is unknown or has a wrong value; the message names what is accepted, in sentences."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a fault: a whole number from `least` to `most`, or one of `choices`."""

    name: str
    description: str
    default: Value
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 0

    @property
    def accepted(self) -> str:
        """What the parameter may be, as part of a sentence."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return f"a whole number from {self.least} to {self.most}"

    def parsed(self, value: object) -> Value | None:
        """The value in its type; None if it is not accepted."""
        if self.choices:
            return str(value) if str(value) in self.choices else None
        try:
            number = int(str(value))
        except ValueError:
            return None
        return number if self.least <= number <= self.most and not isinstance(value, bool) else None


def checked(declared: Sequence[Parameter], given: Mapping[str, object], fault: str) -> dict[str, Value]:
    """Every declared parameter, as given or by default.

    Raises:
        ParameterError: with every problem at once.
    """
    values: dict[str, Value] = {}
    problems = list(_unknown(declared, given, fault))
    for parameter in declared:
        value = parameter.parsed(given.get(parameter.name, parameter.default))
        if value is None:
            problems.append(
                f"{parameter.name} is {given[parameter.name]!r:.60}; give {parameter.accepted}"
                f" ({parameter.description})."
            )
        else:
            values[parameter.name] = value
    if problems:
        raise ParameterError(" ".join(problems))
    return values


def _unknown(declared: Sequence[Parameter], given: Mapping[str, object], fault: str) -> Iterator[str]:
    names = [parameter.name for parameter in declared]
    for name in given:
        if name not in names:
            accepted = f"Its parameters: {', '.join(names)}." if names else "It has no parameters."
            yield f"{fault} has no parameter {name}. {accepted}"
