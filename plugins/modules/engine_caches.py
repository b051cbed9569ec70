#!/usr/bin/python
"""Builds the caches that KataGo's TensorRT backend needs for a GPU, in the service's sandbox."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_caches
short_description: Build TensorRT's caches for the host's GPU
description:
  - KataGo's TensorRT backend builds a timing cache and a plan cache at its first start, which takes minutes.
    This module starts the engine once, as the service's user and in the service's sandbox, so that neither
    the validation of a release nor the service has to build them.
  - The caches are kept in C(/opt/katago/tuning/trt-<key>/), by GPU, driver, engine and network. They are
    copied to the directory where the service's engine looks for them, C(trtcache) in its C(homeDataDir).
  - A file that exists is not built again. Another C(nnMaxBatchSize) needs other files.
  - While the engine builds, a line every 15 s shows the current step. The build is stopped if it makes no
    progress.
  - If the host has not enough memory for a second engine, nothing is built and C(deferred) has the reason.
    The service then builds the caches at its start.
options:
  binary:
    description: The engine's program.
    type: path
    required: true
  engine_sha256:
    description: The sha256 of the installed engine.
    type: str
    required: true
  network:
    description: The network's file.
    type: path
    required: true
  human_network:
    description: The file of the network trained on human games; empty if there is none.
    type: str
    default: ""
  networks_sha256:
    description: The sha256 of the networks.
    type: list
    elements: str
    required: true
  config:
    description: The release's C(analysis.cfg).
    type: path
    required: true
  user:
    description: The service's user.
    type: str
    required: true
  sandbox:
    description: The systemd directives of the sandbox.
    type: dict
    required: true
  memory_needed_mb:
    description: The memory that a second engine needs, in MB.
    type: int
    required: true
  patience:
    description:
      - The build is stopped after this many seconds without progress.
      - Progress is a log line, processor time, or waiting for a processor.
    type: int
    default: 300
  deadline:
    description: The maximum time to wait for a build that makes progress, in seconds.
    type: int
    default: 21600
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Build TensorRT's caches
  katago.fleet.engine_caches:
    binary: "{{ katago_installed.binary }}"
    engine_sha256: "{{ katago_installed.engine_sha256 }}"
    network: "{{ katago_installed.network }}"
    networks_sha256: ["{{ preflight_facts.network.sha256 }}"]
    config: /opt/katago-mcp/releases/0.2.0-2f6a9c0d1e3b/analysis.cfg
    user: katago-mcp
    sandbox: "{{ katago_sandbox }}"
    memory_needed_mb: 600
"""

RETURN = r"""
directory:
  description: The directory on the host where the caches are kept.
  type: str
  returned: success
built:
  description: The names of the files that the engine built.
  type: list
  elements: str
  returned: success
deferred:
  description: Why the caches were not built.
  type: str
  returned: when they were not built
"""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    digest,
    directories,
    endings,
    progress,
    shape,
    systemd_run,
    transient_unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity

KEPT = paths.ASSETS / "tuning"
# The engine's directory for them in its homeDataDir (trtbackend.cpp).
DIRECTORY = "trtcache"
HOME = paths.STATE / "engine"
SCRATCH = Path("/var/cache/katago-caches")
RECORD = "caches.json"
FINISHED = "finished"
UNIT = "katago-caches-{key}"
SEED_SECONDS = 600
JOURNAL_LINES = 200
# Small caches, as in the validation of a release: this engine starts next to the running one.
SMALL = "nnCacheSizePowerOfTwo=12,nnMutexPoolSizePowerOfTwo=10"
# Both scripts run as the service's user, who owns the directories that they write to. They use only the
# shell's positional arguments, because systemd would expand `$name` itself.
BUILD = """\
rm -rf "$0/finished" "$0/trtcache" && mkdir "$0/trtcache" && \
if [ -d "$1" ]; then cp "$1"/* "$0/trtcache/"; fi && shift && "$@" && touch "$0/finished"
"""
SEED = 'mkdir -p "$1" && cp "$0"/* "$1"/'


class Record(TypedDict):
    """The record of kept caches: the files with their sha256, and the configurations that they cover.

    `configs`: the sha256 of each covered configuration. `seconds`: the duration of the build. `depends_on`:
    the engine and network files for which they were built.
    """

    files: dict[str, str]
    configs: list[str]
    seconds: float
    depends_on: list[str]


class CachesError(Exception):
    """The caches cannot be built; the message states the cause."""


