#!/usr/bin/python
"""Takes a host out of the rotation of a load balancer, admits it, or reports who is in rotation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: load_balancer_rotation
short_description: Take a host out of the rotation of a load balancer, or admit it
description:
  - Runs on a load balancer. Records who took the host out and why, changes the running HAProxy through its
    socket, and renders HAProxy's configuration again, so that a reload keeps the host out.
  - Refuses to take a host out if too few hosts would remain in rotation. A host that serves nobody may always
    leave.
  - The entry of somebody else stays. The entry of the same person that a procedure left is continued.
  - A load balancer that is not set up, or does not have the host, sends it no requests. Nothing is changed
    there.
  - If HAProxy does not run, only the record and the configuration are changed, so that it starts with them.
  - A host that is admitted is called as it serves now, by C(server). If that is not how HAProxy calls it, the
    configuration is changed first and HAProxy reloaded, which loses no connection.
  - If a file cannot be written, or HAProxy refuses, everything stays as it was.
options:
  state:
    description:
      - C(leaving) sends no new requests to the host; requests in progress end normally.
      - C(out) also ends its checks, and whatever is still in progress.
      - C(in) admits it, and waits until HAProxy sends requests to it.
      - C(info) changes nothing.
    type: str
    choices: [leaving, out, in, info]
    required: true
  name:
    description: The host, by its name in the inventory. Required unless C(state) is C(info).
    type: str
    default: ""
  procedure:
    description: The procedure that takes the host out or admits it.
    type: str
    default: ""
  who:
    description: Who runs the procedure.
    type: str
    default: ""
  why:
    description: The reason, which is recorded.
    type: str
    default: ""
  least:
    description: How many hosts must stay in rotation, a number or a share such as C(50%).
    type: str
    default: 50%
  force:
    description: Whether to take the host out although too few hosts remain.
    type: bool
    default: false
  deadline:
    description: Seconds to wait until HAProxy sends requests to an admitted host.
    type: int
    default: 60
  server:
    description:
      - How the host serves now, with C(port), C(tls) and C(tls_name), as M(katago.fleet.rotation_server)
        reports it. For C(state=in). By default, HAProxy calls the host as before.
    type: dict
    suboptions:
      port:
        description: The port of the service.
        type: int
        required: true
      tls:
        description: Whether the service uses TLS.
        type: bool
        required: true
      tls_name:
        description: The name by which its certificate is verified; empty for any name.
        type: str
        required: true
  ca:
    description: The CA of the servers' certificates in PEM, if the host serves with TLS.
    type: str
    default: ""
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Send no new requests to the host
  katago.fleet.load_balancer_rotation:
    state: leaving
    name: "{{ inventory_hostname }}"
    procedure: restart
    who: "{{ lookup('katago.fleet.actor') }}"
    why: restart interrupts the service
  delegate_to: balancer-1
"""

RETURN = r"""
entry:
  description: Who took the host out, when and why; null if it is in rotation.
  type: dict
  returned: success
left:
  description: Whether this task took out, or would take out, a host that was in rotation.
  type: bool
  returned: success
is_own:
  description: Whether this procedure may admit the host again.
  type: bool
  returned: success
admitted:
  description: That the host is admitted, although HAProxy does not send requests to it yet.
  type: bool
  returned: failure
servers:
  description:
    - Every server as HAProxy sees it; C(status), C(weight), C(check), C(sessions), C(serves). Null if the
      load balancer is not set up, empty if HAProxy does not run.
  type: dict
  returned: success
out:
  description: All hosts that are out, by name.
  type: dict
  returned: success
"""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import file_set
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    config,
    in_force,
    rotation,
    runtime,
    target,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.server_state import ServerState
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    Settings,
)


class RefusedError(Exception):
    """The host may not leave; the message has the reason and the remedy."""


class NotServingError(Exception):
    """The host is admitted, but HAProxy does not send requests to it yet."""


@dataclass(frozen=True)
class Change:
    """What a request changed, or would change. `left`: it took out a host that was in rotation."""

    changed: bool = False
    left: bool = False


def files_of(out: Mapping[str, rotation.Entry]) -> list[file_set.File]:
    """The files that differ: the record, and the configuration that keeps it after a reload.

    The caller holds the lock, because the settings may be replaced otherwise.
    """
    text = config.render(Settings.load(paths.LOAD_BALANCER_SETTINGS), out.keys())
    wanted = (rotation.record(paths.ROTATION, out), file_set.File(paths.HAPROXY_CONFIG, text.encode()))
    return [file for file in wanted if not file.is_current()]


