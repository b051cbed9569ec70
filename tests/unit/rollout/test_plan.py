"""The plan of a rollout: the canary, its soak, growing batches, and what the fleet can spare."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.rollout import parts, plan, record
from ansible_collections.katago.fleet.plugins.plugin_utils.rollout.plan import Host, Terms


def pending(name: str, current: str | None = "old", target: str = "new") -> Host:
    return Host(name, current, target, (f"the current release is {current}",))


def unchanged(name: str, release: str = "new") -> Host:
    return Host(name, release, release)


def fleet(size: int) -> list[Host]:
    return [pending(f"k{number}") for number in range(1, size + 1)]


def made(hosts: list[Host], **terms: Any) -> plan.Plan:
    return plan.plan(hosts, Terms(**{"procedure": "deploy", "fleet": len(hosts), "soak_minutes": 5, **terms}))


def test_canary_is_followed_by_growing_batches() -> None:
    planned = made(fleet(12))
    assert planned.canary == planned.soaking == "k1"
    assert [len(batch) for batch in planned.batches] == [1, 2, 4, 4]
    assert planned.order == tuple(f"k{number}" for number in range(1, 13))
    assert planned.references == planned.order[1:11]


@pytest.mark.parametrize(
    ("minimum", "size", "spare"),
    [
        ("50%", 8, 4),
        ("50%", 3, 1),
        ("50%", 1, 1),
        (2, 3, 1),
        ("2", 8, 6),
        (8, 8, 1),
        ("100%", 8, 1),
        ("30%", 10, 7),
    ],
)
def test_batch_is_at_most_what_the_fleet_can_spare(minimum: object, size: int, spare: int) -> None:
    assert plan.may_be_missing(minimum, size) == spare


def test_no_batch_is_larger_than_what_the_fleet_can_spare() -> None:
    assert [len(batch) for batch in made(fleet(9), minimum="6").batches] == [1, 2, 3, 2]


@pytest.mark.parametrize("minimum", ["half", "-1", "120%", "1.5", "", "0", "0%"])
def test_unclear_minimum_is_refused(minimum: str) -> None:
    with pytest.raises(plan.PlanError, match="fleet_min_available is"):
        plan.may_be_missing(minimum, 4)


def test_hosts_that_need_no_change_are_not_visited() -> None:
    planned = made([unchanged("k1"), pending("k2"), unchanged("k3"), pending("k4")])
    assert planned.order == ("k2", "k4")
    assert planned.skipped == {"k1": "no change is needed", "k3": "no change is needed"}


def test_nothing_is_planned_when_nothing_changes() -> None:
    planned = made([unchanged("k1"), unchanged("k2")])
    assert (planned.order, planned.soaking, planned.batches) == ((), None, ())
    assert "no host needs a change" in plan.describe(planned, check=False)[0]


def test_named_canary_is_switched_first() -> None:
    planned = made(fleet(3), canary="k3")
    assert planned.order == ("k3", "k1", "k2")


def test_canary_that_is_no_host_of_the_run_is_refused() -> None:
    with pytest.raises(
        plan.PlanError, match=r"canary is k9, which is not a host of this run\. Name one of k1, or leave"
    ):
        made(fleet(1), canary="k9")


def test_canary_that_needs_no_change_is_refused() -> None:
    hosts = [unchanged("k1"), pending("k2"), pending("k3")]
    with pytest.raises(
        plan.PlanError, match=r"canary is k1, which needs no change\. Name a pending host \(k2, k3\)"
    ):
        made(hosts, canary="k1")
    assert made([unchanged("k1")], canary="k1").order == ()


def test_canary_that_an_interrupted_run_has_switched_soaks_again() -> None:
    hosts = [unchanged("k1"), pending("k2"), pending("k3")]
    planned = made(hosts, canary="k1", serial="2", done=frozenset({"k1"}))
    assert (planned.canary, planned.soaking, planned.batches) == (None, "k1", (("k2", "k3"),))


def test_canary_that_is_named_replaces_the_one_that_is_done() -> None:
    hosts = [unchanged("k1"), pending("k2"), pending("k3")]
    planned = made(hosts, canary="k3", done=frozenset({"k1"}))
    assert (planned.canary, planned.soaking) == ("k3", "k3")


def test_canary_can_be_rolled_back() -> None:
    hosts = [pending("k1", None), pending("k2"), pending("k3")]
    assert made(hosts).canary == "k2"
    planned = made(hosts, canary="k1")
    assert (planned.canary, planned.soaking) == ("k1", None)
    assert "k1 runs no release to which it could be rolled back" in planned.note


def test_host_that_rejected_the_release_is_tried_first_and_alone() -> None:
    failed = Host("k5", "old", "new", ("the current release is old",), rejected="on Monday: it failed")
    planned = made([*fleet(4), failed])
    assert (planned.canary, planned.soaking) == ("k5", "k5")
    assert "  canary   k5: old -> new; rejected here on Monday: it failed" in plan.describe(
        planned, check=False
    )
    switched = [unchanged(f"k{number}") for number in range(1, 5)]
    rest = [failed, *(pending(f"k{number}") for number in range(6, 11))]
    resumed = made([*switched, *rest], done=frozenset({"k1", "k2", "k3", "k4"}))
    assert resumed.batches == (("k5",), ("k6", "k7"), ("k8", "k9", "k10"))


def test_host_that_rejected_its_current_release_is_the_canary_again() -> None:
    killed = Host("k2", "new", "new", ("the release was rejected",), rejected="on Monday: its soak failed")
    assert made([pending("k1"), killed, pending("k3")]).canary == "k2"


def test_only_hosts_with_a_previous_release_are_references() -> None:
    restart = Host("k2", "new", "new", ("the unit is failed",))
    planned = made([pending("k1"), restart, pending("k3", None), pending("k4")])
    assert planned.references == ("k4",)
    assert made(fleet(30)).references == tuple(f"k{number}" for number in range(2, 12))


def test_canary_is_a_host_that_changes_its_release() -> None:
    restart = Host("k1", "new", "new", ("its tls.crt differs from the one on disk",))
    assert made([restart, pending("k2"), pending("k3")]).canary == "k2"
    assert made([restart, Host("k2", "new", "new", ("the unit is failed",))]).canary == "k1"


def test_host_without_a_verdict_is_the_canary_again() -> None:
    killed = Host("k1", "new", "new", ("the release is not validated",))
    planned = made([killed, pending("k2"), pending("k3")])
    assert planned.canary == planned.soaking == "k1"


def test_only_switched_host_soaks_again() -> None:
    planned = made([unchanged("k1"), pending("k2"), pending("k3")], done=frozenset({"k1"}))
    assert (planned.canary, planned.soaking, planned.soak_minutes) == (None, "k1", 5)
    assert planned.references == planned.order == ("k2", "k3")
    assert "k1 again" in "\n".join(plan.describe(planned, check=False))


def test_soak_is_over_when_more_hosts_have_the_release() -> None:
    hosts = [unchanged("k1"), unchanged("k2"), *(pending(f"k{number}") for number in range(3, 10))]
    planned = made(hosts, done=frozenset({"k1", "k2"}))
    assert (planned.canary, planned.soaking) == (None, None)
    assert [len(batch) for batch in planned.batches] == [2, 4, 1]


def test_unchanged_host_of_no_interrupted_run_does_not_replace_the_canary() -> None:
    planned = made([unchanged("k1"), pending("k2"), pending("k3")])
    assert planned.canary == planned.soaking == "k2"


@pytest.mark.parametrize(
    ("hosts", "terms", "why"),
    [
        (fleet(1), {}, "no host follows"),
        (fleet(2), {"soak_minutes": 0}, "soak_minutes is 0"),
        ([pending("k1", None), pending("k2", None)], {}, "no other host changes from a release"),
        (fleet(2), {"serial": "1"}, "no canary and no soak"),
    ],
)
def test_no_soak_has_a_reason(hosts: list[Host], terms: dict[str, Any], why: str) -> None:
    planned = made(hosts, **terms)
    assert (planned.soaking, planned.soak_minutes) == (None, 0)
    assert why in planned.note


@pytest.mark.parametrize(
    ("serial", "sizes"), [("1", [1] * 8), ("3", [3, 3, 2]), ("25%", [2, 2, 2, 2]), ("100%", [8])]
)
def test_deploy_serial_replaces_canary_and_growth(serial: str, sizes: list[int]) -> None:
    planned = made(fleet(8), serial=serial)
    assert planned.canary is None
    assert [len(batch) for batch in planned.batches] == sizes


def test_named_canary_precedes_batches_of_deploy_serial() -> None:
    planned = made(fleet(8), serial="4", canary="k2")
    assert planned.canary == planned.soaking == "k2"
    assert [len(batch) for batch in planned.batches] == [4, 3]


@pytest.mark.parametrize("serial", ["0", "many", "-2", "0%", "150%"])
def test_unclear_deploy_serial_is_refused(serial: str) -> None:
    with pytest.raises(plan.PlanError, match="deploy_serial is"):
        made(fleet(2), serial=serial)


@pytest.mark.parametrize(
    ("most", "done", "sizes"),
    [(4, 0, [1, 2, 4, 4]), (1, 0, [1, 1, 1, 1]), (8, 1, [2, 4, 8, 8]), (8, 3, [4, 8, 8, 8])],
)
def test_batches_double(most: int, done: int, sizes: list[int]) -> None:
    assert list(islice(plan.growing(most, done=done), 4)) == sizes


def test_plan_shows_hosts_order_soak_and_the_skipped() -> None:
    hosts = [pending("k1"), unchanged("k2"), Host("k3", "new", "new", ("the unit is failed",)), pending("k4")]
    assert plan.describe(made(hosts), check=True) == [
        "deploy: 3 of 4 hosts change (predicted)",
        "  canary   k1: old -> new",
        "  soak     5 min, compared with k4",
        "  batch 1  k3: new stays; the unit is failed",
        "  batch 2  k4: old -> new",
        "  skipped  k2: no change is needed",
    ]


def test_hosts_that_need_no_change_are_a_part_of_the_plan() -> None:
    planned = made([unchanged("k1"), pending("k2"), unchanged("k3")]).as_dict()
    assert parts.part("skipped", planned, None, check=False) == "k1,k3"
    assert parts.part("skipped", None, None, check=False) == "katago:!katago"


def test_parts_of_a_plan_are_patterns_and_sizes() -> None:
    planned = made(fleet(4)).as_dict()
    assert parts.part("canary", planned, None, check=False) == "k1"
    assert parts.part("soak", planned, None, check=False) == "k1,k2,k3,k4"
    for state in ("passed", "undecided"):
        assert parts.part("batches", planned, {"state": state}, check=False) == "k2,k3,k4"
    assert parts.part("sizes", planned, None, check=False) == [1, 2]
    assert parts.part("failed", planned, {"state": "passed"}, check=False) == "katago:!katago"
    assert parts.part("failed", planned, {"state": "failed"}, check=False) == "k1"


@pytest.mark.parametrize("verdict", [{"state": "failed"}, {"state": "unknown"}, None])
def test_no_batch_follows_a_soak_that_does_not_pass(verdict: dict[str, Any] | None) -> None:
    assert parts.part("batches", made(fleet(4)).as_dict(), verdict, check=False) == "katago:!katago"


def test_batches_follow_without_a_soak() -> None:
    planned = made(fleet(4), soak_minutes=0).as_dict()
    assert parts.part("batches", planned, None, check=False) == "k2,k3,k4"


def test_check_mode_has_no_soak_and_one_batch() -> None:
    planned = made(fleet(4)).as_dict()
    assert parts.part("soak", planned, None, check=True) == "katago:!katago"
    assert parts.part("sizes", planned, None, check=True) == [3]


@pytest.mark.parametrize("name", ["canary", "soak", "failed", "batches"])
def test_nothing_is_selected_without_a_plan(name: str) -> None:
    assert parts.part(name, None, None, check=False) == "katago:!katago"
    assert parts.part(name, made([unchanged("k1")]).as_dict(), None, check=False) == "katago:!katago"


def recorded(size: int, procedure: str = "deploy", release: str = "") -> record.Record:
    return record.Record(procedure, release, {host.name: host.target for host in fleet(size)})


def test_record_of_the_same_rollout_names_the_switched_hosts() -> None:
    now = [unchanged("k1"), pending("k2"), pending("k3")]
    assert record.resume(recorded(3), "deploy", "", now).done == {"k1"}


def test_host_that_needed_no_change_was_not_switched_by_an_interrupted_run() -> None:
    now = [unchanged("k0"), unchanged("k1"), pending("k2"), pending("k3")]
    resumed = record.resume(recorded(3), "deploy", "", now)
    planned = made(resumed.hosts, done=resumed.done)
    assert (planned.canary, planned.soaking) == (None, "k1")
    assert planned.skipped == {"k0": "no change is needed", "k1": "switched by an interrupted run"}


def test_record_of_another_rollout_names_none() -> None:
    other = [unchanged("k1"), pending("k2", target="newer"), pending("k3", target="newer")]
    assert record.resume(recorded(3), "deploy", "", other) == record.Resumed(other)
    now = [unchanged("k1"), pending("k2")]
    assert record.resume(recorded(3), "rollback", "", now) == record.Resumed(now)
    assert record.resume(None, "deploy", "", now) == record.Resumed(now)


def test_part_of_a_rollout_continues_it() -> None:
    resumed = record.resume(recorded(3), "deploy", "", [pending("k2")])
    assert resumed.targets == {"k1": "new", "k2": "new", "k3": "new"}
    assert not record.is_covered(resumed.targets, ["k2"], ["k1", "k2", "k3"])
    assert record.is_covered(resumed.targets, ["k1", "k2"], ["k1", "k2"])


def test_hosts_that_an_interrupted_rollback_has_switched_do_not_go_further_back() -> None:
    now = [pending("k1", "new", "older"), pending("k2"), pending("k3")]
    resumed = record.resume(recorded(3, "rollback"), "rollback", "", now)
    assert [host.reasons == () for host in resumed.hosts] == [True, False, False]
    assert resumed.done == {"k1"}


def test_host_that_is_done_needs_no_further_target() -> None:
    first = Host("k1", "new", "", ("the current release is new",), "there is no earlier release")
    hosts = record.resume(
        recorded(3, "rollback"), "rollback", "", [first, pending("k2"), pending("k3")]
    ).hosts
    assert made(hosts).order == ("k2", "k3")


def test_rollback_that_was_killed_on_its_last_host_does_not_go_further_back() -> None:
    """The last host has the lock of that run, and so its target is still that of that run."""
    now = [pending("k1", "new", "older"), pending("k2", "old", "new")]
    resumed = record.resume(recorded(2, "rollback"), "rollback", "", now)
    assert made(resumed.hosts, done=resumed.done).order == ("k2",)


def test_rollout_of_another_run_is_not_disturbed() -> None:
    other = record.Record("deploy", "", {"k1": "new"}, who="anna@node")
    record.check_apart(other, ["k2", "k3"])
    with pytest.raises(plan.PlanError, match="anna@node is rolling out deploy on k1"):
        record.check_apart(other, ["k1", "k2"])


def test_host_that_cannot_be_switched_stops_the_rollout_before_the_first_switch() -> None:
    stuck = Host("k2", "new", "", ("the current release is new",), "there is no earlier release")
    with pytest.raises(plan.PlanError, match=r"Not every host can be switched:\n\[k2\] there is no earlier"):
        made([pending("k1"), stuck])


def test_finished_rollback_goes_further_back_on_all_hosts() -> None:
    now = [pending("k1", "new", "older"), pending("k2", "new", "older")]
    assert record.resume(recorded(2, "rollback"), "rollback", "", now) == record.Resumed(now)


def test_rollback_to_another_release_is_a_new_one() -> None:
    now = [pending("k1", "new", "older"), pending("k2")]
    assert record.resume(recorded(2, "rollback", "a"), "rollback", "b", now) == record.Resumed(now)


def test_record_is_read_as_it_was_written(tmp_path: Any) -> None:
    path = tmp_path / "records" / record.FILE
    assert record.read(path) is None
    written = record.Record("deploy", "", {"k1": "new"}, "run", "anna@node")
    record.write(written, path)
    assert record.read(path) == written
    path.write_text('{"procedure": 3}')
    assert record.read(path) is None
