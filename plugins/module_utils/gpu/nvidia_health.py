"""The health of NVIDIA GPUs, for triage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypedDict, cast

from ansible_collections.katago.fleet.plugins.module_utils.gpu import nvidia_kernel, nvidia_smi
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device


class CardFacts(TypedDict):
    """A `nvidia_smi.Card` as JSON."""

    address: str
    name: str
    driver: str
    persistence: bool | None
    temperature: int | None
    memory_mb: int | None
    memory_used_mb: int | None


class ConditionFacts(TypedDict):
    """A `nvidia_smi.Condition` as JSON."""

    address: str
    temperature: int | None
    warm_at: int | None
    slow_at: int | None
    slowed: Sequence[str]
    free_percent: float | None
    utilization: int | None
    recovery: str


class Health(TypedDict):
    """The NVIDIA GPUs on a host's bus, and their problems.

    `devices`: the number of GPUs. `loaded`: the version of the loaded driver. `trouble`: why nvidia-smi has
    no complete answer; None if it has one. `words`: nvidia-smi's own message. `notes`: its warnings next to
    a complete answer. `unread`: why the `conditions` cannot be read; empty if they can.
    """

    devices: int
    loaded: str | None
    trouble: nvidia_smi.Trouble | None
    words: str
    notes: list[str]
    cards: list[CardFacts]
    conditions: list[ConditionFacts]
    unread: str
    xids: list[nvidia_kernel.Xid]


def health(
    run: Callable[[Sequence[str]], tuple[int, str]],
    kernel_log: Callable[[], str],
    *,
    devices: Sequence[Device],
    loaded: str | None,
) -> Health | None:
    """What NVIDIA's tools and the kernel report about `devices`; None if the host uses no NVIDIA GPU.

    `run` returns a command's exit status (127 if it is not installed) and output. `kernel_log` returns the
    kernel's newest log lines. `loaded`: the version of the loaded driver.
    """
    mine = [each for each in devices if each.vendor == "nvidia"]
    if not mine:
        return None
    status, output = run(nvidia_smi.SMI)
    if status == nvidia_smi.NOT_INSTALLED and loaded is None:
        return None
    answer = nvidia_smi.parse_smi(status, output)
    conditions: Sequence[nvidia_smi.Condition] = ()
    unread = ""
    if not answer.trouble:
        try:
            conditions = nvidia_smi.parse_details(*run(nvidia_smi.SMI_DETAILS))
        except ValueError as error:
            unread = str(error)
    return Health(
        devices=len(mine),
        loaded=loaded,
        trouble=answer.trouble,
        words=answer.words,
        notes=list(answer.notes),
        cards=cast(list[CardFacts], [asdict(card) for card in answer.cards]),
        conditions=cast(list[ConditionFacts], [asdict(condition) for condition in conditions]),
        unread=unread,
        xids=nvidia_kernel.xids(kernel_log()),
    )
