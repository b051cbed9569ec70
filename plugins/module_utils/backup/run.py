"""The program `katago-backup`: backs up a host, verifies the backup, and records the result.

The timer and playbooks/backup.yml run the same program.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.backup import contents, restic, validation
from ansible_collections.katago.fleet.plugins.module_utils.backup import survey as backup_survey
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import (
    BackupError,
    HistoryDigest,
    Outcome,
    Settings,
    State,
    state_or_empty,
)
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, directories, redaction, shape
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock, security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity, sizing
from ansible_collections.katago.fleet.plugins.module_utils.release import history as release_history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import validate_report

TAG = "katago-mcp"
# The procedures that start a backup while they hold the host's lock.
PROCEDURES = ("backup", "remove_host")
UNVERIFIED_KEPT = 3
_SPARE_BYTES = 64 << 20
Log = Callable[[str], None]


def exposition(state: State) -> str:
    """The metrics of a host's backups in the text exposition format; unknown values have no sample."""
    verified, run = state.last_good, state.last_run
    lines = []

    def gauge(name: str, text: str, value: float | None) -> None:
        lines.extend([f"# HELP katago_backup_{name} {text}", f"# TYPE katago_backup_{name} gauge"])
        if value is not None:
            lines.append(f"katago_backup_{name} {value:.16g}")

    gauge(
        "last_good_timestamp_seconds",
        "Start time of the last backup that was read back, restored and validated.",
        restic.parse_time(verified.at).timestamp() if verified else None,
    )
    gauge(
        "last_run_timestamp_seconds",
        "Start time of the last backup, successful or not.",
        restic.parse_time(run.at).timestamp() if run else None,
    )
    gauge("last_run_success", "Whether the last backup succeeded.", run.ok if run else None)
    gauge("last_run_duration_seconds", "Duration of the last backup.", run.seconds if run else None)
    gauge(
        "last_good_size_bytes",
        "Restored size of the last verified backup.",
        verified.size if verified else None,
    )
    return "\n".join(lines) + "\n"


