"""Renders the configuration of HAProxy. Pure: the same settings give the same text.

For HAProxy 2.6 (Debian 12) and 3.0 (Debian 13).
"""

from __future__ import annotations

import json
from collections.abc import Collection

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest as common_digest
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    BACKEND,
    Server,
    Settings,
    split_name,
)

RATE_SECONDS = 10
"""The period of the rate limit. A client that exceeds it may try again after this time."""

_GLOBAL = """\
# Ansible renders this file from {settings}. Do not edit it.
global
  user haproxy
  group haproxy
  chroot /var/lib/haproxy
  log stdout format raw local0 info
  stats socket {socket} mode 660 user root group root level admin
  # By this, Ansible sees which settings the running process uses.
  description {identity}
  localpeer {local_name}
  maxconn {max_connections}
  hard-stop-after {reload_timeout}s
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
  ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20
  ssl-default-server-options ssl-min-ver TLSv1.2
  ssl-default-server-ciphers ECDHE+AESGCM:ECDHE+CHACHA20
"""

# As `option httplog`, without the query of the address and without any header.
_LOG_FORMAT = (
    "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %HM %HPO %HV"
)

# The server closes idle connections after 30 s, and sends a ping every 15 s while a stream is open.
_DEFAULTS = """\
defaults
  mode http
  log global
  log-format "{log_format}"
  option dontlognull
  option http-no-delay
  # A reload must not close an idle connection on which a client is sending a request. It is closed after the
  # answer, which says so, or by `timeout http-keep-alive`.
  option idle-close-on-response
  option redispatch 1
  retries 2
  retry-on conn-failure
  timeout connect 2s
  timeout http-request 15s
  timeout http-keep-alive 20s
  timeout client {idle_timeout}s
  timeout server {idle_timeout}s
  timeout tunnel {idle_timeout}s
  timeout queue {queue_timeout}s
"""

_STATISTICS = """\
frontend statistics
  bind {address}
  # For the other load balancer's takeover: whether any server is up.
  monitor-uri /available
  monitor fail if {{ nbsrv({backend}) lt 1 }}
  http-request set-log-level silent
  http-request use-service prometheus-exporter if {{ path /metrics }}
  http-request return status 404 unless {{ path_beg /statistics }}
  stats enable
  stats uri /statistics
  stats refresh 10s
  stats hide-version
"""

# After a reload, the former process gets one more request on each connection that was open. It checks no
# servers, does not learn which ones leave, and forgets the sessions. So the present process serves these.
_RELAY = """\
backend relay
  http-reuse never
  server present 127.0.0.1:{port} send-proxy-v2
"""

_BACKEND = """\
backend {backend}
  balance leastconn
  option httpchk GET /ready
  http-check expect status 200
  option log-health-checks
  # A client that leaves ends its request at the server too.
  option abortonclose
  stick-table type string len 64 size 100k expire 1h peers local
  http-request set-var(txn.session_server) req.hdr(mcp-session-id),table_server_id({backend})
"""

_REFUSALS = {
    400: ("invalid_request", "the request is not valid HTTP"),
    408: ("request_timeout", "the request was not complete in time: send it faster"),
    500: ("internal_error", "the load balancer failed"),
    502: ("bad_gateway", "the connection to the server broke before its answer: try again"),
    503: ("unavailable", "no server can serve the request now: try again later"),
    504: ("timeout", "the server did not answer in time: try again"),
}
_RETRY_AFTER = {502: 1, 503: 5, 504: 5}


def render(settings: Settings, out: Collection[str]) -> str:
    """The configuration. `out`: the names of the servers that are out of rotation."""
    return _text(settings, out, digest(settings))


def digest(settings: Settings) -> str:
    """Identifies the settings and this version's way to render them, whichever servers are out."""
    return common_digest.of_text(_text(settings, (), ""))


def _text(settings: Settings, out: Collection[str], identity: str) -> str:
    sections = (
        _global(settings, identity),
        _defaults(settings),
        _peers(settings),
        *_frontends(settings),
        _STATISTICS.format(address=_bound(settings.metrics_address, settings.metrics_port), backend=BACKEND),
        _rates(settings),
        _RELAY.format(port=settings.relay_port),
        _backend(settings, out),
    )
    return "\n".join(section for section in sections if section)


def _global(settings: Settings, identity: str) -> str:
    return _GLOBAL.format(
        settings=paths.LOAD_BALANCER_SETTINGS,
        socket=paths.HAPROXY_SOCKET,
        identity=identity,
        local_name=settings.local_name,
        max_connections=settings.max_connections,
        reload_timeout=settings.reload_timeout,
    )


def _defaults(settings: Settings) -> str:
    errors = [
        f"  http-error status {status} content-type application/json"
        f"{_retry_after(_RETRY_AFTER.get(status))} string {_json(*_REFUSALS[status])}\n"
        for status in _REFUSALS
    ]
    text = _DEFAULTS.format(
        log_format=_LOG_FORMAT,
        idle_timeout=settings.idle_timeout,
        queue_timeout=settings.queue_timeout,
    )
    return text + "".join(errors)


def _peers(settings: Settings) -> str:
    # With a peer for itself, a reloaded HAProxy gets the sessions of the process that it replaces.
    return f"peers local\n  peer {settings.local_name} 127.0.0.1:{settings.peers_port}\n"


