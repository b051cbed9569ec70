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
    "Practise",
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

    `locks`: it takes the lock of every host. `keeps_evidence`: it then keeps evidence before it changes
    anything. `records`: it keeps records, so it must be clear where they are. `imports`: the procedures whose
    inputs it takes as well. `is_interruptible`: it has a result when Ctrl-C ends it.
    """

    name: str
    situation: Situation
    summary: str
    inputs: tuple[Input, ...] = ()
    locks: bool = False
    keeps_evidence: bool = True
    records: bool = True
    imports: tuple[str, ...] = ()
    is_interruptible: bool = False

    @property
    def command(self) -> tuple[str, ...]:
        """The words that `bin/fleet` calls it by."""
        group, _, verb = self.name.partition("_")
        return (group, verb) if group in GROUPS else (self.name.replace("_", "-"),)


GROUPS: Mapping[str, str] = {
    "incident": "the record of an incident and its messages",
    "security": "security mode, for a host that may be compromised",
    "report": "reports on all incidents",
    "healing": "automatic repairs of hosts and of the fleet",
    "rotation": "which hosts the load balancers send requests to",
}
"""The first words of commands of two words."""

INCIDENT = Input(
    "incident", "word", "the incident that the run belongs to; by default the only one that is open"
)
_BREAK_LOCK = Input("break_lock", "word", "the id of the lock to break; separate several by commas")
_WITHOUT_EVIDENCE = Input(
    "without_evidence", "bool", "continue when the evidence cannot be kept", default=False
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
_WITHOUT_BACKUP = Input("without_backup", "bool", "continue without a last backup of the host", default=False)
_WITHOUT_DRAIN = Input(
    "without_drain",
    "bool",
    "continue although the host cannot be taken out of rotation, or too few hosts would remain",
    default=False,
)
_LEAD = Input("lead", "text", "who leads the response")
_IMPACT = Input("impact", "text", "what users notice", recorded=False)
_SUMMARY = Input("summary", "text", "what is known so far", recorded=False)
_NEXT_STEPS = Input("next_steps", "text", "what is done next", recorded=False)
_ETA = Input("eta", "text", "when the service should work again, for example 10:40 UTC", recorded=False)
_PUBLIC = Input("public", "text", "the text of the status page", recorded=False)
_RESOLUTION = Input("resolution", "text", "how the incident was resolved", recorded=False)
_SEVERITY = Input("severity", "word", "the severity, instead of triage's", choices=("P0", "P1", "P2", "P3"))
_AS_OF = Input("as_of", "day", "the day of the report, for example 2026-12-31; by default today")
_ALLOW_PRODUCTION = Input(
    "drill_allow_production", "bool", "practise on a production fleet, in its window", is_role_variable=True
)


_CANARY = Input("canary", "word", "the host that is switched first; by default the first pending host")
_SOAK_MINUTES = Input(
    "soak_minutes",
    "number",
    "minutes for which the canary is compared with hosts that were not switched; 0 for none",
    default=5,
    minimum=0,
    maximum=240,
    variable="rollout_soak_minutes",
)


def _limit(name: str, type_: Type, summary: str, minimum: float = 1) -> Input:
    return Input(name, type_, summary, minimum=minimum)


_ALL = (
    Procedure(
        "site",
        "Set up and change a fleet",
        "Set up everything: GPU drivers, the service, load balancers, backups, monitoring, self-healing",
        imports=("gpu_driver", "deploy", "load_balancer", "backup", "monitoring", "self_healing"),
        locks=True,
    ),
    Procedure(
        "deploy",
        "Set up and change a fleet",
        "Deploy a release, an engine, a network or a setting: a canary, then growing batches",
        (
            Input(
                "deploy_serial",
                "word",
                "hosts that are switched at a time, such as 2 or 25%, instead of canary and growing batches",
            ),
            _CANARY,
            _SOAK_MINUTES,
            _WITHOUT_DRAIN,
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
                "whether a host may be rebooted",
                choices=("never", "when_needed"),
                is_role_variable=True,
            ),
            _WITHOUT_START_CHECK,
            _ALLOW_CHANGED_FILES,
            _WITHOUT_DRAIN,
        ),
        locks=True,
    ),
    Procedure(
        "load_balancer",
        "Set up and change a fleet",
        "Configure the load balancers in front of the fleet, one after the other",
        locks=True,
        keeps_evidence=False,
    ),
    Procedure(
        "monitoring",
        "Set up and change a fleet",
        "Set up monitoring: exporters on every host; Prometheus, Alertmanager and the prober",
        locks=True,
        keeps_evidence=False,
    ),
    Procedure(
        "baseline",
        "Set up and change a fleet",
        "Record how fast each healthy host is, for triage to compare with",
        locks=True,
        keeps_evidence=False,
    ),
    Procedure(
        "self_healing",
        "Set up and change a fleet",
        "Set up automatic repairs of hosts, within an allow-list and a budget, or remove them",
        (
            Input(
                "self_healing_enabled",
                "bool",
                "whether hosts repair themselves; false removes it",
                is_role_variable=True,
            ),
            Input(
                "self_healing_dry_run",
                "bool",
                "whether hosts only report what they would do",
                is_role_variable=True,
            ),
        ),
        locks=True,
        keeps_evidence=False,
    ),
    Procedure(
        "remove_host",
        "Set up and change a fleet",
        "Remove a host permanently: a last backup, then everything but packages and backups",
        (
            Input("confirm", "word", "the names of the hosts that -l names, separated by commas"),
            Input(
                "keep",
                "word",
                "what stays on the host: nothing, or its state, history and cache",
                default="nothing",
                choices=("nothing", "data"),
            ),
            Input("last_host", "bool", "continue although no host of the fleet would remain", default=False),
            _WITHOUT_BACKUP,
            _WITHOUT_DRAIN,
        ),
        locks=True,
    ),
    Procedure(
        "replace_host",
        "Set up and change a fleet",
        "Rebuild a dead host on a bare one with the same name, with the state of its newest backup",
        (
            replace(_WITHOUT_BACKUP, summary="continue without the host's backup; its state is lost"),
            _WITHOUT_DRAIN,
        ),
        imports=("gpu_driver",),
        locks=True,
    ),
    Procedure(
        "fleet",
        "Find out what is wrong",
        "Show every host of the fleet: its release, its backup, and what differs; reads only",
        (
            Input(
                "drift", "bool", "compare exactly: build the inventory's release in check mode", default=False
            ),
            Input("fleet_json", "path", "the file to write the overview to, as JSON"),
            Input("fleet_html", "path", "the file to write the overview to, as a page"),
        ),
        records=False,
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
        "load",
        "Find out what is wrong",
        "Call the service as clients do, for a limited time, and show how fast it answers",
        (
            Input(
                "through",
                "word",
                "what is called; by default the load balancers, if there are any",
                choices=("load_balancers", "hosts"),
            ),
            Input(
                "rate",
                "number",
                "calls a second, 200 at most; 0 for clients that call without a pause",
                default=0,
                minimum=0,
                maximum=200,
            ),
            Input("clients", "int", "clients without a rate, 200 at most", default=4, minimum=1, maximum=200),
            Input("seconds", "int", "seconds of the run, 600 at most", default=60, minimum=1, maximum=600),
            Input(
                "soak_hours",
                "number",
                "hours of the run instead of seconds, 72 at most; 0 for seconds",
                default=0,
                minimum=0,
                maximum=72,
            ),
            Input(
                "session_percent",
                "int",
                "the share of calls in the protocol generation with sessions",
                default=50,
                minimum=0,
                maximum=100,
            ),
            Input(
                "tool",
                "word",
                "the tool that is called",
                default="analyzePosition",
                choices=("analyzePosition", "evaluateTerritory", "getEngineStatus"),
            ),
            Input("visits", "int", "visits of an analysis", default=8, minimum=2, maximum=100_000),
            Input("deadline", "number", "seconds for one call", default=30, minimum=1, maximum=600),
            Input(
                "overload_seconds",
                "number",
                "stop after this many seconds of overload or failures",
                default=10,
                minimum=1,
                maximum=600,
            ),
            Input("allow_production", "bool", "call a production fleet", default=False),
            Input("load_json", "path", "the file to write the report to, as JSON"),
            Input("load_html", "path", "the file to write the report to, as a page"),
        ),
        records=False,
        is_interruptible=True,
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
            _WITHOUT_DRAIN,
        ),
        locks=True,
    ),
    Procedure(
        "rollback",
        "Repair a host",
        "Roll back to the last validated release: one host, then growing batches",
        (
            Input("release", "word", "the release to switch to; by default the last validated one"),
            Input("allow_rejected", "bool", "accept a release that was rejected", default=False),
            _WITHOUT_START_CHECK,
            _WITHOUT_DRAIN,
            _CANARY,
            # In an emergency, the rest of the fleet does not wait.
            replace(_SOAK_MINUTES, default=0, variable=""),
        ),
        locks=True,
    ),
    Procedure(
        "mitigate",
        "Repair a host",
        "Lower limits of the service for a while, without a restart",
        (
            _limit("visits", "int", "the most visits of an analysis"),
            _limit("default_visits", "int", "the visits of an analysis that requests no number"),
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
            _WITHOUT_DRAIN,
        ),
        locks=True,
    ),
    Procedure(
        "healing_pause",
        "Repair a host",
        "Stop all automatic repairs at once",
        (replace(_WHY, required=True),),
    ),
    Procedure(
        "healing_resume",
        "Repair a host",
        "Allow automatic repairs again after a pause or a stop",
        (replace(_WHY, required=True),),
    ),
    Procedure(
        "healing_show",
        "Find out what is wrong",
        "Show automatic repairs of every host and of the fleet: on, paused, stopped, budget; reads only",
        (Input("healing_json", "path", "the file to write the state to, as JSON"),),
        records=False,
    ),
    Procedure(
        "rotation_out",
        "Repair a host",
        "Take a host out of rotation until an operator admits it",
        (replace(_WHY, required=True), _WITHOUT_DRAIN),
    ),
    Procedure(
        "rotation_in",
        "Repair a host",
        "Validate a host and admit it to rotation",
        locks=True,
        keeps_evidence=False,
    ),
    Procedure(
        "rotation_show",
        "Find out what is wrong",
        "Show which hosts are in rotation on every load balancer; reads only",
        records=False,
    ),
    Procedure(
        "backup",
        "Back up and restore",
        "Back up every host and verify that the backup can be restored",
        locks=True,
        keeps_evidence=False,
    ),
    Procedure(
        "restore",
        "Back up and restore",
        "Repair a damaged host from its backup, or rebuild a bare host",
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
            Input("from_host", "word", "the host whose backup is used; by default the host itself"),
            Input("from_fleet", "word", "the fleet whose backup is used; by default the host's own"),
            _WITHOUT_DRAIN,
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
        "Call a contact of the roster",
        (
            Input("to", "word", "the role in incident_roster", required=True),
            replace(_WHY, summary="the reason; by default the runbook's trigger that applies"),
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
        "Send the messages of the incident that are not delivered yet",
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
        "drill_report",
        "Review and report",
        "Report on drills: what is overdue, who took part, and how recoveries change",
        (
            Input("month", "word", "the month, for example 2026-11; by default that of the newest drill"),
            Input("quarter", "word", "the quarter, for example 2026Q4; by default that of the newest drill"),
            _AS_OF,
        ),
    ),
    Procedure(
        "drill_tabletop",
        "Practise",
        "Practise a scenario without a fault: what triage shows, the questions, the right answers",
        (
            Input("scenario", "word", "the scenario, such as service_down, or random"),
            Input("participants", "list", "the people who take part; separate several by semicolons"),
            Input("drill", "word", "the drill whose right answers are shown"),
            Input(
                "answers",
                "list",
                "marks of that drill's answers, such as cause=right; separate several by semicolons",
                recorded=False,
            ),
        ),
    ),
    Procedure(
        "report_quarter",
        "Review and report",
        "Write the quarterly report",
        (
            Input("quarter", "word", "the quarter, for example 2026Q4; by default the newest with records"),
            _AS_OF,
        ),
    ),
    Procedure(
        "drill",
        "Practise",
        "Practise the recovery from a fault that is injected and always undone, and measure it",
        (
            Input("scenario", "word", "the scenario, such as service_down, or random", required=True),
            Input("sealed", "bool", "keep a random scenario secret until the end", default=False),
            Input(
                "mode",
                "word",
                "who responds: unattended (self-healing, then procedures), or person (the participants)",
                default="unattended",
                choices=("unattended", "person"),
            ),
            Input("targets", "list", "the hosts that get the fault; by default the drill chooses one"),
            Input("participants", "list", "the people who respond; separate several by semicolons"),
            Input("minutes", "number", "minutes for the response", default=15, minimum=1, maximum=110),
            _ALLOW_PRODUCTION,
        ),
    ),
    Procedure("drill_abort", "Practise", "Undo the faults of all drills on all hosts now, and end them"),
    Procedure("drill_show", "Practise", "Show running and past drills; reads only"),
    Procedure(
        "drill_game_day",
        "Practise",
        "Practise all scenarios in a row, unattended, and write their table",
        (
            Input("scenarios", "list", "only these scenarios"),
            Input(
                "minutes",
                "number",
                "minutes for the response of each drill",
                default=5,
                minimum=1,
                maximum=110,
            ),
            _ALLOW_PRODUCTION,
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
        inputs[_BREAK_LOCK.name] = _BREAK_LOCK
        if procedure.keeps_evidence:
            inputs[_WITHOUT_EVIDENCE.name] = _WITHOUT_EVIDENCE
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


def members(group: str) -> list[Procedure]:
    """The procedures of a group, such as `incident`."""
    return [each for each in _ALL if each.command[0] == group and len(each.command) > 1]


def by_situation() -> dict[Situation, list[Procedure]]:
    """All procedures, by the situation in which they are used."""
    situations: tuple[Situation, ...] = get_args(Situation)
    return {name: [each for each in _ALL if each.situation == name] for name in situations}
