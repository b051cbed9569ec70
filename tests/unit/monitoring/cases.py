"""For each alert: series with which it fires, and series with which it must not.

Values lie close to the threshold on both sides, and times one evaluation before and at the end of `for`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS
from tests.unit.monitoring.promtool import STEP, Case, Kind

Values = Mapping[str, float | str]
Labels = Mapping[str, str]

HOUR, DAY = 3600, 86400
BY_NAME = {alert.name: alert for alert in ALERTS}
A, B = {"instance": "a"}, {"instance": "b"}
_UNITS = {"s": 1, "m": 60, "h": HOUR, "d": DAY, "w": 7 * DAY}


def seconds(duration: str) -> int:
    """A duration as Prometheus writes it; 0 for an empty one."""
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhdw])", duration))


def held(value: float | str, samples: int) -> str:
    """A constant value, or a text in promtool's notation as it is."""
    return value if isinstance(value, str) else f"{value:.12g}+0x{samples - 1}"


def state(
    alert: str,
    bad: Values,
    good: Values,
    labels: Labels | None = None,
    *,
    context: Values | None = None,
    missing_fires: bool = False,
    step: int | None = None,
) -> list[Case]:
    """The cases of an alert on a state: it fires when `bad` holds for as long as the alert demands.

    `good`: the same series, on the other side of the threshold. `context`: other series, always there.
    """
    wait = seconds(BY_NAME[alert].for_)
    step = step or (STEP if wait <= 2 * HOUR else 300 if wait <= DAY else HOUR)
    samples, around = wait // step + 1, context or {}
    total = 2 * samples + 2
    fires = (A if labels is None else labels,)

    def case(kind: str, series: Values, at: int, *, firing: bool = False, why: str = "") -> Case:
        values = {name: held(value, total) for name, value in {**around, **series}.items()}
        return Case(alert, kind, values, at, fires if firing else (), why, step)  # type: ignore[arg-type]

    # A single good sample restarts the wait.
    interrupted = {
        name: f"{held(value, samples - 1)} {good[name]} {held(value, samples)}"
        if wait
        else held(good[name], total)
        for name, value in bad.items()
        if not isinstance(value, str)
    }
    cases = [
        case("fires", bad, wait, firing=True),
        case("quiet", good, 2 * wait + step),
        case("missing", {}, 2 * wait + step, firing=missing_fires),
        case("reset", {**bad, **interrupted}, 2 * wait - step if wait else step),
    ]
    if wait:
        cases.append(case("quiet", bad, wait - step, why="before"))
    return cases


def counter(rate_per_minute: float, minutes: int = 30) -> str:
    """A counter that rises evenly."""
    return f"0+{rate_per_minute * STEP / 60:.12g}x{minutes * 60 // STEP}"


def counted(before: float, rise: float, *, after_minutes: int = 30) -> str:
    """A counter that stays at `before` for 10 minutes, rises at once, and stays."""
    return f"{before}+0x40 {before + rise}+0x{after_minutes * 4}"


def restarted(before: float, rise: float) -> str:
    """A counter that is reset to 0 after 10 minutes because its process restarts, and then rises at once."""
    return f"{before}+0x40 0+0x2 {rise}+0x120"


def flat(value: float = 0, minutes: int = 60) -> str:
    """A series that does not change."""
    return f"{value}+0x{minutes * 4}"


def alike(cases: Sequence[Case], series: Mapping[str, str]) -> list[Case]:
    """The cases with more series."""
    return [Case(c.alert, c.kind, {**c.series, **series}, c.at, c.fires, c.why, c.step) for c in cases]


def _service() -> list[Case]:
    restarts = 'katago_engine_restarts_total{instance="a",reason="hung"}'
    requested = 'katago_engine_restarts_total{instance="a",reason="requested"}'
    exited = 'katago_engine_restarts_total{instance="a",reason="exited"}'
    probe_a, probe_b = (f'katago_probe_success{{instance="{name}",prober="m"}}' for name in ("a", "b"))
    elsewhere = 'katago_probe_success{instance="a",prober="n"}'
    duration, other = (
        f'katago_probe_duration_seconds{{instance="a",prober="{name}"}}' for name in ("m", "n")
    )
    # 26 hours, one sample each 5 minutes, and then 30 minutes that are slower.
    fast, slow = "1+0x312", "1.9+0x6"
    slower = 313 * 300
    slowdowns: tuple[tuple[Kind, str, int, str], ...] = (
        ("fires", f"{fast} {slow}", slower + 1200, ""),
        ("quiet", f"{fast} {slow}", slower + 900, "before"),
        ("quiet", f"{fast} 1.7+0x6", slower + 1200, ""),
        ("quiet", "0.1+0x312 0.95+0x6", slower + 1200, "still fast"),
        ("fires", "0.1+0x312 1.05+0x6", slower + 1200, "now slow"),
        # Two days ago it was slow as well, which does not count any more.
        ("fires", f"9+0x280 {fast} {slow}", 594 * 300 + 1200, "than yesterday"),
        # The last hour does not count as before.
        ("fires", "1+0x20 1.9+0x13", 21 * 300 + 3600, "in its first hours"),
    )
    return [
        *state("FleetDown", {probe_a: 0, probe_b: 0}, {probe_a: 0, probe_b: 1}, {}),
        *state(
            "ServiceDown",
            {'katago_host_service_active{instance="a"}': 0},
            {'katago_host_service_active{instance="a"}': 1},
            context={
                'katago_host_deployed{instance="a"}': 1,
                'katago_host_deployed{instance="b"}': 0,
                'katago_host_service_active{instance="b"}': 0,
            },
        ),
        *state(
            "EngineDown",
            {'katago_engine_up{instance="a"}': 0},
            {'katago_engine_up{instance="a"}': 1},
            context={
                'katago_engine_state{instance="a",state="tuning"}': 0,
                'katago_engine_state{instance="b",state="tuning"}': 1,
                'katago_engine_state{instance="a",state="hung"}': 1,
                'katago_engine_up{instance="b"}': 0,
            },
        ),
        Case(
            "EngineRestarting",
            "fires",
            {restarts: counted(4, 2), exited: counted(7, 1), requested: flat()},
            630,
            (A,),
        ),
        Case("EngineRestarting", "quiet", {restarts: counted(4, 2), requested: counted(0, 9)}, 660),
        Case("EngineRestarting", "quiet", {restarts: counted(4, 3)}, 1260, why="later"),
        Case("EngineRestarting", "fires", {restarts: counted(4, 3)}, 1140, (A,), why="still"),
        Case(
            "EngineRestarting",
            "quiet",
            {
                f'katago_engine_restarts_total{{instance="{name}",reason="hung"}}': counted(0, 2)
                for name in "ab"
            },
            660,
            why="two hosts",
        ),
        Case("EngineRestarting", "missing", {requested: counted(0, 9)}, 660),
        Case("EngineRestarting", "reset", {restarts: restarted(50, 0)}, 660),
        Case("EngineRestarting", "reset", {restarts: restarted(50, 3)}, 660, (A,), why="and restarts"),
        *state(
            "ProbeFailed",
            {probe_a: 0, elsewhere: 0},
            {probe_a: 0, elsewhere: 1},
            context={probe_b: 1},
        ),
        *state(
            "ProbeWrong",
            {'katago_probe_correct{instance="a",prober="m"}': 0},
            {'katago_probe_correct{instance="a",prober="m"}': 1},
            context={
                'katago_probe_correct{instance="a",prober="n"}': 1,
                'katago_probe_correct{instance="b",prober="m"}': "NaN+0x20",
            },
        ),
        *(
            Case(
                "ProbeSlow",
                kind,
                {duration: values, other: values},
                at,
                (A,) if kind == "fires" else (),
                why,
                300,
            )
            for kind, values, at, why in slowdowns
        ),
        Case("ProbeSlow", "missing", {}, 313 * 300, step=300),
        Case("ProbeSlow", "reset", {duration: f"{slow}"}, 1500, why="no day before", step=300),
    ]


