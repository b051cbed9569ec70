"""A restore is planned from what the host lacks and the snapshot has, and refused if they do not fit."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path
from stat import ST_DEV
from typing import Any, NamedTuple

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import (
    contents,
    restic,
    restore_plan,
    survey,
)
from ansible_collections.katago.fleet.plugins.module_utils.backup.restore_plan import Action, RestoreError
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import HistoryDigest
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from tests.unit.backup.test_survey import Fake

SHA = "ab" * 32
TOKENS = {"tokens": [{"name": name, "scopes": ["analyze"], "sha256": SHA} for name in ("anna", "operator")]}
SNAPSHOT = restic.Snapshot("5" * 64, datetime(2026, 1, 1, tzinfo=UTC), "h", ("verified", "release=r"), ())


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
    return restic.Repository(directory, cache=None)


def planner(
    host: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, **more: Any
) -> restore_plan.Planner:
    """The planner of a restore of `host` from a snapshot with these files."""
    (host.parent / "repository").mkdir()
    parameters = {"scope": "damaged", "newest": SNAPSHOT, "last_history": None, "root": host, **more}
    source = repository(host.parent / "repository", files, monkeypatch)
    return restore_plan.Planner(source, SNAPSHOT, **parameters)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A bare host."""
    place = tmp_path / "host"
    place.mkdir()
    return place


class Disk(NamedTuple):
    """The result of `shutil.disk_usage`."""

    total: int
    used: int
    free: int


def disks(
    monkeypatch: pytest.MonkeyPatch, host: Path, *, free: int, devices: tuple[int, int]
) -> tuple[Path, Path]:
    """Two roots on disks with these device numbers, each with `free` bytes beyond the reserve."""
    roots = contents.below(host, paths.RELEASE_ROOT), contents.below(host, paths.STATE)
    for root in roots:
        root.mkdir(parents=True)
    room = free + restore_plan._SPARE_BYTES
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Disk(room, 0, room))
    numbers = dict(zip(roots, devices, strict=True))
    stat = Path.stat

    def on(path: Path, **how: bool) -> os.stat_result:
        fields = list(stat(path, **how))
        fields[ST_DEV] = numbers.get(path, fields[ST_DEV])
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", on)
    return roots


LARGE = [Action(str(root / "file"), "put", "", size=100 << 20) for root in (paths.RELEASE_ROOT, paths.STATE)]


def test_roots_on_one_disk_share_its_free_space(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = disks(monkeypatch, host, free=150 << 20, devices=(1, 1))
    restore_plan.check_room(LARGE[:1], host)
    message = rf"{roots[0]} and {roots[1]}: 214 MB are free on that disk, and the restore needs 264 MB"
    with pytest.raises(RestoreError, match=message):
        restore_plan.check_room(LARGE, host)


def test_roots_on_different_disks_do_not_share_free_space(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks(monkeypatch, host, free=150 << 20, devices=(1, 2))
    restore_plan.check_room(LARGE, host)


def test_only_missing_records_of_sent_reminders_are_restored(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = host / "var/lib/katago-incident"
    here.mkdir(parents=True)
    (here / "i-1.jsonl").write_text("newer\n")
    files = {f"{paths.INCIDENT_STATE}/{name}.jsonl": "older" for name in ("i-1", "i-2")}
    plan = planner(host, files, monkeypatch, scope="state")
    (action,) = plan._state_of_snapshot()
    assert (action.path, action.how) == (f"{paths.INCIDENT_STATE}/i-2.jsonl", "add")


def test_restored_tokens_keep_the_hosts_operator_token() -> None:
    restored = json.loads(restore_plan.tokens_with_operator(json.dumps(TOKENS).encode(), "own-token"))
    assert [entry["sha256"] for entry in restored["tokens"]] == [SHA, digest.of_text("own-token")]
    with pytest.raises(RestoreError, match=r"deploy\.yml"):
        restore_plan.tokens_with_operator(b"{", "own-token")


def test_python_version_is_read_from_pyvenv() -> None:
    assert restore_plan.python_version("home = /usr/bin\nversion = 3.11.2\n") == (3, 11)
    assert restore_plan.python_version("home = /usr/bin\n") == ()


@pytest.mark.parametrize(
    ("version", "message"),
    [(None, "made without backup_assets"), ("version = 3.1.0\n", "built for Python 3.1, but this host")],
)
def test_snapshot_that_does_not_fit_a_bare_host_is_refused(
    version: str | None, message: str, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = f"{paths.RELEASE_ROOT}/releases/r"
    files = {f"{directory}/config.json": "{}", directory: ""}
    if version:
        files[f"{directory}/venv/pyvenv.cfg"] = version
    with pytest.raises(RestoreError, match=message):
        planner(host, files, monkeypatch).plan([])


@pytest.mark.parametrize(
    ("actions", "unmended"),
    [((), ["schema", "journal"]), ((Action("/opt/config.json", "put", "was changed"),), ["journal"])],
)
def test_damage_that_no_backup_can_repair_is_reported(
    actions: tuple[Action, ...], unmended: list[str]
) -> None:
    """An invalid configuration only if no file is restored, since restoring one may repair it."""
    findings = [
        survey.Finding(item, "/a/path", condition, "message")
        for item in ("schema", "journal", "release")
        for condition in ("whole", "damaged")
    ]
    plan = restore_plan.Plan(actions, "r", findings)
    assert [finding.item for finding in plan.unmended] == unmended


def test_damaged_journal_and_schema_are_in_the_plan_without_actions(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fake(host)
    findings = [survey.Finding(item, "/a/path", "damaged", item) for item in ("schema", "journal")]
    plan = planner(host, {"/etc/hosts": ""}, monkeypatch).plan(findings)
    assert (list(plan.actions), plan.unmended) == ([], findings)
    assert set(findings) <= set(plan.findings)


def test_plan_for_an_intact_host_has_no_actions(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(host)
    plan = planner(host, {"/etc/hosts": ""}, monkeypatch).plan([])
    assert (list(plan.actions), plan.release) == ([], fake.release)


def test_changed_network_is_restored_and_checked_by_the_manifests_checksum(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(host)
    fake.network.write_text("changed")
    path = "/opt/katago/networks/n/net.bin.gz"
    (action,) = planner(host, {path: "network"}, monkeypatch).plan([]).actions
    assert (action.path, action.how, action.expected) == (path, "put", digest.of_text("network"))


def test_history_is_merged_if_records_of_the_last_verified_backup_were_changed(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(host)
    backed_up = fake.history.read_bytes()
    fake.history.write_bytes(backed_up.replace(b"anna", b"anne"))
    digest_at_backup = HistoryDigest(len(backed_up), digest.of_bytes(backed_up))
    files = {str(paths.HISTORY): backed_up.decode()}
    (action,) = planner(host, files, monkeypatch, last_history=digest_at_backup).plan([]).actions
    assert (action.path, action.how) == (str(paths.HISTORY), "merge")
