"""The facts of triage: `checks.py` measures them on a host, and the rules on the control node read them.

This file is the contract between the two. Every check returns an entry: a value, or the reason why it is
unknown (it missed its deadline, the program that it queried failed, or it could not run). `read` validates
the entries; after that, values have the types declared here. Percentages are 0 to 100, sizes are bytes, times
are seconds, unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict, final

from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline as triage_baseline
from ansible_collections.katago.fleet.plugins.module_utils.triage import entries
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts_load_balancer import (
    BalancerCertificate,
    Fleet,
    Haproxy,
    HaproxyConfig,
    Rotation,
    VirtualAddress,
)

WINDOW_MINUTES = 10
"""The period of the facts from the journal: the last minutes."""

PACKAGE_HOURS = 24
"""The period of the facts from dpkg's log and the kernel's log: the last hours."""

LARGE_DIRECTORIES = (
    "/var/cache/katago-mcp-quarantine",
    "/var/lib/katago-mcp/quarantine",
    "/var/lib/systemd/coredump",
    "/var/log/journal",
    "/var/cache/apt/archives",
    "/var/cache/katago-mcp",
    "/opt/katago-mcp/releases",
    "/home",
)
"""The directories that `consumers` measures, since they may fill a host's disks."""


class Unit(TypedDict):
    """The service's unit, as reported by systemd. Unknown if systemd does not answer.

    `load`, `active`, `sub`, `result`: as in systemctl(1). `load` is `not-found` if there is no unit.
    `exit_status`: of the last main process; 78 if the server rejected its configuration. `pid`: 0 without a
    main process. `process_state`: its state letter [proc(5)], T if stopped; None without a main process.
    `restarts`: by systemd since the last start. `started_at`: seconds since the epoch, by the host's clock;
    None if the unit was never started. `drop_ins`: the paths of the files that override the unit.
    """

    load: str
    active: str
    sub: str
    result: str
    exit_status: int
    pid: int
    process_state: str | None
    restarts: int
    started_at: float | None
    drop_ins: list[str]


class Weakness(TypedDict):
    """A protection of the unit's sandbox that the running service lacks.

    `directive`: its name in the unit. `setting`: what applies instead. `source`: the path of the drop-in that
    sets it; empty if it is unknown.
    """

    directive: str
    setting: str
    source: str


class Intruder(TypedDict):
    """A process that is not of the service and listens on a port of the service.

    `setting`: that of the configuration, `server.port` or `metrics.port`. `unit`: its systemd unit.
    """

    setting: str
    port: int
    pid: int
    name: str
    unit: str


class Clients(TypedDict):
    """Whether the control node can connect to the service as clients do; `error` is "" if it can."""

    address: str
    error: str


class Answer(TypedDict):
    """An answer of `/health` or `/ready`.

    `status`: the HTTP status, None if there was no answer within `seconds`. `body`: the JSON object, or {} if
    the body is something else. Another program may be listening on the port, so its values may be anything.
    """

    status: int | None
    body: Mapping[str, object]
    seconds: float


class Release(TypedDict):
    """The current release. `name`: None without one. `damage`: every difference from the release's manifest.

    A line of damage starts with a path and ends with `is missing`, `was changed`, `was added` or similar.
    """

    name: str | None
    damage: list[str]


class Config(TypedDict):
    """Whether the current release accepts the configuration, and the problems that it reports."""

    ok: bool
    problems: list[str]


class Limits(TypedDict):
    """Open files of the main process: their number, the limit (None: unlimited), the limit in the unit."""

    open_files: int
    open_files_limit: int | None
    open_files_expected: int


class Filesystem(TypedDict):
    """A file system that the service uses, with all `paths` on it. `device`: its number, as in `Consumer`.

    `free_percent`: of the space that the service may use. Both percentages are None if they are not counted.
    """

    paths: list[str]
    device: int
    free_bytes: int
    free_percent: float | None
    free_inodes_percent: float | None
    read_only: bool


