"""What HAProxy does with the rendered configuration, in front of two small servers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    config,
    haproxy,
    keepalived,
    requests,
    server_state,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.runtime import Runtime
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    Server,
    Settings,
)
from tests import loopback
from tests.balancer import unprivileged
from tests.ports import free_ports

# Another version, for example that of another Debian, may be named.
PROGRAM = Path(os.environ.get("HAPROXY", "/usr/sbin/haproxy"))
PATIENCE_SECONDS = 60
RELOAD_SECONDS = 5
SESSION = "Mcp-Session-Id"

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="haproxy is not installed")


class FleetServer(ThreadingHTTPServer):
    """Stands for a host of the fleet. Answers with its name and the headers that it got."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, name: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.name = name
        self.is_ready = True
        self.tls: ssl.SSLContext | None = None
        self.sni: list[str | None] = []
        self.requests: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def use(self, certificate: str, key: str, directory: Path) -> None:
        """Serve new connections with TLS and this certificate."""
        file = directory / f"{self.name}.pem"
        file.write_text(certificate + key)
        if self.tls is None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.sni_callback = lambda _, name, __: self.sni.append(name)
        self.tls.load_cert_chain(file)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; the thread of its request does the handshake."""
        accepted, address = super().get_request()
        if self.tls is None:
            return accepted, address
        return self.tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_: Any) -> None:
        """Ignore connections that HAProxy resets."""

    def stop(self) -> None:
        """Stop listening, as a process does that was killed."""
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """The endpoints of the servers that matter to a load balancer."""

    protocol_version = "HTTP/1.1"
    server: FleetServer

    def do_GET(self) -> None:
        """Answer the probe, or what a client asks for."""
        if self.path == "/ready":
            self._answer(200 if self.server.is_ready else 503, {"inFlight": 0})
        else:
            self.do_POST()

    def do_POST(self) -> None:
        """Answer with the name of the server; a request without a session gets a new one."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(self.path)
        is_new = SESSION not in self.headers
        session = {SESSION: f"session-{self.server.name}-{time.monotonic_ns()}"} if is_new else {}
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = 200 if headers.get("authorization") else 401
        answer = {"server": self.server.name, "path": self.path, "headers": headers}
        self._answer(status, answer, session)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class Site:
    """A running HAProxy in front of the servers `katago-1` and `katago-2`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "admin.sock"
        self.runtime = Runtime(self.socket)
        *ports, one, two = free_ports(6)
        self.servers = {"katago-1": FleetServer("katago-1", one), "katago-2": FleetServer("katago-2", two)}
        self.settings = Settings(
            version=1,
            local_name="here",
            servers=tuple(
                Server(name, number, "127.0.0.1", server.server_address[1])
                for number, (name, server) in enumerate(self.servers.items(), 1)
            ),
            listen_addresses=("127.0.0.1",),
            http_port=ports[0],
            metrics_port=ports[1],
            peers_port=ports[2],
            relay_port=ports[3],
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, out: tuple[str, ...] = (), down: tuple[str, ...] = (), **changes: Any) -> None:
        """Run HAProxy with these settings, and wait until it has checked the servers."""
        self.settings = replace(self.settings, **changes)
        self._write(out)
        file = self.directory / "haproxy.cfg"
        log = (self.directory / "haproxy.log").open("wb")
        self._processes.append(
            subprocess.Popen([PROGRAM, "-db", "-f", file], stdout=log, stderr=subprocess.STDOUT)
        )
        expected = len(self.servers) - len(out) - len(down)
        eventually(lambda: [state.has_passed for state in self.up()] == [True] * expected)

    def start_master(self, **changes: Any) -> None:
        """As `start`, with a master process that reloads, as in the unit."""
        self.settings = replace(self.settings, **changes)
        self._write()
        log = (self.directory / "haproxy.log").open("wb")
        command = [str(PROGRAM), "-Ws", "-f", str(self.directory / "haproxy.cfg")]
        self._processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        eventually(lambda: [state.has_passed for state in self.up()] == [True] * len(self.servers))

    def reload(self, **changes: Any) -> None:
        """Have the master process load other settings, and wait until a new worker uses them."""
        self.settings = replace(self.settings, **changes)
        self._write()
        eventually(self._is_reloaded)

    def _is_reloaded(self) -> bool:
        # Again and again, because the master process loses a signal while it finishes the reload before.
        self._processes[-1].send_signal(signal.SIGUSR2)
        end = time.monotonic() + RELOAD_SECONDS
        while self.runtime.digest() != config.digest(self.settings):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def _write(self, out: tuple[str, ...] = ()) -> None:
        text = unprivileged(config.render(self.settings, out), self.socket)
        (self.directory / "haproxy.cfg").write_text(text)

    def stop(self) -> None:
        """Stop HAProxy and the servers."""
        for process in self._processes:
            process.kill()
            process.wait()
        for server in self.servers.values():
            server.stop()

    def is_available(self) -> bool:
        """Whether keepalived would see that a server is up."""
        script = keepalived.check_script("127.0.0.1", self.settings.metrics_port)
        done = subprocess.run(["/bin/bash", "-c", script], stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0

    def log(self) -> str:
        """What HAProxy has logged."""
        return (self.directory / "haproxy.log").read_text()

    def states(self) -> dict[str, server_state.ServerState]:
        """The servers in HAProxy's view."""
        return self.runtime.servers()

    def up(self) -> list[server_state.ServerState]:
        """The servers that get requests."""
        return [state for state in self.states().values() if state.is_up]

    def ask(
        self,
        path: str = "/mcp",
        *,
        method: str = "POST",
        body: bytes = b"{}",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
        """Send a request with a token through the load balancer; status, body and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.http_port, timeout=10)
        sent = {"Authorization": "Bearer token", **(headers or {})}
        connection.request(method, path, body=body, headers=sent)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, json.loads(content) if content else {}, response.headers

    def connect(self) -> http.client.HTTPConnection:
        """A connection of a client, which is not closed after an answer."""
        return http.client.HTTPConnection("127.0.0.1", self.settings.http_port, timeout=10)

    @staticmethod
    def ask_on(
        connection: http.client.HTTPConnection, session: str = ""
    ) -> tuple[dict[str, Any], http.client.HTTPMessage]:
        """Send a request on a connection; body and headers."""
        sent = {"Authorization": "Bearer token", **({SESSION: session} if session else {})}
        connection.request("POST", "/mcp", body=b"{}", headers=sent)
        response = connection.getresponse()
        return json.loads(response.read()), response.headers

    def server_of(self, session: str = "") -> str:
        """The server that a request of the session reaches; any one without a session."""
        headers = {SESSION: session} if session else {}
        return str(self.ask(headers=headers)[1]["server"])

    def new_session(self) -> tuple[str, str]:
        """The id of a new session, and the server that issued it."""
        _, body, headers = self.ask()
        return headers[SESSION], body["server"]


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError, LoadBalancerError):
            if holds():
                return
        assert time.monotonic() < end, f"{holds} did not become true in {PATIENCE_SECONDS} s"
        time.sleep(0.1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Two servers, and an HAProxy that a test starts."""
    made = Site(tmp_path)
    yield made
    made.stop()


def test_configuration_is_accepted_without_warnings(site: Site) -> None:
    settings = replace(site.settings, names=("go.example.org",))
    assert haproxy.problems(PROGRAM, settings, frozenset({"katago-2"}), "", "") == []


def test_names_and_addresses_of_every_accepted_form_are_accepted(site: Site) -> None:
    names = ("a-b.example.org", "UPPER.Example.org", "upper.example.org", "fd00::1", "10.0.0.1", "1", "_x")
    servers = tuple(
        Server(name, number, f"fd00::{number}" if number % 2 else f"10.0.0.{number}", 8080)
        for number, name in enumerate(names, 1)
    )
    settings = replace(site.settings, servers=servers, local_name="lb-1.Example.org")
    assert haproxy.problems(PROGRAM, settings, frozenset(names[1:3]), "", "") == []


def test_rejected_configuration_names_line_and_value(site: Site) -> None:
    settings = replace(site.settings, listen_addresses=("not an address",))
    (problem, *_) = haproxy.problems(PROGRAM, settings, frozenset(), "", "")
    assert re.match(r"line \d+, `bind not an address:\d+`: ", problem)


def test_new_requests_use_both_servers_and_sessions_stay(site: Site) -> None:
    site.start()
    sessions = dict(site.new_session() for _ in range(8))
    assert set(sessions.values()) == {"katago-1", "katago-2"}
    for _ in range(3):
        assert {session: site.server_of(session) for session in sessions} == sessions


def test_server_that_leaves_passes_its_sessions_and_new_ones_to_the_other(site: Site) -> None:
    site.start()
    sessions = dict(site.new_session() for _ in range(6))
    site.runtime.leave("katago-1")
    assert {site.server_of(session) for session in sessions} == {"katago-2"}
    assert {site.server_of() for _ in range(6)} == {"katago-2"}
    assert site.states()["katago-1"].is_out
    site.runtime.join("katago-1")
    assert {site.server_of() for _ in range(6)} == {"katago-1", "katago-2"}
    # The sessions stay where they continued.
    assert {site.server_of(session) for session in sessions} == {"katago-2"}


def test_former_process_has_late_requests_served_by_the_present_one(site: Site) -> None:
    site.start_master()
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(contextlib.closing(site.connect())) for _ in range(9)]
        sessions = [site.ask_on(connection)[1][SESSION] for connection in kept]
        site.reload(rate_limit=1000)
        site.runtime.leave("katago-1")
        # Its host may stop now.
        late = [site.ask_on(*each)[0] for each in zip(kept[:3], sessions, strict=False)]
        assert {each["server"] for each in late} == {"katago-2"}
        assert {each["headers"]["x-forwarded-for"] for each in late} == {"127.0.0.1"}
        assert {each["path"] for each in late} == {"/mcp"}
        # What it would call has stopped, or serves in another way.
        site.servers["katago-2"].stop()
        other = FleetServer("katago-2", *free_ports(1))
        stack.callback(other.stop)
        moved = replace(site.settings.servers[1], port=other.server_address[1])
        site.reload(servers=(site.settings.servers[0], moved))
        eventually(lambda: site.states()["katago-2"].has_passed)
        site.runtime.leave("katago-1")
        late = [site.ask_on(*each)[0] for each in zip(kept[3:6], sessions[3:], strict=False)]
        assert {each["server"] for each in late} == {"katago-2"}
        # A session is known to the present process.
        site.runtime.join("katago-1")
        assert [site.server_of(session) for session in sessions[3:6]] == ["katago-2"] * 3


