"""Decides on the control node whether a host may join rotation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.katago.fleet.plugins.plugin_utils.run import rotation
from ansible_collections.katago.fleet.plugins.plugin_utils.run.rotation_action import RotationAction

_MODULE = "katago.fleet.service_validate"
# The procedure is over: nothing is waited for, because the service is either ready or not.
_OPTIONS = {"deadline": 5, "start_deadline": 5, "allow_changed_files": True}


class ActionModule(RotationAction):
    """Validates the service only if a load balancer keeps the host out for this procedure."""

    def judge(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """What to request of the load balancers, and why the host must stay out."""
        if not rotation.keeps_out(arguments["answers"]):
            return {"state": "info", "kept_out": ""}
        problem = rotation.validation_problem(self._validate(variables))
        return {"state": "info" if problem else "in", "kept_out": problem}

    def _validate(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._execute_module(
                module_name=_MODULE, module_args=_OPTIONS, task_vars=dict(variables)
            )
        except AnsibleConnectionFailure as error:
            return {"unreachable": True, "msg": str(error)}
        return answer
