"""Which hosts are in rotation, as every load balancer sees them: lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.rotation import Entry
from ansible_collections.katago.fleet.plugins.plugin_utils.run import rotation


def lines(answers: Sequence[rotation.Answer], hosts: Iterable[str]) -> list[str]:
    """One line for each load balancer, and below it one for each of the hosts."""
    names = sorted(hosts)
    return [line for answer in answers for line in _of_balancer(answer, names)]


def _of_balancer(answer: rotation.Answer, hosts: Sequence[str]) -> Iterator[str]:
    name = rotation.balancer(answer)
    if not rotation.works(answer):
        yield f"{name}: unknown, {rotation.reason(answer)}"
        return
    if answer["servers"] is None:
        yield f"{name}: not set up. Set it up: ansible-playbook playbooks/load_balancer.yml"
        return
    yield f"{name}:"
    width = max(map(len, hosts), default=0)
    for host in hosts:
        yield f"  {host:<{width}}  {_state(answer['servers'].get(host), answer['out'].get(host), host)}"


def _state(server: Mapping[str, Any] | None, out: Mapping[str, Any] | None, host: str) -> str:
    if server is None:
        return "unknown to HAProxy; add it: ansible-playbook playbooks/load_balancer.yml"
    check = f", last check: {server['check']}" if server["check"] else ""
    seen = f"{server['status']} (weight {server['weight']}{check}, {server['sessions']} in progress)"
    if out is not None:
        return f"out  {seen}; {Entry(**out)}"
    if server["weight"] == 0 or server["status"].startswith("MAINT"):
        return (
            f"in   {seen}; changed by hand in HAProxy: ansible-playbook playbooks/rotation_in.yml -l {host}"
        )
    return f"in   {seen}"
