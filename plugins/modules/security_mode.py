#!/usr/bin/python
"""Puts a host into security mode, or ends that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: security_mode
short_description: Put a host into security mode, or end that
description:
  - In the mode only C(security) and C(backup) work on the host, and nothing is pruned. Nothing is stopped,
    restarted or deleted by it, so that processes, memory and disks stay what they are.
  - Clients are cut off by an nftables table of its own, C(inet katago_security), loaded in one transaction.
    It drops what reaches the service's ports from outside, connections that are open too. The host's own
    checks, SSH and all other ports are as they were; no rule of another table is changed.
  - The record is written first, to C(/run) and to C(/var/lib/katago-security), so that the mode holds on a
    host whose disks are full or read-only, and after a run that was killed. A unit loads the table at every
    boot, before the network; where that cannot be written, C(message) says so.
  - Ending it takes the table away, which leaves the firewall byte for byte as it was.
  - Who began it and why stays when it is put on again; what is cut off then is more, never less.
  - In check mode, and with C(--diff), shows the table before and after.
options:
  state:
    description: What to do; C(shown) changes nothing.
    type: str
    choices: ["on", "off", shown]
    required: true
  why:
    description: The reason, in one line of at most 1000 characters. Needed for C(on) and C(off).
    type: str
    default: ""
  who:
    description: Who does it.
    type: str
    required: true
  incident:
    description: The incident that it belongs to.
    type: str
    default: ""
  isolate:
    description: Whether clients are cut off.
    type: bool
    default: true
  egress:
    description: Whether what the service's user sends out of the host is dropped too.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The host is in security mode
  katago.fleet.security_mode:
    state: "on"
    why: 40 logins a second from an unknown network
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
mode:
  description: The mode; since, who, why, incident, isolated, egress, rules. Null when the host is in none.
  type: dict
  returned: success
isolated:
  description: Whether the table that cuts clients off is in force; null where it is not to be.
  type: bool
  returned: success
message:
  description: What was done or seen, in a sentence.
  type: str
  returned: success
"""

import contextlib
import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, files
from ansible_collections.katago.fleet.plugins.module_utils.procedure import isolation, security_mode

UNIT_FILE = Path("/etc/systemd/system") / paths.ISOLATION_UNIT
WANTED = Path("/etc/systemd/system/sysinit.target.wants") / paths.ISOLATION_UNIT


class IsolationError(Exception):
    """The mode is on and clients are not cut off; the message says why."""


def run(*arguments: str | Path, given: str | None = None) -> None:
    """Run a command; CalledProcessError with what it said when it fails."""
    subprocess.run(arguments, input=given, check=True, capture_output=True, text=True, timeout=60)


def wanted_rules(mode: security_mode.Mode) -> str:
    """What nft is to load for a mode; empty when it cuts nobody off.

    Raises:
        RefusedError: if the host cannot be cut off.
    """
    if not mode.isolated:
        return ""
    if not paths.NFT.exists():
        raise security_mode.RefusedError(
            f"{paths.NFT} is missing, without which clients cannot be cut off: apt-get install nftables,"
            " as playbooks/deploy.yml does; or -e isolate=false for the mode without that."
        )
    ssh = isolation.ssh_ports(os.environ, paths.PROC)
    ports = isolation.service_ports() - ssh
    if not ports:
        raise security_mode.RefusedError("Every port of the service is one of SSH, which is never cut off.")
    return isolation.ruleset(ports, ssh, service_user() if mode.egress else None)


def service_user() -> int:
    """The numeric id of the user that the unit runs as."""
    shown = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "--property=User", "--value"],
        capture_output=True,
        text=True,
        check=True,
    )
    name = shown.stdout.strip()
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise security_mode.RefusedError(
            f"{paths.SERVICE_UNIT} runs as {name or 'root'!r}, which is no user of its own, so that what"
            " it sends cannot be told from what others send: leave out -e egress=true."
        ) from None


def record(mode: security_mode.Mode) -> str:
    """Write the mode down; why it does not hold over a reboot, empty when it does."""
    content = security_mode.as_text(mode).encode()
    files.write(paths.SECURITY_MODE_VOLATILE, content, mode=0o600)
    try:
        paths.SECURITY_DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        files.write(paths.SECURITY_MODE_LASTING, content, mode=0o600)
    except OSError as error:
        return str(error)
    return ""


def load_at_boot(rules: str) -> str:
    """Have the table loaded at every boot; why that cannot be, empty when it is so."""
    try:
        files.write(paths.ISOLATION_RULES, rules.encode(), mode=0o600)
        files.write(UNIT_FILE, isolation.unit().encode(), mode=0o644)
        WANTED.parent.mkdir(parents=True, exist_ok=True)
        files.link(WANTED, str(UNIT_FILE))
        run("systemctl", "daemon-reload")
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return ""


def is_lasting(mode: security_mode.Mode, rules: str) -> bool:
    """Whether all that holds over a reboot is there as it is to be."""
    expected = {paths.SECURITY_MODE_LASTING: security_mode.as_text(mode)}
    if rules:
        expected |= {paths.ISOLATION_RULES: rules, UNIT_FILE: isolation.unit()}
    try:
        return all(path.read_text() == text for path, text in expected.items()) and (
            not rules or WANTED.is_symlink()
        )
    except OSError:
        return False


