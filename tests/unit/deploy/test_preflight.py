"""Each problem with the inputs or the host gives one message with the value and the fix."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.release import sizing
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import preflight

TOKEN = "q7Zk2mVx9Lr4Tn8Wb3Yc6Hd1"
SHA256 = "ab" * 32


def settings() -> dict[str, Any]:
    return {
        "katago_engine": {
            "source": "release",
            "version": "1.18.1",
            "backend": "opencl",
            "sha256": SHA256,
        },
        "katago_network": {"source": "file", "path": "/srv/net.bin.gz", "sha256": SHA256},
        "katago_human_network": {},
        "katago_mcp_listen_address": "0.0.0.0",
        "katago_mcp_port": 8080,
        "katago_mcp_metrics_listen_address": "127.0.0.1",
        "katago_mcp_metrics_port": 9090,
        "katago_mcp_allowed_hosts": ["go.example.org:*"],
        "katago_mcp_allowed_clients": ["10.20.0.0/16"],
        "katago_mcp_tokens": [{"name": "anna", "scopes": ["analyze"], "token": TOKEN}],
        "katago_mcp_max_visits": 1000,
        "katago_mcp_default_visits": 200,
        "katago_mcp_max_review_time": 900,
        "katago_mcp_rate_limit_burst": 20,
    }


def host() -> dict[str, Any]:
    return {
        "os": {"id": "debian", "version": "12"},
        "architecture": "x86_64",
        "python": [3, 11, 2],
        "systemd": 252,
        "processors": 2,
        "memory_mb": 4096,
        "disk_free_mb": {"/opt": 5000, "/var": 5000},
        "disk_obstacles": [],
        "closed_directories": [],
        "lacks": ["engine", "network"],
        "gpu": False,
        "gpu_vendor": None,
        "listeners": [{"address": "0.0.0.0", "port": 8080, "error": None}],
    }


@pytest.mark.parametrize("key", ["", "\n", TOKEN * 2, f"{TOKEN * 2}\n\n{TOKEN * 3}\n"])
def test_session_keys_are_accepted(key: str) -> None:
    assert preflight.input_problems({**settings(), "katago_mcp_session_key": key}) == []


def test_valid_inputs_and_a_suitable_host_have_no_problem() -> None:
    assert preflight.input_problems(settings()) == []
    assert preflight.host_problems(host(), network_bytes=4 << 20) == []


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("katago_engine.sha256", "abc", "katago_engine.sha256 is 'abc'"),
        ("katago_engine.sha256", SHA256.upper(), "64 lower-case hexadecimal digits"),
        ("katago_engine.source", "ftp", "one of release, pypi, file"),
        ("katago_engine.backend", None, "katago_engine.backend is missing"),
        ("katago_network.path", "", "katago_network.path is missing"),
        ("katago_human_network", {"source": "url", "sha256": SHA256}, "katago_human_network.url is missing"),
        ("katago_mcp_default_visits", 1001, "above katago_mcp_max_visits, 1000"),
        ("katago_mcp_max_review_time", 0, "katago_mcp_max_review_time is 0; the server accepts 1 to 86400"),
        ("katago_mcp_rate_limit_burst", 0, "katago_mcp_rate_limit_burst is 0"),
        ("katago_mcp_listen_address", "localhost", "must be an IP address"),
        ("katago_mcp_port", 80, "1024 to 65535"),
        ("katago_mcp_metrics_port", 8080, "are both 8080"),
        ("katago_mcp_allowed_hosts", [], "katago_mcp_allowed_hosts is empty"),
        ("katago_mcp_allowed_clients", ["localhost"], "only allows the host itself"),
        ("katago_mcp_allowed_clients", ["10.20.0.0/16", "offices"], "has 'offices'"),
        ("katago_mcp_trusted_proxies", ["10.20.0.0/16", "balancer-1"], "has 'balancer-1'; it must be an IP"),
        ("katago_mcp_trusted_proxies", ["10.20.0.1/16"], "without host bits"),
        ("katago_mcp_tokens", [], "katago_mcp_tokens is empty"),
        ("katago_mcp_tokens", "hunter2", "must be a list"),
        ("katago_mcp_tokens", ["hunter2"], "katago_mcp_tokens[0] must be a mapping"),
        (
            "katago_asset_host",
            "nowhere",
            "katago_asset_host is 'nowhere', which is no host of the group katago",
        ),
        ("katago_asset_mirror", "ftp://m/x", "katago_asset_mirror is 'ftp://m/x'"),
        ("katago_mcp_session_key", "0123456789abcdef", "katago_mcp_session_key has 16 characters"),
        ("katago_mcp_session_key", "a" * 40, "katago_mcp_session_key is a placeholder"),
        ("katago_mcp_session_key", f"{TOKEN * 2}\nshort\n", "session_key, line 2, has 5 characters"),
    ],
)
def test_invalid_input_is_reported_with_its_value(variable: str, value: object, text: str) -> None:
    changed = copy.deepcopy(settings())
    name, _, key = variable.partition(".")
    if key:
        changed[name][key] = value
    else:
        changed[name] = value
    (problem,) = preflight.input_problems(changed)
    assert text in problem


@pytest.mark.parametrize(
    ("vendor", "backends", "backend"),
    [
        ("nvidia", ("opencl", "cuda"), "cuda"),
        ("nvidia", ("opencl", "trt", "cuda"), "trt"),
        ("amd", ("opencl", "cuda"), "opencl"),
        ("amd", ("cuda",), "eigen"),
        (None, ("opencl", "cuda"), "eigen"),
        ("nvidia", (), "eigen"),
    ],
)
def test_engine_is_chosen_by_the_device(vendor: str | None, backends: tuple[str, ...], backend: str) -> None:
    engines = {name: {"sha256": SHA256} for name in backends}
    assert preflight.engine_for({"backend": "eigen"}, engines, vendor)["backend"] == backend


def test_engine_of_a_gpu_is_checked_like_any_other() -> None:
    bad = settings() | {"katago_gpu_engines": {"cuda": {"source": "file", "sha256": SHA256}, "metal": {}}}
    path, key = preflight.input_problems(bad)
    assert path.startswith("katago_gpu_engines.cuda.path is missing")
    assert "'metal'; its keys must be among trt, cuda, opencl" in key


@pytest.mark.parametrize(
    ("vendor", "backend", "text"),
    [
        (None, "cuda", "the host has no GPU that works. Supported backends: opencl, eigenavx2, eigen"),
        ("amd", "trt", "the host has a GPU by amd. Supported backends: opencl"),
    ],
)
def test_unsupported_backend_is_refused(vendor: str | None, backend: str, text: str) -> None:
    facts = host() | {"gpu_vendor": vendor}
    (problem,) = preflight.host_problems(facts, network_bytes=4 << 20, backend=backend)
    assert text in problem


@pytest.mark.parametrize(
    ("vendor", "backend"), [("nvidia", "trt"), ("nvidia", "eigen"), ("amd", "opencl"), (None, "eigenavx2")]
)
def test_supported_backend_is_accepted(vendor: str | None, backend: str) -> None:
    facts = host() | {"gpu_vendor": vendor}
    assert preflight.host_problems(facts, network_bytes=4 << 20, backend=backend) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"token": "changeme-changeme-changeme"}, "is a placeholder"),
        ({"token": "<insert token here please>"}, "is a placeholder"),
        ({"token": "aaaaaaaaaaaaaaaaaaaaaaaaaaaa"}, "is a placeholder"),
        ({"token": "q7Zk2mVx9"}, "has 9 characters"),
        ({"token": f"{TOKEN} {TOKEN}"}, "cannot carry"),
        ({"token": None}, "token is missing"),
        ({"scopes": ["root"]}, "one or more of: analyze, admin"),
        ({"scopes": []}, "one or more of: analyze, admin"),
        ({"name": ""}, "name must be 1 to 64"),
        ({"name": "Anna's laptop"}, "name must be 1 to 64"),
        ({"expires": "never"}, "unknown key 'expires'"),
    ],
)
def test_invalid_token_is_reported_by_its_place_and_never_shown(change: dict[str, Any], text: str) -> None:
    changed = settings()
    changed["katago_mcp_tokens"] = [{**changed["katago_mcp_tokens"][0], **change}]
    (problem,) = preflight.input_problems(changed)
    assert text in problem
    assert "katago_mcp_tokens[0]" in problem
    assert str(change.get("token")) not in problem


def test_two_tokens_of_one_name_are_refused() -> None:
    changed = settings()
    changed["katago_mcp_tokens"] *= 2
    assert "is used twice" in preflight.input_problems(changed)[0]


def test_loopback_needs_no_token_and_no_names() -> None:
    changed = settings() | {
        "katago_mcp_listen_address": "127.0.0.1",
        "katago_mcp_tokens": [],
        "katago_mcp_allowed_hosts": [],
        "katago_mcp_allowed_clients": ["localhost"],
    }
    assert preflight.input_problems(changed) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"os": {"id": "debian", "version": "11"}}, "debian 11; tested: Debian 12 and 13"),
        ({"architecture": "aarch64"}, "aarch64"),
        ({"python": [3, 10, 1]}, "3.10.1"),
        ({"systemd": 0}, "version 0"),
        ({"memory_mb": 300}, "300 MB of memory"),
        ({"disk_free_mb": {"/opt": 100, "/var": 5000}}, "/opt has 100 MB free"),
        ({"disk_free_mb": {"/opt": 5000, "/var": 10}}, "/var has 10 MB free"),
        (
            {"disk_obstacles": ["/opt cannot be written: no"]},
            "/opt cannot be written: no. Repair the disk first.",
        ),
        (
            {"closed_directories": ["/opt has mode 0750 and belongs to user 0"]},
            "cannot reach its files below it. Run on the host: chmod o+x /opt",
        ),
        (
            {"listeners": [{"address": "10.1.1.1", "port": 8080, "error": "Cannot assign"}]},
            "10.1.1.1 port 8080 cannot be bound on the host: Cannot assign",
        ),
    ],
)
def test_unsuitable_host_is_refused_with_the_measured_value(change: dict[str, Any], text: str) -> None:
    (problem,) = preflight.host_problems(host() | change, network_bytes=4 << 20)
    assert text in problem


UBUNTU = {
    "id": "ubuntu",
    "version": "24.04",
    "codename": "noble",
    "name": "Ubuntu 24.04.3 LTS",
    "like": ["debian"],
}


def test_untested_system_is_refused_unless_it_is_accepted() -> None:
    ubuntu = host() | {"os": UBUNTU, "python": [3, 12, 3], "systemd": 255}
    (problem,) = preflight.host_problems(ubuntu, network_bytes=4 << 20)
    assert problem == (
        "The host runs Ubuntu 24.04.3 LTS (ubuntu 24.04); tested: Debian 12 and 13. To use it anyway,"
        " with a warning in every report: preflight_untested_system: true"
    )
    assert preflight.host_problems(ubuntu, network_bytes=4 << 20, untested=True) == []
    assert preflight.system_warnings(ubuntu) == [
        "untested system: Ubuntu 24.04.3 LTS (ubuntu 24.04); tested: Debian 12 and 13"
    ]
    assert preflight.system_warnings(host()) == []


def test_system_without_apt_is_refused_even_if_untested_systems_are_accepted() -> None:
    fedora = host() | {"os": {"id": "fedora", "version": "43"}}
    (problem,) = preflight.system_problems(fedora, untested=True)
    assert "The roles need APT" in problem


def test_accepted_untested_system_still_needs_python_and_systemd() -> None:
    bullseye = host() | {"os": {"id": "debian", "version": "11"}, "python": [3, 9, 2], "systemd": 247}
    problems = list(preflight.system_problems(bullseye, untested=True))
    assert [text in problem for text, problem in zip(("3.9.2", "247"), problems, strict=True)] == [
        True,
        True,
    ]


def test_host_with_engine_and_network_needs_disk_space_only_for_a_release() -> None:
    small = host() | {"disk_free_mb": {"/opt": 300, "/var": 5000}}
    assert preflight.host_problems(small | {"lacks": []}, network_bytes=40 << 20) == []
    assert len(preflight.host_problems(small, network_bytes=40 << 20)) == 1


def test_network_trained_on_human_games_counts_for_disk_and_memory() -> None:
    lacking = host() | {"lacks": ["human_network"], "disk_free_mb": {"/opt": 300, "/var": 5000}}
    assert preflight.host_problems(lacking, network_bytes=4 << 20) == []
    (problem,) = preflight.host_problems(lacking, network_bytes=4 << 20, human_network_bytes=100 << 20)
    assert problem.startswith("/opt has 300 MB free")
    tight = host() | {"memory_mb": sizing.memory_needed_mb(4 << 20)}
    assert preflight.host_problems(tight, network_bytes=4 << 20) == []
    assert len(preflight.host_problems(tight, network_bytes=4 << 20, human_network_bytes=100 << 20)) == 1


def test_every_problem_is_reported_at_once() -> None:
    changed = settings() | {"katago_mcp_port": 80, "katago_mcp_listen_address": "here"}
    assert len(preflight.input_problems(changed)) == 2


@given(st.integers(0, 2**256 - 1))
def test_random_tokens_are_no_placeholders(number: int) -> None:
    token = base64.b64encode(number.to_bytes(32, "big")).decode()
    changed = settings()
    changed["katago_mcp_tokens"][0]["token"] = token
    expected = [] if len(set(token)) >= 8 else ["katago_mcp_tokens[0].token"]
    assert [problem.split(" ")[0] for problem in preflight.input_problems(changed)] == expected


LOST = {
    "directive": "LoadCredential",
    "setting": "LoadCredential=",
    "source": "/run/systemd/system/service.d/zzz-lxc-service.conf",
}
WEAKER = {**LOST, "directive": "NoNewPrivileges", "setting": "NoNewPrivileges=no"}


def test_drop_in_that_takes_the_credentials_away_is_refused_by_name() -> None:
    facts = {**host(), "weaknesses": [LOST, WEAKER]}
    (problem,) = preflight.host_problems(facts, network_bytes=4 << 20, credentials=True)
    assert problem.startswith(f"{LOST['source']} sets LoadCredential=")
    assert "katago-.service.d/zzz-lxc-service.conf" in problem


def test_service_without_credentials_is_deployed_in_spite_of_the_drop_in() -> None:
    assert preflight.host_problems({**host(), "weaknesses": [LOST]}, network_bytes=4 << 20) == []


def test_drop_in_that_weakens_the_sandbox_is_a_warning() -> None:
    facts = {**host(), "weaknesses": [WEAKER]}
    assert preflight.host_problems(facts, network_bytes=4 << 20, credentials=True) == []
    (warning,) = preflight.system_warnings(facts)
    assert warning.startswith(f"{LOST['source']} weakens the sandbox")
    assert "NoNewPrivileges=no" in warning


def test_masked_unit_is_refused() -> None:
    facts = {**host(), "masked": "/etc/systemd/system/katago-mcp.service"}
    (problem,) = preflight.host_problems(facts, network_bytes=4 << 20)
    assert "masked by /etc/systemd/system/katago-mcp.service" in problem
    assert "systemctl unmask" in problem
