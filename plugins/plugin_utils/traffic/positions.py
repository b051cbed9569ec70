"""Calls with known answers: positions that no cache has, and the check of their analyses."""

from __future__ import annotations

from dataclasses import replace
from random import SystemRandom
from typing import Any, Literal, get_args

from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import OK, Client, Result

Tool = Literal["analyzePosition", "evaluateTerritory", "getEngineStatus"]
TOOLS: tuple[Tool, ...] = get_args(Tool)

# An override may lower the visits, which is no wrong answer.
_LEAST_VISITS = 1
_TERRITORY = ("position", "maxVisits")
_dice = SystemRandom()


def call(client: Client, tool: Tool, visits: int, seconds: float) -> Result:
    """Call a tool. `visits`: of an analysis. `seconds`: the deadline."""
    if tool == "getEngineStatus":
        return _engine_status(client, seconds)
    return (_analyse if tool == "analyzePosition" else _evaluate_territory)(client, visits, seconds)


def _analyse(client: Client, visits: int, seconds: float) -> Result:
    """Have a position analysed whose answer is known for any network. It is `wrong` if the answer is not."""
    result = client.call("analyzePosition", _arguments(visits), seconds)
    if result.kind != OK:
        return result
    problems = service_checks.probe_problems({"ok": True, "structured": result.answer}, _LEAST_VISITS)
    return replace(result, kind="wrong", reason="; ".join(problems)) if problems else result


def _evaluate_territory(client: Client, visits: int, seconds: float) -> Result:
    """Have the territory of such a position evaluated."""
    arguments = _arguments(visits)
    return client.call("evaluateTerritory", {name: arguments[name] for name in _TERRITORY}, seconds)


def _engine_status(client: Client, seconds: float) -> Result:
    """Ask whether the engine is ready, which costs no analysis. It is `unavailable` if it is not."""
    result = client.call("getEngineStatus", {}, seconds)
    if result.kind != OK or result.answer.get("ready") is True:
        return result
    return replace(result, kind="unavailable", reason=f"the engine is {result.answer.get('state')}")


def _arguments(visits: int) -> dict[str, Any]:
    (call,) = service_checks.probes(visits, [_dice.randrange(service_checks.VARIANTS)])
    arguments: dict[str, Any] = call["arguments"]
    return arguments
