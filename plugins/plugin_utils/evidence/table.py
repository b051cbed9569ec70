"""Formats the collected evidence of all hosts of a play for people."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.run import outcome as run_outcome

_MAX_LENGTH = 160


def outcome(result: Mapping[str, Any]) -> tuple[run_outcome.Result, str]:
    """The outcome of the collection on a host, and a sentence about it. `result`: the result of its task."""
    if not result.get("directory"):
        reason = str(result.get("msg") or "the collection did not run").strip().splitlines()
        return "unknown", f"no evidence was stored: {reason[-1]}"
    items = result.get("items") or []
    withheld, failed = (sum(became(item) == kind for item in items) for kind in ("withheld", "failed"))
    message = (
        f"{len(items)} items, {withheld} withheld, {failed} failed, in {result.get('seconds')} s:"
        f" {result['directory']}"
    )
    if undeployed := result.get("undeployed"):
        message += f"; {undeployed}, see playbooks/deploy.yml"
    return ("ok", message) if result.get("complete") else ("partial", f"{message}; {result.get('msg')}")


def render(hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for every host, followed by its items that are withheld, failed, cut or absent."""
    lines = []
    for host, result in hosts.items():
        status, message = outcome(result)
        lines.append(f"{host}: {status}. {message}")
        items = result.get("items") or []
        lines += [
            f"    withheld  {each['name']}: {_short(each['withheld'])}" for each in _of("withheld", items)
        ]
        lines += [f"    failed    {each['name']}: {_short(each['problem'])}" for each in _of("failed", items)]
        for kind, meaning in (("cut", "larger than the limit"), ("absent", "not on this host")):
            if names := [str(each["name"]) for each in _of(kind, items)]:
                lines.append(f"    {kind:<9} {', '.join(names)}: {meaning}")
    return "\n".join(lines)


def _of(kind: str, items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in items if became(item) == kind]


def became(item: Mapping[str, Any]) -> str:
    """The status of an item: withheld, absent (no such file or program), cut, failed, or kept."""
    problem = str(item.get("problem") or "")
    if item.get("withheld"):
        return "withheld"
    if not problem:
        return "kept"
    if problem.endswith(os.strerror(errno.ENOENT)) and not item.get("bytes") and item.get("exit") is None:
        return "absent"
    return "cut" if re.fullmatch(r"the (?:newest|first) \d+ bytes are kept", problem) else "failed"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_LENGTH else f"{line[:_MAX_LENGTH]}..."
