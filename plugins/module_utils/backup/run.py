"""A backup of a host: what is kept, how it is proved that it can be restored, and what is told of it.

The timer and playbooks/backup.yml run the same program, `katago-backup`, which this is.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.backup import restic
from ansible_collections.katago.fleet.plugins.module_utils.backup import survey as backup_survey
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    atomic,
    digest,
    redaction,
    systemd_run,
)
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock, security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity, sizing
from ansible_collections.katago.fleet.plugins.module_utils.release import history as release_history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit

TAG = "katago-mcp"
# The playbook's name for itself in the host's lock.
PROCEDURE = "backup"
# The parts of a release that are small; the rest of it is its environment.
SMALL = ("analysis.cfg", "config.json", paths.SERVICE_UNIT, release_layout.MANIFEST)
# The service's, by its name where systemd hands it over; the host's own token is made anew by every host.
KEPT_CREDENTIALS = {
    paths.TOKENS: paths.CREDENTIALS / paths.TOKENS,
    paths.CERTIFICATE: paths.PINNED_CERTIFICATE,
    paths.KEY: paths.CREDENTIALS / paths.KEY,
}
UNVERIFIED_KEPT = 3
# Seconds of the restored release's validation: without any progress, and in all.
TRIAL_PATIENCE = 180
TRIAL_SECONDS = 3600
# Seconds for a restored engine to be ready: a busy host is no reason to call a backup bad.
ENGINE_SECONDS = 240
_SPARE_BYTES = 64 << 20
# What of the service's unit does not belong to its sandbox.
_NOT_SANDBOX = (
    "Exec",
    "Type",
    "Restart",
    "Timeout",
    "Watchdog",
    "KillMode",
    "LoadCredential",
    "WorkingDirectory",
)

Say = Callable[[str], None]


class BackupError(Exception):
    """The backup failed; the message says what was seen and what to do."""


@dataclass(frozen=True)
class Settings:
    """What the role `backup` has decided for a host.

    `keep`: restic's policy, such as `{"daily": 7}`. `read_data`: `all`, or a share as restic's
    `--read-data-subset` takes it. `metrics`: a file for node_exporter, empty for none. `lock_wait`
    and `deadline`: seconds that locks are waited for, and that one step may take.
    """

    host: str
    assets: bool
    engine: bool
    keep: Mapping[str, int]
    read_data: str
    scratch: str
    metrics: str
    lock_wait: int
    deadline: int

    @classmethod
    def load(cls, path: Path = paths.BACKUP_SETTINGS) -> Settings:
        """The settings of this host. Raises OSError, ValueError, TypeError."""
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True)
class Outcome:
    """How a backup ended. `step` is the last one, `snapshot` the id, `size` in bytes as restored."""

    at: str
    ok: bool
    step: str
    message: str
    seconds: float
    snapshot: str = ""
    release: str = ""
    size: int = 0
    checks: Sequence[str] = ()


@dataclass
class State:
    """What is known of this host's backups, for the metric and for triage.

    `running`: since when one runs, empty when none does. `history`: size and sha256 of the history
    in the last good one. `repository`: the sha256 of the address that it went to.
    """

    host: str = ""
    repository: str = ""
    running: str = ""
    last_run: dict[str, Any] | None = None
    last_good: dict[str, Any] | None = None
    history: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path = paths.BACKUP_STATE) -> State:
        """The state; an empty one when there is none that can be read."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, path: Path = paths.BACKUP_STATE) -> None:
        """Replace the state's file."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        atomic.write(path, json.dumps(asdict(self), indent=1).encode() + b"\n", mode=0o644)

    @property
    def known(self) -> backup_survey.Known | None:
        """The history as the last good backup has it."""
        if not self.history:
            return None
        return backup_survey.Known(size=int(self.history["size"]), sha256=str(self.history["sha256"]))


def contents(survey: backup_survey.Survey, *, assets: bool) -> list[str]:
    """The paths that a backup of this host keeps, as they are named on a host. Raises BackupError.

    The current release and the one to return to, with all they stand on, or with their small parts
    and their tuning alone; the small parts of every other release; links, credentials and state; of the
    timekeeper of incidents what it has sent, and no plan, by which an old reminder would be sent again.
    """
    layout = survey.layout()
    current = layout.current_release()
    if current is None or release_layout.manifest(layout.release(current)) is None:
        raise BackupError("there is nothing to back up: no release is the current one. Deploy one")
    records = release_history.read(survey.at(paths.HISTORY))
    whole = backup_survey.current_and_way_back(layout, records) if assets else []
    files = {str(path) for path in service_unit.links(release_layout.Layout(), current)}
    for name in layout.complete():
        directory = paths.RELEASE_ROOT / "releases" / name
        here = release_layout.own_manifest(layout.release(name)) or {"stands_on": {}}
        if name in whole:
            files.add(str(directory))
        else:
            files |= {str(directory / part) for part in SMALL if survey.at(directory / part).exists()}
        for needed in here["stands_on"]:
            tuning = Path(needed).is_relative_to(paths.ASSETS / "tuning")
            if tuning or name in whole:
                files.add(str(needed))
    state = [survey.at(paths.HISTORY), *backup_survey.state_files(survey.at(paths.STATE))]
    state += survey.at(paths.INCIDENT_STATE).glob("*.jsonl")
    files |= {str(Path("/") / path.relative_to(survey.root)) for path in state if path.exists()}
    files |= {str(path) for path in KEPT_CREDENTIALS.values()}
    return sorted(path for path in files if os.path.lexists(survey.at(path)))


def sandbox_of(unit: str) -> dict[str, list[str]]:
    """The directives of a unit's service that are its sandbox, every line of each."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";", *_NOT_SANDBOX)):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def trial(scratch: Path, release: str, *, assets: bool, engine: bool) -> list[str]:
    """The command that has a restored release validate itself in the service's sandbox.

    With assets it runs the restored environment on the restored engine and network, which lie in
    their own places as far as it can see; without, the present environment on the restored files.
    """
    restored = scratch / "opt" / "katago-mcp" / "releases" / release
    directory = paths.RELEASE_ROOT / "releases" / release
    directives: dict[str, Any] = dict(sandbox_of((restored / paths.SERVICE_UNIT).read_text()))
    if assets:
        binds = [f"{scratch}/opt/katago-mcp:/opt/katago-mcp", f"{scratch}/opt/katago:/opt/katago"]
        config = directory / "config.json"
    else:
        binds = [f"{restored}:{paths.BACKUP_TRIAL_CONFIG}"]
        config = paths.BACKUP_TRIAL_CONFIG / "config.json"
    directives["BindReadOnlyPaths"] = binds
    # Over what `try_out` waits, for a program that was killed.
    directives["RuntimeMaxSec"] = str(TRIAL_SECONDS + 60)
    environment = [f"KATAGO_KATAGO_START_TIMEOUT_SECONDS={ENGINE_SECONDS}"]
    environment.append(service_unit.HANDED_TOKENS)
    directives["Environment"] = [*directives.get("Environment", []), *environment]
    handed = {name: scratch / str(path).lstrip("/") for name, path in KEPT_CREDENTIALS.items()}
    directives["LoadCredential"] = [f"{name}:{path}" for name, path in handed.items() if path.exists()]
    argv = [str(directory / "venv" / "bin" / "katago-mcp"), "validate", "--json", "--config", str(config)]
    return systemd_run.command(
        directives, [*argv, *([] if engine else ["--no-engine"])], unit=paths.BACKUP_TRIAL_UNIT, collect=False
    )