def _frontends(settings: Settings) -> list[str]:
    if not settings.certificate:
        return [_clients(settings, settings.http_port, "")]
    served = _clients(settings, settings.https_port, f" ssl crt {settings.certificate} alpn h2,http/1.1")
    if not settings.http_port:
        return [served]
    port = "" if settings.https_port == 443 else f":{settings.https_port}"
    return [
        "frontend redirect\n"
        + _binds(settings, settings.http_port, "")
        + f"  http-request redirect code 308 location https://%[req.hdr(host),host_only]{port}%[pathq]\n",
        served,
    ]


def _clients(settings: Settings, port: int, tls: str) -> str:
    lines = [
        # What clients send here could deceive whoever reads the servers' logs.
        *(
            f"http-request del-header {name}"
            for name in ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP")
        ),
        f"http-request set-header X-Forwarded-Proto {'https' if tls else 'http'}",
        "option forwardfor",
        "http-request set-path /mcp if { path /mcp/ }",
        "http-request set-log-level silent if { path /health /ready }",
        _refuse(404, "not_found", "there is nothing at this path") + " unless { path /mcp /health /ready }",
    ]
    if settings.names:
        # Probes have no check of names, as on the servers: monitors call them by address.
        hosts = dict.fromkeys(split_name(name)[0] for name in settings.names)
        # A name may end with a dot, as on the servers.
        accepted = " ".join(form for host in hosts for form in (host, *([] if "[" in host else [f"{host}."])))
        lines += [
            "acl has_known_name req.hdr(host),host_only,lower -m str " + accepted,
            _refuse(421, "misdirected", "the host name of the address is not one of this service")
            + " if { path /mcp } !has_known_name",
        ]
    if settings.rate_limit:
        lines += [
            "http-request track-sc0 src,ipmask(32,64) table rates if { path /mcp }",
            _refuse(429, "rate_limited", "too many requests from this address", retry_after=RATE_SECONDS)
            + f" if {{ path /mcp }} {{ sc_http_req_rate(0) gt {settings.rate_limit} }}",
        ]
    lines += [
        _refuse(413, "limit_exceeded", "the request body is too large")
        + f" if {{ req.body_size gt {settings.max_request_bytes} }}",
        "use_backend relay if { stopping }",
        f"default_backend {BACKEND}",
    ]
    relay = f"  bind 127.0.0.1:{settings.relay_port} accept-proxy\n"
    return (
        "frontend clients\n" + _binds(settings, port, tls) + relay + "".join(f"  {line}\n" for line in lines)
    )


def _rates(settings: Settings) -> str:
    if not settings.rate_limit:
        return ""
    return (
        "backend rates\n"
        f"  stick-table type ipv6 size 100k expire {6 * RATE_SECONDS}s store http_req_rate({RATE_SECONDS}s)\n"
    )


def _backend(settings: Settings, out: Collection[str]) -> str:
    servers = sorted(settings.servers, key=lambda server: server.id)
    # A session whose server leaves (weight 0) goes to another server, which continues it.
    lines = [
        "http-request set-var(txn.session_moves) bool(true)"
        f" if {{ var(txn.session_server) -m int {server.id} }} {{ srv_uweight({BACKEND}/{server.name}) 0 }}"
        for server in servers
    ]
    lines += [
        "stick match req.hdr(mcp-session-id) unless { var(txn.session_moves) -m bool }",
        "stick store-request req.hdr(mcp-session-id)",
        "stick store-response res.hdr(mcp-session-id)",
        "default-server check inter 1s fastinter 500ms downinter 1s fall 2 rise 1 weight 100"
        f" maxconn {settings.max_connections_per_server} pool-purge-delay 5s"
        " on-marked-down shutdown-sessions",
        *(_server(server, settings, server.name in out) for server in servers),
    ]
    text = _BACKEND.format(backend=BACKEND) + "  timeout check 2s\n"
    return text + "".join(f"  {line}\n" for line in lines)


def _server(server: Server, settings: Settings, is_out: bool) -> str:
    words = [f"server {server.name} {_bound(server.address, server.port)} id {server.id}"]
    if server.tls:
        words.append(f"ssl verify required ca-file {settings.ca_file}")
        if name := settings.server_tls_name or server.tls_name:
            words.append(f"verifyhost {name} sni str({name}) check-sni {name}")
    if is_out:
        words.append("disabled")
    return " ".join(words)


def _binds(settings: Settings, port: int, options: str) -> str:
    return "".join(
        f"  bind {_bound(address, port)}{' v6only' if ':' in address else ''}{options}\n"
        for address in settings.listen_addresses
    )


def _bound(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _refuse(status: int, code: str, message: str, *, retry_after: int | None = None) -> str:
    return (
        f"http-request return status {status} content-type application/json"
        f"{_retry_after(retry_after)} string {_json(code, message)}"
    )


def _retry_after(seconds: int | None) -> str:
    return "" if seconds is None else f" hdr Retry-After {seconds}"


def _json(code: str, message: str) -> str:
    """A refusal in the servers' form, as a quoted argument of HAProxy."""
    return "'" + json.dumps({"ok": False, "error": code, "message": message}) + "'"