def _requests() -> list[Case]:
    def calls(ok: float, error: float, *, instance: str = "a", bad: str = "error") -> dict[str, str]:
        """Calls per minute by result, half of them of each of two tools."""
        return {
            f'katago_requests_total{{instance="{instance}",tool="{tool}",status="{status}"}}': counter(
                rate / 2
            )
            for tool in ("analyzePosition", "findMistakes")
            for status, rate in (("ok", ok), (bad, error), ("invalid", 1e6))
        }

    # The rate over 5 minutes exists from the second sample on, so the wait starts at 15 s.
    first = STEP
    cases = []
    for alert, share in (("ErrorRateCritical", 0.5), ("ErrorRateHigh", 0.1), ("ErrorRateRaised", 0.01)):
        wait, total = seconds(BY_NAME[alert].for_), 40000.0
        bad, good = total * share * 1.04, total * share * 0.96
        cases += [
            Case(alert, "fires", calls(total - bad, bad), first + wait, (A,)),
            Case(alert, "fires", calls(total - bad, bad, bad="timeout"), first + wait, (A,), why="timeouts"),
            Case(
                alert,
                "fires",
                calls(total - bad, bad, bad="unavailable"),
                first + wait,
                (A,),
                why="unavailable",
            ),
            Case(alert, "fires", calls(total * (1 - share), total * share), 900, (A,), why="at the limit"),
            Case(alert, "quiet", calls(total - bad, bad), first + wait - STEP, why="before"),
            Case(alert, "quiet", calls(total - good, good), 900),
            # Fewer than five failures in 5 minutes.
            Case(alert, "quiet", calls(0, 0.96), 900, why="few"),
            Case(alert, "fires", calls(0, 1.04), 900, (A,), why="enough"),
            Case(alert, "quiet", calls(0, 0), 900, why="idle"),
            Case(alert, "quiet", calls(total - bad, bad, bad="cancelled"), 900, why="cancelled"),
            Case(alert, "quiet", calls(total - bad, bad, bad="rejected"), 900, why="over a limit"),
            Case(
                alert,
                "quiet",
                {
                    **calls(0, 0),
                    **calls(total, 0, instance="b"),
                    'katago_requests_total{instance="c",status="ok",tool="x"}': "0+0x60",
                },
                900,
                why="two hosts",
            ),
            Case(alert, "missing", {}, 900),
            Case(alert, "reset", dict.fromkeys(calls(0, 0), "1000+0x40 0+0x80"), 660),
        ]
    bucket = 'katago_analysis_duration_seconds_bucket{{instance="a",tool="{tool}",le="{le}"}}'
    count = 'katago_analysis_duration_seconds_count{{instance="a",tool="{tool}"}}'

    def analyses(
        up_to_20: float, up_to_30: float, *, per_minute: float = 1000, tool: str = "analyzePosition"
    ) -> dict[str, str]:
        shares = {"10.0": up_to_20 / 2, "20.0": up_to_20, "30.0": up_to_30, "+Inf": 1.0}
        return {
            **{bucket.format(tool=tool, le=le): counter(per_minute * share) for le, share in shares.items()},
            count.format(tool=tool): counter(per_minute),
        }

    searched = {**A, "tool": "analyzePosition"}
    slow, quick = analyses(0.94, 1), analyses(0.96, 1)
    cases += [
        Case("AnalysisSlow", "fires", slow, 135, (searched,)),
        Case("AnalysisSlow", "quiet", slow, 120, why="before"),
        Case("AnalysisSlow", "quiet", quick, 900),
        Case(
            "AnalysisSlow",
            "quiet",
            {**analyses(0.94, 1, per_minute=0.96), **analyses(1, 1, tool="findMistakes")},
            900,
            why="few",
        ),
        Case("AnalysisSlow", "fires", analyses(0.94, 1, per_minute=1.04), 900, (searched,), why="enough"),
        Case(
            "AnalysisSlow", "quiet", {**analyses(0.5, 1, tool="findMistakes"), **quick}, 900, why="a review"
        ),
        Case("AnalysisSlow", "missing", {name: flat() for name in slow}, 900),
        Case("AnalysisSlow", "reset", {name: f"{counter(900, 10)} {counter(10, 20)}" for name in quick}, 660),
    ]
    waiting = 'katago_engine_queries_queued{instance="a"}'
    cases += [
        Case("AnalysesWait", "fires", {waiting: flat(1)}, 600, (A,)),
        Case("AnalysesWait", "quiet", {waiting: flat(1)}, 585, why="before"),
        Case("AnalysesWait", "quiet", {waiting: f"0 0 {flat(1)}"}, 900, why="starts"),
        Case("AnalysesWait", "quiet", {waiting: flat(0)}, 1800),
        Case("AnalysesWait", "missing", {}, 1800),
        Case("AnalysesWait", "reset", {waiting: "1+0x30 0 1+0x30 0 1+0x60"}, 930),
    ]
    name = 'katago_requests_total{{instance="a",tool="{tool}",status="{status}"}}'

    def limited(rejected: float, ok: float, error: float = 0) -> dict[str, str]:
        """Calls per minute by result, half of them of each of two tools."""
        return {
            name.format(tool=tool, status=status): counter(rate / 2)
            for tool in ("x", "y")
            for status, rate in (("rejected", rejected), ("ok", ok), ("error", error))
        }

    cases += [
        Case("CallsRejected", "fires", limited(1050, 8950), 315, (A,)),
        Case("CallsRejected", "quiet", limited(1050, 8950), 300, why="before"),
        Case("CallsRejected", "quiet", limited(950, 9050), 1200),
        Case("CallsRejected", "quiet", limited(0.96, 5), 1200, why="few"),
        Case("CallsRejected", "fires", limited(1.04, 5), 1200, (A,), why="enough"),
        Case(
            "CallsRejected",
            "quiet",
            limited(0, 90, error=90),
            1200,
            why="errors",
        ),
        Case("CallsRejected", "fires", limited(10, 90), 1200, (A,), why="at the limit"),
        Case("CallsRejected", "missing", {name.format(tool="x", status="ok"): counter(90)}, 1200),
        Case(
            "CallsRejected",
            "reset",
            dict.fromkeys(limited(0, 0), "500+0x40 0+0x60"),
            660,
        ),
    ]
    refused = 'katago_mcp_http_refused_total{{instance="a",reason="{reason}"}}'
    refusal = {**A, "reason": "unauthenticated"}
    login, other = refused.format(reason="unauthenticated"), refused.format(reason="forbidden")
    cases += [
        Case("LoginsRefused", "fires", {login: counter(10.4), other: flat()}, 600, (refusal,)),
        Case("LoginsRefused", "quiet", {login: counter(9.6), other: counter(50)}, 600),
        Case("LoginsRefused", "fires", {login: counted(0, 60)}, 720, (refusal,), why="a burst"),
        Case("LoginsRefused", "fires", {login: counted(0, 60)}, 840, (refusal,), why="within 5 minutes"),
        Case("LoginsRefused", "quiet", {login: counted(0, 60)}, 960, why="later"),
        Case("LoginsRefused", "missing", {other: counter(50)}, 600),
        Case("LoginsRefused", "reset", {login: restarted(900, 0)}, 660),
    ]
    return cases


