"""What the modules have in common that judge the answers of all load balancers on the control node."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation


class RotationAction(ActionBase):
    """Changes nothing itself."""

    TRANSFERS_FILES = False

    @abstractmethod
    def judge(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """The task's result."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge the answers."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        return {**result, "changed": False, **self.judge(validation.validated(self), task_vars or {})}