def test_only_addresses_of_the_host_itself_reach_the_relay(site: Site) -> None:
    text = config.render(site.settings, ())
    assert f"bind 127.0.0.1:{site.settings.relay_port} accept-proxy\n" in text


def test_request_in_flight_at_a_server_that_leaves_ends_normally(site: Site) -> None:
    site.start(max_connections_per_server=5)
    session, server = site.new_session()
    connection = http.client.HTTPConnection("127.0.0.1", site.settings.http_port, timeout=10)
    connection.putrequest("POST", "/mcp")
    for name, value in (("Authorization", "Bearer t"), (SESSION, session), ("Content-Length", "2")):
        connection.putheader(name, value)
    connection.endheaders()
    eventually(lambda: site.states()[server].sessions == 1)
    site.runtime.leave(server)
    connection.send(b"{}")
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["server"]) == (200, server)
    connection.close()


def test_server_out_of_rotation_gets_no_requests_until_it_is_admitted(site: Site) -> None:
    site.start(out=("katago-1",))
    assert {site.server_of() for _ in range(6)} == {"katago-2"}
    assert server_state.down_sentences(site.states().values()) == [
        f"katago-1 (127.0.0.1:{site.settings.servers[0].port}) is out of rotation"
    ]
    site.runtime.check("katago-1")
    site.runtime.join("katago-1")
    eventually(lambda: site.server_of() == "katago-1")


