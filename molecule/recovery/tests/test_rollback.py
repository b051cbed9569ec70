"""R10: a rollback switches to a validated release in one step, or is refused without any change."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import assets as deploy_assets
from lab import assets, paths
from lab.engine import VARIABLES
from lab.hosts import Host
from tests import fleet, hosts

TARGET = fleet.LAB.hosts()[0].name
LIMIT = f"--limit={TARGET}"
# The name of the first task of a return that changes the host.
RETURNS = "Reject the failed release"
# Links that a rollback does not change: all of them go through the link to the current release.
LINKS = ("/etc/katago-mcp/config.json", "/usr/local/bin/katago-mcp", f"/etc/systemd/system/{hosts.SERVICE}")
# Prints the files that the server and its engine were started from and have loaded, and settings of systemd.
RUNNING = r"""
import hashlib, json, pathlib, re, subprocess
def shown(name):
    command = ["systemctl", "show", "katago-mcp.service", "--value", f"--property={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
def words(process):
    return process.joinpath("cmdline").read_text().split("\0")
server = pathlib.Path("/proc", shown("MainPID"))
numbers = server.joinpath("task", server.name, "children").read_text().split()
children = [pathlib.Path("/proc", number) for number in numbers]
(engine,) = [child for child in children if "-model" in words(child)]
given = dict(zip(words(engine), words(engine)[1:]))
loaded = re.findall("/opt/katago-mcp/releases/([^/]+)/venv/", server.joinpath("maps").read_text())
print(json.dumps({
    "release": server.joinpath("cwd").readlink().name,
    "server": sorted(set(loaded)),
    "command": words(engine),
    "engine": str(engine.joinpath("exe").readlink()),
    "network": digest(given["-model"]),
    "settings": digest(given["-config"]),
    "configuration": digest("/etc/katago-mcp/config.json"),
    "unit": digest("/etc/systemd/system/katago-mcp.service"),
    "patience": shown("TimeoutStopUSec"),
}))
"""


@pytest.fixture(scope="module")
def host() -> Any:
    return hosts.connect(TARGET)


@pytest.fixture(scope="module")
def target() -> Host:
    return fleet.host_named(TARGET)


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The variables of three releases that differ in a visible limit. The third shares no file with them.

    Its engine and its network behave like those of the lab, but are different files.
    """
    directory = tmp_path_factory.mktemp("others")
    cached = (paths.CACHE, print)
    engine = yaml.safe_load(VARIABLES.read_text())["katago_engine"]
    network = assets.network(shared=assets.may_use_shared())
    program = deploy_assets.obtain("katago_engine", engine, *cached).path.read_bytes()
    weights = gzip.decompress(deploy_assets.obtain("katago_network", network, *cached).path.read_bytes())
    others = {
        "katago_engine": engine | file(directory / "katago", program + b"\0"),
        "katago_network": file(directory / "other.bin.gz", gzip.compress(weights, compresslevel=1, mtime=0)),
        "katago_nn_cache_size_power_of_two": 14,
        "katago_mcp_drain_timeout": 25,
    }
    return [
        {"katago_mcp_max_visits": 1000},
        {"katago_mcp_max_visits": 970},
        {"katago_mcp_max_visits": 980, **others},
    ]


def file(path: Path, content: bytes) -> dict[str, str]:
    """Write a file on the control node. Returns the variables of an asset that comes from it."""
    path.write_bytes(content)
    return {"source": "file", "path": str(path), "sha256": hashlib.sha256(content).hexdigest()}


def running_parts(host: Any) -> dict[str, Any]:
    """The parts of the release that the running processes use, by kind."""
    parts: dict[str, Any] = json.loads(host.check_output(f"python3 - <<'END'\n{RUNNING}\nEND"))
    return parts


@pytest.fixture(scope="module")
def deployed(host: Any, variants: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Deploy three validated releases one after the other. Returns what ran with each, by release."""
    parts = {}
    for variables in variants:
        run = fleet.play("deploy.yml", LIMIT, variables=variables)
        assert run.returncode == 0, run.output
        parts[hosts.current(host)] = running_parts(host)
    return parts


@pytest.fixture(scope="module")
def releases(deployed: dict[str, dict[str, Any]]) -> list[str]:
    """The names of the deployed releases."""
    return list(deployed)


@pytest.fixture
def untouched(host: Any, releases: list[str]) -> Iterator[list[str]]:
    """The three releases. Checks that the refused rollback of a test changes nothing."""
    before = hosts.untouched(host)
    yield releases
    assert hosts.untouched(host) == before


@pytest.fixture
def two(host: Any, releases: list[str], variants: list[dict[str, Any]]) -> tuple[str, str]:
    """The first release, and the third, which is current and whose rollback target is the first."""
    first, _, third = releases
    for variables in (variants[0], variants[2]):
        run = fleet.play("deploy.yml", LIMIT, variables=variables)
        assert run.returncode == 0, run.output
    assert hosts.current(host) == third
    return first, third


def running(target: Host) -> str:
    status, body = fleet.get(target, "/ready")
    assert status == 200, body
    return str(json.loads(body)["release"])


def test_check_mode_predicts_the_release(host: Any, untouched: list[str]) -> None:
    run = fleet.play("rollback.yml", LIMIT, "--check")
    assert run.returncode == 0, run.output
    predicted = f"Would run release {untouched[1]}; previous release: {untouched[2]}."
    assert f"rollback: changed (predicted). {predicted}" in run.output


def test_damaged_release_is_skipped_and_refused_if_named(host: Any, untouched: list[str]) -> None:
    first, second, _ = untouched
    file = f"/opt/katago-mcp/releases/{second}/analysis.cfg"
    host.check_output(f"cp --preserve {file} /root/whole && printf x >> {file}")
    try:
        run = fleet.play("rollback.yml", LIMIT, variables={"release": second})
        assert run.returncode != 0
        assert f"the release {second} is damaged: analysis.cfg was changed" in run.output
        predicted = fleet.play("rollback.yml", LIMIT, "--check")
        assert f"Would run release {first}" in predicted.output
    finally:
        host.check_output(f"cp --preserve /root/whole {file}")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"release": "0.0.9-nowhere"}, "there is no release '0.0.9-nowhere'; available releases: "),
        ({"relase": "0.1.0-aa"}, "-e relase is not an input of this playbook. Did you mean release?"),
        ({"incident": "../../etc"}, "the incident's id is '../../etc'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(untouched: list[str], variables: dict[str, Any], message: str) -> None:
    run = fleet.play("rollback.yml", LIMIT, variables=variables)
    assert run.returncode != 0
    assert message in run.output
    assert set(run.changed.values()) == {0}


def test_every_rollback_goes_back_one_validated_release_until_there_is_none(
    host: Any, target: Host, deployed: dict[str, dict[str, Any]]
) -> None:
    """R10: one link switches server, engine, network, configuration and unit together."""
    first, second, third = deployed
    assert not [kind for kind, value in deployed[third].items() if value == deployed[second][kind]]
    assert running_parts(host) == deployed[third]
    links = f"stat --format='%N %i %Z' {' '.join(LINKS)}"
    others = host.check_output(links)
    switches = len(switched(host))
    visited = [third]
    with cut_off(host):
        while True:
            before = hosts.untouched(host)
            run = fleet.play("rollback.yml", LIMIT)
            if run.returncode != 0:
                break
            visited.append(running(target))
            # Never back and forth. The host may also have releases from before this module.
            assert len(set(visited)) == len(visited)
            assert running_parts(host) == deployed.get(visited[-1], running_parts(host))
            assert hosts.history(host)[-1]["verdict"] == "good"
    assert visited[:3] == [third, second, first]
    assert [record["release"] for record in switched(host)[switches:]] == visited[1:]
    assert host.check_output(links) == others
    assert "there is no earlier release that is validated and intact" in run.output
    assert f"- {third}: validated on " in run.output
    assert "a rollback left it on " in run.output
    assert f"ansible-playbook playbooks/rollback.yml -l {TARGET} -e release=" in run.output
    assert hosts.untouched(host) == before


def test_failed_target_is_rejected_and_refused_from_then_on(
    host: Any, target: Host, two: tuple[str, str]
) -> None:
    first, third = two
    with unstartable(host, first):
        run = fleet.play("rollback.yml", LIMIT, variables={"validate_ready_deadline": 15})
    assert run.returncode != 0
    assert f"{first} was rejected. This host was rolled back to" in run.output
    assert running(target) == third
    refused = fleet.play("rollback.yml", LIMIT, variables={"release": first})
    assert f"{first} was rejected on" in refused.output
    assert "To roll back to it anyway, add -e allow_rejected=true" in refused.output
    assert running(target) == third
    allowed = fleet.play("rollback.yml", LIMIT, variables={"release": first, "allow_rejected": True})
    assert allowed.returncode == 0, allowed.output
    assert running(target) == first


def test_rollback_killed_between_any_two_tasks_finishes_when_run_again(
    host: Any, target: Host, two: tuple[str, str]
) -> None:
    first, third = two
    installed = host.check_output("ls /opt/katago-mcp/releases")

    def attempt(tasks: int) -> fleet.Run:
        run = fleet.play("rollback.yml", LIMIT, kill_before=tasks)
        assert hosts.current(host) in (first, third)
        return run

    fleet.killed_everywhere(attempt, 40)
    assert running(target) == first
    assert host.check_output("ls /opt/katago-mcp/releases") == installed
    assert not host.file(hosts.LOCK).exists
    last = switched(host)[-1]
    assert (last["release"], last["previous"]) == (first, third)


def test_return_killed_between_any_two_tasks_finishes_when_run_again(
    host: Any, target: Host, two: tuple[str, str]
) -> None:
    """The target of a rollback fails. The return is killed before each of its tasks, then run again."""
    first, third = two
    installed = host.check_output("ls /opt/katago-mcp/releases")
    before = hosts.history(host)
    host.check_output(f"cp --preserve {hosts.HISTORY} /root/history")
    states = []
    with unstartable(host, first):
        for tasks in range(10):
            killed = fleet.play("rollback.yml", LIMIT, kill_before=tasks, counts_from=RETURNS)
            assert killed.returncode == -9, killed.output
            added = [(each["release"], each["verdict"]) for each in hosts.history(host)[len(before) :]]
            states.append((hosts.current(host), added[1:]))
            again = fleet.play("rollback.yml", LIMIT)
            assert "is taken over: its run is dead" in again.output
            if added[1:]:
                assert again.returncode == 0, again.output
                validated = f"Release {third} runs and is validated; previous release: {first}."
                assert validated in again.output
            else:
                assert again.returncode != 0
                assert f"{first} was rejected. This host was rolled back to" in again.output
            assert running(target) == hosts.current(host) == third
            now = hosts.history(host)
            assert now[: len(before)] == before
            assert (now[-1]["release"], now[-1]["verdict"]) == (third, "good")
            assert [each["verdict"] for each in now if each["release"] == first and each["verdict"]][
                -1
            ] == "bad"
            assert not host.file(hosts.LOCK).exists
            assert host.check_output("ls /opt/katago-mcp/releases") == installed
            if added[-1] == (third, "good"):
                break
            host.check_output(
                f"cp --preserve /root/history {hosts.HISTORY};"
                f" ln --symbolic --force --no-dereference releases/{third} /opt/katago-mcp/current;"
                f" systemctl daemon-reload; systemctl reset-failed {hosts.SERVICE};"
                f" systemctl restart {hosts.SERVICE}"
            )
    back = (third, None)
    assert states == [
        (first, []),
        (first, [(first, "bad")]),
        (third, [(first, "bad"), back]),
        (third, [(first, "bad"), back]),
        (third, [(first, "bad"), back]),
        (third, [(first, "bad"), back, (third, "good")]),
    ]


def unstartable(host: Any, release: str) -> contextlib.AbstractContextManager[None]:
    """Keep the service from starting with a release."""
    others = f"test $(readlink /opt/katago-mcp/current) != releases/{release}"
    return hosts.drop_in(host, f"ExecStartPre=/bin/sh -c '{others}'")


def switched(host: Any) -> list[dict[str, Any]]:
    """The records of switches in the host's history."""
    return [record for record in hosts.history(host) if record["verdict"] is None]


@contextlib.contextmanager
def cut_off(host: Any) -> Iterator[None]:
    """Disconnect the host from other networks."""
    route = host.check_output("ip route show default")
    host.check_output("ip route del default")
    try:
        assert "unreachable" in host.run("ip route get 192.0.2.1").stderr
        yield
    finally:
        host.check_output(f"ip route add {route}")