def _cache() -> list[Case]:
    errors = 'katago_cache_errors_total{instance="a"}'
    hits, misses = (f'katago_cache_{name}_total{{instance="a"}}' for name in ("hits", "misses"))

    def lookups(before: tuple[float, float], after: tuple[float, float]) -> dict[str, str]:
        """Hits and misses in 5 minutes, for a day and then for three hours."""
        return {
            name: f"0+{old}x288 {old * 288 + new}+{new}x36"
            for name, old, new in zip((hits, misses), before, after, strict=True)
        }

    def fell(
        kind: str, series: Mapping[str, str], *, firing: bool = False, why: str = "", hours: float = 1.5
    ) -> Case:
        at = int(289 * 300 + hours * HOUR)
        return Case("CacheHitRateFell", kind, series, at, (A,) if firing else (), why, 300)  # type: ignore[arg-type]

    half, low = (50.0, 50.0), (20.0, 80.0)
    return [
        Case("CacheErrors", "fires", {errors: counted(0, 3)}, 615, (A,)),
        Case("CacheErrors", "quiet", {errors: counted(0, 2)}, 700),
        Case("CacheErrors", "fires", {errors: counted(0, 3)}, 1140, (A,), why="still"),
        Case("CacheErrors", "quiet", {errors: counted(0, 3)}, 1260, why="later"),
        Case("CacheErrors", "missing", {}, 700),
        Case("CacheErrors", "reset", {errors: restarted(90, 1)}, 700),
        *state(
            "CacheOverLimit",
            {'katago_cache_size_bytes{instance="a"}': 101},
            {'katago_cache_size_bytes{instance="a"}': 100},
            context={'katago_cache_max_size_bytes{instance="a"}': 100},
        ),
        fell("fires", lookups(half, low), firing=True),
        fell("quiet", lookups(half, low), why="before", hours=1.25),
        fell("quiet", lookups(half, (27.0, 73.0))),
        fell("fires", lookups(half, (23.0, 77.0)), firing=True, why="below half"),
        fell("quiet", lookups((4.0, 4.0), (0.8, 7.0)), why="few"),
        fell("fires", lookups((4.5, 4.5), (0.8, 8.0)), firing=True, why="enough"),
        fell("quiet", lookups(half, (0.0, 0.0)), why="idle", hours=2.5),
        fell("quiet", lookups((20.0, 80.0), low), why="always low"),
        fell("missing", {misses: counter(10)}),
        fell("reset", {name: f"{values.split()[0]} 0+5x36" for name, values in lookups(half, half).items()}),
        *state(
            "SharedCacheDown",
            {'katago_cache_shared_state{instance="a",state="down"}': 1},
            {'katago_cache_shared_state{instance="a",state="down"}': 0},
            {**A, "state": "down"},
            context={'katago_cache_shared_state{instance="a",state="off"}': 1},
        ),
    ]


