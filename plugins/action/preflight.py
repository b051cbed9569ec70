"""The control node's half of `katago.fleet.preflight`: inputs, assets, the verdict on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import preflight
from ansible_collections.katago.fleet.plugins.plugin_utils import assets, variables

display = Display()
ROLES = Path(__file__).resolve().parents[2] / "roles"


class ActionModule(ActionBase):
    """Refuses with one message for every problem, before the host is touched."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the inputs, fetch the assets, measure the host, and judge."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        known = task_vars or {}
        problems = list(
            variables.problems(variables.specs(ROLES), iter(known), lambda name: self._value(known[name]))
        )
        if problems:
            return self._refuse(result, problems)
        problems = preflight.input_problems(
            {
                "katago_engine": arguments["engine"],
                "katago_network": arguments["network"],
                "katago_mcp_listen_address": arguments["listen_address"],
                "katago_mcp_port": arguments["port"],
                "katago_mcp_metrics_listen_address": arguments["metrics_listen_address"],
                "katago_mcp_metrics_port": arguments["metrics_port"],
                "katago_mcp_allowed_hosts": arguments["allowed_hosts"],
                "katago_mcp_allowed_clients": arguments["allowed_clients"],
                "katago_mcp_tokens": arguments["tokens"],
            }
        )
        if problems:
            return self._refuse(result, problems)
        engine, network, problems = self._obtain(Path(arguments["cache_dir"]).expanduser())
        measured = self._execute_module(
            module_name="katago.fleet.preflight",
            module_args={
                "listeners": [
                    {
                        "address": arguments[f"{kind}listen_address"],
                        "port": int(arguments[f"{kind}port"]),
                    }
                    for kind in ("", "metrics_")
                ],
                "assets": {
                    name: f"/opt/katago/{name}s/{asset.sha256}"
                    for name, asset in (("engine", engine), ("network", network))
                    if asset
                },
            },
            task_vars=task_vars,
        )
        if measured.get("failed") or measured.get("unreachable"):
            return {**result, **measured}
        result["host"] = measured["host"]
        problems += preflight.host_problems(
            measured["host"], network_bytes=network.path.stat().st_size if network else 0
        )
        if problems or not engine or not network:
            return self._refuse(result, problems)
        return {
            **result,
            "changed": False,
            "engine": {
                "path": str(engine.path),
                "sha256": engine.sha256,
                "version": str(arguments["engine"]["version"]),
                "backend": arguments["engine"]["backend"],
            },
            "network": {
                "path": str(network.path),
                "sha256": network.sha256,
                "name": network.name,
                "bytes": network.path.stat().st_size,
            },
        }

    def _value(self, raw: Any) -> Any:
        try:
            return self._templar.template(raw)
        except AnsibleUndefinedVariable:
            # A default that is computed from what this very task finds out.
            return None

    def _obtain(self, cache: Path) -> tuple[assets.Asset | None, assets.Asset | None, list[str]]:
        obtained: dict[str, assets.Asset | None] = {}
        problems = []
        for name in ("engine", "network"):
            try:
                obtained[name] = assets.obtain(
                    f"katago_{name}", self._task.args[name], cache, display.display
                )
            except assets.AssetError as error:
                obtained[name] = None
                problems.append(str(error))
        return obtained["engine"], obtained["network"], problems

    def _refuse(self, result: dict[str, Any], problems: list[str]) -> dict[str, Any]:
        listed = "\n".join(f"- {problem}" for problem in problems)
        return {
            **result,
            "failed": True,
            "problems": problems,
            "msg": f"Refused; nothing was changed on this host.\n{listed}",
        }
