"""The program `katago-backup`: one backup of a host, verified, and what is known of it afterwards.

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
    Known,
    Outcome,
    Settings,
    State,
    state_or_empty,
)
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, redaction, shape
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock, security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity, sizing
from ansible_collections.katago.fleet.plugins.module_utils.release import history as release_history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import validate_report

TAG = "katago-mcp"
# The playbook's name for itself in the host's lock.
PROCEDURE = "backup"
UNVERIFIED_KEPT = 3
_SPARE_BYTES = 64 << 20
Say = Callable[[str], None]


def exposition(state: State) -> str:
    """The metrics of a host's backups in the text exposition format; what never was has no sample."""
    good, run = state.last_good, state.last_run
    lines = []

    def gauge(name: str, text: str, value: float | None) -> None:
        lines.extend([f"# HELP katago_backup_{name} {text}", f"# TYPE katago_backup_{name} gauge"])
        if value is not None:
            lines.append(f"katago_backup_{name} {value:.16g}")

    gauge(
        "last_good_timestamp_seconds",
        "When the last backup began that was read back, restored and validated.",
        restic.parse_time(good.at).timestamp() if good else None,
    )
    gauge(
        "last_run_timestamp_seconds",
        "When the last backup began, whatever came of it.",
        restic.parse_time(run.at).timestamp() if run else None,
    )
    gauge("last_run_success", "Whether the last backup succeeded.", run.ok if run else None)
    gauge("last_run_duration_seconds", "How long the last backup took.", run.seconds if run else None)
    gauge(
        "last_good_size_bytes",
        "The size of the last good backup as restored.",
        good.size if good else None,
    )
    return "\n".join(lines) + "\n"


class Backup:
    """One backup of this host, from the survey to the retention.

    `root`: where the host's files lie. `state_file`: where what is known of its backups is kept.
    `cached` and `plain`: the repository with and without restic's cache; what verifies uses none.
    """

    def __init__(
        self,
        settings: Settings,
        state: State,
        cached: restic.Repository,
        plain: restic.Repository,
        say: Say,
        *,
        root: Path,
        state_file: Path,
    ) -> None:
        self._root = root
        self._state_file = state_file
        self._settings = settings
        self._state = state
        self._cached = cached
        self._plain = plain
        self._say = say
        self._step = "survey"
        self._scratch = Path(settings.scratch) / "restored"
        self._snapshot = ""
        self._release = ""
        self._size = 0
        self._checks: list[str] = []
        self._history: Known | None = None
        self._good = False

    def run(self) -> Outcome:
        """Do all of it; what fails is in the outcome, and never counts as good."""
        begun, at = time.monotonic(), timestamps.now()
        message = ""
        try:
            self._wait_for_procedure()
            files = contents.of_host(self._root, assets=self._settings.assets)
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
            self._enter("inspect", "Comparing what was restored with its manifest")
            self._inspect()
            self._enter("validate", "Having the restored release validate itself")
            self._validate()
            self._enter("accept", f"Marking {self._snapshot} as verified")
            self._accept()
            self._good = True
            self._enter("retention", "Forgetting what is older than wanted")
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
            seconds=round(time.monotonic() - begun, 1),
            snapshot=self._snapshot,
            release=self._release,
            size=self._size,
            checks=tuple(self._checks),
        )
        self._record(outcome)
        return outcome

    def _enter(self, step: str, words: str) -> None:
        self._step = step
        self._say(words)

    def _failure(self, words: str) -> str:
        if self._good:
            return f"{self._snapshot} is verified, but old snapshots were not removed: {words}"
        if self._snapshot:
            kept = f"The snapshot {self._snapshot} stays in the repository, not verified"
        else:
            kept = "No snapshot was made"
        good = self._state.last_good
        last = "There is no good one yet."
        if good:
            last = f"The last good one, {good.snapshot} of {good.at}, was not touched."
        return f"The backup failed ({self._step}): {words.rstrip('.')}. {kept}. {last}"

    def _wait_for_procedure(self) -> None:
        """Let a procedure that changes the host end first; not for ever, since the verification judges."""
        end = time.monotonic() + self._settings.lock_wait
        waits = False
        while (holder := host_lock.holder(paths.HOST_LOCK)) and holder.procedure != PROCEDURE:
            if not waits:
                self._say(f"Waiting for {holder.procedure} of {holder.owner}, at work since {holder.since}")
                waits = True
            if time.monotonic() >= end:
                self._say("Going on all the same: only what is verified counts")
                return
            time.sleep(restic.LOCK_POLL_SECONDS)

    def _make(self, files: Sequence[str]) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="katago-backup-", suffix=".paths") as listed:
            listed.write("\n".join(files) + "\n")
            listed.flush()
            tags = (TAG, restic.UNVERIFIED, f"{restic.RELEASE_TAG}{self._release}")
            printed = self._patiently(
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
        self._patiently(self._plain, "check", how)
        self._checks.append(f"read back ({share})")

    def _restore(self) -> None:
        printed = self._plain.run(
            "stats", "--mode=restore-size", "--json", self._snapshot, deadline=self._settings.deadline
        )
        self._size = restic.statistics(printed)["total_size"]
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True, mode=0o700)
        free = shutil.disk_usage(self._scratch).free
        if free < self._size + _SPARE_BYTES:
            raise BackupError(
                f"{self._scratch} has {free >> 20} MB free and the restored backup needs"
                f" {self._size + _SPARE_BYTES >> 20} MB. Make room or move it (backup_scratch_dir)"
            )
        self._plain.restore(self._snapshot, self._scratch, (), deadline=self._settings.deadline)

    def _inspect(self) -> None:
        survey = backup_survey.Survey(
            root=self._scratch, assets=self._settings.assets, known=self._state.history
        )
        layout = survey.layout()
        names = contents.current_and_way_back(layout, release_history.read(survey.at(paths.HISTORY)))
        if not self._settings.assets:
            names = layout.complete()
        found = survey.findings(names)
        bad = backup_survey.damaged(found)
        if bad:
            raise BackupError(
                f"what was backed up is damaged: {'; '.join(each.words for each in bad[:5])}."
                " It is so on the host: `ansible-playbook playbooks/restore.yml` mends it"
            )
        content = survey.at(paths.HISTORY).read_bytes()
        self._history = Known(len(content), digest.of_bytes(content))
        self._checks += [f"{each.item}: {each.words}" for each in found]

    def _validate(self) -> None:
        assets = self._settings.assets
        engine = assets and self._settings.engine
        if engine and (reason := capacity.reason_to_defer(self._memory_needed())):
            engine = False
            self._checks.append(f"the engine was not started: {reason}")
        done = validation.try_out(
            validation.command(self._scratch, self._release, assets=assets, engine=engine)
        )
        try:
            report = validate_report.parse(done.output)
        except shape.ShapeError as error:
            said = done.words(redaction.plain)
            raise BackupError(f"the restored release does not validate: {said}") from error
        failed = validate_report.failed(report)
        if not report["ok"] or failed:
            said = "; ".join(map(validate_report.as_words, failed)) or done.words(redaction.plain)
            raise BackupError(f"the restored release does not validate: {said}")
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
        self._patiently(
            self._cached,
            "tag",
            f"--remove={restic.UNVERIFIED}",
            f"--add={restic.VERIFIED}",
            self._snapshot,
        )
        # The same backup under a new id, since its tags belong to it.
        found = [each for each in self._cached.snapshots() if each.original.startswith(self._snapshot)]
        if not found or not found[-1].verified:
            raise BackupError(f"{self._snapshot} could not be marked as verified")
        self._snapshot = found[-1].name

    def _forget(self) -> None:
        if mode := security_mode.standing(*paths.SECURITY_MODE):
            self._say(f"Nothing is forgotten: the host is in security mode {mode}")
            return
        own = [f"--host={self._settings.host}", "--group-by=host"]
        failed = ["--tag", restic.UNVERIFIED, f"--keep-last={UNVERIFIED_KEPT}"]
        self._patiently(self._cached, "forget", *own, *failed)
        keep = [f"--keep-{period}={count}" for period, count in sorted(self._settings.keep.items()) if count]
        self._patiently(self._cached, "forget", *own, "--tag", restic.VERIFIED, *keep, "--prune")

    def _patiently(self, repository: restic.Repository, *arguments: str) -> str:
        return repository.patiently(
            *arguments, deadline=self._settings.deadline, wait=self._settings.lock_wait, say=self._say
        )

    def _record(self, outcome: Outcome) -> None:
        self._state.host = self._settings.host
        self._state.running = ""
        self._state.last_run = outcome
        if self._good:
            self._state.last_good = outcome
            self._state.history = self._history
            self._state.repository = digest.of_text(self._cached.address)
        publish(self._state, self._settings, self._state_file)


