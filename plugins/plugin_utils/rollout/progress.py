"""What a rollout has done so far: lines of progress, and the summary at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.plugin_utils.rollout import outcomes

_SUCCESSES = ("ok", "changed")
_NEXT = (
    "find the reason under RESULT and repair it. The same command continues: hosts that are done are not"
    " switched again"
)


class Progress:
    """Follows a rollout by what its hosts report.

    `plan`: what `katago.fleet.rollout_plan` returned. Times are seconds of one clock.
    """

    def __init__(self, plan: Mapping[str, Any], at: float) -> None:
        self._plan = plan
        self._start = at
        canary = [("canary", [plan["canary"]])] if plan["canary"] else []
        count = len(plan["batches"])
        batches = [
            (f"batch {number} of {count}", list(names)) for number, names in enumerate(plan["batches"], 1)
        ]
        self._parts: list[tuple[str, list[str]]] = [*canary, *batches]
        # A canary that soaks again is not switched in this run, but it may be rolled back.
        self._hosts = list(dict.fromkeys([*plan["order"], *filter(None, [plan["soaking"]])]))
        self._begun: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._results: dict[str, str] = {}
        self._soak: Mapping[str, Any] = {"state": outcomes.INTERRUPTED} if plan["soaking"] else {}

    @property
    def procedure(self) -> str:
        """The procedure that is rolled out."""
        return str(self._plan["procedure"])

    def reported(self, host: str, event: Mapping[str, Any], at: float) -> str | None:
        """A line of progress for an event of a host; None if there is nothing new to show.

        An event of another procedure, such as a backup after a deployment, is no part of the rollout.
        """
        if host not in self._hosts or event["procedure"] != self.procedure:
            return None
        if event["result"] != "begun":
            return self._finished(host, str(event["result"]), at)
        is_first = self._is_first(host)
        self._begun.setdefault(host, at)
        # A canary that is rolled back starts a second time.
        self._results.pop(host, None)
        if not is_first:
            return None
        name, hosts = self._parts[self._part_of(host)]
        return f"Rollout: {name}: {', '.join(hosts)}{self._left(at)}"

    def lost(self, host: str, result: str, at: float) -> None:
        """A host failed without an event: before its procedure started, or because it is unreachable."""
        is_late = result == outcomes.UNREACHABLE or host not in self._begun
        if host in self._hosts and host not in self._results and is_late:
            self._begun.setdefault(host, at)
            self._ended[host] = at
            self._results[host] = result

    def soaked(self, verdict: Mapping[str, Any], *, over: bool) -> None:
        """A new verdict on the canary. It is final only when the soak is over."""
        self._soak = verdict if over else {**verdict, "state": outcomes.INTERRUPTED}

    def seconds_left(self, at: float) -> float | None:
        """The time for the soak and the batches ahead, as earlier batches took; None if unknown."""
        durations = [
            max(self._ended[host] for host in hosts) - min(self._begun[host] for host in hosts)
            for _, hosts in self._parts
            if all(host in self._ended for host in hosts)
        ]
        if not durations:
            return None
        mean = sum(durations) / len(durations)
        running = [
            at - min(self._begun[host] for host in hosts if host in self._begun)
            for _, hosts in self._parts
            if any(host in self._begun for host in hosts) and not all(host in self._ended for host in hosts)
        ]
        waiting = len(self._parts) - len(durations) - len(running)
        soak = 60 * self._plan["soak_minutes"] if self._soak.get("state") == outcomes.INTERRUPTED else 0
        return soak + mean * waiting + sum(max(0.0, mean - elapsed) for elapsed in running)

    @property
    def is_complete(self) -> bool:
        """Whether every host of the plan was switched, and no soak failed."""
        is_soaked = self._soak.get("state") not in (outcomes.INTERRUPTED, "unknown")
        return is_soaked and not self._failed() and all(host in self._results for host in self._plan["order"])

    def as_dict(self, at: float) -> dict[str, Any]:
        """The summary as plain values."""
        failed = self._failed()
        changed = [
            host
            for host in self._plan["order"]
            if self._results.get(host) in _SUCCESSES and host not in failed
        ]
        untouched = [host for host in self._plan["order"] if host not in self._begun]
        why = outcomes.untouched(list(failed), self._soak.get("state"))
        return {
            "procedure": self.procedure,
            "changed": changed,
            "failed": list(failed),
            "not_touched": untouched,
            "reasons": {**failed, **dict.fromkeys(untouched, why)},
            "skipped": dict(self._plan["skipped"]),
            "seconds": round(at - self._start, 1),
            "host_seconds": {
                host: round(self._ended[host] - self._begun[host], 1)
                for host in self._hosts
                if host in self._ended and host in self._begun
            },
            "soak": dict(self._soak),
        }

    def summary(self, at: float) -> list[str]:
        """The summary in lines."""
        made = self.as_dict(at)
        seconds, reasons, soak = made["host_seconds"], made["reasons"], made["soak"]
        figures = [
            f"{name}: {soak[key]}"
            for name, key in (("canary", "canary_shown"), ("others", "others_shown"))
            if key in soak
        ]
        because = [f"({'; '.join(soak['reasons'])})"] if soak.get("reasons") else []
        changed = [f"{host} ({host_lock.duration(seconds[host])})" for host in made["changed"]]
        rows = (
            ("changed", [", ".join(changed)]),
            ("failed", outcomes.grouped((host, reasons[host]) for host in made["failed"])),
            ("not touched", outcomes.grouped((host, reasons[host]) for host in made["not_touched"])),
            ("skipped", outcomes.grouped(made["skipped"])),
            ("soak", [" ".join([soak["state"], *because])] if soak else []),
            ("", figures),
            ("basis", [soak.get("basis", "")]),
            ("took", [host_lock.duration(made["seconds"])]),
            ("next", [] if self.is_complete else [_NEXT]),
        )
        return [f"{name:<12} {value}" for name, values in rows for value in values if value]

    def _finished(self, host: str, result: str, at: float) -> str:
        # A host that refuses is not announced before: the lock or the evidence comes first.
        self._begun.setdefault(host, at)
        self._ended.setdefault(host, at)
        self._results[host] = result
        order = self._plan["order"]
        count = sum(self._results.get(each) in _SUCCESSES for each in order)
        shown = outcomes.FAILURES.get(result, "done")
        # No further batch follows a failure.
        left = "" if result in outcomes.FAILURES else self._left(at)
        return f"Rollout: {host}: {shown}. {count} of {len(order)} hosts are done{left}"

    def _failed(self) -> dict[str, str]:
        """The hosts that failed, and what that means."""
        results = {
            host: self._results.get(host, outcomes.INTERRUPTED) for host in self._hosts if host in self._begun
        }
        failed = {
            host: outcomes.FAILURES[result] for host, result in results.items() if result not in _SUCCESSES
        }
        soaking = self._plan["soaking"]
        if self._soak.get("state") == "failed" and results.get(soaking) in (*_SUCCESSES, "refused", None):
            failed[soaking] = outcomes.FAILED_SOAK
        return failed

    def _left(self, at: float) -> str:
        left = self.seconds_left(at)
        return f"; about {host_lock.duration(left)} left" if left else ""

    def _is_first(self, host: str) -> bool:
        """Whether a host is the first of its part to start."""
        hosts = next((hosts for _, hosts in self._parts if host in hosts), [])
        return bool(hosts) and not any(each in self._begun for each in hosts)

    def _part_of(self, host: str) -> int:
        return next(index for index, (_, hosts) in enumerate(self._parts) if host in hosts)
