"""restic's failures are classified, the right snapshot is selected, and no secret leaks."""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import restic, restic_errors
from ansible_collections.katago.fleet.plugins.module_utils.backup.restic import Lock, Snapshot
from ansible_collections.katago.fleet.plugins.module_utils.common.shape import ShapeError

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PASSWORD = "correct horse battery staple"


FLEET = "production"


def snapshot(
    number: int, host: str = "katago-1", *, verified: bool = True, hours: int = 0, fleet: str = FLEET
) -> Snapshot:
    state = restic.VERIFIED if verified else restic.UNVERIFIED
    tags = ("katago-mcp", state, "release=0.1.0-aa", *([f"fleet={fleet}"] if fleet else []))
    time = NOW - timedelta(hours=hours)
    return Snapshot(f"{number:x}" * 64, time, host, tags, ("/x",), original="f" * 64 if number == 1 else "")


# Printed by restic 0.14 and 0.18.
@pytest.mark.parametrize(
    ("returncode", "output", "kind"),
    [
        (1, "Fatal: wrong password or no key found", "password"),
        (12, "Fatal: wrong password or no key found", "password"),
        (
            1,
            "Fatal: unable to open config file: stat /x/config: no such file or directory\n"
            "Is there a repository at the following location?\n/x",
            "absent",
        ),
        (10, "Fatal: repository does not exist: unable to open config file", "absent"),
        (
            1,
            "subprocess ssh: ssh: connect to host 127.0.0.1 port 9: Connection refused\nFatal: unable to open"
            " repository at sftp:root@127.0.0.1:/x: unable to start the sftp session, error: EOF",
            "unreachable",
        ),
        (
            1,
            'Fatal: unable to open config file: client.Head: Head "http://127.0.0.1:9/config": dial tcp'
            " 127.0.0.1:9: connect: connection refused\nIs there a repository at the following location?",
            "unreachable",
        ),
        (
            1,
            "unable to create lock in backend: repository is already locked by PID 27663 on vm by root"
            " (UID 0, GID 0)\nlock was created at 2026-11-24 06:18:44 (1.7s ago)\nstorage ID 658a9d5d",
            "locked",
        ),
        (
            1,
            "Fatal: unable to save snapshot: write /x/data/91/91-tmp-1: no space left on device",
            "full",
        ),
        (
            1,
            "read all data\nPack ID does not match, want 8bbe8c85, got 91f4ea0e\n"
            "Fatal: repository contains errors",
            "damaged",
        ),
        (1, "pack 8bbe8c85: does not exist\nFatal: repository contains errors", "damaged"),
        (1, "subprocess ssh: vault@katago-2: Permission denied (publickey).", "denied"),
        (1, "subprocess ssh: Host key verification failed.", "host_key"),
        (1, "Fatal: unexpected HTTP response (401): 401 Unauthorized", "denied"),
        (2, "panic: something new", "unknown"),
    ],
)
def test_failure_is_classified(returncode: int, output: str, kind: str) -> None:
    assert restic_errors.classify_failure(returncode, output) == kind


URL = 'Head "https://:***@localhost:8000/x/config": '
RETRY = f"Stat(<config/>) returned error, retrying after 607.695746ms: {URL}"
UNOPENED = "Fatal: unable to open config file: "


