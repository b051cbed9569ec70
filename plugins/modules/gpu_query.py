#!/usr/bin/python
"""Runs one analysis with the engine of the current release on a host's GPU."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_query
short_description: Query the engine of the current release on a host's GPU
description:
  - Runs one analysis with the engine in the service's sandbox, and checks in the engine's log which device it
    used. Skips a host without a release, and an engine that does not use a GPU.
  - Changes nothing, and also runs in check mode.
options:
  names:
    description: Device names. The engine must use one of them.
    type: list
    elements: str
    required: true
  vendor:
    description: The vendor of the devices. With C(amd) and C(intel), any device of the vendor is accepted.
    type: str
    choices: [nvidia, amd, intel]
    required: true
  sandbox:
    description: The systemd directives of the service's sandbox.
    type: dict
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Query the engine on the GPU
  katago.fleet.gpu_query:
    names: [NVIDIA A40]
    vendor: nvidia
    sandbox: "{{ katago_sandbox }}"
"""

RETURN = r"""
queried:
  description: Which release's engine answered on which device, or why no engine was queried.
  type: str
  returned: always
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import apt, commands, shape, systemd_run
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices, driver_module, programs
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout

QUERY = {
    "id": "gpu",
    "rules": "japanese",
    "komi": 6.5,
    "boardXSize": 19,
    "boardYSize": 19,
    "moves": [],
    "maxVisits": 2,
}
SECONDS = 300
UNIT = "katago-gpu-query.service"
CACHE = Path("/var/cache/katago-gpu-query")


class Engine(TypedDict):
    """The part `katago` of a release's configuration."""

    binaryPath: str
    modelPath: str
    configPath: str


class Config(TypedDict):
    """The part of a release's configuration that is read."""

    katago: Engine


def engine_of(config: Path) -> Engine:
    """How a release starts its engine.

    Raises:
        DriverError: the configuration cannot be read.
    """
    try:
        return shape.typed(Config, json.loads(config.read_text()))["katago"]
    except (OSError, ValueError) as error:
        raise DriverError(
            f"{config}, the configuration of the current release, cannot be read: {error}."
            " Deploy again: ansible-playbook playbooks/deploy.yml"
        ) from error


def query(names: Sequence[str], sandbox: Mapping[str, Any], root: Path, *, vendor: str) -> str:
    """Query the engine of the current release; return the device that it used, or why it was not queried.

    Raises:
        DriverError: the engine did not answer, or used another device. For NVIDIA it must be one of `names`;
            for another `vendor`, any of its devices. The message has the engine's last log lines.
    """
    layout = release_layout.Layout(root)
    release = layout.current_release()
    if release is None:
        return "no release yet; a deployment validates the first release before it is used"
    engine = engine_of(layout.current / "config.json")
    binary = engine["binaryPath"]
    backend = programs.ask([binary, "version"])[1]
    if "Using Eigen" in backend:
        return f"the engine of {release} does not use a GPU"
    if vendor != "nvidia" and "Using OpenCL" not in backend:
        return (
            f"the engine of {release} does not support a GPU by {vendor}; a deployment installs one that does"
        )
    directives = {**sandbox, "DynamicUser": True, "CacheDirectory": CACHE.name}
    directives["RuntimeMaxSec"] = str(SECONDS)
    argv = [binary, "analysis", "-model", engine["modelPath"]]
    argv += ["-config", str(layout.current / engine["configPath"])]
    argv += ["-override-config", f"homeDataDir={CACHE},logToStderr=true"]
    # The engine exits at the end of its input, after it has answered.
    status, output = commands.ask(
        systemd_run.command(directives, argv, unit=UNIT), SECONDS + 10, given=json.dumps(QUERY) + "\n"
    )
    device = devices.used_by_engine(output, vendor, names)
    if status or '"rootInfo"' not in output or device is None:
        raise DriverError(
            f"The engine of {release} does not work on {' or '.join(names)}: {apt.reason(output, status)}"
        )
    return f"the engine of {release} answered on {device}"


def main() -> None:
    """Query the engine and return the result."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "vendor": {"choices": ["nvidia", "amd", "intel"], "required": True},
            "sandbox": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    driver_module.run(
        module,
        lambda: {
            "queried": query(
                parameters["names"], parameters["sandbox"], paths.RELEASE_ROOT, vendor=parameters["vendor"]
            )
        },
    )


if __name__ == "__main__":
    main()
