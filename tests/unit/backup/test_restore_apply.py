"""A restore installs only checked files, keeps the files it replaces, and can be killed at any point."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import restic, restore_apply
from ansible_collections.katago.fleet.plugins.module_utils.backup.contents import below
from ansible_collections.katago.fleet.plugins.module_utils.backup.restore_apply import Restoration
from ansible_collections.katago.fleet.plugins.module_utils.backup.restore_plan import (
    Action,
    Plan,
    RestoreError,
)
from ansible_collections.katago.fleet.plugins.module_utils.backup.survey import Condition, Finding
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials
from tests.unit.backup.test_restore_plan import SNAPSHOT, TOKENS, planner

# Paths to restore, as on the host.
ROOT = paths.RELEASE_ROOT
CONFIG = ROOT / "config.json"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory with the files of a host."""
    place = tmp_path / "host"
    below(place, ROOT).mkdir(parents=True)
    return place


def at(host: Path, path: Path) -> Path:
    return below(host, path)


def staged(host: Path, path: str | Path, content: str) -> Action:
    """Stage a file, and return the action that restores it."""
    target = restore_apply.staged_path(host, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)
    return Action(str(path), "put", "was changed", digest.of_text(content), len(content))


def begin(host: Path, *actions: Action) -> Restoration:
    return Restoration.begin(host, "anna", "5" * 64, Plan(actions, "r", ()))


def whole() -> Iterable[Finding]:
    """The findings of an intact cache."""
    return [Finding("cache", "/cache", "whole", "whole")]


def install(host: Path, *actions: Action) -> list[str]:
    return begin(host, *actions).install(actions, whole)


def test_file_is_replaced_and_the_damaged_one_kept(host: Path) -> None:
    at(host, CONFIG).write_text("damaged")
    action = staged(host, CONFIG, "right")
    restore = begin(host, action)
    (quarantined,) = restore.install([action], whole)
    assert at(host, CONFIG).read_text() == "right"
    assert Path(quarantined).read_text() == "damaged"
    assert quarantined == f"{restore.directory}{CONFIG}"


def test_directory_is_replaced_completely(host: Path) -> None:
    path = ROOT / "engine"
    at(host, path).mkdir()
    (at(host, path) / "katago").write_text("damaged")
    staged(host, path / "katago", "right")
    action = Action(str(path), "put", "was changed")
    restore = begin(host, action)
    restore.install([action], whole)
    assert (at(host, path) / "katago").read_text() == "right"
    assert (Path(f"{restore.directory}{path}") / "katago").read_text() == "damaged"


def test_added_file_is_quarantined(host: Path) -> None:
    path = ROOT / "new.py"
    at(host, path).write_text("added")
    action = Action(str(path), "set_aside", "was added")
    restore = begin(host, action)
    restore.install([action], whole)
    assert not at(host, path).exists()
    assert Path(f"{restore.directory}{path}").read_text() == "added"


def test_link_replaces_whatever_is_there(host: Path) -> None:
    path = ROOT / "current"
    at(host, path).write_text("a file")
    install(host, Action(str(path), "link", "is no link", "link:releases/a"))
    assert str(at(host, path).readlink()) == "releases/a"


@pytest.mark.parametrize(("condition", "stays"), [("whole", True), ("damaged", False), ("unknown", False)])
def test_cache_stays_if_the_restored_release_reports_it_intact(
    host: Path, condition: Condition, stays: bool
) -> None:
    answers = at(host, paths.ANSWERS)
    answers.parent.mkdir(parents=True)
    for end in ("", "-wal"):
        answers.with_name(f"{answers.name}{end}").write_text("rows")
    action = Action(str(paths.ANSWERS), "judge", "cannot be checked")
    findings = [Finding("cache", str(paths.ANSWERS), condition, condition)]
    begin(host, action).install([action], lambda: findings)
    assert [path.exists() for path in (answers, answers.with_name(f"{answers.name}-wal"))] == [stays] * 2


