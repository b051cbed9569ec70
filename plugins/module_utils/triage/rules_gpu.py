"""Rules for NVIDIA GPUs: whether they respond, temperature, memory, and the errors that they report."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils.gpu.nvidia_smi import SLOWDOWNS
from ansible_collections.katago.fleet.plugins.module_utils.severity import Level
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts, reason, rules_host
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

# Reinstalling the driver does not fix these.
_GONE = {"lost": "the GPU is lost", "reset": "the GPU needs a reset"}
_FAULT = "the GPU reports a hardware fault"


def gpu(gpu: facts.Gpu | None) -> Iterator[Reason]:
    """Report a GPU that does not respond, is missing, too hot, throttled, out of memory or faulty."""
    if gpu is None:
        return
    if gpu["trouble"]:
        escalate = _GONE.get(gpu["trouble"])
        yield Reason(
            "P1",
            "gpu",
            f"nvidia-smi failed: {gpu['words']}",
            f"{gpu['devices']} responding GPUs",
            escalate=escalate,
            next=None if escalate else reason.DRIVER,
        )
    elif len(gpu["cards"]) < gpu["devices"]:
        measured = f"the NVIDIA driver lists {len(gpu['cards'])} of the {gpu['devices']} GPUs on the PCI bus"
        yield Reason("P2", "gpu", measured, f"{gpu['devices']} GPUs", next=reason.DRIVER)
    if gpu["unread"]:
        yield reason.unknown("gpu", f"the output of `nvidia-smi -q` cannot be used: {gpu['unread']}")
    for card in gpu["conditions"]:
        yield from _heat(card)
        yield from _memory(card)
        if card["recovery"]:
            measured = f"the NVIDIA driver requests a recovery action for GPU {card['address']}"
            yield Reason(
                "P2", "gpu", f"{measured}: {card['recovery']}", "no recovery action", escalate=_FAULT
            )
    for xid in gpu["xids"]:
        if xid["fatal"]:
            measured = f"GPU {xid['device']} reported Xid {xid['code']} {xid['count']} times: {xid['text']}"
            yield Reason(
                "P2",
                "gpu",
                f"{measured}; to repair it: {xid['action']}",
                "no Xid that needs more than a service restart",
                escalate=_FAULT,
            )


def _heat(card: facts.Condition) -> Iterator[Reason]:
    degrees, where = card["temperature"], card["address"]
    limits: tuple[tuple[int | None, Level, str], ...] = (
        (card["slow_at"], "P2", "its hardware throttles from {limit} °C"),
        (card["warm_at"], "P3", "its maximum operating temperature is {limit} °C (check the cooling)"),
    )
    for limit, level, meaning in limits:
        if degrees is not None and limit is not None and degrees >= limit:
            step = reason.MITIGATE if level == "P2" else None
            measured = f"GPU {where} is at {degrees} °C; {meaning.format(limit=limit)}"
            yield Reason(level, "gpu", measured, f"below {limit} °C", next=step)
            break
    if card["slowed"]:
        by_hardware = any(name.startswith("hw_") for name in card["slowed"])
        causes = " and ".join(SLOWDOWNS.get(name, name) for name in card["slowed"])
        yield Reason(
            "P2" if by_hardware else "P3",
            "gpu",
            f"GPU {where} is throttled by {causes}",
            "no throttling",
            next=reason.MITIGATE if by_hardware else None,
        )


def _memory(card: facts.Condition) -> Iterator[Reason]:
    # An engine allocates its memory when it starts. `nvidia-smi` lists the other processes that use the GPU.
    resource = f"the memory of GPU {card['address']} is free (`nvidia-smi` lists its users)"
    yield from rules_host.scarce("gpu", card["free_percent"], resource, rules_host.MEMORY_EXHAUSTED_PERCENT)
