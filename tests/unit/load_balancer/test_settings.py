"""The settings of a load balancer: what is read and written, and what is rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    VERSION,
    LoadBalancerError,
    Server,
    Settings,
    numbered,
    parsed,
    split_name,
)

ONE = {"name": "katago-1", "id": 1, "address": "10.0.0.1", "port": 8080}
TWO = {"name": "katago-2", "id": 2, "address": "fd00::2", "port": 8080}


def content(**changes: Any) -> dict[str, Any]:
    """Valid settings, with changes."""
    return {"version": VERSION, "local_name": "balancer-1", "servers": [ONE, TWO], **changes}


def test_settings_are_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    settings = parsed(content(names=["go.example.org"], certificate="/etc/x/tls.pem", rate_limit=0))
    path = tmp_path / "etc" / "settings.json"
    settings.write(path)
    assert Settings.load(path) == settings
    assert settings.servers[1] == Server("katago-2", 2, "fd00::2", 8080, tls=False)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 2}, "version is 2, not 1"),
        ({"servers": []}, "servers is empty, not a list with at least one server"),
        ({"servers": [ONE, {**TWO, "id": 1}]}, "servers.id has 1 more than once"),
        ({"servers": [ONE, {**TWO, "name": "katago-1"}]}, "servers.name has katago-1 more than once"),
        ({"servers": [{**ONE, "port": 0}]}, "servers[0].port is 0, not 1 to 65535"),
        ({"servers": [{**ONE, "address": "10.0.0.1 disabled"}]}, "servers[0].address is '10.0.0.1 disabled'"),
        ({"servers": [{**ONE, "name": "katago 1"}]}, "servers[0].name is 'katago 1'"),
        ({"servers": [{**ONE, "tls": True}]}, "ca_file is empty, but a server uses TLS"),
        ({"names": ["go.example.org\nlisten x"]}, "names is 'go.example.org\\nlisten x'"),
        ({"names": ["-i"]}, "names is '-i'"),
        ({"names": ["go.example.org", "a]b"]}, "names is 'a]b'"),
        ({"listen_addresses": ["balancer"]}, "listen_addresses has 'balancer', which is not an IP address"),
        ({"listen_addresses": ["10.0.0.300"]}, "listen_addresses has '10.0.0.300'"),
        ({"metrics_address": "fe80::1%eth0"}, "metrics_address has 'fe80::1%eth0'"),
        ({"metrics_port": 80}, "metrics_port is 80, the same as load_balancer_http_port"),
        ({"relay_port": 8405}, "relay_port is 8405, the same as load_balancer_peers_port"),
        ({"metrics_port": 8405}, "peers_port is 8405, the same as load_balancer_metrics_port"),
        ({"certificate": "/x/y.pem", "http_port": 443}, "http_port is 443, the same as load_balancer_https"),
        ({"certificate": "/etc/x y"}, "certificate is '/etc/x y'"),
        ({"listen_addresses": []}, "listen_addresses is empty"),
        ({"http_port": 0}, "http_port is 0, not 1 to 65535"),
        ({"certificate": "/x/y.pem", "https_port": 70000}, "https_port is 70000, not 1 to 65535"),
        ({"idle_timeout": 0}, "idle_timeout is 0"),
        ({"servers": "katago-1"}, "servers is 'katago-1', not a list"),
        ({"surplus": 1}, "surplus is not a known field"),
    ],
)
def test_invalid_settings_are_rejected_with_their_place(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(shape.ShapeError) as raised:
        parsed(content(**changes))
    assert problem in str(raised.value)


def test_redirecting_port_is_optional_with_a_certificate() -> None:
    assert parsed(content(certificate="/x/y.pem", http_port=0)).http_port == 0


def test_same_port_on_other_addresses_is_accepted() -> None:
    settings = parsed(
        content(listen_addresses=["10.0.0.9", "::"], metrics_address="10.0.0.10", peers_port=8404)
    )
    assert settings.metrics_port == settings.peers_port
    assert parsed(content(listen_addresses=["0.0.0.0", "::"])).http_port == 80


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("GO.example.org.", "go.example.org", ""),
        ("go.example.org.:8443", "go.example.org", "8443"),
        ("[fd00::9]:*", "[fd00::9]", "*"),
        ("[fd00::9]", "[fd00::9]", ""),
    ],
)
def test_name_is_split_into_host_and_port(name: str, host: str, port: str) -> None:
    assert split_name(name) == (host, port)


def test_invalid_file_is_reported_with_path_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(content(version="one")))
    with pytest.raises(LoadBalancerError, match=r"settings\.json: version is 'one'.*playbooks/load_balancer"):
        Settings.load(path)


def test_known_servers_keep_their_numbers() -> None:
    assert numbered(["b", "a"], {}) == {"a": 1, "b": 2}
    assert numbered(["a", "b", "c"], {"b": 1, "c": 2}) == {"a": 3, "b": 1, "c": 2}
    assert numbered(["new", "c"], {"b": 1, "c": 2}) == {"c": 2, "new": 1}
    assert numbered(["c"], {"c": 7}) == {"c": 7}
