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
    the task again then joins it. What it does is shown while it does it.
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
  deadline:
    description: Seconds after which a tuning counts as failed.
    type: int
    default: 3600
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
import threading
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, files, systemd_run

CONFIG = "numAnalysisThreads = 1\nnumSearchThreads = 1\nlogToStderr = true\n"
RESULTS = paths.ASSETS / "tuning"
PROBE_SECONDS = 60
UNIT = "katago-tuning-{key}"
# A result that was made elsewhere, for the engine to read.
SUPPLIED = Path("/run/katago-tuning-supplied.txt")
# The tuner's own words: what it tunes for, and the end of the work (tuner.cpp).
TUNING_FOR = re.compile(
    r"Beginning GPU tuning for (?P<device>.+)"
    r" modelVersion (?P<version>\d+) channels (?P<channels>\d+)"
)
UNREADABLE = "unable to parse parameters in"


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
        # What a run whose connection was lost left behind.
        subprocess.run(["systemctl", "stop", UNIT.format(key="probe")], check=False, capture_output=True)
        process = subprocess.Popen(
            self._command("probe", wait=True, output=SUPPLIED if supplied is not None else None),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        # The engine may hang in a driver: the deadline must not depend on its output.
        timer = threading.Timer(PROBE_SECONDS, process.kill)
        timer.start()
        lines = []
        try:
            for line in process.stdout or ():
                lines.append(line)
                if found := TUNING_FOR.search(line):
                    return {**found.groupdict(), "readable": not any(UNREADABLE in each for each in lines)}
        finally:
            timer.cancel()
            subprocess.run(
                ["systemctl", "kill", "--signal=KILL", UNIT.format(key="probe")],
                check=False,
                capture_output=True,
            )
            process.kill()
            process.wait()
        raise TuningError("no OpenCL device was found: " + "".join(lines)[-600:].strip())

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

    def progress(self, key: str) -> str:
        """The tuner's last words."""
        journal = subprocess.run(
            ["journalctl", "--unit", UNIT.format(key=key), "--lines=25", "--output=cat", "--quiet"],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in journal.stdout.splitlines() if line.strip("-= ")]
        return lines[-1] if lines else ""

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
        return systemd_run.command(directives, argv, unit=UNIT.format(key=key), wait=wait)


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
            "step": {"choices": ["probe", "start", "poll", "install"], "required": True},
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
            module.exit_json(
                changed=False,
                state=state,
                progress=tuner.progress(parameters["key"]),
                content=content,
            )
        path = RESULTS / digest.of_text(parameters["content"]) / "tuning.txt"
        changed = not is_whole(path)
        if changed and not module.check_mode:
            install(parameters["content"], RESULTS)
        module.exit_json(changed=changed, file=str(path), sha256=path.parent.name)
    except (TuningError, OSError, subprocess.CalledProcessError, json.JSONDecodeError) as error:
        module.fail_json(msg=f"Tuning failed: {error}")


if __name__ == "__main__":
    main()