# Printed by restic 0.14 (Debian 12) and 0.18 (Debian 13) with real servers, except for SFTP.
@pytest.mark.parametrize(
    ("returncode", "output", "kind"),
    [
        (
            1,
            "Fatal: create key in repository at rest:http://h/x/ failed: server response unexpected: 507"
            " Insufficient Storage (507)",
            "full",
        ),
        (
            -9,
            "Save(<data/bd6cb8a7b3>) returned error, retrying after 11.833387174s: unexpected HTTP response"
            " (507): 507 Insufficient Storage",
            "full",
        ),
        (1, "Fatal: unexpected HTTP response (413): 413 Request Entity Too Large", "limit"),
        (1, "Fatal: unexpected HTTP response (509): 509 Bandwidth Limit Exceeded", "limit"),
        (1, "b2_upload_file: 403: accountTransactionCapExceeded", "limit"),
        (1, "Fatal: the account is over quota", "full"),
        (1, "write /srv/repo/data/1: no free inodes", "full"),
        (1, 'Get "https://h/": tls: first record does not look like a TLS handshake', "certificate"),
        (1, "Fatal: tls: no supported versions satisfy MinVersion and MaxVersion", "certificate"),
        (1, "The authenticity of host 'h (10.0.0.1)' can't be established.", "host_key"),
        (1, "Fatal: server response unexpected: 413 Request Entity Too Large (413)", "limit"),
        (1, "Fatal: server response unexpected: 429 Too Many Requests (429)", "limit"),
        (
            -9,
            "Stat(<config/>) returned error, retrying after 1s: Stat: Please reduce your request rate.",
            "limit",
        ),
        (
            1,
            f"{UNOPENED}Stat: The difference between the request time and the current time is too large.\n"
            "Is there a repository at the following location?\ns3:http://h/bucket/x",
            "clock",
        ),
        (
            1,
            f"{UNOPENED}client.Head: {URL}x509: certificate has expired or is not yet valid: current time"
            " 2026-11-28T22:41:05Z is before 2026-12-08T22:41:03Z\nIs there a repository at the following"
            " location?",
            "clock",
        ),
        (
            1,
            f"{UNOPENED}client.Head: {URL}x509: certificate has expired or is not yet valid: current time"
            " 2026-11-28T22:41:05Z is after 2026-11-27T22:41:03Z",
            "certificate",
        ),
        (
            -9,
            f"{RETRY}tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "certificate",
        ),
        (
            -9,
            f"{RETRY}tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1"
            " because it doesn't contain any IP SANs",
            "certificate",
        ),
        (-9, f"{RETRY}dial tcp 127.0.0.1:9: connect: connection refused", "unreachable"),
        (1, f"{UNOPENED}client.Head: {URL}dial tcp: lookup h on 10.0.0.1:53: no such host", "unreachable"),
        (1, f"{UNOPENED}client.Head: {URL}read: connection reset by peer", "unreachable"),
        (1, f"{UNOPENED}client.Head: {URL}dial tcp 10.0.0.1:443: i/o timeout", "unreachable"),
        (
            1,
            "subprocess ssh: @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
            "subprocess ssh: Host key verification failed.\nFatal: unable to open repository at sftp:h:/x:"
            " unable to start the sftp session, error: EOF",
            "host_key",
        ),
        (
            1,
            "subprocess ssh: No ED25519 host key is known for h and you have requested strict checking.\n"
            "Fatal: unable to start the sftp session, error: EOF",
            "host_key",
        ),
        (1, 'Fatal: unable to save snapshot: sftp: "Failure" (SSH_FX_FAILURE)', "sftp_failure"),
        (1, 'Fatal: unable to save snapshot: sftp: "Permission denied" (SSH_FX_PERMISSION_DENIED)', "denied"),
        (3, "Warning: at least one source file could not be read", "source"),
        (11, "unable to create lock in backend", "locked"),
        (
            1,
            "subprocess ssh: vault@h: Permission denied (publickey).\nFatal: unable to open repository at"
            " sftp:vault@h:/x: unable to start the sftp session, error: EOF",
            "denied",
        ),
        (
            1,
            f"{UNOPENED}<config/> does not exist\nIs there a repository at the following location?",
            "absent",
        ),
        (
            1,
            '{"message_type":"exit_error","code":1,"message":"Fatal: unable to save snapshot: failed to save'
            ' blob from file \\"lab/src/a\\": Write: write /tmp/restic-temp-pack-2441: no space left on'
            ' device"}',
            "host_full",
        ),
        (
            1,
            "Save(<data/1>) returned error, retrying after 1s: connection refused\n"
            "Fatal: unable to save snapshot: server response unexpected: 507 Insufficient Storage (507)",
            "full",
        ),
    ],
)
def test_cause_is_recognized(returncode: int, output: str, kind: str) -> None:
    assert restic_errors.classify_failure(returncode, output) == kind
    assert str(restic.ResticError(kind, restic_errors.error_lines(output)))


