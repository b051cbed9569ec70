"""A restore puts back what it checked, keeps what it replaces, and can be killed anywhere."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from stat import ST_DEV
from typing import NamedTuple

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import (
    program_checks,
    restic,
    restoration,
    survey,
)
from ansible_collections.katago.fleet.plugins.module_utils.backup.restoration import (
    Action,
    Restoration,
    RestoreError,
)
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.service import unit

SHA = "ab" * 32
TOKENS = {"tokens": [{"name": name, "scopes": ["analyze"], "sha256": SHA} for name in ("anna", "operator")]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One directory that everything to be restored lies below."""
    directory = tmp_path / "opt"
    directory.mkdir()
    monkeypatch.setattr(restoration, "ROOTS", (directory,))
    monkeypatch.setattr(paths, "QUARANTINE", tmp_path / "quarantine")
    return directory


def staged(path: Path, content: str) -> Action:
    """An action to put a file, and the file in its stage."""
    target = restoration.stage_of(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)
    return Action(str(path), "put", "was changed", digest.of_text(content), len(content))


def begin(*actions: Action) -> Restoration:
    return Restoration.begin("anna", "5" * 64, restoration.Plan(actions, "r", ()))


def test_file_is_replaced_and_the_damaged_one_kept(root: Path) -> None:
    path = root / "config.json"
    path.write_text("damaged")
    action = staged(path, "right")
    restore = begin(action)
    (aside,) = restore.install([action])
    assert path.read_text() == "right"
    assert Path(aside).read_text() == "damaged"
    assert aside == f"{restore.directory}{path}"


def test_directory_is_replaced_whole(root: Path) -> None:
    path = root / "engine"
    path.mkdir()
    (path / "katago").write_text("damaged")
    action = staged(path / "katago", "right")
    action = Action(str(path), "put", "was changed")
    restore = begin(action)
    restore.install([action])
    assert (path / "katago").read_text() == "right"
    assert (Path(f"{restore.directory}{path}") / "katago").read_text() == "damaged"


def test_what_was_added_is_only_set_aside(root: Path) -> None:
    path = root / "new.py"
    path.write_text("added")
    action = Action(str(path), "set_aside", "was added")
    restore = begin(action)
    restore.install([action])
    assert not path.exists()
    assert Path(f"{restore.directory}{path}").read_text() == "added"


def test_link_is_made_in_the_place_of_anything(root: Path) -> None:
    path = root / "current"
    path.write_text("a file")
    action = Action(str(path), "link", "is no link", "link:releases/a")
    begin(action).install([action])
    assert str(path.readlink()) == "releases/a"


def test_killed_restore_is_found_and_gone_on_with(root: Path) -> None:
    path = root / "config.json"
    path.write_text("damaged")
    first = begin(staged(path, "right"))
    # Killed before the rename: the next run keeps what lies there, in the same quarantine.
    again = begin(staged(path, "right"))
    assert again.directory == first.directory
    assert len(again.record["orders"]) == 2
    again.install([Action(str(path), "put", "")])
    again.finish("validated")
    assert Restoration.unfinished() is None
    assert begin().directory != first.directory


def test_switch_is_recorded_before_it_is_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "current"
    recorded: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        restoration,
        "record_switch",
        lambda who, release, why: recorded.append((f"{who} {release} {why}", path.is_symlink())),
    )
    begin(Action(str(path), "link", "is missing", "link:releases/r")).carry_out()
    assert recorded == [("anna r restored from 55555555: 1 items", False)]
    assert str(path.readlink()) == "releases/r"


def test_nothing_in_the_quarantine_is_overwritten(root: Path) -> None:
    path = root / "config.json"
    restore = begin()
    for content in ("first", "second"):
        path.write_text(content)
        restore.install([Action(str(path), "set_aside", "")])
    kept = sorted(Path(f"{restore.directory}{path}").parent.iterdir())
    assert [each.read_text() for each in kept] == ["first", "second"]


def test_history_is_never_missing_while_it_is_merged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "history.jsonl"
    path.write_text("{\n")
    seen: list[bool] = []
    quarantined = Restoration._quarantine

    def watched(self: Restoration, looked_at: Path) -> list[str]:
        aside = quarantined(self, looked_at)
        seen.append(looked_at.exists())
        return aside

    monkeypatch.setattr(Restoration, "_quarantine", watched)
    staged(path, "")
    begin().install([Action(str(path), "merge", "")])
    assert seen == [True]
    assert path.read_text() == ""


def test_staged_file_that_is_not_what_was_expected_is_refused(root: Path) -> None:
    action = staged(root / "network", "right")
    assert restoration.staged_trouble(action) == ""
    restoration.stage_of(root / "network").write_text("wrong")
    assert "its digest is" in restoration.staged_trouble(action)
    restoration.stage_of(root / "network").unlink()
    assert restoration.staged_trouble(action) == "it is not there"