class Consumer(TypedDict):
    """The size of one of `LARGE_DIRECTORIES`, without other file systems that are mounted below it."""

    path: str
    device: int
    bytes: int
    inodes: int


class Memory(TypedDict):
    """The host's memory and free swap. `available_percent`: of the total memory."""

    total_bytes: int
    available_bytes: int
    available_percent: float
    swap_free_bytes: int


class Averages(TypedDict):
    """The percentage of the last 10 and of the last 60 seconds in which tasks were stalled."""

    avg10: float
    avg60: float


class Stalls(TypedDict):
    """Stalls caused by one resource: of `some` tasks, or of all (`full`). A kernel may report only one."""

    some: NotRequired[Averages]
    full: NotRequired[Averages]


class Pressure(TypedDict):
    """Stalls by resource. If the kernel does not report them, only `absent` is set, with the reason."""

    absent: NotRequired[str]
    cpu: NotRequired[Stalls]
    memory: NotRequired[Stalls]
    io: NotRequired[Stalls]


class Load(TypedDict):
    """The load `averages` of 1, 5 and 15 minutes, and the number of processors."""

    averages: list[float]
    processors: int


class System(TypedDict):
    """`untested`: a warning if this collection was not tested on the host's system, otherwise empty."""

    untested: str


Trouble = Literal["no_driver", "mismatch", "no_device", "lost", "reset", "no_library", "unknown"]


class Card(TypedDict):
    """A GPU, as reported by nvidia-smi. None: not reported.

    `persistence`: whether the driver stays loaded without a client. `temperature`: degrees Celsius. Memory:
    MiB.
    """

    address: str
    name: str
    driver: str
    persistence: bool | None
    temperature: int | None
    memory_mb: int | None
    memory_used_mb: int | None


class Condition(TypedDict):
    """The condition of a GPU, as reported by `nvidia-smi -q`. None: not reported.

    Temperatures in degrees Celsius. `warm_at`: the maximum operating temperature. `slow_at`: from here on the
    hardware throttles. `slowed`: the active causes of throttling, by the names of SLOWDOWNS. `recovery`: the
    recovery action that the driver requests, empty for none.
    """

    address: str
    temperature: int | None
    warm_at: int | None
    slow_at: int | None
    slowed: Sequence[str]
    free_percent: float | None
    utilization: int | None
    recovery: str


class Xid(TypedDict):
    """The reports of one error code by one GPU in the kernel's log. `text`: of the newest report.

    `fatal`: whether it needs more than a service restart. `action`: the action that it needs, empty for none.
    """

    device: str
    code: int
    count: int
    fatal: bool
    action: str
    text: str


class Gpu(TypedDict):
    """The NVIDIA GPUs of a host.

    `devices`: the number of GPUs on the PCI bus. `loaded`: the version of the loaded driver, or None.
    `trouble`: why nvidia-smi failed, None if it worked. `words`: its error message. `notes`: its warnings.
    `unread`: why `conditions` are unknown, empty if they are known.
    """

    devices: int
    loaded: str | None
    trouble: Trouble | None
    words: str
    notes: list[str]
    cards: list[Card]
    conditions: list[Condition]
    unread: str
    xids: list[Xid]


class ProcessUse(TypedDict):
    """What a process used in the window. `cpu_percent`: of one processor. `state`: its letter [proc(5)]."""

    pid: int
    parent: int
    name: str
    state: str
    cpu_percent: float
    memory_bytes: int


class UnitUse(TypedDict):
    """What the service's unit used in the window, and each of its processes."""

    unit: str
    cpu_percent: float
    memory_bytes: int
    processes: list[ProcessUse]


class OtherUse(TypedDict):
    """What another unit used. `name`: of its busiest process. `largest`: of the one with the most memory."""

    unit: str
    name: str
    largest: str
    cpu_percent: float
    memory_bytes: int


class Disk(TypedDict):
    """What a disk did in the window."""

    disk: str
    busy_percent: float
    read_bytes_per_second: int
    written_bytes_per_second: int


class Absent(TypedDict):
    """Why a figure is not available on this host."""

    absent: str


