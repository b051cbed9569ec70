"""The Prometheus metrics. All series exist from the first scrape on."""

import math
from contextvars import ContextVar
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from katago_mcp.errors import Status

ANALYSIS_TOOLS = ("analyzePosition", "findMistakes", "evaluateTerritory", "explainMove")
TOOLS = (*ANALYSIS_TOOLS, "readRecord", "getEngineStatus", "startEngine", "stopEngine")
UNKNOWN_TOOL = "unknown"
"""The `tool` label of calls to tools that do not exist."""

STATES = ("starting", "tuning", "ready", "hung", "backoff", "config_error", "stopped")
RESTART_REASONS = ("exited", "hung", "garbage", "start_timeout", "config_error", "requested")
RELOADS = ("applied", "refused")
SESSION_LIMITS = ("token", "total")
CONNECTION_REFUSALS = ("client", "total", "header", "body")
SHARED_STATES = ("off", "up", "down")
SHARED_ERRORS = ("timeout", "unavailable", "entry", "dropped")
REFUSALS = ("unauthenticated", "forbidden", "misdirected")

PROBE_HEADER = "katago-probe"
"""Requests with this header are probes of operators: triage, validation, watches."""

probing: ContextVar[bool] = ContextVar("probing", default=False)
"""Whether the current call is a probe. Its cache lookups are no traffic of clients."""

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class Metrics:
    """All metrics of one server, in a separate registry.

    No label contains a value from a client. Times in seconds, sizes in bytes.
    """

    def __init__(self, version: str, release: str | None) -> None:
        # Creation times would double the output and are not useful here.
        disable_created_metrics()  # type: ignore[no-untyped-call] # untyped in the library
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        self.requests = counter(
            "katago_requests_total", "Completed tool calls, by result.", ("tool", "status")
        )
        self.duration = Histogram(
            "katago_analysis_duration_seconds",
            "Duration of successful analysis calls, from request to answer.",
            ("tool",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.engine_up = gauge("katago_engine_up", "1 if the engine is ready, else 0.")
        self._engine_state = gauge(
            "katago_engine_state", "1 for the current state of the engine, else 0.", ("state",)
        )
        self.engine_restarts = counter(
            "katago_engine_restarts_total",
            "Engine restarts, by the reason for which the engine ended.",
            ("reason",),
        )
        self.in_flight = gauge("katago_engine_queries_in_flight", "Analyses running in the engine.")
        self.queued = gauge("katago_engine_queries_queued", "Analyses waiting for the engine.")
        self.protocol_errors = counter(
            "katago_engine_protocol_errors_total",
            "Invalid lines from the engine: not JSON, or an error without an id.",
        )
        self.visits = counter("katago_visits_total", "Visits searched; cached answers do not count.")
        self._cache_hits = counter("katago_cache_hits_total", "Answers served from the cache.")
        self._cache_misses = counter("katago_cache_misses_total", "Cache lookups without an answer.")
        self._cache_hit_rate = gauge(
            "katago_cache_hit_rate",
            "Share of hits among all lookups since the start; NaN before the first lookup.",
        )
        self._cache_probes = counter(
            "katago_cache_probe_lookups_total",
            "Cache lookups of probes by triage, validation and watches. They are neither hits nor misses.",
        )
        self._hits = 0
        self._lookups = 0
        self._cache_hit_rate.set(math.nan)
        self.cache_size = gauge("katago_cache_size_bytes", "Size of the cached answers.")
        self.cache_max_size = gauge("katago_cache_max_size_bytes", "Maximum size of the cached answers.")
        self.cache_entries = gauge("katago_cache_entries", "Number of cached answers.")
        self.cache_errors = counter(
            "katago_cache_errors_total", "Failed cache operations. Calls continue without the cache."
        )
        self.shared_hits = counter(
            "katago_cache_shared_hits_total",
            "Answers served from the shared cache. They are also hits of the cache.",
        )
        self.shared_misses = counter(
            "katago_cache_shared_misses_total", "Lookups in the shared cache without a usable answer."
        )
        self.shared_errors = counter(
            "katago_cache_shared_errors_total",
            "Failures of the shared cache: no answer in time, not available, an entry that is not genuine, "
            "or a write that was dropped. Calls continue without it.",
            ("reason",),
        )
        self.shared_opened = counter(
            "katago_cache_shared_opened_total",
            "How often the server stopped using the shared cache after failures.",
        )
        self._shared_state = gauge(
            "katago_cache_shared_state",
            "1 for the current state of the shared cache, else 0: off (not configured), up, down (not used).",
            ("state",),
        )
        self.rate_limited = counter("katago_rate_limited_total", "Tool calls rejected by the rate limit.")
        self.http_refused = counter(
            "katago_mcp_http_refused_total",
            "Rejected HTTP requests: invalid token (401), missing scope or bad Origin (403), bad Host (421).",
            ("reason",),
        )
        self.sessions = gauge(
            "katago_mcp_sessions", "Open sessions. Clients of protocol 2026-07-28 have none."
        )
        self.sessions_adopted = counter(
            "katago_mcp_sessions_adopted_total",
            "Sessions that were opened before a restart or on another host, and continued here.",
        )
        self.sessions_refused = counter(
            "katago_mcp_sessions_refused_total",
            "Sessions rejected by the limit of one token or of all clients.",
            ("reason",),
        )
        self.connections = gauge("katago_mcp_connections", "Open connections of the main port.")
        self.connections_refused = counter(
            "katago_mcp_connections_refused_total",
            "Connections closed by the limit of one client or of all, or because a request came too slowly.",
            ("reason",),
        )
        self.reloads = counter(
            "katago_mcp_reloads_total", "Reloads of the configuration, by result.", ("result",)
        )
        self.overlay_active = gauge("katago_mcp_overlay_active", "1 while an overlay lowers limits, else 0.")
        self.overlay_expires = gauge(
            "katago_mcp_overlay_expires_timestamp_seconds",
            "When the overlay in force expires, in Unix time; 0 without an overlay.",
        )
        self.overlay_invalid = gauge(
            "katago_mcp_overlay_invalid", "1 if the overlay file is not valid, else 0."
        )
        self.certificate_expires = gauge(
            "katago_mcp_tls_certificate_expires_timestamp_seconds",
            "When the server's certificate expires, in Unix time; 0 without TLS.",
        )
        build = gauge("katago_mcp_build_info", "Always 1.", ("version", "release"))
        build.labels(version, release or "none").set(1)

        for tool in (*TOOLS, UNKNOWN_TOOL):
            for status in get_args(Status):
                self.requests.labels(tool, status)
        for tool in ANALYSIS_TOOLS:
            self.duration.labels(tool)
        for reason in RESTART_REASONS:
            self.engine_restarts.labels(reason)
        for result in RELOADS:
            self.reloads.labels(result)
        for reason in REFUSALS:
            self.http_refused.labels(reason)
        for reason in CONNECTION_REFUSALS:
            self.connections_refused.labels(reason)
        for reason in SESSION_LIMITS:
            self.sessions_refused.labels(reason)
        for reason in SHARED_ERRORS:
            self.shared_errors.labels(reason)
        self.engine_state("starting")
        self.shared_state("off")

    def engine_state(self, current: str) -> None:
        """Set the current state of the engine, one of `STATES`."""
        for state in STATES:
            self._engine_state.labels(state).set(state == current)
        self.engine_up.set(current == "ready")

    def shared_state(self, current: str) -> None:
        """Set the current state of the shared cache, one of `SHARED_STATES`."""
        for state in SHARED_STATES:
            self._shared_state.labels(state).set(state == current)

    def cache_lookup(self, *, hit: bool) -> None:
        """Count one lookup in the cache; a lookup of a probe is neither a hit nor a miss."""
        if probing.get():
            self._cache_probes.inc()
            return
        (self._cache_hits if hit else self._cache_misses).inc()
        self._hits += hit
        self._lookups += 1
        self._cache_hit_rate.set(self._hits / self._lookups)