class Disk(NamedTuple):
    """What `shutil.disk_usage` says."""

    total: int
    used: int
    free: int


def disks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, free: int, devices: tuple[int, int]
) -> tuple[Path, Path]:
    """Two roots on disks of these numbers, each with so many bytes free besides what is spared."""
    roots = tmp_path / "opt", tmp_path / "var"
    for root in roots:
        root.mkdir()
    monkeypatch.setattr(restoration, "ROOTS", roots)
    room = free + restoration._SPARE_BYTES
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Disk(room, 0, room))
    numbers = dict(zip(roots, devices, strict=True))
    stat = Path.stat

    def on(path: Path, **how: bool) -> os.stat_result:
        seen = list(stat(path, **how))
        seen[ST_DEV] = numbers.get(path, seen[ST_DEV])
        return os.stat_result(seen)

    monkeypatch.setattr(Path, "stat", on)
    return roots


def test_roots_on_one_disk_share_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = disks(monkeypatch, tmp_path, free=150 << 20, devices=(1, 1))
    actions = [Action(str(root / "file"), "put", "", size=100 << 20) for root in roots]
    restoration.check_room(actions[:1])
    words = rf"{roots[0]} and {roots[1]}: 214 MB are free on that disk, and the restore needs 264 MB"
    with pytest.raises(restoration.RestoreError, match=words):
        restoration.check_room(actions)


def test_roots_on_disks_of_their_own_do_not_share_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = disks(monkeypatch, tmp_path, free=150 << 20, devices=(1, 2))
    restoration.check_room([Action(str(root / "file"), "put", "", size=100 << 20) for root in roots])


@pytest.mark.usefixtures("bare")
def test_stage_that_fails_leaves_nothing_on_any_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = tmp_path / "opt", tmp_path / "var"
    monkeypatch.setattr(restoration, "ROOTS", roots)
    for root in roots:
        root.mkdir()
    script = "#!/bin/sh\nfor last; do case $last in --target=*) target=${last#--target=};; esac; done\n"
    script += '[ -n "$target" ] || exit 0\nmkdir -p "$target/half"\n'
    script += f"case $target in {roots[1]}*) echo no space left on device >&2; exit 1;; esac\n"
    repository(tmp_path, {}, monkeypatch)
    (tmp_path / paths.RESTIC_PASSWORD).write_text("a password")
    (tmp_path / "restic").write_text(script)
    planner = restoration.Planner(restic.Repository(tmp_path), SNAPSHOT, "damaged", newest=SNAPSHOT)
    actions = [Action(str(root / "half"), "put", "") for root in roots]
    with pytest.raises(restic.ResticError, match="no space left on device"):
        restoration.stage(planner, SNAPSHOT.id, actions)
    assert [list(root.iterdir()) for root in roots] == [[], []]


