"""Calls the service as an outside client does, and serves how long it took and whether the answer was right.

A separate program under systemd on the monitoring hosts. It calls every host and every load balancer with a
position that is decided; the answer is known for any network.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import SystemRandom
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import shape, workers
from ansible_collections.katago.fleet.plugins.module_utils.common.exposition import Metric, Samples
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.service import mcp

VISITS = 8
# An override may lower the visits, which is no wrong answer.
LEAST_VISITS = 1
_TOOL = "analyzePosition"
_LABELS = ("host", "prober")

METRICS = tuple(
    Metric(f"katago_probe_{name}", description, labels)
    for name, description, labels in (
        ("success", "1 if the service answered the last probe, else 0.", _LABELS),
        (
            "correct",
            "1 if the last answer was right, 0 if it was wrong; NaN without an answer.",
            _LABELS,
        ),
        (
            "duration_seconds",
            "Duration of the last probe that was answered; no value before the first.",
            _LABELS,
        ),
        ("timestamp_seconds", "When the prober last finished a round, in Unix time.", ("prober",)),
    )
)


@dataclass(frozen=True)
class Target:
    """What is called: `url` of the MCP endpoint by address; `name` for the Host header, empty for none.

    `certificate`: PEM of the certificates that are accepted with TLS; empty for those of the system.
    """

    host: str
    url: str
    name: str = ""
    certificate: str = ""


@dataclass(frozen=True)
class Order:
    """What the prober does. `interval`, `deadline`: seconds between rounds, and for one call.

    `port`: where it serves the metrics on the loopback interface.
    """

    prober: str
    port: int
    interval: float
    deadline: float
    targets: tuple[Target, ...]

    @classmethod
    def load(cls, path: Path) -> Order:
        """Read an order. Raises OSError or shape.ShapeError."""
        content = shape.mapping(shape.parsed(path.read_bytes()))
        targets = [shape.record(Target, shape.mapping(each)) for each in content["targets"]]
        return shape.record(cls, {**content, "targets": tuple(targets)})


def probe(target: Target, token: str, variant: int, deadline: float) -> dict[str, Any]:
    """Have one position analysed. `seconds`: how long it took; `problems`: what is wrong with the answer.

    Raises workers.NoResult if the service does not answer, or answers with an error.
    """
    (call,) = service_checks.probes(VISITS, [variant])
    began = time.monotonic()
    answer = _send(target, token, call["arguments"], deadline)
    seconds = time.monotonic() - began
    if "result" not in answer or answer["result"].get("isError"):
        reason = answer.get("error") or answer.get("result", {}).get("content") or "no result"
        raise workers.NoResult(f"{target.host} refuses the call: {json.dumps(reason)[:300]}")
    result = {"ok": True, "structured": answer["result"].get("structuredContent")}
    return {"seconds": seconds, "problems": service_checks.probe_problems(result, LEAST_VISITS)}


def _send(target: Target, token: str, arguments: Mapping[str, Any], deadline: float) -> Mapping[str, Any]:
    # The target is called by its address, which its certificate need not have. So it is pinned.
    context = mcp.tls_context(target.url, target.certificate, pinned=True)
    connection = mcp.Connection(target.url, host_header=target.name, context=context, token=token)
    try:
        response = connection.send(mcp.stateless_call("katago-prober", _TOOL, arguments), deadline)
    except mcp.NoResponse as error:
        raise workers.NoResult(f"{target.host} does not answer: {error}") from error
    finally:
        connection.close()
    if response.message is None:
        raise workers.NoResult(f"{target.host} answers HTTP {response.status}, and no JSON")
    return response.message


def round_of(order: Order, token: str) -> dict[str, workers.Entry]:
    """Call all targets at the same time; an entry for each host."""
    running = workers.Measuring()
    for target in order.targets:
        variant = SystemRandom().randrange(service_checks.VARIANTS)
        running.start(
            target.host,
            lambda target=target, variant=variant: probe(target, token, variant, order.deadline),  # type: ignore[misc]
            order.deadline + 1,
        )
    entries = running.results()
    workers.reap()
    return entries


def exposition(
    order: Order, entries: Mapping[str, workers.Entry], durations: Mapping[str, float], now: float
) -> str:
    """The metrics of a round. `durations`: of the last probe of each host that was answered."""
    samples = Samples(METRICS)
    for target in order.targets:
        entry = entries.get(target.host, {})
        labels = {"host": target.host, "prober": order.prober}
        value = entry.get("value")
        samples.add("katago_probe_success", value is not None, **labels)
        samples.add("katago_probe_correct", math.nan if value is None else not value["problems"], **labels)
        if target.host in durations:
            samples.add("katago_probe_duration_seconds", durations[target.host], **labels)
    samples.add("katago_probe_timestamp_seconds", now, prober=order.prober)
    return samples.text()


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> Sequence[str]:
    """What the journal gets: for each host whose result changed, the new one."""
    return [f"{host}: {result}" for host, result in after.items() if before.get(host) != result]


def described(entry: workers.Entry) -> str:
    """The result of a probe in words, without figures that change each time."""
    if "value" not in entry:
        return str(entry["unknown"])
    problems = entry["value"]["problems"]
    return f"wrong answer: {'; '.join(problems)}" if problems else "answers correctly"


class Exporter:
    """Serves the newest metrics on the loopback interface."""

    def __init__(self, port: int, text: str) -> None:
        self.text = text
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.text.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                del format, arguments

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def main() -> int:
    """Probe until the unit is stopped."""
    order = Order.load(paths.PROBER_ORDER)
    file = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / "token"
    token = file.read_text().strip() if file.exists() else ""
    durations: dict[str, float] = {}
    results: dict[str, str] = {}
    # Before the first round nothing is known, and the metrics exist.
    exporter = Exporter(order.port, Samples(METRICS).text())
    while True:
        began = time.monotonic()
        entries = round_of(order, token)
        durations |= {host: entry["value"]["seconds"] for host, entry in entries.items() if "value" in entry}
        exporter.text = exposition(order, entries, durations, time.time())
        latest = {host: described(entry) for host, entry in entries.items()}
        for line in changes(results, latest):
            print(line, file=sys.stderr, flush=True)
        results = latest
        time.sleep(max(0.0, began + order.interval - time.monotonic()))
