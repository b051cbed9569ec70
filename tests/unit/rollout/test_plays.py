"""Plays take their hosts and their batches from the plan; a run reports its progress and its summary."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
HOSTS = ("k1", "k2", "k3", "k4", "k5")
EVENT = {"incident": "", "procedure": "deploy", "who": "anna"}
TASKS = [
    {"name": "Start", "katago.fleet.procedure_event": {**EVENT, "result": "begun"}},
    {
        "name": "Fail",
        "ansible.builtin.fail": {"msg": "broken"},
        "when": "inventory_hostname == broken | default('')",
    },
    {"name": "Work", "katago.fleet.procedure_event": {**EVENT, "result": "changed", "message": "Done."}},
]


ROLLBACK = [
    {"name": "Start", "katago.fleet.procedure_event": {**EVENT, "result": "begun"}},
    {"name": "Fail", "katago.fleet.procedure_event": {**EVENT, "result": "partial", "message": "Back."}},
]


def pattern(part: str) -> str:
    return f"{{{{ lookup('katago.fleet.rollout', '{part}') }}}}"


SAMPLE: dict[str, Any] = {
    "release": "{{ 'new' if inventory_hostname in ansible_play_hosts[:1] else 'old' }}",
    "workload": "same",
    "limits": {},
    "probes": [
        {"problems": [], "status": "ok", "seconds": "{{ seconds[inventory_hostname] | default(0.4) }}"}
    ]
    * 6,
    "baseline": None,
    "started": 1.0,
    "requests": {},
    "durations": {},
}
"""What a host answers during a soak; the first host of the play is the canary."""
SOAK = [
    {"name": "Sample", "ansible.builtin.set_fact": {"_rollout_sample": {"sample": SAMPLE}}},
    {
        "name": "Judge",
        "katago.fleet.rollout_soak": {
            "canary": "{{ rollout_plan.plan.soaking }}",
            "release": "new",
            **{"round": 1, "rounds": 1, "seconds": 1, "probes": 6},
        },
        "run_once": True,
        "register": "rollout_soak",
    },
]


def plays(**arguments: Any) -> list[dict[str, Any]]:
    common = {"gather_facts": False, "vars": {"procedure_name": "deploy"}}
    observed = {
        "current": "old",
        "release": "new",
        "reasons": "{{ [] if inventory_hostname in unchanged else ['the current release is old'] }}",
    }
    planned = {"procedure": "deploy", "soak_minutes": 0, **arguments}
    return [
        {
            **common,
            "hosts": "katago",
            "tasks": [
                {"name": "Observe", "ansible.builtin.set_fact": {"katago_mcp_pending": observed}},
                {
                    "name": "Plan",
                    "katago.fleet.rollout_plan": planned,
                    "run_once": True,
                    "register": "rollout_plan",
                },
            ],
        },
        {**common, "name": "Canary", "hosts": pattern("canary"), "tasks": TASKS},
        {**common, "name": "Soak", "hosts": pattern("soak"), "tasks": SOAK},
        {**common, "name": "Roll back", "hosts": pattern("failed"), "tasks": ROLLBACK},
        {
            **common,
            "name": "Others",
            "hosts": pattern("batches"),
            "serial": pattern("sizes"),
            "tasks": TASKS,
        },
    ]


def run(
    directory: Path, *arguments: str, play: str = "play.yml", **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the plays on hosts that are this machine."""
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "katago_records_dir": str(directory / "records"),
        "unchanged": ["k3"],
        "seconds": {},
    }
    inventory = {"katago": {"hosts": {host: {} for host in HOSTS}, "vars": variables}}
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (directory / "play.yml").write_text(json.dumps(plays(**options)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", play, *arguments],
        cwd=directory,
        env={**environment, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )


def summary(directory: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((directory / "records" / "rollout_result.json").read_text())
    return made


def visited(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The hosts of each batch, in order."""
    parts = re.split(r"^PLAY \[", done.stdout, flags=re.M)[2:]
    works = [part.partition("TASK [Work]")[2] for part in parts]
    return [sorted(re.findall(r"^ok: \[(\w+)\]", work.partition("\n\n")[0], re.M)) for work in works if work]


def test_canary_comes_first_and_batches_grow(tmp_path: Path) -> None:
    done = run(tmp_path, min_available="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert visited(done) == [["k1"], ["k2"], ["k4", "k5"]]
    assert done.stdout.index("  canary   k1: old -> new") < done.stdout.index("PLAY [Canary]")
    assert "Rollout: canary: k1" in done.stdout
    assert "Rollout: batch 2 of 2: k4, k5; about" in done.stdout
    made = summary(tmp_path)
    assert made["changed"] == ["k1", "k2", "k4", "k5"]
    assert made["skipped"] == {"k3": "no change is needed"}
    assert not (tmp_path / "records" / "rollout.json").exists()


def test_batches_follow_a_soak_from_which_the_first_host_is_absent(tmp_path: Path) -> None:
    done = run(tmp_path, "-e", json.dumps({"unchanged": ["k1"]}), min_available="1", soak_minutes=1)
    assert visited(done) == [["k2"], ["k3"], ["k4", "k5"]], done.stdout + done.stderr
    assert summary(tmp_path)["soak"]["state"] == "passed"


def test_canary_that_fails_its_soak_is_rolled_back_although_the_first_host_is_absent(tmp_path: Path) -> None:
    slow = {"unchanged": ["k1"], "seconds": {"k2": 4}}
    done = run(tmp_path, "-e", json.dumps(slow), soak_minutes=1)
    assert "Rollout: soak: failed: a known position takes 4.00 s, on the others 0.40 s." in done.stdout
    assert visited(done) == [["k2"]], done.stdout + done.stderr
    made = summary(tmp_path)
    assert made["reasons"] == {"k2": "failed", **dict.fromkeys(["k3", "k4", "k5"], "k2 failed")}
    assert (tmp_path / "records" / "rollout.json").exists()


def test_rollout_of_another_run_is_not_disturbed(tmp_path: Path) -> None:
    machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    this_process = f"{machine}/{Path('/proc/self/ns/pid').stat().st_ino}:{os.getpid()}:{started}"
    other = {"procedure": "deploy", "release": "", "targets": {"k2": "newer"}, "run": this_process}
    (tmp_path / "records").mkdir(mode=0o700)
    (tmp_path / "records" / "rollout.json").write_text(json.dumps({**other, "who": "berta@node"}))
    done = run(tmp_path)
    assert "Refused; nothing was switched. berta@node is rolling out deploy on k2." in done.stdout
    assert visited(done) == []
    done = run(tmp_path, "-l", "k4,k5")
    assert visited(done) == [["k4"], ["k5"]], done.stdout + done.stderr
    assert json.loads((tmp_path / "records" / "rollout.json").read_text())["targets"] == {"k2": "newer"}


def test_hosts_after_a_failure_are_reported_as_not_touched(tmp_path: Path) -> None:
    done = run(tmp_path, "-e", "broken=k2", min_available="1")
    assert done.returncode != 0
    assert visited(done) == [["k1"]]
    assert re.search(
        r"ROLLOUT \*+\nchanged +k1 \(.*\)\nfailed +k2: .*\nnot touched +k4, k5: k2 failed\n", done.stdout
    )


def test_check_mode_has_one_batch_and_writes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "--check", soak_minutes=5)
    assert done.returncode == 0, done.stdout + done.stderr
    assert visited(done) == [["k1"], ["k2", "k4", "k5"]]
    assert not (tmp_path / "records").exists()


def test_limit_selects_the_hosts_of_the_plan(tmp_path: Path) -> None:
    done = run(tmp_path, "-l", "k4,k5")
    assert visited(done) == [["k4"], ["k5"]]


@pytest.mark.parametrize("option", ["--syntax-check", "--list-hosts"])
def test_plays_can_be_listed_without_a_plan(tmp_path: Path, option: str) -> None:
    assert run(tmp_path, option).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canary": "k9"}, "canary is k9, which is not a host of this run"),
        ({"serial": "many"}, "deploy_serial is 'many'"),
        ({"min_available": "most"}, "fleet_min_available is 'most'"),
    ],
    ids=str,
)
def test_bad_input_stops_before_the_first_host(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    done = run(tmp_path, **options)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert visited(done) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("canary=k9", "canary is k9, which is not a host of this run. Name one of k1, k2,"),
        ("deploy_serial=-30%", "deploy_serial is '-30%'; give a number of hosts such as 2"),
        ("deploy_serial=0", "deploy_serial is '0'; give a number of hosts such as 2"),
    ],
)
def test_bad_input_stops_before_the_build(tmp_path: Path, given: str, message: str) -> None:
    check = {"name": "Check", "katago.fleet.procedure_inputs": {"procedure": "deploy"}}
    (tmp_path / "build.yml").write_text(
        json.dumps([{"hosts": "katago", "gather_facts": False, "tasks": [check]}])
    )
    done = run(tmp_path, "-e", given, play="build.yml")
    assert done.returncode != 0
    assert f"Refused; nothing was changed. {message}" in done.stdout
