"""Rules for NVIDIA's GPUs: whether they answer, how warm they are, their memory, the errors they report."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils.gpu.nvidia_smi import SLOWDOWNS
from ansible_collections.katago.fleet.plugins.module_utils.severity import Level
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts, reason, rules_host
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

# No driver that is installed again brings these back.
_GONE = {"lost": "the GPU is lost", "reset": "the GPU needs a reset"}
_FAULT = "the GPU reports a hardware fault"


def gpu(gpu: facts.Gpu | None) -> Iterator[Reason]:
    """A GPU does not answer, is missing, too warm, slowed down, full, or reports a fault."""
    if gpu is None:
        return
    if gpu["trouble"]:
        escalate = _GONE.get(gpu["trouble"])
        yield Reason(
            "P1",
            "gpu",
            f"nvidia-smi: {gpu['words']}",
            f"{gpu['devices']} devices that answer",
            escalate=escalate,
            next=None if escalate else reason.DRIVER,
        )
    elif len(gpu["cards"]) < gpu["devices"]:
        seen = f"the driver names {len(gpu['cards'])} of {gpu['devices']} GPUs"
        yield Reason("P2", "gpu", seen, "all that are on the bus", next=reason.DRIVER)
    if gpu["unread"]:
        yield reason.unknown("gpu", f"nvidia-smi -q: {gpu['unread']}")
    for card in gpu["conditions"]:
        yield from _heat(card)
        yield from _memory(card)
        if card["recovery"]:
            seen = f"the driver asks of {card['address']}: {card['recovery']}"
            yield Reason("P2", "gpu", seen, "nothing", escalate=_FAULT)
    for xid in gpu["xids"]:
        if xid["fatal"]:
            seen = f"Xid {xid['code']} of {xid['device']}, {xid['count']} times: {xid['text']}"
            yield Reason(
                "P2",
                "gpu",
                f"{seen}; it needs: {xid['action']}",
                "none that needs more than a restart of the service",
                escalate=_FAULT,
            )


def _heat(card: facts.Condition) -> Iterator[Reason]:
    degrees, where = card["temperature"], card["address"]
    limits: tuple[tuple[int | None, Level, str], ...] = (
        (card["slow_at"], "P2", "its hardware slows it down"),
        (card["warm_at"], "P3", "it is to be no warmer"),
    )
    for limit, level, words in limits:
        if degrees is not None and limit is not None and degrees >= limit:
            step = reason.MITIGATE if level == "P2" else None
            seen = f"{where} has {degrees} °C; at {limit} °C {words}"
            yield Reason(level, "gpu", seen, f"below {limit} °C", next=step)
            break
    if card["slowed"]:
        by_hardware = any(name.startswith("hw_") for name in card["slowed"])
        causes = " and ".join(SLOWDOWNS.get(name, name) for name in card["slowed"])
        yield Reason(
            "P2" if by_hardware else "P3",
            "gpu",
            f"{where} is slowed down by {causes}",
            "by nothing",
            next=reason.MITIGATE if by_hardware else None,
        )


def _memory(card: facts.Condition) -> Iterator[Reason]:
    # An engine takes its memory when it starts; `nvidia-smi` names who else has some.
    what = f"the memory of {card['address']} is free"
    yield from rules_host.scarce("gpu", card["free_percent"], what, rules_host.MEMORY_EXHAUSTED_PERCENT)
