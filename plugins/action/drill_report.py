"""Reports on the drills of a month or a quarter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive as drill_archive
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import report as drill_report
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks, quarterly, records
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node. Connects to no host."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the reports, and print what is overdue."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = arguments.validated(self)
        try:
            archive = drill_archive.read_all(Path(given["records_dir"]))
            reports = [
                drill_report.build(archive, SCENARIOS, period, as_of)
                for period, as_of in drill_report.periods(
                    archive, str(given["month"]), str(given["quarter"]), str(given["as_of"])
                )
            ]
            return {**result, **self._write(Path(given["records_dir"]), archive, reports)}
        except (drill_report.PeriodError, quarterly.QuarterError) as error:
            msg = f"Refused; nothing was written. {error}"
            return {**result, "failed": True, "refused": True, "msg": msg}
        except OSError as error:
            raise AnsibleActionFail(f"The records cannot be read or written: {error}") from error

    def _write(
        self, root: Path, archive: drill_archive.Archive, reports: list[drill_report.Report]
    ) -> dict[str, Any]:
        contents = {}
        for each in reports:
            document, stem = drill_report.document(each), root / "reports" / f"drills-{each.period.name}"
            contents[stem.with_name(f"{stem.name}.json")] = drill_report.as_json(each)
            contents[stem.with_name(f"{stem.name}.md")] = blocks.as_markdown(document)
            contents[stem.with_name(f"{stem.name}.html")] = blocks.as_html(document, dark=True)
        changed = records.write(contents, dry=bool(self._task.check_mode))
        for problem in archive.unread:
            display.warning(problem)
        overdue = list(drill_report.overdue_texts(reports[-1]))
        for line in overdue:
            display.display(f"OVERDUE  {blocks.clean(line)}")
        verb = "Would write" if self._task.check_mode else "Wrote"
        if changed:
            display.display(f"{verb} {', '.join(map(str, changed))}.")
        else:
            display.display("Nothing changed: all files are up to date.")
        return {
            "changed": bool(changed),
            "overdue": overdue,
            "unread": list(archive.unread),
            "paths": [str(path) for path in contents],
        }
