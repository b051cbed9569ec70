"""The contents of a backup, its validation, its metrics and recorded state, and access to its repository."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import (
    contents,
    restic,
    run,
    validation,
)
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import (
    BackupError,
    HistoryDigest,
    Outcome,
    Settings,
    State,
    state_or_empty,
)
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, prometheus
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.service import sandbox
from ansible_collections.katago.fleet.plugins.modules import backup_access, backup_repository
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import zipapps
from tests.unit.backup.test_survey import Fake

UNIT = """\
[Unit]
Description=KataGo MCP server
[Service]
Type=notify
User=katago-mcp
WorkingDirectory=/opt/katago-mcp/current
ExecStart=/opt/katago-mcp/current/venv/bin/katago-mcp serve
LoadCredential=tokens.json:/etc/katago-mcp/credentials/tokens.json
WatchdogSec=30
# a comment
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
CapabilityBoundingSet=
[Install]
WantedBy=multi-user.target
"""
VERIFIED = Outcome(
    at="2026-11-24T03:00:00Z",
    ok=True,
    step="retention",
    message="5a5a5a5a of r is verified",
    seconds=40.5,
    snapshot="5a5a5a5a",
    size=1024,
)


@pytest.fixture
def host(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def settings(tmp_path: Path) -> Settings:
    return Settings(
        host="katago-1",
        assets=True,
        engine=True,
        keep={"daily": 7},
        read_data="all",
        scratch=str(tmp_path),
        metrics=str(tmp_path / "metrics" / "katago_backup.prom"),
        lock_wait=1,
        deadline=1,
        fleet="production",
    )


def test_temporary_files_of_a_killed_backup_are_removed(tmp_path: Path) -> None:
    killed = tmp_path / "scratch" / "temporary"
    (killed / "restic").mkdir(parents=True)
    with run.temporary_directory(tmp_path / "scratch") as directory:
        assert list(directory.iterdir()) == []
        assert directory.stat().st_mode & 0o777 == 0o700
    assert not directory.exists()
    (tmp_path / "file").write_text("")
    with run.temporary_directory(tmp_path / "file") as missing:
        assert not missing.exists()


def test_backup_with_assets_includes_everything_that_the_release_needs(host: Fake) -> None:
    included = contents.paths_to_back_up(host.root, assets=True)
    assert f"/opt/katago-mcp/releases/{host.release}" in included
    assert {
        "/opt/katago/engines/e",
        "/opt/katago/networks/n/net.bin.gz",
        "/opt/katago/tuning/t/tuning.txt",
    } <= set(included)


def test_backup_without_assets_includes_small_files_and_tuning(host: Fake) -> None:
    included = contents.paths_to_back_up(host.root, assets=False)
    directory = f"/opt/katago-mcp/releases/{host.release}"
    assert [path for path in included if path.startswith("/opt")] == [
        "/opt/katago-mcp/current",
        *(f"{directory}/{name}" for name in sorted(contents.SMALL_FILES)),
        "/opt/katago/tuning/t/tuning.txt",
    ]


def test_backup_of_state_excludes_quarantine_engine_and_operator_token(host: Fake) -> None:
    for path in ("quarantine/2026/x.json", "engine/log", ".restore/x"):
        host.write(f"var/lib/katago-mcp/{path}", "{}")
    host.write("etc/katago-mcp/credentials/operator.token", "secret")
    host.write("etc/katago-mcp/credentials/tls.key", "key")
    host.write("etc/katago-mcp/tls.crt", "certificate")
    included = contents.paths_to_back_up(host.root, assets=False)
    assert [path for path in included if path.startswith(("/var", "/etc/katago-mcp"))] == [
        "/etc/katago-mcp/config.json",
        "/etc/katago-mcp/credentials/tls.key",
        "/etc/katago-mcp/credentials/tokens.json",
        "/etc/katago-mcp/tls.crt",
        "/var/lib/katago-mcp/baseline.json",
        "/var/lib/katago-mcp/history.jsonl",
    ]


def test_backup_includes_sent_reminders_but_no_reminder_plans(host: Fake) -> None:
    for name in ("i-1.json", "i-1.jsonl", "i-2.jsonl", ".restore/var/lib/katago-incident/i-3.jsonl"):
        host.write(f"var/lib/katago-incident/{name}", "{}\n")
    included = contents.paths_to_back_up(host.root, assets=False)
    assert [path for path in included if "incident" in path] == [
        "/var/lib/katago-incident/i-1.jsonl",
        "/var/lib/katago-incident/i-2.jsonl",
    ]


def test_bare_host_has_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="this host has no current release"):
        contents.paths_to_back_up(tmp_path, assets=True)


@pytest.mark.parametrize("manifest", ["{}", "{", '{"files": 1}'])
def test_release_with_a_changed_manifest_is_backed_up_and_the_verification_reports_it(
    host: Fake, manifest: str
) -> None:
    (host.directory / "manifest.json").write_text(manifest)
    included = contents.paths_to_back_up(host.root, assets=True)
    assert f"/opt/katago-mcp/releases/{host.release}" in included
    assert [finding.item for finding in host.damaged()] == ["release"]


def test_sandbox_directives_exclude_what_does_not_confine() -> None:
    assert sandbox.sandbox_directives(UNIT) == {
        "User": ["katago-mcp"],
        "SystemCallFilter": ["@system-service", "~@privileged @resources"],
        "CapabilityBoundingSet": [""],
    }


@pytest.mark.parametrize("assets", [True, False])
def test_restored_release_is_validated_in_its_sandbox(host: Fake, assets: bool) -> None:
    host.write(f"opt/katago-mcp/releases/{host.release}/katago-mcp.service", UNIT)
    command = validation.command(host.root, host.release, assets=assets, engine=assets)
    assert "--property=SystemCallFilter=~@privileged @resources" in command
    assert f"--property=LoadCredential=tokens.json:{host.tokens}" in command
    assert "--property=Environment=KATAGO_AUTH_TOKENS_FILE=" in command
    assert ("--no-engine" in command) is not assets
    binds = [part for part in command if part.startswith("--property=BindReadOnlyPaths=")]
    assert (f"--property=BindReadOnlyPaths={host.root}/opt/katago:/opt/katago" in binds) is assets


def test_metrics_of_a_failed_backup_still_include_the_last_verified_one() -> None:
    failed = dataclasses.replace(VERIFIED, at="2026-11-25T03:00:00Z", ok=False)
    scrape = prometheus.parse(run.exposition(State(last_good=VERIFIED, last_run=failed)))
    verified = restic.parse_time(VERIFIED.at).timestamp()
    assert scrape.value("katago_backup_last_good_timestamp_seconds") == verified
    assert scrape.value("katago_backup_last_run_timestamp_seconds") == verified + 86400
    assert scrape.value("katago_backup_last_run_success") == 0
    assert scrape.value("katago_backup_last_good_size_bytes") == 1024


def test_host_without_backups_has_no_samples() -> None:
    assert prometheus.parse(run.exposition(State())).samples == {}


def test_killed_backup_is_recorded_as_failed(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    run.record_killed(
        State(running="2026-11-24T03:00:00Z", last_good=VERIFIED), settings(tmp_path), "timeout, TERM", file
    )
    written = State.read(file)
    assert written.last_run is not None
    assert (written.running, written.last_run.ok, written.last_good) == ("", False, VERIFIED)
    assert "timeout, TERM" in written.last_run.message
    assert "success 0" in (tmp_path / "metrics" / "katago_backup.prom").read_text()


def test_backup_that_finished_is_not_recorded_again(tmp_path: Path) -> None:
    state = State(last_run=VERIFIED)
    run.record_killed(state, settings(tmp_path), "success, 0", tmp_path / "state.json")
    assert state.last_run == VERIFIED


def test_two_backups_of_a_host_do_not_run_at_the_same_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        run.exclusive_lock(lock),
        pytest.raises(BackupError, match=r"is running \(process \d+ since 20"),
        run.exclusive_lock(lock),
    ):
        pass
    with run.exclusive_lock(lock):
        assert lock.exists()


def listed(fleet: str) -> dict[str, Any]:
    """A snapshot as `restic snapshots --json` prints it."""
    tags = ["katago-mcp", "verified", *([f"fleet={fleet}"] if fleet else [])]
    return {
        "id": digest.of_text(fleet),
        "time": "2026-11-24T03:00:00Z",
        "hostname": "katago-1",
        "tags": tags,
        "paths": ["/x"],
    }


def restic_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleets: list[str], method: str
) -> tuple[list[str], list[str]]:
    """The commands that a step of a backup gives to restic, and what it logs; `fleets` have snapshots."""
    calls, answer, program = tmp_path / "calls", tmp_path / "answer", tmp_path / "restic"
    answer.write_text(json.dumps([listed(fleet) for fleet in fleets]))
    backed_up = json.dumps({"snapshot_id": "5a" * 32})
    program.write_text(
        f"""#!/bin/sh
        echo "$@" >> {calls}
        case "$*" in *snapshots*) cat {answer};; *" backup "*) echo '{backed_up}';; esac
        """
    )
    program.chmod(0o755)
    for name in (paths.RESTIC_REPOSITORY, paths.RESTIC_PASSWORD):
        (tmp_path / name).write_text("/srv/vault\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(security_mode, "standing", lambda *_: None)
    messages: list[str] = []
    opened = restic.Repository(tmp_path, cache=None)
    of_host = run.Backup(
        settings(tmp_path),
        State(),
        opened,
        opened,
        messages.append,
        root=tmp_path,
        state_file=tmp_path / "state.json",
        temporary=tmp_path,
    )
    getattr(of_host, method)(*([["/x"]] if method == "_make" else []))
    return calls.read_text().splitlines(), messages


def test_backup_carries_the_name_of_the_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, _ = restic_calls(tmp_path, monkeypatch, [], "_make")
    assert "--tag=fleet=production" in calls[0].split()


def test_old_snapshots_without_a_fleet_are_removed_with_those_of_the_only_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, messages = restic_calls(tmp_path, monkeypatch, ["", "production"], "_forget")
    removing = [call for call in calls if " forget " in call]
    assert ["--tag unverified " in call or "--tag verified " in call for call in removing] == [True, True]
    assert messages == []


def test_snapshots_of_another_fleet_in_the_same_repository_are_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, messages = restic_calls(tmp_path, monkeypatch, ["", "production", "staging"], "_forget")
    removing = [call for call in calls if " forget " in call]
    assert "--tag unverified,fleet=production " in removing[0]
    assert "--tag verified,fleet=production " in removing[1]
    assert "of the fleet staging" in messages[0]


def test_access_files_of_empty_options_are_empty() -> None:
    files = backup_access.files(
        {
            "repository": "/srv/backup",
            "password": "pass",
            "environment": {"B": "2", "A": "1"},
            "ssh_private_key": "",
            "ssh_known_hosts": " ",
        }
    )
    assert files == {
        "repository": "/srv/backup\n",
        "password": "pass\n",
        "environment": "A=1\nB=2\n",
        "ssh_key": "",
        "known_hosts": "",
    }


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"repository": ""}, "backup_repository is empty"),
        ({"password": "short-one"}, "backup_password must have 12"),
        ({"password": {"a-secret": 1}}, "backup_password must be a text"),
        ({"environment": "A=a-secret"}, "backup_environment must be a mapping"),
        ({"environment": {"A": "a-secret\nB=2"}}, "backup_environment must be a mapping"),
    ],
)
def test_invalid_access_is_reported_without_its_value(parameters: dict[str, Any], message: str) -> None:
    valid = {
        "repository": "/srv/backup",
        "password": "correct horse battery",
        "environment": {"A": "1"},
        "ssh_private_key": "",
    }
    assert backup_access.problems(valid) == []
    (problem,) = backup_access.problems({**valid, **parameters})
    assert problem.startswith(message)
    assert "secret" not in problem


def test_absent_repository_is_a_problem_only_if_it_must_exist(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def absent(*_: Any) -> None:
        raise restic.ResticError("absent", "Is there a repository at the following location?")

    monkeypatch.setattr(restic.Repository, "probe", absent)
    access = {
        paths.RESTIC_REPOSITORY: "rest:http://u:a-secret@vault/katgo\n",
        paths.RESTIC_PASSWORD: "pass\n",
    }
    assert backup_access.access_problem(access, existing=False, place=tmp_path) == ""
    problem = backup_access.access_problem(access, existing=True, place=tmp_path)
    assert problem.startswith("rest:http://vault/katgo: there is no repository")
    assert "secret" not in problem


def test_packed_program_runs_without_the_collection(tmp_path: Path) -> None:
    program = tmp_path / "katago-backup"
    program.write_bytes(zipapps.pack("backup.run"))
    program.chmod(0o755)
    done = subprocess.run(
        [program, "--help"], cwd="/", env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # argparse wraps the help at the width of the terminal.
    assert "back up the host, verify the backup" in " ".join(done.stdout.split())


def test_packed_program_is_reproducible() -> None:
    assert zipapps.pack("backup.run") == zipapps.pack("backup.run")
    assert "backup.restore_apply" not in zipapps.needed("backup.run")


# The files in the format of version 0.1.0.
OLD_STATE: dict[str, Any] = {
    "host": "katago-1",
    "repository": "ab" * 32,
    "running": "",
    "last_run": {
        "at": "2026-11-24T03:00:00Z",
        "ok": True,
        "step": "retention",
        "message": "5a5a5a5a of 0.1.0-aa is verified",
        "seconds": 40.5,
        "snapshot": "5a5a5a5a",
        "release": "0.1.0-aa",
        "size": 1024,
        "checks": ["read back (all)"],
    },
    "last_good": None,
    "history": {"size": 10, "sha256": "cd" * 32},
}
OLD_SETTINGS: dict[str, Any] = {
    "host": "katago-1",
    "assets": True,
    "engine": False,
    "keep": {"last": 3, "daily": "7"},
    "read_data": "10%",
    "scratch": "/var/lib/katago-backup",
    "metrics": "",
    "lock_wait": 600,
    "deadline": 7200,
}


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_state_of_the_previous_version_is_read_and_written_unchanged(tmp_path: Path) -> None:
    file = written(tmp_path / "state.json", OLD_STATE)
    state = State.read(file)
    assert state.last_run == Outcome(**{**OLD_STATE["last_run"], "checks": ("read back (all)",)})
    assert (state.last_good, state.history) == (None, HistoryDigest(10, "cd" * 32))
    state.write(file)
    assert json.loads(file.read_text()) == OLD_STATE


def test_state_before_the_first_backup_is_read(tmp_path: Path) -> None:
    assert State.read(tmp_path / "none.json") == State()
    State(running="2026-11-24T03:00:00Z").write(tmp_path / "state.json")
    assert json.loads((tmp_path / "state.json").read_text())["history"] == {}
    assert State.read(tmp_path / "state.json") == State(running="2026-11-24T03:00:00Z")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "state.json: it is not JSON"),
        ([], "state.json: the value is a list, not an object"),
        ({**OLD_STATE, "running": "now"}, "state.json: running is 'now', not a time"),
        ({**OLD_STATE, "last_run": {**OLD_STATE["last_run"], "at": "then"}}, "last_run.at is 'then', not a"),
        ({**OLD_STATE, "host": 1}, "state.json: host is 1, not a string"),
        ({**OLD_STATE, "last_good": "yes"}, "state.json: last_good is 'yes', not an object"),
        ({**OLD_STATE, "last_run": {"at": "x"}}, "state.json: last_run.ok is missing"),
        ({**OLD_STATE, "history": {"size": "10", "sha256": ""}}, "history.size is '10', not an integer"),
    ],
)
def test_damaged_state_is_reported_and_does_not_fail_a_backup(
    tmp_path: Path, content: object, message: str
) -> None:
    state, problem = state_or_empty(written(tmp_path / "state.json", content))
    assert message in problem
    assert state == State()


def test_settings_of_the_previous_version_are_read(tmp_path: Path) -> None:
    loaded = Settings.load(written(tmp_path / "settings.json", OLD_SETTINGS))
    assert dataclasses.asdict(loaded) == {**OLD_SETTINGS, "keep": {"last": 3, "daily": 7}, "fleet": ""}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"keep": {"daily": "many"}}, "settings.json: keep.daily is 'many', not an integer"),
        ({"assets": "yes"}, "settings.json: assets is 'yes', not true or false"),
        ({"deadline": None}, "settings.json: deadline is None, not an integer"),
        ({"lock_wait": True}, "settings.json: lock_wait is True, not an integer"),
    ],
)
def test_damaged_settings_are_reported_with_the_remedy(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    file = written(tmp_path / "settings.json", {**OLD_SETTINGS, **changed})
    with pytest.raises(BackupError, match=rf"{re.escape(message)}.*playbooks/backup\.yml"):
        Settings.load(file)


@pytest.fixture
def repository(tmp_path: Path) -> restic.Repository:
    """A repository of which only the address is set."""
    (tmp_path / paths.RESTIC_REPOSITORY).write_text("rest:http://u:a-secret@vault/katago\n")
    return restic.Repository(tmp_path, cache=None)


def test_repository_is_created_if_the_host_never_had_it(
    tmp_path: Path, repository: restic.Repository
) -> None:
    file = tmp_path / "state.json"
    assert backup_repository.reason_to_refuse(repository, file) == ""
    State(repository="another", last_good=VERIFIED).write(file)
    assert backup_repository.reason_to_refuse(repository, file) == ""


def test_repository_that_is_gone_is_not_created_again(tmp_path: Path, repository: restic.Repository) -> None:
    file = tmp_path / "state.json"
    State(repository=digest.of_text(repository.address), last_good=VERIFIED).write(file)
    reason = backup_repository.reason_to_refuse(repository, file)
    assert reason == (
        "This host had a repository at rest:http://vault/katago with the snapshot 5a5a5a5a of"
        " 2026-11-24T03:00:00Z, and it is gone. Check that its disk is mounted."
    )


def test_repository_is_not_created_if_the_state_is_damaged(
    tmp_path: Path, repository: restic.Repository
) -> None:
    reason = backup_repository.reason_to_refuse(repository, written(tmp_path / "state.json", "{"))
    assert reason.startswith(
        "There is no repository at rest:http://vault/katago. Whether there was one before is unknown"
    )
    assert f"{tmp_path}/state.json: it is not JSON" in reason
