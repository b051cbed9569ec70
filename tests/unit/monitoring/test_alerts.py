"""The alerts: each fires when it should, and leads to a command and a documentation that exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import rules
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS, REFERENCE, Alert
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.recordings import needed
from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_command, inputs, procedures
from tests.unit.monitoring import promtool
from tests.unit.monitoring.cases import CASES

ROOT = Path(__file__).resolve().parents[3]
SEVERITIES = {alert.name: alert.severity for alert in ALERTS}

needs_promtool = pytest.mark.skipif(not promtool.PROGRAM.exists(), reason="promtool is not installed")
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


@needs_promtool
@each_alert
def test_alert_fires_and_stays_quiet_as_its_cases_say(alert: Alert) -> None:
    cases = [case for case in CASES if case.alert == alert.name]
    text = rules.rendered([alert], needed(alert.expression))
    assert promtool.failures(text, cases, SEVERITIES) == ""


@each_alert
def test_alert_has_a_case_of_every_kind(alert: Alert) -> None:
    kinds = {case.kind for case in CASES if case.alert == alert.name}
    # It always fires, so it has no other cases.
    expected = (
        {"fires", "missing"} if alert.name == "MonitoringAlive" else {"fires", "quiet", "missing", "reset"}
    )
    assert kinds == expected


@each_alert
def test_command_is_a_procedure_with_inputs_that_it_takes(alert: Alert) -> None:
    accepted = procedures.inputs_of(alert.command.procedure)
    assert alert.command.inputs.keys() <= accepted.keys()
    required = {each.name for each in accepted.values() if each.required}
    assert required <= alert.command.inputs.keys()
    for name, value in alert.command.inputs.items():
        assert not accepted[name].choices or value in accepted[name].choices
        if accepted[name].type in ("int", "number"):
            assert (accepted[name].minimum or 0) <= float(value) <= accepted[name].maximum


@each_alert
def test_texts_use_only_labels_that_the_alert_has(alert: Alert) -> None:
    rendered = rules.command_line(alert.command, "{{ $labels.instance }}")
    used = set(re.findall(r"\$labels\.(\w+)", " ".join((alert.summary, alert.meaning, rendered))))
    for case in CASES:
        if case.alert == alert.name:
            for labels in case.fires:
                assert used <= labels.keys(), case.name


@each_alert
def test_command_is_accepted_by_bin_fleet_with_valid_inputs(alert: Alert) -> None:
    program, *arguments = shlex.split(rules.command_line(alert.command, "katago-1"))
    assert program == "bin/fleet"
    procedure, rest = fleet_command.find(arguments)
    assert procedure.name == alert.command.procedure
    command = fleet_command.command_line(procedure, rest)
    assert command[:2] == ["ansible-playbook", fleet_command.playbook(procedure.name)]
    assert (ROOT / "playbooks" / f"{procedure.name}.yml").exists()
    assert (command[-2:] == ["-l", "katago-1"]) == alert.command.is_of_host
    given = json.loads(command[command.index("-e") + 1]) if "-e" in command else {}
    assert given == alert.command.inputs
    assert inputs.problems(given, procedure.name) == []


@each_alert
def test_alert_has_a_link_to_its_section_and_its_command(alert: Alert) -> None:
    rendered = yaml.safe_load(rules.rendered([alert], [], "https://docs.fleet.test/alerts"))
    (rule,) = (each for group in rendered["groups"] for each in group["rules"] if "alert" in each)
    assert rule["annotations"]["runbook_url"] == f"https://docs.fleet.test/alerts#{alert.name.lower()}"
    assert rule["annotations"]["command"].startswith("bin/fleet ")


def test_names_and_anchors_are_unique() -> None:
    assert len({alert.anchor for alert in ALERTS}) == len(ALERTS)


def test_command_line_is_what_an_operator_types() -> None:
    by_name = {alert.name: alert for alert in ALERTS}
    line = rules.command_line(by_name["AnalysisSlow"].command, "katago-1")
    assert line == 'bin/fleet mitigate -l katago-1 --visits 200 --minutes 60 --why "slow analyses"'
    assert rules.command_line(by_name["FleetDown"].command, "") == "bin/fleet incident open"


@each_alert
def test_section_of_the_documentation_exists(alert: Alert) -> None:
    headings = re.findall(r"^### (.*)$", (ROOT / REFERENCE).read_text(), re.M)
    assert alert.anchor in [heading.lower() for heading in headings]
    assert f"{REFERENCE}#{alert.anchor}" in rules.rendered([alert], [])
