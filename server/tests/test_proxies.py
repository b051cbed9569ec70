"""Trusted proxies: whose X-Forwarded-For the server believes, and which address it logs."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from katago_mcp.config import ConfigError, load
from katago_mcp.proxies import TrustedProxies
from support import ADMIN_TOKEN, ANALYZE_TOKEN, PATIENCE, Running, Site
from test_sessions import INITIALIZE, send

PROXIES = ["10.0.0.5", "10.1.0.0/16", "fd00::/8"]


def client(peer: str | None, *forwarded: str, proto: str | None = None) -> tuple[str | None, str]:
    """The address and the scheme that the server sees for a request."""
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    headers += [] if proto is None else [(b"x-forwarded-proto", proto.encode())]
    scope = {
        "type": "http",
        "scheme": "http",
        "headers": headers,
        "client": None if peer is None else (peer, 1234),
    }
    seen = TrustedProxies(PROXIES).seen_through(scope)
    return (None if seen["client"] is None else seen["client"][0]), seen["scheme"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # From a proxy: the client, as the last proxy saw it.
        ("10.0.0.5", ["192.0.2.7"], "192.0.2.7"),
        ("10.1.200.3", ["192.0.2.7"], "192.0.2.7"),
        ("fd12::1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.5", ["::ffff:192.0.2.7"], "192.0.2.7"),
        # What a client says itself comes before that.
        ("10.0.0.5", ["1.2.3.4, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.5", ["1.2.3.4", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.5", ["10.1.0.1, 192.0.2.7"], "192.0.2.7"),
        # Several proxies.
        ("10.0.0.5", ["192.0.2.7, 10.1.0.1"], "192.0.2.7"),
        ("10.0.0.5", ["192.0.2.7, 10.1.0.1", "fd00::1, 10.1.0.2"], "192.0.2.7"),
        ("10.0.0.5", ["10.1.0.1, 10.1.0.2"], "10.1.0.1"),
        # Forms.
        ("10.0.0.5", ["192.0.2.7:4711"], "192.0.2.7"),
        ("10.0.0.5", ["[2001:DB8::7]:4711"], "2001:db8::7"),
        ("10.0.0.5", [" 192.0.2.7 "], "192.0.2.7"),
        ("10.0.0.5", [",".join(["192.0.2.1"] * 5000 + ["192.0.2.7"])], "192.0.2.7"),
        # No address: the peer, or what is known up to there.
        ("10.0.0.5", [], "10.0.0.5"),
        ("10.0.0.5", [""], "10.0.0.5"),
        ("10.0.0.5", ["unknown"], "10.0.0.5"),
        ("10.0.0.5", ["192.0.2.7, evil\\nline"], "10.0.0.5"),
        ("10.0.0.5", ["192.0.2.7, <script>, 10.1.0.2"], "10.1.0.2"),
        ("10.0.0.5", ["192.0.2.7,"], "10.0.0.5"),
        ("10.0.0.5", ["999.0.2.7"], "10.0.0.5"),
        # From anybody else.
        ("192.0.2.99", ["192.0.2.7"], "192.0.2.99"),
        ("10.0.0.6", ["192.0.2.7"], "10.0.0.6"),
        ("127.0.0.1", ["192.0.2.7"], "127.0.0.1"),
        ("a socket", ["192.0.2.7"], "a socket"),
        (None, ["192.0.2.7"], None),
    ],
)
def test_address_of_the_client(peer: str | None, forwarded: list[str], expected: str | None) -> None:
    assert client(peer, *forwarded)[0] == expected


@pytest.mark.parametrize(
    ("peer", "proto", "scheme"),
    [
        ("10.0.0.5", "https", "https"),
        ("10.0.0.5", "HTTPS ", "https"),
        ("10.0.0.5", "gopher", "http"),
        ("192.0.2.99", "https", "http"),
    ],
)
def test_scheme_of_the_client(peer: str, proto: str, scheme: str) -> None:
    assert client(peer, "192.0.2.7", proto=proto)[1] == scheme


def test_no_peer_is_a_proxy_by_default() -> None:
    scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": [(b"x-forwarded-for", b"192.0.2.7")]}
    assert TrustedProxies([]).seen_through(scope) is scope


@pytest.mark.parametrize("entry", ["balancer-1", "10.0.0.0/33", "10.0.0.1/24", "*", ""])
def test_an_entry_that_is_no_network_is_refused(site: Site, entry: str) -> None:
    site.write(server={"trustedProxies": [entry]})
    with pytest.raises(ConfigError, match=r"server\.trustedProxies: .* is not accepted: use an IP address"):
        load(site.path, {})


def requests(running: Running, forwarded: str) -> None:
    """Requests that are refused, and requests that are not."""
    headers = {"X-Forwarded-For": forwarded}
    assert send(running, message=INITIALIZE, token="a-wrong-token", headers=headers).status_code == 401
    assert send(running, message=INITIALIZE, token=ADMIN_TOKEN, headers=headers).status_code == 403
    assert send(running, message=INITIALIZE, headers={**headers, "Host": "evil.example"}).status_code == 421
    assert running.post("/admin/undrain", ADMIN_TOKEN, **headers).status_code == 200
    assert send(running, message=INITIALIZE, headers=headers).status_code == 200
    assert send(running, message=INITIALIZE, headers=headers).status_code == 503


def logged(running: Running) -> list[tuple[str, str]]:
    events: list[dict[str, Any]] = running.events()
    names = ("http_refused", "admin", "session_refused", "call")
    return [(event["event"], event["client"]) for event in events if event["event"] in names]


REFUSED = ["http_refused", "http_refused", "http_refused", "admin", "session_refused"]


@pytest.mark.parametrize("proxies", [["127.0.0.0/8"], []])
def test_the_log_names_the_client_behind_a_trusted_proxy_only(site: Site, proxies: list[str]) -> None:
    site.write_tokens()
    site.write(server={"trustedProxies": proxies, "maxSessionsPerToken": 1})
    with site.serving() as running:
        requests(running, "1.2.3.4, 192.0.2.7")
        seen = "192.0.2.7" if proxies else "127.0.0.1"
        assert logged(running) == [(name, seen) for name in REFUSED]
        for protocol in ("2026",):
            report = site.call(("getEngineStatus", {}), token=ANALYZE_TOKEN, protocol=protocol)
            assert report["ok"]
        assert logged(running)[-1] == ("call", "127.0.0.1")


def test_a_reload_changes_the_trusted_proxies(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write_tokens()
    with site.serving() as running:
        site.write(server={"trustedProxies": ["127.0.0.1"]})
        assert running.post("/admin/reload", ADMIN_TOKEN).json()["needsRestart"] == []
        headers = {"X-Forwarded-For": "192.0.2.7"}
        httpx2.post(running.url, headers=headers, timeout=PATIENCE)
        assert logged(running)[-1] == ("http_refused", "192.0.2.7")


def test_connections_are_counted_by_their_peer(site: Site) -> None:
    """A load balancer is one client of the limits, whatever it forwards."""
    site.write(
        server={"trustedProxies": ["127.0.0.1"], "maxConnectionsPerClient": 1, "headerTimeoutSeconds": 1}
    )
    with site.serving() as running, httpx2.Client(timeout=PATIENCE) as first:
        url = f"http://127.0.0.1:{running.port}/health"
        assert first.get(url, headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 200
        refused = httpx2.post(running.url, headers={"X-Forwarded-For": "192.0.2.8"}, timeout=PATIENCE)
        assert refused.json()["error"] == "too_many_connections"
