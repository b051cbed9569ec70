"""The evidence of all hosts of a play as people read it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.run import outcome as run_outcome

_LONGEST_WORDS = 160


def outcome(found: Mapping[str, Any]) -> tuple[run_outcome.Result, str]:
    """How the collection on a host ended, and a sentence on it; `found` is the result of its task."""
    if not found.get("directory"):
        said = str(found.get("msg") or "it was not asked").strip().splitlines()
        return "unknown", f"nothing was kept: {said[-1]}"
    items = found.get("items") or []
    withheld, failed = (sum(became(item) == kind for item in items) for kind in ("withheld", "failed"))
    words = (
        f"{len(items)} items, {withheld} withheld, {failed} failed, in {found.get('seconds')} s:"
        f" {found['directory']}"
    )
    return ("ok", words) if found.get("complete") else ("partial", f"{words}; {found.get('msg')}")


def render(hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for every host, and below it what is not as it should be."""
    lines = []
    for host, found in hosts.items():
        result, words = outcome(found)
        lines.append(f"{host}: {result}. {words}")
        items = found.get("items") or []
        lines += [
            f"    withheld  {each['name']}: {_short(each['withheld'])}" for each in _of("withheld", items)
        ]
        lines += [f"    failed    {each['name']}: {_short(each['problem'])}" for each in _of("failed", items)]
        for kind, words in (("cut", "more than the limit"), ("absent", "the host has none")):
            if names := [str(each["name"]) for each in _of(kind, items)]:
                lines.append(f"    {kind:<9} {', '.join(names)}: {words}")
    return "\n".join(lines)


def _of(kind: str, items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in items if became(item) == kind]


def became(item: Mapping[str, Any]) -> str:
    """What became of an item: withheld, absent (no such file, no such program), cut, failed, or kept."""
    problem = str(item.get("problem") or "")
    if item.get("withheld"):
        return "withheld"
    if not problem:
        return "kept"
    if problem.endswith(os.strerror(errno.ENOENT)) and not item.get("bytes") and item.get("exit") is None:
        return "absent"
    return "cut" if re.fullmatch(r"the (?:newest|first) \d+ bytes are kept", problem) else "failed"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST_WORDS else f"{words[:_LONGEST_WORDS]}..."