def publish(state: State, settings: Settings, path: Path) -> None:
    """Write the state to its file, and the metric of it."""
    state.write(path)
    if settings.metrics:
        metrics = Path(settings.metrics)
        metrics.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        common_files.write(metrics, exposition(state).encode(), mode=0o644)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of this host's backups; the kernel gives it back, however the process ends.

    Raises BackupError when another backup runs.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
            raise BackupError(
                f"another backup of this host runs ({holder}). It is left alone; wait for it"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} since {timestamps.now()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def ended(state: State, settings: Settings, result: str, path: Path) -> None:
    """Record a backup that was killed; one that ended by itself has done so."""
    if not state.running:
        return
    outcome = Outcome(
        at=state.running,
        ok=False,
        step="killed",
        message=f"The backup was ended from outside ({result}); it does not count. Run it again.",
        seconds=round(time.time() - restic.parse_time(state.running).timestamp(), 1),
    )
    state.running = ""
    state.last_run = outcome
    publish(state, settings, path)


def _say(words: str) -> None:
    print(words, flush=True)


def _run(settings: Settings, secrets: Path) -> int:
    with alone(paths.BACKUP_LOCK):
        state = _state()
        state.running = timestamps.now()
        state.write(paths.BACKUP_STATE)
        outcome = Backup(
            settings,
            state,
            restic.Repository(secrets, cache=paths.BACKUP_CACHE),
            restic.Repository(secrets, cache=None),
            _say,
            root=Path("/"),
            state_file=paths.BACKUP_STATE,
        ).run()
    _say(outcome.message)
    return 0 if outcome.ok else 1


def _state() -> State:
    """What is known of the backups; nothing, which is said, where the file is damaged."""
    state, trouble = state_or_empty(paths.BACKUP_STATE)
    if trouble:
        _say(f"What was known of earlier backups is lost: {trouble}")
    return state


def _snapshots(settings: Settings, secrets: Path) -> int:
    for snapshot in restic.Repository(secrets, cache=None).snapshots():
        if snapshot.host == settings.host:
            _say(str(snapshot))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`katago-backup run|snapshots|ended`: exit status 0, or 1 with one message."""
    parser = argparse.ArgumentParser(prog="katago-backup", description="Backups of a KataGo MCP server.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="back up, verify, forget what is old")
    commands.add_parser("snapshots", help="list the snapshots of this host")
    commands.add_parser("ended", help="record how the unit ended (for systemd)")
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
        ended(_state(), settings, result, paths.BACKUP_STATE)
    except (BackupError, restic.ResticError, shape.ShapeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