def _host() -> list[Case]:
    disk = '{instance="a",mountpoint="/",fstype="ext4"}'
    memory = '{instance="a",mountpoint="/run",fstype="tmpfs"}'
    on_disk = {**A, "mountpoint": "/", "fstype": "ext4"}
    avail, size = f"node_filesystem_avail_bytes{disk}", f"node_filesystem_size_bytes{disk}"
    free, inodes = f"node_filesystem_files_free{disk}", f"node_filesystem_files{disk}"
    full_tmpfs = {
        f"node_filesystem_{name}{memory}": value
        for name, value in {
            "avail_bytes": 1,
            "size_bytes": 100,
            "files_free": 1,
            "files": 100,
            "readonly": 1,
        }.items()
    }
    no_inodes = {
        f'node_filesystem_{name}{{instance="a",mountpoint="/x",fstype="btrfs"}}': 0
        for name in ("files_free", "files")
    }
    readonly = f"node_filesystem_readonly{disk}"
    kills = 'node_vmstat_oom_kill{instance="a"}'
    clock = 'node_time_seconds{instance="a"}'
    sync, error = 'node_timex_sync_status{instance="a"}', 'node_timex_maxerror_seconds{instance="a"}'
    lock = 'katago_host_lock_since_timestamp_seconds{instance="a"}'

    def filling(alert: str, left: str, of: str) -> list[Case]:
        """Cases of a forecast, with a sample each 5 minutes: `left` falls by a constant amount."""
        tmpfs = {name.replace(disk, memory): "100-1x40" for name in (left, of)}

        def case(
            kind: str, start: float, per_sample: float, hours: float, *, firing: bool = False, why: str = ""
        ) -> Case:
            series = {left: f"{start}-{per_sample}x120", of: "1000+0x120", **tmpfs}
            at = int(hours * HOUR)
            return Case(alert, kind, series, at, (on_disk,) if firing else (), why, 300)  # type: ignore[arg-type]

        return [
            # Empty in 24.8 hours at first; after an hour and the wait it is less than a day.
            case("fires", 390, 1.3, 3, firing=True),
            case("quiet", 390, 1.3, 1.9, why="before"),
            case("quiet", 390, 1.2, 2.5),
            # Half full: there is time to wait for better data.
            case("quiet", 480, 1.9, 3, why="half full"),
            case("fires", 420, 1.9, 3, firing=True, why="less than half full"),
            Case(alert, "missing", {of: "1000+0x120"}, 3 * HOUR, step=300),
            Case(
                alert,
                "reset",
                {left: "390-1.9x20 390+0x60", of: "1000+0x120"},
                7 * HOUR,
                step=300,
                why="was cleaned",
            ),
            # Only the last 6 hours count.
            Case(
                alert,
                "quiet",
                {left: "900-10x50 400+0x90", of: "1000+0x190"},
                11 * HOUR,
                step=300,
                why="long ago",
            ),
            Case(
                alert,
                "fires",
                {left: "390+0x60 390-10x36", of: "1000+0x190"},
                27000,
                (on_disk,),
                step=300,
                why="since an hour",
            ),
        ]

    return [
        *state(
            "HostDown",
            {'probe_success{instance="a",job="reach"}': 0},
            {'probe_success{instance="a",job="reach"}': 1},
            {**A, "job": "reach"},
            context={
                'up{instance="a",job="node"}': 0,
                'probe_success{instance="b",job="reach"}': 0,
                'up{instance="b",job="node"}': 1,
                'up{instance="b",job="katago"}': 0,
                'probe_success{instance="a",job="tls"}': 0,
            },
        ),
        *state(
            "MemoryLow",
            {'node_memory_MemAvailable_bytes{instance="a"}': 96},
            {'node_memory_MemAvailable_bytes{instance="a"}': 100},
            context={'node_memory_MemTotal_bytes{instance="a"}': 1000},
        ),
        Case("OutOfMemory", "fires", {kills: counted(3, 1)}, 615, (A,)),
        Case("OutOfMemory", "fires", {kills: counted(3, 1)}, 1140, (A,), why="still"),
        Case("OutOfMemory", "quiet", {kills: counted(3, 1)}, 1260, why="later"),
        Case("OutOfMemory", "quiet", {kills: flat(3)}, 900),
        Case("OutOfMemory", "missing", {}, 900),
        Case("OutOfMemory", "reset", {kills: restarted(9, 0)}, 660),
        *state("DiskFull", {avail: 48}, {avail: 50}, on_disk, context={size: 1000, **full_tmpfs}),
        *filling("DiskFillsUp", avail, size),
        *state(
            "InodesFull", {free: 48}, {free: 50}, on_disk, context={inodes: 1000, **full_tmpfs, **no_inodes}
        ),
        *filling("InodesRunOut", free, inodes),
        Case("FilesystemReadOnly", "fires", {readonly: "0+0x4 1+0x40"}, 135, (on_disk,)),
        Case("FilesystemReadOnly", "quiet", {readonly: "0+0x4 1+0x40"}, 120, why="before"),
        Case(
            "FilesystemReadOnly",
            "quiet",
            {readonly: flat(1), f"node_filesystem_readonly{memory}": "0 0 1+0x40"},
            600,
        ),
        Case(
            "FilesystemReadOnly",
            "fires",
            {readonly: "0+0x4 1+0x200"},
            6 * DAY,
            (on_disk,),
            why="still",
            step=HOUR,
        ),
        Case(
            "FilesystemReadOnly", "quiet", {readonly: "0+0x4 1+0x200"}, 8 * DAY, why="for a week", step=HOUR
        ),
        Case("FilesystemReadOnly", "missing", {}, 600),
        Case("FilesystemReadOnly", "reset", {readonly: "0+0x4 1 1 1 0 1 1 1 0+0x20"}, 180),
        Case("ClockWrong", "fires", {clock: "2.1+15x60"}, 300, (A,)),
        Case("ClockWrong", "quiet", {clock: "2.1+15x60"}, 285, why="before"),
        Case("ClockWrong", "fires", {clock: "-2.1+15x60"}, 300, (A,), why="behind"),
        Case("ClockWrong", "quiet", {clock: "1.9+15x60"}, 600),
        Case("ClockWrong", "quiet", {clock: "-1.9+15x60"}, 600, why="a little behind"),
        Case("ClockWrong", "missing", {}, 600),
        Case("ClockWrong", "reset", {clock: "2.1+15x18 287+15x60"}, 600),
        *state("ClockNotSynchronised", {sync: 0, error: 16}, {sync: 0, error: 15.9}),
        Case(
            "ClockNotSynchronised",
            "quiet",
            {sync: flat(1, 150), error: flat(17, 150)},
            2 * HOUR,
            why="synchronised",
        ),
        Case(
            "ClockNotSynchronised",
            "quiet",
            {sync: "1 0+0x15 " * 20, error: flat(17, 150)},
            HOUR + 600,
            why="at times",
        ),
        *state(
            "UnitFailed",
            {'katago_host_failed_units{instance="a"}': 1},
            {'katago_host_failed_units{instance="a"}': 0},
        ),
        *state(
            "RebootPending",
            {'katago_host_reboot_required{instance="a"}': 1},
            {'katago_host_reboot_required{instance="a"}': 0},
        ),
        *_certificates(),
        Case("LockHeldLong", "fires", {lock: flat(60, 180)}, 7275, (A,)),
        Case("LockHeldLong", "quiet", {lock: flat(60, 180)}, 7260, why="before"),
        Case("LockHeldLong", "quiet", {lock: flat(0, 180)}, 9000),
        Case("LockHeldLong", "missing", {}, 9000),
        Case("LockHeldLong", "reset", {lock: "60+0x40 7200+0x600"}, 9000),
        *state(
            "SecurityModeLong",
            {'katago_host_security_mode{instance="a"}': 1},
            {'katago_host_security_mode{instance="a"}': 0},
        ),
    ]


def _certificates() -> list[Case]:
    cases = []
    served = 'probe_ssl_earliest_cert_expiry{instance="a",job="tls"}'
    used = 'katago_mcp_tls_certificate_expires_timestamp_seconds{instance="a",job="katago"}'
    on_disk = 'katago_host_certificate_expires_timestamp_seconds{instance="a",job="node"}'
    for alert, days in (("CertificateExpires", 14), ("CertificateExpiresSoon", 2)):
        wait = seconds(BY_NAME[alert].for_)
        limit = days * DAY
        # At 600 s the expiry is as far away as the limit; the wait starts at the next evaluation.
        begin = 600 + STEP
        late = flat(limit + 600, 120)
        no_tls = {used: flat(0, 120), on_disk: flat(0, 120)}
        far = {name: flat(400 * DAY, 120) for name in (served, used, on_disk)}
        cases += [
            Case(alert, "fires", {**no_tls, served: late}, begin + wait, (A,)),
            Case(alert, "fires", {**far, used: late}, begin + wait, (A,), why="in the process"),
            Case(alert, "fires", {**far, on_disk: late}, begin + wait, (A,), why="on disk"),
            Case(alert, "quiet", {**no_tls, served: late}, begin + wait - STEP, why="before"),
            Case(alert, "quiet", {**no_tls, served: flat(limit + 8000, 120)}, 7000),
            Case(alert, "quiet", no_tls, 7000, why="no TLS"),
            Case(alert, "missing", {}, 7000),
            Case(
                alert,
                "reset",
                {**no_tls, served: f"{limit + 600}+0x50 {400 * DAY}+0x400"},
                5000,
                why="renewed",
            ),
        ]
    return cases


def _gpu() -> list[Case]:
    of = '{instance="a",device="0"}'
    card = {**A, "device": "0"}
    fatal = 'katago_host_gpu_xids{instance="a",fatal="yes"}'
    harmless = 'katago_host_gpu_xids{instance="a",fatal="no"}'
    return [
        *state(
            "GpuSilent",
            {'katago_host_gpu_responding{instance="a"}': 1},
            {'katago_host_gpu_responding{instance="a"}': 2},
            context={'katago_host_gpu_devices{instance="a"}': 2},
        ),
        *state("GpuSlowed", {f"katago_host_gpu_slowed{of}": 1}, {f"katago_host_gpu_slowed{of}": 0}, card),
        *state(
            "GpuMemoryLow",
            {f"katago_host_gpu_memory_used_bytes{of}": 960},
            {f"katago_host_gpu_memory_used_bytes{of}": 950},
            card,
            context={f"katago_host_gpu_memory_bytes{of}": 1000},
        ),
        *state("GpuFault", {fatal: 1}, {fatal: 0}, {**A, "fatal": "yes"}, context={harmless: 3}),
    ]


