"""An operator without a rollback target sees every release on the host and the command that takes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.release import catalogue, history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import start_check, switch
from ansible_collections.katago.fleet.plugins.modules import release_switch
from tests.unit.release.test_layout import built

DAY = "2026-01-0{}T00:00:00Z"


def switched(day: int, release: str, previous: str, how: history.How = "deployment") -> history.Record:
    return history.Record(DAY.format(day), "anna", release, previous, "test", how=how)


def judged(day: int, release: str, verdict: history.Verdict, why: str = "validated") -> history.Record:
    return history.Record(DAY.format(day), "anna", release, None, why, verdict)


@pytest.fixture
def layout(tmp_path: Path) -> release_layout.Layout:
    return release_layout.Layout(tmp_path)


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Four intact releases."""
    return [built(tmp_path, f'{{"number": {number}}}').name for number in range(4)]


def test_release_that_a_rollback_left_is_named_with_the_command_that_takes_it(
    layout: release_layout.Layout, names: list[str]
) -> None:
    first, second, rejected, fresh = names
    records = [
        switched(1, first, ""),
        judged(1, first, "good"),
        switched(2, second, first),
        judged(2, second, "good"),
        switched(3, rejected, second),
        judged(3, rejected, "bad", "- engine: state backoff\n- mcp: no response"),
        switched(4, first, second, "rollback"),
        judged(4, first, "good"),
    ]
    with pytest.raises(switch.SwitchError) as raised:
        switch.last_validated(layout, records, first)
    assert str(raised.value).splitlines() == [
        "there is no earlier release that is validated and intact. On this host:",
        f"- {first}: current; validated on {DAY.format(4)}",
        f"- {rejected}: rejected on {DAY.format(3)}: - engine: state backoff - mcp: no response",
        f"- {second}: validated on {DAY.format(2)}; a rollback left it on {DAY.format(4)}",
        f"- {fresh}: never validated",
        f"To take one of them: ansible-playbook playbooks/rollback.yml -l HOST -e release={second}."
        " Or deploy the inputs of an earlier release",
    ]


def test_damaged_and_incomplete_releases_are_named_and_not_proposed(
    layout: release_layout.Layout, names: list[str]
) -> None:
    current, damaged, incomplete, rejected = names
    (layout.release(damaged) / "config.json").write_text("[]")
    (layout.release(incomplete) / release_layout.MANIFEST).unlink()
    (layout.releases / ".damaged-0.1.0-aa").mkdir()
    records = [judged(1, name, "good") for name in (current, damaged, incomplete)]
    known = catalogue.describe(layout, records, current)
    assert known.keys() == set(names)
    assert known[damaged] == f"validated on {DAY.format(1)}; damaged: config.json was changed"
    assert known[incomplete] == f"validated on {DAY.format(1)}; incomplete: it has no manifest.json"
    command = catalogue.selectable(layout, [*records, judged(2, rejected, "bad")], current)
    assert command == f"{catalogue.ROLLBACK}{rejected} -e allow_rejected=true"
    assert catalogue.selectable(layout, records, current) == f"{catalogue.ROLLBACK}{rejected}"


def test_host_without_another_release_gets_no_command(layout: release_layout.Layout, tmp_path: Path) -> None:
    current = built(tmp_path, "{}").name
    with pytest.raises(switch.SwitchError, match=r"current; never validated\nDeploy the inputs"):
        switch.last_validated(layout, [], current)
    assert catalogue.describe(release_layout.Layout(tmp_path / "nowhere"), [], None) == {}


def test_unknown_and_incomplete_releases_are_refused_with_what_there_is(
    layout: release_layout.Layout, names: list[str]
) -> None:
    (layout.release(names[0]) / release_layout.MANIFEST).unlink()
    for requested, problem in (
        ("0.9.9-nowhere", "there is no release '0.9.9-nowhere'; available releases: "),
        (names[0], f"{names[0]} is incomplete; available releases: "),
    ):
        parameters = {"release": requested, "allow_rejected": False, "since": "9999"}
        with pytest.raises(switch.SwitchError) as raised:
            release_switch.rollback_target(layout, [], parameters, names[1])
        assert problem in str(raised.value)
        assert f"{names[2]} (never validated)" in str(raised.value)


@pytest.mark.parametrize(
    ("how", "previous", "left"),
    [("rollback", "a", True), ("deployment", "a", False), ("return", "a", False), ("rollback", "c", False)],
)
def test_only_a_rollback_leaves_a_release(how: history.How, previous: str, left: bool) -> None:
    records = [switched(1, "a", "b"), switched(2, "b", previous, how)]
    assert (history.left_by_rollback(records, "a") is not None) is left
    assert history.left_by_rollback([*records, switched(3, "a", "b")], "a") is None


def test_release_with_which_the_service_would_not_start_is_refused_with_the_reason_first(
    layout: release_layout.Layout, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = [
        start_check.Problem("server.port: must be a number", start_check.REBUILD),
        start_check.Problem("port 8080 is taken", start_check.REPAIR_PORT),
    ]
    monkeypatch.setattr(start_check, "of_release", lambda *_: problems)
    directory = layout.release(names[0])
    with pytest.raises(switch.SwitchError) as raised:
        switch.require_start(directory, "")
    assert str(raised.value).splitlines() == [
        f"the service would not start with {names[0]}:",
        "- server.port: must be a number",
        "- port 8080 is taken",
        f"Repair: {start_check.REBUILD}",
        f"Repair: {start_check.REPAIR_PORT}",
    ]
    problems.clear()
    switch.require_start(directory, "")
