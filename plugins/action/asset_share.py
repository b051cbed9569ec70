"""The control node's part of `katago.fleet.asset_share`: plans what is shared, and sends it once."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import sharing

display = Display()
_INSTEAD = "The control node sends the files to each host instead."


class RefusedError(Exception):
    """The asset host does not share; the message has the cause."""


class ActionModule(ActionBase):
    """Shares what several hosts lack, or ends that. A host that cannot share is no failure."""

    # With True, Ansible would make a directory on the asset host before `run` can catch that it is gone, and
    # would take the host of the task for unreachable.
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan, send, serve; or stop."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._arguments = validation.validated(self)
        self._vars = task_vars or {}
        self._directory = Path(constants.DEFAULT_LOCAL_TMP)
        if self._arguments["state"] == "stopped":
            return {**result, **self._stop()}
        host = self._asset_host()
        files = self._files(host) if host else []
        answer = {**result, "changed": False, "shared": [file.name for file in files]}
        if not files or host is None:
            return answer
        numbers = ", ".join(f"{file.name} ({len(file.hosts)} hosts)" for file in files)
        if self._task.check_mode:
            display.display(f"[{host}] Would share {numbers}")
            return answer
        display.display(f"[{host}] Sharing {numbers}")
        try:
            self._start(host, files)
        except (RefusedError, AnsibleError) as error:
            display.warning(f"[{host}] Files are not shared: {error}. {_INSTEAD}")
            return {**answer, "shared": []}
        return answer

    def _asset_host(self) -> str | None:
        group = self._vars["groups"].get(fleet_hosts.GROUP, [])
        return sharing.asset_host(self._arguments["host"], group, self._vars["ansible_play_hosts"])

    def _files(self, host: str) -> list[sharing.File]:
        facts = {
            name: self._hostvars(name)["preflight_facts"]
            for name in self._vars["ansible_play_batch"]
            if "preflight_facts" in self._hostvars(name)
            and not self._hostvars(name).get("katago_asset_mirror")
        }
        return sharing.worth_sharing(
            sharing.lacking(facts),
            host,
            named=bool(self._arguments["host"]),
            direct_hosts=self._arguments["direct_hosts"],
        )

    def _hostvars(self, name: str) -> Mapping[str, Any]:
        variables: Mapping[str, Any] = self._vars["hostvars"][name]
        return variables

    def _start(self, host: str, files: list[sharing.File]) -> None:
        address = fleet_hosts.address(host, self._hostvars(host))
        if problem := sharing.unreachable(host, address):
            raise RefusedError(problem)
        installed = {file.sha256: file.installed for file in files if file.installed}
        intact = self._step("probe", installed=installed)["intact"]
        directory = self._connection._shell.tmpdir or self._make_tmp_path()
        join = self._connection._shell.join_path
        sources = {file.sha256: file.installed for file in files if file.sha256 in intact}
        try:
            for file in files:
                if file.sha256 not in sources:
                    sources[file.sha256] = join(directory, file.sha256)
                    self._transfer_file(file.path, sources[file.sha256])
            token, unit = secrets.token_urlsafe(32), f"katago-assets-{secrets.token_hex(4)}.service"
            hosts = sorted({name for file in files for name in file.hosts} | {host})
            started = self._step(
                "start",
                unit=unit,
                sources=sources,
                bundle=join(directory, "bundle"),
                clients=[fleet_hosts.address(name, self._hostvars(name)) for name in hosts],
                token_sha256=digest.of_text(token),
                port=self._arguments["port"],
                time_limit=self._arguments["time_limit"],
            )
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if started["unknown"]:
            display.warning(
                f"[{host}] It does not know the addresses of {', '.join(started['unknown'])} and will refuse"
                " them. Set fleet_address of these hosts to an IP address."
            )
        shared = tuple(file.sha256 for file in files)
        address = sharing.base_url(address, started["port"], token)
        share = sharing.Share(host, unit, address, shared)
        try:
            sharing.write(share, self._directory)
        except OSError as error:
            self._end(share)
            raise RefusedError(f"the share cannot be recorded in {self._directory}: {error}") from error

    def _stop(self) -> dict[str, Any]:
        if not (share := sharing.read(self._directory)):
            return {"changed": False, "shared": []}
        sharing.forget(self._directory)
        self._end(share)
        return {"changed": False, "shared": []}

    def _end(self, share: sharing.Share) -> None:
        try:
            self._step("stop", unit=share.unit)
        except (RefusedError, AnsibleError) as error:
            display.warning(
                f"[{share.host}] {share.unit} was not stopped: {error}. It ends at its time limit"
                " (katago_asset_time_limit)."
            )

    def _step(self, step: str, **arguments: Any) -> dict[str, Any]:
        outcome: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.asset_share",
            module_args={**arguments, "step": step},
            task_vars=self._vars,
        )
        if reason := outcome.get("refused"):
            raise RefusedError(str(reason))
        if outcome.get("failed") or outcome.get("unreachable"):
            raise RefusedError(str(outcome.get("msg") or "no answer"))
        return outcome
