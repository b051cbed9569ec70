"""The real engine is killed or frozen, or writes garbage; the service reports it and recovers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from lab.hosts import Host
from tests import fleet

SERVICE = "katago-mcp.service"
# Seconds; more than the heartbeat's timeout, the grace period of a kill, and an engine start together.
RECOVERY = 90
LONG = {
    "position": {"boardXSize": 19, "boardYSize": 19, "rules": "chinese", "komi": 7.5},
    "maxVisits": 1000,
    "maxTime": 30,
}


@pytest.fixture
def target(host: Any) -> Host:
    """The host, from outside."""
    return fleet.host_named(host.backend.get_hostname())


def engine(host: Any) -> int:
    main = host.check_output(f"systemctl show {SERVICE} --property=MainPID --value")
    children = host.run(f"pgrep --parent {main}").stdout.split()
    return int(children[0]) if children else 0


def restarts(target: Host) -> float:
    status, body = fleet.get(target, "/health")
    assert status == 200
    return float(json.loads(body)["engine"]["restarts"])


def is_down(target: Host) -> bool:
    return fleet.metric(target, "katago_engine_up") == 0 and fleet.get(target, "/ready")[0] == 503


def is_back(target: Host) -> bool:
    return fleet.metric(target, "katago_engine_up") == 1 and fleet.get(target, "/ready")[0] == 200


async def analyse(target: Host, meanwhile: Callable[[], None]) -> Any:
    """A long analysis from outside; `meanwhile` is called while it runs."""
    headers = {"Authorization": f"Bearer {fleet.token()}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(120)) as http,
        Client(streamable_http_client(fleet.address(target), http_client=http)) as client,
    ):
        running = asyncio.create_task(client.call_tool("analyzePosition", LONG))
        await asyncio.to_thread(
            fleet.eventually,
            lambda: fleet.metric(target, "katago_engine_queries_in_flight") == 1,
            within=60,
            what="the analysis runs in the engine",
        )
        await asyncio.to_thread(meanwhile)
        return await running


def expect_recovery(host: Any, target: Host, before: int) -> None:
    fleet.eventually(lambda: is_back(target), within=RECOVERY, what="the service is ready again")
    assert engine(host) not in (0, before)
    run = fleet.play("validate.yml", f"--limit={target.name}")
    assert run.returncode == 0, run.output


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("kill -KILL {pid}", "exited with signal 9"),
        ("kill -STOP {pid}", "no heartbeat"),
        # Written to the engine's end of the pipe that the server reads.
        ("yes 'no JSON' | head -50 > /proc/{pid}/fd/1", "not of its protocol"),
    ],
    ids=["killed", "frozen", "garbage"],
)
def test_fault_shows_in_metrics_and_client_error_and_the_service_recovers(
    host: Any, target: Host, fault: str, message: str
) -> None:
    assert is_back(target)
    before, count = engine(host), restarts(target)
    seen_down = []

    def watch() -> None:
        fleet.eventually(lambda: is_down(target), within=60, what="katago_engine_up is 0 and /ready is 503")
        seen_down.append(True)

    def inject() -> None:
        # The next engine may be ready before the command has ended here.
        with ThreadPoolExecutor() as pool:
            watching = pool.submit(watch)
            host.check_output(fault.format(pid=before))
            watching.result()

    result = asyncio.run(analyse(target, inject))
    assert seen_down
    assert result.is_error
    text = result.content[0].text
    assert text.startswith("engine_restarted: ")
    assert message in text
    assert "retry" in text
    expect_recovery(host, target, before)
    assert restarts(target) == count + 1


def test_frozen_server_is_restarted_by_the_watchdog(host: Any, target: Host) -> None:
    main = int(host.check_output(f"systemctl show {SERVICE} --property=MainPID --value"))
    host.check_output(f"kill -STOP {main}")
    fleet.eventually(
        lambda: (
            host.check_output(f"systemctl show {SERVICE} --property=MainPID --value") not in (str(main), "0")
        ),
        within=RECOVERY,
        what="systemd has started another server",
    )
    fleet.eventually(lambda: is_back(target), within=RECOVERY, what="the service is ready again")
    assert "watchdog" in host.check_output(f"journalctl --unit={SERVICE} --no-pager --grep=watchdog").lower()


def test_server_that_keeps_crashing_reaches_the_start_limit_and_can_be_started_by_hand(
    host: Any, target: Host
) -> None:
    host.check_output(f"systemctl reset-failed {SERVICE}")
    fleet.eventually(
        lambda: (
            host.run(f"systemctl kill --kill-whom=main --signal=KILL {SERVICE}").rc >= 0
            and host.run(f"systemctl is-failed {SERVICE}").rc == 0
        ),
        within=RECOVERY,
        what="the start limit is reached",
    )
    assert fleet.get(target, "/health")[0] == 0
    host.check_output(f"systemctl reset-failed {SERVICE} && systemctl start {SERVICE}")
    fleet.eventually(lambda: is_back(target), within=RECOVERY, what="the service is ready again")
