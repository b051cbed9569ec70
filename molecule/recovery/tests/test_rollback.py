"""R10: back to a release that was good, in one switch; refused untouched when it cannot be right."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.hosts import Host
from tests import fleet, hosts

TARGET = fleet.LAB.hosts()[0].name
LIMIT = f"--limit={TARGET}"
# One release for each, told apart from outside by the limit that the service tells.
LIMITS = (1000, 970, 980)


@pytest.fixture(scope="module")
def host() -> Any:
    return hosts.connect(TARGET)


@pytest.fixture(scope="module")
def target() -> Host:
    return fleet.host_named(TARGET)


@pytest.fixture(scope="module")
def releases(host: Any) -> list[str]:
    """Three good releases, deployed one after the other."""
    names = []
    for limit in LIMITS:
        run = fleet.play("deploy.yml", LIMIT, variables={"katago_mcp_max_visits": limit})
        assert run.returncode == 0, run.output
        names.append(hosts.current(host))
    return names


@pytest.fixture
def untouched(host: Any, releases: list[str]) -> Iterator[list[str]]:
    """The three releases, of which no refused rollback changes anything."""
    before = hosts.untouched(host)
    yield releases
    assert hosts.untouched(host) == before


@pytest.fixture
def two(host: Any, releases: list[str]) -> tuple[str, str]:
    """The first release, and the third, which is current and leads back to the first."""
    first, _, third = releases
    for limit in (LIMITS[0], LIMITS[2]):
        run = fleet.play("deploy.yml", LIMIT, variables={"katago_mcp_max_visits": limit})
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
    assert f"rollback: changed (predicted). {untouched[1]} runs; {untouched[2]} was left." in run.output


def test_damaged_release_is_passed_over_and_refused_by_name(host: Any, untouched: list[str]) -> None:
    first, second, _ = untouched
    file = f"/opt/katago-mcp/releases/{second}/analysis.cfg"
    host.check_output(f"cp --preserve {file} /root/whole && printf x >> {file}")
    try:
        run = fleet.play("rollback.yml", LIMIT, variables={"release": second})
        assert run.returncode != 0
        assert f"the release {second} is damaged: analysis.cfg was changed" in run.output
        predicted = fleet.play("rollback.yml", LIMIT, "--check")
        assert f"{first} runs" in predicted.output
    finally:
        host.check_output(f"cp --preserve /root/whole {file}")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"release": "0.0.9-nowhere"}, "there is no release '0.0.9-nowhere'; there are "),
        ({"relase": "0.1.0-aa"}, "-e relase is no variable of this playbook; did you mean release?"),
        ({"incident": "../../etc"}, "the incident's id is '../../etc'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(untouched: list[str], variables: dict[str, Any], words: str) -> None:
    run = fleet.play("rollback.yml", LIMIT, variables=variables)
    assert run.returncode != 0
    assert words in run.output
    assert set(run.changed.values()) == {0}


def test_every_rollback_goes_one_good_release_further_back_until_there_is_none(
    host: Any, target: Host, releases: list[str]
) -> None:
    first, second, third = releases
    went = [third]
    with cut_off(host):
        while True:
            before = hosts.untouched(host)
            run = fleet.play("rollback.yml", LIMIT)
            if run.returncode != 0:
                break
            went.append(running(target))
            # Never back and forth; hosts may have had releases before those of this module.
            assert len(set(went)) == len(went)
            assert hosts.history(host)[-1]["verdict"] == "good"
    assert went[:3] == [third, second, first]
    assert "there is no earlier release that was found good and is whole" in run.output
    assert hosts.untouched(host) == before


def test_target_that_fails_is_left_again_marked_bad_and_refused_from_then_on(
    host: Any, target: Host, two: tuple[str, str]
) -> None:
    first, third = two
    only_others = f"ExecStartPre=/bin/sh -c 'test $(readlink /opt/katago-mcp/current) != releases/{first}'"
    with hosts.drop_in(host, only_others):
        run = fleet.play("rollback.yml", LIMIT, variables={"validate_ready_deadline": 15})
    assert run.returncode != 0
    assert f"{first} is marked bad. This host returned to" in run.output
    assert running(target) == third
    refused = fleet.play("rollback.yml", LIMIT, variables={"release": first})
    assert f"{first} was found bad on" in refused.output
    assert "-e allow_bad=true goes there all the same" in refused.output
    assert running(target) == third
    allowed = fleet.play("rollback.yml", LIMIT, variables={"release": first, "allow_bad": True})
    assert allowed.returncode == 0, allowed.output
    assert running(target) == first


def test_killed_between_any_two_tasks_and_repeated_it_converges(
    host: Any, target: Host, two: tuple[str, str]
) -> None:
    first, third = two
    known = host.check_output("ls /opt/katago-mcp/releases")

    def attempt(tasks: int) -> fleet.Run:
        run = fleet.play("rollback.yml", LIMIT, kill_before=tasks)
        assert hosts.current(host) in (first, third)
        return run

    fleet.killed_everywhere(attempt, 40)
    assert running(target) == first
    assert host.check_output("ls /opt/katago-mcp/releases") == known
    assert not host.file(hosts.LOCK).exists
    switches = [record for record in hosts.history(host) if record["verdict"] is None]
    assert (switches[-1]["release"], switches[-1]["previous"]) == (first, third)


@contextlib.contextmanager
def cut_off(host: Any) -> Iterator[None]:
    """The host without a way to the outside."""
    route = host.check_output("ip route show default")
    host.check_output("ip route del default")
    try:
        assert "unreachable" in host.run("ip route get 192.0.2.1").stderr
        yield
    finally:
        host.check_output(f"ip route add {route}")