def test_sessions_of_a_dead_server_continue_on_the_other(site: Site) -> None:
    site.start()
    sessions = dict(site.new_session() for _ in range(6))
    site.servers["katago-1"].stop()
    # Before the health check notices it: the connection is refused, and another server gets the request.
    assert {site.server_of(session) for session in sessions} == {"katago-2"}
    eventually(lambda: not site.states()["katago-1"].is_up)
    (reason,) = server_state.down_sentences(site.states().values())
    assert "the connection was refused or failed" in reason
    site.servers["katago-1"] = FleetServer("katago-1", site.settings.servers[0].port)
    eventually(lambda: site.server_of() == "katago-1")


def test_server_that_is_not_ready_is_named_with_its_status(site: Site) -> None:
    site.start()
    site.servers["katago-2"].is_ready = False
    eventually(lambda: not site.states()["katago-2"].is_up)
    (reason,) = server_state.down_sentences(site.states().values())
    assert reason.startswith("katago-2 (127.0.0.1:")
    assert "/ready reports that the server is not ready, HTTP status 503" in reason


def test_without_any_server_clients_get_503_in_json(site: Site) -> None:
    site.start()
    assert site.is_available()
    for server in site.servers.values():
        server.is_ready = False
    eventually(lambda: not site.up())
    status, body, headers = site.ask()
    assert (status, body["error"], headers["Retry-After"]) == (503, "unavailable", "5")
    assert not site.is_available()
    site.stop()
    assert not site.is_available()


