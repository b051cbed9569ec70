"""The control node's half of `katago.fleet.lock`: which run this is, and whether another one lives."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.parsing.splitter import parse_kv
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ansible_collections.katago.fleet.plugins.module_utils import locks, security

display = Display()
# What every procedure takes.
INPUTS = ("incident", "break_lock", "without_evidence")
_LOST = "_raw_params"
"""Where Ansible puts the words of `-e` that it finds no name for (ansible.parsing.splitter)."""


def this_run() -> str:
    """This run of ansible-playbook: control node, process, and when that was started."""
    # Tasks are worked on by children of ansible-playbook.
    return _name(os.getppid())


def life(run: str) -> locks.Life:
    """Whether another run is still at work; what runs on another control node cannot be seen."""
    machine, _, process = run.partition(":")
    if machine != _machine():
        return "unknown"
    pid, _, _ = process.partition(":")
    return "alive" if _name(int(pid)) == run else "dead"


def mistaken(given: Mapping[str, Any], known: list[str]) -> Iterator[str]:
    """One message for every extra variable that resembles a known one without being any, and for lost words.

    `-e relase=...` must not roll back to whatever is the default; a site's own variables may be given.
    The words themselves are not told: they may be the rest of a passphrase.
    """
    if _LOST in given:
        written = list(_losing(context.CLIARGS.get("extra_vars", ())))
        for name, count in written or [("", len(str(given[_LOST]).split()))]:
            yield (
                f"-e{f' {name}=...' if name else ''} has lost {count} word{'s' if count > 1 else ''}, since"
                " Ansible ends a value at its first blank: put it into both kinds of quotes, as in"
                " -e 'why=\"two words\"'."
            )
    for name in sorted(set(given) - {_LOST} - set(known)):
        if nearest := difflib.get_close_matches(name, known, n=1, cutoff=0.75):
            yield f"-e {name} is no variable of this playbook; did you mean {nearest[0]}?"


def _losing(arguments: Iterable[str]) -> Iterator[tuple[str, int]]:
    """The first variable of every `-e` that words were lost of, and how many they are."""
    for argument in arguments:
        if not argument.startswith(("@", "[", "{")):
            values = parse_kv(argument)
            if lost := values.pop(_LOST, None):
                yield next(iter(values), ""), len(str(lost).split())


def _name(pid: int) -> str:
    try:
        # The 22nd field, after the name in parentheses, which may hold anything (proc(5)).
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = "gone"
    return f"{_machine()}:{pid}:{started}"


def _machine() -> str:
    # Processes are numbered anew after a boot, and in every container.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"


class ActionModule(ActionBase):
    """Takes the lock, or says whose it is."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host; take over or break only what may be."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        known = [*INPUTS, *arguments.get("inputs", [])]
        if problems := list(mistaken(load_extra_vars(self._loader), known)):
            words = " ".join(problems)
            return {
                **result,
                "failed": True,
                "refused": True,
                "msg": f"Refused; nothing was changed on this host. {words}",
            }
        wanted = {
            "state": arguments["state"],
            "procedure": str(arguments["procedure"]),
            "owner": str(arguments["who"]),
            "run": this_run(),
        }
        answer = self._ask(wanted, task_vars)
        if answer.get("failed") or answer.get("unreachable") or arguments["state"] == "released":
            return {**result, **answer}
        if mode := answer.pop("security_mode", None):
            host = (task_vars or {})["inventory_hostname"]
            words = security.refusal(mode, host, wanted["procedure"])
            shown = f"ansible-playbook playbooks/security.yml -l {host} -e do=show"
            return {**result, **answer, "failed": True, "refused": True, "msg": words, "next_step": shown}
        if answer["holder"]["run"] == wanted["run"]:
            return {**result, **answer}
        return {**result, **self._contest(answer, wanted, task_vars)}

    def _contest(
        self, answer: dict[str, Any], wanted: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        host = (task_vars or {})["inventory_hostname"]
        holder = locks.Holder(**answer["holder"])
        breaking = str(self._task.args.get("break_lock") or "")
        now = life(holder.run) if holder.run.count(":") == 2 else "unknown"
        claimant = locks.Holder(wanted["owner"], wanted["procedure"], wanted["run"], holder.since)
        if not locks.may_take_over(holder, claimant, now, breaking):
            message = locks.refusal(answer["holder"], answer["age"], now, host, breaking)
            return {**answer, "failed": True, "refused": True, "msg": message}
        if not self._task.check_mode:
            replacing = {"instead_of": answer["holder"], "going_on": not breaking}
            answer = self._ask({**wanted, **replacing}, task_vars)
            if answer.get("failed") or answer["holder"]["run"] != wanted["run"]:
                return {
                    "failed": True,
                    "refused": True,
                    "msg": "Refused; somebody else was faster.",
                    **answer,
                }
        display.warning(
            f"[{host}] The lock of {holder.owner} for {holder.procedure} since {holder.since} is taken over:"
            f" {'it was to be broken' if breaking else 'its run is dead'}."
        )
        return {**answer, "taken_over": holder.__dict__}

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.lock", module_args=arguments, task_vars=task_vars
        )
        return answer
