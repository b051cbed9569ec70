"""Reports on all incidents: what is overdue, and the quarterly report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive as drill_archive
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import report as drill_report
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.review import answers, blocks, quarterly, records
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments

display = Display()


class InputError(Exception):
    """An input is not valid. The message names it and what is accepted."""


class ActionModule(ActionBase):
    """Runs once, on the control node. Connects to no host."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print what is overdue and fail if anything is, or write a quarterly report."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = arguments.validated(self)
        try:
            as_of = _day(str(given["as_of"]))
            root = Path(self._task.args["records_dir"])
            all_records = records.read_all(root)
            for problem in all_records.unread:
                display.warning(problem)
            if given["report"] == "actions":
                return {**result, **self._actions(all_records, as_of)}
            return {**result, **self._quarter(root, all_records, given, as_of)}
        except (InputError, quarterly.QuarterError) as error:
            return {
                **result,
                "failed": True,
                "refused": True,
                "msg": f"Refused; nothing was written. {error}",
            }
        except OSError as error:
            raise AnsibleActionFail(f"The records cannot be read or written: {error}") from error

    def _actions(self, all_records: quarterly.Records, as_of: date | None) -> dict[str, Any]:
        now = datetime.now(UTC)
        day = as_of or now.date()
        at = timestamps.stamp(datetime.combine(as_of, datetime.max.time(), UTC) if as_of else now)
        items = quarterly.overdue_items(all_records.all, day)
        overdue = [
            f"{record.incident.id}: {item.what} (owner {item.owner}, due {item.due}, {item.priority})"
            for record, item in items
        ]
        reviews = [
            f"{record.incident.id}: review (responsible {standing.who}, due {standing.due})"
            for record in all_records.all
            if not record.is_drill
            and (standing := answers.standing(record.incident, record.answer_set)).is_overdue(at)
        ]
        open_items = sum(
            item.is_open(day) for record in all_records.all for item in record.answer_set.action_items
        )
        for line in (*overdue, *reviews):
            display.display(f"OVERDUE  {blocks.clean(line)}")
        verdict = (
            f"{messages.counted(open_items, 'action item')} open, {len(overdue)} overdue;"
            f" {messages.counted(len(reviews), 'review')} overdue"
        )
        display.display(f"As of {day}: {verdict}.")
        answer = {"changed": False, "overdue": overdue, "overdue_reviews": reviews}
        if all_records.unread:
            msg = f"{verdict}. Some records could not be read and may contain more overdue entries."
            return {**answer, "failed": True, "msg": f"{msg} {' '.join(all_records.unread)}"}
        return {**answer, "failed": True, "msg": f"{verdict}."} if overdue or reviews else answer

    def _quarter(
        self,
        root: Path,
        all_records: quarterly.Records,
        extra_variables: Mapping[str, Any],
        as_of: date | None,
    ) -> dict[str, Any]:
        requested = str(extra_variables.get("quarter") or "")
        archive = drill_archive.read_all(root)
        for problem in archive.unread:
            display.warning(problem)
        all_records = replace(
            all_records,
            unread=(*all_records.unread, *archive.unread),
            times=tuple(each["started"] for each in archive.drills),
        )
        newest = quarterly.newest(all_records)
        if not requested and newest is None:
            raise InputError("There are no records to choose a quarter from. Give it: -e quarter=2026Q4.")
        quarter = quarterly.parse(requested) if requested or newest is None else quarterly.of_day(newest)
        day = as_of or quarterly.default_as_of(all_records, quarter)
        if day < quarter.first:
            raise InputError(
                f"-e as_of is {day}, but {quarter.name} starts on {quarter.first}. Give a later day."
            )
        drills = drill_report.build(archive, SCENARIOS, quarter, day)
        document = quarterly.build(
            all_records, quarter, day, self._task.args.get("roster"), drill_report.quarter_blocks(drills)
        )
        dry = bool(self._task.check_mode)
        written = records.report(root, quarter.name, document, dry=dry)
        verb = "Would write" if dry else "Wrote"
        if written:
            display.display(f"{verb} {', '.join(map(str, written))}.")
        else:
            display.display("Nothing changed: all files are up to date.")
        return {"changed": bool(written), "quarter": quarter.name, "as_of": str(day)}


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return timestamps.parse_day(text)
    except ValueError:
        raise InputError(f"-e as_of is {text!r}. Give a day such as 2026-12-31.") from None
