#!/usr/bin/python
"""Configures keepalived, which gives one address to a load balancer that works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: load_balancer_address
short_description: Share one address between load balancers
description:
  - Writes C(/etc/keepalived/keepalived.conf), checks it with C(keepalived -t) before it replaces the previous
    one, and reloads keepalived. If keepalived does not run with it, every file is restored.
  - Refuses to replace a configuration that this module has not written.
  - All load balancers have the same priority. The address moves when the one that has it fails or reaches no
    server, and does not move back.
  - The peers are the other hosts of the group C(load_balancer) with the same virtual address, at their
    C(fleet_address). Refuses if their router id or password differs.
  - Without an address, a configuration that this module has written is removed and keepalived is stopped.
extends_documentation_fragment: [katago.fleet.load_balancer]
options:
  address:
    description: The address with its prefix length; empty for none.
    type: str
    default: ""
  interface:
    description:
      - The network interface. If empty, the one with the host's C(fleet_address), else that of the default
        route.
    type: str
    default: ""
  router_id:
    description: The VRRP router id, 1 to 255, the same on all load balancers and unique in their network.
    type: int
    required: true
  password:
    description: The VRRP password; empty for none.
    type: raw
    default: ""
  metrics_address:
    description: The address of HAProxy's statistics, by which keepalived checks it.
    type: str
    required: true
  metrics_port:
    description: The port of HAProxy's statistics.
    type: int
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Share the address
  katago.fleet.load_balancer_address:
    address: 10.20.0.200/24
    router_id: 51
    metrics_address: 127.0.0.1
    metrics_port: 8404
    sandbox: {ProtectSystem: strict}
"""

RETURN = r"""
interface:
  description: The network interface of the address; empty without an address.
  type: str
  returned: success
"""

import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    endings,
    file_set,
    unit_state,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    interfaces,
    keepalived,
    loaded,
    units,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    reachable,
)

CONFIG_MODE = 0o600
SCRIPT_MODE = 0o755
CHECK_SECONDS = 60
_INTERFACES = Path("/sys/class/net")
_ANY_PROGRAM = Path("/usr/bin/true")


def own_interface(source: str) -> str:
    """The interface with the address `source`, else that of the default route; empty without one."""
    try:
        return interfaces.with_address(source, interfaces.read("address")) or interfaces.of_default_route(
            interfaces.read("route", "show", "default")
        )
    except LoadBalancerError:
        return ""


def instance(parameters: Mapping[str, Any], interface: str) -> keepalived.Instance:
    """What keepalived does on this host."""
    return keepalived.Instance(
        local_name=parameters["name"],
        address=parameters["address"],
        interface=interface,
        router_id=parameters["router_id"],
        source=parameters["source"],
        peers=tuple(parameters["peers"]),
        password=str(parameters["password"] or ""),
    )


def rejection(wanted: keepalived.Instance) -> str:
    """Why keepalived rejects the configuration; empty if it accepts it. Raises OSError.

    Version 2.3 rejects one whose program does not exist yet, so another program takes its place.
    """
    text = keepalived.render(wanted, _ANY_PROGRAM)
    with tempfile.TemporaryDirectory(prefix="katago-keepalived-") as scratch:
        file = Path(scratch, "keepalived.conf")
        file.touch(mode=CONFIG_MODE)
        file.write_text(text)
        done = subprocess.run(
            [paths.KEEPALIVED, "--config-test", "--use-file", file],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=CHECK_SECONDS,
            check=False,
            # At its end, version 2.2 kills its own process group if the configuration has a script.
            start_new_session=True,
        )
    is_accepted = not done.stdout.strip() and done.returncode in (0, -signal.SIGTERM)
    return "" if is_accepted else endings.describe(done.stdout, status=done.returncode)


def is_own() -> bool:
    """Whether this module has written keepalived's configuration."""
    try:
        return paths.KEEPALIVED_CONFIG.read_text(errors="replace").startswith(keepalived.HEADER)
    except FileNotFoundError:
        return False


