"""R10: back to a release that was good, in one switch; refused untouched when it cannot be right."""

from __future__ import annotations

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


@pytest.fixture
def host() -> Any:
    return hosts.connect(TARGET)


@pytest.fixture
def target() -> Host:
    return fleet.host_named(TARGET)


@pytest.fixture
def releases(host: Any) -> list[str]:
    """Three good releases, deployed one after the other; the last one is current."""
    names = []
    for limit in LIMITS:
        run = fleet.play("deploy.yml", LIMIT, variables={"katago_mcp_max_visits": limit})
        assert run.returncode == 0, run.output
        names.append(hosts.current(host))
    return names


@pytest.fixture
def last(host: Any, releases: list[str]) -> Iterator[tuple[str, str, str]]:
    """The three releases, of which no refused rollback changes anything."""
    before = hosts.untouched(host)
    first, second, third = releases
    yield first, second, third
    assert hosts.untouched(host) == before


def running(target: Host) -> str:
    status, body = fleet.get(target, "/ready")
    assert status == 200, body
    return str(json.loads(body)["release"])


def test_rolling_back_twice_goes_two_good_releases_back_and_a_third_time_is_refused(
    host: Any, target: Host, releases: list[str]
) -> None:
    first, second, _ = releases
    with cut_off(host):
        for expected in (second, first):
            run = fleet.play("rollback.yml", LIMIT)
            assert run.returncode == 0, run.output
            assert running(target) == expected
            assert hosts.history(host)[-1]["verdict"] == "good"
        before = hosts.untouched(host)
        run = fleet.play("rollback.yml", LIMIT)
    assert run.returncode != 0
    assert "there is no earlier release that was found good and is whole" in run.output
    assert hosts.untouched(host) == before


def test_check_mode_predicts_the_release(host: Any, last: tuple[str, str, str]) -> None:
    run = fleet.play("rollback.yml", LIMIT, "--check")
    assert run.returncode == 0, run.output
    assert f"rollback: changed (predicted). {last[1]} runs; {last[2]} was left." in run.output


def test_damaged_release_is_passed_over_and_refused_by_name(host: Any, last: tuple[str, str, str]) -> None:
    first, second, _ = last
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
def test_bad_input_is_refused(last: tuple[str, str, str], variables: dict[str, Any], words: str) -> None:
    run = fleet.play("rollback.yml", LIMIT, variables=variables)
    assert run.returncode != 0
    assert words in run.output
    assert set(run.changed.values()) == {0}


def test_target_that_fails_is_left_again_marked_bad_and_refused_from_then_on(
    host: Any, target: Host, releases: list[str]
) -> None:
    first, second, third = releases
    only_others = f"ExecStartPre=/bin/sh -c 'test $(readlink /opt/katago-mcp/current) != releases/{second}'"
    with hosts.drop_in(host, only_others):
        run = fleet.play("rollback.yml", LIMIT, variables={"validate_ready_deadline": 15})
    assert run.returncode != 0
    assert f"{second} is marked bad. This host returned to\n{third}, which is validated" in run.output
    assert running(target) == third
    refused = fleet.play("rollback.yml", LIMIT, variables={"release": second})
    assert f"{second} was found bad on" in refused.output
    assert "-e allow_bad=true goes there all the same" in refused.output
    assert running(target) == third
    allowed = fleet.play("rollback.yml", LIMIT, variables={"release": second, "allow_bad": True})
    assert allowed.returncode == 0, allowed.output
    assert running(target) == second
    again = fleet.play("rollback.yml", LIMIT)
    assert again.returncode == 0, again.output
    assert running(target) in (first, third)


def test_killed_between_any_two_tasks_and_repeated_it_converges(
    host: Any, target: Host, releases: list[str]
) -> None:
    _, second, third = releases
    known = host.check_output("ls /opt/katago-mcp/releases")
    for tasks in range(1, 40):
        run = fleet.play("rollback.yml", LIMIT, kill_before=tasks)
        assert hosts.current(host) in (second, third)
        if run.returncode == 0:
            break
        assert run.returncode == -9, run.output
    else:
        raise AssertionError("no run came to its end")
    assert "is taken over: its run is dead" in run.output
    assert running(target) == second
    assert host.check_output("ls /opt/katago-mcp/releases") == known
    assert not host.file(hosts.LOCK).exists
    (switched,) = [
        each for each in hosts.history(host) if each["how"] == "rollback" and each["previous"] == third
    ][-1:]
    assert switched["release"] == second


class cut_off:
    """The host without a way to the outside: no default route, no resolver."""

    def __init__(self, host: Any) -> None:
        self._host = host

    def __enter__(self) -> None:
        self._route = self._host.check_output("ip route show default")
        self._host.check_output("ip route del default")
        assert self._host.run("getent hosts deb.debian.org").rc != 0

    def __exit__(self, *_: object) -> None:
        self._host.check_output(f"ip route add {self._route}")