class Backup:
    """One backup of this host, from the survey of its files to the retention.

    `root`: the directory of the host's files. `state_file`: the file with the state of its backups.
    `temporary`: the directory for temporary files.
    `cached` and `plain`: the repository with and without restic's cache; the verification uses `plain`.
    """

    def __init__(
        self,
        settings: Settings,
        state: State,
        cached: restic.Repository,
        plain: restic.Repository,
        log: Log,
        *,
        root: Path,
        state_file: Path,
        temporary: Path,
    ) -> None:
        self._root = root
        self._temporary = temporary
        self._state_file = state_file
        self._settings = settings
        self._state = state
        self._cached = cached
        self._plain = plain
        self._log = log
        self._step = "survey"
        self._scratch = Path(settings.scratch) / "restored"
        self._snapshot = ""
        self._release = ""
        self._size = 0
        self._checks: list[str] = []
        self._history: HistoryDigest | None = None
        self._verified = False

    def run(self) -> Outcome:
        """Run the backup. A failure is returned in the outcome; a failed backup never counts as verified."""
        started, at = time.monotonic(), timestamps.now()
        message = ""
        try:
            self._wait_for_procedure()
            files = contents.paths_to_back_up(self._root, assets=self._settings.assets)
            layout = release_layout.Layout(contents.below(self._root, paths.RELEASE_ROOT))
            self._release = layout.current_release() or ""
            self._enter("repository", "Opening the repository")
            self._cached.probe()
            self._enter("backup", f"Backing up {len(files)} paths of {self._release}")
            self._make(files)
            self._enter("read_back", f"Reading the repository back ({self._settings.read_data})")
            self._read_back()
            self._enter("restore", f"Restoring {self._snapshot} into {self._scratch}")
            self._restore()
            self._enter("inspect", "Comparing the restored files with their manifest")
            self._inspect()
            self._enter("validate", "Validating the restored release")
            self._validate()
            self._enter("accept", f"Marking {self._snapshot} as verified")
            self._accept()
            self._verified = True
            self._enter("retention", "Removing old snapshots")
            self._forget()
        except (BackupError, restic.ResticError, shape.ShapeError) as error:
            message = self._failure(str(error))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            message = self._failure(f"{type(error).__name__}: {error}")
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        outcome = Outcome(
            at=at,
            ok=not message,
            step=self._step,
            message=message or f"{self._snapshot} of {self._release} is verified",
            seconds=round(time.monotonic() - started, 1),
            snapshot=self._snapshot,
            release=self._release,
            size=self._size,
            checks=tuple(self._checks),
        )
        self._record(outcome)
        return outcome

    def _enter(self, step: str, message: str) -> None:
        self._step = step
        self._log(message)

    def _failure(self, reason: str) -> str:
        if self._verified:
            return f"{self._snapshot} is verified, but old snapshots were not removed: {reason}"
        if self._snapshot:
            result = f"The snapshot {self._snapshot} stays in the repository, not verified"
        else:
            result = "No snapshot was made"
        verified = self._state.last_good
        last = "There is no verified backup yet."
        if verified:
            last = f"The last verified backup, {verified.snapshot} of {verified.at}, was not changed."
        return f"The backup failed (step {self._step}): {reason.rstrip('.')}. {result}. {last}"

    def _wait_for_procedure(self) -> None:
        """Wait until a procedure that changes the host finishes.

        After `lock_wait` seconds the backup continues anyway: the verification rejects an inconsistent one.
        """
        end = time.monotonic() + self._settings.lock_wait
        is_waiting = False
        while (holder := host_lock.holder(paths.HOST_LOCK)) and holder.procedure not in PROCEDURES:
            if not is_waiting:
                self._log(f"Waiting for {holder.procedure}, started by {holder.owner} at {holder.since}")
                is_waiting = True
            if time.monotonic() >= end:
                self._log(f"{holder.procedure} still runs. Continuing; the backup is verified in any case")
                return
            time.sleep(restic.LOCK_POLL_SECONDS)

    def _make(self, files: Sequence[str]) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="paths-", dir=self._temporary) as listed:
            listed.write("\n".join(files) + "\n")
            listed.flush()
            tags = [TAG, restic.UNVERIFIED, f"{restic.RELEASE_TAG}{self._release}"]
            tags += [f"{restic.FLEET_TAG}{self._settings.fleet}"] if self._settings.fleet else []
            printed = self._run_with_lock(
                self._cached,
                "backup",
                "--json",
                f"--host={self._settings.host}",
                *(f"--tag={tag}" for tag in tags),
                f"--files-from-verbatim={listed.name}",
            )
        self._snapshot = restic.summary(printed)["snapshot_id"][:8]

    def _read_back(self) -> None:
        share = self._settings.read_data
        how = "--read-data" if share == "all" else f"--read-data-subset={share}"
        self._run_with_lock(self._plain, "check", how)
        self._checks.append(f"read back ({share})")

    def _restore(self) -> None:
        printed = self._plain.run(
            "stats", "--mode=restore-size", "--json", self._snapshot, deadline=self._settings.deadline
        )
        self._size = restic.statistics(printed)["total_size"]
        shutil.rmtree(self._scratch, ignore_errors=True)
        directories.make(self._scratch, own=self._scratch, mode=directories.PRIVATE)
        free = shutil.disk_usage(self._scratch).free
        if free < self._size + _SPARE_BYTES:
            raise BackupError(
                f"{self._scratch} has {free >> 20} MB free, and the restored backup needs"
                f" {self._size + _SPARE_BYTES >> 20} MB. Free space there, or set another backup_scratch_dir"
            )
        self._plain.restore(self._snapshot, self._scratch, (), deadline=self._settings.deadline)

    def _inspect(self) -> None:
        survey = backup_survey.Survey(
            root=self._scratch, assets=self._settings.assets, last_history=self._state.history
        )
        layout = survey.layout()
        names = contents.current_and_rollback_target(layout, release_history.read(survey.at(paths.HISTORY)))
        if not self._settings.assets:
            names = layout.complete()
        findings = survey.findings(names)
        damaged = backup_survey.damaged(findings)
        if damaged:
            raise BackupError(
                f"the backed-up files are damaged: {'; '.join(each.message for each in damaged[:5])}."
                " They are damaged on the host too. Repair the host: `ansible-playbook playbooks/restore.yml"
                f" -l {self._settings.host}`"
            )
        content = survey.at(paths.HISTORY).read_bytes()
        self._history = HistoryDigest(len(content), digest.of_bytes(content))
        self._checks += [f"{each.item}: {each.message}" for each in findings]

    def _validate(self) -> None:
        assets = self._settings.assets
        engine = assets and self._settings.engine
        if engine and (reason := capacity.reason_to_defer(self._memory_needed())):
            engine = False
            self._checks.append(f"the engine was not started: {reason}")
        done = validation.run_validation(
            validation.command(self._scratch, self._release, assets=assets, engine=engine)
        )
        try:
            report = validate_report.parse(done.output)
        except shape.ShapeError as error:
            reason = done.words(redaction.plain)
            raise BackupError(f"the validation of the restored release failed: {reason}") from error
        failed = validate_report.failed(report)
        if not report["ok"] or failed:
            reason = "; ".join(map(validate_report.as_words, failed)) or done.words(redaction.plain)
            raise BackupError(f"the validation of the restored release failed: {reason}")
        self._checks += map(validate_report.as_words, report["checks"])

    def _memory_needed(self) -> int:
        restored = backup_survey.Survey(root=self._scratch)
        manifest = release_layout.manifest(restored.layout().release(self._release))
        networks = [
            restored.at(path)
            for path in (manifest["stands_on"] if manifest else ())
            if Path(path).is_relative_to(paths.ASSETS / "networks")
        ]
        return sizing.memory_needed_mb(sum(path.stat().st_size for path in networks))

    def _accept(self) -> None:
        self._run_with_lock(
            self._cached,
            "tag",
            f"--remove={restic.UNVERIFIED}",
            f"--add={restic.VERIFIED}",
            self._snapshot,
        )
        # Changing the tags gives the snapshot a new id.
        retagged = [each for each in self._cached.snapshots() if each.original.startswith(self._snapshot)]
        if not retagged or not retagged[-1].verified:
            raise BackupError(f"{self._snapshot} could not be marked as verified")
        self._snapshot = retagged[-1].name

    def _forget(self) -> None:
        if mode := security_mode.standing(*paths.SECURITY_MODE):
            self._log(f"No snapshot is removed: the host is in security mode {mode}")
            return
        own = [f"--host={self._settings.host}", "--group-by=host"]
        fleet = self._fleet_filter()
        failed = ["--tag", f"{restic.UNVERIFIED}{fleet}", f"--keep-last={UNVERIFIED_KEPT}"]
        self._run_with_lock(self._cached, "forget", *own, *failed)
        keep = [f"--keep-{period}={count}" for period, count in sorted(self._settings.keep.items()) if count]
        self._run_with_lock(
            self._cached, "forget", *own, "--tag", f"{restic.VERIFIED}{fleet}", *keep, "--prune"
        )

    def _fleet_filter(self) -> str:
        """What restic adds to a tag to select only this fleet's snapshots; empty if no other fleet has any.

        Snapshots that name no fleet are kept with those of this fleet, but only while they cannot belong to
        another one.
        """
        host, fleet = self._settings.host, self._settings.fleet
        others = {each.fleet for each in self._cached.snapshots() if each.host == host} - {"", fleet}
        if not others or not fleet:
            return ""
        self._log(
            f"The repository also has snapshots of a host {host} of the fleet {', '.join(sorted(others))}."
            f" Only snapshots of the fleet {fleet} are removed; those without a fleet are kept"
        )
        return f",{restic.FLEET_TAG}{fleet}"

    def _run_with_lock(self, repository: restic.Repository, *arguments: str) -> str:
        return repository.run_with_lock(
            *arguments, deadline=self._settings.deadline, wait=self._settings.lock_wait, log=self._log
        )

    def _record(self, outcome: Outcome) -> None:
        self._state.host = self._settings.host
        self._state.running = ""
        self._state.last_run = outcome
        if self._verified:
            self._state.last_good = outcome
            self._state.history = self._history
            self._state.repository = digest.of_text(self._cached.address)
        publish(self._state, self._settings, self._state_file)


