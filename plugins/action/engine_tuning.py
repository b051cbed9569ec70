"""The control node's part of `katago.fleet.engine_tuning`: tunes each kind of device once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.common.file_lock import locked
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import host_work, tuning_progress
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation

display = Display()
PATIENCE_SECONDS = 300
DEADLINE_SECONDS = 21600


UNFIT = "katago_opencl_tuner_file cannot be used"
FIX = (
    "The service was not changed. Name a file that was tuned for this network by this version of the engine,"
    " or leave katago_opencl_tuner_file empty to tune the host's device."
)
NAME = re.compile(
    r"tune\d+_gpu\w*_x(?P<x>\d+)_y(?P<y>\d+)_c(?P<channels>\d+)_mv(?P<version>\d+)\.txt", re.ASCII
)


class FailedStepError(Exception):
    """A step on the host failed; carries its result."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class ActionModule(ActionBase):
    """Probes the device, takes the result from the cache or tunes the device, and installs the result."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Probe, obtain, install."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        self._vars = task_vars or {}
        try:
            if supplied := str(self._task.args.get("tuner_file") or ""):
                return {**result, **self._use(Path(supplied).expanduser())}
            probed = self._step("probe")
            if not probed["installed"]:
                return {**result, "changed": True, "file": "", "sha256": "", "device": "unknown"}
            key = result_name(probed, str(self._task.args["version"]))
            kept = Path(self._task.args["cache_dir"]).expanduser() / "tuning" / f"{key}.txt"
            kept.parent.mkdir(parents=True, exist_ok=True)
            with locked(kept.with_suffix(".lock")):
                elsewhere = made_elsewhere(str(self._task.args.get("results") or ""), probed)
                if not kept.exists() and elsewhere:
                    replace(kept, elsewhere.read_text())
                elif not kept.exists():
                    if self._task.check_mode:
                        return {
                            **result,
                            "changed": True,
                            "file": "",
                            "sha256": "",
                            "device": probed["device"],
                        }
                    content = self._tune(probed["device"], digest.of_text(key)[:12])
                    replace(kept, content)
            installed = self._step("install", content=kept.read_text())
        except FailedStepError as failed:
            return {**result, **failed.result}
        return {**result, **installed, "device": probed["device"]}

    def _use(self, path: Path) -> dict[str, Any]:
        """Install the result named in the inventory if it fits this network and this engine."""
        try:
            content = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FailedStepError(
                {"failed": True, "msg": f"{UNFIT}: {path} cannot be read: {reason}. {FIX}"}
            ) from None
        probed = self._step("probe", content=content)
        if not probed["installed"]:
            return {"changed": True, "file": "", "sha256": "", "device": "unknown"}
        if problem := unfit(path.name, probed, str(self._task.args["version"])):
            raise FailedStepError({"failed": True, "msg": f"{UNFIT}: {path} {problem}. {FIX}"})
        display.display(
            f"[{self._vars['inventory_hostname']}] Using the tuning result {path.name} from the inventory."
            f" It was not tuned for {probed['device']}"
        )
        return {**self._step("install", content=content), "device": probed["device"]}

    def _tune(self, device: str, key: str) -> str:
        host = self._vars["inventory_hostname"]
        display.display(f"[{host}] Tuning for {device}. This takes minutes, once for each kind of device")
        self._step("start", key=key)
        try:
            done = host_work.follow(
                f"The tuning for {device}",
                lambda step: self._step(step, key=key),
                lambda sentence: display.display(f"[{host}] {sentence}"),
                how_far,
                patience=float(self._task.args.get("patience", PATIENCE_SECONDS)),
                deadline=float(self._task.args.get("deadline", DEADLINE_SECONDS)),
                variable="katago_tuning_deadline",
            )
        except host_work.WorkError as error:
            raise FailedStepError({"failed": True, "msg": str(error)}) from error
        return str(done["content"])

    def _step(self, step: str, **arguments: Any) -> dict[str, Any]:
        parameters = {
            key: self._task.args[key] for key in ("binary", "network", "sandbox") if key in self._task.args
        }
        outcome: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.engine_tuning",
            module_args={**parameters, **arguments, "step": step},
            task_vars=self._vars,
        )
        if outcome.get("failed") or outcome.get("unreachable"):
            raise FailedStepError(outcome)
        return outcome


def how_far(polled: Mapping[str, Any], elapsed: float) -> str:
    """The tuner's progress, and an estimate of the time left. `elapsed`: seconds since the start."""
    position = tuning_progress.of_lines(polled["steps"])
    if position is None:
        return "tuning, starting the engine"
    last_step = float(polled["seconds_of_steps"])
    return position.sentence(last_step, max(0.0, elapsed - last_step))


def replace(path: Path, content: str) -> None:
    """Replace a file on the control node atomically."""
    scratch = path.with_suffix(".partial")
    scratch.write_text(content)
    scratch.rename(path)


def made_elsewhere(directory: str, probed: dict[str, str]) -> Path | None:
    """The result for a device and a network's shape in a directory of files named by KataGo (tuner.cpp)."""
    if not directory:
        return None
    device = re.sub(r"[^A-Za-z0-9]", "", probed["device"])
    pattern = f"tune*_gpu{device}_x19_y19_c{probed['channels']}_mv{probed['version']}.txt"
    return max(Path(directory).expanduser().glob(pattern), default=None)


def unfit(name: str, probed: dict[str, Any], engine: str) -> str:
    """Why a result does not fit the network or the engine; empty if it fits.

    `name`: the file name that KataGo gave it (tuner.cpp). `engine`: the engine's version.
    """
    if not (shape := NAME.fullmatch(name)):
        return "does not have KataGo's own file name, such as tune13_gpuDEVICE_x19_y19_c96_mv8.txt"
    if (shape["x"], shape["y"]) != ("19", "19"):
        return f"is for boards of {shape['x']}x{shape['y']}, but the service needs 19x19"
    if (shape["channels"], shape["version"]) != (probed["channels"], probed["version"]):
        return (
            f"is for networks with {shape['channels']} channels and model version {shape['version']}, but the"
            f" network has {probed['channels']} channels and model version {probed['version']}"
        )
    if not probed["readable"]:
        return f"cannot be read by the engine {engine}: it is damaged, or another version wrote it"
    return ""


def result_name(probed: dict[str, str], version: str) -> str:
    """The name of a tuning result, made of device, network shape and engine version."""
    device = re.sub(r"[^A-Za-z0-9]+", "-", probed["device"]).strip("-")
    return f"{device}_c{probed['channels']}_mv{probed['version']}_v{version}"
