"""What the inventory asks of a host, and how the host differs from it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.fleet import facts as fleet_facts

# The host decides these: directories named by the sha256 that is compared as an asset.
_PATHS = frozenset({"katago.binaryPath", "katago.modelPath", "katago.humanModelPath"})
_SHORT = 12
_MOST = 5


class Expected(TypedDict, total=False):
    """What the inventory asks for, of what is known without a build.

    `version`: of the server. `engines`: the sha256 of those from which the host's device selects one.
    `networks`: the sha256 of all. `config`: the server's configuration.
    """

    version: str
    engines: list[str]
    networks: list[str]
    config: dict[str, Any]


def of_inventory(
    *, version: str, engines: Sequence[str], networks: Sequence[str], config: object
) -> Expected:
    """What the inventory asks for. What is empty is not known, and is left out."""
    asked: Expected = {}
    if version:
        asked["version"] = version
    if engines:
        asked["engines"] = sorted(engines)
    if networks:
        asked["networks"] = sorted(networks)
    if isinstance(config, Mapping):
        # Rendered values are not plain ones, and a release has them as JSON.
        asked["config"] = json.loads(json.dumps(config))
    return asked


def drift(values: fleet_facts.Values, expected: Expected) -> list[str]:
    """How a host differs from the inventory, one phrase for each difference."""
    release = values.get("release")
    if release is None or release["current"] is None:
        return []
    return [*_assets(release, expected), *_config(values.get("config") or {}, release, expected)]


def _assets(release: fleet_facts.Release, expected: Expected) -> Iterator[str]:
    version, asked = release.get("version"), expected.get("version")
    if version and asked and version != asked:
        yield f"the server has version {version}, the inventory asks for {asked}"
    present = release.get("assets") or {}
    engines, accepted = present.get("engines") or [], expected.get("engines")
    if engines and accepted and not set(engines) <= set(accepted):
        yield f"the engine is {_short(engines)}, the inventory asks for {_short(accepted)}"
    networks, accepted = present.get("networks") or [], expected.get("networks")
    if networks and accepted and sorted(networks) != sorted(accepted):
        yield f"the network is {_short(networks)}, the inventory asks for {_short(accepted)}"


def _config(config: Mapping[str, Any], release: fleet_facts.Release, expected: Expected) -> Iterator[str]:
    """Settings that differ. One that the host lacks counts only if the versions are the same."""
    if not config or "config" not in expected:
        return
    here, asked = _flat(config), _flat(expected["config"])
    same_version = release.get("version") == expected.get("version")
    # Settings that depend on the device are not in `asked`.
    names = asked.keys() if same_version else here.keys() & asked.keys()
    differing = sorted(name for name in names - _PATHS if here.get(name) != asked.get(name))
    for name in differing[:_MOST]:
        yield f"{name} is {_value(here, name)}, the inventory asks for {_value(asked, name)}"
    if len(differing) > _MOST:
        yield f"{len(differing) - _MOST} more settings differ"


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{name}.")
        else:
            flat[f"{above}{name}"] = value
    return flat


def _value(config: Mapping[str, Any], name: str) -> str:
    return json.dumps(config[name]) if name in config else "not set"


def _short(digests: Sequence[str]) -> str:
    return " or ".join(each[:_SHORT] for each in digests)
