"""The findings about load balancers: each has its level, its reason and the command to run next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.action import triage as triage_action
from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import workers
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    config,
    keepalived,
    rotation,
    runtime,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import Server, Settings
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    checks_load_balancer,
    rules_load_balancer,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_reports, triage_table
from tests.unit.triage.hosts import (
    BALANCER_UNIT,
    NOW,
    Facts,
    balancing,
    having,
    healthy,
    load_balancer,
    server,
)

HOUR = 3600
ENTRY = {
    "procedure": "rotation_out",
    "who": "anna",
    "since": "2026-11-24T02:50:00Z",
    "why": "disk is replaced",
}
DOWN = {**BALANCER_UNIT, "active": "failed", "sub": "failed", "result": "exit-code", "started_at": None}


def judge(facts: Facts) -> triage_verdict.Verdict:
    known = triage_facts.read(facts)
    assert not known.malformed, known.unknown
    return triage_verdict.judge(known, now=NOW)


def out(**changes: str) -> Facts:
    """A load balancer on which katago-2 is out of rotation."""
    servers = {"katago-1": server(), "katago-2": server(status="MAINT", weight=0)}
    return balancing(rotation={"servers": servers, "out": {"katago-2": {**ENTRY, **changes}}})


def servers(**changes: Any) -> Facts:
    """A load balancer that sees katago-2 with some keys changed."""
    return balancing(rotation={"servers": {"katago-1": server(), "katago-2": server(**changes)}})


def test_healthy_load_balancer_needs_no_facts_of_the_service() -> None:
    verdict = judge(load_balancer())
    assert (verdict.verdict, verdict.reasons, verdict.next) == ("healthy", (), None)
    assert "2 of 2 hosts get requests: katago-1, katago-2" in verdict.notes
    assert "this load balancer has the virtual address 10.20.0.200" in verdict.notes
    assert not any("client requests" in note or "performance" in note for note in verdict.notes)


def test_host_that_is_both_has_the_findings_of_both() -> None:
    facts = {**healthy(), **balancing(haproxy=DOWN)} | having(unit={"active": "failed"})
    assert {each.rule for each in judge(facts).reasons} == {"unit", "haproxy"}


def test_resources_of_a_load_balancer_propose_no_playbook_of_the_service() -> None:
    verdict = judge(balancing(memory={"available_percent": 1.0}))
    assert (verdict.verdict, verdict.next) == ("P2", None)


@pytest.mark.parametrize(("balancers", "level"), [(["lb-1"], "P0"), (["lb-1", "lb-2"], "P1")])
def test_haproxy_that_is_down_is_worst_if_no_other_load_balancer_serves(
    balancers: list[str], level: str
) -> None:
    verdict = judge(balancing(haproxy=DOWN, fleet={"load_balancers": balancers}))
    assert (verdict.verdict, verdict.next) == (level, "load_balancer.yml")
    assert "haproxy.service is failed (failed, result exit-code)" in verdict.reasons[0].measured


@pytest.mark.parametrize(
    ("changes", "level", "step", "text"),
    [
        ({"load": "not-found", "active": "inactive"}, "P1", "load_balancer.yml", "was not set up"),
        ({"load": "masked", "active": "inactive"}, "P1", None, "masked"),
        ({"load": "masked"}, "P2", None, "masked"),
        ({"silent": "timed out"}, "P1", "load_balancer.yml", "does not answer at its runtime socket"),
    ],
)
def test_haproxy_that_cannot_start_or_answer(
    changes: dict[str, Any], level: str, step: str | None, text: str
) -> None:
    verdict = judge(balancing(haproxy=changes))
    assert (verdict.verdict, verdict.next) == (level, step)
    assert text in verdict.reasons[0].measured


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({"problems": ["line 2, `maxconn many`: invalid value"]}, "P2", "maxconn many"),
        ({"edited": True}, "P3", "haproxy.cfg differs from the settings"),
        ({"in_use": False}, "P3", "uses other settings"),
    ],
)
def test_configuration_that_is_not_that_of_the_inventory(
    changes: dict[str, Any], level: str, text: str
) -> None:
    verdict = judge(balancing(haproxy_config=changes))
    assert (verdict.verdict, verdict.next) == (level, "load_balancer.yml")
    assert text in verdict.reasons[0].measured


@pytest.mark.parametrize(
    ("entry", "level", "step"),
    [
        ({}, "P3", "rotation_in.yml -l katago-2"),
        ({"procedure": "security_on"}, "P3", "security_show.yml -l katago-2"),
        ({"procedure": "restart"}, "P3", "triage.yml -l katago-2"),
        ({"procedure": "restart", "since": "2026-11-24T01:59:00Z"}, "P2", "rotation_in.yml -l katago-2"),
    ],
)
def test_host_out_of_rotation_is_reported_with_who_since_when_and_why(
    entry: dict[str, str], level: str, step: str
) -> None:
    verdict = judge(out(**entry))
    assert (verdict.verdict, verdict.next) == (level, step)
    assert "katago-2 is out of rotation: anna took it out for" in verdict.reasons[0].measured
    assert ": disk is replaced" in verdict.reasons[0].measured


def test_hosts_out_of_rotation_are_known_without_haproxy() -> None:
    facts = balancing(haproxy=DOWN, rotation={"servers": None, "out": {"katago-2": ENTRY}})
    assert [each.rule for each in judge(facts).reasons] == ["haproxy", "rotation"]


def test_host_that_haproxy_calls_down_is_reported_with_its_check() -> None:
    verdict = judge(servers(status="DOWN", check="no answer to the connection"))
    assert (verdict.verdict, verdict.next) == ("P2", "validate.yml -l katago-2")
    assert verdict.reasons[0].measured == (
        "katago-2 (10.20.0.21:8080) is in rotation, but HAProxy calls it DOWN: no answer to the connection"
    )


def test_fleet_without_any_server_is_down() -> None:
    down = server(status="DOWN", check="the connection was refused or failed")
    verdict = judge(balancing(rotation={"servers": {"katago-1": down, "katago-2": down}}))
    assert (verdict.verdict, verdict.next) == ("P0", "validate.yml -l katago-1")
    assert verdict.reasons[0].measured == "none of 2 hosts gets requests: clients get 503"


def test_record_and_haproxy_that_differ() -> None:
    by_hand = judge(servers(weight=0))
    assert (by_hand.verdict, by_hand.next) == ("P2", "rotation_in.yml -l katago-2")
    assert "by hand" in by_hand.reasons[0].measured
    served = judge(balancing(rotation={"out": {"katago-2": ENTRY}}))
    assert (served.verdict, served.next) == ("P2", "load_balancer.yml")
    assert "HAProxy may send requests to katago-2" in served.reasons[0].measured


def test_servers_and_inventory_that_differ() -> None:
    missing = judge(balancing(fleet={"hosts": ["katago-1", "katago-2", "katago-3"]}))
    assert (missing.verdict, missing.next) == ("P2", "load_balancer.yml")
    assert "HAProxy does not have katago-3" in missing.reasons[0].measured
    foreign = judge(balancing(fleet={"hosts": ["katago-1"]}))
    assert (foreign.verdict, foreign.next) == ("P3", "load_balancer.yml")


@pytest.mark.parametrize(("load", "step"), [("loaded", "load_balancer.yml"), ("masked", None)])
def test_keepalived_that_does_not_run(load: str, step: str | None) -> None:
    verdict = judge(balancing(virtual_address={"unit": {**DOWN, "load": load}, "held": "never"}))
    assert (verdict.verdict, verdict.next) == ("P2", step)
    assert "10.20.0.200 cannot move to this host" in verdict.reasons[0].measured


@pytest.mark.parametrize(
    ("days", "level"), [(-1, "P0"), (0, "P0"), (2.9, "P2"), (3, "P3"), (20.9, "P3"), (21, None)]
)
def test_certificate_that_ends_soon(days: float, level: str | None) -> None:
    verdict = judge(balancing(certificate={"ends_at": NOW.timestamp() + days * 24 * HOUR}))
    assert verdict.verdict == (level or "healthy")
    assert verdict.next == ("load_balancer.yml" if level else None)


def test_certificate_that_cannot_be_read_is_unknown() -> None:
    assert judge(balancing(certificate={"ends_at": None})).undecided == ("certificate",)


@pytest.mark.parametrize("name", ["haproxy", "haproxy_config", "rotation", "virtual_address", "certificate"])
def test_load_balancer_with_an_unknown_fact_is_never_healthy(name: str) -> None:
    verdict = judge({**load_balancer(), name: {"unknown": "no answer within 10 s"}})
    assert (verdict.verdict, verdict.next) == ("unknown", "load_balancer.yml")


# What only several load balancers together show.


def reported(**facts: Facts) -> triage_reports.Report:
    """The report on hosts with these facts, as the playbook gathers it."""
    results = {
        host.replace("_", "-"): {
            "triage_result": {"verdict": triage_verdict.as_dict(judge(each)), "facts": each}
        }
        for host, each in facts.items()
    }
    variables = {"hostvars": results, "ansible_play_hosts_all": [*results], "groups": {}}
    return triage_reports.gather(variables, NOW, breach=False)


def sharing(held: str, refused: str = "") -> Facts:
    return balancing(virtual_address={"held": held, "refused": refused})


def test_two_load_balancers_of_which_one_has_the_address_are_healthy() -> None:
    report = reported(lb_1=sharing("always"), lb_2=sharing("never"), katago_1=healthy())
    assert report.fleet.verdict == "healthy"


def test_load_balancers_that_an_earlier_play_measured_are_in_the_report() -> None:
    facts = {"lb-1": balancing(haproxy={"active": "failed"}), "katago-1": healthy()}
    hostvars: dict[str, Any] = {
        host: {"triage_result": {"verdict": triage_verdict.as_dict(judge(each)), "facts": each}}
        for host, each in facts.items()
    }
    hostvars["lb-2"] = {}
    variables = {
        "hostvars": hostvars,
        "ansible_play_hosts_all": ["katago-1"],
        "groups": {"katago": ["katago-1"], "load_balancer": ["lb-1", "lb-2"]},
    }
    report = triage_reports.gather(variables, NOW, breach=False)
    # -l has not selected lb-2, which no play measured.
    assert {host: each.verdict for host, each in report.verdicts.items()} == {
        "katago-1": "healthy",
        "lb-1": "P1",
    }
    assert report.fleet.verdict == "P1"


def test_address_that_two_load_balancers_have() -> None:
    report = reported(lb_1=sharing("always"), lb_2=sharing("always"))
    assert {each.verdict for each in report.verdicts.values()} == {"P1"}
    assert "10.20.0.200 is held by lb-1 and lb-2" in report.verdicts["lb-1"].reasons[0].measured
    assert report.commands["lb-1"].endswith("playbooks/load_balancer.yml -l lb-1")


def test_address_that_moves_from_one_to_the_other_is_no_finding() -> None:
    assert reported(lb_1=sharing("always"), lb_2=sharing("sometimes")).fleet.verdict == "healthy"


def test_address_that_nobody_has() -> None:
    gone = sharing("never", "No route to host")
    report = reported(lb_1=gone, lb_2=gone)
    assert report.fleet.verdict == "P0"
    assert "no load balancer has 10.20.0.200, and nothing answers there: No route to host" in (
        report.verdicts["lb-1"].reasons[0].measured
    )


@pytest.mark.parametrize("other", [sharing("sometimes", "x"), sharing("never", "")])
def test_address_that_moves_or_that_another_load_balancer_has_is_no_finding(other: Facts) -> None:
    """Another one that is not measured, because of a limit, or because it cannot be reached."""
    assert reported(lb_1=sharing("never", "timed out"), lb_2=other).fleet.verdict == "healthy"


def test_load_balancer_without_the_address_of_the_others() -> None:
    alone = load_balancer()
    alone["virtual_address"]["value"] = None
    report = reported(lb_1=load_balancer(), lb_2=alone)
    assert (report.verdicts["lb-1"].verdict, report.verdicts["lb-2"].verdict) == ("healthy", "P2")
    assert "not share the virtual address here, but on lb-1" in report.verdicts["lb-2"].reasons[0].measured


def test_host_that_is_out_on_one_load_balancer_only() -> None:
    report = reported(lb_1=out(), lb_2=sharing("never"))
    (found,) = report.verdicts["lb-2"].reasons
    assert found.level == "P2"
    assert "katago-2 is in rotation here, but out on lb-1: anna took it out" in found.measured
    assert report.commands["lb-2"] == (
        "ansible-playbook playbooks/rotation_out.yml -l katago-2 -e 'why=\"as on lb-1\"'"
    )
    assert reported(lb_1=out(procedure="restart"), lb_2=sharing("never")).verdicts["lb-2"].reasons == ()


def test_findings_between_hosts_do_not_replace_a_worse_next_step() -> None:
    both = balancing(haproxy={**DOWN}, fleet={"load_balancers": ["lb-1"]})
    verdict = triage_verdict.extended(
        judge(both), judge(balancing(haproxy_config={"edited": True})).reasons, now=NOW
    )
    assert (verdict.verdict, len(verdict.reasons), verdict.next) == ("P0", 2, "load_balancer.yml")


def test_further_finding_that_is_worse_decides_the_next_step() -> None:
    found = judge(out())
    worse = judge(servers(status="DOWN")).reasons
    assert triage_verdict.extended(found, worse, now=NOW).next == "validate.yml -l katago-2"
    suspicious = replace(found, reasons=(replace(found.reasons[0], suspicious=True),))
    assert triage_verdict.extended(suspicious, worse, now=NOW).next == found.next


def test_step_for_another_host_is_limited_to_that_host() -> None:
    assert triage_table.command("rotation_in.yml -l katago-2", "lb-1") == (
        "ansible-playbook playbooks/rotation_in.yml -l katago-2"
    )


# What a host measures.


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A load balancer that is set up, with katago-2 out of rotation, and without a running HAProxy."""
    for name in (
        "LOAD_BALANCER_SETTINGS",
        "ROTATION",
        "HAPROXY_CONFIG",
        "KEEPALIVED_CONFIG",
        "HAPROXY_SOCKET",
    ):
        monkeypatch.setattr(paths, name, tmp_path / getattr(paths, name).name)
    settings = Settings(
        version=1,
        local_name="lb-1",
        servers=(Server("katago-1", 1, "127.0.0.1", 8080), Server("katago-2", 2, "127.0.0.1", 8081)),
    )
    paths.LOAD_BALANCER_SETTINGS.write_bytes(settings.content())
    paths.HAPROXY_CONFIG.write_text(config.render(settings, {"katago-2"}))
    paths.ROTATION.write_bytes(
        rotation.record(paths.ROTATION, {"katago-2": rotation.Entry(**ENTRY)}).content or b""
    )
    return tmp_path


