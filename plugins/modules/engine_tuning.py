#!/usr/bin/python
"""Tunes OpenCL kernels for a host's device, in the service's sandbox."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_tuning
short_description: Tune the engine for the host's OpenCL device
description:
  - Installs the tuning result for the host's device, the network's shape and the engine's version, as
    C(/opt/katago/tuning/<sha256>/tuning.txt).
  - Each kind of device is tuned once. The control node keeps the result and installs it on other hosts with
    the same device. Hosts with the same device wait for each other; other hosts do not.
  - Tuning runs in its own systemd unit on the host and continues if the connection is lost. If the task is
    run again, it joins the running tuning.
  - While the tuner runs, a line every 15 s shows its progress and an estimate of the time left. It is stopped
    if it makes no progress, not after a fixed time, because a busy host makes it slower.
options:
  binary:
    description: The engine's program.
    type: path
    required: true
  version:
    description: The engine's version.
    type: str
    required: true
  network:
    description: The network's file.
    type: path
    required: true
  sandbox:
    description: The systemd directives of the sandbox. What the engine sees of its device depends on them.
    type: dict
    required: true
  cache_dir:
    description: The control node's cache, which keeps the results.
    type: path
    required: true
  results:
    description: A directory on the control node with results from elsewhere, with KataGo's own file names.
    type: path
    default: ""
  tuner_file:
    description:
      - A result on the control node, with KataGo's own file name. The host uses it unchanged, whatever its
        device. It is refused if it is for another network shape or engine version. Empty for none.
    type: path
    default: ""
  patience:
    description:
      - The tuning is stopped after this many seconds without progress.
      - Progress is a log line, processor time, or waiting for a processor.
    type: int
    default: 300
  deadline:
    description: The maximum time to wait for a tuning that makes progress, in seconds.
    type: int
    default: 21600
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Tune the engine for the host's device
  katago.fleet.engine_tuning:
    binary: "{{ katago_installed_engine.binary }}"
    version: "1.18.1"
    network: "{{ katago_installed_network.file }}"
    sandbox: "{{ katago_sandbox }}"
    cache_dir: ~/.cache/katago-mcp-fleet
"""

RETURN = r"""
file:
  description: The tuning result on the host, for C(openclTunerFile).
  type: str
  returned: success
sha256:
  description: The result's sha256.
  type: str
  returned: success
device:
  description: The OpenCL device as reported by the engine.
  type: str
  returned: success
"""

import json
import re
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    digest,
    directories,
    endings,
    files,
    progress,
    systemd_run,
    transient_unit,
)

CONFIG = "numAnalysisThreads = 1\nnumSearchThreads = 1\nlogToStderr = true\n"
RESULTS = paths.ASSETS / "tuning"
# Time without progress, and total time, until the engine has found its device.
PROBE_PATIENCE = 60
PROBE_SECONDS = 1800
# More lines than one step of the tuner writes; they show its progress.
JOURNAL_LINES = 3000
UNIT = "katago-tuning-{key}"
# A result from elsewhere, for the engine to read.
SUPPLIED = Path("/run/katago-tuning-supplied.txt")
# The tuner's messages for its device and for an unreadable result (tuner.cpp).
TUNING_FOR = re.compile(
    r"Beginning GPU tuning for (?P<device>.+)"
    r" modelVersion (?P<version>\d+) channels (?P<channels>\d+)"
)
UNREADABLE = "unable to parse parameters in"
JOURNAL_LINE = re.compile(r"(?P<at>\d+\.\d+) \S+ [^:]+?: (?P<text>.*)")
# The first line of every start. It goes to the logger and to standard error.
STARTING = "Running with following config:"
# The tuner's progress lines.
STEP = re.compile(r"(?:.*\+0000: )?(?:Tuning (?!device\b|dummy\b)|Testing \d+ |Done tuning)")


class TuningError(Exception):
    """The device cannot be found or tuned; the message quotes the engine."""


