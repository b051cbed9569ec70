"""The evidence of all hosts of a play as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import procedure

_LONGEST_WORDS = 160


def outcome(found: Mapping[str, Any]) -> tuple[procedure.Result, str]:
    """How the collection on a host ended, and a sentence on it; `found` is the result of its task."""
    if not found.get("directory"):
        said = str(found.get("msg") or "it was not asked").strip().splitlines()
        return "unknown", f"nothing was kept: {said[-1]}"
    items = found.get("items") or []
    withheld, failed = len(_withheld(items)), len(_failed(items))
    words = (
        f"{len(items)} items, {withheld} withheld, {failed} with problems, in {found.get('seconds')} s:"
        f" {found['directory']}"
    )
    return ("ok", words) if found.get("complete") else ("partial", f"{words}; {found.get('msg')}")


def render(hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for every host, and below it one for every item that is not as it should be."""
    lines = []
    for host, found in hosts.items():
        result, words = outcome(found)
        lines.append(f"{host}: {result}. {words}")
        items = found.get("items") or []
        lines += [f"    withheld  {item['name']}: {_short(item['withheld'])}" for item in _withheld(items)]
        lines += [f"    problem   {item['name']}: {_short(item['problem'])}" for item in _failed(items)]
    return "\n".join(lines)


def _withheld(items: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in items if item.get("withheld")]


def _failed(items: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in items if item.get("problem") and not item.get("withheld")]


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST_WORDS else f"{words[:_LONGEST_WORDS]}..."
