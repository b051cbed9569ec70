"""Judges on the control node whether a host left rotation, from the answers of all load balancers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.run import rotation
from ansible_collections.katago.fleet.plugins.plugin_utils.run.rotation_action import RotationAction

display = Display()


class ActionModule(RotationAction):
    """Fails if the procedure must not continue."""

    def judge(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Where the host left, or why the procedure is refused and where the host must join again."""
        host = variables["inventory_hostname"]
        left = rotation.left(
            arguments["answers"],
            host,
            without_drain=arguments["without_drain"],
            check=self._task.check_mode,
        )
        result = {"balancers": list(left.balancers), "undo": list(left.undo), "message": left.message}
        if left.refusal:
            return {**result, "failed": True, "refused": True, "msg": left.refusal}
        if left.message:
            # Shown at once: a run that loses its host cannot report at its end that it is out.
            display.display(f"[{host}] {left.message}")
        return {**result, **({"warnings": list(left.warnings)} if left.warnings else {})}
