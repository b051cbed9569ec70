"""The table of alerts: when each fires, how severe it is, what it means, and the command to run next.

The rule files of Prometheus and docs/reference/alerts.md are made from it. It needs nothing but the standard
library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Severity = Literal["P0", "P1", "P2", "P3", "none"]
Subject = Literal[
    "Service",
    "Requests",
    "Cache",
    "Host",
    "GPU",
    "Release",
    "Load balancer",
    "Objectives",
    "Backup",
    "Self-healing",
    "Monitoring",
]

SUBJECTS: tuple[Subject, ...] = get_args(Subject)
REFERENCE = "docs/reference/alerts.md"
"""The document that has one section for each alert."""

_DISK = 'fstype!~"tmpfs|ramfs|fuse.*"'
_FREE = f"node_filesystem_avail_bytes{{{_DISK}}} / node_filesystem_size_bytes"
_FREE_INODES = f"node_filesystem_files_free{{{_DISK}}} / (node_filesystem_files > 0)"
_SERVERS = 'proxy="mcp"'
_HOST = "{{ $labels.instance }}"
_DAY = 86400


@dataclass(frozen=True)
class Command:
    """The procedure to run next, by its name in `run/procedures.py`, with its inputs.

    `is_of_host`: it takes the host of the alert as its limit.
    """

    procedure: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    is_of_host: bool = True


TRIAGE = Command("triage")
TRIAGE_ALL = Command("triage", is_of_host=False)
FLEET = Command("fleet", is_of_host=False)
SETUP = Command("monitoring", is_of_host=False)
ROTATION = Command("rotation_show", is_of_host=False)


@dataclass(frozen=True)
class Alert:
    """An alert. `for_`: how long the expression must hold, as Prometheus writes durations; empty for no time.

    `summary` is one line. `meaning` says what is wrong and what to do. Both may have Prometheus' templates.
    `severity` is the runbook's; none for an alert that always fires.
    """

    name: str
    subject: Subject
    severity: Severity
    expression: str
    for_: str
    summary: str
    meaning: str
    command: Command

    @property
    def anchor(self) -> str:
        """The anchor of its section in `REFERENCE`."""
        return self.name.lower()


ALERTS = (
    Alert(
        "FleetDown",
        "Service",
        "P0",
        "max(katago_probe_success) == 0",
        "1m",
        "No host answers the prober",
        "The prober gets no answer from any host and any load balancer. Clients have no service."
        " If the network of the monitoring host is in order, open an incident.",
        Command("incident_open", is_of_host=False),
    ),
    Alert(
        "ServiceDown",
        "Service",
        "P1",
        "katago_host_service_active == 0 and on (instance) katago_host_deployed == 1",
        "1m",
        f"The service of {_HOST} does not run",
        "systemd reports that the unit of the service is not active. Triage names the cause.",
        TRIAGE,
    ),
    Alert(
        "EngineDown",
        "Service",
        "P1",
        'katago_engine_up == 0 unless on (instance) katago_engine_state{state="tuning"} == 1',
        "1m",
        f"The engine of {_HOST} is not ready",
        "The server answers, but its engine does not analyse. The server restarts an engine that hangs or"
        " exits; if it does not succeed within a minute, the cause is not the engine process alone.",
        TRIAGE,
    ),
    Alert(
        "EngineRestarting",
        "Service",
        "P1",
        'sum by (instance) (increase(katago_engine_restarts_total{reason!="requested"}[10m])) >= 2.5',
        "",
        f"The engine of {_HOST} restarts again and again",
        "The engine ended at least three times in 10 minutes without being asked to. Each time, calls in"
        " flight fail.",
        TRIAGE,
    ),
    Alert(
        "ProbeFailed",
        "Service",
        "P1",
        "max by (instance) (katago_probe_success) == 0",
        "2m",
        f"{_HOST} does not answer MCP calls from outside",
        "The prober calls the service as a client does, and gets no answer. If the host itself reports a"
        " healthy service, look at the network, the firewall and the tokens between the monitoring host and"
        " the service.",
        TRIAGE,
    ),
    Alert(
        "ProbeWrong",
        "Service",
        "P1",
        "min by (instance) (katago_probe_correct) == 0",
        "1m",
        f"{_HOST} gives wrong answers",
        "The service analyses a position that is decided, and names the wrong winner or an impossible score."
        " Its answers cannot be trusted: take the host out of rotation, then look for a damaged network,"
        " engine or cache.",
        Command("rotation_out", {"why": "wrong answers"}),
    ),
    Alert(
        "ProbeSlow",
        "Service",
        "P1",
        "avg by (instance) (avg_over_time(katago_probe_duration_seconds[10m]))"
        " > 1.8 * avg by (instance) (avg_over_time(katago_probe_duration_seconds[1d] offset 1h))"
        " and avg by (instance) (avg_over_time(katago_probe_duration_seconds[10m])) > 1",
        "10m",
        f"{_HOST} is much slower than on the day before",
        "The same small analysis takes more than 1.8 times as long as on average in the day before, and more"
        " than 1 s.",
        TRIAGE,
    ),
    Alert(
        "ErrorRateCritical",
        "Requests",
        "P1",
        "instance:katago_requests_failed:ratio5m >= 0.5 and instance:katago_requests_failed:rate5m >= 5 /"
        " 300",
        "1m",
        f"{_HOST}: {{{{ $value | humanizePercentage }}}} of the calls fail",
        "At least half of the calls of the last 5 minutes failed because of the service. Calls that are the"
        " caller's fault or over a limit do not count, and fewer than five failures are no rate.",
        TRIAGE,
    ),
    Alert(
        "ErrorRateHigh",
        "Requests",
        "P2",
        "instance:katago_requests_failed:ratio5m >= 0.1 and instance:katago_requests_failed:rate5m >= 5 /"
        " 300",
        "1m",
        f"{_HOST}: {{{{ $value | humanizePercentage }}}} of the calls fail",
        "At least a tenth of the calls of the last 5 minutes failed because of the service.",
        TRIAGE,
    ),
    Alert(
        "ErrorRateRaised",
        "Requests",
        "P3",
        "instance:katago_requests_failed:ratio5m >= 0.01 and instance:katago_requests_failed:rate5m >= 5 /"
        " 300",
        "5m",
        f"{_HOST}: {{{{ $value | humanizePercentage }}}} of the calls fail",
        "At least 1 % of the calls of the last 5 minutes failed because of the service.",
        TRIAGE,
    ),
    Alert(
        "AnalysisSlow",
        "Requests",
        "P2",
        "instance:katago_analysis_seconds:p95_5m > 20"
        ' and increase(katago_analysis_duration_seconds_count{tool="analyzePosition"}[5m]) >= 5',
        "2m",
        f"{_HOST}: one analysis in 20 takes longer than {{{{ $value | humanizeDuration }}}}",
        "The 95th percentile of analyses of one position is above 20 s. If the host is overloaded, lower the"
        " limits for a while.",
        Command("mitigate", {"visits": "200", "minutes": "60", "why": "slow analyses"}),
    ),
    Alert(
        "AnalysesWait",
        "Requests",
        "P3",
        "min_over_time(katago_engine_queries_queued[5m]) > 0",
        "10m",
        f"Analyses wait for the engine of {_HOST} all the time",
        "For 15 minutes there was no moment in which no analysis waited. The host is overloaded, or its"
        " engine is slow.",
        TRIAGE,
    ),
    Alert(
        "CallsRejected",
        "Requests",
        "P3",
        'sum by (instance) (rate(katago_requests_total{status="rejected"}[5m]))'
        " / sum by (instance) (rate(katago_requests_total[5m])) >= 0.1"
        ' and sum by (instance) (increase(katago_requests_total{status="rejected"}[5m])) >= 5',
        "5m",
        f"{_HOST} rejects {{{{ $value | humanizePercentage }}}} of the calls",
        "At least a tenth of the calls is over a limit: of the queue, of sessions, or of one token's rate.",
        TRIAGE,
    ),
    Alert(
        "LoginsRefused",
        "Requests",
        "P2",
        'increase(katago_mcp_http_refused_total{reason="unauthenticated"}[5m]) >= 50',
        "",
        f"{_HOST} refused {{{{ $value | humanize }}}} logins in 5 minutes",
        "Many requests had no valid token. Either a client has an old token, or somebody tries tokens. If"
        " you suspect a breach, start security mode.",
        TRIAGE,
    ),
    Alert(
        "CacheErrors",
        "Cache",
        "P2",
        "increase(katago_cache_errors_total[10m]) >= 3",
        "",
        f"The cache of {_HOST} fails",
        "Operations of the cache failed. Calls continue without it, so they are slower. Check the disk, then"
        " clear the cache.",
        Command("purge_cache"),
    ),
    Alert(
        "CacheOverLimit",
        "Cache",
        "P3",
        "katago_cache_size_bytes > katago_cache_max_size_bytes",
        "15m",
        f"The cache of {_HOST} is larger than its limit",
        "The server removes old answers when the cache reaches its limit, so a full cache is no fault. A"
        " cache above its limit is: the server cannot remove entries.",
        Command("purge_cache"),
    ),
    Alert(
        "CacheHitRateFell",
        "Cache",
        "P3",
        "instance:katago_cache_hits:ratio1h < 0.5 * avg_over_time(instance:katago_cache_hits:ratio1h[1w]"
        " offset 1h) and instance:katago_cache_lookups:increase1h >= 100",
        "30m",
        f"The hit rate of the cache of {_HOST} fell to {{{{ $value | humanizePercentage }}}}",
        "The hit rate of the last hour is less than half of the week before. The probes of monitoring,"
        " triage and watches do not count, and an hour with fewer than 100 lookups has no verdict. A new"
        " release clears the cache, and new games are not in it: only a fall without such a cause is a"
        " fault.",
        TRIAGE,
    ),
    Alert(
        "SharedCacheDown",
        "Cache",
        "P3",
        'katago_cache_shared_state{state="down"} == 1',
        "5m",
        f"{_HOST} does not use the shared cache",
        "The server stopped using the shared cache after failures. Calls continue with the cache of the"
        " host.",
        TRIAGE,
    ),
    Alert(
        "HostDown",
        "Host",
        "P1",
        'probe_success{job="reach"} == 0 and on (instance) up{job="node"} == 0',
        "1m",
        f"{_HOST} does not answer at all",
        "Neither SSH nor the exporters of the host accept a connection.",
        TRIAGE,
    ),
    Alert(
        "MemoryLow",
        "Host",
        "P2",
        "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes < 0.1",
        "5m",
        f"{_HOST} has only {{{{ $value | humanizePercentage }}}} of its memory available",
        "Less than a tenth of the memory is available to programs. Triage names the largest ones.",
        TRIAGE,
    ),
    Alert(
        "OutOfMemory",
        "Host",
        "P2",
        "increase(node_vmstat_oom_kill[10m]) > 0",
        "",
        f"The kernel of {_HOST} killed a process because memory ran out",
        "The kernel ended a process to get its memory. Lower the limits of the service, or find what else"
        " uses memory.",
        TRIAGE,
    ),
    Alert(
        "DiskFull",
        "Host",
        "P1",
        f"{_FREE} < 0.05",
        "5m",
        f"{_HOST}: {{{{ $labels.mountpoint }}}} has only {{{{ $value | humanizePercentage }}}} free",
        "On a full disk the service cannot restart, and no release can be switched. Triage names what uses"
        " the space.",
        TRIAGE,
    ),
    Alert(
        "DiskFillsUp",
        "Host",
        "P3",
        f"predict_linear(node_filesystem_avail_bytes[6h], {_DAY}) < 0 and {_FREE} < 0.4",
        "1h",
        f"{_HOST}: {{{{ $labels.mountpoint }}}} will be full within a day",
        "If the disk fills up as in the last 6 hours, it is full within 24 hours.",
        TRIAGE,
    ),
    Alert(
        "InodesFull",
        "Host",
        "P1",
        f"{_FREE_INODES} < 0.05",
        "5m",
        f"{_HOST}: {{{{ $labels.mountpoint }}}} has only {{{{ $value | humanizePercentage }}}} of its inodes"
        f" free",
        "Without inodes no file can be created, although the disk has space.",
        TRIAGE,
    ),
    Alert(
        "InodesRunOut",
        "Host",
        "P3",
        f"predict_linear(node_filesystem_files_free[6h], {_DAY}) < 0 and {_FREE_INODES} < 0.4",
        "1h",
        f"{_HOST}: {{{{ $labels.mountpoint }}}} will have no inodes within a day",
        "If inodes are used as in the last 6 hours, none is left within 24 hours.",
        TRIAGE,
    ),
    Alert(
        "FilesystemReadOnly",
        "Host",
        "P1",
        f"node_filesystem_readonly{{{_DISK}}} > min_over_time(node_filesystem_readonly[1w])",
        "1m",
        f"{_HOST}: {{{{ $labels.mountpoint }}}} became read-only",
        "The file system was writable within the last week and is not any more, mostly because of disk"
        " errors.",
        TRIAGE,
    ),
    Alert(
        "ClockWrong",
        "Host",
        "P2",
        "abs(node_time_seconds - timestamp(node_time_seconds)) > 2",
        "5m",
        f"The clock of {_HOST} is wrong by {{{{ $value | humanizeDuration }}}}",
        "The clock differs by more than 2 s from that of the monitoring host. Tokens, certificates, backups"
        " and the timeline of an incident depend on it. Compare both with another host, and repair the time"
        " service.",
        TRIAGE,
    ),
    Alert(
        "ClockNotSynchronised",
        "Host",
        "P3",
        "max_over_time(node_timex_sync_status[5m]) == 0 and node_timex_maxerror_seconds >= 16",
        "1h",
        f"The clock of {_HOST} is not synchronised",
        "No time service corrects the clock. Start one, such as systemd-timesyncd or chrony.",
        TRIAGE,
    ),
    Alert(
        "UnitFailed",
        "Host",
        "P3",
        "katago_host_failed_units > 0",
        "10m",
        f"A unit of the fleet failed on {_HOST}",
        "One of the units katago-* besides the service has failed, such as a backup or a watch."
        " `systemctl list-units --failed 'katago-*'` on the host names it.",
        TRIAGE,
    ),
    Alert(
        "RebootPending",
        "Host",
        "P3",
        "katago_host_reboot_required == 1",
        "7d",
        f"{_HOST} has waited for a reboot for a week",
        "Updates of the system take effect only after a reboot.",
        FLEET,
    ),
    Alert(
        "CertificateExpires",
        "Host",
        "P3",
        f"instance:certificate_expiry:seconds < {14 * _DAY}",
        "1h",
        f"A certificate of {_HOST} expires in {{{{ $value | humanizeDuration }}}}",
        "Put a new certificate into the inventory and deploy it.",
        Command("deploy"),
    ),
    Alert(
        "CertificateExpiresSoon",
        "Host",
        "P1",
        f"instance:certificate_expiry:seconds < {2 * _DAY}",
        "5m",
        f"A certificate of {_HOST} expires in {{{{ $value | humanizeDuration }}}}",
        "When it expires, clients refuse the service. Put a new certificate into the inventory and deploy"
        " it.",
        Command("deploy"),
    ),
    Alert(
        "LockHeldLong",
        "Host",
        "P3",
        "time() - (katago_host_lock_since_timestamp_seconds > 0) > 7200",
        "",
        f"A procedure has held the lock of {_HOST} for {{{{ $value | humanizeDuration }}}}",
        "A procedure still runs, or its run died. While the lock is held, no other procedure can change the"
        " host. Triage names the owner.",
        TRIAGE,
    ),
    Alert(
        "SecurityModeLong",
        "Host",
        "P3",
        "katago_host_security_mode == 1",
        "1h",
        f"{_HOST} is in security mode",
        "The host is isolated, and changes to it are blocked, until somebody ends security mode.",
        Command("security_show"),
    ),
    Alert(
        "GpuSilent",
        "GPU",
        "P1",
        "katago_host_gpu_responding < katago_host_gpu_devices",
        "2m",
        f"{_HOST}: only {{{{ $value }}}} GPUs respond",
        "The driver does not report every GPU that is on the bus.",
        Command("gpu_driver"),
    ),
    Alert(
        "GpuSlowed",
        "GPU",
        "P2",
        "katago_host_gpu_slowed == 1",
        "5m",
        f"{_HOST}: GPU {{{{ $labels.device }}}} slows down",
        "The GPU lowers its clock because of its temperature or its power supply. Check the cooling.",
        TRIAGE,
    ),
    Alert(
        "GpuMemoryLow",
        "GPU",
        "P2",
        "katago_host_gpu_memory_used_bytes / katago_host_gpu_memory_bytes > 0.95",
        "5m",
        f"{_HOST}: GPU {{{{ $labels.device }}}} uses {{{{ $value | humanizePercentage }}}} of its memory",
        "An engine that restarts may not get the memory that it needs. Find what else uses the GPU.",
        TRIAGE,
    ),
    Alert(
        "GpuFault",
        "GPU",
        "P2",
        'katago_host_gpu_xids{fatal="yes"} > 0',
        "",
        f"{_HOST} reports a fault of a GPU",
        "The kernel's log has an Xid for which a restart of the service is not enough. Triage names it and"
        " its repair.",
        TRIAGE,
    ),
    Alert(
        "ReleaseNotRunning",
        "Release",
        "P3",
        "katago_host_release_running == 0 and on (instance) katago_host_service_active == 1",
        "15m",
        f"The service of {_HOST} runs another release than the current one",
        "The host was switched, but the service was not restarted. The next restart changes the release.",
        Command("restart"),
    ),
    Alert(
        "ReleaseRejected",
        "Release",
        "P2",
        'katago_host_release_verdict{verdict="rejected"} == 1',
        "10m",
        f"{_HOST} runs a release that was rejected",
        "The current release failed its validation.",
        Command("rollback"),
    ),
    Alert(
        "ReleaseUnvalidated",
        "Release",
        "P3",
        'katago_host_release_verdict{verdict="none"} == 1 and on (instance) katago_host_deployed == 1',
        "1h",
        f"The release of {_HOST} was never validated",
        "The host was switched an hour ago, and no validation has finished since then. The run may have"
        " died.",
        Command("deploy"),
    ),
    Alert(
        "ReleaseChanged",
        "Release",
        "P1",
        "katago_host_release_changed_files > 0",
        "",
        f"Files of the release of {_HOST} were changed",
        "Files differ from the manifest of the release. That may be the work of an intruder: keep evidence"
        " before anything else.",
        Command("evidence"),
    ),
    Alert(
        "ReleasesMixed",
        "Release",
        "P3",
        "count(count by (version, engine, network) (katago_host_release_info)) > 1",
        "2h",
        "The hosts of the fleet run different versions",
        "A rollout stopped halfway, or a host was left out. `fleet` shows which host has which release.",
        FLEET,
    ),
    Alert(
        "OverrideLong",
        "Release",
        "P3",
        "katago_host_override_active == 1",
        "6h",
        f"The limits of {_HOST} have been lowered for 6 hours",
        "A mitigation is still in force. Restore the limits if the overload is over.",
        Command("mitigate_undo"),
    ),
    Alert(
        "OverrideInvalid",
        "Release",
        "P3",
        "katago_mcp_overlay_invalid == 1",
        "5m",
        f"The override of {_HOST} is not valid",
        "The server ignores the file with the lowered limits. Restore the limits, then lower them again.",
        Command("mitigate_undo"),
    ),
    Alert(
        "LoadBalancerDown",
        "Load balancer",
        "P1",
        'up{job="load_balancer"} == 0',
        "1m",
        f"The load balancer {_HOST} does not answer",
        "HAProxy serves no metrics, so it is down or cannot be reached.",
        Command("load_balancer"),
    ),
    Alert(
        "LoadBalancerNoServer",
        "Load balancer",
        "P0",
        f"haproxy_backend_active_servers{{{_SERVERS}}} == 0",
        "30s",
        f"The load balancer {_HOST} has no host to send requests to",
        "Every host is down or out of rotation. Clients have no service.",
        ROTATION,
    ),
    Alert(
        "LoadBalancerFewServers",
        "Load balancer",
        "P1",
        f'sum by (instance) (haproxy_server_status{{{_SERVERS},state="UP"}})'
        f' / count by (instance) (haproxy_server_status{{{_SERVERS},state="UP"}}) < 0.5',
        "2m",
        f"The load balancer {_HOST} sends requests to only {{{{ $value | humanizePercentage }}}} of the"
        f" hosts",
        "More than half of the hosts are down or out of rotation. The others may not carry the load.",
        ROTATION,
    ),
    Alert(
        "LoadBalancerServerDown",
        "Load balancer",
        "P2",
        f'haproxy_server_status{{{_SERVERS},state="DOWN"}} == 1',
        "2m",
        f"The load balancer {_HOST} finds {{{{ $labels.server }}}} down",
        "The host does not answer /ready with 200. The other hosts serve its clients.",
        TRIAGE_ALL,
    ),
    Alert(
        "HostOutOfRotation",
        "Load balancer",
        "P3",
        f'haproxy_server_status{{{_SERVERS},state=~"MAINT|DRAIN"}} == 1',
        "4h",
        "{{ $labels.server }} has been out of rotation for 4 hours",
        "Somebody took the host out of rotation, or a procedure failed on it. Admit it when it is healthy.",
        ROTATION,
    ),
    Alert(
        "LoadBalancerErrors",
        "Load balancer",
        "P2",
        f'sum by (instance) (rate(haproxy_backend_http_responses_total{{{_SERVERS},code="5xx"}}[5m]))'
        f" / sum by (instance) (rate(haproxy_backend_http_responses_total{{{_SERVERS}}}[5m])) >= 0.1"
        f" and sum by (instance)"
        f' (increase(haproxy_backend_http_responses_total{{{_SERVERS},code="5xx"}}[5m])) >= 5',
        "2m",
        f"The load balancer {_HOST} answers {{{{ $value | humanizePercentage }}}} of the requests with an"
        f" error",
        "At least a tenth of the responses has a status of 500 or more, also for requests that reached no"
        " host.",
        TRIAGE_ALL,
    ),
    Alert(
        "LoadBalancerQueue",
        "Load balancer",
        "P3",
        f"min_over_time(haproxy_backend_current_queue{{{_SERVERS}}}[5m]) > 0",
        "5m",
        f"Requests wait in the load balancer {_HOST} all the time",
        "Every host has as many connections as it may have.",
        TRIAGE_ALL,
    ),
    Alert(
        "ErrorBudgetBurnsFast",
        "Objectives",
        "P1",
        "katago:objective_missed:ratio1h > on (objective) 14.4 * katago:objective_budget:share and on"
        " (objective) katago:objective_missed:ratio5m > on (objective) 14.4 * katago:objective_budget:share"
        " and on (objective) avg_over_time(katago:objective_missed:rate5m[1h]) >= 10 / 3600",
        "2m",
        "The fleet misses its objective for {{ $labels.objective }}: {{ $value | humanizePercentage }} in an"
        " hour",
        "At this rate, the error budget of 30 days is spent in two days.",
        TRIAGE_ALL,
    ),
    Alert(
        "ErrorBudgetBurns",
        "Objectives",
        "P2",
        "katago:objective_missed:ratio6h > on (objective) 6 * katago:objective_budget:share and on"
        " (objective) katago:objective_missed:ratio30m > on (objective) 6 * katago:objective_budget:share"
        " and on (objective) avg_over_time(katago:objective_missed:rate5m[6h]) >= 10 / 21600",
        "15m",
        "The fleet misses its objective for {{ $labels.objective }}: {{ $value | humanizePercentage }} in 6"
        " hours",
        "At this rate, the error budget of 30 days is spent in five days.",
        TRIAGE_ALL,
    ),
    Alert(
        "ErrorBudgetBurnsSlowly",
        "Objectives",
        "P3",
        "katago:objective_missed:ratio3d > on (objective) katago:objective_budget:share"
        " and on (objective) katago:objective_missed:ratio6h > on (objective) katago:objective_budget:share"
        " and on (objective) avg_over_time(katago:objective_missed:rate5m[3d]) >= 30 / 259200",
        "1h",
        "The fleet misses its objective for {{ $labels.objective }}: {{ $value | humanizePercentage }} in 3"
        " days",
        "At this rate, the error budget of 30 days will be spent before its end.",
        TRIAGE_ALL,
    ),
    Alert(
        "ErrorBudgetLow",
        "Objectives",
        "P3",
        "katago:objective_budget:left < 0.25"
        " and on (objective) avg_over_time(katago:objective_missed:rate5m[30d]) >= 100 / 2592000",
        "1h",
        "{{ $value | humanizePercentage }} of the error budget for {{ $labels.objective }} are left",
        "Less than a quarter of the misses that the objective allows in 30 days is left. Put off risky"
        " changes.",
        FLEET,
    ),
    Alert(
        "BackupOld",
        "Backup",
        "P2",
        "time() - (katago_host_backup_verified_timestamp_seconds > 0) > 129600"
        ' and on (instance) group by (instance) (katago_inventory_host{backup="yes"})',
        "10m",
        f"The last verified backup of {_HOST} is {{{{ $value | humanizeDuration }}}} old",
        "The timer makes a backup every day. None was made and verified in the last 36 hours.",
        Command("backup"),
    ),
    Alert(
        "BackupNeverMade",
        "Backup",
        "P2",
        "katago_host_backup_verified_timestamp_seconds == 0"
        ' and on (instance) group by (instance) (katago_inventory_host{backup="yes"})',
        "36h",
        f"{_HOST} was never backed up",
        "The inventory has a backup repository for the host, but no backup was ever made and verified.",
        Command("backup"),
    ),
    Alert(
        "BackupFailed",
        "Backup",
        "P3",
        "katago_host_backup_last_success == 0 and on (instance) katago_host_backup_last_timestamp_seconds >"
        " 0",
        "10m",
        f"The last backup of {_HOST} failed",
        "The backup was not made, or it could not be restored. Earlier backups are kept.",
        Command("backup"),
    ),
    Alert(
        "HealingStopped",
        "Self-healing",
        "P2",
        'katago_host_healing_status{status="stopped"} == 1',
        "1m",
        f"Self-healing has stopped on {_HOST}",
        "A repair failed or did not last, or the budget of repairs is used up. The host repairs nothing"
        " more until a person has found the cause and resumed it with `healing resume`.",
        TRIAGE,
    ),
    Alert(
        "HealingEscalated",
        "Self-healing",
        "P2",
        "katago_host_healing_escalated == 1 unless on (instance)"
        ' katago_host_healing_status{status="stopped"} == 1',
        "2m",
        f"Self-healing leaves a fault of {_HOST} to a person",
        "The host has a fault that it may not repair: signs of an intrusion, security mode, or a fault that"
        " needs more than its repairs.",
        TRIAGE,
    ),
    Alert(
        "HealingRepaired",
        "Self-healing",
        "P3",
        "sum by (instance, repair)"
        ' (increase(katago_host_healing_repairs_total{result="repaired"}[1h])) > 0.5',
        "",
        f"{_HOST} repaired itself: {{{{ $labels.repair }}}}",
        "The service works again, but its fault had a cause. Find it before it returns: the evidence is in"
        " /var/lib/katago-self-healing on the host.",
        TRIAGE,
    ),
    Alert(
        "HealingPausedLong",
        "Self-healing",
        "P3",
        'katago_host_healing_status{status="paused"} == 1',
        "1d",
        f"Self-healing of {_HOST} has been paused for a day",
        "Somebody paused it for work on the host, and nobody has resumed it.",
        Command("healing_resume", {"why": "the work is done"}),
    ),
    Alert(
        "HealingSilent",
        "Self-healing",
        "P3",
        "time() - katago_host_healing_checked_timestamp_seconds > 300"
        " and on (instance) katago_host_healing_set_up == 1"
        ' unless on (instance) katago_host_healing_status{status="repairing"} == 1',
        "10m",
        f"The program of self-healing does not run on {_HOST}",
        "It runs every minute. Its timer is stopped, or it fails: `journalctl --unit"
        " 'katago-self-healing@*'` on the host has the reason.",
        Command("self_healing"),
    ),
    Alert(
        "FleetHealingStopped",
        "Self-healing",
        "P2",
        "katago_host_fleet_healing_stopped == 1",
        "1m",
        f"{_HOST} no longer repairs the fleet",
        "A repair of the fleet failed or did not last, the budget of repairs is used up, or the record of"
        " earlier repairs is lost. It repairs no other host until a person has found the cause and resumed it"
        " with `healing resume`. Hosts that repair themselves still do.",
        Command("healing_show"),
    ),
    Alert(
        "FleetHealingEscalated",
        "Self-healing",
        "P2",
        "katago_host_fleet_healing_escalated == 1"
        " unless on (instance) katago_host_fleet_healing_stopped == 1",
        "2m",
        f"{_HOST} leaves a fault of the fleet to a person",
        "An alert fires for a host that may not be repaired: signs of an intrusion, a state that is unknown,"
        " or a procedure that refused. Other hosts are still repaired. The command shows the reason.",
        Command("healing_show"),
    ),
    Alert(
        "FleetHealingPausedLong",
        "Self-healing",
        "P3",
        "katago_host_fleet_healing_paused == 1",
        "1d",
        f"{_HOST} has not repaired the fleet for a day, because it is paused",
        "Somebody paused it for work on the fleet, and nobody has resumed it. The command resumes it. If the"
        " variable fleet_healing_paused pauses it, remove the variable and run `monitoring`.",
        Command("healing_resume", {"why": "the work is done"}),
    ),
    Alert(
        "FleetHealingSilent",
        "Self-healing",
        "P3",
        "katago_host_fleet_healing_running == 0 and on (instance) katago_host_fleet_healing_set_up == 1",
        "10m",
        f"The program that repairs the fleet does not run on {_HOST}",
        "Alerts do not reach it, or it fails: its receiver is stopped, a disk is full, or its code fails."
        " `journalctl --unit 'katago-healing*'` on the host has the reason. Alerts still reach people.",
        SETUP,
    ),
    Alert(
        "ExporterSilent",
        "Monitoring",
        "P3",
        'up{job!="load_balancer"} == 0 unless on (instance) probe_success{job="reach"} == 0'
        " unless on (instance) katago_host_service_active == 0",
        "5m",
        f"{_HOST} does not serve the metrics of {{{{ $labels.job }}}}",
        "The host answers, but its exporter does not. Until it does, other alerts of the host cannot fire. A"
        " host on which monitoring was never set up looks like this.",
        SETUP,
    ),
    Alert(
        "ServiceMetricsMissing",
        "Monitoring",
        "P3",
        'up{job="katago"} == 1 unless on (instance) katago_engine_up',
        "5m",
        f"The metrics of the service of {_HOST} are incomplete",
        "The exporter answers, but without the metric katago_engine_up: another program uses the port, or"
        " the server is of another version.",
        TRIAGE,
    ),
    Alert(
        "HostReadingsOld",
        "Monitoring",
        "P3",
        'time() - katago_host_readings_timestamp_seconds > 300 or on (instance) up{job="node"} == 1'
        " unless on (instance) katago_host_readings_timestamp_seconds",
        "5m",
        f"{_HOST} does not report its state any more",
        "The timer katago-host-metrics on the host does not run, so releases, backups, locks and GPUs are"
        " unknown.",
        SETUP,
    ),
    Alert(
        "HostReadingFailed",
        "Monitoring",
        "P3",
        "katago_host_reading_ok == 0",
        "15m",
        f"{_HOST} cannot read its {{{{ $labels.reading }}}}",
        "A reading of the host's state fails, so its metrics keep no value. `journalctl -u"
        " katago-host-metrics` on the host has the reason.",
        TRIAGE,
    ),
    Alert(
        "ProberSilent",
        "Monitoring",
        "P3",
        "time() - max by (prober) (katago_probe_timestamp_seconds) > 180 or"
        " absent(katago_probe_timestamp_seconds)",
        "3m",
        "The prober does not run",
        "Without the prober nobody notices a service that works on its host, but not for clients.",
        SETUP,
    ),
    Alert(
        "TargetMissing",
        "Monitoring",
        "P3",
        'label_replace(group by (instance, scrape) (katago_inventory_target), "job", "$1", "scrape", "(.+)")'
        " unless on (instance, job) up",
        "10m",
        f"Prometheus does not scrape {{{{ $labels.job }}}} of {_HOST}",
        "The host is in the inventory, but it is no target of Prometheus: its file of targets was changed or"
        " is damaged.",
        SETUP,
    ),
    Alert(
        "HostForgotten",
        "Monitoring",
        "P3",
        f'label_replace(group by (server) (haproxy_server_status{{{_SERVERS},state="UP"}}),'
        ' "instance", "$1", "server", "(.+)")'
        ' unless on (instance) up{job="katago"}',
        "10m",
        f"{_HOST} serves clients, but nobody monitors it",
        "The load balancer has the host, and Prometheus does not: it was added after monitoring was set up.",
        SETUP,
    ),
    Alert(
        "PrometheusDown",
        "Monitoring",
        "P2",
        'up{job="prometheus"} == 0',
        "2m",
        f"Prometheus on {_HOST} does not answer",
        "Another monitoring host notices this. With only one monitoring host, the missing MonitoringAlive"
        " shows it.",
        SETUP,
    ),
    Alert(
        "AlertmanagerDown",
        "Monitoring",
        "P2",
        'up{job="alertmanager"} == 0',
        "2m",
        f"Alertmanager on {_HOST} does not answer",
        "Alerts fire, but nobody is notified by this Alertmanager.",
        SETUP,
    ),
    Alert(
        "AlertsNotDelivered",
        "Monitoring",
        "P2",
        "max by (instance) (increase(alertmanager_notifications_failed_total[10m])) > 0"
        " or max by (instance) (increase(prometheus_notifications_dropped_total[10m])) > 0",
        "5m",
        f"{_HOST} cannot deliver alerts",
        "Alertmanager cannot reach a receiver, or Prometheus cannot reach Alertmanager. The journal has the"
        " reason.",
        SETUP,
    ),
    Alert(
        "MonitoringConfigStale",
        "Monitoring",
        "P3",
        "prometheus_config_last_reload_successful == 0 or alertmanager_config_last_reload_successful == 0",
        "5m",
        f"{_HOST} works with an old configuration",
        "The last reload failed. Setting up monitoring again checks the configuration and loads it.",
        SETUP,
    ),
    Alert(
        "RulesFail",
        "Monitoring",
        "P3",
        "max by (instance) (increase(prometheus_rule_evaluation_failures_total[10m])) > 0",
        "5m",
        f"Prometheus on {_HOST} cannot evaluate rules",
        "Alerts of these rules cannot fire. The journal of Prometheus has the reason.",
        SETUP,
    ),
    Alert(
        "MonitoringAlive",
        "Monitoring",
        "none",
        "vector(1)",
        "",
        "Monitoring works",
        "Always fires. Alertmanager sends it to the heartbeat receiver, which must report when it stays"
        " away: then Prometheus, Alertmanager or the way from them is broken.",
        SETUP,
    ),
)
"""All alerts, by subject."""