# Messages of servers and of ssh, as their documentation and source have them.
@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Stat: The difference between the request time and the server's time is too large.", "clock"),
        ("RESPONSE 403 AuthenticationFailed: Request date header too old: 'Mon, 01'", "clock"),
        (
            '400 {"error":"invalid_grant","error_description":"Token must be in a reasonable timeframe"}',
            "clock",
        ),
        ("server response unexpected: 503 Slow Down (503)", "limit"),
        ("b2: download cap exceeded: cap exceeded", "limit"),
        ("The bucket must be addressed using the specified endpoint: PermanentRedirect", "region"),
        ("AuthorizationHeaderMalformed: the region is wrong; expecting 'eu-west-1'", "region"),
        ("InvalidObjectState: The operation is not valid for the object's storage class", "storage_class"),
        ('exec: "rclone": executable file not found in $PATH', "program"),
        ("fork/exec /usr/bin/ssh: no such file or directory", "program"),
        ("rclone: CRITICAL: didn't find section in config file", "program"),
        ("config cannot be loaded: unsupported repository version", "version"),
        ("Permissions 0644 for '/x' are too open. UNPROTECTED PRIVATE KEY FILE!", "ssh"),
        ("unexpected HTTP response (407): 407 Proxy Authentication Required", "denied"),
        ("unexpected HTTP response (408): 408 Request Timeout", "unreachable"),
        ("server response unexpected: 520 (520)", "unreachable"),
        ("ssh: Could not resolve hostname h: No address associated with hostname", "unreachable"),
        ("unable to open config file: <config/> does not exist", "absent"),
        ("Stat: The Access Key Id you provided does not exist in our records.", "denied"),
        ("The request signature we calculated does not match the signature you provided.", "denied"),
        ("The AWS Access Key Id you provided does not exist in our records.", "denied"),
        ("server response unexpected: 403 Forbidden (403)", "denied"),
        ("The security token included in the request is invalid", "denied"),
        ("Storage backend has reached its minimum free drive threshold.", "full"),
        ("Bucket quota exceeded", "full"),
        ("storage_cap_exceeded: Cannot upload files, storage cap exceeded.", "full"),
        ('sftp: "Quota exceeded" (SSH_FX_QUOTA_EXCEEDED)', "full"),
        ("Signature expired: 20261128T010203Z is now earlier than 20261128T020203Z", "clock"),
        ("Request has expired", "clock"),
        ("Quota exceeded for quota metric 'Queries' of service 'storage'", "limit"),
        ("googleapi: Error 403: userRateLimitExceeded", "limit"),
        ("client.Head: unexpected HTTP response (404): 404 Not Found", "absent"),
        ("NoSuchBucket: The specified bucket does not exist", "absent"),
        ("The specified container does not exist.", "absent"),
        ("dial tcp: lookup h: Temporary failure in name resolution", "unreachable"),
        ("ssh: Could not resolve hostname h: Name or service not known", "unreachable"),
        ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)", "unreachable"),
        ("unexpected EOF", "unreachable"),
        ("http: server closed idle connection", "unreachable"),
        ("fork/exec /usr/bin/ssh: cannot allocate memory", "memory"),
        ("runtime: out of memory: cannot allocate 4194304-byte block", "memory"),
        ("subprocess ssh: signal: killed", "memory"),
        ("read /srv/repo/data/1: input/output error", "disk"),
        ("open /srv/repo/data/1: structure needs cleaning", "disk"),
        ("open /srv/repo/locks/1: stale NFS file handle", "disk"),
        ("open /srv/repo/locks/1: read-only file system", "read_only"),
        ("mkdir /srv/repo: Read-only file system", "read_only"),
        ("subprocess ssh: Received disconnect from h port 22:2: Too many authentication failures", "ssh"),
        ("subprocess ssh: Unable to negotiate with h port 22: no matching key exchange method found.", "ssh"),
        ("subprocess ssh: subsystem request failed on channel 0", "ssh"),
        ('subprocess ssh: Load key "/run/x": error in libcrypto', "ssh"),
        ("Resolving password failed: open /etc/x/password: permission denied", "password_file"),
        ("Resolving password failed: /etc/x/password does not exist", "password_file"),
        ("an empty password is not a password", "password_file"),
    ],
)
@pytest.mark.parametrize(
    "form",
    [
        "Fatal: {}",
        "{}\nFatal: unable to open repository at sftp:h:/x: unable to start the sftp session, error: EOF",
        "Save(<data/bd6cb8a7b3>) returned error, retrying after 1.5s: {}",
    ],
)
def test_message_of_a_server_is_recognized(form: str, message: str, kind: str) -> None:
    output = form.format(message)
    assert restic_errors.classify_failure(1, output) == kind
    error = restic.ResticError(kind, restic_errors.error_lines(output))
    assert message.split(":")[-1].strip(" .") in str(error)
    line = json.dumps({"message_type": "exit_error", "code": 1, "message": f"Fatal: {message}"})
    assert restic_errors.classify_failure(1, line) == kind


