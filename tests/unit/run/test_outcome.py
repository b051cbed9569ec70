"""A failed procedure says what it saw, what it left and what to do next."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import constants

from ansible_collections.katago.fleet.plugins.filter import fleet
from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import disk
from ansible_collections.katago.fleet.plugins.module_utils.service import endpoints, unit
from ansible_collections.katago.fleet.plugins.modules import service_info
from ansible_collections.katago.fleet.plugins.plugin_utils.run import outcome

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
CHECKS = {"katago.fleet.procedure_inputs", "katago.fleet.host_selection", "ansible.builtin.assert"}
WITHOUT_EVIDENCE = {
    ("backup.yml", "Back up"): "reads what runs",
    ("baseline.yml", "Record the baseline"): "measures what runs",
    ("deploy.yml", "Build the release"): "builds beside what runs",
    ("fleet_healing.yml", "Create the key of the monitoring host"): "does not touch the service",
    ("fleet_healing.yml", "Let the monitoring host log in"): "does not touch the service",
    ("fleet_healing.yml", "Repair the fleet when alerts fire"): "does not touch the service",
    ("load_balancer.yml", "Set up load balancers"): "reloads without losing a request",
    ("monitoring.yml", "Run Prometheus, Alertmanager and the prober"): "does not touch the service",
    ("monitoring.yml", "Serve the metrics of every host"): "does not touch the service",
    ("replace_host.yml", "Rebuild the hosts"): "works only on a bare host",
    ("rotation_in.yml", "Admit hosts to rotation"): "changes the load balancers only",
    ("self_healing.yml", "Set up self-healing"): "sets a timer up that keeps evidence itself",
    ("site.yml", "Set up backups"): "sets a timer up that reads what runs",
}
"""Plays that lock a host and do not keep its evidence first, and why they need not."""
WITHOUT_LOCK = {
    ("drill.yml", "Drill"): "refuses a host that is locked; the response to the drill takes the lock",
    ("drill_abort.yml", "Abort drills"): "works while another procedure holds the lock",
    ("drill_game_day.yml", "Game day"): "works on the control node",
    ("drill_report.yml", "Report on drills"): "works on the control node",
    ("drill_show.yml", "Show drills"): "works on the control node",
    ("drill_tabletop.yml", "Tabletop drill"): "works on the control node",
    ("evidence.yml", "Evidence"): "reads",
    ("fleet.yml", "Show the fleet"): "reads",
    ("healing_pause.yml", "Pause fleet healing"): "works while another procedure holds the lock",
    ("healing_pause.yml", "Pause self-healing"): "works while another procedure holds the lock",
    ("healing_resume.yml", "Resume fleet healing"): "works while another procedure holds the lock",
    ("healing_resume.yml", "Resume self-healing"): "works while another procedure holds the lock",
    ("healing_show.yml", "Show self-healing"): "reads",
    ("incident.yml", "Name the playbook that replaced this one"): "refuses",
    ("incident_close.yml", "Close the incident"): "sets a timer of its own",
    ("incident_deliver.yml", "Deliver messages"): "sets a timer of its own",
    ("incident_escalate.yml", "Escalate the incident"): "sets a timer of its own",
    ("incident_open.yml", "Measure and judge"): "reads",
    ("incident_open.yml", "Open the incident"): "sets a timer of its own",
    ("incident_show.yml", "Show incidents"): "works on the control node",
    ("incident_update.yml", "Update the incident"): "sets a timer of its own",
    ("load.yml", "Generate load"): "works on the control node",
    ("replace_host.yml", "Check the hosts and find those with a GPU"): "reads",
    ("report.yml", "Name the playbook that replaced this one"): "refuses",
    ("report_actions.yml", "Report overdue action items"): "works on the control node",
    ("report_quarter.yml", "Report on a quarter"): "works on the control node",
    ("review.yml", "Review"): "works on the control node",
    ("rollback.yml", "Find the rollback targets"): "reads",
    ("rollout.yml", "Admit the finished hosts"): "changes the load balancers only",
    ("rollout.yml", "Compare the canary with the others"): "reads",
    ("rollout.yml", "Plan the rollout"): "works on the control node",
    ("rotation_out.yml", "Take hosts out of rotation"): "changes the load balancers only",
    ("rotation_show.yml", "Show the rotation"): "reads",
    ("security.yml", "Name the playbook that replaced this one"): "refuses",
    ("security_show.yml", "Show security mode"): "reads",
    ("site.yml", "Check every host and find those with a GPU"): "reads",
    ("triage.yml", "Triage"): "reads",
    ("validate.yml", "Validate the service"): "reads",
    ("watch.yml", "Watch"): "sets a sampler of its own",
    ("watch_show.yml", "Show the watch"): "reads",
}
"""Plays that change nothing which a procedure could be in the way of, and why."""
RUNNING = {"unit": "active", "current": "1-aa", "running": "1-aa", "ready": True, "reason": None}


@pytest.mark.parametrize(
    ("failure", "state", "expected"),
    [
        ({"msg": "no", "refused": True}, RUNNING, "refused"),
        ({"msg": "no"}, RUNNING, "partial"),
        ({"msg": "no"}, {"unit": None}, "unknown"),
        (None, RUNNING, "partial"),
    ],
)
def test_result_tells_refused_from_half_done_and_from_unknown(
    failure: dict[str, Any] | None, state: dict[str, Any], expected: str
) -> None:
    assert outcome.result(failure, state) == expected


def test_next_step_that_a_failure_knows_takes_the_place_of_the_procedures() -> None:
    failure = {"msg": "no", "refused": True, "next_step": "look at the mode"}
    assert outcome.explanation(failure, RUNNING, "restart by force").endswith("\nNext: look at the mode")


def test_refusal_proposes_no_step_of_a_procedure_that_never_began() -> None:
    failure = {"msg": "katago-1 is locked by berta. Wait for it", "refused": True}
    assert "Next" not in outcome.explanation(failure, RUNNING, "restart by force")


def test_commands_of_a_message_have_the_inventory_of_the_run_unless_it_is_the_default() -> None:
    step = "run it again, or ansible-playbook playbooks/rollback.yml -l katago-1"
    other = os.path.relpath("/etc/fleet/hosts.yml")
    said = fleet.explanation({"msg": "no"}, RUNNING, step, ["/etc/fleet/hosts.yml"])
    assert said.endswith(f"or ansible-playbook -i {other} playbooks/rollback.yml -l katago-1")
    said = fleet.explanation({"msg": "no"}, RUNNING, step, constants.DEFAULT_HOST_LIST)
    assert said.endswith(step)


def test_message_ends_with_state_and_next_step() -> None:
    seen = {**RUNNING, "ready": False, "reason": "engine starting", "current": "2-bb"}
    assert outcome.explanation({"msg": "It failed.\n"}, seen, "do this").splitlines() == [
        "It failed.",
        "The service is active and not ready (engine starting); it runs 1-aa; the current release is 2-bb.",
        "Next: do this",
    ]


def test_service_whose_configuration_is_damaged_is_not_called_ready_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.json"
    for text in ("{", "[]", '{"server": {"host": "127.0.0.1", "pork": 8080}}'):
        config.write_text(text)
        ready, reason = service_info.readiness(config)
        assert ready is None
        words = outcome.left({**RUNNING, "ready": ready, "reason": reason})
        assert "possibly not ready (/etc/katago-mcp/config.json has no usable address" in words
    assert "server.port is missing" in words
    whole = {"server": {"host": "127.0.0.1", "port": 1}, "metrics": {"host": "", "port": 1}}
    config.write_text(json.dumps(whole))
    asked = iter([None, (503, {"reason": "engine starting"}), (200, {})])
    monkeypatch.setattr(endpoints.Endpoints, "probe", lambda *_: next(asked))
    assert [service_info.readiness(config) for _ in range(3)] == [
        (False, "no answer"),
        (False, "engine starting"),
        (True, None),
    ]


def test_host_that_was_ended_by_another_ones_failure_says_so() -> None:
    assert outcome.explanation(None, RUNNING, "").splitlines()[0] == "Ended, since another host failed."


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"installed": False, "load_balancer": "active"}, "HAProxy is active."),
        ({"installed": False, "load_balancer": None}, "The host does not have the service."),
        ({"installed": True, "load_balancer": "failed"}, "HAProxy is failed. The service is inactive."),
    ],
)
def test_state_of_a_load_balancer_is_that_of_haproxy(state: dict[str, Any], words: str) -> None:
    nothing = {"unit": "inactive", "current": None, "running": None, "ready": None, "reason": None}
    assert outcome.left({**nothing, **state}) == words


def test_state_that_cannot_be_seen_is_not_made_up() -> None:
    assert "cannot be seen: no bus" in outcome.left({"unit": None, "reason": "no bus"})


def test_disk_that_takes_files_is_no_obstacle_and_one_that_does_not_is_named(tmp_path: Path) -> None:
    assert list(disk.obstacles([tmp_path, tmp_path / "absent"])) == []
    (problem,) = disk.obstacles([Path("/proc/self")])
    assert problem.startswith("/proc/self cannot be written: ")


class Vanishing:
    """A hierarchy whose group ends between being found and being read."""

    def __truediv__(self, name: str) -> Vanishing:
        return self

    def glob(self, pattern: str) -> Any:
        raise FileNotFoundError(pattern)


def test_control_group_that_ends_while_it_is_looked_at_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "system.slice" / paths.SERVICE_UNIT
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("4194305\n")
    monkeypatch.setattr(paths, "CONTROL_GROUPS", (Vanishing(), tmp_path))
    assert unit.processes(f"system.slice/{paths.SERVICE_UNIT}") == [{"pid": 4194305, "name": ""}]
    monkeypatch.setattr(paths, "CONTROL_GROUPS", (Vanishing(),))
    assert unit.processes(f"system.slice/{paths.SERVICE_UNIT}") == []


def plays() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All plays with the names of their playbooks, but those that only import another playbook."""
    for path in sorted([*PLAYBOOKS.glob("*.yml"), *PLAYBOOKS.glob("plays/*.yml")]):
        for play in yaml.safe_load(path.read_text()):
            if "hosts" in play:
                yield path.name, play


