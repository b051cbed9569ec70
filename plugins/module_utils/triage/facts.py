"""The facts of triage: what `checks.py` measures on a host, and the rules on the control node read.

This is the contract between the two. Every check is an entry with its value, or with the reason why it is
unknown: it did not answer before its deadline, what it asks failed, or it could not run. `read` is the
border: past it the values are as they are declared here. Percentages are 0 to 100, sizes bytes, times
seconds, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict, final

from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline as triage_baseline
from ansible_collections.katago.fleet.plugins.module_utils.triage import entries

WINDOW_MINUTES = 10
"""How far back the facts of the journal look."""

PACKAGE_HOURS = 24
"""How far back the facts of packages and of the kernel's log look."""

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
"""The directories that `consumers` measures: what may fill a host's disks."""


class Unit(TypedDict):
    """The service's unit as systemd sees it. Unknown when systemd does not answer.

    `load`, `active`, `sub`, `result`: as systemctl(1) names them; `load` is `not-found` without a unit.
    `exit_status`: of the main process's last end, 78 for a configuration that the server refuses. `pid`: 0
    without a main process. `process_state`: its letter of proc(5), T for a stopped one; None without one.
    `restarts`: by systemd since it was started. `started_at`: since the epoch, by the host's clock; None when
    it never was. `drop_ins`: the paths of files that change the unit.
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


class Answer(TypedDict):
    """An answer of `/health` or `/ready`.

    `status`: of HTTP, None when there was no answer within `seconds`. `body`: the JSON object, empty when it
    is none. Whatever listens there may have written it, so its values may be anything.
    """

    status: int | None
    body: Mapping[str, object]
    seconds: float


class Release(TypedDict):
    """The current release: its `name`, None without one, and each difference from its manifest in `damage`.

    A line of damage begins with a path, and ends with `is missing`, `was changed`, `was added` or the like.
    """

    name: str | None
    damage: list[str]


class Config(TypedDict):
    """Whether the current release accepts the configuration, and in its own words what it does not accept."""

    ok: bool
    problems: list[str]


class Limits(TypedDict):
    """Open files of the main process: how many, the limit (None: unlimited), that of the release's unit."""

    open_files: int
    open_files_limit: int | None
    open_files_expected: int


class Filesystem(TypedDict):
    """A file system of the service, once for all `paths` on it. `device`: its number, as `Consumer` has it.

    `free_percent` of what the service may use, `free_inodes_percent`: None where they are not counted.
    """

    paths: list[str]
    device: int
    free_bytes: int
    free_percent: float | None
    free_inodes_percent: float | None
    read_only: bool


class Consumer(TypedDict):
    """What one of `LARGE_DIRECTORIES` holds on its own file system, the largest first."""

    path: str
    device: int
    bytes: int
    inodes: int


class Memory(TypedDict):
    """The host's memory, with `available_percent` of the total, and its free swap."""

    total_bytes: int
    available_bytes: int
    available_percent: float
    swap_free_bytes: int


class Averages(TypedDict):
    """The share of the last 10 and 60 seconds in which tasks stalled, in percent."""

    avg10: float
    avg60: float


class Stalls(TypedDict):
    """Stalls for want of one resource: of `some` tasks, or of all (`full`); a kernel may count only one."""

    some: NotRequired[Averages]
    full: NotRequired[Averages]


class Pressure(TypedDict):
    """Stalls by resource; `absent` alone, with the reason, where the kernel does not account them."""

    absent: NotRequired[str]
    cpu: NotRequired[Stalls]
    memory: NotRequired[Stalls]
    io: NotRequired[Stalls]


class Load(TypedDict):
    """The load `averages` over 1, 5 and 15 minutes, and the number of processors."""

    averages: list[float]
    processors: int


class System(TypedDict):
    """`untested`: a warning about a system that the product was not tested on, empty for others."""

    untested: str


Trouble = Literal["no_driver", "mismatch", "no_device", "lost", "reset", "no_library", "unknown"]


class Card(TypedDict):
    """What nvidia-smi says of a GPU; None for what it does not know of it.

    `persistence`: whether the driver stays loaded without a client. `temperature` in degrees Celsius, memory
    in MiB.
    """

    address: str
    name: str
    driver: str
    persistence: bool | None
    temperature: int | None
    memory_mb: int | None
    memory_used_mb: int | None


class Condition(TypedDict):
    """How a GPU fares by its own account; None for what it does not tell.

    Temperatures in degrees Celsius: it should run at `warm_at` at most, and from `slow_at` on its hardware
    slows it down. `slowed`: what holds its clocks down, by the names of SLOWDOWNS. `recovery`: what its
    driver asks for, empty for nothing.
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
    """The reports of one error code by one GPU in the kernel's log: how many, and the newest one's text.

    `fatal`: whether it needs more than a restart of the service; `action`: what, empty for nothing.
    """

    device: str
    code: int
    count: int
    fatal: bool
    action: str
    text: str


class Gpu(TypedDict):
    """The NVIDIA GPUs of a host.

    `devices`: how many are on the bus. `loaded`: the driver's version, None when it is not loaded. `trouble`:
    why nvidia-smi does not answer, None when it does; `words`: its message. `notes`: its warnings. `unread`:
    why `conditions` are not known, empty when they are.
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
    """What a process used in the window; `cpu_percent` of one processor, `state`: its letter of proc(5)."""

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
    """What another unit used. `name`: of its busiest process; `largest`: of the one with the most memory."""

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
    """Why something is not counted on this host."""

    absent: str


