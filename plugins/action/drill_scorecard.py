"""Scores a drill and writes its scorecard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive, cards, scorecard
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node. Connects to no host."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the scorecard, and print the score with its reasons."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = arguments.validated(self)
        try:
            written = cards.write(Path(given["records_dir"]), given["drill"], dry=bool(self._task.check_mode))
        except archive.RecordError as error:
            return {**result, "failed": True, "msg": f"The drill cannot be scored. {error}"}
        except OSError as error:
            raise AnsibleActionFail(f"The scorecard cannot be written: {error}") from error
        for problem in written.unread:
            display.warning(problem)
        display.display(scorecard.verdict(written.score))
        for reason in written.card["reasons"]:
            display.display(f"  {reason}")
        if written.card["recovery"]["slower"]:
            display.warning(scorecard.compared(written.comparison, written.card["times"]["recover"]))
        return {
            **result,
            "changed": bool(written.changed),
            "score": written.card["score"],
            "reasons": written.card["reasons"],
            "slower": written.card["recovery"]["slower"],
            "paths": [str(path) for path in written.paths],
        }