def _release() -> list[Case]:
    verdict = 'katago_host_release_verdict{{instance="a",verdict="{0}"}}'
    rejected, unknown, validated = (verdict.format(name) for name in ("rejected", "none", "validated"))

    def info(instance: str, version: str, engine: str = "e", network: str = "n", release: str = "r") -> str:
        return (
            f'katago_host_release_info{{instance="{instance}",release="{release}",version="{version}",'
            f'engine="{engine}",network="{network}"}}'
        )

    mixed = BY_NAME["ReleasesMixed"]
    wait = seconds(mixed.for_)
    same = {info("a", "1"): flat(1, 300), info("b", "1", release="other"): flat(1, 300)}
    return [
        *state(
            "ReleaseNotRunning",
            {'katago_host_release_running{instance="a"}': 0},
            {'katago_host_release_running{instance="a"}': 1},
            context={
                'katago_host_service_active{instance="a"}': 1,
                'katago_host_release_running{instance="b"}': 0,
                'katago_host_service_active{instance="b"}': 0,
            },
        ),
        *state(
            "ReleaseRejected",
            {rejected: 1},
            {rejected: 0},
            {**A, "verdict": "rejected"},
            context={unknown: 1, validated: 1},
        ),
        *state(
            "ReleaseUnvalidated",
            {unknown: 1},
            {unknown: 0},
            {**A, "verdict": "none"},
            context={
                rejected: 1,
                validated: 1,
                'katago_host_deployed{instance="a"}': 1,
                'katago_host_release_verdict{instance="b",verdict="none"}': 1,
                'katago_host_deployed{instance="b"}': 0,
            },
        ),
        *state(
            "ReleaseChanged",
            {'katago_host_release_changed_files{instance="a"}': 1},
            {'katago_host_release_changed_files{instance="a"}': 0},
        ),
        *(
            Case(
                "ReleasesMixed",
                "fires",
                {info("a", "1"): flat(1, 300), other: flat(1, 300)},
                wait,
                ({},),
                why=why,
            )
            for why, other in (
                ("versions", info("b", "2")),
                ("engines", info("b", "1", engine="f")),
                ("networks", info("b", "1", network="m")),
            )
        ),
        Case(
            "ReleasesMixed",
            "quiet",
            {info("a", "1"): flat(1, 300), info("b", "2"): flat(1, 300)},
            wait - STEP,
            why="before",
        ),
        Case("ReleasesMixed", "quiet", same, 2 * wait),
        Case("ReleasesMixed", "missing", {}, 2 * wait),
        Case(
            "ReleasesMixed",
            "reset",
            {
                info("a", "1"): flat(1, 300),
                info("b", "2"): f"1+0x{wait // STEP - 30}",
                info("b", "1"): f"{'_ ' * (wait // STEP - 30)}1+0x400",
            },
            wait + 600,
            why="rolled out",
        ),
        *state(
            "OverrideLong",
            {'katago_host_override_active{instance="a"}': 1},
            {'katago_host_override_active{instance="a"}': 0},
        ),
        *state(
            "OverrideInvalid",
            {'katago_mcp_overlay_invalid{instance="a"}': 1},
            {'katago_mcp_overlay_invalid{instance="a"}': 0},
        ),
    ]


def _load_balancer() -> list[Case]:
    def server(name: str, status: str, proxy: str = "mcp") -> str:
        return f'haproxy_server_status{{instance="lb",proxy="{proxy}",server="{name}",state="{status}"}}'

    lb = {"instance": "lb"}
    active = 'haproxy_backend_active_servers{instance="lb",proxy="mcp"}'
    queue = 'haproxy_backend_current_queue{instance="lb",proxy="mcp"}'
    in_proxy = {**lb, "proxy": "mcp"}
    response = 'haproxy_backend_http_responses_total{{instance="lb",proxy="{proxy}",code="{code}"}}'

    def responses(ok: float, failed: float, proxy: str = "mcp") -> dict[str, str]:
        return {
            response.format(proxy=proxy, code="2xx"): counter(ok),
            response.format(proxy=proxy, code="5xx"): counter(failed),
            response.format(proxy=proxy, code="4xx"): counter(0),
        }

    up = [server(name, "UP") for name in "abcde"]
    down = {server(name, "DOWN"): 1 for name in "abcde"}
    name = {**in_proxy, "server": "a"}
    cases = [
        *state(
            "LoadBalancerDown",
            {'up{instance="lb",job="load_balancer"}': 0},
            {'up{instance="lb",job="load_balancer"}': 1},
            {**lb, "job": "load_balancer"},
            context={'up{instance="a",job="node"}': 0},
        ),
        *state(
            "LoadBalancerNoServer",
            {active: 0},
            {active: 1},
            in_proxy,
            context={'haproxy_backend_active_servers{instance="lb",proxy="other"}': 0},
        ),
        *state(
            "LoadBalancerFewServers",
            {up[0]: 1, up[1]: 1, up[2]: 0, up[3]: 0, up[4]: 0},
            {up[0]: 1, up[1]: 1, up[2]: 0, up[3]: 0, up[4]: 1},
            lb,
            context={
                **down,
                **{server(name, "MAINT"): 0 for name in "abcde"},
                **{server(name, "UP", proxy="other"): 1 for name in "abcdefg"},
            },
        ),
        Case("LoadBalancerFewServers", "quiet", {up[0]: flat(1), up[1]: flat(0)}, 600, why="half"),
        *state(
            "LoadBalancerServerDown",
            {server("a", "DOWN"): 1},
            {server("a", "DOWN"): 0},
            {**name, "state": "DOWN"},
            context={server("a", "UP"): 1, server("a", "DOWN", proxy="other"): 1},
        ),
        *(
            case
            for status in ("MAINT", "DRAIN")
            for case in state(
                "HostOutOfRotation",
                {server("a", status): 1},
                {server("a", status): 0},
                {**name, "state": status},
                context={server("a", "UP"): 1, server("a", status, proxy="other"): 1},
            )
        ),
        Case("LoadBalancerErrors", "fires", responses(8950, 1050), 135, (lb,)),
        Case("LoadBalancerErrors", "quiet", responses(8950, 1050), 120, why="before"),
        Case("LoadBalancerErrors", "quiet", responses(9050, 950), 900),
        Case(
            "LoadBalancerErrors",
            "quiet",
            {**responses(94, 6), **responses(0, 90, "other")},
            900,
            why="another proxy",
        ),
        Case(
            "LoadBalancerErrors",
            "quiet",
            {**responses(5, 0.96), **responses(0, 90, "other")},
            900,
            why="few",
        ),
        Case("LoadBalancerErrors", "fires", responses(5, 1.04), 900, (lb,), why="enough"),
        Case("LoadBalancerErrors", "fires", responses(90, 10), 900, (lb,), why="at the limit"),
        Case(
            "LoadBalancerErrors",
            "fires",
            {**responses(8950, 1050), **responses(90000, 0, "other")},
            900,
            (lb,),
            why="and another proxy",
        ),
        Case("LoadBalancerErrors", "missing", {response.format(proxy="mcp", code="2xx"): counter(90)}, 900),
        Case("LoadBalancerErrors", "reset", dict.fromkeys(responses(0, 0), "900+0x40 0+0x60"), 690),
        Case("LoadBalancerQueue", "fires", {queue: flat(1)}, 300, (in_proxy,)),
        Case("LoadBalancerQueue", "quiet", {queue: flat(1)}, 285, why="before"),
        Case("LoadBalancerQueue", "quiet", {queue: "0 0 0 " + flat(1)}, 600, why="starts"),
        Case("LoadBalancerQueue", "quiet", {queue: flat(0), queue.replace("mcp", "other"): flat(1)}, 900),
        Case("LoadBalancerQueue", "missing", {}, 900),
        Case("LoadBalancerQueue", "reset", {queue: "1+0x15 0 1+0x15 0 1+0x60"}, 600),
    ]
    return cases