def publish(state: State, settings: Settings, path: Path) -> None:
    """Write the state file and the metrics file."""
    state.write(path)
    if settings.metrics:
        metrics = Path(settings.metrics)
        directories.make(metrics.parent)
        common_files.write(metrics, exposition(state).encode(), mode=0o644)


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock of this host's backups. The kernel releases it however the process exits.

    Raises BackupError if another backup runs.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
            raise BackupError(
                f"another backup of this host is running ({holder}). Wait until it finishes"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} since {timestamps.now()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def record_killed(state: State, settings: Settings, result: str, path: Path) -> None:
    """Record a killed backup as failed. A backup that finished has already recorded its result."""
    if not state.running:
        return
    outcome = Outcome(
        at=state.running,
        ok=False,
        step="killed",
        message=f"The backup was killed ({result}) and does not count. Run it again.",
        seconds=round(time.time() - restic.parse_time(state.running).timestamp(), 1),
    )
    state.running = ""
    state.last_run = outcome
    publish(state, settings, path)


@contextlib.contextmanager
def temporary_directory(scratch: Path) -> Iterator[Path]:
    """The directory for the temporary files of a backup, also of one that was killed; empty at first.

    It does not exist if it cannot be created; the backup then fails in the step that needs it.
    """
    directory = scratch / "temporary"
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        directories.make(directory, own=directory, mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _log(message: str) -> None:
    print(message, flush=True)


def _run(settings: Settings, secrets: Path) -> int:
    scratch = Path(settings.scratch)
    with exclusive_lock(paths.BACKUP_LOCK), temporary_directory(scratch) as temporary:
        state = _state()
        state.running = timestamps.now()
        state.write(paths.BACKUP_STATE)
        outcome = Backup(
            settings,
            state,
            restic.Repository(secrets, cache=paths.BACKUP_CACHE, temporary=temporary),
            restic.Repository(secrets, cache=None, temporary=temporary),
            _log,
            root=Path("/"),
            state_file=paths.BACKUP_STATE,
            temporary=temporary,
        ).run()
    _log(outcome.message)
    return 0 if outcome.ok else 1


def _state() -> State:
    """The state of the backups. If its file is damaged, log that and return an empty state."""
    state, problem = state_or_empty(paths.BACKUP_STATE)
    if problem:
        _log(f"The records of earlier backups cannot be read and are replaced: {problem}")
    return state


def _snapshots(settings: Settings, secrets: Path) -> int:
    for snapshot in restic.Repository(secrets, cache=None).snapshots():
        if snapshot.host == settings.host and snapshot.fleet in ("", settings.fleet):
            _log(str(snapshot))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`katago-backup run|snapshots|ended`. Exit status 0, or 1 with one message."""
    parser = argparse.ArgumentParser(prog="katago-backup", description="Backups of a KataGo MCP server.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="back up the host, verify the backup, remove old snapshots")
    commands.add_parser("snapshots", help="list the snapshots of this host")
    commands.add_parser("ended", help="record a backup that was killed (for systemd)")
    command = parser.parse_args(argv).command
    secrets = Path(os.environ.get("CREDENTIALS_DIRECTORY") or paths.BACKUP_SECRETS)
    try:
        settings = Settings.load(paths.BACKUP_SETTINGS)
        if command == "run":
            return _run(settings, secrets)
        if command == "snapshots":
            return _snapshots(settings, secrets)
        result = os.environ.get("SERVICE_RESULT", "unknown")
        result = f"{result}, {os.environ.get('EXIT_STATUS', '?')}"
        record_killed(_state(), settings, result, paths.BACKUP_STATE)
    except (BackupError, restic.ResticError, shape.ShapeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
