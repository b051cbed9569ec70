"""Sends files to a host only if the host reports that they are missing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import sharing, zipapps

display = Display()


class DeliveringAction(ActionBase):
    """An action whose module first reports whether it needs a file, and gets the file only then.

    The module has the optional parameter `source`, a path on the host. Without it, the module changes nothing
    and returns `present`. With it, the module installs that file. On a host in security mode, the module
    returns `security_mode`, and no file is sent.
    """

    TRANSFERS_FILES = True

    def deliver(
        self,
        module: str,
        arguments: dict[str, Any],
        local: str,
        task_vars: dict[str, Any] | None,
        sources: Sequence[sharing.Source] = (),
    ) -> dict[str, Any]:
        """Send the file `local` and have `module` install it, if it is missing; return the module's result.

        `sources`: where the host may fetch the file with the `sha256` of the arguments instead. In check
        mode, only reports whether the file would be installed.
        """
        status: dict[str, Any] = self._execute_module(
            module_name=module, module_args=arguments, task_vars=task_vars
        )
        if any(status.get(name) for name in ("failed", "unreachable", "present", "security_mode")):
            return status
        if self._task.check_mode:
            return {**status, "changed": True}
        # Ansible may have made the directory already; a second one would leave the first on the host.
        directory = self._connection._shell.tmpdir or self._make_tmp_path()
        remote = self._connection._shell.join_path(directory, "source")
        try:
            file = {"size": Path(local).stat().st_size, "path": remote}
            if not any(
                self._fetch(source, {"sha256": arguments["sha256"], **file}, task_vars) for source in sources
            ):
                self._transfer_file(local, remote)
            installed: dict[str, Any] = self._execute_module(
                module_name=module,
                module_args={**arguments, "source": remote},
                task_vars=task_vars,
            )
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return installed

    def _fetch(
        self, source: sharing.Source, file: Mapping[str, Any], task_vars: dict[str, Any] | None
    ) -> bool:
        """Whether the host fetched the file from there. Warns if it did not.

        `file`: its sha256, size and path, as `katago.fleet.asset_fetch` takes them.
        """
        answer: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.asset_fetch",
            module_args={**file, "url": source.address, "direct": source.direct},
            task_vars=task_vars,
        )
        if answer.get("fetched"):
            return True
        host = (task_vars or {})["inventory_hostname"]
        reason = answer.get("reason") or answer.get("msg") or "no answer"
        display.warning(
            f"[{host}] {file['sha256'][:12]} was not fetched from {source.shown}: {reason}."
            " The control node sends its own copy."
        )
        return False

    def deliver_program(self, module: str, path: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Build a program from a module of module_utils and install it at `path` on the host."""
        content = zipapps.pack(module)
        arguments = {"path": path, "sha256": digest.of_bytes(content)}
        with tempfile.NamedTemporaryFile(prefix="katago-program-") as packed:
            packed.write(content)
            packed.flush()
            return self.deliver("katago.fleet.host_program", arguments, packed.name, task_vars)


class AssetAction(DeliveringAction):
    """Installs the control node's file `path` on the host with the task's module.

    The host fetches it from the mirror or from the asset host, if there is one.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the host, deliver, install."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments = dict(self._task.args)
        local = str(arguments.pop("path"))
        sources = sharing.sources(
            str(arguments["sha256"]),
            mirror=str(arguments.pop("mirror", None) or ""),
            share=sharing.read(Path(constants.DEFAULT_LOCAL_TMP)),
        )
        return {**result, **self.deliver(self._task.action, arguments, local, task_vars, sources)}
