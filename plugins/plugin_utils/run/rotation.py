"""Whether a host left or joined rotation, from the answers of all load balancers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.rotation import Entry, must_stay
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError
from ansible_collections.katago.fleet.plugins.plugin_utils.run import failures
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import GROUP

Answer = Mapping[str, Any]
_WITHOUT_DRAIN = "-e without_drain=true"


@dataclass(frozen=True)
class Left:
    """What came of a request to leave.

    `refusal`: why the procedure must not continue; empty if it may. `undo`: where the host was in rotation
    until then, and must be again. `balancers`: those on which this procedure took the host out. `message`:
    what was done; empty if no load balancer sends requests to the host.
    """

    refusal: str = ""
    undo: tuple[str, ...] = ()
    balancers: tuple[str, ...] = ()
    message: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Joined:
    """What came of a request to join.

    `message`: where the host is in rotation, or who took it out; empty if nobody did. `problem`: why it is
    not in rotation although it should be.
    """

    message: str = ""
    problem: str = ""
    warnings: tuple[str, ...] = ()


def budget_problems(least: object, fleet: int | None = None) -> list[str]:
    """What is wrong with `fleet_min_available`, None if it is not set.

    `fleet`: the number of hosts, if one of them is to leave rotation; None if none is.
    """
    if least is None:
        return []
    try:
        required = must_stay(str(least), fleet or 1)
    except LoadBalancerError as error:
        return [f"{error}."]
    if fleet is None or required <= fleet:
        return []
    return [
        f"fleet_min_available is {least}, but the group {GROUP} of the inventory has only {fleet}"
        f" host{'s' if fleet > 1 else ''}, so none of them may ever leave rotation. Lower it, set a share"
        f" such as 50%, or continue anyway: {_WITHOUT_DRAIN}."
    ]


def balancer(answer: Answer) -> str:
    """The load balancer of an answer, the item of the task's loop."""
    return str(answer[answer.get("ansible_loop_var", "item")])


def left(answers: Sequence[Answer], host: str, *, without_drain: bool, check: bool = False) -> Left:
    """Judge the answers to a request to leave. Without a refusal, those that failed are warned of."""
    refused = [each for each in answers if each.get("refused")]
    failed = [each for each in answers if _is_failed(each) and not each.get("refused")]
    ours = [each for each in answers if works(each) and each.get("is_own") and each.get("entry")]
    kept = [each for each in answers if works(each) and each.get("entry") and not each.get("is_own")]
    # In check mode nothing is recorded, but a change is predicted.
    predicted = [each for each in answers if check and works(each) and each.get("changed")]
    names = tuple(balancer(each) for each in ours or predicted)
    refusal = ""
    if refused:
        refusal = "\n".join(f"{balancer(each)}: {each['msg']}" for each in refused)
    elif failed and len(failed) == len(answers) and not without_drain:
        refusal = (
            f"No load balancer can take {host} out of rotation.\n{_listed(failed)}\n"
            f"Repair one of them, or continue without: {_WITHOUT_DRAIN}"
        )
    if refusal:
        # A host that was out before stays out.
        undo = tuple(balancer(each) for each in answers if each.get("left"))
        return Left(f"Refused; the service of {host} was not interrupted. {refusal}", undo)
    verb = "would be taken" if check else "was taken"
    message = f"{host} {verb} out of rotation on {', '.join(names)}." if names else ""
    if kept and not names:
        message = f"{host} was out of rotation before."
    if not failed:
        return Left(balancers=names, message=message)
    lacking = f"{host} {'would not be' if check else 'was not'} taken out of rotation on"
    message = f"{message} {lacking} {', '.join(map(balancer, failed))}.".strip()
    warning = f"{lacking} every load balancer:\n{_listed(failed)}"
    return Left(balancers=names, message=message, warnings=(warning,))


def keeps_out(answers: Sequence[Answer]) -> bool:
    """Whether a load balancer keeps the host out, and the procedure may admit it."""
    return any(works(each) and each.get("is_own") for each in answers)


def validation_problem(validation: Answer) -> str:
    """Why a service is not validated, as part of a sentence; empty if every check passed."""
    checks = validation.get("checks") or []
    failed = [f"{check['name']}: {check['message']}" for check in checks if not check["ok"]]
    if failed:
        return f"its service is not validated: {failed[0].rstrip('.')}"
    if not checks or validation.get("failed"):
        return f"its service cannot be validated: {reason(validation).rstrip('.')}"
    return ""


def joined(answers: Sequence[Answer], host: str, *, kept_out: str = "", check: bool = False) -> Joined:
    """Judge the answers to a request to join.

    `kept_out`: why it was none, so that the answers only show whether the host is out.
    """
    failed = [each for each in answers if _is_failed(each)]
    waiting = [each for each in failed if each.get("admitted")]
    out = [each for each in answers if works(each) and each.get("entry") and not check]
    admitted = [balancer(each) for each in answers if works(each) and each.get("changed") and not check]
    command = f"ansible-playbook playbooks/rotation_in.yml -l {host}"
    sentences = []
    if admitted:
        sentences.append(f"In rotation again on {', '.join(admitted)}.")
    if out:
        because = f", because {kept_out}" if kept_out and out[0].get("is_own") else ""
        by = "; ".join(f"{names}: {entry}" for names, entry in _grouped(out))
        sentences.append(f"{host} stays out of rotation{because} ({by}). To admit it: {command}")
    problem = ""
    warnings: tuple[str, ...] = ()
    if waiting:
        problem = _listed(waiting)
    elif failed:
        text = f"{host} may still be out of rotation:\n{_listed(failed)}\nThen admit it: {command}"
        if len(failed) == len(answers):
            problem = text
        else:
            warnings = (text,)
            sentences.append(f"It may still be out on {', '.join(map(balancer, failed))}; then: {command}")
    return Joined(" ".join(sentences), problem, warnings)


def _grouped(answers: Iterable[Answer]) -> Iterable[tuple[str, Entry]]:
    """Each entry once, with the load balancers that have it. Their clocks may differ."""
    groups: dict[tuple[str, str, str], tuple[list[str], Entry]] = {}
    for answer in answers:
        entry = Entry(**answer["entry"])
        groups.setdefault((entry.procedure, entry.who, entry.why), ([], entry))[0].append(balancer(answer))
    return [(", ".join(names), entry) for names, entry in groups.values()]


def _listed(answers: Iterable[Answer]) -> str:
    return "\n".join(f"- {balancer(each)}: {reason(each)}" for each in answers)


def reason(answer: Answer) -> str:
    """Why a load balancer gave no answer."""
    if answer.get("unreachable"):
        return f"it cannot be reached ({str(answer.get('msg') or 'no reason given').strip()})"
    return failures.reason(answer)


def works(answer: Answer) -> bool:
    """Whether a load balancer answered what it sees."""
    return "servers" in answer


def _is_failed(answer: Answer) -> bool:
    return not works(answer) and not answer.get("skipped")