@pytest.mark.usefixtures("host")
def test_configuration_is_compared_with_the_settings() -> None:
    measured = checks_load_balancer.haproxy_config()
    assert (measured["edited"], measured["in_use"]) == (False, None)
    paths.HAPROXY_CONFIG.write_text("global\n  maxcon 5\n")
    edited = checks_load_balancer.haproxy_config()
    assert edited["edited"]
    assert any(problem.startswith("line 2, `maxcon 5`") for problem in edited["problems"])


@pytest.mark.usefixtures("host")
def test_record_is_known_without_haproxy() -> None:
    state = checks_load_balancer.rotation_state()
    assert (state["servers"], state["out"]["katago-2"]) == (None, ENTRY)


@pytest.mark.usefixtures("host")
def test_damaged_record_is_unknown_with_its_path() -> None:
    paths.ROTATION.write_text("{")
    with pytest.raises(workers.NoResult, match=r"rotation\.json"):
        checks_load_balancer.rotation_state()
    assert "rotation.json" in checks_load_balancer.haproxy_config()["problems"][-1]


def test_load_balancer_that_was_never_set_up_is_unknown(host: Path) -> None:
    (host / "settings.json").unlink()
    with pytest.raises(workers.NoResult, match="is not set up"):
        checks_load_balancer.settings()


