"""The order in which a host leaves and joins rotation: runs the role with stub modules that only log."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures
from tests import loopback
from tests.stubs import LOCAL, ROOT, Answers, Stubs

STUBBED = ("load_balancer_rotation", "rotation_server", "service_drain", "service_validate")
ENTRY = {"procedure": "restart", "who": "anna@ops", "since": "2026-01-31T08:05:00Z", "why": "x"}
NOBODY: Mapping[str, Any] = {"entry": None, "is_own": False, "left": False, "servers": {}, "out": {}}
OURS: Mapping[str, Any] = {**NOBODY, "entry": ENTRY, "is_own": True}
LEFT = {**OURS, "changed": True, "left": True}
OPERATORS = {**NOBODY, "entry": {**ENTRY, "procedure": "rotation_out"}}
REFUSED = {"failed": True, "refused": True, "msg": "2 of 3 hosts serve requests."}
VALIDATED = {"release": "one", "checks": [{"name": "a", "ok": True, "message": ""}]}
REJECTED = {"failed": True, "msg": "no", "checks": [{"name": "a", "ok": False, "message": "it is wrong"}]}
LEAVING, DRAIN, OUT = "load_balancer_rotation.leaving", "service_drain", "load_balancer_rotation.out"
SERVER = "rotation_server"
IN, INFO, VALIDATE = "load_balancer_rotation.in", "load_balancer_rotation.info", "service_validate"


class Fleet(Stubs):
    """This machine as one host behind load balancers."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, STUBBED)

    def run(
        self,
        tasks_from: str,
        answers: Answers,
        *arguments: str,
        balancers: Sequence[str] = ("balancer-1", "balancer-2"),
        server_ca: str = "",
        **variables: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run tasks of the role. `server_ca`: that of the load balancers."""
        # Nothing listens on this port.
        gone = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_timeout": 5}
        inventory = {
            "katago": {"hosts": {"katago-1": LOCAL}},
            "load_balancer": {
                "hosts": {name: gone if "gone" in name else LOCAL for name in balancers},
                "vars": {"load_balancer_server_ca": server_ca},
            },
        }
        role = {"name": "katago.fleet.rotation", "tasks_from": tasks_from, "public": True}
        play = {
            "hosts": "katago",
            "vars": {"procedure_name": "restart", **variables},
            "tasks": [{"ansible.builtin.include_role": role}],
        }
        return self.play(inventory, play, answers, *arguments)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A host and two load balancers."""
    return Fleet(tmp_path)


def test_host_gets_no_requests_first_then_is_waited_for_then_its_checks_end(fleet: Fleet) -> None:
    run = fleet.run("leave", {LEAVING: [LEFT], OUT: [LEFT]}, fleet_min_available="40%")
    assert run.returncode == 0, run.stdout + run.stderr
    assert fleet.steps() == [LEAVING, LEAVING, DRAIN, OUT, OUT]
    (_, asked), *_ = fleet.calls()
    assert (asked["name"], asked["procedure"], asked["least"]) == ("katago-1", "restart", "40%")
    assert asked["why"] == "restart interrupts the service"


def test_host_joins_again_where_it_left_if_another_load_balancer_refuses(fleet: Fleet) -> None:
    run = fleet.run("leave", {LEAVING: [LEFT, REFUSED]})
    assert run.returncode != 0
    assert fleet.steps() == [LEAVING, LEAVING, IN]
    message = run.stdout.rpartition("Report the refusal")[2]
    assert "balancer-2: 2 of 3 hosts serve requests." in message


@pytest.mark.parametrize("changed", [False, True])
def test_host_that_a_killed_run_took_out_stays_out_after_a_refusal(fleet: Fleet, *, changed: bool) -> None:
    fleet.run("leave", {LEAVING: [{**OURS, "changed": changed}, REFUSED]})
    assert fleet.steps() == [LEAVING, LEAVING]


def test_load_balancer_that_cannot_be_reached_is_a_warning_if_another_one_works(fleet: Fleet) -> None:
    run = fleet.run("leave", {LEAVING: [LEFT]}, balancers=("a-gone", "balancer-1"))
    assert run.returncode == 0, run.stdout + run.stderr
    assert fleet.steps() == [LEAVING, DRAIN, OUT]
    assert "a-gone: it cannot be reached" in run.stdout + run.stderr


def test_procedure_is_refused_if_no_load_balancer_can_be_reached(fleet: Fleet) -> None:
    run = fleet.run("leave", {}, balancers=("gone",))
    assert run.returncode != 0
    assert fleet.steps() == []
    assert "-e without_drain=true" in run.stdout
    assert fleet.run("leave", {}, balancers=("gone",), rotation_without_drain=True).returncode == 0
    assert fleet.steps() == []


def test_host_that_an_operator_took_out_is_neither_waited_for_nor_changed(fleet: Fleet) -> None:
    assert fleet.run("leave", {LEAVING: [OPERATORS]}).returncode == 0
    assert fleet.steps() == [LEAVING, LEAVING]


def test_nothing_is_waited_for_if_the_service_hangs(fleet: Fleet) -> None:
    fleet.run("leave", {LEAVING: [LEFT]}, rotation_waits=False)
    assert fleet.steps() == [LEAVING, LEAVING, OUT, OUT]


def test_host_joins_after_a_procedure_that_has_validated_it(fleet: Fleet) -> None:
    run = fleet.run("join", {IN: [{**NOBODY, "changed": True}]})
    assert run.returncode == 0, run.stdout + run.stderr
    assert fleet.steps() == [SERVER, IN, IN]


@pytest.mark.parametrize("given", [False, True])
def test_joined_host_is_called_as_it_serves_now(fleet: Fleet, *, given: bool) -> None:
    authority = loopback.Authority()
    certificate, _ = authority.issue("katago-1.example.org")
    server = {"port": 9000, "tls": True, "tls_name": ""}
    answers = {
        SERVER: [{"server": server, "certificate": certificate}],
        IN: [{**NOBODY, "changed": True}],
    }
    run = fleet.run("join", answers, server_ca=authority.pem if given else "/no/such/file")
    assert run.returncode == 0, run.stdout + run.stderr
    asked = [parameters for step, parameters in fleet.calls() if step == IN]
    if given:
        named = {**server, "tls_name": "katago-1.example.org"}
        assert [each["server"] for each in asked] == [named, named]
    else:
        assert "load_balancer_server_ca cannot be read" in run.stdout + run.stderr
        assert not any("server" in each for each in asked)


def test_host_joins_as_before_if_it_does_not_report_how_it_serves(fleet: Fleet) -> None:
    run = fleet.run("join", {SERVER: [{"failed": True, "msg": "x"}], IN: [{**NOBODY, "changed": True}]})
    assert run.returncode == 0, run.stdout + run.stderr
    assert not any("server" in asked for _, asked in fleet.calls())


@pytest.mark.parametrize(("validation", "steps"), [(VALIDATED, [SERVER, IN, IN]), (REJECTED, [INFO, INFO])])
def test_host_joins_after_a_failure_only_if_it_is_validated(
    fleet: Fleet, validation: Mapping[str, Any], steps: list[str]
) -> None:
    answers: dict[str, list[Mapping[str, Any]]] = {
        INFO: [OURS],
        VALIDATE: [validation],
        IN: [{**NOBODY, "changed": True}],
    }
    run = fleet.run("join", answers, rotation_validates=True, rotation_tolerant=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert fleet.steps() == [INFO, INFO, VALIDATE, *steps]


def test_host_that_is_not_out_is_not_validated_after_a_failure(fleet: Fleet) -> None:
    fleet.run("join", {INFO: [NOBODY]}, rotation_validates=True, rotation_tolerant=True)
    assert VALIDATE not in fleet.steps()
    assert IN not in fleet.steps()


def test_host_that_no_load_balancer_admits_fails_the_procedure_but_not_its_rescue(fleet: Fleet) -> None:
    failure = {"failed": True, "admitted": True, "msg": "HAProxy sees it DOWN"}
    run = fleet.run("join", {IN: [failure]})
    assert run.returncode != 0
    assert "HAProxy sees it DOWN" in run.stdout
    assert fleet.run("join", {IN: [failure]}, rotation_tolerant=True).returncode == 0


@pytest.mark.parametrize(
    ("own", "steps"), [(True, [INFO, INFO, INFO, INFO, VALIDATE, SERVER, IN, IN]), (False, [INFO] * 6)]
)
def test_finished_host_is_admitted_if_a_killed_run_of_this_procedure_left_it_out(
    fleet: Fleet, own: bool, steps: list[str]
) -> None:
    entry = OURS if own else OPERATORS
    seen = {**entry, "out": {"katago-1": entry["entry"]}}
    answers = {INFO: [seen], VALIDATE: [VALIDATED], IN: [{**NOBODY, "changed": True}]}
    run = fleet.run("resume", answers)
    assert run.returncode == 0, run.stdout + run.stderr
    assert fleet.steps() == steps


def test_finished_host_that_is_in_rotation_is_not_looked_at_again(fleet: Fleet) -> None:
    run = fleet.run("resume", {INFO: [{**NOBODY, "out": {"katago-2": ENTRY}}]})
    assert run.returncode == 0, run.stdout + run.stderr
    assert fleet.steps() == [INFO, INFO]


def test_finished_host_that_is_not_validated_stays_out_and_fails_nothing(fleet: Fleet) -> None:
    seen = {**OURS, "out": {"katago-1": ENTRY}}
    run = fleet.run("resume", {INFO: [seen], VALIDATE: [REJECTED]})
    assert run.returncode == 0, run.stdout + run.stderr
    assert IN not in fleet.steps()
    assert "it is wrong" in run.stdout


def admission_of_finished_hosts() -> dict[str, Any]:
    """The play that comes before the canary leaves."""
    plays = yaml.safe_load((ROOT / "playbooks" / "plays" / "rollout.yml").read_text())
    assert [play["name"] for play in plays[1:3]] == ["Admit the finished hosts", "Switch the canary"]
    return {"hosts": "katago", "vars": {"procedure_name": "restart"}, "tasks": plays[1]["tasks"]}


def test_rollout_admits_finished_hosts_before_the_canary_leaves(fleet: Fleet) -> None:
    inventory = {"katago": {"hosts": {"katago-1": LOCAL}}, "load_balancer": {"hosts": {"balancer-1": LOCAL}}}
    seen = {**OURS, "out": {"katago-1": ENTRY}}
    answers = {INFO: [seen], VALIDATE: [VALIDATED], IN: [{**NOBODY, "changed": True}]}
    assert fleet.play(inventory, admission_of_finished_hosts(), answers).returncode == 0
    assert fleet.steps() == [INFO, INFO, VALIDATE, SERVER, IN]


@pytest.mark.parametrize("group", [{}, {"load_balancer": {"hosts": {}}}], ids=["no group", "empty group"])
def test_rollout_without_load_balancers_admits_nobody(fleet: Fleet, group: dict[str, Any]) -> None:
    inventory = {"katago": {"hosts": {"katago-1": LOCAL}}, **group}
    run = fleet.play(inventory, admission_of_finished_hosts(), {})
    assert run.returncode == 0, run.stdout + run.stderr
    assert fleet.steps() == []


DRAINING = [
    name
    for name in procedures.PROCEDURES
    if any(each.name == "without_drain" for each in procedures.PROCEDURES[name].inputs)
]


@pytest.mark.parametrize("name", [name for name in DRAINING if name != "rotation_out"])
def test_procedure_that_drains_admits_the_host_at_its_end(name: str) -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text())
    assert plays[-1]["vars"]["procedure_drains"] is True


def test_every_procedure_that_interrupts_the_service_drains() -> None:
    assert set(DRAINING) == {
        *("deploy", "gpu_driver", "purge_cache", "remove_host", "replace_host", "restart", "restore"),
        *("rollback", "rotation_out"),
    }


# Task files that stop or restart the service, and what has taken the host out before.
DRAINED_BEFORE = {
    "katago_mcp/activate": "switch drains before the switch",
    "katago_mcp/quarantine_cache": "purge_cache drains first",
    "katago_mcp/return": "activate drained; the host is out until it is validated",
    "katago_mcp/stop": "gpu_driver drains before it changes anything",
    "restore/undamaged": "the service does not run",
}


def test_no_role_interrupts_a_service_that_is_in_rotation() -> None:
    undrained = set()
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        text = path.read_text()
        stop = text.find("katago.fleet.service_restart:")
        if stop >= 0 and not 0 <= text.find("katago.fleet.rotation, tasks_from: leave") < stop:
            undrained.add(f"{path.parents[1].name}/{path.stem}")
    assert undrained == DRAINED_BEFORE.keys()


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        ("katago_mcp/tasks/switch.yml", "drain_for_switch.yml", "switch_release.yml"),
        ("gpu_driver/tasks/change.yml", "tasks_from: leave", "katago.fleet.gpu_driver_record"),
        ("gpu_driver/tasks/change.yml", "check_start", "tasks_from: leave"),
        ("restore/tasks/repair.yml", "step: stage", "tasks_from: leave"),
        ("security/tasks/main.yml", "tasks_from: leave", "katago.fleet.security_mode"),
        ("security/tasks/main.yml", "katago.fleet.security_mode", "tasks_from: join"),
    ],
)
def test_host_leaves_before_the_first_change(path: str, first: str, second: str) -> None:
    text = (ROOT / "roles" / path).read_text()
    assert 0 < text.index(first) < text.index(second)
