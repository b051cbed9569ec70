"""Records an incident's events and sends its messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import (
    channels,
    delivery,
    messages,
    reminders,
    state,
    wording,
)
from ansible_collections.katago.fleet.plugins.module_utils.incident import report as incident_report
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import outbox, planner, roster
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import request as incident_request
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store as incident_store
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_reports
from ansible_collections.katago.fleet.plugins.plugin_utils.review import answers
from ansible_collections.katago.fleet.plugins.plugin_utils.run import (
    actors,
    commands,
    fleet_hosts,
    inputs,
    triage_file,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation

display = Display()
_REFUSALS = (
    incident_request.InputError,
    state.RefusedError,
    state.DamagedError,
    records.RecordError,
    roster.RosterError,
)


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the inputs. Unless `only_check` is set, also plan, record and send messages."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        known = task_vars or {}
        arguments = validation.validated(self)
        sources = known.get("ansible_inventory_sources") or []
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            request = incident_request.parse(arguments["verb"], arguments["inputs"])
            store = incident_store.IncidentRecords(Path(self._task.args["records_dir"]))
            if arguments["only_check"]:
                store.state(request.incident)
                if request.verb not in ("open", "show"):
                    planner.find(request.incident, self._all(store))
                return {**result, "changed": False}
            if request.verb == "show":
                return {**result, **self._show(store, request)}
            return {**result, **self._do(store, request, now, known)}
        except _REFUSALS as error:
            return {
                **result,
                "failed": True,
                "refused": True,
                "msg": commands.as_run_here(f"Refused; nothing was recorded. {error}", sources),
            }
        except OSError as error:
            raise AnsibleActionFail(f"The incident's record cannot be read or written: {error}") from error

    def _all(self, store: incident_store.IncidentRecords) -> dict[str, state.Incident]:
        found, problems = store.load_all()
        for problem in problems:
            display.warning(problem)
        return found

    def _do(
        self,
        store: incident_store.IncidentRecords,
        request: incident_request.Request,
        now: datetime,
        known: Mapping[str, Any],
    ) -> dict[str, Any]:
        who = actors.actor()
        if request.verb == "escalate":
            roster.contact(self._task.args["roster"], request.to)
        report = self._report(known, now) if request.verb == "open" else None
        with nullcontext() if self._task.check_mode else store.locked():
            if request.incident:
                # A damaged record must not be opened again: this raises DamagedError.
                store.load(request.incident)
            there = self._all(store)
            plan = planner.plan(
                request,
                planner.PlanContext(
                    now=now,
                    who=who,
                    all=there,
                    taken=frozenset(store.taken()),
                    report=report,
                    public_texts=self._task.args["public_texts"],
                    hosts=_names_of_hosts(known),
                    jargon=self._task.args["jargon"],
                    timelines={
                        name: outbox.read_timeline(store.timeline(name))
                        for name, each in there.items()
                        if each.is_open
                    },
                    unwatched=fleet_hosts.only_load_balancers(known["groups"]),
                ),
            )
            # What an earlier run printed, where no channel sends it. `deliver` prints it again.
            earlier = there.get(plan.incident) if request.verb != "deliver" else None
            printed = self._names_of_letters(store, earlier, now, _names_of_hosts(known))
            incident = self._predicted(store, plan, now, who)
            calls, uncalled = self._calls(request, incident, now)
            plan = replace(plan, events=(*plan.events, *calls))
            if self._task.check_mode:
                incident = self._predicted(store, plan, now, who)
            elif plan.events:
                store.append(plan.incident, *plan.events, at=timestamps.stamp(now), who=who)
        predicted = self._task.check_mode
        display.display(f"Would record: {plan.words}" if predicted and plan.events else plan.words)
        for call in calls:
            verb = "Would escalate" if predicted else "Escalated"
            display.display(f"{verb} to {call['to']}: {call['why']}.")
        if self._task.check_mode:
            told = self._predict(store, incident, now, _names_of_hosts(known), printed)
        else:
            hosts = _names_of_hosts(known)
            told = self._tell(store, plan.incident, request.resend, now, who, hosts, printed)
            incident = self._loaded(store, plan.incident)
        told += delivery.Report(problems=tuple(uncalled))
        sources = known.get("ansible_inventory_sources") or []
        self._advise(incident, now, sources)
        for warning in (*plan.warnings, *told.passed, *self._roster_problems(now)):
            display.warning(warning)
        return {
            "changed": bool(plan.events or told.sent),
            "incident": plan.incident,
            "severity": incident.severity,
            "levels": incident.host_levels,
            "status": incident.status,
            "respond_by": incident.respond_by,
            "update_due": incident.update_due,
            "message": plan.words,
            "clock": self._clock(incident),
            "sent": list(told.sent),
            "passed": list(told.passed),
            "problems": [commands.as_run_here(problem, sources) for problem in told.problems],
        }

    def _predicted(
        self,
        store: incident_store.IncidentRecords,
        plan: planner.Plan,
        now: datetime,
        who: str,
    ) -> state.Incident:
        return store.predict(plan.incident, *plan.events, at=timestamps.stamp(now), who=who)

    def _calls(
        self, request: incident_request.Request, incident: state.Incident, now: datetime
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """The automatic escalations, and a sentence for each contact that cannot be called.

        Without contacts nothing is escalated; `_advise` then shows what a person must do.
        """
        by_itself = self._task.args.get("escalate_automatically", True)
        wanted = inputs.strict_bool(by_itself, "incident_escalate_automatically")
        roles = roster.roles(self._task.args["roster"])
        if not wanted or not roles or request.verb not in ("open", "update"):
            return [], []
        calls, problems = [], []
        for call in planner.calls(incident, roles, str(self._task.args["escalate_to"]), now):
            try:
                roster.contact(self._task.args["roster"], call["to"])
            except roster.RosterError as error:
                problems.append(f"{call['to']} could not be called ({call['why']}): {error}.")
            else:
                calls.append(call)
        return calls, problems

    def _report(self, known: Mapping[str, Any], now: datetime) -> Mapping[str, Any]:
        if not (path := self._task.args.get("triage_json")):
            breach = self._task.args["inputs"].get("breach") is True
            return triage_reports.gather(known, now, breach=breach).as_dict(now)
        try:
            report = incident_report.check(json.loads(Path(path).expanduser().read_bytes()))
        except (OSError, ValueError) as error:
            raise incident_request.InputError(
                f"-e triage_json={path} is not a report of playbooks/triage.yml: {error}."
            ) from error
        if unfinished := report.get(triage_file.UNFINISHED):
            raise incident_request.InputError(f"-e triage_json={path} has no verdict: {unfinished}")
        return report

    def _letters(
        self,
        store: incident_store.IncidentRecords,
        incident: state.Incident,
        now: datetime,
        hosts: Sequence[str],
    ) -> tuple[list[delivery.Letter], list[str]]:
        arguments = self._task.args
        title = str(arguments["page_title"])
        groups, _ = channels.groups(arguments["channels"])
        has_page = any(channel.kind == "page" for group in groups for channel in group.channels)
        others = [each for name, each in store.load_all()[0].items() if name != incident.id]
        desk = outbox.Desk(
            now=now,
            setting=self._setting(),
            page_title=title,
            roster=arguments["roster"],
            all=[incident, *others],
            title_problems=[
                problem.replace("the public text", "it", 1)
                for problem in wording.public_problems(title, hosts, arguments["jargon"])
                if has_page
            ],
        )
        timeline = outbox.read_timeline(store.timeline(incident.id))
        return outbox.letters(incident, timeline, desk)

    def _names_of_letters(
        self,
        store: incident_store.IncidentRecords,
        incident: state.Incident | None,
        now: datetime,
        hosts: Sequence[str],
    ) -> frozenset[str]:
        letters = self._letters(store, incident, now, hosts)[0] if incident else []
        return frozenset(each.message.name for each in letters)

    def _tell(
        self,
        store: incident_store.IncidentRecords,
        name: str,
        resend: bool,
        now: datetime,
        who: str,
        hosts: Sequence[str],
        printed: frozenset[str],
    ) -> delivery.Report:
        """Send the messages that are due. Without channels, print those that are not `printed`."""

        def note(outcome: state.Outcome, key: str, why: str) -> None:
            event = {"event": outcome, "key": key, **({"why": why} if why else {})}
            with store.locked():
                store.append(name, event, at=timestamps.stamp(datetime.now(UTC)), who=who)

        groups, problems = channels.groups(self._task.args["channels"])
        with store.sending(name):
            incident = self._loaded(store, name)
            letters, missing = self._letters(store, incident, now, hosts)
            report = delivery.Report(problems=(*problems, *missing))
            if not groups:
                _show_letters(
                    [each for each in letters if each.message.name not in printed],
                    "No channel is configured (incident_channels). Send these messages by hand:",
                )
                return report
            report += delivery.deliver(letters, groups, incident.deliveries, note, resend=resend)
        if report.sent:
            display.display(f"Sent: {', '.join(report.sent)}.")
        return report

    def _predict(
        self,
        store: incident_store.IncidentRecords,
        incident: state.Incident,
        now: datetime,
        hosts: Sequence[str],
        printed: frozenset[str],
    ) -> delivery.Report:
        """What would be sent, and what would prevent it."""
        groups, problems = channels.groups(self._task.args["channels"])
        letters, missing = self._letters(store, incident, now, hosts)
        if groups:
            _show_letters(letters, "Would send these messages, except those that were sent before:")
        else:
            unprinted = [each for each in letters if each.message.name not in printed]
            _show_letters(unprinted, "Would print these messages, since no channel is configured:")
        wrong = [
            f"{group.name}/{channel.name}: {problem}."
            for letter in letters
            for group in delivery.receivers(letter.message, groups)
            for channel in group.channels
            for problem in channels.problems(channel, letter.message)
        ]
        return delivery.Report(passed=tuple(dict.fromkeys(wrong)), problems=(*problems, *missing))

    def _clock(self, incident: state.Incident) -> dict[str, str]:
        """The alarms for the reminder host; an empty plan for a closed incident."""
        try:
            contact = roster.contact(self._task.args["roster"], str(self._task.args["escalate_to"]))
        except roster.RosterError:
            contact = None
        plan = reminders.plan(incident, contact, self._setting())
        return {"incident": incident.id, "plan": reminders.as_text(plan) if plan.alarms else ""}

    def _setting(self) -> messages.Setting:
        arguments = self._task.args
        return messages.Setting(str(arguments["service"]), str(arguments.get("status_page") or ""))

    def _loaded(self, store: incident_store.IncidentRecords, name: str) -> state.Incident:
        incident = store.load(name).incident
        if incident is None:
            raise records.RecordError(f"{store.state(name)} was emptied during this run")
        return incident

    def _roster_problems(self, now: datetime) -> list[str]:
        return list(roster.problems(self._task.args["roster"], now.date()))

    def _advise(self, incident: state.Incident, now: datetime, sources: Sequence[str]) -> None:
        """Print what is due next."""
        if incident.is_open:
            display.display(f"The next update is due by {incident.update_due}.")
        else:
            due = answers.due(incident)
            command = f"ansible-playbook playbooks/review.yml -e incident={incident.id}"
            display.display(commands.as_run_here(f"The review is due by {due}: {command}", sources))
        triggered = state.triggers(incident, now)
        for trigger in triggered:
            display.display(f"ESCALATE: {trigger.why}.")
        if triggered:
            command = (
                f"ansible-playbook playbooks/incident_escalate.yml -e incident={incident.id}"
                f" -e to={self._task.args['escalate_to']}"
            )
            display.display(commands.as_run_here(f"  NEXT: {command}", sources))

    def _show(
        self, store: incident_store.IncidentRecords, request: incident_request.Request
    ) -> dict[str, Any]:
        found = self._all(store)
        if request.incident:
            chosen = [planner.find(request.incident, found)]
        else:
            chosen = [each for each in found.values() if each.is_open]
        for each in chosen:
            display.display(_summary(each))
        if not chosen:
            display.display("No incident is open.")
        return {
            "changed": False,
            "open": [each.id for each in found.values() if each.is_open],
            "problems": [],
        }


def _names_of_hosts(known: Mapping[str, Any]) -> list[str]:
    """All names and addresses of hosts in the inventory."""
    names = set(known["groups"]["all"])
    for host in known["groups"]["all"]:
        names.add(str(known["hostvars"][host].get("ansible_host") or host))
    return sorted(names - {"localhost"})


def _show_letters(letters: Sequence[delivery.Letter], heading: str) -> None:
    if letters:
        texts = [f"To: {each.message.audience}\n{each.message.text}" for each in letters]
        display.display("\n\n".join([heading, *texts]) + "\n")


def _summary(incident: state.Incident) -> str:
    lines = [
        f"{incident.id}: {incident.severity} (set by {incident.severity_by}), {incident.status}"
        f"{'' if incident.is_open else f', closed {incident.closed_at}'}",
        f"  started {incident.started}, opened {incident.opened_at}, respond by {incident.respond_by},"
        f" acknowledged {incident.acknowledged_at or 'not yet'}",
        f"  lead {incident.lead or 'none'}; next update by {incident.update_due or '-'};"
        f" {messages.counted(incident.joins + 1, 'alert')}",
        "  impact: " + (incident.impact or "not reported").replace("\n", "\n    "),
        f"  hosts: {messages.hosts_text(incident) or 'none with findings'}",
        f"  findings: {incident.summary or 'none'}",
    ]
    unknown = [key for key, outcome in incident.deliveries.items() if outcome in ("sending", "unknown")]
    lines += [f"  unknown whether this was sent: {key}" for key in unknown]
    return "\n".join(lines)
