"""Playbooks really run here: from any directory, with any ansible.cfg, from a world-writable checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import recorded

ROOT = Path(__file__).resolve().parents[3]
NEEDED = ("ansible.cfg", "collections", "meta", "playbooks", "plugins", "roles", "galaxy.yml")


class Control:
    """A control node whose hosts are this machine, with an inventory and a checkout."""

    def __init__(self, directory: Path, checkout: Path = ROOT) -> None:
        self.directory = directory
        self.checkout = checkout
        self.inventory = directory / "inventory"
        self.records = self.inventory / ".katago-records"
        self.inventory.mkdir()
        self.write_inventory({})
        self.elsewhere = directory / "elsewhere"
        self.elsewhere.mkdir()

    def write_inventory(self, variables: dict[str, Any]) -> None:
        """The inventory with further variables."""
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        fleet = {"hosts": {"katago-1": {}}, "vars": {**local, "incident_reminder_host": "", **variables}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump({"katago": fleet}))

    def run(
        self, playbook: str, *, within: Path | None = None, config: Path | None = None, **given: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook of the checkout within a directory, with an ansible.cfg or that which is found."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {"ANSIBLE_CONFIG": str(config)} if config else {}
        return subprocess.run(
            [
                *(sys.executable, "-m", "ansible", "playbook", f"--inventory={self.inventory}"),
                str(self.checkout / "playbooks" / playbook),
                *(part for name, value in given.items() for part in ("-e", json.dumps({name: value}))),
            ],
            cwd=within or self.elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def open_incident(self, **where: Path) -> subprocess.CompletedProcess[str]:
        """Open an incident by a report of triage."""
        report = self.directory / "triage.json"
        reason = {"level": "P0", "rule": "unit", "measured": "it is inactive", "threshold": "active"}
        report.write_text(
            json.dumps({"verdict": "P0", "hosts": {"katago-1": {"reasons": [reason], "facts": {}}}})
        )
        return self.run("incident_open.yml", lead="Anna", triage_json=str(report), **where)  # type: ignore[arg-type]

    def timeline(self) -> list[dict[str, Any]]:
        """The events in the timeline of the only incident."""
        (path,) = self.records.glob("incidents/*-*/timeline.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]


def verify(records: Path) -> tuple[int, str]:
    """What bin/evidence says of all evidence, without the directory that it is in."""
    module = "ansible_collections.katago.fleet.plugins.plugin_utils.evidence.verification"
    done = subprocess.run(
        [sys.executable, "-m", module, "verify", str(records / "evidence")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "collections")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "intact" in done.stdout
    return done.returncode, done.stdout.replace(str(records), "")


@pytest.fixture
def control(tmp_path: Path) -> Control:
    """A control node without records."""
    return Control(tmp_path)


def output(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join((run.stdout + run.stderr).split())


def test_another_directory_without_a_configuration_is_as_good_as_the_checkout(control: Control) -> None:
    run = control.open_incident()
    assert run.returncode == 0, output(run)
    assert {event["action"] for event in control.timeline()} >= {"katago.fleet.incident"}
    assert list(control.elsewhere.iterdir()) == []
    assert not (ROOT / "records").exists()


def test_configuration_of_ones_own_that_also_enables_the_timeline_writes_every_event_once(
    control: Control,
) -> None:
    config = control.directory / "own.cfg"
    config.write_text(
        f"[defaults]\ncollections_path={ROOT}/collections\ncallbacks_enabled=katago.fleet.timeline\n"
    )
    run = control.open_incident(config=config)
    assert run.returncode == 0, output(run)
    told = [event["task"] for event in control.timeline() if event["action"] == "katago.fleet.incident"]
    assert len(told) == 1


def test_world_writable_checkout_works_though_ansible_ignores_its_configuration(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, symlinks=True)
        else:
            shutil.copy(source, checkout / name)
    checkout.chmod(0o777)
    control = Control(tmp_path, checkout)
    run = control.open_incident(within=checkout)
    assert run.returncode == 0, output(run)
    assert "world writable" in output(run)
    assert control.timeline()


@pytest.mark.parametrize("playbook", ["incident_show", "evidence", "restart", "watch", "review"])
def test_variable_of_the_version_before_is_refused_with_its_new_name(control: Control, playbook: str) -> None:
    control.write_inventory({"incident_records_dir": "/srv/kept"})
    run = control.run(f"{playbook}.yml", incident="first-1")
    assert run.returncode == 2
    assert "incident_records_dir is no longer read" in output(run)
    assert "set katago_records_dir to /srv/kept instead." in output(run)
    assert not control.records.exists()


def test_empty_inventory_is_told(control: Control) -> None:
    (control.inventory / "hosts.yml").write_text("katago: {hosts: {}}")
    assert "The inventory has no host in the group katago" in output(control.run("incident_show.yml"))


@pytest.mark.parametrize("moved", ["beside the inventory", "elsewhere"])
def test_records_of_the_version_before_are_used_once_they_are_moved(tmp_path: Path, moved: str) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in NEEDED:
        (checkout / name).symlink_to(ROOT / name)
    (checkout / "inventories").mkdir()
    control = Control(checkout / "inventories", checkout)
    old = checkout / "records"
    recorded.quarter(old)
    verified = verify(old)
    run = control.run("incident_show.yml", incident=recorded.INCIDENT)
    assert run.returncode == 2
    assert f"`mv -T {old} {control.records}`" in output(run)
    assert not control.records.exists()

    place = control.records if moved == "beside the inventory" else tmp_path / "kept"
    subprocess.run(["mv", "-T", str(old), str(place)], check=True)
    if moved == "elsewhere":
        control.write_inventory({"katago_records_dir": str(place)})
    shown = control.run("incident_show.yml", incident=recorded.INCIDENT)
    assert shown.returncode == 0, output(shown)
    assert recorded.INCIDENT in output(shown)
    reviewed = control.run("review.yml", incident=recorded.INCIDENT)
    assert f"{recorded.INCIDENT}: the review is complete." in output(reviewed)
    assert (place / "incidents" / recorded.INCIDENT / "review.md").exists()
    reported = control.run("report_quarter.yml", quarter="2026Q4")
    assert reported.returncode == 0, output(reported)
    assert "# Incident report for 2026Q4" in (place / "reports/2026Q4.md").read_text()
    assert verify(place) == verified
    assert not old.exists()


def test_inventory_takes_its_records_along_to_another_control_node(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    there = Control(second)
    here = Control(first)
    recorded.quarter(here.records)
    verified = verify(here.records)
    shutil.rmtree(there.inventory)
    shutil.copytree(here.inventory, there.inventory)
    shutil.rmtree(first)
    shown = there.run("incident_show.yml", incident=recorded.INCIDENT)
    assert shown.returncode == 0, output(shown)
    assert recorded.INCIDENT in output(shown)
    assert verify(there.records) == verified
