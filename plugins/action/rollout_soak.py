"""Collects the samples of a soak, judges the canary, and waits for the next round."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.module_utils.rollout import sample
from ansible_collections.katago.fleet.plugins.plugin_utils.rollout import judge
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation

display = Display()
_KEPT = ("changed", "samples", "started", "verdict", "probes", "over")


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge what was sampled so far; wait for the next round. Fail if nothing can be concluded."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments, variables = validation.validated(self), task_vars or {}
        soak, canary, number = arguments["soak"], arguments["canary"], arguments["round"]
        if soak.get("over"):
            return {**result, **{name: soak[name] for name in _KEPT}}
        samples = {
            host: [*soak.get("samples", {}).get(host, []), _sample(variables["hostvars"][host])]
            for host in variables["ansible_play_hosts_all"]
        }
        # The clock of the control node may be set meanwhile.
        now = time.monotonic()
        started = float(soak.get("started", now))
        verdict = judge.judge(canary, arguments["release"], samples)
        progress = number / arguments["rounds"]
        is_last = number >= arguments["rounds"]
        done = {
            "changed": False,
            "samples": samples,
            "started": started,
            "verdict": verdict.as_dict(),
            "probes": (
                arguments["probes"]
                if judge.wants_probes(canary, arguments["release"], samples, progress)
                else 0
            ),
            "over": is_last or verdict.state in ("failed", "unknown"),
        }
        total = arguments["rounds"] * arguments["seconds"]
        if number or done["over"]:
            left = 0 if done["over"] else max(1, started + total - now)
            display.display(judge.describe(canary, verdict, left))
        if verdict.state == "unknown":
            msg = (
                f"The rollout stopped in the soak of {canary}: {'; '.join(verdict.reasons)}. {canary} was not"
                " rolled back, and no further host was switched. Run triage, then repeat the command."
            )
            return {**result, **done, "failed": True, "msg": msg}
        if not done["over"]:
            if not number:
                display.display(f"Rollout: soak: {canary}, for {host_lock.duration(total)}")
            time.sleep(max(0.0, started + (number + 1) * arguments["seconds"] - time.monotonic()))
        return {**result, **done}


def _sample(variables: Any) -> sample.Sample | None:
    """The sample that a host returned last; None if it did not answer."""
    taken = variables.get("_rollout_sample") or {}
    try:
        return sample.parse(taken["sample"])
    except (KeyError, shape.ShapeError):
        return None
