"""The table of procedures and of every input that an operator can give them.

The checks, the reference, the help of `bin/fleet` and what playbooks pass to roles are made from it. It needs
nothing but the standard library, so that `bin/fleet --help` works before Ansible is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

Type = Literal["text", "word", "bool", "int", "number", "list", "time", "day", "path"]
Situation = Literal[
    "Set up and change a fleet",
    "Find out what is wrong",
    "Repair a host",
    "Back up and restore",
    "Suspect a breach",
    "Manage an incident",
    "Review and report",
]


@dataclass(frozen=True)
class Input:
    """An input of a procedure, given with `-e NAME=VALUE` or as an option of `bin/fleet`.

    `default` is what the procedure uses when the input is not given; None and "" mean nothing. `minimum`
    and `maximum` bound an int or a number. `variable` names the role variable of the inventory that replaces
    the default. `is_role_variable` marks a variable of a role that operators often give: its role reads and
    checks it.
    `recorded` says whether the timeline of an incident may show its value.
    """

    name: str
    type: Type
    summary: str
    default: str | bool | float | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float = float("inf")
    required: bool = False
    recorded: bool = True
    variable: str = ""
    is_role_variable: bool = False

    @property
    def option(self) -> str:
        """The option of `bin/fleet`."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True)
class Procedure:
    """A procedure: a playbook of that name, or several that it imports.

    `locks`: it takes the lock of every host, and keeps evidence first. `records`: it keeps records, so it
    must be clear where they are. `imports`: the procedures whose inputs it takes as well.
    """

    name: str
    situation: Situation
    summary: str
    inputs: tuple[Input, ...] = ()
    locks: bool = False
    records: bool = True
    imports: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """The words that `bin/fleet` calls it by."""
        group, _, verb = self.name.partition("_")
        return (group, verb) if group in GROUPS else (self.name.replace("_", "-"),)


GROUPS: Mapping[str, str] = {
    "incident": "the record of an incident and its messages",
    "security": "security mode, for a host that may be compromised",
    "report": "reports on all incidents",
}
"""The first words of commands of two words."""

INCIDENT = Input(
    "incident", "word", "the incident that the run belongs to; without it, the only one that is open"
)
_LOCK = (
    Input("break_lock", "word", "the id of the lock to break; separate several by commas"),
    Input("without_evidence", "bool", "continue when the evidence cannot be kept", default=False),
)
_BREACH = Input("breach", "bool", "you know of a security breach", default=False)
_WHY = Input("why", "text", "the reason, which is recorded")
_WITHOUT_WATCH = Input(
    "without_watch", "bool", "end the incident although no watch has confirmed the recovery", default=False
)
_WITHOUT_START_CHECK = Input(
    "without_start_check", "bool", "continue although the service may not start again", default=False
)
_ALLOW_CHANGED_FILES = Input(
    "allow_changed_files", "bool", "continue although files of the release were changed", default=False
)
_LEAD = Input("lead", "text", "who leads the response")
_IMPACT = Input("impact", "text", "what users notice", recorded=False)
_SUMMARY = Input("summary", "text", "what is known so far", recorded=False)
_NEXT_STEPS = Input("next_steps", "text", "what is done next", recorded=False)
_ETA = Input("eta", "text", "when the service should work again, for example 10:40 UTC", recorded=False)
_PUBLIC = Input("public", "text", "the text of the status page", recorded=False)
_RESOLUTION = Input("resolution", "text", "how the incident was resolved", recorded=False)
_SEVERITY = Input("severity", "word", "the severity, instead of triage's", choices=("P0", "P1", "P2", "P3"))
_AS_OF = Input("as_of", "day", "the day of the report, for example 2026-12-31; today without it")


def _limit(name: str, type_: Type, summary: str, minimum: float = 1) -> Input:
    return Input(name, type_, summary, minimum=minimum)


