"""The control node's part of `katago.fleet.preflight`: checks inputs, assets and the measured host."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import (
    assets,
    certificates,
    load_balancer,
    preflight,
    shared_cache,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts, inputs, variables

display = Display()
ROLES = Path(__file__).resolve().parents[2] / "roles"
# The host's directory for each kind of asset, below /opt/katago.
_DIRECTORIES = {"engine": "engines", "network": "networks", "human_network": "networks"}


class ActionModule(ActionBase):
    """Fails with one message that lists every problem, before the host is changed."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the inputs, fetch the assets, measure the host, and check the facts."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        untested = inputs.switch(arguments, "untested_system", "preflight_untested_system", default=False)
        gpus = {
            "gpu_vendor": arguments.get("gpu_vendor", "auto"),
            "gpu_devices": arguments.get("gpu_devices") or [],
        }
        if arguments.get("scope") == "system":
            measured = self._measure({"listeners": [], "assets": {}, **gpus}, task_vars)
            if measured.get("failed") or measured.get("unreachable"):
                return {**result, **measured}
            if problems := list(preflight.system_problems(measured["host"], untested=untested)):
                return self._refuse(result, problems)
            return {**self._warned(result, measured["host"]), "changed": False, "host": measured["host"]}
        hostvars = task_vars or {}
        problems = list(
            variables.problems(
                variables.specs(ROLES), iter(hostvars), lambda name: self._value(hostvars[name])
            )
        )
        if problems:
            return self._refuse(result, problems)
        problems = preflight.input_problems(
            {
                "katago_engine": arguments["engine"],
                "katago_gpu_engines": arguments.get("gpu_engines") or {},
                "katago_network": arguments["network"],
                "katago_human_network": arguments.get("human_network") or {},
                "katago_mcp_listen_address": arguments["listen_address"],
                "katago_mcp_port": arguments["port"],
                "katago_mcp_metrics_listen_address": arguments["metrics_listen_address"],
                "katago_mcp_metrics_port": arguments["metrics_port"],
                "katago_mcp_allowed_hosts": arguments["allowed_hosts"],
                "katago_mcp_allowed_clients": arguments["allowed_clients"],
                "katago_mcp_trusted_proxies": arguments.get("trusted_proxies") or [],
                "katago_mcp_tokens": arguments["tokens"],
                "katago_mcp_session_key": arguments.get("session_key", ""),
                "katago_asset_host": arguments.get("asset_host", ""),
                "katago_asset_mirror": arguments.get("asset_mirror", ""),
                "fleet_hosts": hostvars.get("groups", {}).get(fleet_hosts.GROUP, []),
                **arguments.get("limits", {}),
            }
        ) + certificates.problems(
            arguments.get("tls_certificate", ""), arguments.get("tls_key", ""), now=datetime.now(UTC)
        )
        balancers = hostvars.get("groups", {}).get(fleet_hosts.LOAD_BALANCERS) or []
        problems += load_balancer.certificate_problems(
            str(hostvars.get("inventory_hostname")),
            arguments.get("tls_certificate", ""),
            {name: hostvars["hostvars"][name] for name in balancers},
        )
        cache = arguments.get("shared_cache") or {}
        problems += shared_cache.problems(
            url=str(cache.get("url") or ""),
            password=str(cache.get("password") or ""),
            ca=str(cache.get("ca") or ""),
            networks=cache.get("networks") or [],
            session_key=str(arguments.get("session_key") or ""),
        )
        if problems:
            return self._refuse(result, problems)
        engine_spec = arguments["engine"]
        if gpu_engines := arguments.get("gpu_engines"):
            measured = self._measure({"listeners": [], "assets": {}, **gpus}, task_vars)
            if measured.get("failed") or measured.get("unreachable"):
                return {**result, **measured}
            engine_spec = preflight.engine_for(engine_spec, gpu_engines, measured["host"]["gpu_vendor"])
        specs = {
            "engine": engine_spec,
            "network": arguments["network"],
            "human_network": arguments.get("human_network"),
        }
        obtained, problems = self._obtain(specs, Path(arguments["cache_dir"]).expanduser())
        measured = self._measure(
            {
                "listeners": [
                    {
                        "address": arguments[f"{kind}listen_address"],
                        "port": int(arguments[f"{kind}port"]),
                    }
                    for kind in ("", "metrics_")
                ],
                "assets": {
                    name: f"/opt/katago/{_DIRECTORIES[name]}/{asset.sha256}"
                    for name, asset in obtained.items()
                },
                **gpus,
            },
            task_vars,
        )
        if measured.get("failed") or measured.get("unreachable"):
            return {**result, **measured}
        result["host"] = measured["host"]
        sizes = {name: asset.path.stat().st_size for name, asset in obtained.items()}
        problems += preflight.host_problems(
            measured["host"],
            network_bytes=sizes.get("network", 0),
            human_network_bytes=sizes.get("human_network", 0),
            backend=str(engine_spec["backend"]),
            untested=untested,
            credentials=bool(arguments["tokens"] or arguments.get("tls_certificate")),
        )
        if problems:
            return self._refuse(result, problems)
        engine = obtained["engine"]
        networks = {
            name: {
                "path": str(obtained[name].path),
                "sha256": obtained[name].sha256,
                "name": obtained[name].name,
                "bytes": sizes[name],
            }
            if name in obtained
            else None
            for name in ("network", "human_network")
        }
        return {
            **self._warned(result, measured["host"]),
            "changed": False,
            "engine": {
                "path": str(engine.path),
                "sha256": engine.sha256,
                "version": str(engine_spec["version"]),
                "backend": engine_spec["backend"],
            },
            **networks,
        }

    def _value(self, raw: Any) -> Any:
        try:
            return self._templar.template(raw)
        except AnsibleUndefinedVariable:
            # A default that depends on the result of this task.
            return None

    def _measure(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        measured: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.preflight", module_args=arguments, task_vars=task_vars
        )
        return measured

    def _obtain(self, specs: dict[str, Any], cache: Path) -> tuple[dict[str, assets.Asset], list[str]]:
        obtained: dict[str, assets.Asset] = {}
        problems = []
        for name in _DIRECTORIES:
            spec = specs[name]
            if not spec:
                continue
            try:
                obtained[name] = assets.obtain(f"katago_{name}", spec, cache, display.display)
            except assets.AssetError as error:
                problems.append(str(error))
        return obtained, problems

    def _warned(self, result: dict[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
        """The result with the warnings about the host for Ansible."""
        warnings = preflight.system_warnings(host)
        return {**result, "warnings": warnings} if warnings else result

    def _refuse(self, result: dict[str, Any], problems: list[str]) -> dict[str, Any]:
        listed = "\n".join(f"- {problem}" for problem in problems)
        return {
            **result,
            "failed": True,
            "problems": problems,
            "msg": f"Refused; nothing was changed on this host.\n{listed}",
        }
