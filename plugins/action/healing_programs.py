"""The control node's part of `katago.fleet.healing_programs`: packs wheels and this collection."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import wheels
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import bundle
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import DeliveringAction

display = Display()


class ActionModule(DeliveringAction):
    """Installs a version of the programs on a host unless it is there."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Build the wheel set, compute the name, check the host, deliver, build."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = validation.validated(self)
        python, machine = arguments["python"], arguments["machine"]
        try:
            wheel_set = wheels.build_locked(
                Path(arguments["lock"]),
                python=python,
                machine=machine,
                cache=Path(arguments["cache_dir"]).expanduser(),
                show=lambda: display.display(
                    f"Collecting the wheels of Ansible for Python {python} on {machine}"
                ),
            )
            name = bundle.name(wheel_set.sha256)
            with tempfile.NamedTemporaryFile(prefix="katago-healing-") as packed:
                bundle.pack(wheel_set.archive, Path(packed.name))
                delivered = self.deliver(
                    "katago.fleet.healing_programs", {"name": name}, packed.name, task_vars
                )
        except (wheels.WheelError, OSError) as error:
            return {**result, "failed": True, "msg": f"{error}. Nothing was changed on this host."}
        return {**result, **delivered, "name": name}