_ALL = (
    Procedure(
        "site",
        "Set up and change a fleet",
        "Set up everything: GPU drivers, the service, backups",
        imports=("gpu_driver", "deploy", "backup"),
        locks=True,
    ),
    Procedure(
        "deploy",
        "Set up and change a fleet",
        "Deploy a release, an engine, a network or a setting, one host after the other",
        (
            Input(
                "deploy_serial",
                "word",
                "hosts that are switched at a time, for example 2 or 25%",
                default="1",
            ),
        ),
        locks=True,
    ),
    Procedure(
        "gpu_driver",
        "Set up and change a fleet",
        "Install, upgrade and verify the GPU driver",
        (
            Input(
                "gpu_driver_version",
                "word",
                "the version to install, or latest",
                is_role_variable=True,
            ),
            Input(
                "gpu_driver_reboot",
                "word",
                "whether a host may be rebooted: never or when_needed",
                choices=("never", "when_needed"),
                is_role_variable=True,
            ),
            _WITHOUT_START_CHECK,
            _ALLOW_CHANGED_FILES,
        ),
        locks=True,
    ),
    Procedure(
        "baseline",
        "Set up and change a fleet",
        "Record how fast each healthy host is, for triage to compare with",
        locks=True,
    ),
    Procedure(
        "triage",
        "Find out what is wrong",
        "Report how bad it is, why, what changed, and the command to run next; reads only",
        (
            _BREACH,
            Input("triage_json", "path", "the file to write the report to, as JSON", is_role_variable=True),
            Input(
                "triage_fail_on",
                "word",
                "fail when the verdict is this severe or worse",
                choices=("P0", "P1", "P2", "P3", "unknown"),
                is_role_variable=True,
            ),
        ),
        records=False,
    ),
    Procedure(
        "evidence",
        "Find out what is wrong",
        "Keep signed evidence of all hosts before anybody changes anything; reads only",
    ),
    Procedure(
        "validate",
        "Find out what is wrong",
        "Have known positions analysed through MCP and check the answers; reads only",
        records=False,
    ),
    Procedure(
        "watch",
        "Find out what is wrong",
        "Watch every service for 15 minutes and report whether it has recovered",
        (
            Input(
                "minutes",
                "int",
                "minutes, 15 to 120",
                default=15,
                minimum=1,
                variable="watch_minutes",
            ),
            Input("wait", "bool", "wait for the verdict", default=True),
            Input("restart", "bool", "start a new window instead of joining a running one", default=False),
        ),
    ),
    Procedure("watch_show", "Find out what is wrong", "Show the verdict of the watch; reads only"),
    Procedure(
        "restart",
        "Repair a host",
        "Restart the service and validate it, one host after the other",
        (
            Input("force", "bool", "kill all processes of the unit first", default=False),
            _WITHOUT_START_CHECK,
            _ALLOW_CHANGED_FILES,
        ),
        locks=True,
    ),
    Procedure(
        "rollback",
        "Repair a host",
        "Roll back to the last validated release, one host after the other",
        (
            Input("release", "word", "the release to switch to; the last validated one without it"),
            Input("allow_rejected", "bool", "accept a release that was rejected", default=False),
            _WITHOUT_START_CHECK,
        ),
        locks=True,
    ),
    Procedure(
        "mitigate",
        "Repair a host",
        "Lower limits of the service for a while, without a restart",
        (
            _limit("visits", "int", "the most visits of an analysis"),
            _limit("default_visits", "int", "visits of an analysis that asks for no number"),
            _limit("seconds", "number", "the most seconds of an analysis"),
            _limit("review_visits", "int", "the most visits of a review, all its turns together"),
            _limit("review_seconds", "number", "the most seconds of a review"),
            _limit("concurrent", "int", "the most analyses at a time"),
            _limit("queued", "int", "the most analyses that wait", minimum=0),
            _limit("cache_mb", "int", "the size of the cache, in MB"),
            Input(
                "minutes",
                "number",
                "minutes after which each host restores its limits",
                default=60,
                minimum=0.1,
                maximum=1440,
            ),
            replace(_WHY, required=True),
        ),
        locks=True,
    ),
    Procedure("mitigate_undo", "Repair a host", "Restore the configured limits now", locks=True),
    Procedure(
        "purge_cache",
        "Repair a host",
        "Clear the cache and replace the engine, one host after the other",
        (
            Input("replace_engine", "bool", "replace the engine process too", default=True),
            _WITHOUT_START_CHECK,
            _ALLOW_CHANGED_FILES,
        ),
        locks=True,
    ),
    Procedure(
        "backup",
        "Back up and restore",
        "Back up every host, and prove that the backup can be restored",
        locks=True,
    ),
    Procedure(
        "restore",
        "Back up and restore",
        "Repair what is damaged on a host from its backup, or rebuild a bare host",
        (
            Input(
                "at",
                "text",
                "the snapshot: latest, an id, or a time such as 2026-01-31T08:05Z",
                default="latest",
            ),
            Input(
                "scope",
                "word",
                "what is restored: damaged files, the state, or everything",
                default="damaged",
                choices=("damaged", "state", "all"),
            ),
            Input("from_host", "word", "the host whose backup is used; the host's own without it"),
        ),
        locks=True,
    ),
    Procedure(
        "security_on",
        "Suspect a breach",
        "Keep all evidence, isolate the host, and block every change to it",
        (
            replace(_WHY, required=True),
            Input("isolate", "bool", "cut the host off from clients", default=True),
            Input("egress", "bool", "also block what the service sends", default=False),
        ),
        locks=True,
    ),
    Procedure(
        "security_off",
        "Suspect a breach",
        "End security mode",
        (replace(_WHY, required=True),),
        locks=True,
    ),
    Procedure(
        "security_show",
        "Suspect a breach",
        "Show whether a host is in security mode, since when and why; reads only",
        records=False,
    ),
    Procedure(
        "incident_open",
        "Manage an incident",
        "Run triage, record the incident and declare it; the same alert joins an open incident",
        (
            Input("alert", "text", "the name of the alert"),
            _SEVERITY,
            _LEAD,
            _IMPACT,
            _SUMMARY,
            _NEXT_STEPS,
            _ETA,
            _PUBLIC,
            Input("started", "time", "when it started, for example 2026-01-31T08:05Z"),
            Input("triage_json", "path", "a report of triage, instead of running it", is_role_variable=True),
            _BREACH,
        ),
    ),
    Procedure(
        "incident_update",
        "Manage an incident",
        "Record an update of the incident and send it",
        (
            Input(
                "status",
                "word",
                "the new status",
                choices=("investigating", "identified", "monitoring", "resolved"),
            ),
            _SEVERITY,
            _LEAD,
            _IMPACT,
            _SUMMARY,
            Input(
                "actions",
                "list",
                "what was done; a single -e takes several, separated by semicolons",
                recorded=False,
            ),
            _NEXT_STEPS,
            _ETA,
            _RESOLUTION,
            _PUBLIC,
            _WITHOUT_WATCH,
        ),
    ),
    Procedure(
        "incident_escalate",
        "Manage an incident",
        "Call somebody of the roster",
        (
            Input("to", "word", "the role in incident_roster", required=True),
            replace(_WHY, summary="the reason; without it, the runbook's trigger that applies"),
            _LEAD,
            _IMPACT,
            _SUMMARY,
        ),
    ),
    Procedure(
        "incident_close",
        "Manage an incident",
        "Close the incident and send the stand-down",
        (_RESOLUTION, _IMPACT, _PUBLIC, _WITHOUT_WATCH),
    ),
    Procedure(
        "incident_deliver",
        "Manage an incident",
        "Send the messages that could not be sent",
        (Input("resend", "bool", "also send again what may have been delivered", default=False),),
    ),
    Procedure("incident_show", "Manage an incident", "Show the open incidents; changes nothing"),
    Procedure(
        "review",
        "Review and report",
        "Build the post-incident review and list the questions that are not answered",
    ),
    Procedure(
        "report_actions",
        "Review and report",
        "List overdue action items and reviews; fails when there are any",
        (_AS_OF,),
    ),
    Procedure(
        "report_quarter",
        "Review and report",
        "Write the quarterly report",
        (
            Input("quarter", "word", "the quarter, for example 2026Q4; without it, the newest with records"),
            _AS_OF,
        ),
    ),
)
PROCEDURES: Mapping[str, Procedure] = {each.name: each for each in _ALL}

