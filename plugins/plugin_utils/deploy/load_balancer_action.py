"""What the modules of a load balancer's units do on the control node: check, then configure the host."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation

# The form that Ansible's templates give to the same file.
_SANDBOX = "#\n# Ansible managed\n#\n[Service]\n"

Arguments = Mapping[str, Any]
Variables = Mapping[str, Any]


class LoadBalancerAction(ActionBase):
    """Refuses wrong variables, and has the module of its name configure the host."""

    TRANSFERS_FILES = False
    module: str

    @abstractmethod
    def problems(self, arguments: Arguments, variables: Variables) -> Sequence[str]:
        """The problems that the control node sees; none has a secret."""

    @abstractmethod
    def parameters(self, arguments: Arguments, variables: Variables) -> dict[str, Any]:
        """The parameters of the module, except the sandbox."""

    def additions(self, variables: Variables) -> dict[str, Any]:
        """What the control node adds to the result."""
        return {}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check, then configure."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = validation.validated(self)
        variables = task_vars or {}
        if problems := self.problems(arguments, variables):
            listed = "\n".join(f"- {problem}" for problem in problems)
            msg = f"Refused; nothing was changed on this host.\n{listed}"
            return {**result, "failed": True, "refused": True, "msg": msg}
        lines = systemd_run.properties(arguments["sandbox"])
        done: dict[str, Any] = self._execute_module(
            module_name=f"katago.fleet.{self.module}",
            module_args={
                "sandbox": _SANDBOX + "".join(f"{line}\n" for line in lines),
                **self.parameters(arguments, variables),
            },
            task_vars=task_vars,
        )
        return {**result, **done, **self.additions(variables)}