def test_killed_restore_is_resumed_in_the_same_quarantine(host: Path) -> None:
    at(host, CONFIG).write_text("damaged")
    first = begin(host, staged(host, CONFIG, "right"))
    # Killed before the rename: the next run keeps the replaced file in the same quarantine.
    again = begin(host, staged(host, CONFIG, "right"))
    assert again.directory == first.directory
    assert len(again.record.orders) == 2
    again.install([Action(str(CONFIG), "put", "")], whole)
    again.finish("validated")
    assert Restoration.unfinished(host) is None
    assert begin(host).directory != first.directory


# A record in the format of version 0.1.0.
ORDER = {
    "at": "2026-11-24T06:00:00Z",
    "who": "anna",
    "snapshot": "5" * 64,
    "release": "r",
    "actions": [{"path": str(CONFIG), "how": "put", "why": "was changed", "expected": "", "size": 5}],
}
OLD: dict[str, object] = {"orders": [ORDER], "finished": None}


def recorded(host: Path, content: object) -> Path:
    """Write the record of a restore into the quarantine."""
    place = at(host, paths.QUARANTINE) / "2026-11-24T060000Z" / restore_apply.RECORD
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(content))
    return place


def test_unfinished_restore_of_the_previous_version_is_resumed(host: Path) -> None:
    place = recorded(host, OLD)
    staged(host, CONFIG, "right")
    unfinished = Restoration.unfinished(host)
    assert unfinished is not None
    unfinished.carry_out(whole)
    assert at(host, CONFIG).read_text() == "right"
    unfinished.finish("validated")
    written = json.loads(place.read_text())
    assert written["orders"] == OLD["orders"]
    assert (written["result"], bool(written["finished"])) == ("validated", True)


def test_finished_restore_of_the_previous_version_is_not_resumed(host: Path) -> None:
    recorded(host, {"orders": [], "finished": "2026-11-24T06:05:00Z", "result": "validated"})
    assert Restoration.unfinished(host) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "restore.json: the value is a list, not an object"),
        ({**OLD, "orders": []}, "restore.json: orders is empty"),
        ({**OLD, "orders": [{**ORDER, "who": 1}]}, "orders[0].who is 1, not a string"),
        (
            {**OLD, "orders": [{**ORDER, "actions": [{"path": "/x", "how": "burn", "why": ""}]}]},
            "actions[0].how is 'burn', not one of put, add",
        ),
    ],
)
def test_damaged_record_of_a_restore_is_reported_with_the_remedy(
    host: Path, content: object, message: str
) -> None:
    place = recorded(host, content)
    with pytest.raises(RestoreError, match=rf"{re.escape(message)}.*Move {place.parent} elsewhere"):
        unfinished = Restoration.unfinished(host)
        assert unfinished is not None
        unfinished.carry_out(whole)


def test_switch_is_recorded_before_the_links_change(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "current"
    recorded: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        restore_apply,
        "record_switch",
        lambda _, who, release, why: recorded.append((f"{who} {release} {why}", at(host, path).is_symlink())),
    )
    begin(host, Action(str(path), "link", "is missing", "link:releases/r")).carry_out(whole)
    assert recorded == [("anna r restored from 55555555: 1 items", False)]
    assert str(at(host, path).readlink()) == "releases/r"


def test_switch_is_recorded_once(host: Path) -> None:
    at(host, ROOT / "current").symlink_to("releases/old")
    assert restore_apply.record_switch(host, "anna", "r", "restored")
    assert not restore_apply.record_switch(host, "anna", "r", "restored")
    (record,) = history.read(at(host, paths.HISTORY))
    assert (record.release, record.previous, record.how) == ("r", "old", "restore")


def test_nothing_in_the_quarantine_is_overwritten(host: Path) -> None:
    restore = begin(host)
    for content in ("first", "second"):
        at(host, CONFIG).write_text(content)
        restore.install([Action(str(CONFIG), "set_aside", "")], whole)
    kept = sorted(Path(f"{restore.directory}{CONFIG}").parent.iterdir())
    assert [each.read_text() for each in kept] == ["first", "second"]