def test_restore_whose_record_cannot_be_written_leaves_no_stage(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = staged(root / "config.json", "right")

    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(common_files, "write", full)
    with pytest.raises(OSError, match="No space left"):
        begin(action)
    assert list(root.iterdir()) == []


@pytest.mark.usefixtures("bare")
def test_what_the_timekeeper_has_sent_is_put_back_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "var" / "katago-incident"
    state.mkdir(parents=True)
    monkeypatch.setattr(paths, "INCIDENT_STATE", state)
    monkeypatch.setattr(restoration, "ROOTS", (state,))
    monkeypatch.setattr(paths, "QUARANTINE", tmp_path / "quarantine")
    (state / "i-1.jsonl").write_text("newer\n")
    files = {str(state / name): "older" for name in ("i-1.jsonl", "i-2.jsonl", "i-3.jsonl")}
    planner = restoration.Planner(
        repository(tmp_path, files, monkeypatch), SNAPSHOT, "state", newest=SNAPSHOT
    )
    actions = list(planner._state_of_snapshot())
    assert [(Path(each.path).name, each.how) for each in actions] == [
        ("i-2.jsonl", "add"),
        ("i-3.jsonl", "add"),
    ]
    for action in actions:
        staged(Path(action.path), "older")
        assert restoration.staged_trouble(action) == ""
    # The timekeeper has sent something meanwhile.
    (state / "i-3.jsonl").write_text("newer\n")
    assert begin(*actions).install(actions) == []
    found = {path.name: path.read_text() for path in state.glob("*.jsonl")}
    assert found == {"i-1.jsonl": "newer\n", "i-2.jsonl": "older", "i-3.jsonl": "newer\n"}
    assert state.stat().st_mode & 0o777 == 0o700


def test_tokens_keep_the_hosts_own_one() -> None:
    sealed = json.loads(restoration.sealed_tokens(json.dumps(TOKENS).encode(), "own-token"))
    assert [entry["sha256"] for entry in sealed["tokens"]] == [SHA, digest.of_text("own-token")]
    with pytest.raises(restoration.RestoreError, match=r"deploy\.yml"):
        restoration.sealed_tokens(b"{", "own-token")


def test_restored_tokens_can_be_read_by_the_service(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = root / "credentials"
    monkeypatch.setattr(paths, "CREDENTIALS", place)
    monkeypatch.setattr(unit, "group_id", os.getegid)
    chosen: list[int] = []
    monkeypatch.setattr(os, "fchown", lambda _file, _user, group: chosen.append(group))
    action = staged(place / "tokens.json", json.dumps(TOKENS))
    begin().install([dataclasses.replace(action, how="tokens")])
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (place, *place.iterdir())} == {
        "credentials": "0o710",
        "tokens.json": "0o640",
        "operator.token": "0o600",
    }
    assert chosen == [os.getegid()]


def test_restore_of_tokens_says_that_the_services_group_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CREDENTIALS", root / "credentials")
    monkeypatch.setattr(unit, "group_id", lambda: None)
    action = staged(root / "credentials" / "tokens.json", json.dumps(TOKENS))
    with pytest.raises(RestoreError, match="no group katago-mcp"):
        begin().install([dataclasses.replace(action, how="tokens")])


def test_environment_tells_its_python() -> None:
    assert restoration.python_of("home = /usr/bin\nversion = 3.11.2\n") == (3, 11)
    assert restoration.python_of("home = /usr/bin\n") == ()


def repository(directory: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> restic.Repository:
    """A repository whose restic is a script that lists and dumps these files."""
    (directory / paths.RESTIC_REPOSITORY).write_text("/srv/backup\n")
    nodes = [
        json.dumps({"struct_type": "node", "path": path, "type": "file", "size": len(text)})
        for path, text in files.items()
    ]
    lines = [f"ls) printf '%s\\n' {shlex.join(nodes)};;"]
    lines += [f"{shlex.quote(path)}) printf %s {shlex.quote(text)};;" for path, text in files.items()]
    program = directory / "restic"
    program.write_text(
        "#!/bin/sh\nfor last; do case $last in ls) break;; esac; done\ncase $last in\n"
        + "\n".join(lines)
        + "\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return restic.Repository(directory)


SNAPSHOT = restic.Snapshot("5" * 64, datetime(2026, 1, 1, tzinfo=UTC), "h", ("verified", "release=r"), ())


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host on which there is nothing."""
    monkeypatch.setattr(paths, "RELEASE_ROOT", tmp_path / "nothing")
    yield


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("version", "words"),
    [(None, "made without backup_assets"), ("version = 3.1.0\n", "built for Python 3.1, and this host")],
)
def test_bare_host_that_the_snapshot_does_not_fit_is_refused(
    version: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = f"{paths.RELEASE_ROOT}/releases/r"
    files = {f"{directory}/config.json": "{}", directory: ""}
    if version:
        files[f"{directory}/venv/pyvenv.cfg"] = version
    planner = restoration.Planner(
        repository(tmp_path, files, monkeypatch), SNAPSHOT, "damaged", newest=SNAPSHOT
    )
    with pytest.raises(restoration.RestoreError, match=words):
        planner.plan()


@pytest.mark.parametrize(
    ("actions", "told"),
    [((), ["schema", "journal"]), ((Action("/opt/config.json", "put", "was changed"),), ["journal"])],
)
def test_what_no_backup_mends_is_told(actions: tuple[Action, ...], told: list[str]) -> None:
    """The schema only where no file is mended, which may be what it complains of."""
    findings = [
        survey.Finding(item, "/a/path", condition, "words")
        for item in ("schema", "journal", "release")
        for condition in ("whole", "damaged")
    ]
    plan = restoration.Plan(actions, "r", findings)
    assert [finding.item for finding in plan.unmended] == told


def test_damaged_journal_and_schema_are_part_of_the_plan_and_order_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [survey.Finding(item, "/a/path", "damaged", item) for item in ("schema", "journal")]
    monkeypatch.setattr(program_checks, "findings", lambda: found)
    monkeypatch.setattr(survey.Survey, "findings", lambda *_: [])
    monkeypatch.setattr(restoration.Planner, "_names", lambda _: [])
    monkeypatch.setattr(restoration.Planner, "_is_bare", lambda _: False)
    planner = restoration.Planner(
        repository(tmp_path, {"/etc/hosts": ""}, monkeypatch), SNAPSHOT, "damaged", newest=SNAPSHOT
    )
    plan = planner.plan()
    assert (list(plan.actions), list(plan.findings), plan.unmended) == ([], found, found)
    monkeypatch.setattr(program_checks, "of_cache", lambda: iter(found[:1]))
    assert list(planner.plan(told=False).findings) == found[:1]
