"""Filters of the roles: thin names for functions of `module_utils`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, systemd_run
from ansible_collections.katago.fleet.plugins.module_utils.release import sizing
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import certificates
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands, outcome


def hashed_tokens(tokens: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tokens as the service is given them: name, scopes and sha256, in the order of their names."""
    return [
        {
            "name": token["name"],
            "scopes": list(token["scopes"]),
            "sha256": digest.of_text(token["token"]),
        }
        for token in sorted(tokens, key=lambda token: str(token["name"]))
    ]


def engine_sizing(host: dict[str, Any]) -> dict[str, int]:
    """The engine's sizes for a host as `katago.fleet.preflight` measured it."""
    return asdict(sizing.size(processors=host["processors"], memory_mb=host["memory_mb"], gpu=host["gpu"]))


def explanation(
    failure: Mapping[str, Any] | None, state: Mapping[str, Any], next_step: str, sources: Sequence[str]
) -> str:
    """The message of a failed procedure; its commands have the inventory of the run, `sources`."""
    return commands.as_run_here(outcome.explanation(failure, state, next_step), sources)


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them."""
        return {
            "engine_sizing": engine_sizing,
            "explanation": explanation,
            "hashed_tokens": hashed_tokens,
            "pem": certificates.pem,
            "memory_needed_mb": sizing.memory_needed_mb,
            "result_of": outcome.result,
            "unit_lines": systemd_run.properties,
        }