def running(haproxy: runtime.Runtime) -> dict[str, ServerState] | None:
    """The servers by name; None if HAProxy does not run."""
    try:
        return haproxy.servers()
    except runtime.NotRunningError:
        return None


def leave(haproxy: runtime.Runtime, parameters: Mapping[str, Any], *, check: bool) -> Change:
    """Take the host out."""
    name = parameters["name"]
    claim = rotation.Entry(parameters["procedure"], parameters["who"], timestamps.now(), parameters["why"])
    with rotation.locked(paths.ROTATION):
        servers = running(haproxy)
        if not has(servers, name):
            return Change()
        out = rotation.read(paths.ROTATION)
        before = out.get(name)
        shortage = rotation.shortage(name, servers or {}, out, parameters["least"])
        if shortage and before is None and not parameters["force"]:
            raise RefusedError(f"{shortage} {rotation.remedy(parameters['least'], len(servers or {}))}")
        entry = rotation.taken_out(before, claim)
        server = (servers or {}).get(name)
        ends = parameters["state"] == "out" and server is not None and not server.is_in_maintenance
        is_claimed = (entry.procedure, entry.who) == (claim.procedure, claim.who)
        gets_requests = server is not None and server.weight > 0
        changed = entry != before or (is_claimed and (gets_requests or ends))
        if changed and not check:
            # The record first: a host may be in rotation with a record, but never out without one.
            with file_set.replaced(files_of({**out, name: entry})):
                take_out(haproxy, server, ends=ends)
    return Change(changed, left=changed and before is None)


def take_out(haproxy: runtime.Runtime, server: ServerState | None, *, ends: bool) -> None:
    """Send no more requests to a server, or leave HAProxy as it was. `ends`: end its checks too."""
    if server is None:
        return
    try:
        haproxy.leave(server.name)
        if ends:
            haproxy.out(server.name)
    except LoadBalancerError:
        if server.weight > 0:
            with contextlib.suppress(LoadBalancerError):
                haproxy.join(server.name)
        raise


def admit(haproxy: runtime.Runtime, parameters: Mapping[str, Any], *, check: bool) -> Change:
    """Admit the host if the procedure may."""
    name = parameters["name"]
    end = time.monotonic() + parameters["deadline"]
    while True:
        with rotation.locked(paths.ROTATION):
            server = (running(haproxy) or {}).get(name)
            if not may_join(server, parameters):
                return Change()
            if check:
                return Change(changed=True)
            call(parameters, runs=server is not None)
            if server is None:
                forget(name)
                return Change(changed=True)
            haproxy.check(name)
        # Without the lock, because other hosts leave and join meanwhile.
        server = haproxy.await_checked(name, end - time.monotonic())
        with rotation.locked(paths.ROTATION):
            # Meanwhile, an operator may have taken the host out.
            if not may_join(server, parameters):
                return Change()
            # Meanwhile, a reload may have ended the checks.
            if server is not None and server.is_in_maintenance and time.monotonic() < end:
                continue
            join(haproxy, server, name)
        break
    if server is not None and not server.has_passed:
        raise NotServingError(
            f"{name} is admitted, but after {parameters['deadline']} s HAProxy sees it {server}. It"
            " gets requests as soon as its checks pass. Find out why they fail:"
            f" ansible-playbook playbooks/triage.yml -l {name}"
        )
    return Change(changed=True)


def call(parameters: Mapping[str, Any], *, runs: bool) -> None:
    """Have HAProxy call the host as it serves now. `runs`: whether it runs; if not, it starts with that."""
    settings = Settings.load(paths.LOAD_BALANCER_SETTINGS)
    present = next((each for each in settings.servers if each.name == parameters["name"]), None)
    if present is None or not parameters["server"]:
        return
    server = replace(present, **parameters["server"])
    wanted = target.calling(server, parameters["ca"], settings, rotation.read(paths.ROTATION))
    if wanted is None:
        return
    if runs:
        in_force.call(wanted)
    else:
        with file_set.replaced([file for file in wanted.files() if not file.is_current()]):
            pass


