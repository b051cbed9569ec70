#!/usr/bin/python
"""Tunes OpenCL kernels for a host's device, in the sandbox that the service will run in."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_tuning
short_description: Tune the engine for the host's OpenCL device
description:
  - Makes sure that the host has the tuning result for its device, the network's shape and the
    engine's version, as C(/opt/katago/tuning/<sha256>/tuning.txt).
  - A result is made once for a kind of device and kept on the control node; other hosts with the
    same device are given it. Hosts with the same device wait for each other, others do not.
  - Tuning runs as a unit of its own on the host and goes on when the connection is lost; running
    the task again then joins it.
  - While it runs, a line every 15 s says how far it is and about how long it will still take. It is
    given up when nothing moves any more, not after a fixed time; a host that is busy makes it slower.
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
    description: The systemd directives of the sandbox; what the engine sees of the device depends on them.
    type: dict
    required: true
  cache_dir:
    description: The control node's cache, where results are kept.
    type: path
    required: true
  results:
    description: A directory on the control node with results made elsewhere, under KataGo's own file names.
    type: path
    default: ""
  tuner_file:
    description:
      - A result on the control node, under KataGo's own file name, that the host uses as it is, whatever its
        device. It is refused when it is for another network shape or engine version. Empty for none.
    type: path
    default: ""
  patience:
    description:
      - Seconds without any progress, after which a tuning is stopped.
      - Progress is a line, processor time, or waiting for a processor.
    type: int
    default: 300
  deadline:
    description: Seconds after which a tuning is no longer waited for, though it is at work.
    type: int
    default: 21600
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The engine is tuned for the host's device
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
  description: The OpenCL device as the engine names it.
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
    endings,
    files,
    progress,
    systemd_run,
    transient_unit,
)

CONFIG = "numAnalysisThreads = 1\nnumSearchThreads = 1\nlogToStderr = true\n"
RESULTS = paths.ASSETS / "tuning"
# Without progress, and in all, until the engine has found its device.
PROBE_PATIENCE = 60
PROBE_SECONDS = 1800
# What one step of the tuner writes, and more: the lines that say how far it is.
JOURNAL_LINES = 3000
UNIT = "katago-tuning-{key}"
# A result that was made elsewhere, for the engine to read.
SUPPLIED = Path("/run/katago-tuning-supplied.txt")
# The tuner's own words: what it tunes for, and the end of the work (tuner.cpp).
TUNING_FOR = re.compile(
    r"Beginning GPU tuning for (?P<device>.+)"
    r" modelVersion (?P<version>\d+) channels (?P<channels>\d+)"
)
UNREADABLE = "unable to parse parameters in"
JOURNAL_LINE = re.compile(r"(?P<at>\d+\.\d+) \S+ [^:]+?: (?P<text>.*)")
# The first line of every start, which a logger and the standard error both get.
STARTING = "Running with following config:"
# Its lines that say how far it is.
STEP = re.compile(r"(?:.*\+0000: )?(?:Tuning (?!device\b|dummy\b)|Testing \d+ |Done tuning)")


class TuningError(Exception):
    """The device cannot be found or tuned; the message holds the engine's words."""


class Tuner:
    """The engine's tuner in the sandbox; its working files lie in its own cache directory."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self.scratch = Path("/var/cache/katago-tuning")

    def probe(self, supplied: str | None = None) -> dict[str, Any]:
        """The device and the network's shape, as the tuner names them before it starts to work.

        `readable` says whether this version of the engine can read the result `supplied`.
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
        said = run.output + run.log
        if found := TUNING_FOR.search(said):
            return {**found.groupdict(), "readable": UNREADABLE not in said}
        raise TuningError(f"the engine found no OpenCL device: {run.words()}")

    def start(self, key: str) -> None:
        """Start the tuning as a unit of its own, unless it runs already or has ended well."""
        if self.state(key) == "absent":
            subprocess.run(self._command(key, wait=False), check=True, capture_output=True, text=True)

    def state(self, key: str) -> str:
        """`running`, `done` or `absent`; a unit that ended without a result is absent."""
        unit = UNIT.format(key=key)
        active = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False)
        if active.stdout.strip() in ("active", "activating", "deactivating"):
            return "running"
        return "done" if self.output(key).exists() else "absent"

    def stop(self, key: str) -> None:
        """Stop the tuning; what it did is lost."""
        transient_unit.clear(UNIT.format(key=key))

    def log(self, key: str) -> list[tuple[float, str]]:
        """The tuner's last lines, each with its time in seconds since the epoch."""
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
        found = (JOURNAL_LINE.fullmatch(line) for line in journal.stdout.splitlines())
        lines = [(float(line["at"]), line["text"]) for line in found if line and line["text"].strip("-= ")]
        # Those of an earlier attempt are not of this one.
        starts = [number for number, (_, text) in enumerate(lines) if text.endswith(STARTING)]
        return lines[starts[-1] :] if starts else lines

    def running_for(self, key: str) -> float:
        """For how many seconds the tuning has run; 0 when it does not."""
        return transient_unit.running_for(UNIT.format(key=key))

    def activity(self, key: str, lines: int) -> progress.Activity:
        """What the tuner's processes did until now."""
        return progress.of_processes(transient_unit.processes(UNIT.format(key=key)), paths.PROC, lines)

    def output(self, key: str) -> Path:
        """Where the tuner writes its result."""
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
    """Whether a result is there and has the digest that its directory is named by."""
    return target.exists() and digest.of_file(target) == target.parent.name


def install(content: str, root: Path) -> tuple[Path, bool]:
    """Install a tuning result under its digest; return its path and whether it was new."""
    target = root / digest.of_text(content) / "tuning.txt"
    if is_whole(target):
        return target, False
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    files.write(target, content.encode(), mode=0o644)
    return target, True


def main() -> None:
    """Do one step of the control node's bidding."""
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
        if changed and not module.check_mode:
            install(parameters["content"], RESULTS)
        module.exit_json(changed=changed, file=str(path), sha256=path.parent.name)
    except TuningError as error:
        module.fail_json(msg=f"Tuning failed: {error}")
    except (OSError, subprocess.CalledProcessError, json.JSONDecodeError) as error:
        module.fail_json(msg=f"Tuning failed: {endings.of_error(error)}")


if __name__ == "__main__":
    main()