def test_record_and_haproxy_are_read_again_if_they_differ() -> None:
    answers = [
        balancing(rotation={"out": {"katago-2": ENTRY}})["rotation"]["value"],
        out()["rotation"]["value"],
        None,
    ]
    state = checks_load_balancer.rotation_state(lambda: answers.pop(0), lambda _: None)
    assert rules_load_balancer.disagreements(state) == []
    assert answers == [None]


@pytest.mark.parametrize(
    ("seen", "expected"), [([True], "always"), ([False], "never"), ([True, False], "sometimes")]
)
def test_address_is_watched_for_longer_than_a_move_takes(seen: list[bool], expected: str) -> None:
    slept: list[float] = []
    reads = iter(seen * 100)
    assert checks_load_balancer.held(lambda: next(reads), slept.append) == expected
    assert sum(slept) == checks_load_balancer.WATCHED_SECONDS


def test_address_is_read_from_the_rendered_configuration() -> None:
    instance = keepalived.Instance("lb-1", "10.20.0.200/24", "eth0", 51, "10.20.0.11", ("10.20.0.12",), "pw")
    text = keepalived.render(instance)
    assert checks_load_balancer.shared_address(text) == ("10.20.0.200", "eth0")
    assert checks_load_balancer.shared_address(text.removeprefix(keepalived.HEADER)) is None


def test_servers_of_haproxy_have_the_declared_form(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = "# pxname,svname,scur,status,weight,check_status,check_code,last_chk,addr\n" + (
        "mcp,katago-1,3,UP,100,L7OK,200,,10.0.0.1:8080\nmcp,katago-2,0,MAINT,0,,,,10.0.0.2:8080\n"
    )
    monkeypatch.setattr(runtime.Runtime, "_answer", lambda *_: stat)
    state = checks_load_balancer.rotation_state()
    assert state["servers"] == {
        "katago-1": server(address="10.0.0.1:8080", sessions=3, check="HTTP status 200"),
        "katago-2": server(address="10.0.0.2:8080", status="MAINT", weight=0),
    }
    assert host.exists()


# The control node's part.


def test_inventory_and_end_of_the_certificate_are_added_on_the_control_node() -> None:
    groups = {"katago": ["b", "a"], "load_balancer": ["lb"]}
    added = triage_action._seen_from_here({"certificate": {"value": {"pem": "no PEM"}, "seconds": 1}}, groups)
    assert added["fleet"]["value"] == {"hosts": ["a", "b"], "load_balancers": ["lb"]}
    assert added["certificate"] == {"value": {"pem": "no PEM", "ends_at": None}, "seconds": 1}