def remove(*, check: bool) -> dict[str, Any]:
    """Stop keepalived if its configuration is ours; the module's result."""
    changed = is_own()
    if changed and not check:
        # The configuration is last: as long as it is there, a run that was killed is continued.
        places = (
            paths.LOAD_BALANCER_CHECK,
            units.drop_in(paths.KEEPALIVED_UNIT),
            loaded.record(paths.KEEPALIVED_UNIT, paths.LOADED),
            paths.KEEPALIVED_CONFIG,
        )
        units.remove(paths.KEEPALIVED_UNIT, [file_set.File(path, None) for path in places])
    return {"changed": changed, "interface": ""}


def interface_problem(interface: str, present: Sequence[str]) -> str:
    """What is wrong with the network interface; empty if this host has it."""
    if not interface:
        return "No network interface has the address. Set load_balancer_interface."
    if interface not in present:
        return (
            f"load_balancer_interface is {interface!r}, which this host does not have. It has"
            f" {', '.join(sorted(present))}."
        )
    return ""


def share(module: AnsibleModule) -> dict[str, Any]:
    """Configure keepalived; the module's result."""
    parameters = module.params
    interface = parameters["interface"] or own_interface(parameters["source"])
    wanted = instance(parameters, interface)
    problems = keepalived.problems(wanted)
    if problem := interface_problem(interface, [each.name for each in _INTERFACES.iterdir()]):
        problems.append(problem)
    if paths.KEEPALIVED_CONFIG.exists() and not is_own():
        problems.append(
            f"{paths.KEEPALIVED_CONFIG} was not written by this playbook. Move the file away if this host no"
            " longer needs it."
        )
    if problems:
        refuse(module, problems)
    # In check mode, the package may not be installed yet.
    if paths.KEEPALIVED.exists() and (reason := rejection(wanted)):
        refuse(module, [f"keepalived rejects the configuration: {reason}"])
    script = keepalived.check_script(reachable(parameters["metrics_address"]), parameters["metrics_port"])
    content = (
        file_set.File(paths.LOAD_BALANCER_CHECK, script.encode(), SCRIPT_MODE),
        file_set.File(paths.KEEPALIVED_CONFIG, keepalived.render(wanted).encode(), CONFIG_MODE),
    )
    # keepalived does not report its configuration.
    configured = loaded.Loaded(paths.KEEPALIVED_UNIT, content, paths.LOADED)
    plan = units.plan(
        paths.KEEPALIVED_UNIT,
        file_set.File(units.drop_in(paths.KEEPALIVED_UNIT), parameters["sandbox"].encode()),
        content,
        is_new=not paths.KEEPALIVED_CONFIG.exists(),
        is_loaded=configured.matches(unit_state.read(paths.KEEPALIVED_UNIT)),
    )
    if plan.changes and not module.check_mode:
        units.apply(plan, verify)
        configured.remember(unit_state.read(paths.KEEPALIVED_UNIT))
    return {"changed": plan.changes, "interface": interface}


def verify() -> None:
    """Raise LoadBalancerError unless keepalived runs."""
    state = unit_state.properties(paths.KEEPALIVED_UNIT, "ActiveState").get("ActiveState")
    if state != "active":
        raise LoadBalancerError(
            f"{paths.KEEPALIVED_UNIT} is {state}. Last log lines: {units.log(paths.KEEPALIVED_UNIT)}"
        )


def refuse(module: AnsibleModule, problems: Sequence[str]) -> None:
    """End the module; nothing was changed."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    module.fail_json(msg=f"Refused; nothing was changed on this host.\n{listed}", refused=True)


def main() -> None:
    """Share the address, or stop sharing it."""
    module = AnsibleModule(
        argument_spec={
            "sandbox": {"type": "str", "required": True},
            "address": {"type": "str", "default": ""},
            "interface": {"type": "str", "default": ""},
            "router_id": {"type": "int", "required": True},
            "password": {"type": "raw", "default": "", "no_log": True},
            "metrics_address": {"type": "str", "required": True},
            "metrics_port": {"type": "int", "required": True},
            "source": {"type": "str", "required": True},
            "peers": {"type": "list", "elements": "str", "default": []},
            "name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        result = share(module) if module.params["address"] else remove(check=module.check_mode)
    except (OSError, LoadBalancerError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"The virtual address is not shared: {endings.of_error(error)}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
