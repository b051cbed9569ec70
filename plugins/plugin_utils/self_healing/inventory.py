"""The inventory with which the monitoring host runs procedures: only what they need. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts
from ansible_collections.katago.fleet.plugins.plugin_utils.run.variables import OF_HOSTS

CREDENTIALS = f"/run/credentials/{paths.FLEET_HEALING_UNIT}"
KEY = f"{CREDENTIALS}/id_ed25519"
KNOWN_HOSTS = "/etc/katago-healing/known_hosts"
ROLES = ("evidence", "incident", "procedure", "rotation", "triage")
"""The roles whose variables every allowed procedure may need."""
OF_BACKUP = "backup"
"""The role of backups, whose variables are secrets. They are left out unless backups are allowed."""
_LEFT_OUT = ("evidence_key", "procedure_evidence_key", "triage_json", "triage_fail_on", "incident_inputs")
_SSH = 22
_GROUPS = (fleet_hosts.GROUP, fleet_hosts.LOAD_BALANCERS, fleet_hosts.MONITORING)

Groups = Mapping[str, Sequence[str]]
Variables = Mapping[str, Mapping[str, Any]]


def names(groups: Groups) -> list[str]:
    """All hosts of the fleet, of the load balancers and of monitoring."""
    return sorted({name for group in _GROUPS for name in groups.get(group) or ()})


def rendered(
    groups: Groups,
    variables: Variables,
    options: Mapping[str, Collection[str]],
    *,
    actions: Collection[str],
    records: str,
) -> str:
    """The inventory as JSON.

    Args:
        groups: the names of hosts by group.
        variables: those of each host.
        options: the names of the variables of each role.
        actions: what healing may do.
        records: the directory for records on the monitoring host.
    """
    roles = [*ROLES, *([OF_BACKUP] if "back_up" in actions else [])]
    wanted = {*OF_HOSTS, *(name for role in roles for name in options[role])} - set(_LEFT_OUT)
    hosts = {name: _host(name, variables[name], wanted) for name in names(groups)}
    children: dict[str, Any] = {
        group: {"hosts": {name: {} for name in groups[group]}} for group in _GROUPS if groups.get(group)
    }
    common = {
        "ansible_user": paths.FLEET_HEALING_ACCOUNT,
        "ansible_become": True,
        "ansible_ssh_private_key_file": KEY,
        "ansible_ssh_common_args": (
            f"-o UserKnownHostsFile={KNOWN_HOSTS} -o GlobalKnownHostsFile=/dev/null"
            " -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        ),
        "katago_records_dir": records,
    }
    return json.dumps({"all": {"hosts": hosts, "vars": common, "children": children}}, indent=1) + "\n"


def _host(name: str, variables: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    own = {key: _plain(variables[key]) for key in sorted(wanted) if key in variables}
    return {
        **own,
        "ansible_host": fleet_hosts.address(name, variables),
        "ansible_port": _port(variables),
    }


def known_hosts(groups: Groups, variables: Variables, previous: str) -> str:
    """The lines of known_hosts, from the keys that the hosts reported.

    `previous`: the lines until now. They stay for hosts of the inventory that were not asked in this run.
    """
    return "".join(f"{line}\n" for line in _known(groups, variables, previous.splitlines()))


def _known(groups: Groups, variables: Variables, previous: Sequence[str]) -> Iterator[str]:
    for name in names(groups):
        address, port = fleet_hosts.address(name, variables[name]), _port(variables[name])
        at = address if port == _SSH else f"[{address}]:{port}"
        keys = str(variables[name].get("fleet_healing_host_keys") or "").splitlines()
        reported = [f"{at} {' '.join(key.split()[:2])}" for key in keys if key.strip()]
        yield from reported or (line for line in previous if line.split(" ")[0] == at)


def _port(variables: Mapping[str, Any]) -> int:
    """The port of SSH at the address at which hosts reach each other."""
    return int(variables.get("monitoring_ssh_port") or _SSH)


def _plain(value: Any) -> Any:
    """A value without Ansible's types, whose content is rendered when it is read."""
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in value}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, str):
        return str(value)
    return value
