"""Builds the review of an incident from its record and evidence."""

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
    """Runs once, on the control node. Connects to no host."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Build the review, write the files that changed, and report the open questions."""
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
            raise AnsibleActionFail(f"The review cannot be written: {error}") from error
        self._report(incident, root, built)
        return {
            **result,
            "changed": bool(built.written),
            "complete": built.standing.complete,
            "unanswered": list(built.standing.unanswered),
            "due": built.standing.due,
            "who": built.standing.who,
        }

    def _report(self, incident: str, root: Path, built: records.Built) -> None:
        standing = built.standing
        for place in built.answer_set.secrets:
            display.warning(
                f"{place} seems to contain a secret. The review hides it, but the file still has it."
                " Remove it there."
            )
        verb = "Would write" if self._task.check_mode else "Wrote"
        if built.written:
            display.display(f"{verb} {', '.join(map(str, built.written))}.")
        else:
            display.display("Nothing changed: all files are up to date.")
        if standing.complete:
            late = " It was concluded late." if standing.late else ""
            display.display(f"{incident}: the review is complete.{late}")
            return
        due = f", due by {standing.due}" if standing.due else ""
        now = timestamps.stamp(datetime.now(UTC))
        overdue = " OVERDUE." if standing.is_overdue(now) else ""
        display.display(
            f"{incident}: the review is open. Responsible: {standing.who}{due}.{overdue} Still missing:"
        )
        for question in standing.unanswered:
            display.display(f"  {question}")
        path = root / "incidents" / incident / answers.FILE
        display.display(f"Fill in {path}, then run this playbook again.")