class Processes(TypedDict):
    """What ran in the window, without kernel threads and triage itself.

    `unit`: the service's unit, None if none of its processes runs. `engines`: the PIDs of its engines.
    `others`: the other units that used the most processor time or memory.
    """

    unit: UnitUse | None
    engines: list[int]
    others: list[OtherUse]
    disks: list[Disk] | Absent
    processors: int


class LogGroup(TypedDict):
    """Similar warnings or errors. `exception`: whether one of them was an unexpected exception."""

    level: str
    event: str
    code: str
    count: int
    exception: bool


class Journal(TypedDict):
    """What the service logged in the last `WINDOW_MINUTES`.

    `groups`: its warnings and errors, the most frequent first. `unstructured`: the number of lines that are
    not JSON. `cache_trouble`: why the cache does not work, or None. `lines`: the number of lines that were
    read. `truncated`: whether there were more.
    """

    groups: list[LogGroup]
    unstructured: int
    cache_trouble: str | None
    lines: int
    truncated: bool


class JournalView(TypedDict):
    """What the journal can show of the last `WINDOW_MINUTES`.

    `blind`: why it shows nothing of the service, empty if it does. `gaps`: what it lacks.
    """

    blind: str
    gaps: list[str]


class EngineJournal(TypedDict):
    """How often the engine exited unexpectedly in the last `WINDOW_MINUTES`."""

    failures: int


class Runs(TypedDict):
    """The unit's starts and failures in the last `WINDOW_MINUTES`, in seconds since the epoch."""

    started: list[float]
    failed: list[float]


class SecurityMode(TypedDict):
    """The record of a security mode, with the fields of `procedure.security_mode.Mode`."""

    since: str
    who: str
    why: str
    incident: NotRequired[str]
    isolated: NotRequired[bool]
    egress: NotRequired[bool]
    rules: NotRequired[str]


class Security(TypedDict):
    """`mode`: None if security mode is off. `isolated`: whether clients are cut off; None if not required."""

    mode: SecurityMode | None
    isolated: bool | None


class Lock(TypedDict):
    """The procedure that holds the host's lock, with fields of `procedure.host_lock.Holder`.

    `age_seconds`: since it was taken, by the host's clock. `life`: whether its run of ansible-playbook is
    alive, as far as the control node can see; missing in reports of 0.2.0.
    """

    owner: str
    procedure: str
    run: str
    since: str
    age_seconds: float
    life: NotRequired[host_lock.Life]


class HistoryRecord(TypedDict):
    """A switch to a release (`verdict` is None), or a verdict on a release."""

    at: str
    who: str
    release: str
    why: str
    verdict: str | None


class Switch(TypedDict):
    """The age of the newest switch from one release to another, and what it was part of.

    `how`: as in `release.history.Record`; missing in reports of 0.2.0.
    """

    seconds_ago: int
    how: NotRequired[str]


class History(TypedDict):
    """The newest `records`, oldest first. `switch`: the newest one. `way_back`: the rollback target."""

    records: list[HistoryRecord]
    switch: Switch | None
    way_back: str | None


class Version(TypedDict):
    """The versions in the current release's manifest; None without a release."""

    name: str | None
    version: str | None
    engine_version: str | None


class Comparable(TypedDict):
    """The recorded baseline (`found`, or None), and the identity that a baseline recorded now would have.

    Unknown if the file is damaged. This does not affect the verdict; a note reports it.
    """

    found: triage_baseline.Baseline | None
    identity: str
    machine: triage_baseline.Machine


class Baseline(Comparable):
    """Also has what a new baseline would record: release, file name of the network, visits of a probe."""

    manifest: Version
    network: str | None
    visits: int


class TimedAnswer(TypedDict):
    """The answer to an analysis: how long it took, and its problems, [] for none."""

    seconds: float
    problems: list[str]


class ProbeAnswer(TimedAnswer):
    """Also has the `status` under which the server counts the call."""

    status: str


class Round(TypedDict):
    """Probe analyses that were sent together. `asked`: the number sent. `answers`: those received.

    `error`: why answers are missing, None if none is missing.
    """

    asked: int
    error: str | None
    answers: list[ProbeAnswer]


