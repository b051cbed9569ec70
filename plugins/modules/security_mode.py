#!/usr/bin/python
"""Starts or ends the security mode of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: security_mode
short_description: Start or end the security mode of a host
description:
  - In security mode only the procedures C(security) and C(backup) may change the host, and nothing is
    pruned. Starting the mode stops, restarts and deletes nothing, so processes, memory and disks stay
    unchanged as evidence.
  - Clients are cut off by a separate nftables table, C(inet katago_security), which is loaded in one
    transaction. It drops traffic from other hosts to the service's ports, also on open connections. The
    host's own checks, SSH and all other ports keep working. Other tables are not changed.
  - The record is written first, to C(/run) and to C(/var/lib/katago-security). The mode therefore also holds
    on a host with full or read-only disks, and after a run that was killed. A unit loads the table at every
    boot, before the network. If this unit cannot be written, C(message) reports it.
  - Ending the mode removes the table, which leaves the firewall exactly as it was before.
  - Starting the mode again keeps who started it and why. It can extend isolation, but never reduce it.
  - Shows the table before and after in check mode and with C(--diff).
options:
  state:
    description: C(on) starts the mode, C(off) ends it, C(shown) only reports it.
    type: str
    choices: ["on", "off", shown]
    required: true
  why:
    description: The reason, one line of at most 1000 characters. Required for C(on) and C(off).
    type: str
    default: ""
  who:
    description: Who starts or ends the mode.
    type: str
    required: true
  incident:
    description: The incident that the mode belongs to.
    type: str
    default: ""
  isolate:
    description: Whether to cut clients off.
    type: bool
    default: true
  egress:
    description: Whether to drop outgoing traffic of the service's user too.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Start security mode
  katago.fleet.security_mode:
    state: "on"
    why: 40 logins a second from an unknown network
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
mode:
  description: The mode; since, who, why, incident, isolated, egress, rules. Null if the host is not in it.
  type: dict
  returned: success
isolated:
  description: Whether clients are cut off; null if they need not be.
  type: bool
  returned: success
message:
  description: What was changed, or the current state, in sentences.
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
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, endings, files
from ansible_collections.katago.fleet.plugins.module_utils.procedure import isolation, security_mode

UNIT_FILE = Path("/etc/systemd/system") / paths.ISOLATION_UNIT
WANTED = Path("/etc/systemd/system/sysinit.target.wants") / paths.ISOLATION_UNIT


class IsolationError(Exception):
    """The host is in the mode, but clients are not cut off; the message has the reason."""


def run(*arguments: str | Path, stdin: str | None = None) -> None:
    """Run a command. Raises CalledProcessError, with the command's output."""
    subprocess.run(arguments, input=stdin, check=True, capture_output=True, text=True, timeout=60)


def required_rules(mode: security_mode.Mode) -> str:
    """The table for nft in this mode; empty if the mode does not isolate.

    Raises:
        RefusedError: if the host cannot be isolated.
    """
    if not mode.isolated:
        return ""
    if not paths.NFT.exists():
        raise security_mode.RefusedError(
            f"Clients cannot be cut off without {paths.NFT}, which is missing. Install it with"
            " `apt-get install nftables`, or start the mode without isolation: -e isolate=false"
        )
    ssh = isolation.ssh_ports(os.environ, paths.PROC)
    ports = isolation.service_ports() - ssh
    if not ports:
        raise security_mode.RefusedError(
            "Clients cannot be cut off: every port of the service is also a port of SSH, which stays open."
            " Start the mode without isolation: -e isolate=false"
        )
    return isolation.ruleset(ports, ssh, service_user() if mode.egress else None)


def service_user() -> int:
    """The numeric id of the unit's user. Raises RefusedError if the unit has no user of its own."""
    done = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "--property=User", "--value"],
        capture_output=True,
        text=True,
        check=True,
    )
    name = done.stdout.strip()
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise security_mode.RefusedError(
            f"{paths.SERVICE_UNIT} runs as {name or 'root'!r}, not as a user of its own, so its outgoing"
            " traffic cannot be dropped separately. Run again without -e egress=true."
        ) from None


def record(mode: security_mode.Mode) -> str:
    """Write the record; return why it will not survive a reboot, empty if it will."""
    content = security_mode.as_text(mode).encode()
    files.write(paths.SECURITY_MODE_VOLATILE, content, mode=0o600)
    try:
        directories.make(paths.SECURITY_DIRECTORY, own=paths.SECURITY_DIRECTORY, mode=directories.PRIVATE)
        files.write(paths.SECURITY_MODE_LASTING, content, mode=0o600)
    except OSError as error:
        return str(error)
    return ""


def load_at_boot(rules: str) -> str:
    """Install the unit that loads the table at boot; return why that failed, empty if it did not."""
    try:
        files.write(paths.ISOLATION_RULES, rules.encode(), mode=0o600)
        files.write(UNIT_FILE, isolation.unit().encode(), mode=0o644)
        directories.make(WANTED.parent)
        files.link(WANTED, str(UNIT_FILE))
        run("systemctl", "daemon-reload")
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return ""


