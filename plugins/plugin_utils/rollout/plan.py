"""Plans a rollout: which hosts change, the canary, the soak, and the batches. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import rotation
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.plugin_utils.rollout import outcomes

MOST_REFERENCES = 10
"""More hosts say no more about a canary, and each one is sampled in every round of a soak."""
_COUNT = re.compile(r"[1-9]\d*")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class PlanError(Exception):
    """The rollout cannot be planned; the message names the input and what is accepted."""


@dataclass(frozen=True)
class Host:
    """A host of the run, as it was observed. `target` is empty if the host decides it when it is visited.

    `reasons`: why it must be visited; empty if it needs no change. `problem`: why it cannot be switched.
    `rejected`: when and why the host rejected the target before; empty if it did not.
    """

    name: str
    current: str | None
    target: str
    reasons: tuple[str, ...] = ()
    problem: str = ""
    rejected: str = ""

    @property
    def changes(self) -> bool:
        """Whether it must be switched to another release."""
        return bool(self.reasons) and self.current != self.target

    @property
    def leaves(self) -> bool:
        """Whether it must be switched from a release that it runs."""
        return self.changes and self.current is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether the target failed on it, or has no verdict because a run was killed before it."""
        return bool(self.reasons) and (bool(self.rejected) or "the release is not validated" in self.reasons)


@dataclass(frozen=True)
class Terms:
    """What the operator and the inventory ask for.

    `canary`: the requested canary; empty for the first pending host. `serial`: hosts at a time, which
    replaces canary and growing batches; empty for those. `minimum`: the hosts that must stay up, as a number
    or a share of all `fleet` hosts. `done`: hosts that an interrupted run of this rollout has switched.
    """

    procedure: str
    fleet: int
    canary: str = ""
    serial: str = ""
    minimum: str = "50%"
    soak_minutes: float = 0
    done: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """The order of a rollout.

    `canary`: the host that is switched first, alone; None if there is none. `soaking`: the host that is
    compared with `references` for `soak_minutes` before the batches; None without a soak. `skipped`: hosts
    that are not visited, and why. `spare`: the most hosts of a batch. `note`: why there is no soak.
    """

    procedure: str
    hosts: tuple[Host, ...]
    canary: str | None
    soaking: str | None
    soak_minutes: float
    references: tuple[str, ...]
    batches: tuple[tuple[str, ...], ...]
    skipped: Mapping[str, str]
    spare: int
    note: str = ""

    @property
    def order(self) -> tuple[str, ...]:
        """The hosts in the order in which they are visited."""
        first = (self.canary,) if self.canary else ()
        return (*first, *(host for batch in self.batches for host in batch))

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        targets = {host.name: host.target for host in self.hosts}
        return {
            **asdict(self),
            "order": list(self.order),
            "sizes": [len(batch) for batch in self.batches],
            "soaking_release": targets.get(self.soaking or "", ""),
        }


def plan(hosts: Sequence[Host], terms: Terms) -> Plan:
    """Plan a rollout over the hosts of a run, in their order. Raises PlanError.

    A host of `terms.done` soaks again if it is the only one: then a run was killed during its soak. Hosts
    that rejected the release come first, in batches that grow from 1 again.
    """
    check_canary(terms.canary, [host.name for host in hosts])
    pending = sorted((host for host in hosts if host.reasons), key=lambda host: not host.rejected)
    if problems := [f"[{host.name}] {host.problem}" for host in pending if host.problem]:
        raise PlanError("\n".join(["Not every host can be switched:", *problems]))
    done = [host.name for host in hosts if not host.reasons and host.name in terms.done]
    canary = _canary(pending, done, terms)
    others = [host.name for host in pending if host is not canary]
    soaking = canary.name if canary else done[0] if len(done) == 1 else None
    references = [host.name for host in pending if host is not canary and host.leaves]
    note = _no_soak(pending, canary, references, done, terms)
    spare = (
        hosts_at_a_time(terms.serial, len(others))
        if terms.serial
        else may_be_missing(terms.minimum, terms.fleet)
    )
    switched = 0 if any(host.rejected for host in pending) else max(0, len(done) - 1)
    sizes = itself(spare) if terms.serial else growing(spare, done=switched)
    return Plan(
        terms.procedure,
        tuple(hosts),
        canary=canary.name if canary else None,
        soaking=None if note else soaking,
        soak_minutes=0 if note else terms.soak_minutes,
        references=() if note else tuple(references[:MOST_REFERENCES]),
        batches=tuple(batches(others, sizes)),
        skipped={
            host.name: outcomes.DONE if host.name in done else outcomes.UNCHANGED
            for host in hosts
            if not host.reasons
        },
        spare=spare,
        note=note,
    )


def check_canary(name: str, names: Sequence[str]) -> None:
    """Raise PlanError if the requested canary is not among the hosts of the run."""
    if name and name not in names:
        raise PlanError(
            f"canary is {name}, which is not a host of this run. Name one of {', '.join(names)},"
            " or leave canary out"
        )


