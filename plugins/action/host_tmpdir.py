"""Finds a directory for temporary files on a host, by a shell command that needs none itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import places


class ActionModule(ActionBase):
    """Tries the directories; fails if none of them works."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Try the directories and choose."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        megabytes = int(validation.validated(self)["needed_mb"])
        preferred = self._preferred()
        transit = str(self.get_shell_option("remote_tmp", "~/.ansible/tmp"))
        temporary = list(dict.fromkeys((preferred, *places.ALTERNATIVES)))
        done: dict[str, Any] = self._low_level_execute_command(
            places.script(temporary, [transit, places.TRANSIT], megabytes)
        )
        choice = places.choose(
            places.parse(str(done.get("stdout", ""))),
            preferred=preferred,
            transit=transit,
            host=(task_vars or {})["inventory_hostname"],
        )
        if choice.refusal:
            return {**result, "failed": True, "refused": True, "msg": choice.refusal}
        return {
            **result,
            "changed": False,
            "environment": {"TMPDIR": choice.directory} if choice.directory else {},
            "remote_tmp": choice.transit,
            **({"warnings": list(choice.warnings)} if choice.warnings else {}),
        }

    def _preferred(self) -> str:
        """The directory that modules would use: TMPDIR of the play, or /tmp."""
        environments = [each for each in self._task.environment or [] if isinstance(each, Mapping)]
        preferred = (str(each["TMPDIR"]) for each in environments if "TMPDIR" in each)
        return next(preferred, places.ALTERNATIVES[0])
