"""Files sent to a host only when the host says that it lacks them."""

from __future__ import annotations

import tempfile
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import zipapps


class DeliveringAction(ActionBase):
    """An action whose module first answers whether it needs a file, and gets it only then.

    The module takes `source`, a path on the host or nothing. Called without, it changes nothing
    and answers `present`; called with, it installs from that file. A host in security mode answers
    `security_mode`, and gets nothing.
    """

    TRANSFERS_FILES = True

    def deliver(
        self, module: str, arguments: dict[str, Any], local: str, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Run `module` until what it installs is present; in check mode only say whether it is."""
        asked: dict[str, Any] = self._execute_module(
            module_name=module, module_args=arguments, task_vars=task_vars
        )
        if any(asked.get(name) for name in ("failed", "unreachable", "present", "security_mode")):
            return asked
        if self._task.check_mode:
            return {**asked, "changed": True}
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
        """Have the program made of that module of module_utils at a path of the host."""
        content = zipapps.pack(module)
        arguments = {"path": path, "sha256": digest.of_bytes(content)}
        with tempfile.NamedTemporaryFile(prefix="katago-program-") as packed:
            packed.write(content)
            packed.flush()
            return self.deliver("katago.fleet.host_program", arguments, packed.name, task_vars)


class AssetAction(DeliveringAction):
    """Has the module of the task's own name install a file of the control node, `path`, on a host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host, deliver, install."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        local = str(arguments.pop("path"))
        return {**result, **self.deliver(self._task.action, arguments, local, task_vars)}
