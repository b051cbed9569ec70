"""What a procedure says at its end: what it saw, what it left, what the operator can do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Result = Literal["ok", "changed", "refused", "partial", "unknown"]


def result(failure: Mapping[str, Any] | None, state: Mapping[str, Any]) -> Result:
    """How a failed procedure ended: refused with nothing changed, part of it done, or unknown.

    `failure`: the result of the task that failed, None on a host that was ended by another's failure.
    """
    if failure is not None and failure.get("refused"):
        return "refused"
    return "unknown" if state.get("unit") is None else "partial"


def explanation(
    failure: Mapping[str, Any] | None, state: Mapping[str, Any], next_step: str, rotation: str = ""
) -> str:
    """The message of a failed procedure: the failure, the state of the service, its rotation, the next step.

    `next_step` is the procedure's, unless the failure knows a better one. What was refused says itself
    what is to be done: the step of a procedure that never began would lead astray.
    """
    if failure is None:
        words = "Ended, since another host failed."
    else:
        words = str(failure.get("msg") or failure).strip()
        next_step = str(failure.get("next_step") or ("" if failure.get("refused") else next_step))
    further = [*([rotation] if rotation else []), *([f"Next: {next_step}"] if next_step else [])]
    return "\n".join([words, left(state), *further])


def left(state: Mapping[str, Any]) -> str:
    """The state of the service in a sentence."""
    if state.get("unit") is None:
        return f"What state the service is in cannot be seen: {state.get('reason') or 'no reason given'}."
    load_balancer = f"HAProxy is {state['load_balancer']}" if state.get("load_balancer") else ""
    if state.get("installed") is False and not state.get("current"):
        return f"{load_balancer or 'The host does not have the service'}."
    words = f"{load_balancer}. " if load_balancer else ""
    words += f"The service is {state['unit']}"
    if state.get("running"):
        ready = {True: "ready", False: "not ready", None: "possibly not ready"}[state.get("ready")]
        why = "" if state.get("ready") else f" ({state.get('reason') or 'no reason given'})"
        words += f" and {ready}{why}; it runs {state['running']}"
    current = state.get("current")
    if current != state.get("running"):
        words += f"; the current release is {current or 'none'}"
    return words + "."