def test_every_play_that_changes_a_host_keeps_its_evidence_before_anything_else() -> None:
    frame = {"name": "katago.fleet.procedure"}
    without_evidence, without_lock = set(), set()
    for playbook, play in plays():
        name = playbook, str(play["name"])
        assert not play.keys() & {"roles", "pre_tasks", "post_tasks", "handlers"}, name
        *before, last = play["tasks"]
        if last.get("ansible.builtin.import_role") != frame:
            without_lock.add(name)
            continue
        # Nothing but checks comes before the frame, which locks the host and keeps the evidence first.
        for task in before:
            assert task.keys() & CHECKS, name
        if play["vars"].get("procedure_evidence_tier") == "none":
            without_evidence.add(name)
    assert without_evidence == set(WITHOUT_EVIDENCE)
    assert without_lock == set(WITHOUT_LOCK)


def test_frame_starts_with_lock_and_evidence_and_always_finishes() -> None:
    role = PLAYBOOKS.parent / "roles" / "procedure" / "tasks"
    tmpdir, transit, frame = yaml.safe_load((role / "main.yml").read_text())
    # What comes before changes nothing on the host.
    assert "katago.fleet.host_tmpdir" in tmpdir
    assert list(transit["ansible.builtin.set_fact"]) == ["ansible_remote_tmp"]
    assert frame["block"][0]["ansible.builtin.import_tasks"] == "start.yml"
    assert "ansible.builtin.include_role" in frame["block"][1]
    assert frame["rescue"][-1]["ansible.builtin.import_tasks"] == "fail.yml"
    assert frame["always"][-1]["ansible.builtin.import_tasks"] == "finish.yml"
    done = [key for task in yaml.safe_load((role / "start.yml").read_text()) for key in task if "." in key]
    assert done[-3:] == ["katago.fleet.host_lock", "katago.fleet.procedure_event", "katago.fleet.evidence"]
    *_, last = yaml.safe_load((role / "fail.yml").read_text())
    assert "ansible.builtin.fail" in last
    *_, last = yaml.safe_load((role / "finish.yml").read_text())
    assert last["katago.fleet.host_lock"]["state"] == "released"
