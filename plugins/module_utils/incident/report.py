"""Reads a triage report for an incident: findings, undecided hosts, kinds of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.incident import state
from ansible_collections.katago.fleet.plugins.module_utils.severity import SEVERITIES, Level


class ErrorGroup(TypedDict):
    """Errors of one kind in a host's journal. `exception`: an unexpected exception of the application."""

    level: str
    event: str
    code: str
    exception: NotRequired[bool]


class Journal(TypedDict):
    """The measurement of a host's journal."""

    groups: NotRequired[list[ErrorGroup]]


class JournalEntry(TypedDict):
    """A host's journal in a triage report; without `value` it is unknown."""

    value: NotRequired[Journal]


class Facts(TypedDict):
    """The facts of a host that an incident uses."""

    journal: NotRequired[JournalEntry]


class Reason(TypedDict):
    """One reason for a host's verdict."""

    level: Level
    rule: str
    measured: str
    suspicious: NotRequired[bool]


class Host(TypedDict):
    """The verdict on one host."""

    verdict: NotRequired[Level]
    reasons: list[Reason]
    facts: NotRequired[Facts]


class Report(TypedDict):
    """The verdicts on all hosts, and the worst of them."""

    verdict: Level
    hosts: dict[str, Host]


def check(value: object) -> Mapping[str, Any]:
    """Return the report if its structure is valid. Raises ShapeError, which names the place."""
    shape.typed(Report, value)
    return shape.mapping(value)


def findings(report: Mapping[str, Any]) -> list[state.Finding]:
    """The findings of a triage report, the worst first. An unknown fact is not a finding."""
    entries = [
        state.Finding(
            host,
            reason["level"],
            reason["rule"],
            reason["measured"],
            bool(reason.get("suspicious", False)),
        )
        for host, verdict in report["hosts"].items()
        for reason in verdict["reasons"]
        if reason["level"] in SEVERITIES
    ]
    return sorted(entries, key=lambda each: (SEVERITIES.index(each.level), each.host, each.rule))


def undecided(report: Mapping[str, Any]) -> list[str]:
    """The hosts that triage could not measure or decide on. Unknown does not count as healthy."""
    return sorted(host for host, verdict in report["hosts"].items() if verdict.get("verdict") == "unknown")


def levels(report: Mapping[str, Any]) -> dict[str, Level]:
    """The level of each host, also of healthy ones. A host with several findings counts at its worst."""
    healthy: dict[str, Level] = dict.fromkeys(report["hosts"], "healthy")
    return {**healthy, **state.levels_of(findings(report), undecided=undecided(report))}


def error_groups(report: Mapping[str, Any]) -> set[str]:
    """The kinds of errors in the journals of all hosts: level, event and code."""
    return {_kind_of_error(each) for each in _groups(report)}


def bugs(report: Mapping[str, Any]) -> set[str]:
    """The `error_groups` that are unexpected exceptions of the application."""
    return {_kind_of_error(each) for each in _groups(report) if each.get("exception")}


def _groups(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        group
        for host in report["hosts"].values()
        for group in host.get("facts", {}).get("journal", {}).get("value", {}).get("groups", [])
    ]


def _kind_of_error(group: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (group["level"], group["event"], group["code"])))