def isolate(mode: security_mode.Mode, rules: str) -> security_mode.Mode:
    """Cut clients off, in one transaction; the mode with the table as nft lists it.

    Raises:
        IsolationError: if nft does not take it.
    """
    try:
        run(paths.NFT, "-f", "-", given=rules)
        there = isolation.listed()
    except (OSError, subprocess.SubprocessError) as error:
        raise IsolationError(endings.of_error(error)) from error
    if there is None:
        raise IsolationError(f"nft took the table, and does not list {isolation.TABLE}")
    return replace(mode, rules=there)


def put_on(module: AnsibleModule) -> dict[str, Any]:
    """Record, see that it holds over a reboot, cut off; the module's result."""
    given = module.params
    before = security_mode.standing(*paths.SECURITY_MODE)
    mode = security_mode.entered(
        before,
        now=timestamps.now(),
        who=given["who"],
        why=given["why"],
        incident=given["incident"],
        isolated=given["isolate"],
        egress=given["egress"],
    )
    rules = wanted_rules(mode)
    there = isolation.listed() if rules else None
    in_force = not rules or (bool(mode.rules) and there == mode.rules)
    done = before == mode and in_force and paths.SECURITY_MODE_VOLATILE.exists() and is_lasting(mode, rules)
    problem = ""
    if not done and not module.check_mode:
        problem = record(mode)
        if rules:
            problem = problem or load_at_boot(rules)
            mode = isolate(mode, rules)
            problem = record(mode) or problem
    words = f"{'The host is' if done else 'The host is now'} in security mode {mode}."
    words += f" {told(mode, rules)}"
    if problem:
        words += f" This does NOT hold over a reboot: {problem}."
    return {
        "changed": not done,
        "mode": asdict(mode),
        "isolated": bool(rules) or None,
        "message": words,
        "diff": difference(there, there if done else rules),
    }


def told(mode: security_mode.Mode, rules: str) -> str:
    """What is cut off, in words."""
    if not rules:
        return "Clients are not cut off."
    ports = ", ".join(
        map(str, sorted(isolation.service_ports() - isolation.ssh_ports(os.environ, paths.PROC)))
    )
    words = f"Clients are cut off from the ports {ports}"
    return f"{words}, and what the service's user sends is dropped." if mode.egress else f"{words}."


def put_off(module: AnsibleModule) -> dict[str, Any]:
    """Take away the table, what loads it and, last of all, the record; the module's result."""
    why = security_mode.reason(module.params["why"])
    mode = security_mode.standing(*paths.SECURITY_MODE)
    there = isolation.listed() if paths.NFT.exists() else None
    left = [
        path
        for path in (WANTED, UNIT_FILE, paths.ISOLATION_RULES, paths.SECURITY_MODE_LASTING)
        if _is_there(path)
    ]
    if mode is None and there is None and not left:
        return result(False, "The host is in no security mode.")
    if not module.check_mode:
        if mode and not paths.SECURITY_MODE_VOLATILE.exists():
            # It is what says, until the end, that this is not done.
            files.write(paths.SECURITY_MODE_VOLATILE, security_mode.as_text(mode).encode(), mode=0o600)
        for path in left:
            path.unlink(missing_ok=True)
        if UNIT_FILE in left:
            run("systemctl", "daemon-reload")
        with contextlib.suppress(OSError):
            paths.SECURITY_DIRECTORY.rmdir()
        if there is not None:
            run(paths.NFT, "delete", "table", "inet", isolation.TABLE)
        paths.SECURITY_MODE_VOLATILE.unlink(missing_ok=True)
    was = f", which it was in {mode}," if mode else ""
    words = f"The host is in security mode{was} no more: {why.rstrip('.')}. The firewall is as it was before."
    return {**result(True, words), "diff": difference(there, "")}


def result(changed: bool, message: str, seen: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A result with the mode that was seen, if any."""
    return {"changed": changed, "mode": None, "isolated": None, "message": message, **(seen or {})}


def show() -> dict[str, Any]:
    """What mode the host is in; the module's result."""
    seen = isolation.look()
    if seen["mode"] is None:
        return result(False, "The host is in no security mode.", seen)
    cut = {
        None: "Clients are not to be cut off.",
        True: "Clients are cut off.",
        False: "Clients are NOT cut off: the table was changed or taken away; put the mode on again.",
    }[seen["isolated"]]
    return result(False, f"The host is in security mode {security_mode.Mode(**seen['mode'])}. {cut}", seen)


def difference(before: str | None, after: str | None) -> dict[str, str]:
    """The table before and after, as Ansible shows differences."""
    header = f"nftables: inet {isolation.TABLE}"
    return {
        "before": before or "",
        "after": after or "",
        "before_header": header,
        "after_header": header,
    }


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def main() -> None:
    """Put on, put off, or show."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["on", "off", "shown"], "required": True},
            "why": {"type": "str", "default": ""},
            "who": {"type": "str", "required": True},
            "incident": {"type": "str", "default": ""},
            "isolate": {"type": "bool", "default": True},
            "egress": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    do = module.params["state"]
    try:
        module.exit_json(**(put_on(module) if do == "on" else put_off(module) if do == "off" else show()))
    except security_mode.RefusedError as error:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {error}", refused=True)
    except IsolationError as error:
        module.fail_json(
            msg=f"The host is in security mode, and clients are NOT cut off: {error}. Procedures refuse on"
            " it. Take it out of the balancer, or cut it off where its network is; then run this again."
        )
    except (OSError, subprocess.SubprocessError) as error:
        there = "is" if security_mode.standing(*paths.SECURITY_MODE) else "is not"
        said = endings.of_error(error)
        module.fail_json(msg=f"The host {there} in security mode; not all was done: {said}")


if __name__ == "__main__":
    main()
