"""The report of a load generator as one HTML page that loads nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks, charts
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import load_table
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.load import Report
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.statistics import Period

_HEAD = ("Group", "Calls", "Failed", "Calls/s", "Median", "p95", "p99", "Max", "Sessions", "Lost")
_MILLISECONDS = 1000.0


def render(report: Report) -> str:
    """The page: the table, the failures, calls and latency over time, and the distribution of the latency."""
    return blocks.as_html(blocks.Document("Load", tuple(_blocks(report))), dark=True)


def _blocks(report: Report) -> Iterator[blocks.Block]:
    tone: blocks.Tone = "warning" if report["total"]["failed"] or report["ended"] == "overload" else "good"
    yield blocks.Paragraph(f"{load_table.headline(report)}. Started {report['started']}.", tone)
    yield blocks.Table(_HEAD, tuple(load_table.rows(report)))
    if failed := tuple(load_table.failures(report)):
        yield blocks.Heading("Failures")
        yield blocks.Table(("Kind", "Calls", "First reason"), failed)
    if periods := report["periods"][:-1] or report["periods"]:
        yield blocks.Heading("Over time")
        yield from _figures(report, periods)
    if report["bars"]:
        yield blocks.Heading("Latency of successful calls")
        counted = sum(bar["calls"] for bar in report["bars"])
        rows = tuple(
            (load_table.span(bar), str(bar["calls"]), f"{bar['calls'] / counted:.1%}")
            for bar in report["bars"]
        )
        yield blocks.Table(("Latency", "Calls", "Share"), rows)
    yield blocks.Heading("Settings")
    yield blocks.Facts(tuple(_settings(report)))


def _figures(report: Report, periods: Sequence[Period]) -> Iterator[blocks.Figure]:
    began, width = timestamps.parse(report["started"]).timestamp(), report["width"]
    end = began + periods[-1]["start"] + width
    frame = charts.Frame(began, end, (began, began))

    def steps(values: Sequence[float | None]) -> list[charts.Step]:
        return [
            charts.Step(began + period["start"], began + period["start"] + width, value)
            for period, value in zip(periods, values, strict=True)
            if value is not None
        ]

    calls = {
        "succeeded": steps([period["ok"] / width for period in periods]),
        "failed": steps([period["failed"] / width for period in periods]),
    }
    yield blocks.Figure(
        charts.steps("Calls a second", "", calls, frame), f"Calls a second, in periods of {width:g} s", ()
    )
    latencies = {
        "median": [period["latency"]["median"] for period in periods],
        "p95": [period["latency"]["p95"] for period in periods],
        "p99": [period["latency"]["p99"] for period in periods],
    }
    highest = max((value or 0.0 for values in latencies.values() for value in values), default=0.0)
    unit, factor = ("s", 1.0) if highest >= 1 else ("ms", _MILLISECONDS)
    series = {
        name: steps([None if value is None else value * factor for value in values])
        for name, values in latencies.items()
    }
    yield blocks.Figure(
        charts.steps("Latency", "", series, frame), f"Latency of the calls that succeeded, in {unit}", ()
    )


def _settings(report: Report) -> Iterator[tuple[str, str]]:
    settings = report["settings"]
    yield from settings["targets"].items()
    yield "Calls", f"{settings['rate']:g} a second" if settings["rate"] else f"{settings['clients']} clients"
    yield "Calls in sessions", f"{settings['session_percent']} %"
    yield "Ordered time", f"{settings['seconds']:g} s"
