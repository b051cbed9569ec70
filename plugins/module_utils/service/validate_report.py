"""Parses the report that `katago-mcp validate --json` of a release prints."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape


class Check(TypedDict):
    """One check that the release made; `seconds` is how long it took."""

    name: str
    ok: bool
    message: str
    seconds: NotRequired[float]


class Report(TypedDict):
    """The release's verdict on itself."""

    ok: bool
    checks: list[Check]


def parse(text: str) -> Report:
    """Parse the report that a release printed. Raises shape.ShapeError."""
    return shape.typed(Report, shape.parsed(text), "the report of katago-mcp validate")


def failed(report: Report) -> list[Check]:
    """The checks that did not pass."""
    return [check for check in report["checks"] if not check["ok"]]


def as_words(check: Check) -> str:
    """A check as one line of text."""
    return f"{check['name']}: {check['message']}"
