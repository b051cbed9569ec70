"""The levels of an incident belong to its hosts, in every message, in reviews and in old records."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.incident import messages, state
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import fold
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import planner
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import request as incident_request

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
SETTING = messages.Setting("KataGo MCP Server")
ONE_DOWN_TWO_SLOWER = {
    "katago-1": [("P0", "unit"), ("P1", "engines")],
    "katago-2": [("P3", "performance")],
    "katago-3": [("P2", "performance")],
}
IMPACT = "The service is down on 1 of 3 hosts (katago-1), is slower on 2 (katago-2, katago-3)"


def report(hosts: dict[str, list[tuple[str, str]]]) -> dict[str, Any]:
    """A report of triage; the level `unknown` is a rule without a result."""
    verdicts = {
        host: {
            "verdict": min((level for level, _ in reasons), default="healthy"),
            "reasons": [
                {"level": level, "rule": rule, "measured": f"{rule} is bad", "suspicious": rule == "breach"}
                for level, rule in reasons
            ],
        }
        for host, reasons in hosts.items()
    }
    worst = min((str(each["verdict"]) for each in verdicts.values()), key="P0 P1 P2 P3 unknown healthy".index)
    return {"verdict": worst, "hosts": verdicts}


class Record:
    """An incident's record in memory."""

    def __init__(self) -> None:
        self.lines = b""

    @property
    def incident(self) -> state.Incident:
        folded = fold(self.lines, "state.jsonl").incident
        assert folded is not None
        return folded

    def open(self, hosts: dict[str, list[tuple[str, str]]], **inputs: Any) -> state.Incident:
        """Record an alert with the report of a triage. Hosts named `lb-N` are load balancers."""
        known = {self.incident.id: self.incident} if self.lines else {}
        proxies = frozenset({"lb-1", "lb-2"})
        context = planner.PlanContext(now=NOW, who="anna", all=known, report=report(hosts), unwatched=proxies)
        for event in planner.plan(incident_request.parse("open", {"alert": "a", **inputs}), context).events:
            line = {"at": "2026-11-24T08:00:00Z", "who": "anna", **event}
            self.lines += json.dumps(line).encode() + b"\n"
        return self.incident


@pytest.mark.parametrize(
    ("hosts", "impact"),
    [
        (ONE_DOWN_TWO_SLOWER, IMPACT),
        ({"katago-1": [("P0", "unit")]}, "The service is down on 1 of 1 host (katago-1)"),
        (
            {"katago-1": [("P0", "unit"), ("P3", "performance")], "katago-2": []},
            "The service is down on 1 of 2 hosts (katago-1)",
        ),
        (
            {"katago-1": [("P0", "unit")], "katago-2": [("unknown", "reachable")], "katago-3": []},
            "The service is down on 1 of 3 hosts (katago-1), is in an unknown state on 1 (katago-2)",
        ),
        (
            {"katago-1": [("unknown", "reachable")], "katago-2": [("unknown", "reachable")]},
            "The service is in an unknown state on 2 of 2 hosts (katago-1, katago-2)",
        ),
        (
            {"katago-1": [("P2", "ready"), ("P2", "performance")], "katago-2": [("P2", "performance")]},
            "The service is partly degraded on 1 of 2 hosts (katago-1), is slower on 1 (katago-2)",
        ),
        (
            {"katago-1": [("P0", "breach")], "katago-2": [("P0", "breach"), ("P0", "unit")]},
            "The service may be compromised on 1 of 2 hosts (katago-1), is down on 1 (katago-2)",
        ),
        ({"katago-1": [], "lb-1": [("P0", "haproxy")]}, "The load balancer lb-1 is down"),
        (
            {"katago-1": [("P2", "unit")], "katago-2": [], "lb-1": [("P1", "haproxy")], "lb-2": []},
            "The service is partly degraded on 1 of 2 hosts (katago-1);"
            " the load balancer lb-1 is severely degraded",
        ),
        (
            {"katago-1": [], "lb-1": [("unknown", "reachable")], "lb-2": [("P3", "certificate")]},
            "The load balancer lb-2 has minor problems; the load balancer lb-1 is in an unknown state",
        ),
    ],
)
def test_impact_names_each_level_with_its_own_hosts(
    hosts: dict[str, list[tuple[str, str]]], impact: str
) -> None:
    assert Record().open(hosts).impact == impact


