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

from tests.stubs import LOCAL, ROOT, Stubs

DRIVER = tuple(
    f"gpu_driver_{step}" for step in ("plan", "record", "install", "load", "verify", "restore", "finish")
)
STUBBED = (*DRIVER, "gpu_query", "service_restart", "service_start_check", "service_info")
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


class Host(Stubs):
    """This machine with the role."""

    def __init__(self, root: Path) -> None:
        validated = {"release": "one", "lowered": "", "changed_files": ""}
        super().__init__(
            root, STUBBED, {"validate": [{"ansible.builtin.set_fact": {"validate_result": validated}}]}
        )

    def run(self, *arguments: str, **answers: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run the role. `answers` override the modules' answers on a healthy host."""
        overrides = {name.replace("__", "."): answer for name, answer in answers.items()}
        return self.play(
            {"all": {"hosts": {"localhost": LOCAL}}},
            {
                "hosts": "localhost",
                "tasks": [{"ansible.builtin.include_role": {"name": "katago.fleet.gpu_driver"}}],
            },
            {name: [answer] for name, answer in {**HEALTHY, **overrides}.items()},
            *arguments,
        )

    def steps(self) -> list[str]:
        """The names of the modules that ran, without service_info."""
        return [name.removeprefix("gpu_driver_") for name in super().steps() if name != "service_info"]


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