def try_out(command: Sequence[str]) -> systemd_run.Run:
    """Run what `trial` made, until it ends or nothing of it moves any more."""
    return systemd_run.watched(
        command, paths.BACKUP_TRIAL_UNIT, patience=TRIAL_PATIENCE, deadline=TRIAL_SECONDS
    )


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
        restic.parse_time(good["at"]).timestamp() if good else None,
    )
    gauge(
        "last_run_timestamp_seconds",
        "When the last backup began, whatever came of it.",
        restic.parse_time(run["at"]).timestamp() if run else None,
    )
    gauge("last_run_success", "Whether the last backup succeeded.", run["ok"] if run else None)
    gauge("last_run_duration_seconds", "How long the last backup took.", run["seconds"] if run else None)
    gauge(
        "last_good_size_bytes",
        "The size of the last good backup as restored.",
        good["size"] if good else None,
    )
    return "\n".join(lines) + "\n"


class Backup:
    """One backup of this host, from the survey to the retention.

    `survey`: how the host is looked at. `cached` and `plain`: the repository with and without
    restic's cache; what verifies uses none.
    """

    def __init__(
        self,
        settings: Settings,
        state: State,
        cached: restic.Repository,
        plain: restic.Repository,
        say: Say,
    ) -> None:
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
        self._history: dict[str, Any] = {}
        self._good = False

    def run(self) -> Outcome:
        """Do all of it; what fails is in the outcome, and never counts as good."""
        begun, at = time.monotonic(), timestamps.now()
        message = ""
        try:
            self._wait_for_procedure()
            files = contents(backup_survey.Survey(), assets=self._settings.assets)
            self._release = release_layout.Layout().current_release() or ""
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
        except restic.ResticError as error:
            message = self._failure(str(error))
        except BackupError as error:
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
            last = f"The last good one, {good['snapshot']} of {good['at']}, was not touched."
        return f"The backup failed ({self._step}): {words.rstrip('.')}. {kept}. {last}"

    def _wait_for_procedure(self) -> None:
        """Let a procedure that changes the host end first; not for ever, since the verification judges."""
        end = time.monotonic() + self._settings.lock_wait
        waits = False
        while (holder := host_lock.holder()) and holder.procedure != PROCEDURE:
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
        summary = json.loads(printed.strip().splitlines()[-1])
        self._snapshot = str(summary["snapshot_id"])[:8]

    def _read_back(self) -> None:
        share = self._settings.read_data
        how = "--read-data" if share == "all" else f"--read-data-subset={share}"
        self._patiently(self._plain, "check", how)
        self._checks.append(f"read back ({share})")

    def _restore(self) -> None:
        told = json.loads(
            self._plain.run(
                "stats", "--mode=restore-size", "--json", self._snapshot, deadline=self._settings.deadline
            )
        )
        self._size = int(told["total_size"])
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
            root=self._scratch, assets=self._settings.assets, known=self._state.known
        )
        layout = survey.layout()
        names = backup_survey.current_and_way_back(layout, release_history.read(survey.at(paths.HISTORY)))
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
        self._history = {"size": len(content), "sha256": digest.of_bytes(content)}
        self._checks += [f"{each.item}: {each.words}" for each in found]

    def _validate(self) -> None:
        assets = self._settings.assets
        engine = assets and self._settings.engine
        if engine and (reason := capacity.reason_to_defer(self._memory_needed())):
            engine = False
            self._checks.append(f"the engine was not started: {reason}")
        done = try_out(trial(self._scratch, self._release, assets=assets, engine=engine))
        try:
            report = json.loads(done.output)
            failed = [f"{check['name']}: {check['message']}" for check in report["checks"] if not check["ok"]]
            ok = report["ok"] and not failed
        except (ValueError, KeyError, TypeError):
            failed, ok = [], False
        if not ok:
            said = "; ".join(failed) or done.words(redaction.plain)
            raise BackupError(f"the restored release does not validate: {said}")
        self._checks += [f"{check['name']}: {check['message']}" for check in report["checks"]]

    def _memory_needed(self) -> int:
        manifest = release_layout.manifest(self._scratch / "opt/katago-mcp/releases" / self._release) or {}
        networks = [
            self._scratch / path.lstrip("/")
            for path in manifest.get("stands_on", ())
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
        if mode := security_mode.standing():
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
        self._state.last_run = asdict(outcome)
        if self._good:
            self._state.last_good = asdict(outcome)
            self._state.history = self._history
            self._state.repository = digest.of_text(self._cached.address)
        publish(self._state, self._settings)


def publish(state: State, settings: Settings) -> None:
    """Write the state and the metric of it."""
    state.write()
    if settings.metrics:
        path = Path(settings.metrics)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        atomic.write(path, exposition(state).encode(), mode=0o644)


@contextlib.contextmanager
def alone(path: Path = paths.BACKUP_LOCK) -> Iterator[None]:
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


def ended(state: State, settings: Settings, result: str) -> None:
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
    state.last_run = asdict(outcome)
    publish(state, settings)


def _say(words: str) -> None:
    print(words, flush=True)


def _run(settings: Settings, secrets: Path) -> int:
    with alone():
        state = State.read()
        state.running = timestamps.now()
        state.write()
        cached = restic.Repository(secrets, cache=paths.BACKUP_CACHE)
        outcome = Backup(settings, state, cached, restic.Repository(secrets), _say).run()
    _say(outcome.message)
    return 0 if outcome.ok else 1


def _snapshots(settings: Settings, secrets: Path) -> int:
    for snapshot in restic.Repository(secrets).snapshots():
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
        settings = Settings.load()
        if command == "run":
            return _run(settings, secrets)
        if command == "snapshots":
            return _snapshots(settings, secrets)
        result = os.environ.get("SERVICE_RESULT", "unknown")
        ended(State.read(), settings, f"{result}, {os.environ.get('EXIT_STATUS', '?')}")
    except (BackupError, restic.ResticError, OSError, ValueError, TypeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