@pytest.mark.parametrize(
    ("returncode", "output", "kind"),
    [
        (-9, "", "memory"),
        (137, "", "memory"),
        (-9, "dial: connection refused", "unreachable"),
        (-15, "", "unknown"),
    ],
)
def test_killed_restic_is_explained_by_its_last_words_first(returncode: int, output: str, kind: str) -> None:
    assert restic_errors.classify_failure(returncode, output) == kind


@pytest.mark.parametrize(
    ("path", "local", "kind"),
    [
        ("/srv/repo/data/91/91-tmp-1", "/srv/repo", "full"),
        ("/srv/repo/keys/ec-tmp-1", "/srv/repo", "full"),
        ("/tmp/restic-temp-pack-1", "/srv/repo", "host_full"),
        ("/var/cache/katago-backup/6b/index/1", "/srv/repo", "host_full"),
        ("/var/lib/katago-backup/restored/opt/a", "", "host_full"),
        ("/srv/repository/data/1", "/srv/repo", "host_full"),
    ],
)
def test_full_disk_of_the_host_is_told_apart_from_a_full_repository(path: str, local: str, kind: str) -> None:
    for output in (
        f"Fatal: unable to save snapshot: Write: write {path}: no space left on device",
        f"ignoring error for /a: write {path}: disk quota exceeded\nFatal: There were 1 errors",
    ):
        assert restic_errors.classify_failure(1, output, local=local) == kind
        assert path in restic_errors.error_lines(output)


def test_files_that_could_not_be_read_are_named() -> None:
    errors: list[dict[str, Any]] = [
        {
            "message_type": "error",
            "error": {"Op": "open", "Path": "a", "Err": 13},
            "during": "archival",
            "item": "/a",
        },
        {
            "message_type": "error",
            "error": {"message": "/b: open b: permission denied"},
            "during": "archival",
            "item": "/b",
        },
        {"message_type": "status", "percent_done": 1},
        {
            "message_type": "exit_error",
            "code": 3,
            "message": "Warning: at least one source file could not be read",
        },
    ]
    output = "\n".join(map(json.dumps, errors))
    assert restic_errors.error_lines(output) == "cannot read /a; cannot read /b (open b: permission denied)"
    many = "\n".join(json.dumps({**errors[0], "item": f"/{number}"}) for number in range(9))
    assert restic_errors.error_lines(many).endswith("cannot read /4; and 4 more")


def test_every_kind_has_a_meaning_and_a_remedy() -> None:
    for kind in restic_errors.KINDS:
        meaning, _, remedy = str(restic.ResticError(kind, "x")).partition(": x. ")
        assert meaning, kind
        assert remedy.endswith("."), kind


