"""The control node's part of `katago.fleet.release_build`: builds the wheel set and names the release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import wheels
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import DeliveringAction

display = Display()


class ActionModule(DeliveringAction):
    """Builds a release on a host unless it exists there. Does not change the running service."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Build the wheel set, compute the name, check the host, deliver, build."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments = self._task.args
        try:
            wheel_set = wheels.build(
                Path(arguments["server"]).expanduser().resolve(),
                python=".".join(str(part) for part in arguments["python"][:2]),
                machine=str(arguments["machine"]),
                cache=Path(arguments["cache_dir"]).expanduser(),
                show=display.display,
            )
        except (wheels.WheelError, OSError) as error:
            return {**result, "failed": True, "msg": f"{error}. Nothing was changed on this host."}
        dependencies = {str(path): str(sha256) for path, sha256 in arguments["stands_on"].items() if path}
        files = {str(name): str(content) for name, content in arguments["files"].items()}
        inputs = {
            "wheels": wheel_set.sha256,
            "engine_version": str(arguments["engine_version"]),
            "stands_on": dependencies,
            "files": {name: digest.of_text(content) for name, content in files.items()},
        }
        name = layout.name(wheel_set.version, inputs)
        delivered = self.deliver(
            "katago.fleet.release_build",
            {
                "name": name,
                "version": wheel_set.version,
                "inputs": inputs,
                "files": files,
            },
            str(wheel_set.archive),
            task_vars,
        )
        return {**result, **delivered, "name": name, "version": wheel_set.version}
