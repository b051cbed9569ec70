"""The scenarios of drills: their faults, targets, right and harmful responses, and questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils.severity import Severity
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Times

Where = Literal["host", "load_balancer", "control_node"]
On = Literal["target", "fleet", "load_balancer"]


@dataclass(frozen=True)
class FaultUse:
    """A fault of a scenario. `parameters`: those of the injector, by name.

    `leaves_traces`: the host shows that the fault was there, also when it is over.
    """

    fault: str
    where: Where
    parameters: Mapping[str, str] = field(default_factory=dict)
    leaves_traces: bool = False


@dataclass(frozen=True)
class Step:
    """A procedure of the unattended response. `on`: hosts with the fault, all hosts, or load balancers."""

    procedure: str
    on: On = "target"
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A question to a person. `answer`: the right answer, shown after the drill."""

    id: str
    text: str
    answer: str


@dataclass(frozen=True)
class Scenario:
    """A scenario. `symptoms`: what clients, alerts and triage show; it does not name the cause.

    `targets`: the most seconds from the injection. `response`: what the unattended response runs, in this
    order, if self-healing does not recover the service. `right_procedures`: alternatives, each with
    procedures in their order; an empty one means that nobody needs to do anything. `harmful_procedures`:
    those that make it worse or lose data. `audience`: who must hear of it. `lossless`: no answer and no known
    write may be lost, apart from requests that the failing host had in flight. `external`: the cause is
    outside of the fleet (power, network, a storage), and no procedure removes it. The drill removes it when
    the fleet has mitigated it, and before the response.
    """

    name: str
    title: str
    level: Severity
    symptoms: tuple[str, ...]
    faults: tuple[FaultUse, ...]
    targets: Times
    response: tuple[Step, ...]
    right_procedures: tuple[tuple[str, ...], ...]
    harmful_procedures: tuple[str, ...]
    evidence_first: bool
    audience: tuple[str, ...]
    lossless: bool
    external: bool
    questions: tuple[Question, ...]


_TEAM = ("team",)
_ALL = ("team", "status page")


def _targets(level: Severity, mitigate: float, recover: float, detect: float = 60) -> Times:
    """Targets. An incident is acknowledged in the response time of its level, at most 5 minutes for P0."""
    acknowledge = {"P0": 300.0, "P1": 1800.0, "P2": 7200.0, "P3": 86400.0}[level]
    return {"detect": detect, "acknowledge": acknowledge, "mitigate": mitigate, "recover": recover}


def _questions(*pairs: tuple[str, str, str]) -> tuple[Question, ...]:
    return tuple(Question(*each) for each in pairs)


_WHY = ("cause", "What was the cause, and how do you know?")
_FIRST = ("first", "What do you do first, before you change anything?")
_WRONG = ("avoid", "What must you not do, and why?")
_KEEP = "Keep the evidence: evidence.yml. A procedure also keeps volatile evidence before it changes a host."