def may_join(server: ServerState | None, parameters: Mapping[str, Any]) -> bool:
    """Whether the procedure may admit the host, and the host is out."""
    entry = rotation.read(paths.ROTATION).get(parameters["name"])
    if entry is not None:
        return rotation.may_admit(entry, parameters["procedure"], parameters["who"])
    # Somebody may have changed HAProxy by hand.
    is_out = server is not None and (server.weight == 0 or server.is_in_maintenance)
    return parameters["procedure"] == "rotation_in" and is_out


def join(haproxy: runtime.Runtime, server: ServerState | None, name: str) -> None:
    """Send requests to a server and remove its entry, or leave it out."""
    if server is not None:
        if server.is_in_maintenance:
            haproxy.check(name)
        haproxy.join(name)
    try:
        # The record last: a run that is killed here must not leave a host out without a record.
        forget(name)
    except (OSError, LoadBalancerError):
        if server is not None:
            haproxy.leave(name)
        raise


def forget(name: str) -> None:
    """Remove the entry of a host."""
    out = rotation.read(paths.ROTATION)
    out.pop(name, None)
    with file_set.replaced(files_of(out)):
        pass


def has(servers: Mapping[str, ServerState] | None, name: str) -> bool:
    """Whether HAProxy has the host, or would have it after a start."""
    if servers is not None:
        return name in servers
    return name in {each.name for each in Settings.load(paths.LOAD_BALANCER_SETTINGS).servers}


def look(servers: Mapping[str, ServerState], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Who is in rotation, as the module reports it."""
    out = rotation.read(paths.ROTATION)
    entry = out.get(parameters["name"])
    return {
        "entry": asdict(entry) if entry else None,
        "is_own": entry is not None and rotation.may_admit(entry, parameters["procedure"], parameters["who"]),
        "servers": {name: {**asdict(each), "serves": each.is_up} for name, each in servers.items()},
        "out": {name: asdict(each) for name, each in out.items()},
    }


def answer(module: AnsibleModule, haproxy: runtime.Runtime) -> dict[str, Any]:
    """Do what is requested; the module's result."""
    parameters = module.params
    if parameters["state"] == "info":
        return {"changed": False, "left": False, **look(haproxy.servers(), parameters)}
    act = admit if parameters["state"] == "in" else leave
    change = act(haproxy, parameters, check=module.check_mode)
    servers = running(haproxy)
    if servers is None:
        module.warn(
            "HAProxy does not run, so it sends no requests. When it starts, it uses the record of the hosts"
            " that are out. Start it: `systemctl start haproxy`"
        )
    return {**asdict(change), **look(servers or {}, parameters)}


def main() -> None:
    """Take out, admit, or only report."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["leaving", "out", "in", "info"], "required": True},
            **{name: {"type": "str", "default": ""} for name in ("name", "procedure", "who", "why")},
            "least": {"type": "str", "default": "50%"},
            "force": {"type": "bool", "default": False},
            "deadline": {"type": "int", "default": 60},
            "server": {
                "type": "dict",
                "options": {
                    "port": {"type": "int", "required": True},
                    "tls": {"type": "bool", "required": True},
                    "tls_name": {"type": "str", "required": True},
                },
            },
            "ca": {"type": "str", "default": ""},
        },
        required_if=[("state", state, ("name", "procedure", "who")) for state in ("leaving", "out", "in")],
        supports_check_mode=True,
    )
    try:
        # Before anything else, so that a wrong value is found on the first run.
        rotation.must_stay(module.params["least"], 1)
        if not paths.LOAD_BALANCER_SETTINGS.exists():
            module.exit_json(changed=False, left=False, entry=None, is_own=False, servers=None, out={})
        module.exit_json(**answer(module, runtime.Runtime(paths.HAPROXY_SOCKET)))
    except RefusedError as error:
        module.fail_json(msg=str(error), refused=True)
    except NotServingError as error:
        module.fail_json(msg=str(error), admitted=True)
    except LoadBalancerError as error:
        module.fail_json(msg=str(error))
    except TimeoutError as error:
        module.fail_json(msg=f"The rotation was not changed. {error.filename}: {error.strerror}")
    except OSError as error:
        module.fail_json(
            msg=f"The rotation was not changed. {error.filename or 'A file'} cannot be written:"
            f" {error.strerror}. Free space on its disk, or make it writable"
        )


if __name__ == "__main__":
    main()