@pytest.mark.parametrize("path", ["/admin/drain", "/admin", "/metrics", "/", "/mcp/x", "/%61dmin", "//admin"])
def test_other_paths_are_not_reachable(site: Site, path: str) -> None:
    site.start()
    status, body, _ = site.ask(path)
    assert (status, body["error"]) == (404, "not_found")
    assert [server.requests for server in site.servers.values()] == [[], []]


@pytest.mark.parametrize(
    ("path", "reached"), [("/mcp", "/mcp"), ("/mcp/", "/mcp"), ("/mcp/?a=b", "/mcp?a=b")]
)
def test_mcp_is_reached_with_and_without_a_slash(site: Site, path: str, reached: str) -> None:
    site.start()
    assert site.ask(path)[1]["path"] == reached


def test_probes_reach_a_server(site: Site) -> None:
    site.start()
    assert site.ask("/ready", method="GET", body=b"")[0] == 200
    assert site.ask("/health", method="GET", body=b"")[1]["path"] == "/health"


def test_request_that_is_too_large_is_refused(site: Site) -> None:
    site.start(max_request_bytes=1000)
    assert site.ask(body=b"x" * 1000)[0] == 200
    status, body, _ = site.ask(body=b"x" * 1001)
    assert (status, body["error"]) == (413, "limit_exceeded")


