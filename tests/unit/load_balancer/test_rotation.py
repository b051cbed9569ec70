"""Who is out of rotation, who may leave, and who may admit a host again."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import file_set
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import rotation
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.rotation import Entry
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.server_state import ServerState
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError

ENTRY = Entry("restart", "anna@ops", "2026-01-31T08:05:00Z", "restart interrupts the service")


def servers(**statuses: str) -> dict[str, ServerState]:
    """Servers by name, from `UP`, `DOWN` and so on; `UP/0` has the weight 0."""
    parts = {name: status.partition("/") for name, status in statuses.items()}
    return {
        name: ServerState(name, "", status, int(weight or 100), 0)
        for name, (status, _, weight) in parts.items()
    }


THREE = servers(a="UP", b="UP", c="UP")


def write(path: Path, out: dict[str, Entry]) -> None:
    """Replace the record."""
    path.parent.mkdir(exist_ok=True)
    with file_set.replaced([rotation.record(path, out)]):
        pass


def test_record_has_the_documented_form_and_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "rotation.json"
    write(path, {"katago-2": ENTRY})
    assert json.loads(path.read_text()) == {
        "version": 1,
        "out": {
            "katago-2": {
                "procedure": "restart",
                "who": "anna@ops",
                "since": "2026-01-31T08:05:00Z",
                "why": "restart interrupts the service",
            }
        },
    }
    assert rotation.read(path) == {"katago-2": ENTRY}


def test_no_host_is_out_without_a_record(tmp_path: Path) -> None:
    assert rotation.read(tmp_path / "rotation.json") == {}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version": 1}', '{"version": 2, "out": {}}', '{"version": 1, "out": {"a": 1}}'],
)
def test_damaged_record_is_an_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rotation.json"
    path.write_text(content)
    with pytest.raises(LoadBalancerError, match=str(path)):
        rotation.read(path)


def take_out(path: Path, name: str) -> None:
    with rotation.locked(path):
        write(path, {**rotation.read(path), name: ENTRY})


def test_no_entry_is_lost_when_several_runs_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "rotation.json"
    names = [f"katago-{number}" for number in range(8)]
    processes = [multiprocessing.Process(target=take_out, args=(path, name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert rotation.read(path).keys() == set(names)


def test_lock_that_is_not_released_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "LOCK_SECONDS", 0)
    path = tmp_path / "rotation.json"
    with (
        rotation.locked(path),
        pytest.raises(TimeoutError, match=r"fuser .*rotation\.json\.lock"),
        rotation.locked(path),
    ):
        pass


@pytest.mark.parametrize(
    ("before", "claim", "expected"),
    [
        (None, ENTRY, ENTRY),
        # A killed run of the same person is continued, and keeps its time.
        (ENTRY, Entry("restart", "anna@ops", "later", "x"), Entry("restart", "anna@ops", ENTRY.since, "x")),
        (ENTRY, Entry("rollback", "anna@ops", "later", "x"), Entry("rollback", "anna@ops", ENTRY.since, "x")),
        # Somebody else's entry stays, as does an operator's.
        (ENTRY, Entry("restart", "bo@ops", "later", "x"), ENTRY),
        (
            Entry("rotation_out", "anna@ops", "s", "disk"),
            Entry("restart", "anna@ops", "later", "x"),
            Entry("rotation_out", "anna@ops", "s", "disk"),
        ),
        (
            Entry("rotation_out", "anna@ops", "s", "disk"),
            Entry("security_on", "bo@ops", "later", "x"),
            Entry("rotation_out", "anna@ops", "s", "disk"),
        ),
        # An operator's replaces that of a procedure, which then does not admit the host.
        (
            ENTRY,
            Entry("rotation_out", "bo@ops", "later", "disk"),
            Entry("rotation_out", "bo@ops", "later", "disk"),
        ),
    ],
)
def test_entry_of_somebody_else_stays(before: Entry | None, claim: Entry, expected: Entry) -> None:
    assert rotation.taken_out(before, claim) == expected


@pytest.mark.parametrize(
    ("left_by", "procedure", "who", "allowed"),
    [
        ("restart", "restart", "anna@ops", True),
        ("restart", "rollback", "anna@ops", True),
        ("restart", "restart", "bo@ops", False),
        ("restart", "rotation_in", "bo@ops", True),
        ("restart", "security_off", "anna@ops", False),
        ("rotation_out", "restart", "anna@ops", False),
        ("rotation_out", "rotation_in", "bo@ops", True),
        ("rotation_out", "security_off", "bo@ops", False),
        # Undoes a request that another load balancer refused.
        ("rotation_out", "rotation_out", "anna@ops", True),
        ("security_on", "security_off", "bo@ops", True),
        ("security_on", "restart", "anna@ops", False),
    ],
)
def test_only_its_own_procedure_or_an_operator_admits_a_host(
    left_by: str, procedure: str, who: str, allowed: bool
) -> None:
    entry = Entry(left_by, "anna@ops", "2026-01-31T08:05:00Z", "x")
    assert rotation.may_admit(entry, procedure, who) is allowed


@pytest.mark.parametrize(
    ("least", "fleet", "required"),
    [("1", 3, 1), ("3", 2, 3), ("50%", 1, 1), ("50%", 2, 1), ("50%", 3, 2), ("1%", 3, 1), ("100%", 3, 3)],
)
def test_share_is_rounded_up_and_at_least_one_host_stays(least: str, fleet: int, required: int) -> None:
    assert rotation.must_stay(least, fleet) == required


@pytest.mark.parametrize("least", ["", "0", "0%", "-1", "1.5", "101%", "half", "50 %", "50%%", "True"])
def test_other_budgets_are_refused_with_what_is_accepted(least: str) -> None:
    with pytest.raises(LoadBalancerError, match=r"fleet_min_available is .*; give a whole number of hosts"):
        rotation.must_stay(least, 3)


@pytest.mark.parametrize(
    ("name", "seen", "out", "least", "may"),
    [
        ("a", THREE, {}, "50%", True),
        ("a", THREE, {"b": ENTRY}, "50%", False),
        ("a", THREE, {}, "3", False),
        ("a", servers(a="UP", b="DOWN", c="UP"), {}, "50%", False),
        ("a", servers(a="UP", b="UP/0", c="UP"), {}, "50%", False),
        ("a", servers(a="UP", b="MAINT", c="UP"), {}, "50%", False),
        ("a", servers(a="UP", b="UP 1/2", c="UP"), {}, "50%", True),
        ("a", servers(a="UP"), {}, "50%", False),
        # A host that serves nobody may always leave.
        ("a", servers(a="DOWN", b="DOWN", c="UP"), {}, "50%", True),
        ("a", servers(a="UP/0", b="DOWN", c="UP"), {}, "50%", True),
        ("a", servers(a="MAINT"), {}, "50%", True),
        ("a", THREE, {"a": ENTRY, "b": ENTRY}, "50%", True),
    ],
)
def test_host_leaves_only_if_enough_others_serve(
    name: str, seen: dict[str, ServerState], out: dict[str, Entry], least: str, may: bool
) -> None:
    assert (rotation.shortage(name, seen, out, least) == "") is may


def test_refusal_has_the_numbers_and_who_is_out() -> None:
    seen = servers(a="UP", b="MAINT", c="DOWN", d="UP")
    text = rotation.shortage("a", seen, {"b": ENTRY}, "2")
    assert "2 of 4 hosts serve requests, and 2 must stay in rotation (fleet_min_available is 2)" in text
    assert "a may not leave" in text
    assert "b is out (anna@ops took it out for restart at 2026-01-31T08:05:00Z" in text
    assert "c is DOWN (weight 100)" in text


@pytest.mark.parametrize(
    ("least", "fleet", "advice"),
    [
        ("50%", 3, "Wait until another host serves again, admit one, or"),
        ("2", 3, "Wait until another host serves again, admit one, or"),
        # Waiting does not help.
        ("3", 3, "none of 3 hosts may ever leave. Lower fleet_min_available to 2, add a host, or"),
        ("100%", 2, "none of 2 hosts may ever leave. Lower fleet_min_available to 1, add a host, or"),
        ("5", 3, "none of 3 hosts may ever leave. Lower fleet_min_available to 2, add a host, or"),
        ("50%", 1, "The only host of a fleet may never leave. Add a host, or"),
    ],
)
def test_remedy_of_a_shortage_can_succeed(least: str, fleet: int, advice: str) -> None:
    text = rotation.remedy(least, fleet)
    assert f"{advice} continue anyway: -e without_drain=true" in text