def test_message_has_restics_error_line_and_the_remedy() -> None:
    printed = "create exclusive lock for repository\nload indexes\nPack ID does not match, want 8b, got 91\n"
    error = restic.ResticError("damaged", restic_errors.error_lines(printed))
    assert str(error).startswith("the repository is damaged: Pack ID does not match, want 8b, got 91. ")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/srv/backup", "/srv/backup"),
        ("sftp:vault@host:/srv", "sftp:vault@host:/srv"),
        ("rest:https://anna:hunter2@host:8000/x", "rest:https://host:8000/x"),
        ("s3:https://s3.example.org/bucket", "s3:https://s3.example.org/bucket"),
        ("s3:https://key:hunter2@s3.example.org/bucket?x=hunter2", "s3:https://s3.example.org/bucket"),
        ("rest:https://anna:hun/ter2@host/x", "rest:https://host/x"),
        ("rest:https://host:8000/x", "rest:https://host:8000/x"),
        ("sftp://anna:hunter2@host:2222//srv", "sftp://host:2222//srv"),
        ("sftp:anna:hunter2@host:/srv", "sftp:anna@host:/srv"),
    ],
)
def test_address_is_displayed_without_secrets(address: str, expected: str) -> None:
    assert restic.redacted_address(address) == expected


def test_sftp_checks_the_host_key_and_never_prompts() -> None:
    command = restic.sftp_command("sftp:vault@host:/srv", Path("/k"), Path("/h")) or ""
    assert command.startswith("ssh -o BatchMode=yes -o StrictHostKeyChecking=yes ")
    assert "-o IdentityFile=/k -o IdentitiesOnly=yes -o UserKnownHostsFile=/h" in command
    assert command.endswith(" vault@host -s sftp")
    assert "-p 2222 vault@host" in (restic.sftp_command("sftp://vault@host:2222//srv", None, None) or "")
    assert restic.sftp_command("/srv", None, None) is None


def test_latest_is_the_newest_verified_snapshot_of_the_host() -> None:
    there = [snapshot(1, hours=3), snapshot(2, verified=False), snapshot(3, "katago-2")]
    assert restic.choose(there, "latest", "katago-1", FLEET) == there[0]


@pytest.mark.parametrize(
    ("at", "number"), [("2026-11-24T09:30:00Z", 2), ("2026-11-24 10:00", 3), ("2026-11-24T11:30:00+01:00", 3)]
)
def test_time_selects_the_newest_verified_snapshot_at_or_before_it(at: str, number: int) -> None:
    there = [snapshot(2, hours=3), snapshot(3, hours=2), snapshot(4, verified=False, hours=2), snapshot(5)]
    assert restic.choose(there, at, "katago-1", FLEET).id == f"{number}" * 64


def test_snapshot_can_be_selected_by_its_id_before_verification() -> None:
    there = [snapshot(1), snapshot(2, verified=False)]
    assert restic.choose(there, "f" * 8, "katago-1", FLEET) == there[0]
    assert restic.choose(there, "22222222", "katago-1", FLEET) == there[1]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("latest", "no verified snapshot of katago-9"),
        ("11111111", "belongs to katago-1, not to katago-9. To restore it anyway: -e from_host=katago-1"),
        ("abcdef12", "no snapshot abcdef12"),
        ("2026-01-01", "at or before 2026-01-01T00:00:00Z"),
        ("yesterday", "Use `latest`"),
    ],
)
def test_snapshot_that_does_not_exist_is_refused(at: str, message: str) -> None:
    with pytest.raises(restic.NoSuchSnapshot, match=message):
        restic.choose([snapshot(1)], at, "katago-9", FLEET)


def test_snapshot_of_another_fleet_is_never_selected_by_time_or_as_the_latest() -> None:
    there = [snapshot(1, hours=3), snapshot(2, fleet="staging")]
    assert restic.choose(there, "latest", "katago-1", FLEET) == there[0]
    assert restic.choose(there, "2026-11-24T12:00:00Z", "katago-1", FLEET) == there[0]
    assert restic.choose(there, "latest", "katago-1", "staging") == there[1]


