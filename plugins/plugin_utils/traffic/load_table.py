"""The report of a load generator as a table and charts for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import FAILURES, VERSIONS
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.load import Bar, Report
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.statistics import Row

HEAD = ("", "CALLS", "FAILED", "CALLS/S", "MEDIAN", "P95", "P99", "MAX", "SESSIONS", "LOST")
_NOTHING = "-"
_LEVELS = "▁▂▃▄▅▆▇█"
_BLOCKS = " ▏▎▍▌▋▊▉█"
_BAR_WIDTH = 40


def render(report: Report) -> str:
    """The table, the failures by kind, and charts of the run."""
    return "\n".join(
        [headline(report), "", *_columns([HEAD, *rows(report)]), *_failures(report), *_charts(report)]
    )


def headline(report: Report) -> str:
    """In one sentence what was called, and why the run ended."""
    settings = report["settings"]
    how = f"{settings['rate']:g} calls/s" if settings["rate"] else f"{settings['clients']} clients"
    visits = "" if settings["tool"] == "getEngineStatus" else f" with {settings['visits']} visits"
    return (
        f"{settings['tool']}{visits}, {how}, {', '.join(settings['targets'])}, {report['seconds']:.0f} s"
        f" ({report['reason'] or 'still running'})"
    )


def rows(report: Report) -> Iterator[tuple[str, ...]]:
    """A row for all calls, for each protocol generation, and for each host if there are several."""
    seconds = report["seconds"]
    yield _row("all", report["total"], seconds)
    for name, row in report["generations"].items():
        yield _row(generation(name), row, seconds)
    if len(report["hosts"]) > 1:
        for name, row in report["hosts"].items():
            yield _row(name, row, seconds)


def generation(name: str) -> str:
    """A protocol generation, with its version."""
    versions: Mapping[str, str] = {str(key): version for key, version in VERSIONS.items()}
    return f"{name} ({versions[name]})" if name in versions else name


def failures(report: Report) -> Iterator[tuple[str, str, str]]:
    """Each kind of failure: what it is, how many calls, and why the first one failed."""
    names: Mapping[str, str] = {str(kind): text for kind, text in FAILURES.items()}
    for kind, count in report["total"]["failed"].items():
        name = names.get(kind, kind)
        yield name, str(count), report["reasons"].get(kind, "").removeprefix(f"{name}: ")


def duration(seconds: float | None) -> str:
    """A duration with three digits at most; `-` for none."""
    if seconds is None:
        return _NOTHING
    if seconds < 1:
        return f"{seconds * 1000:.{0 if seconds >= 0.1 else 1}f} ms"
    return f"{seconds:.{0 if seconds >= 100 else 1 if seconds >= 10 else 2}f} s"


def span(bar: Bar) -> str:
    """The durations of a bar."""
    return f"{duration(bar['above'])} to {duration(bar['to'])}"


def sparkline(values: Sequence[float]) -> str:
    """Values from 0 to their maximum as one line of blocks. Only 0 is drawn as nothing."""
    top = max(values, default=0.0)
    if not top:
        return " " * len(values)
    last = len(_LEVELS) - 1
    return "".join(_LEVELS[round(value / top * last)] if value else " " for value in values)


def _row(name: str, row: Row, seconds: float) -> tuple[str, ...]:
    failed = sum(row["failed"].values())
    latency = row["latency"]
    return (
        name,
        str(row["calls"]),
        f"{failed} ({failed / row['calls']:.1%})" if failed else "0",
        f"{row['calls'] / seconds:.1f}" if seconds else _NOTHING,
        *(duration(each) for each in (latency["median"], latency["p95"], latency["p99"], latency["max"])),
        str(row["sessions"]),
        str(row["sessions_lost"]),
    )


def _failures(report: Report) -> Iterator[str]:
    for name, count, reason in failures(report):
        yield f"failed: {count} {name}" + (f", first: {reason}" if reason else "")


def _charts(report: Report) -> Iterator[str]:
    # The last period is not complete.
    periods = report["periods"][:-1] or report["periods"]
    if not periods:
        return
    width = report["width"]
    rates = [period["ok"] / width for period in periods]
    failed = [period["failed"] / width for period in periods]
    slowest = [period["latency"]["p95"] or 0.0 for period in periods]
    yield ""
    yield f"calls/s  {sparkline(rates)}  most {max(rates):.1f}"
    if any(failed):
        yield f"failed/s {sparkline(failed)}  most {max(failed):.1f}"
    if any(slowest):
        yield f"p95      {sparkline(slowest)}  most {duration(max(slowest))}"
    if report["bars"]:
        yield ""
        most = max(bar["calls"] for bar in report["bars"])
        lines = [(span(bar), str(bar["calls"]), _bar(bar["calls"] / most)) for bar in report["bars"]]
        yield from _columns(lines)


def _bar(share: float) -> str:
    eighths = round(share * _BAR_WIDTH * 8)
    return (_BLOCKS[-1] * (eighths // 8) + _BLOCKS[eighths % 8]).rstrip() or (_BLOCKS[1] if share else "")


def _columns(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with aligned columns; all but the first and the last one to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        if line[-1].startswith(tuple(_BLOCKS[1:])):
            cells[-1] = line[-1]
        yield "  ".join(cells).rstrip()
