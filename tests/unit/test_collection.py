"""The collection: its files, its documentation, one version, plays without ansible.cfg."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures

ROOT = Path(__file__).resolve().parents[2]
# Without the playbooks of version 0.2, which only name those that replaced them.
PLAYBOOKS = [
    path for path in sorted((ROOT / "playbooks").glob("*.yml")) if path.stem not in procedures.REPLACED
]
PLAYS = [
    pytest.param(play, id=f"{path.stem}: {play['name']}")
    for path in [*PLAYBOOKS, *sorted((ROOT / "playbooks" / "plays").glob("*.yml"))]
    for play in yaml.safe_load(path.read_text())
    if "hosts" in play
]
KINDS = {"module": "modules", "filter": "filter", "lookup": "lookup", "callback": "callback"}
# The documentation of an action plugin is in its module.
PLUGINS = [
    pytest.param(kind, path.stem, id=f"{kind} {path.stem}")
    for kind, folder in KINDS.items()
    for path in sorted((ROOT / "plugins" / folder).glob("*.yml" if kind == "filter" else "*.py"))
]


def galaxy() -> dict[str, Any]:
    metadata: dict[str, Any] = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    return metadata


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in the built collection."""
    directory = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "ansible", "galaxy", "collection", "build"]
    subprocess.run(
        [*command, "--output-path", str(directory), str(ROOT)], check=True, capture_output=True, cwd=directory
    )
    (archive,) = directory.iterdir()
    with tarfile.open(archive) as opened:
        return {member.name for member in opened if not member.isdir()}


def test_collection_has_the_files_that_users_need(shipped: set[str]) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    used = (
        "bin/evidence",
        "meta/",
        "playbooks/",
        "plugins/",
        "roles/",
        "server/src/",
        "inventories/production/",
        "inventories/examples/",
    )
    needed = {
        name for name in tracked.stdout.split() if name.startswith(used) and name != "playbooks/collections"
    }
    needed |= {"requirements.lock", "requirements.txt", "bindep.txt", "LICENSE", "README.md", "CHANGELOG.md"}
    needed |= {"server/pyproject.toml", "server/requirements.lock", "server/README.md"}
    needed |= {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert needed - shipped == set()


def test_collection_has_no_development_files(shipped: set[str]) -> None:
    places = {name.split("/")[0] for name in shipped}
    assert (
        places & {"tests", "lab", "molecule", "collections", "records", ".venv", ".lab", ".git", ".ci"}
        == set()
    )
    suspect = re.compile(r"/tests/|\.pyc$|__pycache__|/\.|^docs/.*\.py$|inventories/lab")
    assert [name for name in shipped if suspect.search(name)] == []


def test_versions_agree() -> None:
    versions = {"galaxy.yml": galaxy()["version"]}
    for path in ("pyproject.toml", "server/pyproject.toml"):
        versions[path] = tomllib.loads((ROOT / path).read_text())["project"]["version"]
    versions["server"] = re.findall(
        r'__version__ = "(.*)"', (ROOT / "server/src/katago_mcp/__init__.py").read_text()
    )[0]
    (archive,) = yaml.safe_load((ROOT / "execution-environment.yml").read_text())["additional_build_files"]
    versions["execution-environment.yml"] = (
        archive["src"].removeprefix("katago-fleet-").removesuffix(".tar.gz")
    )
    assert set(versions.values()) == {galaxy()["version"]}, versions


@pytest.fixture(scope="module")
def documentation() -> dict[str, dict[str, Any]]:
    """The output of ansible-doc for every plugin, by kind and name."""
    documents = {}
    for kind in KINDS:
        names = [f"katago.fleet.{param.values[1]}" for param in PLUGINS if param.values[0] == kind]
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "doc", "--type", kind, "--json", *names],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            capture_output=True,
            text=True,
            check=True,
        )
        documents[kind] = json.loads(done.stdout)
    return documents


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_every_plugin_is_documented(documentation: dict[str, dict[str, Any]], kind: str, name: str) -> None:
    plugin = documentation[kind][f"katago.fleet.{name}"]
    assert plugin["doc"]["name" if kind != "module" else "module"] == name
    assert plugin["doc"]["short_description"]
    assert all(plugin["doc"]["description"])
    assert all(option.get("description") for option in plugin["doc"]["options"].values())
    if kind != "callback":
        assert f"katago.fleet.{name}" in plugin["examples"]
        assert plugin["return"] is not None or kind == "module"


def test_every_filter_has_documentation() -> None:
    source = (ROOT / "plugins/filter/fleet.py").read_text()
    table = source.partition("return {")[2]
    assert sorted(re.findall(r'"(\w+)":', table)) == sorted(
        path.stem for path in (ROOT / "plugins/filter").glob("*.yml")
    )


@pytest.mark.parametrize("play", PLAYS)
def test_play_needs_no_ansible_cfg(play: dict[str, Any]) -> None:
    assert play["gather_facts"] is False
    connection, *others = play["vars_files"]
    connection, others = connection.removeprefix("../"), [each.removeprefix("../") for each in others]
    assert connection in ("vars/connection.yml", "vars/fresh_connection.yml")
    assert others in ([], ["vars/procedure.yml"])
    assert not {name for name in play.get("vars", {}) if name.startswith("ansible_")}
