"""The installed collection works without this checkout: it deploys a host and triages it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import paths
from tests import fleet

PROJECT = yaml.safe_load((paths.ROOT / "galaxy.yml").read_text())
ARCHIVE = f"katago-fleet-{PROJECT['version']}.tar.gz"


@dataclass(frozen=True)
class Stranger:
    """A user with a separate environment, home, configuration and inventory."""

    directory: Path

    @property
    def programs(self) -> Path:
        """The directory of the environment's programs."""
        return self.directory / "venv" / "bin"

    @property
    def installed(self) -> Path:
        """The directory of the installed collection."""
        return self.directory / "home/.ansible/collections/ansible_collections/katago/fleet"

    @property
    def inventory(self) -> Path:
        """The directory of the inventory."""
        return self.directory / "inventory"

    @property
    def records(self) -> Path:
        """The directory of the fleet's records."""
        return self.inventory / ".katago-records"

    def run(self, *command: str | Path) -> str:
        """Run a command in an empty directory, without the tests' environment; its output."""
        empty = self.directory / "empty"
        empty.mkdir(exist_ok=True)
        environment = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "HOME": str(self.directory / "home"),
            "LANG": "C.UTF-8",
            # Downloads need the machine's own settings for pip and TLS.
            **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))},
        }
        done = subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(empty.iterdir()) == []
        return done.stdout + done.stderr

    def play(self, name: str, *arguments: str) -> str:
        """Run a playbook of the collection, by its name."""
        return self.run("ansible-playbook", "-i", self.inventory / "hosts.yml", name, *arguments)

    def install(self) -> None:
        """Build the collection from this checkout and install it, also over an existing installation."""
        builder = self.directory / "built"
        self.run("ansible-galaxy", "collection", "build", "--force", "--output-path", builder, paths.ROOT)
        self.run("ansible-galaxy", "collection", "install", "--force", builder / ARCHIVE)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    """A user who has installed the collection as described in docs/upgrading.md."""
    made = Stranger(tmp_path_factory.mktemp("stranger"))
    venv.create(made.directory / "venv", with_pip=True)
    project = (paths.ROOT / "pyproject.toml").read_text()
    (core,) = (
        line.split('"')[1].split(";")[0]
        for line in project.splitlines()
        if "ansible-core" in line and ("<" in line) is (sys.version_info < (3, 12))
    )
    made.run(made.programs / "pip", "--quiet", "install", core, "-r", paths.ROOT / "requirements.txt")
    write_inventory(made)
    made.install()
    return made


BASTION = """\
Host bastion-{name}
  HostName 127.0.0.1
  Port {ansible_port}
  User root
  IdentityFile {ansible_ssh_private_key_file}
  IdentitiesOnly yes
  UserKnownHostsFile {known_hosts}
  StrictHostKeyChecking yes
"""


def write_inventory(user: Stranger) -> None:
    """Write an inventory of the lab's host, which is reachable only through a bastion.

    The host is its own bastion: behind it, the host's address is 127.0.0.1.
    """
    listed = json.loads(
        subprocess.run(
            [sys.executable, "inventories/lab/hosts.py"], cwd=paths.ROOT, capture_output=True, check=True
        ).stdout
    )
    variables: Mapping[str, Any] = yaml.safe_load(
        (paths.ROOT / "inventories/lab/group_vars/katago.yml").read_text()
    )
    user.inventory.mkdir()
    known_hosts, config = user.directory / "known_hosts", user.directory / "ssh_config"
    lines = fleet.LAB.known_hosts.read_text().splitlines()
    known_hosts.write_text("".join(f"{line}\n127.0.0.1 {line.partition(' ')[2]}\n" for line in lines))
    hosts = {name: dict(values) for name, values in listed["_meta"]["hostvars"].items()}
    bastions = [
        BASTION.format(name=name, known_hosts=known_hosts, **values) for name, values in hosts.items()
    ]
    config.write_text("".join(bastions))
    for name, values in hosts.items():
        values |= {
            "ansible_port": 22,
            "ansible_ssh_args": f"-F {config} -o ProxyJump=bastion-{name} -o ControlPersist=60s",
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts} -o StrictHostKeyChecking=yes",
        }
    fleet_variables = {**variables, **listed["katago"]["vars"]}
    # The lab sets its own directory of records.
    fleet_variables.pop("katago_records_dir", None)
    (user.inventory / "hosts.yml").write_text(
        yaml.safe_dump({"katago": {"hosts": hosts, "vars": fleet_variables}})
    )


def snapshot(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file below a directory, with its size and modification time."""
    return {
        str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_installed_collection_deploys_triages_and_keeps_all_data_when_it_is_updated(
    stranger: Stranger,
) -> None:
    predicted = stranger.play("katago.fleet.deploy", "--check", "--diff")
    assert "failed=0" in predicted
    deployed = stranger.play("katago.fleet.deploy", "-e", "incident=first-1")
    assert "validated" in deployed
    triaged = stranger.play("katago.fleet.triage", "-e", "incident=first-1")
    assert "FLEET" in triaged
    assert "healthy" in triaged
    assert "playbooks/" not in triaged

    timeline = (stranger.records / "incidents/first-1/timeline.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in timeline]
    assert {"deploy"} == {event["procedure"] for event in events if "procedure" in event}
    assert any("katago.fleet.triage" in event.get("command", "") for event in events)
    (evidence,) = stranger.records.glob("evidence/first-1/*")
    assert "intact  " in stranger.run(
        "env",
        f"PYTHON={stranger.programs / 'python'}",
        stranger.installed / "bin/evidence",
        "verify",
        evidence,
    )

    cache = stranger.directory / "home/.cache/katago-mcp-fleet"
    config = stranger.directory / "home/.config/katago-mcp-fleet"
    before = [snapshot(directory) for directory in (stranger.records, cache, config)]
    assert all(before)
    marker = stranger.installed / "marker"
    marker.touch()
    stranger.install()
    assert not marker.exists()
    assert [snapshot(directory) for directory in (stranger.records, cache, config)] == before
    assert "healthy" in stranger.play("katago.fleet.triage")


def test_nothing_was_written_into_the_installed_collection(stranger: Stranger) -> None:
    listed = json.loads((stranger.installed / "FILES.json").read_text())["files"]
    shipped = {entry["name"] for entry in listed if entry["ftype"] == "file"}
    written = {
        name
        for name in snapshot(stranger.installed)
        if not name.endswith(".pyc") and name not in {*shipped, "FILES.json", "MANIFEST.json"}
    }
    assert written == set()


@pytest.mark.parametrize("kind", ["callback", "filter", "lookup", "module"])
def test_documentation_is_found(stranger: Stranger, kind: str) -> None:
    assert "katago.fleet." in stranger.run("ansible-doc", "-t", kind, "-l", "katago.fleet")