_LIST = (
    Scenario(
        name="service_down",
        title="The service of a host is down",
        level="P0",
        symptoms=(
            "HAProxy calls one host DOWN; requests that it had in flight failed",
            "triage: the unit of one host has failed",
        ),
        faults=(FaultUse("service_killed", "host"),),
        targets=_targets("P0", mitigate=5, recover=30),
        response=(Step("restart"),),
        right_procedures=((), ("restart",)),
        harmful_procedures=("remove_host", "replace_host", "purge_cache"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=False,
        questions=_questions(
            (*_FIRST, _KEEP),
            (*_WHY, "The process was killed. The journal of the unit has the signal or the exit status."),
        ),
    ),
    Scenario(
        name="engine_crashing",
        title="The engine of a host crashes repeatedly",
        level="P1",
        symptoms=(
            "analyses on one host fail with unavailable or take long",
            "triage: the engine failed several times in ten minutes",
        ),
        faults=(FaultUse("engine_crash_loop", "host", {"seconds": "20"}, leaves_traces=True),),
        targets=_targets("P1", mitigate=20, recover=30),
        response=(Step("purge_cache"), Step("restart", arguments={"force": "true"})),
        right_procedures=((), ("restart",), ("purge_cache",), ("mitigate",), ("mitigate", "restart")),
        harmful_procedures=("remove_host", "replace_host"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=False,
        questions=_questions(
            (*_FIRST, _KEEP),
            (*_WHY, "The journal has the signal that ended the engine, and how often it was started again."),
        ),
    ),
    Scenario(
        name="engine_hung",
        title="The engine of a host hangs",
        level="P1",
        symptoms=("analyses on one host time out", "/health of the host has an engine that stands still"),
        faults=(FaultUse("engine_hung", "host"),),
        targets=_targets("P1", mitigate=20, recover=30),
        response=(Step("purge_cache"), Step("restart", arguments={"force": "true"})),
        right_procedures=((), ("purge_cache",), ("restart",)),
        harmful_procedures=("remove_host", "replace_host", "rollback"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=False,
        questions=_questions(
            (*_FIRST, _KEEP),
            (*_WHY, "The engine process is stopped: it uses no processor time and answers nothing."),
        ),
    ),
    Scenario(
        name="bad_release",
        title="A bad release was rolled out to a host",
        level="P0",
        symptoms=(
            "the service of one host fails after a change",
            "triage: a change shortly before the failure",
        ),
        faults=(FaultUse("release_bad", "host"),),
        targets=_targets("P0", mitigate=5, recover=60),
        response=(Step("rollback"),),
        right_procedures=((), ("rollback",)),
        harmful_procedures=("remove_host", "replace_host", "purge_cache", "restore"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=False,
        questions=_questions(
            (*_FIRST, _KEEP),
            (*_WHY, "history.jsonl has a switch shortly before the failure; the new release does not start."),
            (*_WRONG, "Restart again and again. The release does not start; only a rollback helps."),
        ),
    ),
    Scenario(
        name="configuration_corrupted",
        title="The configuration of a host is corrupted",
        level="P0",
        symptoms=("the service of one host does not start", "triage: the configuration cannot be read"),
        faults=(FaultUse("config_corrupted", "host"),),
        targets=_targets("P0", mitigate=5, recover=60),
        response=(Step("deploy"),),
        right_procedures=(
            *((), ("restore",), ("deploy",), ("rollback",)),
            # A changed file may be the work of an intruder: triage proposes to isolate the host first.
            *(("security_on", "security_off", each) for each in ("deploy", "restore", "rollback")),
        ),
        harmful_procedures=("remove_host", "replace_host", "purge_cache"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=False,
        questions=_questions(
            (*_FIRST, _KEEP),
            (
                *_WHY,
                "The configuration differs from the manifest of its release: triage reports it.",
            ),
        ),
    ),
    Scenario(
        name="cache_corrupted",
        title="The cache of a host is corrupted",
        level="P2",
        symptoms=("answers of one host are slower", "triage: the cache does not work"),
        faults=(FaultUse("cache_corrupted", "host"),),
        targets=_targets("P2", mitigate=30, recover=60, detect=90),
        response=(Step("purge_cache"),),
        right_procedures=((), ("purge_cache",)),
        harmful_procedures=("remove_host", "replace_host", "rollback", "restore"),
        evidence_first=True,
        audience=_TEAM,
        lossless=True,
        external=False,
        questions=_questions(
            (*_FIRST, _KEEP),
            (
                *_WHY,
                "katago-mcp cache verify reports the damaged file. The quarantine keeps it for analysis.",
            ),
        ),
    ),
    Scenario(
        name="disk_full",
        title="A disk of a host is full",
        level="P2",
        symptoms=("writes on one host fail with No space left on device", "triage: a file system is full"),
        faults=(FaultUse("disk_full", "host"),),
        targets=_targets("P2", mitigate=120, recover=180, detect=90),
        response=(),
        right_procedures=((), ("evidence",), ("purge_cache",), ("evidence", "purge_cache")),
        harmful_procedures=("remove_host", "replace_host", "deploy", "rollback", "restart"),
        evidence_first=True,
        audience=_TEAM,
        lossless=True,
        external=True,
        questions=_questions(
            (*_FIRST, _KEEP + " Evidence needs no space on the host."),
            (*_WHY, "triage lists the largest directories with lines propose:."),
            (
                *_WRONG,
                "Restart. The engine writes compiled kernels when it starts, so the service may stay down.",
            ),
        ),
    ),
    Scenario(
        name="inodes_exhausted",
        title="A disk of a host has no inodes left",
        level="P2",
        symptoms=("no file can be created on one host, although space is free",),
        faults=(FaultUse("inodes_full", "host"),),
        targets=_targets("P2", mitigate=120, recover=180, detect=90),
        response=(),
        right_procedures=((), ("evidence",), ("purge_cache",), ("evidence", "purge_cache")),
        harmful_procedures=("remove_host", "replace_host", "deploy", "rollback", "restart"),
        evidence_first=True,
        audience=_TEAM,
        lossless=True,
        external=True,
        questions=_questions(
            (*_FIRST, _KEEP),
            (*_WHY, "df -i shows no free inodes; triage reports inodes and names the directories."),
        ),
    ),
    Scenario(
        name="slow_engine",
        title="The engine of a host is slow",
        level="P1",
        symptoms=("analyses on one host take much longer than the baseline",),
        faults=(FaultUse("engine_slow", "host"),),
        targets=_targets("P1", mitigate=60, recover=120),
        response=(),
        right_procedures=(
            (),
            ("mitigate",),
            ("restart",),
            ("mitigate", "restart"),
            ("purge_cache",),
            ("rotation_out",),
        ),
        harmful_procedures=("remove_host", "replace_host"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=True,
        questions=_questions(
            (*_FIRST, _KEEP),
            (*_WHY, "triage compares its probes with the baseline, and names units that take the processor."),
        ),
    ),
    Scenario(
        name="error_burst",
        title="A burst of errors on a host",
        level="P1",
        symptoms=(
            "a share of the requests fails",
            "katago_requests_total counts unavailable, timeout or error",
        ),
        faults=(FaultUse("error_burst", "host"),),
        targets=_targets("P1", mitigate=30, recover=60),
        response=(Step("mitigate_undo"),),
        right_procedures=((), ("mitigate_undo",), ("rotation_out", "mitigate_undo")),
        harmful_procedures=("remove_host", "replace_host", "mitigate", "purge_cache"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=False,
        questions=_questions(
            (*_FIRST, _KEEP),
            (*_WHY, "Limits are lowered too far: /health and triage report the override."),
        ),
    ),
    Scenario(
        name="host_lost",
        title="A host is lost",
        level="P1",
        symptoms=("HAProxy calls one host DOWN", "Ansible cannot reach it", "the monitoring has no target"),
        faults=(FaultUse("host_lost", "host"),),
        targets=_targets("P1", mitigate=5, recover=900),
        response=(Step("rotation_in"),),
        right_procedures=(
            (),
            ("replace_host",),
            ("rotation_out",),
            ("rotation_out", "replace_host"),
            ("rotation_in",),
        ),
        harmful_procedures=("purge_cache", "rollback"),
        evidence_first=False,
        audience=_ALL,
        lossless=True,
        external=True,
        questions=_questions(
            (
                "wait",
                "When do you replace a host instead of waiting for it?",
                "When the provider says that it does not return, or after the time that your team agreed on."
                " Its backup must exist.",
            ),
            (*_WRONG, "Accept a changed host key before you know why it changed."),
        ),
    ),
    Scenario(
        name="host_frozen",
        title="A host is frozen",
        level="P1",
        symptoms=(
            "requests to one host get no answer, connections stay open",
            "HAProxy calls it DOWN after 5 s",
        ),
        faults=(FaultUse("host_frozen", "host"),),
        targets=_targets("P1", mitigate=10, recover=120),
        response=(Step("restart", arguments={"force": "true"}),),
        right_procedures=((), ("restart",), ("rotation_out",), ("rotation_in",), ("replace_host",)),
        harmful_procedures=("purge_cache", "rollback"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=True,
        questions=_questions(
            (*_WHY, "The kernel accepts connections and no process answers. The console shows the load."),
        ),
    ),
    Scenario(
        name="network_cut",
        title="The network of a host is cut",
        level="P1",
        symptoms=("HAProxy calls one host DOWN: timeout", "on the host itself, everything is healthy"),
        faults=(FaultUse("network_cut", "host"),),
        targets=_targets("P1", mitigate=10, recover=120),
        response=(Step("rotation_in"),),
        right_procedures=((), ("rotation_out",), ("rotation_in",), ("rotation_out", "rotation_in")),
        harmful_procedures=("restart", "rollback", "purge_cache", "remove_host", "replace_host"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=True,
        questions=_questions(
            (
                *_WHY,
                "The service answers on its host, but not from the load balancers: packet filter, routes.",
            ),
            (
                *_WRONG,
                "Restart the service. It works, and a restart loses its sessions' engine and its warm cache.",
            ),
        ),
    ),
    Scenario(
        name="load_balancer_lost",
        title="A load balancer is lost",
        level="P1",
        symptoms=(
            "connections broke once",
            "triage: HAProxy of one load balancer is down; the address moved",
        ),
        faults=(FaultUse("load_balancer_down", "load_balancer"),),
        targets=_targets("P1", mitigate=5, recover=120),
        response=(Step("load_balancer", on="load_balancer"),),
        right_procedures=((), ("load_balancer",)),
        harmful_procedures=("restart", "rollback", "purge_cache", "deploy"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=False,
        questions=_questions(
            (*_WHY, "haproxy.service of one load balancer does not run; its journal has the reason."),
            (
                "rotation",
                "Which hosts does a new load balancer send requests to?",
                "To every host that is ready, also to those that an operator took out: rotation_show.yml.",
            ),
        ),
    ),
    Scenario(
        name="backup_repository_lost",
        title="The backup repository is lost",
        level="P2",
        symptoms=("the backup of one host fails", "triage: the newest backup is old or cannot be read"),
        faults=(FaultUse("backup_repository_lost", "host"),),
        targets=_targets("P2", mitigate=600, recover=600, detect=90),
        response=(Step("backup"),),
        right_procedures=((), ("backup",)),
        harmful_procedures=("restore", "remove_host", "replace_host", "purge_cache"),
        evidence_first=False,
        audience=_TEAM,
        lossless=True,
        external=True,
        questions=_questions(
            (
                "second",
                "Where is the second copy of the backups?",
                "In your own plan. Without one, all snapshots are "
                "lost, and the next backup starts a new repository.",
            ),
            (*_WRONG, "Remove or replace a host: its backup is what is missing."),
        ),
    ),
    Scenario(
        name="credentials_rotated",
        title="The tokens of a host were replaced",
        level="P1",
        symptoms=("clients get 401 from one host", "validation fails with 401"),
        faults=(FaultUse("credentials_rotated", "host"),),
        targets=_targets("P1", mitigate=60, recover=120),
        response=(Step("deploy"),),
        right_procedures=((), ("deploy",), ("restore",), ("rotation_out", "deploy")),
        harmful_procedures=("rollback", "purge_cache", "remove_host", "replace_host"),
        evidence_first=True,
        audience=("team", "security", "status page"),
        lossless=True,
        external=False,
        questions=_questions(
            (*_FIRST, _KEEP + " If nobody of you replaced them, this is a breach: security_on.yml."),
            (*_WHY, "The hashes in tokens.json differ from those of the inventory."),
        ),
    ),
    Scenario(
        name="certificate_expired",
        title="The certificate of a host has expired",
        level="P1",
        symptoms=("HAProxy calls one host DOWN: its certificate", "triage: the certificate has ended"),
        faults=(FaultUse("certificate_expired", "host"),),
        targets=_targets("P1", mitigate=60, recover=120),
        response=(Step("deploy"),),
        right_procedures=((), ("deploy",), ("restore",), ("rotation_out", "deploy")),
        harmful_procedures=("rollback", "purge_cache", "remove_host", "replace_host"),
        evidence_first=False,
        audience=_ALL,
        lossless=True,
        external=False,
        questions=_questions(
            (
                *_WHY,
                "openssl s_client shows the end of the certificate; the file in the inventory may be new.",
            ),
            (
                "next",
                "What keeps it from happening again?",
                "The alert on the end of the certificate, and its renewal by a program.",
            ),
        ),
    ),
    Scenario(
        name="clock_skewed",
        title="The clock of a host's records is skewed",
        level="P3",
        symptoms=("times of one host do not fit those of the others",),
        faults=(FaultUse("clock_skewed", "host", {"seconds": "3600"}),),
        targets=_targets("P3", mitigate=600, recover=600, detect=90),
        response=(),
        right_procedures=((), ("evidence",)),
        harmful_procedures=("rollback", "remove_host", "replace_host", "purge_cache"),
        evidence_first=True,
        audience=_TEAM,
        lossless=True,
        external=True,
        questions=_questions(
            (*_WHY, "The host's time differs from that of the control node: triage reports the clock."),
            (
                "records",
                "Which of our records depend on the clock of a host?",
                "Its journal and the times of its "
                "evidence. The budget of self-healing and the expiry of faults do not.",
            ),
        ),
    ),
    Scenario(
        name="control_node_lost",
        title="The control node is lost in the middle of a procedure",
        level="P2",
        symptoms=("a host is locked by a run that no longer exists", "the host may be out of rotation"),
        faults=(FaultUse("control_node_lost", "control_node", {"procedure": "restart"}),),
        targets=_targets("P2", mitigate=60, recover=120, detect=90),
        response=(Step("restart"),),
        right_procedures=(("restart",),),
        harmful_procedures=("remove_host", "replace_host", "purge_cache"),
        evidence_first=False,
        audience=_TEAM,
        lossless=True,
        external=False,
        questions=_questions(
            (
                "continue",
                "How do you finish what the lost run started?",
                "Run the same command again: it takes over "
                "its own lock and finishes. From another control node, break the lock by its id.",
            ),
        ),
    ),
    Scenario(
        name="two_faults",
        title="Two faults at once: a host and a load balancer",
        level="P0",
        symptoms=("HAProxy calls one host DOWN", "connections broke once; one load balancer does not answer"),
        faults=(FaultUse("service_killed", "host"), FaultUse("load_balancer_down", "load_balancer")),
        targets=_targets("P0", mitigate=10, recover=180),
        response=(Step("load_balancer", on="load_balancer"), Step("restart")),
        right_procedures=(("load_balancer",), ("load_balancer", "restart"), ("restart", "load_balancer")),
        harmful_procedures=("remove_host", "replace_host", "rollback", "purge_cache"),
        evidence_first=True,
        audience=_ALL,
        lossless=True,
        external=False,
        questions=_questions(
            (
                "order",
                "Which fault do you repair first, and why?",
                "The load balancer: it serves all clients, and "
                "without the second one the next fault is an outage. The other hosts serve meanwhile.",
            ),
            (*_WHY, "Two causes. Do not stop at the first one: validate the whole fleet at the end."),
        ),
    ),
)

SCENARIOS: dict[str, Scenario] = {each.name: each for each in _LIST}
"""All scenarios by name, in the order of a game day."""
