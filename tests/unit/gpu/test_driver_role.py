"""The order of the steps: runs the tasks with stub modules that only log their names and parameters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = Path(__file__).resolve().parents[3]
DRIVER = tuple(
    f"gpu_driver_{step}" for step in ("plan", "record", "install", "load", "verify", "restore", "finish")
)
STUBBED = (*DRIVER, "gpu_query", "service_restart", "service_start_check", "service_info")
MODULE = """\
#!/usr/bin/python
# WANT_JSON
import json, pathlib, sys
parameters = json.loads(pathlib.Path(sys.argv[1]).read_text())
state = parameters.get("state") or ""
called = {name!r} + (f".{{state}}" if state else "")
log, answers = pathlib.Path({log!r}), json.loads(pathlib.Path({answers!r}).read_text())
with log.open("a") as lines:
    lines.write(json.dumps([called, parameters]) + "\\n")
print(json.dumps({{"changed": False, **answers.get(called, {{}})}}))
"""
PLAN = {
    "acts": True,
    "stops_service": True,
    "target": "NVIDIA's driver 535",
    "text": ["to do: something"],
    "devices": ["one"],
}
HEALTHY: Mapping[str, Mapping[str, Any]] = {
    "service_info": {"state": {"unit": "active"}},
    "gpu_driver_plan": {"plan": PLAN, "service": None},
    "gpu_driver_record": {"continued": False},
    "gpu_driver_load": {"reboot": ""},
    "gpu_driver_verify": {"vendor": "nvidia", "cards": [{"name": "NVIDIA A40"}], "nodes": ["/dev/nvidia0"]},
    "gpu_driver_restore": {"undone": {"removed": [], "installed": {}, "lacking": {}}, "reboot": ""},
}


class Host:
    """This machine with the role and stub modules that only return answers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log, self.answers = root / "log", root / "answers.json"
        fleet = root / "ansible_collections/katago/fleet"
        (fleet / "plugins/modules").mkdir(parents=True)
        (fleet / "roles/validate/tasks").mkdir(parents=True)
        (fleet / "roles/validate/tasks/main.yml").write_text(
            "- ansible.builtin.set_fact:\n"
            "    validate_result: {release: one, lowered: '', changed_files: ''}\n"
        )
        for kind in ("plugins", "plugins/modules", "roles"):
            for path in (ROOT / kind).iterdir():
                link = fleet / kind / path.name
                if not link.exists() and not (kind == "plugins/modules" and path.stem in STUBBED):
                    link.symlink_to(path)
        for name in STUBBED:
            text = MODULE.format(name=name, log=str(self.log), answers=str(self.answers))
            (fleet / f"plugins/modules/{name}.py").write_text(text)

    def run(self, *arguments: str, **answers: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run the role. `answers` override the modules' answers on a healthy host."""
        self.log.write_text("")
        overrides = {name.replace("__", "."): answer for name, answer in answers.items()}
        self.answers.write_text(json.dumps({**HEALTHY, **overrides}))
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable},
            "tasks": [{"ansible.builtin.include_role": {"name": "katago.fleet.gpu_driver"}}],
        }
        path = self.root / "play.yml"
        path.write_text(json.dumps([play]))
        command = [sys.executable, "-m", "ansible", "playbook", "--inventory=localhost,", str(path)]
        environment = {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.root),
            "ANSIBLE_LOCAL_TEMP": str(self.root / "tmp"),
        }
        return subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """The names and parameters of the modules that ran."""
        calls = map(json.loads, self.log.read_text().splitlines())
        return [(name, parameters) for name, parameters in calls]

    def steps(self) -> list[str]:
        """The names of the modules that ran, without service_info."""
        return [name.removeprefix("gpu_driver_") for name, _ in self.calls() if name != "service_info"]

    def parameters(self, name: str) -> dict[str, Any]:
        """The parameters of a module that ran."""
        return next(parameters for called, parameters in self.calls() if called == name)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """This machine."""
    return Host(tmp_path)


WHOLE = [
    "plan",
    "service_start_check",
    "record",
    "service_restart.stopped",
    "install",
    "load",
    "verify",
    "gpu_query",
    "service_restart",
    "finish",
]


def test_service_is_stopped_for_the_change_and_starts_after_the_verification(host: Host) -> None:
    run = host.run()
    assert run.returncode == 0, run.stdout + run.stderr
    assert host.steps() == WHOLE


