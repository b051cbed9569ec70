"""A second run finds nothing to do, and the check mode knows it."""

from __future__ import annotations

from tests import fleet


def test_check_mode_predicts_no_change() -> None:
    run = fleet.play("site.yml", "--check", "--diff")
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}, run.output


def test_second_run_changes_and_downloads_nothing() -> None:
    run = fleet.play("site.yml")
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}, run.output
    assert "Fetching" not in run.output
    assert "Building" not in run.output


def test_validation_names_the_release() -> None:
    run = fleet.play("validate.yml")
    assert run.returncode == 0, run.output
    assert run.output.count("works: ") == len(fleet.LAB.hosts())