class Processes(TypedDict):
    """What ran in the window, kernel threads and triage itself left out.

    `unit`: the service's, None when nothing of it runs. `engines`: the numbers of its processes that run an
    engine. `others`: the units that used the most processor or hold the most memory.
    """

    unit: UnitUse | None
    engines: list[int]
    others: list[OtherUse]
    disks: list[Disk] | Absent
    processors: int


class LogGroup(TypedDict):
    """Warnings or errors that are alike. `exception`: whether the server had not foreseen one of them."""

    level: str
    event: str
    code: str
    count: int
    exception: bool


class Journal(TypedDict):
    """What the service logged in the last `WINDOW_MINUTES`.

    `groups`: its warnings and errors, the most frequent first. `unstructured`: lines that are not JSON.
    `cache_trouble`: why the cache does not work, None when it does. `lines`: how many were read; `truncated`
    when there were more.
    """

    groups: list[LogGroup]
    unstructured: int
    cache_trouble: str | None
    lines: int
    truncated: bool


class EngineJournal(TypedDict):
    """How often the engine ended without anybody's order in the last `WINDOW_MINUTES`."""

    failures: int


class Runs(TypedDict):
    """When the unit was started and when it failed in the last `WINDOW_MINUTES`, since the epoch."""

    started: list[float]
    failed: list[float]


class SecurityMode(TypedDict):
    """The record of a security mode, as `procedure.security_mode.Mode` has it."""

    since: str
    who: str
    why: str
    incident: NotRequired[str]
    isolated: NotRequired[bool]
    egress: NotRequired[bool]
    rules: NotRequired[str]


class Security(TypedDict):
    """The `mode`, None when the host is in none; whether clients are cut off, None where they need not be."""

    mode: SecurityMode | None
    isolated: bool | None


class HistoryRecord(TypedDict):
    """A switch to a release (`verdict` None), or a verdict on one."""

    at: str
    who: str
    release: str
    why: str
    verdict: str | None


class Switch(TypedDict):
    """How long ago the newest switch from one release to another was."""

    seconds_ago: int


class History(TypedDict):
    """The newest `records`, oldest first; the newest `switch` and the rollback target `way_back`, or None."""

    records: list[HistoryRecord]
    switch: Switch | None
    way_back: str | None


class Version(TypedDict):
    """What the current release's manifest says; None without one."""

    name: str | None
    version: str | None
    engine_version: str | None


class Comparable(TypedDict):
    """The recorded baseline, `found` None without one, and what a baseline of now would be of.

    Unknown when the file is damaged: that decides nothing, and a note says so.
    """

    found: triage_baseline.Baseline | None
    identity: str
    machine: triage_baseline.Machine


class Baseline(Comparable):
    """With what a new baseline would record: the release, the network's file name, the visits of a probe."""

    manifest: Version
    network: str | None
    visits: int


class TimedAnswer(TypedDict):
    """The answer to an analysis: how long it took, and what is wrong with it, [] for nothing."""

    seconds: float
    problems: list[str]


class ProbeAnswer(TimedAnswer):
    """With the `status` that the server counts the call by."""

    status: str


@final
class Probes(TypedDict):
    """The analyses that triage asked for: how many, with how many visits each, and the answers that came.

    `error`: why answers are missing, None when they are not.
    """

    asked: int
    visits: int
    error: str | None
    answers: list[ProbeAnswer]


@final
class SkippedProbes(TypedDict):
    """Why no analysis was asked for."""

    skipped: str


class Latency(TypedDict):
    """Quantiles of the analyses in the window, in seconds."""

    p50: float
    p95: float
    p99: float


class ServedTraffic(TypedDict):
    """What the metrics say of the window; None for a series that is missing or NaN.

    `seconds`: the window's length. `requests`: tool calls by the status that they ended in. `refused`: HTTP
    requests by the reason of the refusal. `engine_failures`: restarts that nobody asked for, in the window;
    `engine_failures_since_start`: since the service was started, None when that is longer than
    `WINDOW_MINUTES` ago. `latency_seconds`: None without `analyses`. `hit_rate`: 0 to 1, None without
    lookups. `cache_errors`: operations of the cache that were given up. `overlay_active`: 1 while limits are
    lowered.
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
    """Why there are no metrics: the end of a sentence that begins with /metrics."""

    served: Literal[False]
    why: str


Traffic = ServedTraffic | UnservedTraffic


class Values(TypedDict, total=False):
    """The facts that are known, by the name of their check.

    `clock`: the host's time since the epoch. `packages`: installed or upgraded in the last `PACKAGE_HOURS`.
    `gpu`: None on a host without NVIDIA's. `limits`: None without a main process. `last_lines`: the last log
    lines of the unit, oldest first.
    """

    unit: Unit
    health: Answer
    ready: Answer
    release: Release
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
    engine_journal: EngineJournal
    runs: Runs
    last_lines: list[str]
    security: Security
    history: History
    packages: list[str]
    baseline: Baseline
    probe: Probes | SkippedProbes
    traffic: Traffic


Facts = entries.Facts[Values]


def read(content: object) -> Facts:
    """The facts in what `katago.fleet.triage` returned, or a report of it has kept.

    Raises:
        ShapeError: when it is no object. A value of another shape costs its own fact alone.
    """
    return entries.read(Values, content, {"baseline": _check_baseline})


def _check_baseline(value: Baseline) -> None:
    if value["found"] is not None:
        triage_baseline.check(value["found"], "baseline.found")