@final
class Probes(Round):
    """The probe analyses. `visits`: of each one. `again`: the second round, sent some time after the first.

    The host sends it if the first round was slower than the baseline. Hosts of 0.2.0 send none.
    """

    visits: int
    again: NotRequired[Round]


@final
class SkippedProbes(TypedDict):
    """Why no probe analysis was sent."""

    skipped: str


class Latency(TypedDict):
    """Quantiles of the analyses in the window, in seconds."""

    p50: float
    p95: float
    p99: float


class ServedTraffic(TypedDict):
    """The figures of the window, from /metrics. None: the series is missing or NaN.

    `seconds`: the window's length. `requests`: tool calls by status. `refused`: refused HTTP requests by
    reason. `engine_failures`: unrequested engine restarts in the window. `engine_failures_since_start`: those
    since the service was started; None if that was more than `WINDOW_MINUTES` ago. `latency_seconds`: None
    without `analyses`. `hit_rate`: 0 to 1, None without cache lookups. `cache_errors`: failed cache
    operations. `overlay_active`: 1 while limits are lowered.
    """

    served: Literal[True]
    seconds: float
    requests: dict[str, float] | None
    refused: dict[str, float] | None
    engine_up: float | None
    engine_failures: float | None
    engine_failures_since_start: float | None
    latency_seconds: Latency | None
    analyses: float | None
    hit_rate: float | None
    cache_errors: float | None
    cache_bytes: float | None
    cache_max_bytes: float | None
    overlay_active: float | None


class UnservedTraffic(TypedDict):
    """Why there are no metrics. `why` completes a sentence that starts with "/metrics"."""

    served: Literal[False]
    why: str


Traffic = ServedTraffic | UnservedTraffic


class Values(TypedDict, total=False):
    """The known facts, by the name of their check.

    `clock`: the host's time, in seconds since the epoch. `packages`: those installed or upgraded in the last
    `PACKAGE_HOURS`. `max_visits`: as configured; None without a limit. `gpu`: None on
    a host without an NVIDIA GPU. `lock`: None if nobody holds it. `limits`: None without a main process.
    `last_lines`: the last log lines of the unit, oldest first. `undeployed`: why the service is not deployed,
    empty if it is. `virtual_address`: None if the load balancers share none. `certificate`: None without TLS.
    """

    unit: Unit
    sandbox: list[Weakness]
    ports: list[Intruder]
    clients: Clients
    max_visits: int | None
    health: Answer
    ready: Answer
    release: Release
    undeployed: str
    config: Config
    limits: Limits | None
    filesystems: list[Filesystem]
    consumers: list[Consumer]
    memory: Memory
    pressure: Pressure
    load: Load
    system: System
    gpu: Gpu | None
    clock: float
    processes: Processes
    journal: Journal
    journal_view: JournalView
    engine_journal: EngineJournal
    runs: Runs
    last_lines: list[str]
    security: Security
    lock: Lock | None
    history: History
    packages: list[str]
    baseline: Baseline
    probe: Probes | SkippedProbes
    traffic: Traffic
    haproxy: Haproxy
    haproxy_config: HaproxyConfig
    rotation: Rotation
    virtual_address: VirtualAddress | None
    certificate: BalancerCertificate | None
    fleet: Fleet


Facts = entries.Facts[Values]


def is_only_load_balancer(facts: Facts) -> bool:
    """Whether only the load balancer of a host was measured, because it is no host of the service."""
    measured = facts.values.keys() | facts.unknown.keys()
    return "haproxy" in measured and "unit" not in measured


def read(content: object) -> Facts:
    """Read the facts from the result of `katago.fleet.triage`, or from a saved report.

    Raises:
        ShapeError: the content is not an object. A malformed value makes only its own fact unknown.
    """
    return entries.read(Values, content, {"baseline": _check_baseline})


def _check_baseline(value: Baseline) -> None:
    if value["found"] is not None:
        triage_baseline.check(value["found"], "baseline.found")