REPLACED: Mapping[str, Mapping[str, str]] = {
    "incident": {
        "open": "incident_open",
        "update": "incident_update",
        "escalate": "incident_escalate",
        "close": "incident_close",
        "tell": "incident_deliver",
        "show": "incident_show",
    },
    "security": {"on": "security_on", "off": "security_off", "show": "security_show"},
    "report": {"actions": "report_actions", "quarter": "report_quarter"},
}
"""Playbooks of version 0.2 that took `-e do=VERB`: the procedures that replaced them, by verb."""
REPLACED_INPUTS: Mapping[tuple[str, str], str] = {
    ("mitigate", "undo"): "mitigate_undo",
    ("watch", "fetch"): "watch_show",
}
"""Inputs of version 0.2 that are procedures of their own now."""
RENAMED_INPUTS: Mapping[tuple[str, str], str] = {("rollback", "allow_bad"): "allow_rejected"}
"""Inputs of version 0.2 that have a new name."""


def inputs_of(name: str) -> dict[str, Input]:
    """Every input of a procedure by name, the common ones and those of imported procedures included.

    Raises:
        KeyError: if there is no such procedure.
    """
    procedure = PROCEDURES[name]
    required = replace(INCIDENT, summary="the incident to review", required=True)
    incident = required if name == "review" else INCIDENT
    inputs = {each.name: each for each in (*procedure.inputs, incident)}
    if procedure.locks:
        inputs |= {each.name: each for each in _LOCK}
    for imported in procedure.imports:
        inputs = {**inputs_of(imported), **inputs}
    return inputs


def every_input() -> dict[str, tuple[Input, ...]]:
    """The inputs of all procedures by name, those of one name together."""
    inputs: dict[str, tuple[Input, ...]] = {}
    for name in PROCEDURES:
        for each in inputs_of(name).values():
            if each not in inputs.get(each.name, ()):
                inputs[each.name] = (*inputs.get(each.name, ()), each)
    return inputs


def recorded() -> frozenset[str]:
    """Names of the inputs whose values an incident's timeline may show."""
    return frozenset(name for name, each in every_input().items() if all(one.recorded for one in each))


def named(playbooks: Iterable[str]) -> list[str] | None:
    """The procedures of the playbooks of a command line, None when one of them is not of this collection."""
    names = []
    for playbook in playbooks:
        name = playbook.rpartition("/")[2].removesuffix(".yml").removeprefix("katago.fleet.")
        if name not in PROCEDURES:
            return None
        names.append(name)
    return names


def by_situation() -> dict[Situation, list[Procedure]]:
    """All procedures, by the situation in which they are used."""
    situations: tuple[Situation, ...] = get_args(Situation)
    return {name: [each for each in _ALL if each.situation == name] for name in situations}
