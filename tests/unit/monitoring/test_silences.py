"""Silences of procedures, in a real Alertmanager: what they hide, how long, and what they never hide."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.katago.fleet.plugins.action import alert_silence as action
from ansible_collections.katago.fleet.plugins.module_utils.monitoring import alertmanager
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import silences
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS
from tests.ports import free_ports
from tests.unit.monitoring import alertmanagers

needs_alertmanager = pytest.mark.skipif(
    not alertmanagers.PROGRAM.exists(), reason="Alertmanager is not installed"
)
HALF_AN_HOUR = timedelta(minutes=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with alertmanagers.alertmanager(tmp_path_factory.mktemp("alertmanager")) as port:
        yield port


@pytest.fixture
def api(server: int) -> Iterator[alertmanager.Api]:
    """An API without silences that are in force."""
    yield alertmanager.Api(server)
    for each in in_force(server):
        alertmanager.Api(server).remove(each["id"])


def of_run(run: str, host: str = "a", alerts: tuple[str, ...] = ()) -> list[alertmanager.Silence]:
    comment = silences.comment(procedure="restart", host=host, who="ann@ctl", incident="", run=run)
    return [alertmanager.Silence(tuple(each), "ann@ctl", comment) for each in silences.matchers(host, alerts)]


def in_force(port: int) -> list[dict[str, Any]]:
    return [
        each for each in alertmanagers.ask(port, "/api/v2/silences") if each["status"]["state"] != "expired"
    ]


def ends(port: int) -> list[datetime]:
    return sorted(datetime.fromisoformat(each["endsAt"]) for each in in_force(port))


def silenced(port: int, *alerts: dict[str, str]) -> list[bool]:
    """Whether each alert is silenced."""
    alertmanagers.ask(port, "/api/v2/alerts", [{"labels": labels} for labels in alerts])
    found = {
        frozenset(each["labels"].items()): bool(each["status"]["silencedBy"])
        for each in alertmanagers.ask(port, "/api/v2/alerts")
    }
    return [found[frozenset(labels.items())] for labels in alerts]


def labels(name: str, **more: str) -> dict[str, str]:
    severity = next(each.severity for each in ALERTS if each.name == name)
    return {"alertname": name, "severity": severity, **more}


@needs_alertmanager
def test_silence_hides_what_the_procedure_causes_and_nothing_else(api: alertmanager.Api) -> None:
    alertmanager.hold(api, of_run("1"), datetime.now(UTC) + HALF_AN_HOUR)
    assert silenced(
        api.port,
        labels("ServiceDown", instance="a"),
        labels("LoadBalancerServerDown", instance="lb-1", server="a"),
    ) == [True, True]
    assert (
        silenced(
            api.port,
            # Other hosts.
            labels("ServiceDown", instance="b"),
            labels("LoadBalancerServerDown", instance="lb-1", server="b"),
            labels("ServiceDown", instance="a2"),
            # The whole fleet.
            labels("FleetDown"),
            labels("LoadBalancerNoServer", instance="a"),
            {**labels("ServiceDown", instance="a"), "severity": "P0"},
            # The host, but not the work on it.
            labels("ReleaseChanged", instance="a"),
            labels("DiskFull", instance="a", mountpoint="/"),
            labels("MonitoringAlive"),
        )
        == [False] * 9
    )


@needs_alertmanager
def test_run_extends_its_silence_and_sets_no_second_one(api: alertmanager.Api) -> None:
    now = datetime.now(UTC)
    first = alertmanager.hold(api, of_run("1"), now + HALF_AN_HOUR)
    assert alertmanager.hold(api, of_run("1"), now + 2 * HALF_AN_HOUR) == first
    assert len(in_force(api.port)) == len(first)
    assert min(ends(api.port)) >= now + 2 * HALF_AN_HOUR - timedelta(seconds=1)
    # An earlier end does not shorten it.
    alertmanager.hold(api, of_run("1"), now + HALF_AN_HOUR)
    assert min(ends(api.port)) >= now + 2 * HALF_AN_HOUR - timedelta(seconds=1)


@needs_alertmanager
def test_end_removes_only_the_silence_of_the_run(api: alertmanager.Api) -> None:
    until = datetime.now(UTC) + HALF_AN_HOUR
    killed = alertmanager.hold(api, of_run("1"), until)
    own = alertmanager.hold(api, of_run("2"), until)
    assert alertmanager.end(api, of_run("2"), timedelta()) == own
    assert sorted(each["id"] for each in in_force(api.port)) == sorted(killed)
    # What nobody ends has an end.
    assert max(ends(api.port)) <= until + timedelta(seconds=1)
    assert alertmanager.end(api, of_run("2"), timedelta()) == []


@needs_alertmanager
def test_grace_shortens_a_silence_and_never_extends_it(api: alertmanager.Api) -> None:
    now = datetime.now(UTC)
    alertmanager.hold(api, of_run("1"), now + HALF_AN_HOUR)
    alertmanager.end(api, of_run("1"), timedelta(minutes=2))
    (end, *_) = ends(api.port)
    assert end < now + HALF_AN_HOUR
    alertmanager.end(api, of_run("1"), timedelta(minutes=20))
    assert ends(api.port)[0] == end


@needs_alertmanager
def test_comment_names_procedure_host_person_incident_and_run(api: alertmanager.Api) -> None:
    comment = silences.comment(
        procedure="restart", host="a", who="ann@ctl", incident="INC-7", run="boot:12:34"
    )
    for part in ("restart", " a,", "ann@ctl", "INC-7", "boot:12:34"):
        assert part in comment


def test_alertmanager_that_is_down_is_an_error_with_its_address() -> None:
    (port,) = free_ports(1)
    with pytest.raises(alertmanager.AlertmanagerError, match=f"127.0.0.1:{port} does not answer"):
        alertmanager.hold(alertmanager.Api(port), of_run("1"), datetime.now(UTC))


@needs_alertmanager
def test_refusal_of_alertmanager_has_its_reason(api: alertmanager.Api) -> None:
    past = datetime.now(UTC) - HALF_AN_HOUR
    with pytest.raises(alertmanager.AlertmanagerError, match="answered 400"):
        alertmanager.hold(api, of_run("1"), past)


def test_alerts_that_a_procedure_causes_exist_and_are_never_of_the_whole_fleet() -> None:
    severities = {each.name: each.severity for each in ALERTS}
    assert {severities[name] for name in silences.CAUSED} <= {"P1", "P2", "P3"}


def test_drill_silences_the_alerts_that_it_names() -> None:
    (only,) = silences.matchers("a", ["DiskFull"])
    assert {each["name"]: each["value"] for each in only} == {
        "instance": "a",
        "alertname": "DiskFull",
        "severity": "P0",
    }


@pytest.mark.parametrize(
    ("host", "alerts", "minutes", "problem"),
    [
        ("", [], 30, "host is empty"),
        ("a", [], 0, "minutes is 0"),
        ("a", [], 241, "minutes is 241"),
        ("a", ["DiskFul"], 30, "there is no alert DiskFul"),
        ("a", ["FleetDown"], 30, "FleetDown is about the whole fleet"),
        ("a", ["MonitoringAlive"], 30, "MonitoringAlive is about the whole fleet"),
    ],
)
def test_what_cannot_be_silenced_is_a_problem(
    host: str, alerts: list[str], minutes: int, problem: str
) -> None:
    (found,) = silences.problems(host, alerts, minutes)
    assert problem in found


class Silencer(action.ActionModule):
    """The action plugin with an answer of the monitoring host, or an error in its place."""

    def __init__(self, answer: dict[str, Any] | Exception, **arguments: Any) -> None:
        given = {"state": "present", "host": "a", "procedure": "restart", "who": "ann@ctl", **arguments}
        self._task = SimpleNamespace(
            args=given, delegate_to="mon-1", async_val=0, environment=None, check_mode=False, diff=False
        )
        self._answer = answer
        self.requests: list[dict[str, Any]] = []
        self._supports_check_mode = self._supports_async = True
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))

    def _execute_module(self, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.requests.append(module_args)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"failed": True, "msg": "Alertmanager on 127.0.0.1:9093 does not answer."}, "does not answer"),
        (AnsibleConnectionFailure("no route to host"), "no route to host"),
    ],
)
def test_monitoring_that_is_down_is_a_warning(answer: Any, reason: str) -> None:
    result = Silencer(answer).run(task_vars={})
    assert not result.get("failed") and not result.get("unreachable")
    assert result["reached"] is False
    (warning,) = result["warnings"]
    assert warning.startswith("[mon-1] Alerts about a are not silenced during restart: ")
    assert reason in warning


def test_silence_is_no_change() -> None:
    result = Silencer({"changed": False, "silences": ["1"]}).run(task_vars={})
    assert (result["changed"], result["reached"], result["silences"]) == (False, True, ["1"])


def test_request_that_cannot_be_made_is_refused_before_the_host_is_asked() -> None:
    silencer = Silencer({}, alerts=["FleetDown"])
    result = silencer.run(task_vars={})
    assert result["failed"] and "never silenced" in result["msg"]
    assert silencer.requests == []


def test_same_run_finds_its_silence_by_the_comment() -> None:
    setting, ending = Silencer({}), Silencer({}, state="absent")
    setting.run(task_vars={})
    ending.run(task_vars={})
    assert setting.requests[0]["comment"] == ending.requests[0]["comment"]
    assert setting.requests[0]["matchers"] == ending.requests[0]["matchers"]


@needs_alertmanager
def test_silence_of_a_killed_drill_is_ended_by_another_run_and_no_other_one(api: alertmanager.Api) -> None:
    until = datetime.now(UTC) + HALF_AN_HOUR

    def held(procedure: str, host: str, incident: str) -> list[str]:
        comment = silences.comment(
            procedure=procedure, host=host, who="ann@ctl", incident=incident, run="killed"
        )
        wanted = [
            alertmanager.Silence(tuple(each), "ann@ctl", comment)
            for each in silences.matchers(host, ["ServiceDown", "DiskFull"])
        ]
        return alertmanager.hold(api, wanted, until)

    killed = held("drill", "a", "drill-1")
    kept = [
        *held("drill", "a", "drill-10"),
        *held("drill", "b", "drill-1"),
        *held("restart", "a", "drill-1"),
    ]
    parts = silences.parts_of_any_run(procedure="drill", host="a", incident="drill-1")
    assert alertmanager.end_of_any_run(api, parts, timedelta(minutes=2)) == killed
    assert min(ends(api.port)) < until - timedelta(minutes=20)
    assert alertmanager.end_of_any_run(api, parts, timedelta()) == killed
    assert sorted(each["id"] for each in in_force(api.port)) == sorted(kept)


def test_silences_of_any_run_need_an_incident_and_only_end() -> None:
    refused = Silencer({}, state="absent", any_run=True).run(task_vars={})
    assert refused["failed"] and "any_run needs the incident" in refused["msg"]
    ending = Silencer({}, state="absent", any_run=True, incident="drill-1", procedure="drill")
    ending.run(task_vars={})
    setting = Silencer({}, any_run=True, incident="drill-1", procedure="drill")
    setting.run(task_vars={})
    assert ending.requests[0]["parts"] == ["drill works on a, started by ", ", incident drill-1 (run "]
    assert setting.requests[0]["parts"] == []


@needs_alertmanager
def test_alerts_that_are_silenced_do_not_fire_for_others(api: alertmanager.Api) -> None:
    alertmanager.hold(api, of_run("1"), datetime.now(UTC) + HALF_AN_HOUR)
    documents = [labels("ServiceDown", instance="a"), labels("EngineDown", instance="c")]
    silenced(api.port, *documents)
    firing = [each["labels"] for each in api.firing()]
    assert documents[1] in firing
    assert documents[0] not in firing
