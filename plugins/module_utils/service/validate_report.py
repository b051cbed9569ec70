"""What `katago-mcp validate --json` of a release says, checked before it is used."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape


class Check(TypedDict):
    """One thing that the release looked at; `seconds` is what it took."""

    name: str
    ok: bool
    message: str
    seconds: NotRequired[float]


class Report(TypedDict):
    """The verdict of a release on itself."""

    ok: bool
    checks: list[Check]


def parse(text: str) -> Report:
    """The report that a release printed. Raises shape.ShapeError."""
    return shape.typed(Report, shape.parsed(text), "the report of katago-mcp validate")


def failed(report: Report) -> list[Check]:
    """The checks that did not pass."""
    return [check for check in report["checks"] if not check["ok"]]


def as_words(check: Check) -> str:
    """A check in a line."""
    return f"{check['name']}: {check['message']}"