def is_lasting(mode: security_mode.Mode, rules: str) -> bool:
    """Whether all files that make the mode survive a reboot exist and are up to date."""
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
    """Load the table in one transaction; return the mode with the table as nft lists it.

    Raises:
        IsolationError: if nft does not load the table.
    """
    try:
        run(paths.NFT, "-f", "-", stdin=rules)
        table = isolation.listed()
    except (OSError, subprocess.SubprocessError) as error:
        raise IsolationError(endings.of_error(error)) from error
    if table is None:
        raise IsolationError(f"nft reported success, but does not list the table {isolation.TABLE}")
    return replace(mode, rules=table)


def put_on(module: AnsibleModule) -> dict[str, Any]:
    """Write the record, install the unit for reboots, cut clients off; the module's result."""
    parameters = module.params
    before = security_mode.standing(*paths.SECURITY_MODE)
    mode = security_mode.entered(
        before,
        now=timestamps.now(),
        who=parameters["who"],
        why=parameters["why"],
        incident=parameters["incident"],
        isolated=parameters["isolate"],
        egress=parameters["egress"],
    )
    rules = required_rules(mode)
    table = isolation.listed() if rules else None
    in_force = not rules or (bool(mode.rules) and table == mode.rules)
    done = before == mode and in_force and paths.SECURITY_MODE_VOLATILE.exists() and is_lasting(mode, rules)
    problem = ""
    if not done and not module.check_mode:
        problem = record(mode)
        if rules:
            problem = problem or load_at_boot(rules)
            mode = isolate(mode, rules)
            problem = record(mode) or problem
    predicted = module.check_mode and not done
    standing = "would be" if predicted else "is already" if done else "is now"
    message = f"The host {standing} in security mode {mode}. {effects(mode, rules, predicted=predicted)}"
    if problem:
        message += f" This does NOT survive a reboot: {problem}."
    return {
        "changed": not done,
        "mode": asdict(mode),
        "isolated": bool(rules) or None,
        "message": message,
        "diff": difference(table, table if done else rules),
    }


def effects(mode: security_mode.Mode, rules: str, *, predicted: bool = False) -> str:
    """What is, or would be, cut off, as a sentence."""
    are, is_ = ("would be", "would be") if predicted else ("are", "is")
    if not rules:
        return f"Clients {'would not be' if predicted else 'are not'} cut off."
    ports = ", ".join(
        map(str, sorted(isolation.service_ports() - isolation.ssh_ports(os.environ, paths.PROC)))
    )
    text = f"Clients {are} cut off from the ports {ports}"
    return f"{text}, and outgoing traffic of the service's user {is_} dropped." if mode.egress else f"{text}."


def put_off(module: AnsibleModule) -> dict[str, Any]:
    """Remove the unit, the table and, last of all, the record; the module's result."""
    why = security_mode.reason(module.params["why"])
    mode = security_mode.standing(*paths.SECURITY_MODE)
    table = isolation.listed() if paths.NFT.exists() else None
    files_to_remove = [
        path
        for path in (WANTED, UNIT_FILE, paths.ISOLATION_RULES, paths.SECURITY_MODE_LASTING)
        if _is_there(path)
    ]
    if mode is None and table is None and not files_to_remove:
        return result(False, "The host is not in security mode.")
    if not module.check_mode:
        if mode and not paths.SECURITY_MODE_VOLATILE.exists():
            # This record keeps the host in the mode until everything else is removed.
            files.write(paths.SECURITY_MODE_VOLATILE, security_mode.as_text(mode).encode(), mode=0o600)
        for path in files_to_remove:
            path.unlink(missing_ok=True)
        if UNIT_FILE in files_to_remove:
            run("systemctl", "daemon-reload")
        with contextlib.suppress(OSError):
            paths.SECURITY_DIRECTORY.rmdir()
        if table is not None:
            run(paths.NFT, "delete", "table", "inet", isolation.TABLE)
        paths.SECURITY_MODE_VOLATILE.unlink(missing_ok=True)
    was = "is" if module.check_mode else "was"
    details = f" It {was} in the mode {mode}." if mode else ""
    left, is_ = ("would leave", "would be") if module.check_mode else ("is no longer in", "is")
    message = f"The host {left} security mode: {why.rstrip('.')}.{details} The firewall {is_} restored."
    return {**result(True, message), "diff": difference(table, "")}


def result(changed: bool, message: str, state: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A result of the module, with the state of isolation, if any."""
    return {"changed": changed, "mode": None, "isolated": None, "message": message, **(state or {})}


def show() -> dict[str, Any]:
    """Report the mode; the module's result."""
    state = isolation.look()
    if state["mode"] is None:
        return result(False, "The host is not in security mode.", state)
    clients = {
        None: "Clients are not cut off; the mode was started without isolation.",
        True: "Clients are cut off.",
        False: "Clients are NOT cut off: the table was changed or removed. Start the mode again.",
    }[state["isolated"]]
    mode = security_mode.Mode(**state["mode"])
    return result(False, f"The host is in security mode {mode}. {clients}", state)


def difference(before: str | None, after: str | None) -> dict[str, str]:
    """The table before and after, in Ansible's format for differences."""
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
    """Start, end, or show the mode."""
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
            msg=f"The host is in security mode, but clients are NOT cut off: {error}. Procedures are blocked."
            " Remove the host from the load balancer or block it in its network, then run again."
        )
    except (OSError, subprocess.SubprocessError) as error:
        state = "is" if security_mode.standing(*paths.SECURITY_MODE) else "is not"
        reason = endings.of_error(error)
        module.fail_json(
            msg=f"The host {state} in security mode, but not all steps were done: {reason}. Run again."
        )


if __name__ == "__main__":
    main()
