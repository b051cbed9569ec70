"""The rendered configuration of HAProxy. What it does is tested in test_haproxy.py."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.config import render
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import Server, Settings

SETTINGS = Settings(
    version=1,
    local_name="balancer-1",
    servers=(Server("katago-1", 1, "10.0.0.1", 8080), Server("katago-2", 2, "fd00::2", 8080)),
)


def lines(settings: Settings, out: tuple[str, ...] = ()) -> list[str]:
    """The lines of the configuration without their indentation."""
    return [line.strip() for line in render(settings, out).splitlines()]


def test_servers_have_fixed_numbers_and_bracketed_addresses() -> None:
    assert [line for line in lines(SETTINGS) if line.startswith("server katago")] == [
        "server katago-1 10.0.0.1:8080 id 1",
        "server katago-2 [fd00::2]:8080 id 2",
    ]


def test_server_out_of_rotation_is_disabled() -> None:
    rendered = lines(SETTINGS, ("katago-2", "removed-host"))
    assert "server katago-1 10.0.0.1:8080 id 1" in rendered
    assert "server katago-2 [fd00::2]:8080 id 2 disabled" in rendered


def test_sessions_leave_every_server_of_weight_zero() -> None:
    rendered = "\n".join(lines(SETTINGS))
    for server in SETTINGS.servers:
        assert (
            f"{{ var(txn.session_server) -m int {server.id} }} {{ srv_uweight(mcp/{server.name}) 0 }}"
            in rendered
        )


def test_plain_http_has_no_redirect() -> None:
    rendered = lines(SETTINGS)
    assert "frontend redirect" not in rendered
    assert "bind 0.0.0.0:80" in rendered
    assert "http-request set-header X-Forwarded-Proto http" in rendered


def test_certificate_serves_https_and_redirects_http() -> None:
    settings = replace(SETTINGS, certificate="/etc/x/tls.pem", listen_addresses=("0.0.0.0", "::"))
    rendered = lines(settings)
    assert "bind 0.0.0.0:443 ssl crt /etc/x/tls.pem alpn h2,http/1.1" in rendered
    assert "bind [::]:443 v6only ssl crt /etc/x/tls.pem alpn h2,http/1.1" in rendered
    assert "bind [::]:80 v6only" in rendered
    assert "http-request redirect code 308 location https://%[req.hdr(host),host_only]%[pathq]" in rendered
    assert "http-request set-header X-Forwarded-Proto https" in rendered
    assert "frontend redirect" not in lines(replace(settings, http_port=0))
    other = lines(replace(settings, https_port=8443))
    assert any(line.endswith("host_only]:8443%[pathq]") for line in other)


def test_tls_towards_servers_verifies_their_certificate() -> None:
    server = replace(SETTINGS.servers[0], tls=True)
    settings = replace(SETTINGS, servers=(server,), ca_file="/etc/x/ca.pem")
    verified = "server katago-1 10.0.0.1:8080 id 1 ssl verify required ca-file /etc/x/ca.pem"
    assert verified in lines(settings)
    named = replace(settings, server_tls_name="go.example.org")
    checked = "verifyhost go.example.org sni str(go.example.org) check-sni go.example.org"
    assert f"{verified} {checked}" in lines(named)
    own = replace(settings, servers=(replace(server, tls_name="go.example.org"),))
    assert f"{verified} {checked}" in lines(own)
    other = replace(own, server_tls_name="other.example.org")
    assert f"{verified} {checked.replace('go.', 'other.')}" in lines(other)


def test_names_are_accepted_without_their_ports() -> None:
    settings = replace(SETTINGS, names=("Go.example.org", "go.example.org:*", "[fd00::9]:8080"))
    accepted = "go.example.org go.example.org. [fd00::9]"
    assert f"acl has_known_name req.hdr(host),host_only,lower -m str {accepted}" in lines(settings)
    assert not any("has_known_name" in line for line in lines(SETTINGS))


def test_rate_limit_of_zero_is_no_limit() -> None:
    assert "backend rates" in lines(SETTINGS)
    assert "backend rates" not in lines(replace(SETTINGS, rate_limit=0))


def test_only_the_paths_of_clients_pass() -> None:
    (refusal,) = (line for line in lines(SETTINGS) if "status 404 content-type" in line)
    assert refusal.endswith("unless { path /mcp /health /ready }")
