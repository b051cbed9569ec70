"""Reads the results of the overview's tasks. Pure; everything that comes from hosts is checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.fleet import facts as overview_facts
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet import rotation
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.expected import Expected
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.findings import Host

_NO_FACTS = overview_facts.Facts(overview_facts.Values(), {})
_LONGEST = 300


def gather(
    variables: Mapping[str, Mapping[str, Any]], balancers: Mapping[str, rotation.Answer | str]
) -> dict[str, Host]:
    """The hosts by name. `variables`: of each host of the play. `balancers`: answers by load balancer."""
    return {
        name: _host(each, rotation.of_host(name, balancers) if balancers else None)
        for name, each in variables.items()
    }


def answers(results: Iterable[Mapping[str, Any]]) -> dict[str, rotation.Answer | str]:
    """The answers of the load balancers by name."""
    return {str(each.get("_overview_balancer") or "?"): rotation.read(each) for each in results}


def _host(variables: Mapping[str, Any], seen: rotation.Rotation | None) -> Host:
    result = variables.get("overview_facts") or {}
    built = variables.get("overview_built") or {}
    try:
        facts = overview_facts.read(result["facts"])
    except KeyError:
        return Host(_NO_FACTS, unreachable=_reason(result), rotation=seen)
    except shape.ShapeError as error:
        return Host(_NO_FACTS, unreachable=f"its answer is malformed: {error}", rotation=seen)
    return Host(
        facts,
        expected=_expected(result.get("expected")),
        skew=result["skew"] if isinstance(result.get("skew"), float) else None,
        backups=_has_repository(variables),
        built=str(built.get("name") or ""),
        unbuilt=str(built.get("why") or "")[-_LONGEST:],
        rotation=seen,
    )


def _has_repository(variables: Mapping[str, Any]) -> bool:
    """Whether the inventory has a repository, also if its address cannot be rendered, without the vault."""
    try:
        return bool(str(variables.get("backup_repository") or "").strip())
    except AnsibleError:
        return True


def _expected(value: object) -> Expected:
    try:
        return shape.typed(Expected, value, "expected")
    except shape.ShapeError:
        return Expected()


def _reason(result: Mapping[str, Any]) -> str:
    lines = str(result.get("msg") or "the task did not run on this host").strip().splitlines()
    return f"no answer: {lines[-1][-_LONGEST:]}"
