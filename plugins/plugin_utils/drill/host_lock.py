"""Who holds the lock of a host during a drill: a run that no longer exists, or self-healing."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.module_utils.procedure.host_lock import Life


def problem(answer: Mapping[str, Any], life: Callable[[str], Life]) -> str:
    """Why the lock keeps procedures from the host, as part of a sentence; empty if it does not.

    `answer`: of `ansible.builtin.slurp` for the lock's file, which is missing if nobody holds it.
    """
    if answer.get("failed"):
        return ""
    try:
        holder = _holder(answer)
    except (KeyError, ValueError) as error:
        return f"the lock of the host cannot be read: {error}"
    if life(holder.run) != "dead":
        return ""
    return f"the host is locked for {holder.procedure} by a run that is gone"


def is_of_self_healing(answer: Mapping[str, Any]) -> bool:
    """Whether self-healing has locked the host, and repairs it now. `answer`: as for `problem`."""
    try:
        return not answer.get("failed") and _holder(answer).is_of_self_healing
    except (KeyError, ValueError):
        return False


def _holder(answer: Mapping[str, Any]) -> host_lock.Holder:
    return host_lock.parse(shape.mapping(shape.parsed(base64.b64decode(str(answer["content"])))))
