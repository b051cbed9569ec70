"""Sends files to a host only if the host reports that they are missing."""

from __future__ import annotations

import tempfile
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import zipapps


class DeliveringAction(ActionBase):
    """An action whose module first reports whether it needs a file, and gets the file only then.

    The module has the optional parameter `source`, a path on the host. Without it, the module changes nothing
    and returns `present`. With it, the module installs that file. On a host in security mode, the module
    returns `security_mode`, and no file is sent.
    """

    TRANSFERS_FILES = True

    def deliver(
        self, module: str, arguments: dict[str, Any], local: str, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Send the file `local` and have `module` install it, if it is missing; return the module's result.

        In check mode, only reports whether the file would be installed.
        """
        status: dict[str, Any] = self._execute_module(
            module_name=module, module_args=arguments, task_vars=task_vars
        )
        if any(status.get(name) for name in ("failed", "unreachable", "present", "security_mode")):
            return status
        if self._task.check_mode:
            return {**status, "changed": True}
        remote = self._connection._shell.join_path(self._make_tmp_path(), "source")
        self._transfer_file(local, remote)
        try:
            installed: dict[str, Any] = self._execute_module(
                module_name=module,
                module_args={**arguments, "source": remote},
                task_vars=task_vars,
            )
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return installed

    def deliver_program(self, module: str, path: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Build a program from a module of module_utils and install it at `path` on the host."""
        content = zipapps.pack(module)
        arguments = {"path": path, "sha256": digest.of_bytes(content)}
        with tempfile.NamedTemporaryFile(prefix="katago-program-") as packed:
            packed.write(content)
            packed.flush()
            return self.deliver("katago.fleet.host_program", arguments, packed.name, task_vars)


class AssetAction(DeliveringAction):
    """Sends the control node's file `path` to the host, and has the task's module install it."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the host, deliver, install."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments = dict(self._task.args)
        local = str(arguments.pop("path"))
        return {**result, **self.deliver(self._task.action, arguments, local, task_vars)}
