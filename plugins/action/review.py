"""Builds the review of an incident from its record and its evidence."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import state
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records as evidence_records
from ansible_collections.katago.fleet.plugins.plugin_utils.review import answers, records
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node; no host is asked."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Build, write what changed, and say what is left to answer."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        incident = str(arguments.validated(self)["incident"])
        root = Path(self._task.args["records_dir"])
        fleet = [str(host) for host in (task_vars or {})["groups"].get("katago", [])]
        try:
            built = records.build(root, incident, fleet, dry=self._task.check_mode)
        except (evidence_records.RecordError, state.DamagedError, answers.AnswersError) as error:
            msg = f"Refused; nothing was written. {error}"
            return {**result, "failed": True, "refused": True, "msg": msg}
        except OSError as error:
            raise AnsibleActionFail(f"The review cannot be kept: {error}") from error
        self._say(incident, root, built)
        return {
            **result,
            "changed": bool(built.written),
            "complete": built.standing.complete,
            "unanswered": list(built.standing.unanswered),
            "due": built.standing.due,
            "who": built.standing.who,
        }

    def _say(self, incident: str, root: Path, built: records.Built) -> None:
        standing = built.standing
        for place in built.said.secrets:
            display.warning(f"{place} looks like it holds a secret; it is shown redacted. Take it out there.")
        verb = "Would be written" if self._task.check_mode else "Written"
        display.display(f"{verb}: {', '.join(map(str, built.written)) or 'nothing, all is as it was'}.")
        if standing.complete:
            late = " It was concluded late." if standing.late else ""
            display.display(f"{incident}: the review is complete.{late}")
            return
        due = f", due by {standing.due}" if standing.due else ""
        now = timestamps.stamp(datetime.now(UTC))
        overdue = " OVERDUE." if standing.is_overdue(now) else ""
        display.display(f"{incident}: the review is open; {standing.who}{due}.{overdue} Unanswered:")
        for words in standing.unanswered:
            display.display(f"  {words}")
        path = root / "incidents" / incident / answers.FILE
        display.display(f"Answer in {path}, and run this again.")
