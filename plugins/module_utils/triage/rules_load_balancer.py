"""Rules for a load balancer: HAProxy, its configuration and servers, the virtual address, the certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import rotation as record
from ansible_collections.katago.fleet.plugins.module_utils.severity import Level
from ansible_collections.katago.fleet.plugins.module_utils.triage import at_work, reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import Facts
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts_load_balancer import (
    BalancerCertificate,
    BalancerServer,
    BalancerUnit,
    Fleet,
    Haproxy,
    HaproxyConfig,
    OutOfRotation,
    Rotation,
    VirtualAddress,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

CERTIFICATE_DAYS = 21
CERTIFICATE_URGENT_DAYS = 3
_DAY = 86400
_CONFIGURED = "the configuration of the inventory"


def haproxy(haproxy: Haproxy, fleet: Fleet) -> Iterator[Reason]:
    """Report a HAProxy that does not run or does not answer."""
    alone = len(fleet["load_balancers"]) < 2
    level: Level = "P0" if alone else "P1"
    if haproxy["load"] == "not-found":
        measured = "haproxy.service does not exist: this load balancer was not set up"
        yield Reason(level, "haproxy", measured, "set up", next=reason.LOAD_BALANCER)
    elif haproxy["load"] == "masked":
        measured = f"haproxy.service is {haproxy['active']} and masked, so it cannot start"
        level = "P2" if haproxy["active"] == "active" else level
        yield Reason(level, "haproxy", measured, "not masked; run `systemctl unmask haproxy`")
    elif haproxy["active"] != "active":
        measured = f"haproxy.service is {_state(haproxy)}: clients get no answer from this load balancer"
        yield Reason(level, "haproxy", measured, "active", next=reason.LOAD_BALANCER)
    elif haproxy["silent"]:
        measured = f"HAProxy runs, but does not answer at its runtime socket: {haproxy['silent']}"
        expected = "an answer; if load_balancer.yml does not repair it, run `systemctl restart haproxy`"
        yield Reason(level, "haproxy", measured, expected, next=reason.LOAD_BALANCER)


def haproxy_config(config: HaproxyConfig) -> Iterator[Reason]:
    """Report a configuration that HAProxy rejects, that was edited, or that the process does not use."""
    for problem in config["problems"]:
        measured = f"haproxy.cfg is not valid, so HAProxy would not start again: {problem}"
        yield Reason("P2", "haproxy_config", measured, _CONFIGURED, next=reason.LOAD_BALANCER)
    if config["problems"]:
        return
    if config["edited"]:
        measured = "haproxy.cfg differs from the settings: it was edited, or an earlier version rendered it"
        yield Reason("P3", "haproxy_config", measured, _CONFIGURED, next=reason.LOAD_BALANCER)
    elif config["in_use"] is False:
        measured = "the running HAProxy uses other settings, or those that an earlier version rendered"
        yield Reason("P3", "haproxy_config", measured, _CONFIGURED, next=reason.LOAD_BALANCER)


def rotation(rotation: Rotation, fleet: Fleet, clock: float | None) -> Iterator[Reason]:
    """Report hosts that are out of rotation, that HAProxy calls down, or on which record and HAProxy differ.

    `clock`: the host's time, by which the record was written.
    """
    out, servers = rotation["out"], rotation["servers"]
    if servers is None:
        yield from (_recorded(name, entry, clock) for name, entry in sorted(out.items()))
        return
    serving = [name for name, server in servers.items() if serves(server)]
    if not serving:
        measured = f"none of {len(servers)} hosts gets requests: clients get 503"
        yield Reason("P0", "rotation", measured, "at least one host that serves")
    differing = disagreements(rotation)
    for name in sorted({*servers, *fleet["hosts"]}):
        server, entry = servers.get(name), out.get(name)
        if server is None:
            measured = f"HAProxy does not have {name}, a host of the inventory"
            expected = "every host of the group katago; remove it from the inventory if it is gone"
            yield Reason("P2", "rotation", measured, expected, next=reason.LOAD_BALANCER)
        elif name not in fleet["hosts"]:
            measured = f"HAProxy has {name} ({server['address']}), which is not in the inventory"
            yield Reason("P3", "rotation", measured, "only the fleet", next=reason.LOAD_BALANCER)
        elif name in differing:
            yield _differing(name, entry, server)
        elif entry is not None:
            yield _recorded(name, entry, clock)
        elif not serves(server):
            check = f": {server['check']}" if server["check"] else ""
            measured = f"{name} ({server['address']}) is in rotation, but HAProxy calls it {server['status']}"
            step = reason.on(reason.VALIDATE, name)
            yield Reason("P2", "rotation", f"{measured}{check}", "UP", next=step)


def disagreements(rotation: Rotation) -> list[str]:
    """The hosts that are out by the record and in by HAProxy, or the other way round."""
    servers, out = rotation["servers"] or {}, rotation["out"]
    return sorted(name for name, server in servers.items() if is_taken_out(server) is not (name in out))


def is_taken_out(server: BalancerServer) -> bool:
    """Whether HAProxy sends a server no new requests, whatever its health checks say."""
    return server["weight"] == 0 or server["status"].startswith("MAINT")


def virtual_address(shared: VirtualAddress | None) -> Iterator[Reason]:
    """Report a keepalived that does not run: the virtual address cannot move to this load balancer."""
    if shared is None or shared["unit"]["active"] == "active":
        return
    unit = shared["unit"]
    measured = f"keepalived.service is {_state(unit)}, so {shared['address']} cannot move to this host"
    if unit["load"] == "masked":
        yield Reason("P2", "virtual_address", measured, "not masked; run `systemctl unmask keepalived`")
    else:
        yield Reason("P2", "virtual_address", measured, "active", next=reason.LOAD_BALANCER)


def certificate(certificate: BalancerCertificate | None, clock: float) -> Iterator[Reason]:
    """Report a certificate that has expired, or soon will."""
    if certificate is None:
        return
    end = certificate.get("ends_at")
    if end is None:
        yield reason.unknown("certificate", "the certificate that HAProxy presents cannot be read")
        return
    days = (end - clock) / _DAY
    if days >= CERTIFICATE_DAYS:
        return
    level: Level = "P0" if days <= 0 else "P2" if days < CERTIFICATE_URGENT_DAYS else "P3"
    verb = "expired" if days <= 0 else f"expires in {days:.0f} days,"
    yield Reason(
        level,
        "certificate",
        f"the certificate of clients {verb} at {timestamps.stamp(end)}",
        f"{CERTIFICATE_DAYS} days or more; replace load_balancer_tls_certificate",
        next=reason.LOAD_BALANCER,
    )


def between(facts: Mapping[str, Facts]) -> dict[str, list[Reason]]:
    """What only several load balancers together show, by the load balancer that it is reported for.

    `facts`: by host. Hosts that are no load balancers are ignored.
    """
    reasons: dict[str, list[Reason]] = {}
    for name, each in (*_of_address(facts), *_of_records(facts)):
        reasons.setdefault(name, []).append(each)
    return reasons


def _of_address(facts: Mapping[str, Facts]) -> Iterator[tuple[str, Reason]]:
    """The virtual address is held by nobody, by several, or not shared by all load balancers."""
    shared = {
        name: each.values["virtual_address"]
        for name, each in facts.items()
        if "virtual_address" in each.values
    }
    sharing = {name: each for name, each in shared.items() if each is not None}
    for name, each in shared.items():
        if each is None and sharing:
            others = ", ".join(sorted(sharing))
            measured = f"keepalived does not share the virtual address here, but on {others}"
            yield name, Reason("P2", "virtual_address", measured, _CONFIGURED, next=reason.LOAD_BALANCER)
    by_address: dict[str, dict[str, VirtualAddress]] = {}
    for name, each in sharing.items():
        by_address.setdefault(each["address"], {})[name] = each
    for address, members in by_address.items():
        holders = sorted(name for name, each in members.items() if each["held"] == "always")
        if len(holders) > 1:
            measured = f"{address} is held by {' and '.join(holders)}: connections of clients break"
            expected = "one holder; VRRP (protocol 112) must pass between the load balancers"
            for name in holders:
                yield name, Reason("P1", "virtual_address", measured, expected, next=reason.LOAD_BALANCER)
        if all(each["held"] == "never" and each["refused"] for each in members.values()):
            measured = f"no load balancer has {address}, and nothing answers there"
            for name, each in members.items():
                yield (
                    name,
                    Reason(
                        "P0",
                        "virtual_address",
                        f"{measured}: {each['refused']}",
                        "one holder",
                        next=reason.LOAD_BALANCER,
                    ),
                )


def _of_records(facts: Mapping[str, Facts]) -> Iterator[tuple[str, Reason]]:
    """A host is out of rotation on one load balancer and in rotation on another."""
    rotations = {
        name: each.values["rotation"] for name, each in sorted(facts.items()) if "rotation" in each.values
    }
    clock = max((each.values.get("clock", 0.0) for each in facts.values()), default=0.0)
    for balancer, state in rotations.items():
        for other, elsewhere in rotations.items():
            for name, entry in sorted(elsewhere["out"].items()):
                if (
                    name in state["out"]
                    or name not in (state["servers"] or {})
                    or _may_be_at_work(entry, clock)
                ):
                    continue
                measured = f"{name} is in rotation here, but out on {other}: {_entry(entry)}"
                step = reason.on(f"rotation_out.yml -e 'why=\"as on {other}\"'", name)
                yield balancer, Reason("P2", "rotation", measured, "the same on all", next=step)


def serves(server: BalancerServer) -> bool:
    """Whether HAProxy sends requests to a server."""
    return server["status"].startswith("UP") and server["weight"] > 0


def _differing(name: str, entry: OutOfRotation | None, server: BalancerServer) -> Reason:
    seen = f"{server['status']}, weight {server['weight']}"
    if entry is None:
        measured = f"{name} was taken out of rotation in HAProxy by hand ({seen}); there is no record of it"
        return Reason("P2", "rotation", measured, "a record", next=reason.on(reason.ROTATION_IN, name))
    measured = f"HAProxy may send requests to {name} ({seen}), but {_entry(entry)}"
    return Reason("P2", "rotation", measured, "out of rotation", next=reason.LOAD_BALANCER)


def _recorded(name: str, entry: OutOfRotation, clock: float | None) -> Reason:
    """A host that is out as recorded. Worse if a procedure that should have admitted it is over."""
    measured = f"{name} is out of rotation: {_entry(entry)}"
    if entry["procedure"] == "security_on":
        return Reason("P3", "rotation", measured, "in rotation", next=reason.on(reason.SHOW_SECURITY, name))
    step = reason.on(reason.ROTATION_IN, name)
    if entry["procedure"] in record.PERMANENT:
        return Reason("P3", "rotation", measured, "in rotation", next=step)
    if _may_be_at_work(entry, clock):
        measured += f". {entry['procedure']} may be at work; it admits the host at its end"
        return Reason("P3", "rotation", measured, "in rotation", next=reason.on(reason.TRIAGE, name))
    return Reason("P2", "rotation", f"{measured}. It did not admit the host", "in rotation", next=step)


def _may_be_at_work(entry: OutOfRotation, clock: float | None) -> bool:
    """Whether the procedure that took a host out may still be running."""
    if entry["procedure"] in record.PERMANENT or clock is None:
        return False
    try:
        age = clock - timestamps.parse(entry["since"]).timestamp()
    except ValueError:
        return False
    return age <= at_work.LONGEST_SECONDS


def _entry(entry: OutOfRotation) -> str:
    return str(record.Entry(**entry))


def _state(unit: BalancerUnit) -> str:
    return f"{unit['active']} ({unit['sub']}, result {unit['result']})"