def test_client_that_sends_too_many_requests_is_refused(site: Site) -> None:
    site.start(rate_limit=5)
    statuses = [site.ask()[0] for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    status, body, headers = site.ask()
    assert (status, body["error"], headers["Retry-After"]) == (429, "rate_limited", "10")
    # Probes do not count.
    assert site.ask("/ready", method="GET", body=b"")[0] == 200


def test_unknown_host_names_are_refused_and_known_ones_pass_unchanged(site: Site) -> None:
    site.start(names=("go.example.org", "[::1]"))
    for name in (
        "go.example.org",
        "GO.example.org:8443",
        "go.example.org.",
        "go.example.org.:80",
        "[::1]:80",
    ):
        status, body, _ = site.ask(headers={"Host": name})
        assert (status, body["headers"]["host"]) == (200, name)
    status, body, _ = site.ask(headers={"Host": "evil.example.org"})
    assert (status, body["error"]) == (421, "misdirected")
    assert site.ask("/ready", method="GET", body=b"", headers={"Host": "10.0.0.1"})[0] == 200


def test_servers_get_the_address_of_the_client_and_not_what_it_claims(site: Site) -> None:
    site.start()
    claimed = {"X-Forwarded-For": "10.9.9.9", "Forwarded": "for=10.9.9.9", "X-Forwarded-Proto": "https"}
    headers = site.ask(headers=claimed)[1]["headers"]
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert "forwarded" not in headers


def test_log_has_no_token_session_or_query(site: Site) -> None:
    site.start()
    site.ask("/mcp?token=in-the-query", headers={SESSION: "the-session"})
    eventually(lambda: '"POST /mcp' in site.log() or "POST /mcp HTTP" in site.log())
    assert "in-the-query" not in site.log()
    assert "Bearer" not in site.log()
    assert "the-session" not in site.log()


def test_metrics_have_an_address_of_their_own(site: Site) -> None:
    site.start()
    connection = http.client.HTTPConnection("127.0.0.1", site.settings.metrics_port, timeout=10)
    statuses = {}
    for path in ("/metrics", "/statistics", "/other"):
        connection.request("GET", path)
        response = connection.getresponse()
        statuses[path] = response.status
        text = response.read().decode()
        if path == "/metrics":
            assert 'haproxy_server_status{proxy="mcp",server="katago-1",state="UP"} 1' in text
    assert statuses == {"/metrics": 200, "/statistics": 200, "/other": 404}
    connection.close()


def test_running_process_reports_its_settings(site: Site) -> None:
    site.start(rate_limit=77)
    assert site.runtime.digest() == config.digest(site.settings)
    assert config.digest(replace(site.settings, rate_limit=78)) != config.digest(site.settings)
    assert config.digest(replace(site.settings, max_connections=78)) != config.digest(site.settings)


def test_requests_of_the_validation_pass_or_name_the_problem(site: Site) -> None:
    site.start(names=("go.example.org",))
    assert requests.problem(site.settings, "127.0.0.1", has_tokens=True) == ""
    problem = requests.problem(site.settings, "127.0.0.1", has_tokens=False)
    assert problem.startswith(
        f"/mcp, with the host name go.example.org:{site.settings.http_port}, gets HTTP 401"
    )
    named = replace(site.settings, names=("other.example.org",))
    assert "gets HTTP 421" in requests.problem(named, "127.0.0.1", has_tokens=True)


def test_certificate_serves_https_and_plain_http_is_redirected(site: Site, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    bundle = tmp_path / "tls.pem"
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=go.example.org"),
            *("-keyout", key, "-out", certificate, "-days", "1"),
        ],
        check=True,
        capture_output=True,
    )
    bundle.write_text(certificate.read_text() + key.read_text())
    (port,) = free_ports(1)
    site.start(certificate=str(bundle), https_port=port, names=("go.example.org",))
    assert haproxy.problems(PROGRAM, site.settings, frozenset(), bundle.read_text(), "") == []
    assert requests.problem(site.settings, "127.0.0.1", has_tokens=True) == ""
    connection = http.client.HTTPConnection("127.0.0.1", site.settings.http_port, timeout=10)
    connection.request("POST", "/mcp?a=b", body=b"{}", headers={"Host": "go.example.org:80"})
    response = connection.getresponse()
    assert response.status == 308
    assert response.headers["Location"] == f"https://go.example.org:{port}/mcp?a=b"
    connection.close()


def secure(site: Site, authority: loopback.Authority, directory: Path) -> dict[str, Any]:
    """Give every server a certificate of its own name; the settings for HAProxy."""
    ca = directory / "ca.pem"
    ca.write_text(authority.pem)
    for name, server in site.servers.items():
        server.use(*authority.issue(f"{name}.example.org"), directory)
    servers = tuple(
        replace(server, tls=True, tls_name=f"{server.name}.example.org") for server in site.settings.servers
    )
    return {"servers": servers, "ca_file": str(ca)}


