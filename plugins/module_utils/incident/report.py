"""What an incident takes from a report of triage: findings, undecided hosts, kinds of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.incident import state
from ansible_collections.katago.fleet.plugins.module_utils.severity import SEVERITIES, Level


class ErrorGroup(TypedDict):
    """Errors of one kind in a host's journal; `exception`: one that the application had not foreseen."""

    level: str
    event: str
    code: str
    exception: NotRequired[bool]


class Journal(TypedDict):
    """What was measured of a host's journal."""

    groups: NotRequired[list[ErrorGroup]]


class JournalEntry(TypedDict):
    """A host's journal as triage has it; without `value` it is unknown."""

    value: NotRequired[Journal]


class Facts(TypedDict):
    """The facts of a host that an incident looks at."""

    journal: NotRequired[JournalEntry]


class Reason(TypedDict):
    """Why a host has its level."""

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
    """The verdicts on a fleet by host, and the worst of them."""

    verdict: Level
    hosts: dict[str, Host]


def check(value: object) -> Mapping[str, Any]:
    """The report, once it has the shape of one. Raises ShapeError, which names the place."""
    shape.typed(Report, value)
    return shape.mapping(value)


def findings(report: Mapping[str, Any]) -> list[state.Finding]:
    """What a report of triage found, the worst first; what is unknown is no finding."""
    found = [
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
    return sorted(found, key=lambda each: (SEVERITIES.index(each.level), each.host, each.rule))


def undecided(report: Mapping[str, Any]) -> list[str]:
    """The hosts that a report of triage could not measure or decide on: unknown is not healthy."""
    return sorted(host for host, verdict in report["hosts"].items() if verdict.get("verdict") == "unknown")


def error_groups(report: Mapping[str, Any]) -> set[str]:
    """The kinds of errors in the journals of all hosts: level, event and code, without what varies."""
    return {_kind_of_error(each) for each in _groups(report)}


def bugs(report: Mapping[str, Any]) -> set[str]:
    """Those of `error_groups` that are exceptions which the application had not foreseen."""
    return {_kind_of_error(each) for each in _groups(report) if each.get("exception")}


def _groups(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        group
        for host in report["hosts"].values()
        for group in host.get("facts", {}).get("journal", {}).get("value", {}).get("groups", [])
    ]


def _kind_of_error(group: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (group["level"], group["event"], group["code"])))