def _objectives_of_calls() -> list[Case]:
    """The rates of an objective from the counters of two hosts."""
    alert = "ErrorBudgetBurnsFast"
    name = 'katago_requests_total{{instance="{instance}",tool="x",status="{status}"}}'

    def calls(**rates: float) -> dict[str, str]:
        return {
            name.format(instance=instance, status=status): counter(rate / 2, 90)
            for instance in "ab"
            for status, rate in rates.items()
        }

    bucket = 'katago_analysis_duration_seconds_bucket{{instance="{instance}",tool="{tool}",le="{le}"}}'
    count = 'katago_analysis_duration_seconds_count{{instance="{instance}",tool="{tool}"}}'

    def analyses(quick: float, slow: float, tool: str = "analyzePosition") -> dict[str, str]:
        """Analyses per minute that took up to 10 s, and longer ones."""
        series = {}
        for instance in "ab":
            series[bucket.format(instance=instance, tool=tool, le="10.0")] = counter(quick / 2, 90)
            series[bucket.format(instance=instance, tool=tool, le="20.0")] = counter((quick + slow) / 2, 90)
            series[count.format(instance=instance, tool=tool)] = counter((quick + slow) / 2, 90)
        return series

    def case(kind: Kind, series: Mapping[str, str], objective: str = "", why: str = "") -> Case:
        return Case(alert, kind, series, 4500, ({"objective": objective},) if objective else (), why)

    # 14.4 times the budget of 0.5 %, and of 5 %.
    return [
        *(
            case("fires", calls(ok=924, **{status: 76}), "availability", status)
            for status in ("error", "timeout", "unavailable")
        ),
        case("quiet", calls(ok=932, error=68), why="few errors"),
        case("quiet", calls(ok=900, cancelled=100), why="cancelled calls"),
        # What the caller did wrong does not count, neither as a failure nor as a call.
        case(
            "fires", calls(ok=924, error=76, invalid=9e5, rejected=9e5), "availability", "among invalid calls"
        ),
        case("fires", analyses(260, 740), "latency", "slow analyses"),
        case("quiet", analyses(300, 700), why="slow analyses"),
        case("quiet", {**analyses(900, 100), **analyses(1, 9e4, "findMistakes")}, why="slow reviews"),
        case("fires", {**analyses(260, 740), **analyses(9e4, 1, "findMistakes")}, "latency", "quick reviews"),
    ]


def _objectives() -> list[Case]:
    """With a sample each 5 minutes for the short windows, and each hour for the long ones."""
    counted_name = 'katago:objective_counted:rate5m{objective="availability"}'
    missed_name = 'katago:objective_missed:rate5m{objective="availability"}'
    labels = {"objective": "availability"}
    cases = _objectives_of_calls()

    def healthy(samples: int) -> dict[str, str]:
        """The other objective, which is met."""
        return {
            counted_name.replace("availability", "latency"): f"1+0x{samples}",
            missed_name.replace("availability", "latency"): f"0+0x{samples}",
        }

    # Alert, its burn rate, its long and short window in hours, and the fewest misses in the long window.
    table = (
        ("ErrorBudgetBurnsFast", 14.4, 1.0, 5 / 60, 10, 15),
        ("ErrorBudgetBurns", 6.0, 6.0, 0.5, 10, 300),
        ("ErrorBudgetBurnsSlowly", 1.0, 72.0, 6.0, 30, 900),
    )
    for alert, burn, long, short, fewest, step in table:
        wait = seconds(BY_NAME[alert].for_)
        share = burn * 0.005
        length = int((long * 3 * HOUR + 4 * wait) / step)
        start = int(long * HOUR)

        def series(missed: str, rate: float = 1.0, samples: int = length) -> dict[str, str]:
            return {counted_name: f"{rate}+0x{samples}", missed_name: missed, **healthy(samples)}

        above, below = share * 1.04, share * 0.96
        many = f"{above}+0x{length}"
        # The misses ended a while ago, so the short window is almost good again.
        bad_samples = int((long * HOUR + wait) / step)
        ended = f"{share * 4}+0x{bad_samples} {share * 0.85}+0x{length}"
        after = bad_samples * step + int(short * HOUR) + wait + 2 * step
        # Not long enough for the long window, which is almost bad before.
        burst = f"{share * 0.85}+0x{int(long * HOUR / step)} {share * 1.5}+0x{length}"
        # So few calls that the share is exceeded by fewer misses than count.
        few = fewest / (long * HOUR)
        cases += [
            Case(alert, "fires", series(many), start + wait, (labels,), step=step),
            Case(alert, "quiet", series(many), wait - step, why="before", step=step),
            Case(alert, "fires", series(many), wait, (labels,), why="at the end of the wait", step=step),
            Case(alert, "quiet", series(f"{below}+0x{length}"), start + 2 * wait, step=step),
            Case(alert, "quiet", series(ended), after, why="over", step=step),
            Case(
                alert,
                "quiet",
                series(f"{few * 0.96}+0x{length}", few),
                start + 2 * wait,
                why="few",
                step=step,
            ),
            Case(
                alert,
                "fires",
                series(f"{few * 1.04}+0x{length}", few),
                start + 2 * wait,
                (labels,),
                why="enough",
                step=step,
            ),
            Case(alert, "quiet", series(burst), start + int(short * HOUR) + wait, why="a burst", step=step),
            Case(alert, "missing", {counted_name: f"1+0x{length}"}, start + wait, step=step),
            # The service restarts, and there are no calls for a while.
            Case(alert, "reset", series("0+0x2 " + "_ " * 3 + f"0+0x{length}"), start + wait, step=step),
        ]
    budget = [
        ("fires", 1.0, 0.0038, 1, ""),
        ("quiet", 1.0, 0.0038, 0.75, "before"),
        ("quiet", 1.0, 0.0037, 9, ""),
        # Nothing but misses, but fewer than a hundred.
        ("quiet", 96 / (30 * DAY), 96 / (30 * DAY), 9, "few"),
        ("fires", 104 / (30 * DAY), 104 / (30 * DAY), 9, "enough"),
    ]
    for kind, rate, missed, hours, why in budget:
        rates = {counted_name: f"{rate}+0x40", missed_name: f"{missed}+0x40", **healthy(40)}
        firing = (labels,) if kind == "fires" else ()
        cases.append(Case("ErrorBudgetLow", kind, rates, int(hours * HOUR), firing, why, 900))  # type: ignore[arg-type]
    return [
        *cases,
        Case("ErrorBudgetLow", "missing", {counted_name: "1+0x20"}, 9 * HOUR, step=HOUR),
        # A service that restarts has no calls for a while, which is no miss.
        Case(
            "ErrorBudgetLow",
            "reset",
            {counted_name: "1+0x5 _x3 1+0x20", missed_name: "0+0x5 _x3 0+0x20"},
            20 * HOUR,
            step=HOUR,
        ),
    ]


