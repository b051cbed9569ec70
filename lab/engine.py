"""The lab's engine and network on this machine, for the server's tests against the real KataGo."""

from __future__ import annotations

import contextlib
import fcntl
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


def environment(*, shared: bool) -> dict[str, str]:
    """The variables by which the server's tests find an engine, a network and a tuned home."""
    engine_spec: dict[str, Any] = yaml.safe_load(VARIABLES.read_text())["katago_engine"]
    engine = deploy_assets.obtain("katago_engine", engine_spec, paths.CACHE, print)
    network = deploy_assets.obtain("katago_network", assets.network(shared=shared), paths.CACHE, print)
    home = paths.CACHE / "engine" / "home"
    tuned = home / "opencltuning"
    tuned.mkdir(parents=True, exist_ok=True)
    if results := assets.tuning_results(shared=shared):
        shutil.copytree(results, tuned, dirs_exist_ok=True)
    binary = _unpacked(engine)
    with _alone(home):
        _tune(binary, network.path, home)
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
def _alone(home: Path) -> Iterator[None]:
    """Two that start at once would both tune, for minutes; the second one finds what the first one made."""
    with (home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _tune(binary: Path, network: Path, home: Path) -> None:
    """Start the engine once and let it end: it tunes for this machine's device unless it has."""
    config = home / "analysis.cfg"
    config.write_text(CONFIG)
    print("Starting the engine once: seconds, or minutes when it has to tune for this machine", flush=True)
    command = [str(binary), "analysis", "-config", str(config), "-model", str(network)]
    command += ["-quit-without-waiting", "-override-config", f"homeDataDir={home}"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True)
    if ended.returncode:
        said = (ended.stderr.strip() or ended.stdout.strip() or "it said nothing").splitlines()[-5:]
        raise RuntimeError(
            "\n  ".join([f"the engine ended with {ended.returncode} when it was tried:", *said])
        )
