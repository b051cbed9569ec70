"""Reports over the records of all incidents: what is overdue, and the quarterly review."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages
from ansible_collections.katago.fleet.plugins.plugin_utils.review import answers, blocks, quarterly, records
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments

display = Display()


class InputError(Exception):
    """The inputs cannot be followed; the message says which, and what is accepted."""


class ActionModule(ActionBase):
    """Runs once, on the control node; no host is asked."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print what is overdue and fail when something is, or write the report of a quarter."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = arguments.validated(self)
        try:
            as_of = _day(str(given["as_of"]))
            root = Path(self._task.args["records_dir"])
            found = records.read_all(root)
            for words in found.unread:
                display.warning(words)
            if given["report"] == "actions":
                return {**result, **self._actions(found, as_of)}
            return {**result, **self._quarter(root, found, given, as_of)}
        except (InputError, quarterly.QuarterError) as error:
            return {
                **result,
                "failed": True,
                "refused": True,
                "msg": f"Refused; nothing was written. {error}",
            }
        except OSError as error:
            raise AnsibleActionFail(f"The records cannot be read or written: {error}") from error

    def _actions(self, found: quarterly.Records, as_of: date | None) -> dict[str, Any]:
        now = datetime.now(UTC)
        day = as_of or now.date()
        at = timestamps.stamp(datetime.combine(as_of, datetime.max.time(), UTC) if as_of else now)
        items = quarterly.overdue_items(found.all, day)
        overdue = [
            f"{record.incident.id}: {item.what}; {item.owner}, due {item.due}, {item.priority}"
            for record, item in items
        ]
        reviews = [
            f"{record.incident.id}: its review; {standing.who}, due {standing.due}"
            for record in found.all
            if not record.is_drill
            and (standing := answers.standing(record.incident, record.said)).is_overdue(at)
        ]
        left = sum(item.is_open(day) for record in found.all for item in record.said.action_items)
        for words in (*overdue, *reviews):
            display.display(f"OVERDUE  {blocks.clean(words)}")
        verdict = (
            f"{messages.counted(left, 'action item')} open, {len(overdue)} overdue;"
            f" {messages.counted(len(reviews), 'review')} overdue"
        )
        display.display(f"As of {day}: {verdict}.")
        made = {"changed": False, "overdue": overdue, "overdue_reviews": reviews}
        if found.unread:
            msg = f"{verdict}; not all could be read, and what is unread may be overdue."
            return {**made, "failed": True, "msg": f"{msg} {' '.join(found.unread)}"}
        return {**made, "failed": True, "msg": f"{verdict}."} if overdue or reviews else made

    def _quarter(
        self, root: Path, found: quarterly.Records, given: Mapping[str, Any], as_of: date | None
    ) -> dict[str, Any]:
        asked = str(given.get("quarter") or "")
        newest = quarterly.newest(found)
        if not asked and newest is None:
            raise InputError("There are no records; say which quarter: -e quarter=2026Q4.")
        quarter = quarterly.parse(asked) if asked or newest is None else quarterly.of_day(newest)
        day = as_of or quarterly.default_as_of(found, quarter)
        if day < quarter.first:
            raise InputError(f"-e as_of is {day}, before {quarter.name} begins on {quarter.first}.")
        document = quarterly.build(found, quarter, day, self._task.args.get("roster"))
        dry = bool(self._task.check_mode)
        written = records.report(root, quarter.name, document, dry=dry)
        verb = "Would be written" if dry else "Written"
        display.display(f"{verb}: {', '.join(map(str, written)) or 'nothing, all is as it was'}.")
        return {"changed": bool(written), "quarter": quarter.name, "as_of": str(day)}


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return timestamps.parse_day(text)
    except ValueError:
        raise InputError(f"-e as_of is {text!r}; give a day such as 2026-12-31.") from None