def _canary(pending: Sequence[Host], done: Sequence[str], terms: Terms) -> Host | None:
    """The host that is switched first; None if there is none, or if an interrupted run has switched it.

    The requested host, or else the first one that is doubtful, leaves a release, changes, or is pending.
    """
    named = [host for host in pending if host.name == terms.canary]
    if terms.canary and pending and not named and terms.canary not in done:
        raise PlanError(
            f"canary is {terms.canary}, which needs no change. Name a pending host"
            f" ({', '.join(host.name for host in pending)}), or leave canary out"
        )
    if not named and (terms.serial or done):
        return None
    doubtful = [host for host in pending if host.is_doubtful]
    leaving = [host for host in pending if host.leaves]
    changing = [host for host in pending if host.changes]
    return next(iter([*named, *doubtful, *leaving, *changing, *pending]), None)


def _no_soak(
    pending: Sequence[Host],
    canary: Host | None,
    references: Sequence[str],
    done: Sequence[str],
    terms: Terms,
) -> str:
    """Why there is no soak; empty if there is one."""
    if len(pending) <= (1 if canary else 0):
        return "there is no soak, because no host follows"
    if terms.serial and not terms.canary:
        return f"deploy_serial is {terms.serial}, so there is no canary and no soak"
    if not terms.soak_minutes:
        return "there is no soak (soak_minutes is 0)"
    if not canary and len(done) > 1:
        return f"the soak is over: {len(done)} hosts have the release, validated"
    if not references:
        return "there is no soak, because no other host changes from a release that it runs"
    if canary and canary.current is None:
        return f"there is no soak, because {canary.name} runs no release to which it could be rolled back"
    return ""


def may_be_missing(minimum: object, fleet: int) -> int:
    """How many hosts of a fleet may be missing at a time; at least 1. Raises PlanError.

    `minimum`: the least number of hosts that must stay up, or their share such as "50%".
    """
    try:
        return max(1, fleet - rotation.must_stay(str(minimum), fleet))
    except LoadBalancerError as error:
        raise PlanError(str(error)) from error


def hosts_at_a_time(serial: str, pending: int) -> int:
    """The size of a batch by an input such as 2 or 25%, as Ansible's `serial` reads it. Raises PlanError."""
    text = serial.strip()
    if (share := _SHARE.fullmatch(text)) and 0 < float(share[1]) <= 100:
        return max(1, int(pending * float(share[1]) / 100))
    if _COUNT.fullmatch(text):
        return int(text)
    raise PlanError(f"deploy_serial is {text!r}; give a number of hosts such as 2, or a share such as 25%")


def itself(size: int) -> Iterator[int]:
    """Batches of one size."""
    while True:
        yield size


def growing(most: int, *, done: int = 0) -> Iterator[int]:
    """Sizes of batches: 1, 2, 4, ..., at most `most`. `done`: hosts that earlier batches have switched."""
    size = 1
    while True:
        if done < size:
            yield min(size, most)
        done = max(0, done - size)
        size = min(2 * size, max(1, most))


def batches(names: Sequence[str], sizes: Iterator[int]) -> Iterator[tuple[str, ...]]:
    """Divide hosts into batches of these sizes; the last one may be smaller."""
    rest = list(names)
    while rest:
        size = next(sizes)
        yield tuple(rest[:size])
        rest = rest[size:]


def describe(plan: Plan, *, check: bool) -> list[str]:
    """The plan in lines for people."""
    by_name = {host.name: host for host in plan.hosts}
    lines = [f"{plan.procedure}: {_count(plan)}{' (predicted)' if check else ''}"]
    if plan.canary:
        lines.append(f"  canary   {_change(by_name[plan.canary])}")
    if plan.soaking:
        again = "" if plan.canary else f" {plan.soaking} again, which an interrupted run has switched,"
        lines.append(
            f"  soak    {again} {host_lock.duration(60 * plan.soak_minutes)}, compared with"
            f" {', '.join(plan.references)}"
        )
    for number, batch in enumerate(plan.batches, 1):
        for host in batch:
            lines.append(f"  batch {number:<2} {_change(by_name[host])}")
    lines += [f"  skipped  {entry}" for entry in outcomes.grouped(plan.skipped)]
    if len(plan.order) > 1 and plan.note:
        lines.append(f"  note     {plan.note}")
    return lines


def _count(plan: Plan) -> str:
    if not plan.order:
        return "no host needs a change"
    hosts, size = len(plan.order), len(plan.hosts)
    return f"{hosts} of {size} host{'s' if size != 1 else ''} {'change' if hosts != 1 else 'changes'}"


def _change(host: Host) -> str:
    if not host.target:
        return f"{host.name}: to the last validated release"
    change = f"{host.current or 'nothing'} -> {host.target}" if host.changes else f"{host.target} stays"
    more = [reason for reason in host.reasons if not reason.startswith("the current release is ")]
    rejected = [f"rejected here {host.rejected}"] if host.rejected else []
    return "; ".join([f"{host.name}: {change}", *more, *rejected])