def _backup() -> list[Case]:
    verified = 'katago_host_backup_verified_timestamp_seconds{instance="a"}'
    inventory = 'katago_inventory_host{{instance="{0}",backup="{1}",prober="m"}}'
    last, when = (
        'katago_host_backup_last_success{instance="a"}',
        'katago_host_backup_last_timestamp_seconds{instance="a"}',
    )
    yes, no = inventory.format("a", "yes"), inventory.format("a", "no")
    elsewhere = {
        'katago_host_backup_verified_timestamp_seconds{instance="b"}': "1+0x1000",
        inventory.format("b", "no"): "1+0x1000",
    }
    never = {
        'katago_host_backup_verified_timestamp_seconds{instance="b"}': 0,
        inventory.format("b", "no"): 1,
    }
    return [
        # Verified at 1 s, so it is 36 hours old at 129601 s.
        Case(
            "BackupOld",
            "fires",
            {verified: "1+0x1000", yes: "1+0x1000", **elsewhere},
            129900 + 600,
            (A,),
            step=300,
        ),
        Case(
            "BackupOld",
            "quiet",
            {verified: "1+0x1000", yes: "1+0x1000"},
            129900 + 300,
            why="before",
            step=300,
        ),
        Case("BackupOld", "quiet", {verified: "9000+0x1000", yes: "1+0x1000"}, 138000, step=300),
        Case(
            "BackupOld", "quiet", {verified: "1+0x1000", no: "1+0x1000"}, 140000, why="not wanted", step=300
        ),
        Case(
            "BackupOld", "quiet", {verified: "0+0x1000", yes: "1+0x1000"}, 140100, why="never made", step=300
        ),
        Case("BackupOld", "missing", {yes: "1+0x1000"}, 140100, step=300),
        Case(
            "BackupOld",
            "reset",
            {verified: "1+0x432 129000+0x400", yes: "1+0x1000"},
            150000,
            why="made",
            step=300,
        ),
        *state("BackupNeverMade", {verified: 0}, {verified: 1}, context={yes: 1, **never}),
        *state(
            "BackupFailed",
            {last: 0},
            {last: 1},
            context={
                when: 1,
                'katago_host_backup_last_success{instance="b"}': 0,
                'katago_host_backup_last_timestamp_seconds{instance="b"}': 0,
            },
        ),
    ]


def _monitoring() -> list[Case]:
    node, service = 'up{instance="a",job="node"}', 'up{instance="a",job="katago"}'
    reach = 'probe_success{instance="a",job="reach"}'
    readings = 'katago_host_readings_timestamp_seconds{instance="a"}'
    probed = 'katago_probe_timestamp_seconds{instance="a",prober="m"}'
    target = 'katago_inventory_target{instance="a",scrape="katago",prober="m",job="node"}'
    server = 'haproxy_server_status{{instance="{lb}",proxy="{proxy}",server="a",state="{state}"}}'
    up_a = server.format(lb="lb-1", proxy="mcp", state="UP")
    failed = 'alertmanager_notifications_failed_total{instance="m",integration="email"}'
    dropped = 'prometheus_notifications_dropped_total{instance="m"}'
    rules = 'prometheus_rule_evaluation_failures_total{instance="m",rule_group="x"}'
    m = {"instance": "m"}
    loaded = "config_last_reload_successful"
    beat = f"{' '.join(str(STEP * each) for each in range(20))} {STEP * 20}+0x100"
    cases = [
        *state(
            "ExporterSilent",
            {node: 0},
            {node: 1},
            {**A, "job": "node"},
            context={
                reach: 1,
                'up{instance="lb",job="load_balancer"}': 0,
                # A host that is down, and one whose service does not run.
                'up{instance="b",job="node"}': 0,
                'probe_success{instance="b",job="reach"}': 0,
                'up{instance="c",job="katago"}': 0,
                'katago_host_service_active{instance="c"}': 0,
                'probe_success{instance="a",job="tls"}': 0,
                'katago_host_service_active{instance="a"}': 1,
            },
        ),
        *state(
            "ServiceMetricsMissing",
            {service: 1},
            {service: 0},
            {**A, "job": "katago"},
            context={
                node: 1,
                'up{instance="b",job="katago"}': 1,
                'katago_engine_up{instance="b"}': 1,
            },
        ),
        Case("HostReadingsOld", "fires", {node: flat(1), readings: beat}, 915, (A,)),
        Case("HostReadingsOld", "quiet", {node: flat(1), readings: beat}, 900, why="before"),
        Case("HostReadingsOld", "quiet", {node: flat(1), readings: "0+15x200"}, 1200),
        Case("HostReadingsOld", "quiet", {node: flat(0), service: flat(1)}, 1200, why="host down"),
        Case("HostReadingsOld", "missing", {node: flat(1)}, 300, ({**A, "job": "node"},)),
        Case("HostReadingsOld", "missing", {node: flat(1)}, 285, why="before"),
        Case(
            "HostReadingsOld",
            "reset",
            {node: flat(1), readings: f"{beat.rpartition('x')[0]}x30 765+15x60"},
            1200,
        ),
        *state(
            "HostReadingFailed",
            {'katago_host_reading_ok{instance="a",reading="backup"}': 0},
            {'katago_host_reading_ok{instance="a",reading="backup"}': 1},
            {**A, "reading": "backup"},
        ),
        Case("ProberSilent", "fires", {probed: beat}, 675, ({"prober": "m"},)),
        Case("ProberSilent", "quiet", {probed: beat}, 660, why="before"),
        Case(
            "ProberSilent",
            "quiet",
            {probed: "0+15x200", 'katago_probe_timestamp_seconds{instance="b",prober="m"}': beat},
            1200,
        ),
        Case("ProberSilent", "missing", {}, 180, ({},)),
        Case("ProberSilent", "missing", {}, 165, why="before"),
        Case("ProberSilent", "reset", {probed: f"{beat.rpartition('x')[0]}x18 585+15x60"}, 900),
        Case(
            "TargetMissing",
            "fires",
            {target: flat(1), node: flat(1), 'up{instance="b",job="katago"}': flat(1)},
            600,
            ({**A, "job": "katago", "scrape": "katago"},),
        ),
        Case("TargetMissing", "quiet", {target: flat(1), node: flat(1)}, 585, why="before"),
        Case("TargetMissing", "quiet", {target: flat(1), service: flat(0)}, 1200),
        Case("TargetMissing", "missing", {node: flat(1)}, 1200),
        Case(
            "TargetMissing", "reset", {target: flat(1), service: f"{'_ ' * 30}1 stale {'_ ' * 30}1+0x40"}, 700
        ),
        Case(
            "HostForgotten",
            "fires",
            {up_a: flat(1), server.format(lb="lb-2", proxy="mcp", state="UP"): flat(1), node: flat(1)},
            600,
            ({**A, "server": "a"},),
        ),
        Case("HostForgotten", "quiet", {up_a: flat(1)}, 585, why="before"),
        Case("HostForgotten", "quiet", {up_a: flat(1), service: flat(0)}, 1200),
        Case(
            "HostForgotten",
            "quiet",
            {server.format(lb="lb", proxy="other", state="UP"): flat(1)},
            1200,
            why="another proxy",
        ),
        Case("HostForgotten", "missing", {server.format(lb="lb", proxy="mcp", state="DOWN"): flat(1)}, 1200),
        Case(
            "HostForgotten", "reset", {up_a: flat(1), service: f"{'_ ' * 30}1 stale {'_ ' * 30}1+0x40"}, 700
        ),
        *state(
            "PrometheusDown",
            {'up{instance="m",job="prometheus"}': 0},
            {'up{instance="m",job="prometheus"}': 1},
            {**m, "job": "prometheus"},
            context={node: 0},
        ),
        *state(
            "AlertmanagerDown",
            {'up{instance="m",job="alertmanager"}': 0},
            {'up{instance="m",job="alertmanager"}': 1},
            {**m, "job": "alertmanager"},
            context={node: 0},
        ),
        *(
            case
            for program in ("prometheus", "alertmanager")
            for case in state(
                "MonitoringConfigStale",
                {f'{program}_{loaded}{{instance="m"}}': 0},
                {f'{program}_{loaded}{{instance="m"}}': 1},
                m,
            )
        ),
        Case("MonitoringAlive", "fires", {node: flat(1)}, 0, ({},)),
        Case("MonitoringAlive", "missing", {}, 600, ({},)),
    ]
    for alert, name in (
        ("AlertsNotDelivered", failed),
        ("AlertsNotDelivered", dropped),
        ("RulesFail", rules),
    ):
        cases += [
            Case(alert, "fires", {name: counter(1)}, 315, (m,)),
            Case(alert, "quiet", {name: counter(1)}, 300, why="before"),
            Case(alert, "fires", {name: counted(0, 1)}, 1140, (m,), why="still"),
            Case(alert, "quiet", {name: counted(0, 1)}, 1260, why="later"),
            Case(alert, "quiet", {name: flat(7)}, 900),
            Case(alert, "missing", {}, 900),
            Case(alert, "reset", {name: restarted(9, 0)}, 930),
        ]
    return cases


