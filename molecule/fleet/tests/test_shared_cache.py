"""Hosts share what they have analysed by Valkey on one of them, and never depend on it.

Valkey is installed and configured as docs/clients.md says. The tests depend on their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab import runtime
from lab.hosts import FLEET, LOAD_BALANCER, Host
from tests import clients, fleet

FIRST, SECOND, THIRD = fleet.LAB.of_group(FLEET)
# Debian 13 has Valkey.
KEEPER = fleet.LAB.of_group(LOAD_BALANCER)[1]
PASSWORD = "a-password-of-the-shared-cache"
CONFIGURATION = f"""\
bind {KEEPER.address}
requirepass {PASSWORD}
maxmemory 64mb
maxmemory-policy allkeys-lru
save ""
"""
CLI = ["valkey-cli", "-h", KEEPER.address, "-a", PASSWORD, "--no-auth-warning"]
SHARED = {
    "katago_mcp_shared_cache_url": f"redis://{KEEPER.address}:6379/0",
    "katago_mcp_shared_cache_password": PASSWORD,
}


def on_keeper(*command: str) -> str:
    """Run a command on the host of the shared cache."""
    return runtime.exec_in(KEEPER.container, command)


@pytest.fixture(scope="module", autouse=True)
def _deployed() -> Iterator[None]:
    """Set up Valkey, and have the fleet use it."""
    on_keeper("sh", "-c", "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y valkey-server")
    fleet.send(KEEPER.name, CONFIGURATION.encode(), "cat >> /etc/valkey/valkey.conf")
    on_keeper("systemctl", "restart", "valkey-server.service")
    deploy(SHARED)
    yield
    deploy({})
    on_keeper("apt-get", "purge", "-y", "valkey-server", "valkey-tools")


def deploy(variables: dict[str, Any]) -> None:
    done = fleet.play("deploy.yml", variables={**variables, "soak_minutes": 0})
    assert done.returncode == 0, done.output


def ask(host: Host, move: str) -> dict[str, Any]:
    """Analyse the position after one move, on one host."""
    answer = clients.call(host, "analyzePosition", {"position": {"moves": [move]}})
    assert not answer.is_error, answer.content
    content: dict[str, Any] = answer.structured_content
    return content


def entries() -> set[str]:
    """The keys in the shared cache."""
    return set(on_keeper(*CLI, "keys", "katago-mcp:*").split())


def share(move: str) -> tuple[dict[str, Any], str]:
    """Analyse a new position on the first host; the answer and its key in the shared cache."""
    known = entries()
    answer = ask(FIRST, move)
    assert not answer["cached"]
    fleet.eventually(lambda: entries() > known, within=30, what=f"{move} is in the shared cache")
    (new,) = entries() - known
    return answer, new


def metric(host: Host, name: str, **labels: str) -> float:
    """A metric of the shared cache."""
    value = fleet.metric(host, f"katago_cache_shared_{name}", **labels)
    assert value is not None, name
    return value


def test_position_that_one_host_analysed_is_not_analysed_by_another_one() -> None:
    # The first entry brings the number of the generation with it.
    ask(FIRST, "A1")
    fleet.eventually(lambda: len(entries()) > 1, within=30, what="A1 is in the shared cache")
    fresh, _ = share("D4")
    for host in (SECOND, THIRD):
        before = metric(host, "hits_total")
        again = ask(host, "D4")
        assert again == fresh | {"cached": True, "summary": again["summary"]}
        assert metric(host, "hits_total") == before + 1


def test_entry_that_nobody_signed_is_not_believed() -> None:
    _, key = share("C3")
    on_keeper(*CLI, "set", key, "forged")
    assert not ask(SECOND, "C3")["cached"]
    assert metric(SECOND, "errors_total", reason="entry") == 1
    assert metric(SECOND, "state", state="up") == 1


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (("stop", "valkey-server.service"), ("start", "valkey-server.service")),
        (
            ("kill", "--signal=STOP", "valkey-server.service"),
            ("kill", "--signal=CONT", "valkey-server.service"),
        ),
    ],
    ids=["down", "frozen"],
)
def test_calls_succeed_without_it_and_use_it_again(fault: tuple[str, ...], end: tuple[str, ...]) -> None:
    on_keeper("systemctl", *fault)
    try:
        # Three failures within ten seconds, as docs/clients.md says.
        for row in range(1, 7):
            assert not ask(SECOND, f"{'E' if end[0] == 'start' else 'F'}{row}")["cached"]
        assert metric(SECOND, "state", state="down") == 1
    finally:
        on_keeper("systemctl", *end)
    fleet.eventually(
        lambda: metric(SECOND, "state", state="up") == 1, within=90, what="the shared cache is used again"
    )
    move = "G5" if end[0] == "start" else "H5"
    share(move)
    assert ask(SECOND, move)["cached"]


def test_wrong_password_costs_no_call() -> None:
    deploy({**SHARED, "katago_mcp_shared_cache_password": "wrong"})
    for row in range(1, 5):
        assert not ask(SECOND, f"J{row}")["cached"]
    assert metric(SECOND, "errors_total", reason="unavailable") >= 1
    validated = fleet.play("validate.yml")
    assert validated.returncode == 0, validated.output