def test_every_message_names_each_level_with_its_own_hosts() -> None:
    incident = Record().open(ONE_DOWN_TWO_SLOWER, lead="Anna", next_steps="restart")
    assert f"Impact: {IMPACT}" in messages.declaration(incident, SETTING).text
    incident.updates.append(state.Update(1, incident.opened_at, (), {}))
    assert f"Impact: {IMPACT}" in messages.update(incident, [], SETTING).text
    incident.resolution = "restarted"
    incident.resolved_at = incident.closed_at = "2026-11-24T08:30:00Z"
    text = messages.stand_down(incident, [], SETTING).text
    assert "3 of 3 hosts: P0 on katago-1, P2 on katago-3, P3 on katago-2)" in text


def test_load_balancers_are_counted_apart_from_hosts() -> None:
    record = Record()
    incident = record.open({"katago-1": [], "katago-2": [], "lb-1": [("P1", "haproxy")], "lb-2": []})
    assert messages.hosts_text(incident) == "1 of 2 load balancers"
    incident = record.open({"katago-1": [("P2", "unit")], "katago-2": [], "lb-1": [], "lb-2": []})
    assert messages.hosts_text(incident) == (
        "1 of 2 hosts and 1 of 2 load balancers: P1 on lb-1, P2 on katago-1"
    )
    assert incident.impact == (
        "The service is partly degraded on 1 of 2 hosts (katago-1);"
        " the load balancer lb-1 is severely degraded"
    )


def test_level_of_a_host_is_its_worst_and_a_measured_one_stays() -> None:
    record = Record()
    record.open({"katago-1": [("P0", "unit")], "katago-2": [("unknown", "reachable")], "katago-3": []})
    incident = record.open(
        {
            "katago-1": [("unknown", "reachable")],
            "katago-2": [],
            "katago-3": [("P3", "performance")],
            "katago-4": [("P1", "engines")],
        }
    )
    assert incident.levels == {"katago-1": "P0", "katago-2": "healthy", "katago-3": "P3", "katago-4": "P1"}
    assert incident.impact == (
        "The service is down on 1 of 4 hosts (katago-1), is severely degraded on 1 (katago-4), is slower on"
        " 1 (katago-3)"
    )


def test_rule_that_a_host_failed_twice_counts_at_its_worst() -> None:
    incident = Record().open({"katago-1": [("P2", "filesystems"), ("P3", "filesystems")]})
    assert incident.findings["katago-1/filesystems"].level == "P2"
    assert incident.levels == {"katago-1": "P2"}


def test_record_without_levels_takes_them_from_its_findings() -> None:
    record = Record()
    record.open(ONE_DOWN_TWO_SLOWER)
    old = json.loads(record.lines)
    del old["levels"]
    old["undecided"] = ["katago-4"]
    incident = fold(json.dumps(old).encode() + b"\n", "state.jsonl").incident
    assert incident is not None
    assert incident.levels == {"katago-1": "P0", "katago-2": "P3", "katago-3": "P2", "katago-4": "unknown"}
    assert messages.hosts_text(incident).startswith("4 of 4 hosts: P0 on katago-1, ")


def test_documents_add_the_levels_to_an_impact_that_a_person_wrote() -> None:
    incident = Record().open(ONE_DOWN_TWO_SLOWER, impact="Some games fail")
    assert messages.impact_by_level(incident) == (
        "Some games fail (3 of 3 hosts: P0 on katago-1, P2 on katago-3, P3 on katago-2)"
    )
    same = Record().open({"katago-1": [("P0", "unit")], "katago-2": []}, impact="Some games fail")
    assert messages.impact_by_level(same) == "Some games fail"