def device() -> str:
    """The GPUs and their driver version as reported by nvidia-smi; `unknown` if it fails."""
    try:
        query = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return query.stdout.strip() or "unknown"


class Caches:
    """The caches for one combination of GPU, driver, engine and network, kept in their own directory."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self.made_for = {
            "device": device(),
            "engine": parameters["engine_sha256"],
            "networks": parameters["networks_sha256"],
        }
        self.key = digest.of_text(json.dumps(self.made_for, sort_keys=True))[:12]
        self.directory = KEPT / f"trt-{self.key}"
        self.unit = UNIT.format(key=self.key)

    @property
    def kept(self) -> Path:
        """The directory of the kept cache files."""
        return self.directory / DIRECTORY

    def record(self) -> Record | None:
        """The record of the kept caches; None if there are none, or if they are damaged."""
        record = read(self.directory / RECORD)
        return record if record and is_there(self.kept, record["files"]) else None

    def suffice(self) -> bool:
        """Whether an engine with this configuration has already started with the kept caches."""
        record = self.record()
        return record is not None and self._config() in record["configs"]

    def seconds_before(self) -> float:
        """The duration of the latest build of any caches on this host; 0 if unknown."""
        records = sorted(KEPT.glob(f"trt-*/{RECORD}"), key=os.path.getmtime)
        return next((record["seconds"] for record in map(read, reversed(records)) if record), 0.0)

    def _config(self) -> str:
        try:
            return digest.of_file(Path(self._parameters["config"]))
        except OSError:
            return ""

    def start(self) -> None:
        """Start the engine unless it is already running. It builds the missing caches and then exits."""
        if self.state() == "running":
            return
        transient_unit.clear(self.unit)
        (SCRATCH / FINISHED).unlink(missing_ok=True)
        engine = [self._parameters["binary"], "analysis", "-config", self._parameters["config"]]
        engine += ["-model", self._parameters["network"]]
        if self._parameters["human_network"]:
            engine += ["-human-model", self._parameters["human_network"]]
        engine += ["-override-config", f"homeDataDir={SCRATCH},{SMALL}"]
        argv = ["/bin/sh", "-c", BUILD, str(SCRATCH), str(self.kept if self.record() else ""), *engine]
        command = systemd_run.command(self._directives(), argv, unit=self.unit, wait=False)
        subprocess.run(command, check=True, capture_output=True, text=True)

    def _directives(self) -> dict[str, Any]:
        sandbox = self._parameters["sandbox"]
        return {
            **sandbox,
            "User": self._parameters["user"],
            "Group": self._parameters["user"],
            "CacheDirectory": SCRATCH.name,
            "Environment": [*sandbox.get("Environment", ()), f"HOME={SCRATCH}"],
        }

    def state(self) -> str:
        """`running`, `done` or `absent`. An engine that exited with an error is absent."""
        status = subprocess.run(
            ["systemctl", "is-active", self.unit], capture_output=True, text=True, check=False
        )
        if status.stdout.strip() in ("active", "activating", "deactivating"):
            return "running"
        return "done" if (SCRATCH / FINISHED).exists() else "absent"

    def log(self) -> list[str]:
        """The engine's last log lines."""
        command = ["journalctl", f"--unit={self.unit}", f"--lines={JOURNAL_LINES}", "--output=cat", "--quiet"]
        journal = subprocess.run(command, capture_output=True, text=True, check=False)
        return [line for line in journal.stdout.splitlines() if line.strip()]

    def running_for(self) -> float:
        """For how many seconds the engine has been running; 0 if it is not."""
        return transient_unit.running_for(self.unit)

    def keep(self, seconds: float) -> list[str]:
        """Keep the built caches; return the names of the new files.

        Raises:
            CachesError: the engine built no file.
        """
        before = self.record()
        scratch = self.directory.with_name(f".{self.directory.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        directories.make(scratch / DIRECTORY, own=paths.ASSETS)
        copy_files(SCRATCH / DIRECTORY, scratch / DIRECTORY)
        files = {path.name: digest.of_file(path) for path in sorted((scratch / DIRECTORY).iterdir())}
        if not files:
            raise CachesError(
                f"the engine started but wrote no file to {DIRECTORY}. Check that it has the TensorRT backend"
            )
        new = sorted(files.keys() - (before["files"].keys() if before else ()))
        record = Record(
            files=files,
            configs=sorted({*(before["configs"] if before else ()), self._config()}),
            seconds=before["seconds"] if before and not new else round(seconds),
            depends_on=[self._parameters["binary"], self._parameters["network"]],
        )
        common_files.write(scratch / RECORD, json.dumps(record, indent=1).encode() + b"\n", mode=0o644)
        directories.seal(scratch)
        shutil.rmtree(self.directory, ignore_errors=True)
        scratch.rename(self.directory)
        shutil.rmtree(SCRATCH / DIRECTORY)
        self._forget_others()
        return new

    def _forget_others(self) -> None:
        """Remove the caches of engines and networks that the host no longer has."""
        for path in KEPT.glob(f"trt-*/{RECORD}"):
            record = read(path)
            if record and not all(Path(each).exists() for each in record["depends_on"]):
                shutil.rmtree(path.parent)

    def seeded(self) -> bool:
        """Whether all kept caches are in the directory of the service's engine."""
        record = self.record()
        return record is not None and is_there(HOME / DIRECTORY, record["files"])

    def seed(self) -> None:
        """Copy the kept caches to the directory of the service's engine.

        Raises:
            CachesError: the copy failed.
        """
        directives = {**self._directives(), "StateDirectory": f"{paths.STATE.name}/{HOME.name}"}
        argv = ["/bin/sh", "-c", SEED, str(self.kept), str(HOME / DIRECTORY)]
        unit = UNIT.format(key="seed")
        run = transient_unit.watched(
            systemd_run.command(directives, argv, unit=unit, collect=False),
            unit,
            patience=SEED_SECONDS,
            deadline=SEED_SECONDS,
        )
        if run.status != 0 or run.stopped:
            raise CachesError(f"the caches cannot be copied to {HOME / DIRECTORY}: {run.words()}")


def read(path: Path) -> Record | None:
    """The record in a file; None if it does not exist or is invalid."""
    try:
        return shape.typed(Record, shape.parsed(path.read_text()), str(path))
    except (OSError, shape.ShapeError):
        return None


def is_there(directory: Path, files: Mapping[str, str]) -> bool:
    """Whether a directory has these files, with these sha256."""
    try:
        return all(digest.of_file(directory / name) == sha256 for name, sha256 in files.items())
    except OSError:
        return False


def copy_files(source: Path, target: Path) -> None:
    """Copy the regular files of a directory that another user owns, without following links."""
    for path in source.glob("*"):
        if not stat.S_ISREG(path.lstat().st_mode):
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as reading, (target / path.name).open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            os.fsync(writing.fileno())
        (target / path.name).chmod(0o644)


def main() -> None:
    """Run one step for the action plugin."""
    module = AnsibleModule(
        argument_spec={
            "step": {"choices": ["look", "start", "poll", "stop", "finish"], "required": True},
            "binary": {"type": "path", "required": True},
            "engine_sha256": {"type": "str", "required": True},
            "network": {"type": "path", "required": True},
            "human_network": {"type": "str", "default": ""},
            "networks_sha256": {"type": "list", "elements": "str", "required": True},
            "config": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "sandbox": {"type": "dict", "required": True},
            "memory_needed_mb": {"type": "int", "required": True},
            "seconds": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    caches = Caches(module.params)
    step = module.params["step"]
    try:
        if step == "look":
            module.exit_json(
                changed=False,
                suffice=caches.suffice(),
                seeded=caches.seeded(),
                directory=str(caches.directory),
                device=caches.made_for["device"],
                seconds_before=caches.seconds_before(),
                deferred=capacity.reason_to_defer(module.params["memory_needed_mb"]),
            )
        if step == "start":
            caches.start()
        if step == "poll":
            log = caches.log()
            activity = progress.of_processes(transient_unit.processes(caches.unit), paths.PROC, len(log))
            module.exit_json(
                changed=False,
                state=caches.state(),
                seconds=caches.running_for(),
                lines=log,
                log=endings.last_lines("\n".join(log)),
                activity=asdict(activity),
            )
        if step == "stop":
            transient_unit.clear(caches.unit)
        if step == "finish":
            built = [] if caches.suffice() else caches.keep(module.params["seconds"])
            if not caches.seeded():
                caches.seed()
            module.exit_json(changed=True, directory=str(caches.directory), built=built)
        module.exit_json(changed=True)
    except CachesError as error:
        module.fail_json(msg=f"TensorRT's caches were not built: {error}")
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"TensorRT's caches were not built: {endings.of_error(error)}")


if __name__ == "__main__":
    main()
