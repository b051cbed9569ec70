"""A run without a host of the fleet ends with a message, and leaves no verdict of an earlier run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts, procedures

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOKS = ROOT / "playbooks"
OTHERS = ("incident", "report", "security")
"""Playbooks of version 0.2 that only name those that replaced them."""
WITHOUT_HOSTS = frozenset(
    {
        *("incident_show", "incident_update", "incident_escalate", "incident_close", "incident_deliver"),
        *("review", "report_actions", "report_quarter", *OTHERS),
    }
)
HEALTHY = {"verdict": "healthy", "hosts": {"katago-1": {"verdict": "healthy"}}}


def run(
    directory: Path, playbook: str, inventory: object, *arguments: str, fleet: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a playbook by its path, or `bin/fleet`, from another directory and without an ansible.cfg."""
    path = directory / "hosts.yml"
    path.write_text(yaml.safe_dump(inventory))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    command = (
        [str(ROOT / "bin" / "fleet"), playbook.replace("_", "-")]
        if fleet
        else [sys.executable, "-m", "ansible", "playbook", str(PLAYBOOKS / f"{playbook}.yml")]
    )
    return subprocess.run(
        [*command, f"--inventory={path}", *arguments],
        cwd=directory,
        env={**environment, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def output(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def local(*hosts: str) -> dict[str, object]:
    variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    return {"hosts": {host: {} for host in hosts}, "vars": variables}


EMPTY = {
    "empty": {"katago": {"hosts": {}}},
    "missing": {"monitoring": {"hosts": {"prom-1": {}}}},
    "misspelt": {"Katagos": {"hosts": {"katago-1": {}}}},
}


@pytest.mark.parametrize("name", [*procedures.PROCEDURES, *OTHERS])
def test_every_playbook_decides_about_its_hosts_before_its_first_play(name: str) -> None:
    plays = yaml.safe_load((PLAYBOOKS / f"{name}.yml").read_text())
    lookup = "lookup('katago.fleet.hosts'" + (", contacts=false)" if name in WITHOUT_HOSTS else "")
    assert lookup in plays[0]["hosts"]


@pytest.mark.parametrize("inventory", EMPTY)
@pytest.mark.parametrize("playbook", ["triage", "site", "restart"])
def test_fleet_without_a_host_is_an_error_of_one_sentence(
    tmp_path: Path, playbook: str, inventory: str
) -> None:
    done = run(tmp_path, playbook, EMPTY[inventory])
    assert done.returncode == 1
    text = output(done)
    assert text.count("The inventory has no host in the group katago:") == 1
    assert str(tmp_path / "hosts.yml") in text
    assert "Origin:" not in text
    assert "PLAY" not in text


def test_similar_and_other_groups_and_loose_hosts_are_named() -> None:
    groups = {"all": ["a", "b"], "ungrouped": ["b"], "KataGo_hosts": ["a"], "web": []}
    with pytest.raises(fleet_hosts.NoHostError) as raised:
        fleet_hosts.pattern(groups, None, ["nowhere.yml"], contacts=True)
    message = str(raised.value)
    assert "If KataGo_hosts is the fleet, rename it to katago." in message
    assert "Its other groups: KataGo_hosts, web." in message
    assert "Hosts without a group: b." in message
    assert "nowhere.yml (there is no such file)" in message


GROUPS = {
    "all": ["katago-1", "katago-2", "lb"],
    "ungrouped": [],
    "katago": ["katago-1", "katago-2"],
    "web": ["lb"],
}


@pytest.mark.parametrize(
    "limit", [None, "katago-1", "katago", "all", "kata*", "~kat.*2", "all:!web", "lb,katago-2"]
)
@pytest.mark.parametrize("contacts", [True, False])
def test_limit_that_selects_a_host_is_left_to_ansible(limit: str | None, contacts: bool) -> None:
    assert fleet_hosts.pattern(GROUPS, limit, [], contacts=contacts) == "katago"


@pytest.mark.parametrize("limit", ["lb", "web", "all:!katago", "lb,!katago-1"])
@pytest.mark.parametrize("contacts", [True, False])
def test_limit_that_selects_no_host_of_the_fleet_is_refused(limit: str, contacts: bool) -> None:
    with pytest.raises(fleet_hosts.NoHostError, match="selects no host of the group katago"):
        fleet_hosts.pattern(GROUPS, limit, [], contacts=contacts)


def test_procedure_of_load_balancers_works_on_their_group() -> None:
    groups = {**GROUPS, "load_balancer": ["lb"]}
    assert fleet_hosts.pattern(groups, "lb", [], contacts=True, group="load_balancer") == "load_balancer"
    with pytest.raises(fleet_hosts.NoHostError, match="selects no host of the group load_balancer"):
        fleet_hosts.pattern(groups, "katago-1", [], contacts=True, group="load_balancer")


@pytest.mark.parametrize("limit", [None, "lb", "katago-1"])
def test_procedure_of_all_hosts_works_on_both_groups(limit: str | None) -> None:
    groups = {**GROUPS, "load_balancer": ["lb"]}
    assert fleet_hosts.pattern(groups, limit, [], contacts=True, also=["load_balancer"]) == (
        "katago:load_balancer"
    )
    with pytest.raises(fleet_hosts.NoHostError, match="no host of the group load_balancer, which has lb, or"):
        fleet_hosts.pattern(groups, "nobody", [], contacts=True, also=["load_balancer"])


def test_limit_to_other_groups_is_refused_if_the_procedure_needs_its_own() -> None:
    groups = {**GROUPS, "load_balancer": ["lb"]}
    pattern = partial(fleet_hosts.pattern, groups, sources=[], contacts=True, also=["load_balancer"])
    assert pattern("katago-1", alone=False) == pattern(None, alone=False) == "katago:load_balancer"
    with pytest.raises(fleet_hosts.NoHostError, match="-l lb selects no host of the group katago, which"):
        pattern("lb", alone=False)


def test_limit_may_select_only_hosts_of_a_later_play() -> None:
    groups = {**GROUPS, "monitoring": ["mon-1"]}
    pattern = partial(fleet_hosts.pattern, contacts=True, later=["monitoring"])
    assert pattern(groups, "mon-1", []) == pattern(groups, None, []) == "katago"
    with pytest.raises(fleet_hosts.NoHostError, match="-l mon-1 selects no host of the group katago"):
        pattern(GROUPS, "mon-1", [])


@pytest.mark.parametrize("playbook", ["healing_pause", "healing_resume"])
def test_healing_of_the_fleet_is_paused_and_resumed_alone(tmp_path: Path, playbook: str) -> None:
    inventory = {"katago": local("katago-1"), "monitoring": local("mon-1")}
    done = run(tmp_path, playbook, inventory, "-l", "mon-1", "-e", f"katago_records_dir={tmp_path}")
    # Without a reason the procedure refuses, but it has the host.
    assert "selects no host" not in output(done)
    assert done.returncode != 0 and "needs -e why" in output(done)


def test_host_of_both_groups_is_not_only_a_load_balancer() -> None:
    groups = {"katago": ["a", "b"], "load_balancer": ["b", "lb"]}
    assert fleet_hosts.only_load_balancers(groups) == {"lb"}
    assert fleet_hosts.only_load_balancers({}) == frozenset()


def test_group_of_load_balancers_may_be_missing() -> None:
    assert fleet_hosts.pattern(GROUPS, None, [], contacts=True, also=["load_balancer"]) == "katago"
    with pytest.raises(fleet_hosts.NoHostError, match="-l lb selects no host of the group katago"):
        fleet_hosts.pattern(GROUPS, "lb", [], contacts=True, also=["load_balancer"])


def test_procedure_of_several_groups_works_on_those_that_exist() -> None:
    groups = {**GROUPS, "monitoring": ["mon-1"]}
    also = ["katago", "load_balancer"]
    pattern = partial(fleet_hosts.pattern, contacts=True, group="monitoring", also=also)
    assert pattern(groups, None, []) == "monitoring:katago"
    assert pattern(groups, "katago-1", []) == "monitoring:katago"
    with pytest.raises(fleet_hosts.NoHostError, match="or of the group monitoring, which has mon-1"):
        pattern(groups, "lb", [])
    with pytest.raises(fleet_hosts.NoHostError, match="has no host in the group monitoring"):
        pattern(GROUPS, None, [])


def test_missing_group_of_load_balancers_is_named_with_a_similar_one() -> None:
    with pytest.raises(fleet_hosts.NoHostError) as raised:
        groups = {**GROUPS, "load_balancers": ["lb"]}
        fleet_hosts.pattern(groups, None, [], contacts=True, group="load_balancer")
    message = str(raised.value)
    assert "The inventory has no host in the group load_balancer" in message
    assert "If load_balancers has the load balancers, rename it to load_balancer." in message
    assert "katago is" not in message
    assert "Put the hosts of the load balancers into load_balancer" in message


@pytest.mark.parametrize("inventory", EMPTY)
@pytest.mark.parametrize("playbook", ["incident_show", "report_actions"])
def test_procedure_that_contacts_no_host_works_without_hosts(
    tmp_path: Path, playbook: str, inventory: str
) -> None:
    done = run(tmp_path, playbook, EMPTY[inventory])
    assert done.returncode == 0, output(done)
    assert "Variables of that group" in output(done)


def test_incident_can_be_opened_and_updated_without_hosts(tmp_path: Path) -> None:
    report = tmp_path / "triage.json"
    reason = {"level": "P0", "rule": "unit", "measured": "it is inactive", "threshold": "active"}
    report.write_text(json.dumps({"verdict": "P0", "hosts": {"katago-1": {"reasons": [reason]}}}))
    steps: Mapping[str, Sequence[str]] = {
        "incident_open": ("-e", f"triage_json={report}", "-e", "lead=Anna"),
        "incident_update": ("-e", "status=identified", "-e", "next_steps=wait"),
    }
    for playbook, arguments in steps.items():
        done = run(tmp_path, playbook, EMPTY["empty"], *arguments)
        assert done.returncode == 0, output(done)
    (state,) = tmp_path.glob(".katago-records/incidents/*-*/state.jsonl")
    assert [json.loads(line)["event"] for line in state.read_text().splitlines()] == ["opened", "updated"]


def test_unreachable_hosts_do_not_matter_to_a_procedure_that_contacts_none(tmp_path: Path) -> None:
    gone = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    done = run(tmp_path, "incident_show", {"katago": {"hosts": {"katago-1": gone}}})
    assert done.returncode == 0, output(done)


@pytest.mark.parametrize("option", ["--syntax-check", "--list-hosts", "--list-tasks"])
def test_listing_and_checking_a_playbook_needs_no_host(tmp_path: Path, option: str) -> None:
    assert run(tmp_path, "site", EMPTY["missing"], option).returncode == 0


@pytest.mark.parametrize(
    ("inventory", "arguments", "fleet"),
    [
        (EMPTY["empty"], (), False),
        ({"katago": local("katago-1"), "web": {"hosts": {"lb": {}}}}, ("-l", "lb"), False),
        ({"katago": local("katago-1")}, ("-e", "triage_fial_on=P1"), False),
        ({"katago": local("katago-1")}, ("-l", "nobody"), True),
    ],
    ids=["empty", "limit", "refused input", "limit without a host"],
)
def test_old_verdict_is_not_left_by_a_triage_that_did_not_finish(
    tmp_path: Path, inventory: object, arguments: Sequence[str], fleet: bool
) -> None:
    report = tmp_path / "t.json"
    report.write_text(json.dumps(HEALTHY))
    given = ("--triage-json", str(report)) if fleet else ("-e", f"triage_json={report}")
    done = run(tmp_path, "triage", inventory, *given, *arguments, fleet=fleet)
    assert done.returncode != 0
    left = json.loads(report.read_text())
    assert (left["verdict"], left["hosts"]) == ("unknown", {})
    assert "has not finished" in left["unfinished"]


def test_report_of_the_inventory_is_replaced_too(tmp_path: Path) -> None:
    report = tmp_path / "t.json"
    report.write_text(json.dumps(HEALTHY))
    run(tmp_path, "triage", {"katago": {"hosts": {}}, "all": {"vars": {"triage_json": str(report)}}})
    assert json.loads(report.read_text())["verdict"] == "unknown"


def test_incident_is_not_opened_by_an_unfinished_report(tmp_path: Path) -> None:
    report = tmp_path / "t.json"
    report.write_text(json.dumps(HEALTHY))
    inventory = {"katago": local("katago-1")}
    run(tmp_path, "triage", inventory, "-e", f"triage_json={report}", "-e", "triage_fial_on=P1")
    done = run(tmp_path, "incident_open", inventory, "-e", f"triage_json={report}", "-e", "lead=Anna")
    assert done.returncode == 2
    assert "has no verdict: The triage that started at" in output(done)
    assert not list(tmp_path.glob(".katago-records/incidents/*-*"))


def test_hosts_with_a_variable_are_selected_and_nobody_without_one() -> None:
    hostvars = {"katago-1": {"backup_repository": "/srv"}, "katago-2": {"backup_repository": ""}}
    assert fleet_hosts.having("backup_repository", GROUPS, hostvars) == "katago-1"
    assert fleet_hosts.having("other", GROUPS, hostvars) == "katago:!katago"


def test_address_is_fleet_address_or_ansible_host_or_the_name() -> None:
    assert fleet_hosts.address("a", {"fleet_address": "10.0.0.1", "ansible_host": "b"}) == "10.0.0.1"
    assert fleet_hosts.address("a", {"fleet_address": "", "ansible_host": "b"}) == "b"
    assert fleet_hosts.address("a", {}) == "a"
