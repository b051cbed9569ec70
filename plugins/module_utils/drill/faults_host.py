"""Faults of a whole host: frozen, cut off from the network, lost, with a wrong clock."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.drill import fault
from ansible_collections.katago.fleet.plugins.module_utils.drill.fault import Fault, Request, Seen
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host, RefusedError, frozen_file
from ansible_collections.katago.fleet.plugins.module_utils.drill.parameters import Parameter
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step
from ansible_collections.katago.fleet.plugins.module_utils.drill.steps_network import (
    TABLE,
    Clock,
    Table,
    has_table,
    ruleset,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill.steps_units import (
    Blocked,
    Frozen,
    Hung,
    Unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.procedure import isolation
from ansible_collections.katago.fleet.plugins.module_utils.removal import parts

# Units of a host that may run all the time, besides the units that a deployment puts there.
_OTHERS = (paths.LOAD_BALANCER_UNIT, paths.KEEPALIVED_UNIT)
_DRILL = (paths.DRILL_UNDO_TIMER, paths.DRILL_UNDO_UNIT, paths.DRILL_HELPER_UNIT)
_CAP_SYS_TIME = 1 << 25
_TIME_SERVICES = ("systemd-timesyncd.service", "chrony.service", "ntpsec.service", "ntp.service")


def _ours(host: Host) -> list[str]:
    """Our units that run now, without those of drills. The load balancer only if it is the fleet's."""
    others = _OTHERS if host.places.load_balancer.is_file() else ()
    names = [each for each in (*parts.UNITS, *others) if each not in _DRILL and "@." not in each]
    return [name for name in names if host.active(name) == "active"]


def _frozen(host: Host, _request: Request) -> list[Step]:
    fault.require_service(host)
    services = [name for name in _ours(host) if name.endswith(".service")]
    steps: list[Step] = [Unit(paths.SERVICE_UNIT)]
    for name in services:
        steps.append(Frozen(name) if frozen_file(host, name) else Hung(name, all=True))
    return steps


def _is_frozen(host: Host, steps: Sequence[Step]) -> Seen:
    return fault.remains(host, [each for each in steps if not isinstance(each, Unit)])


def _cut(host: Host, request: Request) -> list[Step]:
    fault.require_service(host)
    return [_table(host, everything=request.text("scope") == "all")]


def _table(host: Host, *, everything: bool) -> Table:
    if not host.places.nft.exists():
        raise RefusedError(f"The fault needs {host.places.nft}, which is missing: apt-get install nftables.")
    if has_table(host):
        raise RefusedError(f"The firewall has a table {TABLE} already: an earlier drill was not undone.")
    if host.run(host.places.nft, "list", "tables")[0]:
        raise RefusedError("The host does not allow firewall tables: `nft list tables` fails.")
    ssh = isolation.ssh_ports(os.environ, host.places.proc)
    ports = None if everything else host.service_ports() - ssh
    if ports is not None and not ports:
        raise RefusedError("Every port of the service is also a port of SSH, which stays open.")
    return Table(ruleset(ports, ssh))


def _lost(host: Host, _request: Request) -> list[Step]:
    ours = _ours(host)
    if not ours:
        raise RefusedError("The host runs none of the units of the fleet, so it cannot be lost.")
    # Timers first, so that none of them starts what is stopped.
    ours.sort(key=lambda name: not name.endswith(".timer"))
    return [
        _table(host, everything=True),
        *(Unit(name, "stop") for name in ours),
        *(Blocked(name) for name in ours),
    ]


def _skewed(host: Host, request: Request) -> list[Step]:
    if host.run("systemd-detect-virt", "--container", "--quiet")[0] == 0:
        raise RefusedError(
            "This host is a container: its clock is that of the machine below it, which is not ours."
        )
    if not _may_set_time(host):
        raise RefusedError("This host does not allow its clock to be set: CAP_SYS_TIME is missing.")
    services = [name for name in _TIME_SERVICES if host.active(name) == "active"]
    boot, uptime = host.boot()
    return [
        *(Unit(name, "stop") for name in services),
        Clock(request.number("seconds"), boot, uptime, host.time()),
    ]


def _may_set_time(host: Host) -> bool:
    status = (host.places.proc / "self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.M)
    return effective is not None and bool(int(effective[1], 16) & _CAP_SYS_TIME)


def _is_skewed(host: Host, steps: Sequence[Step]) -> Seen:
    return fault.remains(host, [each for each in steps if isinstance(each, Clock)])


FAULTS = (
    Fault(
        "host_frozen",
        "All processes of the fleet's units are frozen; SSH still works.",
        "a running service",
        _frozen,
        _is_frozen,
    ),
    Fault(
        "network_cut",
        "The firewall drops traffic of other hosts.",
        "nftables",
        _cut,
        fault.remains,
        (
            Parameter(
                "scope",
                "the ports of the service, or everything except SSH",
                "service",
                ("service", "all"),
            ),
        ),
    ),
    Fault(
        "host_lost",
        "The host is as if it were switched off: nothing of the fleet runs, and only SSH responds.",
        "a unit of the fleet, and nftables",
        _lost,
        fault.remains,
    ),
    Fault(
        "clock_skewed",
        "The clock of the host is wrong.",
        "a host that is not a container and whose clock can be set",
        _skewed,
        _is_skewed,
        (Parameter("seconds", "ahead; negative for behind", 300, least=-86400, most=86400),),
    ),
)