def test_history_is_never_missing_while_it_is_merged(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(host, paths.STATE).mkdir(parents=True)
    at(host, paths.HISTORY).write_text("{\n")
    exists: list[bool] = []
    quarantine = Restoration._quarantine

    def watched(self: Restoration, path: Path) -> list[str]:
        quarantined = quarantine(self, path)
        exists.append(at(host, path).exists())
        return quarantined

    monkeypatch.setattr(Restoration, "_quarantine", watched)
    staged(host, paths.HISTORY, "")
    install(host, Action(str(paths.HISTORY), "merge", ""))
    assert exists == [True]
    assert at(host, paths.HISTORY).read_text() == ""


def test_staged_file_with_a_wrong_checksum_is_refused(host: Path) -> None:
    action = staged(host, ROOT / "network", "right")
    assert restore_apply.staging_problem(host, action) == ""
    restore_apply.staged_path(host, ROOT / "network").write_text("wrong")
    assert "its checksum is" in restore_apply.staging_problem(host, action)
    restore_apply.staged_path(host, ROOT / "network").unlink()
    assert restore_apply.staging_problem(host, action) == "it is missing"


def test_failed_staging_leaves_no_files_on_any_root(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [below(host, root) for root in (paths.RELEASE_ROOT, paths.STATE)]
    for root in roots:
        root.mkdir(parents=True, exist_ok=True)
    script = "#!/bin/sh\nfor last; do case $last in --target=*) target=${last#--target=};; esac; done\n"
    script += '[ -n "$target" ] || exit 0\nmkdir -p "$target/half"\n'
    script += f"case $target in {roots[1]}*) echo no space left on device >&2; exit 1;; esac\n"
    plan = planner(host, {"/etc/hosts": ""}, monkeypatch)
    (host.parent / "repository" / paths.RESTIC_PASSWORD).write_text("a password")
    (host.parent / "repository" / "restic").write_text(script)
    actions = [Action(str(root / "half"), "put", "") for root in (paths.RELEASE_ROOT, paths.STATE)]
    with pytest.raises(restic.ResticError, match="no space left on device"):
        restore_apply.stage(plan, SNAPSHOT.id, actions)
    assert [list(root.iterdir()) for root in roots] == [[], []]


def test_restore_whose_record_cannot_be_written_leaves_no_staged_files(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = staged(host, CONFIG, "right")

    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(common_files, "write", full)
    with pytest.raises(OSError, match="No space left"):
        begin(host, action)
    assert list(at(host, ROOT).iterdir()) == []


def test_newer_record_of_sent_reminders_is_not_replaced(host: Path) -> None:
    state = below(host, paths.INCIDENT_STATE)
    state.mkdir(parents=True)
    actions = [
        dataclasses.replace(staged(host, f"{paths.INCIDENT_STATE}/{name}.jsonl", "older"), how="add")
        for name in ("i-2", "i-3")
    ]
    assert [restore_apply.staging_problem(host, action) for action in actions] == ["", ""]
    (state / "i-3.jsonl").write_text("newer\n")
    assert install(host, *actions) == []
    reminders = {path.name: path.read_text() for path in state.glob("*.jsonl")}
    assert reminders == {"i-2.jsonl": "older", "i-3.jsonl": "newer\n"}
    assert state.stat().st_mode & 0o777 == 0o700


def test_restored_tokens_can_be_read_by_the_service(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = at(host, paths.CREDENTIALS)
    monkeypatch.setattr(credentials, "group_id", os.getegid)
    chosen: list[int] = []
    monkeypatch.setattr(os, "fchown", lambda _file, _user, group: chosen.append(group))
    action = staged(host, paths.CREDENTIALS / paths.TOKENS, json.dumps(TOKENS))
    install(host, dataclasses.replace(action, how="tokens"))
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (place, *place.iterdir())} == {
        "credentials": "0o710",
        "tokens.json": "0o640",
        "operator.token": "0o600",
    }
    assert chosen == [os.getegid()]


def test_restore_of_tokens_fails_if_the_services_group_is_missing(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "group_id", lambda: None)
    action = staged(host, paths.CREDENTIALS / paths.TOKENS, json.dumps(TOKENS))
    with pytest.raises(RestoreError, match="no group katago-mcp"):
        install(host, dataclasses.replace(action, how="tokens"))