@pytest.mark.parametrize("at", ["latest", "2026-11-24T12:00:00Z"])
def test_host_that_only_another_fleet_backed_up_is_refused_with_the_remedy(at: str) -> None:
    with pytest.raises(restic.NoSuchSnapshot) as refused:
        restic.choose([snapshot(1, fleet="staging")], at, "katago-1", FLEET)
    assert "no verified snapshot of katago-1 in the fleet production" in str(refused.value)
    assert str(refused.value).endswith("To restore the one of staging: -e from_fleet=staging")


def test_snapshot_of_another_fleet_is_refused_by_its_id() -> None:
    there = [snapshot(1, fleet="staging")]
    with pytest.raises(restic.NoSuchSnapshot) as refused:
        restic.choose(there, "11111111", "katago-1", FLEET)
    assert str(refused.value) == (
        "the snapshot 11111111 belongs to the fleet staging, not to the fleet production."
        " To restore it anyway: -e from_fleet=staging"
    )
    assert restic.choose(there, "11111111", "katago-1", "staging") == there[0]
    with pytest.raises(restic.NoSuchSnapshot, match=r"-e from_host=katago-1 -e from_fleet=staging$"):
        restic.choose(there, "11111111", "katago-9", FLEET)


def test_snapshot_without_a_fleet_is_selected_only_if_there_is_none_with_it() -> None:
    old, own = snapshot(1, fleet=""), snapshot(2, hours=3)
    assert restic.choose([old, own], "latest", "katago-1", FLEET) == own
    assert restic.choose([old], "latest", "katago-1", FLEET) == old
    assert restic.choose([old], "11111111", "katago-1", FLEET) == old


def test_snapshot_without_a_fleet_has_a_note() -> None:
    assert restic.fleet_note(snapshot(2), FLEET) == ""
    assert restic.fleet_note(snapshot(1, fleet=""), FLEET).endswith(
        "Check that it belongs to the fleet production."
    )


