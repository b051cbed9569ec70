"""The record of a drill that ended."""

from __future__ import annotations

import base64
import json
import typing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.procedure.host_lock import Life
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import log
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import (
    closing,
    communication,
    game_day,
    host_lock,
    known_writes,
    listing,
    opening,
    orphans,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.closing import Observed, Outage
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.observer import Landing, Recovery
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.plan import Plan, Target
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Mode, Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecordError, DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures

DAY = date(2026, 11, 30)
AT = "2026-11-30T10:00:00Z"
END = "2026-11-30T10:05:00Z"
START = 1000.0
PLAN = Plan(
    scenario="service_down",
    mode="unattended",
    sealed=True,
    seconds=600,
    targets=(Target("katago-1", "service_killed", "host", 660),),
    participants=("anna",),
)
RECORD = opening.changed(opening.record("drill-1", PLAN, "katago", AT), {"fault": {"injected": AT}})
OBSERVED = Observed(
    injected=START,
    landings=[Landing(START + 2, "3 requests failed")],
    recoveries=[Recovery(START + 20)],
    outages=[Outage(START + 1, START + 6)],
    actions=[
        {
            "time": "2026-11-30T10:00:09Z",
            "procedure": "restart",
            "hosts": ["katago-1"],
            "arguments": {},
            "by": "drill",
            "outcome": "done",
        }
    ],
)


def close(observed: Observed = OBSERVED, record: Record = RECORD) -> Record:
    return closing.close(record, observed, END)


def test_times_are_seconds_from_the_injection() -> None:
    closed = close()
    assert closed["times"] == {"detect": 1.0, "acknowledge": 9.0, "mitigate": 6.0, "recover": 20.0}
    assert closed["fault"]["landed"] == "2026-11-30T10:00:02Z"
    assert (closed["outcome"], closed["ended"]) == ("passed", END)


def test_fault_that_clients_never_notice_is_mitigated_when_it_is_detected() -> None:
    assert close(replace(OBSERVED, outages=[]))["times"]["mitigate"] == 2.0


def test_outage_that_lasts_is_not_mitigated() -> None:
    assert close(replace(OBSERVED, outages=[Outage(START + 1, None)]))["times"]["mitigate"] is None


def test_service_has_not_recovered_while_requests_fail() -> None:
    outages = [Outage(START + 1, START + 6), Outage(START + 19, START + 26), Outage(START + 25, START + 31)]
    times = close(replace(OBSERVED, outages=outages))["times"]
    assert (times["mitigate"], times["recover"]) == (31.0, 31.0)


def test_outage_after_the_recovery_is_a_note_and_no_later_mitigation() -> None:
    outages = [*OBSERVED.outages, Outage(START + 50, START + 53), Outage(START + 70, None)]
    closed = close(replace(OBSERVED, outages=outages))
    assert (closed["times"]["mitigate"], closed["times"]["recover"]) == (6.0, 20.0)
    assert closed["notes"] == [
        "After the recovery, requests failed again in 2 periods, first 50 s after the fault."
    ]
    assert close()["notes"] == []


def test_outage_before_the_injection_does_not_count() -> None:
    closed = close(replace(OBSERVED, outages=[Outage(START - 9, START - 5)]))
    assert closed["times"]["detect"] == 2.0


def test_last_of_two_recoveries_counts() -> None:
    both = [Recovery(START + 20), Recovery(START + 33)]
    assert close(replace(OBSERVED, recoveries=both))["times"]["recover"] == 33.0
    assert close(replace(OBSERVED, recoveries=[both[0], Recovery(None)]))["times"]["recover"] is None


@pytest.mark.parametrize(
    ("observed", "outcome"),
    [
        (replace(OBSERVED, landings=[Landing(None)], recoveries=[]), "invalid"),
        (replace(OBSERVED, recoveries=[Recovery(None, ("down",))]), "failed"),
        (replace(OBSERVED, failure="katago-2 is not validated"), "failed"),
        (Observed(injected=None, failure="Refused. The host is locked."), "aborted"),
        (replace(OBSERVED, recoveries=[Recovery(None, interrupted="an alert")]), "aborted"),
        # The abort undid the fault before the drill saw the request.
        (replace(OBSERVED, aborted="anna@control aborted it"), "aborted"),
    ],
)
def test_drill_that_did_not_pass_has_its_outcome_and_reason(observed: Observed, outcome: str) -> None:
    closed = close(observed)
    assert closed["outcome"] == outcome
    assert closed["reason"]


def test_only_what_changes_while_a_drill_runs_can_be_changed() -> None:
    with pytest.raises(shape.ShapeError):
        opening.changed(RECORD, {"outcome": "passed"})
    with pytest.raises(shape.ShapeError):
        opening.changed(RECORD, {"undo": {"armed": 5}})
    assert opening.changed(RECORD, {"incident": "drill-1"})["incident"] == "drill-1"


def test_records_of_killed_runs_are_closed(tmp_path: Path) -> None:
    records = DrillRecords(tmp_path)
    first = records.reserve(DAY, "run-1")
    second = records.reserve(DAY, "run-2")
    assert first != second
    records.save({**RECORD, "id": first})
    records.discard(second)
    assert not records.directory(second).exists()
    records.discard(first)
    ((record, life),) = records.running(lambda run: "dead" if run == "run-1" else "alive")
    assert (record["id"], life) == (first, "dead")
    records.close_orphan(record, END, "killed")
    assert list(records.running(lambda _: "dead")) == []
    assert records.load(first)["outcome"] == "aborted"


@pytest.mark.parametrize("scenario", ["service_down", "of_a_later_version"])
def test_drill_whose_run_was_killed_gets_a_scorecard(tmp_path: Path, scenario: str) -> None:
    records = DrillRecords(tmp_path)
    drill = records.reserve(DAY, "run-1")
    record: Record = {**RECORD, "id": drill, "scenario": scenario}
    records.save(record)
    problem = orphans.close(tmp_path, record)
    closed = records.load(drill)
    assert (closed["outcome"], closed["reason"]) == ("aborted", "The run of the drill was killed.")
    if scenario == "service_down":
        assert problem == ""
        assert f"Scorecard of {drill}" in (records.directory(drill) / "scorecard.html").read_text()
    else:
        assert "'of_a_later_version', which this version does not have" in problem


def test_drill_never_gets_the_id_of_an_incident_that_is_still_there(tmp_path: Path) -> None:
    for number in (1, 3):
        (tmp_path / "incidents" / f"drill-{DAY}-{number}").mkdir(parents=True)
    records = DrillRecords(tmp_path)
    assert [records.reserve(DAY, "run") for _ in range(2)] == [f"drill-{DAY}-2", f"drill-{DAY}-4"]


def test_abort_is_seen_by_the_run(tmp_path: Path) -> None:
    records = DrillRecords(tmp_path)
    drill = records.reserve(DAY, "run")
    assert records.abort_requested(drill) == ""
    records.request_abort(drill, "anna aborted it")
    assert records.abort_requested(drill) == "anna aborted it"


def test_damaged_record_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    records = DrillRecords(tmp_path)
    good, bad = records.reserve(DAY, "run"), records.reserve(DAY, "run")
    records.save({**RECORD, "id": good})
    (records.directory(bad) / "drill.json").write_text("{")
    with pytest.raises(DrillRecordError):
        records.load(bad)
    drills, problems = records.load_all()
    assert [each["id"] for each in drills] == [good]
    assert bad in problems[0]


def test_sealed_scenario_is_shown_only_after_the_drill() -> None:
    (line,) = listing.lines([RECORD])
    assert "sealed" in line
    assert "service" not in line.lower().replace("sealed", "")
    assert "katago-1" not in line
    (line,) = listing.lines([close()])
    assert "The service of a host is down on katago-1" in line


def test_summary_has_the_figures() -> None:
    summary = listing.summary(close())
    assert "PASSED" in summary
    assert "recovered after 20 s" in summary
    assert "restart (drill)" in summary


def test_table_of_a_game_day_has_a_row_for_each_scenario() -> None:
    rows = [
        game_day.Row("service_down", close(), 93.4),
        game_day.Row("clock_skewed", None, reason="Refused. This host is a container."),
    ]
    lines = game_day.table(rows).splitlines()
    passed = (
        "| The service of a host is down | passed | 1.0 s | 6.0 s | 20.0 s | 0 of 0 | 0 of 0 | 0 of 0 writes"
    )
    assert lines[2] == f"{passed} | 93 |"
    assert lines[3].startswith("| The clock of a host's records is skewed | refused | - |")
    assert lines[-1] == "- The clock of a host's records is skewed: Refused. This host is a container."
    assert game_day.totals(rows) == {"passed": 1, "refused": 1}


@pytest.mark.parametrize(
    ("output", "errors", "reason"),
    [
        (
            "PLAY RECAP ***\nkatago-1 : ok=1\n\n\nRESULT ***\n[katago-1] Refused; nothing\n  was changed.\n",
            "[WARNING]: unrelated",
            "[katago-1] Refused; nothing was changed.",
        ),
        ("", "ERROR! the inventory cannot be read", "ERROR! the inventory cannot be read"),
        ("TASK [Plan]\nfatal: [katago-1]", "", "TASK [Plan] fatal: [katago-1]"),
    ],
)
def test_refusal_is_the_result_of_the_run(output: str, errors: str, reason: str) -> None:
    assert game_day.refusal(output, errors) == reason


def test_procedures_are_read_from_the_timeline() -> None:
    event = {"run": "r1", "procedure": "restart", "who": "anna@node"}
    timeline = [
        {"at": "2026-11-30T09:59:00Z", "run": "r0", "procedure": "deploy", "host": "a", "result": "changed"},
        {**event, "at": "2026-11-30T10:00:10Z", "host": "a", "result": "begun"},
        {**event, "at": "2026-11-30T10:00:20Z", "host": "a", "result": "changed"},
        {**event, "at": "2026-11-30T10:00:30Z", "host": "b", "result": "refused"},
        {**event, "at": "2026-11-30T10:00:40Z", "host": "c", "result": "changed"},
        {"at": "2026-11-30T10:00:50Z", "note": "no procedure"},
    ]
    (action,) = communication.actions(timeline, AT)
    assert (action["procedure"], action["by"], action["hosts"]) == ("restart", "anna@node", ["a", "b", "c"])
    assert action["outcome"] == "failed"
    assert action["time"] == "2026-11-30T10:00:10Z"


def test_repairs_of_the_host_are_actions() -> None:
    events = [
        log.Event("2026-11-30T09:00:00Z", "started", "", "old", "restart"),
        log.Event("2026-11-30T10:00:02Z", "started", "", "new", "roll_back"),
        log.Event("2026-11-30T10:00:12Z", "repaired", "", "new", "roll_back"),
    ]
    (action,) = communication.repairs(events, "katago-1", AT)
    assert (action["procedure"], action["by"], action["outcome"]) == ("rollback", "self-healing", "done")


@pytest.mark.parametrize("repair", typing.get_args(healing_state.Name))
def test_every_repair_counts_as_the_procedure_that_does_the_same(repair: str) -> None:
    (action,) = communication.repairs([log.Event(END, "started", "", "new", repair)], "katago-1", AT)
    assert action["procedure"] in procedures.PROCEDURES


def test_messages_and_the_status_page_are_read_from_the_incident() -> None:
    state: list[dict[str, object]] = [
        {"at": AT, "who": "anna", "event": "opened", "public": {"text": "x"}},
        {"at": END, "who": "anna", "event": "escalated", "to": "senior"},
        {"at": END, "who": "anna", "event": "delivered"},
    ]
    sent = communication.messages(state)
    assert [(each["kind"], each["audience"]) for each in sent] == [
        ("opened", ["team"]),
        ("status", ["status page"]),
        ("escalated", ["senior"]),
    ]
    assert communication.acknowledged([], sent, AT) == END


def test_what_the_drill_announces_is_not_from_a_person() -> None:
    state: list[dict[str, object]] = [
        {"at": AT, "who": "anna", "event": "opened", "summary": "DRILL drill-1: a fault is injected"},
        {"at": AT, "who": "anna", "event": "updated"},
        {"at": END, "who": "anna", "event": "closed", "resolution": "DRILL over: rolled back"},
        {"at": END, "who": "anna", "event": "closed", "resolution": "DRILL drill-1 has ended", "public": "x"},
    ]
    assert [each["by"] for each in communication.messages(state)] == [
        "drill",
        "anna",
        "anna",
        "drill",
        "drill",
    ]


def test_known_writes_that_are_missing_are_lost_data() -> None:
    old, new = '{"at": "2026-11-30T09:00:00Z"}', '{"at": "2026-11-30T09:59:00Z"}'
    data = known_writes.lost({"a": [old, new], "b": [old]}, {"a": [new], "b": [old, new]}, AT)
    assert data == {"writes": 3, "lost": 1, "rpo_seconds": 3600.0}
    assert known_writes.lost({"a": [old]}, {}, AT)["lost"] == 1


def lock(run: str) -> str:
    return json.dumps({"owner": "anna@control", "procedure": "restart", "run": run, "since": AT})


@pytest.mark.parametrize(
    ("content", "life", "locked"),
    [
        (lock("r"), "dead", True),
        (lock("r"), "alive", False),
        ("{", "dead", True),
    ],
)
def test_lock_of_a_run_that_is_gone_is_a_problem(content: str, life: Life, locked: bool) -> None:
    answer = {"content": base64.b64encode(content.encode()).decode()}
    assert bool(host_lock.problem(answer, lambda _: life)) == locked
    assert host_lock.problem({"failed": True}, lambda _: life) == ""


@pytest.mark.parametrize(
    ("content", "repairs"),
    [(lock("self-healing:9ea2deb0"), True), (lock("boot/1:42:4711"), False), ("{", False)],
)
def test_lock_of_a_host_that_repairs_itself_is_known(content: str, repairs: bool) -> None:
    answer = {"content": base64.b64encode(content.encode()).decode()}
    assert host_lock.is_of_self_healing(answer) == repairs
    assert not host_lock.is_of_self_healing({"failed": True})


def test_people_have_the_response_time_of_the_level_in_addition() -> None:
    alone = opening.record("drill-1", PLAN, "lab", AT)["targets"]
    people = opening.record("drill-1", replace(PLAN, mode="person"), "lab", AT)["targets"]
    assert (alone["mitigate"], alone["recover"], alone["acknowledge"]) == (5, 30, 300)
    assert people == {**alone, "mitigate": 305, "recover": 330}


@pytest.mark.parametrize(("mode", "expected"), [("unattended", 9.0), ("person", None)])
def test_repair_of_the_host_itself_is_no_acknowledgement_of_a_person(
    mode: Mode, expected: float | None
) -> None:
    itself = replace(OBSERVED, actions=[{**each, "by": "self-healing"} for each in OBSERVED.actions])
    assert close(itself, {**RECORD, "mode": mode})["times"]["acknowledge"] == expected
