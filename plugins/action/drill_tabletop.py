"""Practises a scenario without a fault, shows the right answers, and records how answers were marked."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import (
    archive,
    cards,
    questions,
    scorecard,
    tabletop,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import FILE, Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS, Scenario
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, commands, fleet_hosts, runs

display = Display()
RANDOM = "random"


class InputError(Exception):
    """An input is not valid. The message names it and what is accepted."""


class ActionModule(ActionBase):
    """Runs once, on the control node. Connects to no host."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show a scenario and record the drill, or show and mark the answers of a recorded one."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, known = arguments.validated(self), task_vars or {}
        sources = known.get("ansible_inventory_sources") or []
        try:
            if bool(given["scenario"]) == bool(given["drill"]):
                raise InputError("Give -e scenario=NAME to practise, or -e drill=ID to show the answers.")
            if given["drill"]:
                return {**result, **self._answers(given, sources)}
            return {**result, **self._practise(given, known, sources)}
        except (InputError, questions.AnswerError, archive.RecordError) as error:
            msg = f"Refused; nothing was recorded. {error}"
            return {**result, "failed": True, "refused": True, "msg": commands.as_run_here(msg, sources)}
        except OSError as error:
            raise AnsibleActionFail(f"The record of the drill cannot be written: {error}") from error

    def _practise(
        self, given: Mapping[str, Any], known: Mapping[str, Any], sources: list[str]
    ) -> dict[str, Any]:
        people = [name for each in given["participants"] if (name := each.strip())]
        if not people:
            raise InputError("Nobody takes part. Give -e 'participants=Anna; Bo'.")
        if given["answers"]:
            raise InputError("-e answers needs the drill that is marked. Give -e drill=ID.")
        is_random = given["scenario"] == RANDOM
        scenario = secrets.choice(list(SCENARIOS.values())) if is_random else _scenario(given["scenario"])
        groups = known.get("groups") or {}
        hosts = groups.get(fleet_hosts.GROUP) or []
        now = datetime.now(UTC).replace(microsecond=0)
        report = tabletop.report(scenario, hosts, groups.get(fleet_hosts.LOAD_BALANCERS) or [], now, sources)
        display.display("\n".join(tabletop.situation(scenario, is_sealed=is_random)))
        display.display(report.as_table())
        display.display("\n".join(tabletop.asked(questions.of(scenario, tabletop=True))))
        if self._task.check_mode:
            return {"changed": True, "drill": ""}
        store = DrillRecords(Path(given["records_dir"]))
        drill = store.reserve(now.date(), runs.this_run())
        at = timestamps.stamp(now)
        store.save(tabletop.record(drill, scenario, people, given["fleet"], at, sealed=is_random))
        command = commands.proposed(
            "drill_tabletop", f"-e drill={drill}", commands.inventory_arguments(sources)
        )
        display.display(
            f"Recorded as {drill}. Discuss the questions, then show the right answers:\n  {command}"
        )
        return {"changed": True, "drill": drill}

    def _answers(self, given: Mapping[str, Any], sources: list[str]) -> dict[str, Any]:
        root, drill = Path(given["records_dir"]), given["drill"]
        store = DrillRecords(root)
        record = _recorded(store, drill)
        scenario = _scenario(record["scenario"])
        asked = questions.of(scenario, tabletop=record["mode"] == "tabletop")
        marks = questions.parse(given["answers"], asked)
        display.display("\n".join(tabletop.answered(scenario, asked)))
        dry = bool(self._task.check_mode)
        updated: Record = {**record, "answers": {**record["answers"], **marks}}
        if updated != record and not dry:
            store.save(updated)
        written = cards.write(root, drill, dry=dry)
        display.display(scorecard.verdict(written.score))
        if missing := [each.id for each in asked if not questions.mark(updated["answers"].get(each.id, ""))]:
            marked = "; ".join(f"{name}=right" for name in missing)
            arguments_of_next = f"-e drill={drill} -e 'answers=\"{marked}\"'"
            command = commands.proposed(
                "drill_tabletop", arguments_of_next, commands.inventory_arguments(sources)
            )
            display.display(f"Mark the answers: {', '.join(questions.MARKS)}. For example:\n  {command}")
        return {
            "changed": updated != record or bool(written.changed),
            "drill": drill,
            "score": written.card["score"],
        }


def _scenario(name: str) -> Scenario:
    if name in SCENARIOS:
        return SCENARIOS[name]
    nearest = difflib.get_close_matches(name, SCENARIOS, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Accepted: {', '.join((RANDOM, *SCENARIOS))}."
    raise InputError(f"There is no scenario {name!r}. {hint}")


def _recorded(store: DrillRecords, drill: str) -> Record:
    """The record of a drill that people took part in, and that has ended."""
    if "/" in drill or drill.startswith("."):
        raise InputError(f"-e drill is {drill!r}. Give the ID of a drill, such as drill-2026-11-24-1.")
    path = store.directory(drill) / FILE
    if not path.exists():
        raise InputError(f"There is no drill {drill!r}. playbooks/drill_report.yml lists all drills.")
    record = archive.read(path)
    if record["outcome"] == "running":
        raise InputError(f"{drill} has not ended. Its answers stay secret until then.")
    if record["mode"] == "unattended":
        raise InputError(f"{drill} was unattended, so nobody is asked about it.")
    return record
