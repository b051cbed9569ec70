"""Results of hosts are validated, so that a malformed one does not break a report."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_reports, watch_table
from tests.unit.triage.hosts import healthy

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
VERDICT = triage_verdict.as_dict(triage_verdict.unreachable("so", now=NOW))


def gathered(**results: Any) -> triage_reports.Report:
    hosts = {host: {"triage_result": result} for host, result in results.items()}
    variables = {"hostvars": hosts, "ansible_play_hosts_all": [*hosts], "groups": {}}
    return triage_reports.gather(variables, NOW, breach=False)


def test_report_has_the_unchanged_facts_of_each_host() -> None:
    result = {"verdict": json.loads(json.dumps(VERDICT)), "facts": healthy()}
    report = gathered(a=result).as_dict(NOW)
    assert report["hosts"]["a"]["facts"] == healthy()
    assert report["hosts"]["a"]["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ({}, "no answer: the task did not run on this host"),
        ({"msg": " \n"}, "no answer: the task did not run on this host"),
        ({"msg": "ssh\nNo route"}, "no answer: No route"),
        (
            {"verdict": {**VERDICT, "reasons": "x"}},
            "the host's verdict is malformed: verdict.reasons is 'x', not a list",
        ),
    ],
)
def test_host_without_a_usable_verdict_is_unknown_with_the_reason(result: Any, why: str) -> None:
    report = gathered(a=result)
    assert report.verdicts["a"].verdict == "unknown"
    assert report.verdicts["a"].reasons[0].measured == why
    assert why.split(":")[0] in report.as_table()


@pytest.mark.parametrize("level", ["P0", "P1"])
def test_last_log_lines_of_a_severe_host_are_shown(level: str) -> None:
    verdict = {**VERDICT, "verdict": level}
    table = gathered(a={"verdict": verdict, "facts": {"last_lines": {"value": ["one", "two"]}}}).as_table()
    assert "  log: one\n  log: two" in table
    assert "log:" not in gathered(a={"verdict": verdict, "facts": {"last_lines": {"value": 5}}}).as_table()


def test_malformed_result_of_a_watch_is_unknown_with_the_reason() -> None:
    found = watch_table.read({"verdict": {"verdict": "good", "why": "so"}})
    name, why = watch_table.verdict(found)
    assert name == "unknown"
    assert why.startswith(
        "the host's result is malformed: watch_result.verdict.verdict is 'good', not one of"
    )
