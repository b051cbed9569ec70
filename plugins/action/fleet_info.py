"""The control node's part of `katago.fleet.fleet_info`: what the inventory asks for; the clocks."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import assets
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet import expected
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import runs

_UNKNOWN = object()


class ActionModule(ActionBase):
    """Reads a host. What cannot be computed from the inventory is left out, not guessed."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the host, and compute what the inventory asks for."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        read: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.fleet_info", module_args=self._task.args, task_vars=task_vars
        )
        now = time.time()
        if "facts" not in read:
            return {**result, **read}
        facts = read["facts"]
        facts["lock"] = runs.lock_seen_from_here(facts.get("lock") or {})
        clock = (facts.get("clock") or {}).get("value")
        skew = {"skew": round(clock - now, 1)} if isinstance(clock, float) else {}
        return {
            **result,
            "changed": False,
            "facts": facts,
            "expected": self._expected(task_vars or {}),
            **skew,
        }

    def _expected(self, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """What the inventory asks for, of what can be rendered here."""
        server = self._rendered(task_vars, "katago_mcp_server")
        cache = Path(str(self._rendered(task_vars, "katago_cache_dir") or "")).expanduser()
        gpu_engines = self._rendered(task_vars, "katago_gpu_engines")
        engines = [self._rendered(task_vars, "katago_engine")]
        engines += gpu_engines.values() if isinstance(gpu_engines, Mapping) else ()
        networks = [self._rendered(task_vars, f"katago_{kind}network") for kind in ("", "human_")]
        return dict(
            expected.of_inventory(
                version=_version(Path(str(server)).expanduser()) if server else "",
                engines=_sha256(engines, cache),
                networks=_sha256(networks, cache),
                config=self._settings(task_vars.get("_katago_mcp_config")),
            )
        )

    def _settings(self, config: Any) -> Any:
        """The configuration without the settings that cannot be rendered, such as those of the device."""
        if isinstance(config, Mapping):
            rendered = {name: self._settings(each) for name, each in config.items()}
            return {name: each for name, each in rendered.items() if each is not _UNKNOWN}
        try:
            return self._templar.template(config)
        except AnsibleError:
            return _UNKNOWN

    def _rendered(self, task_vars: Mapping[str, Any], name: str) -> Any:
        """The value of a variable; None if it cannot be rendered, for example without the vault."""
        try:
            return self._templar.template(task_vars[name])
        except (KeyError, AnsibleError):
            return None


def _sha256(specs: Iterable[Any], cache: Path) -> list[str]:
    """The sha256 of assets; [] if that of one is not known here, because it was not downloaded yet."""
    known = [assets.known_sha256(each, cache) for each in specs if isinstance(each, Mapping) and each]
    return known if all(known) else []


def _version(server: Path) -> str:
    try:
        return str(tomllib.loads((server / "pyproject.toml").read_text())["project"]["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return ""
