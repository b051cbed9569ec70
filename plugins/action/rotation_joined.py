"""Judges on the control node whether a host joined rotation, from the answers of all load balancers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.run import rotation
from ansible_collections.katago.fleet.plugins.plugin_utils.run.rotation_action import RotationAction


class ActionModule(RotationAction):
    """Fails if the host should be in rotation but is not, unless `tolerant`."""

    def judge(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Where the host is in rotation, or why not."""
        joined = rotation.joined(
            arguments["answers"],
            variables["inventory_hostname"],
            kept_out=arguments["kept_out"],
            check=self._task.check_mode,
        )
        result = {
            "message": " ".join(filter(None, (joined.message, joined.problem))),
            **({"warnings": list(joined.warnings)} if joined.warnings else {}),
        }
        if joined.problem and not arguments["tolerant"]:
            return {**result, "failed": True, "msg": joined.problem}
        return result
