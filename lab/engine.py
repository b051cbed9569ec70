"""The lab's engine and network on this machine, for tests of the server with the real KataGo."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import assets as deploy_assets
from lab import assets, paths

CONFIG = """\
logToStderr = true
numAnalysisThreads = 1
numSearchThreadsPerAnalysisThread = 1
nnMaxBatchSize = 1
"""
VARIABLES = paths.ROOT / "inventories" / "lab" / "group_vars" / "katago.yml"
# PoCL's devices are processors. Their names start with these words.
UNTUNED = re.compile(r"No existing tuning parameters found .* at: (?P<file>\S+/tune\d+_gpu(pthread|cpu)\S+)")


def environment(*, shared: bool) -> dict[str, str]:
    """The environment variables that name engine, network and tuned home for the server's tests."""
    engine_spec: dict[str, Any] = yaml.safe_load(VARIABLES.read_text())["katago_engine"]
    engine = deploy_assets.obtain("katago_engine", engine_spec, paths.CACHE, print)
    network = deploy_assets.obtain("katago_network", assets.network(shared=shared), paths.CACHE, print)
    home = paths.CACHE / "engine" / "home"
    home.mkdir(parents=True, exist_ok=True)
    binary = _unpacked(engine)
    with _exclusive(home):
        _start_once(binary, network.path, home, assets.tuner_file(shared=shared))
    return {
        "KATAGO_TEST_BINARY": str(binary),
        "KATAGO_TEST_NETWORK": str(network.path),
        "KATAGO_TEST_HOME": str(home),
    }


def _unpacked(engine: deploy_assets.Asset) -> Path:
    directory = paths.CACHE / "engine" / engine.sha256
    if not directory.exists():
        scratch = directory.with_suffix(".partial")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        program = shutil.copy(engine.path, scratch)
        Path(program).chmod(0o755)
        subprocess.run([program, "--appimage-extract"], cwd=scratch, check=True, capture_output=True)
        scratch.rename(directory)
    return directory / "squashfs-root" / "AppRun"


@contextlib.contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    """Let only one process at a time prepare the directory."""
    with (home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start_once(binary: Path, network: Path, home: Path, tuner_file: Path) -> None:
    """Start the engine once. If it lacks a tuning result for this processor, install the lab's first."""
    config = home / "analysis.cfg"
    config.write_text(CONFIG)
    print("Starting the engine once. This takes seconds, or minutes if it tunes for a GPU.", flush=True)
    command = [str(binary), "analysis", "-config", str(config), "-model", str(network)]
    command += ["-quit-without-waiting", "-override-config", f"homeDataDir={home}"]
    if missing := _untuned(command):
        shutil.copy(tuner_file, missing)
        if _untuned(command):
            raise RuntimeError(f"the engine rejected the tuning result {tuner_file}")


def _untuned(command: list[str]) -> Path | None:
    """Run the engine. Return the path of the tuning result that it lacks, or None if it started."""
    lines = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if match := UNTUNED.search(line):
                process.kill()
                return Path(match["file"])
    if process.returncode:
        message = [
            f"the engine did not start; it exited with status {process.returncode}. Last log lines:",
            *lines[-5:],
        ]
        raise RuntimeError("\n  ".join(message))
    return None