class Tuner:
    """The engine's tuner in the sandbox. Its working files are in its own cache directory."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self.scratch = Path("/var/cache/katago-tuning")

    def probe(self, supplied: str | None = None) -> dict[str, Any]:
        """The device and the network's shape, as the tuner reports them before it starts to tune.

        `supplied`: the text of a result from elsewhere. `readable` in the answer: whether this version of the
        engine can read it.

        Raises:
            TuningError: the engine found no OpenCL device.
        """
        if supplied is not None:
            files.write(SUPPLIED, supplied.encode(), mode=0o644)
        run = transient_unit.watched(
            self._command("probe", wait=True, output=SUPPLIED if supplied is not None else None),
            UNIT.format(key="probe"),
            patience=PROBE_PATIENCE,
            deadline=PROBE_SECONDS,
            is_enough=lambda line: TUNING_FOR.search(line) is not None,
        )
        output = run.output + run.log
        if match := TUNING_FOR.search(output):
            return {**match.groupdict(), "readable": UNREADABLE not in output}
        raise TuningError(f"the engine found no OpenCL device: {run.words()}")

    def start(self, key: str) -> None:
        """Start the tuning in its own unit, unless it is running or has succeeded."""
        if self.state(key) == "absent":
            subprocess.run(self._command(key, wait=False), check=True, capture_output=True, text=True)

    def state(self, key: str) -> str:
        """`running`, `done` or `absent`. A unit that ended without a result is absent."""
        unit = UNIT.format(key=key)
        active = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False)
        if active.stdout.strip() in ("active", "activating", "deactivating"):
            return "running"
        return "done" if self.output(key).exists() else "absent"

    def stop(self, key: str) -> None:
        """Stop the tuning. Its work is lost."""
        transient_unit.clear(UNIT.format(key=key))

    def log(self, key: str) -> list[tuple[float, str]]:
        """The tuner's last log lines, each with its time in seconds since the epoch."""
        journal = subprocess.run(
            [
                "journalctl",
                f"--unit={UNIT.format(key=key)}",
                f"--lines={JOURNAL_LINES}",
                "--output=short-unix",
                "--quiet",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        entries = (JOURNAL_LINE.fullmatch(line) for line in journal.stdout.splitlines())
        lines = [
            (float(entry["at"]), entry["text"]) for entry in entries if entry and entry["text"].strip("-= ")
        ]
        # Skip the lines of earlier attempts.
        starts = [number for number, (_, text) in enumerate(lines) if text.endswith(STARTING)]
        return lines[starts[-1] :] if starts else lines

    def running_for(self, key: str) -> float:
        """For how many seconds the tuning has been running; 0 if it is not."""
        return transient_unit.running_for(UNIT.format(key=key))

    def activity(self, key: str, lines: int) -> progress.Activity:
        """The activity of the tuner's processes so far."""
        return progress.of_processes(transient_unit.processes(UNIT.format(key=key)), paths.PROC, lines)

    def output(self, key: str) -> Path:
        """The path of the tuner's result."""
        return self.scratch / f"{key}.txt"

    def _command(self, key: str, *, wait: bool, output: Path | None = None) -> list[str]:
        directives = {
            **self._parameters["sandbox"],
            "DynamicUser": True,
            "CacheDirectory": self.scratch.name,
            "Environment": [f"POCL_CACHE_DIR={self.scratch}/pocl", f"HOME={self.scratch}"],
        }
        config = Path("/run/katago-tuning.cfg")
        files.write(config, CONFIG.encode(), mode=0o644)
        argv = [self._parameters["binary"], "tuner", "-config", str(config)]
        argv += ["-model", self._parameters["network"], "-output", str(output or self.output(key))]
        argv += ["-override-config", f"homeDataDir={self.scratch}"]
        return systemd_run.command(directives, argv, unit=UNIT.format(key=key), wait=wait, collect=not wait)


def is_whole(target: Path) -> bool:
    """Whether a result exists and has the digest that is its directory's name."""
    return target.exists() and digest.of_file(target) == target.parent.name


def install(content: str, root: Path) -> tuple[Path, bool]:
    """Install a tuning result in a directory named by its digest.

    Returns its path, and whether anything was changed. `root`: the directory of all results.
    """
    target = root / digest.of_text(content) / "tuning.txt"
    corrected = directories.make(target.parent, own=root.parent)
    if is_whole(target):
        return target, directories.seal(target.parent) or corrected
    files.write(target, content.encode(), mode=0o644)
    return target, True


def main() -> None:
    """Run one step for the action plugin."""
    module = AnsibleModule(
        argument_spec={
            "step": {"choices": ["probe", "start", "poll", "stop", "install"], "required": True},
            "binary": {"type": "path", "required": True},
            "network": {"type": "path", "required": True},
            "sandbox": {"type": "dict", "required": True},
            "key": {"type": "str", "no_log": False},
            "content": {"type": "str"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    tuner = Tuner(parameters)
    try:
        if parameters["step"] == "probe":
            if not Path(parameters["binary"]).exists():
                module.exit_json(changed=False, installed=False)
            module.exit_json(changed=False, installed=True, **tuner.probe(parameters["content"]))
        if parameters["step"] == "start":
            tuner.start(parameters["key"])
            module.exit_json(changed=True)
        if parameters["step"] == "poll":
            state = tuner.state(parameters["key"])
            content = tuner.output(parameters["key"]).read_text() if state == "done" else None
            log = tuner.log(parameters["key"])
            steps = [(at, text) for at, text in log if STEP.match(text)]
            module.exit_json(
                changed=False,
                state=state,
                seconds=tuner.running_for(parameters["key"]),
                steps=[text for _, text in steps],
                seconds_of_steps=steps[-1][0] - log[0][0] if steps else 0.0,
                log=endings.last_lines("\n".join(text for _, text in log)),
                activity=asdict(tuner.activity(parameters["key"], len(log))),
                content=content,
            )
        if parameters["step"] == "stop":
            tuner.stop(parameters["key"])
            module.exit_json(changed=True)
        path = RESULTS / digest.of_text(parameters["content"]) / "tuning.txt"
        changed = not is_whole(path)
        if not module.check_mode:
            _, changed = install(parameters["content"], RESULTS)
        module.exit_json(changed=changed, file=str(path), sha256=path.parent.name)
    except TuningError as error:
        module.fail_json(msg=f"Tuning failed: {error}")
    except (OSError, subprocess.CalledProcessError, json.JSONDecodeError) as error:
        module.fail_json(msg=f"Tuning failed: {endings.of_error(error)}")


if __name__ == "__main__":
    main()