def test_servers_are_called_and_checked_with_tls_by_their_names(site: Site, tmp_path: Path) -> None:
    authority = loopback.Authority()
    site.start(**secure(site, authority, tmp_path))
    assert haproxy.problems(PROGRAM, site.settings, frozenset(), "", authority.pem) == []
    assert {site.server_of() for _ in range(6)} == set(site.servers)
    for name, server in site.servers.items():
        assert len(server.sni) > 1
        assert set(server.sni) == {f"{name}.example.org"}


@pytest.mark.parametrize("kind", ["another name", "another authority", "no TLS"])
def test_server_that_cannot_prove_its_name_gets_no_request(site: Site, tmp_path: Path, kind: str) -> None:
    authority = loopback.Authority()
    settings = secure(site, authority, tmp_path)
    server = site.servers["katago-1"]
    if kind == "another name":
        server.use(*authority.issue("katago-2.example.org"), tmp_path)
    elif kind == "another authority":
        server.use(*loopback.Authority().issue("katago-1.example.org"), tmp_path)
    else:
        server.tls = None
    site.start(down=("katago-1",), **settings)
    assert {site.server_of() for _ in range(6)} == {"katago-2"}
    assert not site.states()["katago-1"].is_up
    assert server.requests == []


def test_replaced_certificates_of_servers_need_no_reload(site: Site, tmp_path: Path) -> None:
    old, new = loopback.Authority("old"), loopback.Authority("new")
    settings = secure(site, old, tmp_path)
    Path(settings["ca_file"]).write_text(old.pem + new.pem)
    site.start(**settings)
    for authority in (old, new):
        for name, server in site.servers.items():
            server.sni.clear()
            server.use(*authority.issue(f"{name}.example.org"), tmp_path)
        # Each server had handshakes with the new certificate.
        eventually(lambda: all(len(server.sni) > 2 for server in site.servers.values()))
        assert len(site.up()) == 2
        assert {site.server_of() for _ in range(6)} == set(site.servers)


class Answers:
    """A client that sends requests on connections that it keeps open, each with its own certificate."""

    def __init__(self, port: int, authority: str) -> None:
        self._context = ssl.create_default_context(cadata=authority)
        self._port = port
        self._end = threading.Event()
        self.statuses: list[int | str] = []
        self.serials: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(each,)) for each in (1, 5, 1000)]
        for thread in self._threads:
            thread.start()

    def _ask(self, most: int) -> None:
        while not self._end.is_set():
            try:
                self._connection(most)
            except (OSError, http.client.HTTPException) as error:
                self.statuses.append(f"{type(error).__name__}: {error}")

    def _connection(self, most: int) -> None:
        connection = http.client.HTTPSConnection(
            "go.example.org", self._port, timeout=10, context=self._context
        )
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        connection.sock = self._context.wrap_socket(plain, server_hostname="go.example.org")
        self.serials.append(str((connection.sock.getpeercert() or {})["serialNumber"]))
        for _ in range(most):
            headers = {"Authorization": "Bearer t"}
            connection.request("POST", "/mcp", body=b"{}", headers=headers)
            response = connection.getresponse()
            response.read()
            self.statuses.append(response.status)
            # HAProxy may end a connection, but only after an answer, and says so.
            if self._end.is_set() or response.headers.get("Connection") == "close":
                break
        connection.close()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def test_replaced_certificate_of_the_load_balancer_loses_no_request(site: Site, tmp_path: Path) -> None:
    authority = loopback.Authority()
    (port,) = free_ports(1)
    files = [tmp_path / f"tls-{number}.pem" for number in range(3)]
    for file in files:
        file.write_text("".join(authority.issue("go.example.org")))
    # A reload needs the master process, as in the unit.
    site.start_master(certificate=str(files[0]), https_port=port, rate_limit=0)
    client = Answers(port, authority.pem)
    try:
        for file in files[1:]:
            seen = set(client.serials)
            eventually(lambda: len(client.statuses) > 50)
            site.reload(certificate=str(file))
            eventually(lambda: set(client.serials) - seen != set())  # noqa: B023 (called at once)
    finally:
        client.stop()
    assert set(client.statuses) == {200}
    assert len(set(client.serials)) == len(files)