def _self_healing() -> list[Case]:
    def status(name: str, instance: str = "a") -> str:
        return f'katago_host_healing_status{{instance="{instance}",status="{name}"}}'

    stopped, paused, repairing = (status(name) for name in ("stopped", "paused", "repairing"))
    escalated, set_up = (f'katago_host_healing_{name}{{instance="a"}}' for name in ("escalated", "set_up"))
    checked = 'katago_host_healing_checked_timestamp_seconds{instance="a"}'

    def fleet(name: str, instance: str = "a") -> str:
        return f'katago_host_fleet_healing_{name}{{instance="{instance}"}}'

    def repairs(result: str, repair: str = "restart") -> str:
        return f'katago_host_healing_repairs_total{{instance="a",repair="{repair}",result="{result}"}}'

    repaired = {**A, "repair": "restart"}
    failing = "HealingSilent"
    return [
        *state(
            "HealingStopped",
            {stopped: 1},
            {stopped: 0},
            {**A, "status": "stopped"},
            context={status("idle"): 1, paused: 1},
        ),
        *state(
            "HealingEscalated",
            {escalated: 1},
            {escalated: 0},
            # Another host that has stopped, and another status of this one.
            context={status("stopped", "b"): 1, status("blocked"): 1, stopped: 0},
        ),
        Case("HealingEscalated", "quiet", {escalated: flat(1), stopped: flat(1)}, 1800, why="stopped"),
        Case(
            "HealingRepaired",
            "fires",
            {repairs("repaired"): counted(3, 1), repairs("failed"): flat(), repairs("repaired", "x"): flat()},
            630,
            (repaired,),
        ),
        Case(
            "HealingRepaired",
            "fires",
            {repairs("repaired"): counted(3, 1, after_minutes=90)},
            4080,
            (repaired,),
            why="still",
        ),
        Case(
            "HealingRepaired",
            "quiet",
            {repairs("repaired"): counted(3, 1, after_minutes=90)},
            4260,
            why="later",
        ),
        Case(
            "HealingRepaired",
            "quiet",
            {repairs("repaired"): flat(7), repairs("failed"): counted(0, 1)},
            660,
            why="failed",
        ),
        Case("HealingRepaired", "missing", {repairs("failed"): counted(0, 1)}, 660),
        Case("HealingRepaired", "reset", {repairs("repaired"): restarted(5, 0)}, 660),
        Case(
            "HealingRepaired", "reset", {repairs("repaired"): restarted(5, 1)}, 660, (repaired,), why="again"
        ),
        *state(
            "HealingPausedLong",
            {paused: 1},
            {paused: 0},
            {**A, "status": "paused"},
            context={status("idle"): 1, stopped: 1},
        ),
        # The last run was at 0 s, so it is older than 300 s from 315 s on.
        Case(failing, "fires", {checked: flat(), set_up: flat(1), repairing: flat()}, 915, (A,)),
        Case(failing, "quiet", {checked: flat(), set_up: flat(1), repairing: flat()}, 900, why="before"),
        Case(failing, "quiet", {checked: "0+15x240", set_up: flat(1), repairing: flat()}, 1800),
        Case(failing, "quiet", {checked: flat(), set_up: flat(0), repairing: flat()}, 1800, why="not set up"),
        Case(failing, "quiet", {checked: flat(), set_up: flat(1), repairing: flat(1)}, 1800, why="repairs"),
        Case(
            failing,
            "fires",
            {checked: flat(), set_up: flat(1), repairing: flat(), status("repairing", "b"): flat(1)},
            1800,
            (A,),
            why="another host repairs",
        ),
        Case(failing, "missing", {set_up: flat(1)}, 1800),
        Case(
            failing,
            "reset",
            {checked: "0+0x40 600+0x4 0+0x160", set_up: flat(1), repairing: flat()},
            1200,
            why="a run in between",
        ),
        *state(
            "FleetHealingStopped",
            {fleet("stopped"): 1},
            {fleet("stopped"): 0},
            # The host itself has stopped, and its repairs of the fleet are paused; another host has not.
            context={stopped: 1, fleet("set_up"): 1, fleet("paused"): 1, fleet("stopped", "b"): 0},
        ),
        *state(
            "FleetHealingEscalated",
            {fleet("escalated"): 1},
            {fleet("escalated"): 0},
            # Another host has stopped, and this one repairs the fleet although it does not repair itself.
            context={fleet("stopped"): 0, fleet("stopped", "b"): 1, stopped: 1},
        ),
        Case(
            "FleetHealingEscalated",
            "quiet",
            {fleet("escalated"): flat(1), fleet("stopped"): flat(1)},
            1800,
            why="stopped",
        ),
        *state(
            "FleetHealingPausedLong",
            {fleet("paused"): 1},
            {fleet("paused"): 0},
            # The host itself is paused, and another one repairs the fleet.
            context={paused: 1, fleet("set_up"): 1, fleet("paused", "b"): 0},
        ),
        *state(
            "FleetHealingSilent",
            {fleet("running"): 0},
            {fleet("running"): 1},
            # On another host it is not set up.
            context={fleet("set_up"): 1, fleet("set_up", "b"): 0, fleet("running", "b"): 0},
        ),
    ]


CASES = (
    *_service(),
    *_requests(),
    *_cache(),
    *_host(),
    *_gpu(),
    *_release(),
    *_load_balancer(),
    *_objectives(),
    *_backup(),
    *_self_healing(),
    *_monitoring(),
)