@pytest.mark.parametrize(
    ("host", "minutes", "alive", "stale"),
    [
        ("here", 0, False, True),
        ("here", 600, True, False),
        ("elsewhere", 29, False, False),
        ("elsewhere", 31, True, True),
    ],
)
def test_lock_is_stale_when_its_process_is_dead(host: str, minutes: int, alive: bool, stale: bool) -> None:
    lock = Lock("ab" * 32, NOW - timedelta(minutes=minutes), host, 42, exclusive=False)
    assert restic.is_stale(lock, hostname="here", alive=lambda _: alive, now=NOW) is stale


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> restic.Repository:
    """A repository whose restic is a script written by the test."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, text in (
        (paths.RESTIC_REPOSITORY, "rest:http://anna:hunter22@127.0.0.1/x\n"),
        (paths.RESTIC_PASSWORD, f"{PASSWORD}\n"),
        (paths.RESTIC_ENVIRONMENT, "AWS_SECRET_ACCESS_KEY=a-secret-key\n"),
    ):
        (tmp_path / name).write_text(text)
    return restic.Repository(tmp_path, cache=None)


def pretend(directory: Path, script: str) -> None:
    program = directory / "restic"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_no_secret_is_in_arguments_or_errors(repository: restic.Repository, tmp_path: Path) -> None:
    pretend(
        tmp_path, f'echo "$@" > {tmp_path}/seen; echo "Fatal: $AWS_SECRET_ACCESS_KEY hunter22" >&2; exit 1'
    )
    with pytest.raises(restic.ResticError) as failed:
        repository.run("cat", "config", deadline=60)
    for secret in (PASSWORD, "hunter22", "a-secret-key"):
        assert secret not in (tmp_path / "seen").read_text()
        assert secret not in str(failed.value)
    assert "*** ***" in str(failed.value)


def test_repository_that_does_not_answer_is_unreachable(
    repository: restic.Repository, tmp_path: Path
) -> None:
    pretend(tmp_path, "exec sleep 60")
    with pytest.raises(restic.ResticError, match=r"`restic cat` on .* did not finish within") as failed:
        repository.run("cat", "config", deadline=0.2)
    assert failed.value.kind == "unreachable"


def test_reason_of_a_command_that_was_stopped_is_reported(
    repository: restic.Repository, tmp_path: Path
) -> None:
    """restic 0.18 repeats a failed request for minutes."""
    pretend(
        tmp_path,
        f"echo {shlex.quote(RETRY + 'x509: certificate signed by unknown authority')} >&2; exec sleep 60",
    )
    with pytest.raises(restic.ResticError, match=r"did not finish within .*: .*unknown authority") as failed:
        repository.run("cat", "config", deadline=3)
    assert failed.value.kind == "certificate"
    assert "retrying" not in str(failed.value)


def test_temporary_files_lie_where_the_backup_has_room(
    repository: restic.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    pretend(tmp_path, 'touch "$TMPDIR/restic-temp-pack-1"; ls -ld "$TMPDIR"')
    roomy = restic.Repository(tmp_path, cache=None, temporary=scratch)
    assert roomy.run("check", deadline=60).startswith("drwx------ ")
    assert str(scratch / "katago-restic-") in roomy.run("check", deadline=60)
    assert list(scratch.iterdir()) == []
    pretend(tmp_path, 'echo "$TMPDIR"')
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert repository.run("check", deadline=60).strip().startswith(("/var/tmp/", str(paths.BACKUP_DIRECTORY)))
    missing = restic.Repository(tmp_path, cache=None, temporary=tmp_path / "missing")
    assert missing.run("check", deadline=60).strip() == "/tmp"


def test_reading_takes_no_lock(repository: restic.Repository, tmp_path: Path) -> None:
    pretend(tmp_path, 'echo "$@"')
    assert "--no-lock" in repository.run("snapshots", deadline=60)
    assert "--no-lock" not in repository.run("backup", deadline=60, lock=True)


SNAPSHOTS: list[dict[str, Any]] = [
    {"id": "5" * 64, "time": "2026-01-01T00:00:00.123456789Z", "hostname": "h", "paths": ["/opt"]},
    {
        "id": "6" * 64,
        "time": "2025-01-01T00:00:00Z",
        "hostname": "h",
        "paths": [],
        "tags": ["verified", "release=r"],
        "original": None,
    },
]


def test_snapshots_are_read_oldest_first(repository: restic.Repository, tmp_path: Path) -> None:
    pretend(tmp_path, f"echo {shlex.quote(json.dumps(SNAPSHOTS))}")
    older, newer = repository.snapshots()
    assert (older.verified, older.release, older.original) == (True, "r", "")
    assert (newer.name, newer.tags) == ("55555555", ())
    pretend(tmp_path, "echo null")
    assert repository.snapshots() == []


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("{", "it is not JSON"),
        ('{"a": 1}', "the list of snapshots is a dict, not a list"),
        ('[{"id": "5"}]', r"the list of snapshots\[0\].hostname is missing"),
        (json.dumps([{**SNAPSHOTS[0], "hostname": 1}]), r"\[0\].hostname is 1, not a string"),
        (json.dumps([{**SNAPSHOTS[0], "time": "soon"}]), "'soon', which is not a valid time"),
    ],
)
def test_unexpected_output_of_restic_is_reported(
    repository: restic.Repository, tmp_path: Path, printed: str, message: str
) -> None:
    pretend(tmp_path, f"echo {shlex.quote(printed)}")
    with pytest.raises(ShapeError, match=message):
        repository.snapshots()


def test_summary_is_the_last_line_of_a_backup() -> None:
    assert restic.summary('{"percent_done": 1}\n{"snapshot_id": "5a"}\n') == {"snapshot_id": "5a"}
    for printed in ("", "{}"):
        with pytest.raises(ShapeError):
            restic.summary(printed)
