"""Validating external JSON: the message of an error names the place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import shape


@dataclass(frozen=True)
class Part:
    name: str
    size: float = 0


@dataclass(frozen=True)
class Whole:
    kind: Literal["a", "b"]
    parts: tuple[Part, ...]
    note: str | None = None


class Answer(TypedDict):
    ok: bool
    counts: dict[str, int]
    words: NotRequired[list[str]]


def test_nested_objects_become_dataclasses() -> None:
    value = {"kind": "a", "parts": [{"name": "x"}, {"name": "y", "size": 2}], "note": None}
    assert shape.record(Whole, value) == Whole("a", (Part("x"), Part("y", 2)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the value is a list, not an object"),
        ({"parts": []}, "kind is missing"),
        ({"kind": "c", "parts": []}, "kind is 'c', not one of a, b"),
        ({"kind": "a", "parts": 3}, "parts is 3, not a list"),
        ({"kind": "a", "parts": [{"name": "x"}, {"name": None}]}, "parts[1].name is None, not a string"),
        ({"kind": "a", "parts": [{"name": "x", "size": True}]}, "parts[0].size is True, not a number"),
        ({"kind": "a", "parts": [], "note": 7}, "note is 7, not a string"),
        ({"kind": "a", "parts": [], "knid": ""}, "knid is not a known field"),
    ],
)
def test_wrong_field_is_reported_with_what_is_accepted(value: object, message: str) -> None:
    with pytest.raises(shape.ShapeError) as caught:
        shape.record(Whole, value)
    assert str(caught.value) == message


def test_undeclared_keys_of_a_typed_dict_are_allowed() -> None:
    value: dict[str, Any] = {"ok": True, "counts": {"x": 1}, "later": "version"}
    assert shape.typed(Answer, value) is value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"counts": {}}, "answer.ok is missing"),
        ({"ok": 1, "counts": {}}, "answer.ok is 1, not true or false"),
        ({"ok": True, "counts": {"x": 1.5}}, "answer.counts.x is 1.5, not an integer"),
        ({"ok": True, "counts": {}, "words": ["x", 2]}, "answer.words[1] is 2, not a string"),
    ],
)
def test_wrong_key_is_reported_with_its_place(value: object, message: str) -> None:
    with pytest.raises(shape.ShapeError) as caught:
        shape.typed(Answer, value, "answer")
    assert str(caught.value) == message


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(shape.ShapeError) as caught:
        shape.typed(Answer, {"ok": "x" * 500, "counts": {}})
    assert len(str(caught.value)) < 120