@pytest.mark.parametrize("step", ["install", "verify", "gpu_query"])
def test_previous_driver_is_restored_after_a_failed_step_before_the_service_starts(
    host: Host, step: str
) -> None:
    module = step if step in STUBBED else f"gpu_driver_{step}"
    run = host.run(**{module: {"failed": True, "msg": "It does not work."}})
    assert run.returncode != 0
    assert host.steps() == [*WHOLE[: WHOLE.index(step) + 1], "restore", "service_restart"]
    assert (
        "It does not work." in run.stdout.rpartition("Fail with the error and the result of the restore")[2]
    )


def test_failed_start_of_the_service_restores_the_previous_driver(host: Host) -> None:
    assert host.run(service_restart={"failed": True, "msg": "the unit does not start"}).returncode != 0
    assert host.steps() == [*WHOLE[: WHOLE.index("service_restart") + 1], "restore", "service_restart"]


def test_service_is_not_stopped_if_no_loaded_driver_is_replaced(host: Host) -> None:
    host.run(gpu_driver_plan={"plan": {**PLAN, "stops_service": False}, "service": None})
    assert host.steps() == [step for step in WHOLE if step != "service_restart.stopped"]


def test_service_that_did_not_run_is_not_started(host: Host) -> None:
    host.run(service_info={"state": {"unit": "inactive"}})
    assert host.steps() == [step for step in WHOLE if not step.startswith("service_")]


def test_driver_is_not_changed_if_the_service_would_not_start_again(host: Host) -> None:
    refusal = {"failed": True, "refused": True, "msg": "The service would not start again: config.json"}
    run = host.run(service_start_check=refusal)
    assert run.returncode != 0
    assert host.steps() == ["plan", "service_start_check"]


def test_host_without_changes_is_only_verified(host: Host) -> None:
    host.run(gpu_driver_plan={"plan": {**PLAN, "acts": False}, "service": None})
    assert host.steps() == ["plan", "verify"]


def test_hosts_are_changed_one_after_the_other_and_none_after_a_failure() -> None:
    (play,) = DataLoader().load_from_file(str(ROOT / "playbooks/gpu_driver.yml"), trusted_as_template=True)
    templar = Templar(DataLoader(), variables={"ansible_check_mode": False})
    assert templar.template(play["serial"]) == 1
    assert templar.template(play["max_fail_percentage"]) == 0


@pytest.mark.parametrize(("arguments", "shown"), [((), ["one"]), (("--check",), ["one", "two", "three"])])
def test_refused_host_stops_the_run_but_check_mode_shows_all_plans(
    arguments: tuple[str, ...], shown: list[str], tmp_path: Path
) -> None:
    (real,) = DataLoader().load_from_file(str(ROOT / "playbooks/gpu_driver.yml"))
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "serial": real["serial"],
        "max_fail_percentage": real["max_fail_percentage"],
        "tasks": [{"ansible.builtin.fail": {"msg": "the plan of {{ inventory_hostname }}"}}],
    }
    path = tmp_path / "play.yml"
    path.write_text(json.dumps([play]))
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "--inventory=one,two,three", str(path), *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [name for name in ("one", "two", "three") if f"the plan of {name}" in run.stdout] == shown, run


def test_running_service_is_recorded_before_it_is_stopped(host: Host) -> None:
    run = host.run(service_restart__stopped={"failed": True, "msg": "still runs"})
    assert run.returncode != 0
    steps = host.steps()
    assert steps.index("record") < steps.index("service_restart.stopped"), run.stdout
    assert host.parameters("gpu_driver_record")["service"] is True


def test_service_that_an_interrupted_run_stopped_is_started_again(host: Host) -> None:
    again = host.run(
        service_info={"state": {"unit": "inactive"}},
        gpu_driver_plan={"plan": PLAN, "service": True},
        gpu_driver_record={"continued": True},
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "service_restart" in host.steps()
    assert host.parameters("gpu_driver_install")["continued"] is True


def test_service_that_is_still_stopping_is_waited_for(host: Host) -> None:
    host.run(
        service_info={"state": {"unit": "deactivating"}}, gpu_driver_plan={"plan": PLAN, "service": True}
    )
    assert host.steps()[:4] == ["plan", "record", "service_restart.stopped", "install"]


def test_engine_is_queried_on_amd_cards_in_their_sandbox(host: Host) -> None:
    cards = {"vendor": "amd", "cards": [{"name": "amd 744c"}], "nodes": ["/dev/dri/renderD128", "/dev/kfd"]}
    run = host.run(gpu_driver_verify=cards)
    assert run.returncode == 0, run.stdout + run.stderr
    query = host.parameters("gpu_query")
    assert (query["vendor"], query["names"]) == ("amd", ["amd 744c"])
    assert query["sandbox"]["SupplementaryGroups"] == ["render"]
    assert query["sandbox"]["DeviceAllow"] == ["/dev/dri/renderD128 rw", "/dev/kfd rw"]
