"""The configuration: accepted values, and errors about others."""

import json
import tomllib
from pathlib import Path

import pytest

import katago_mcp
from katago_mcp.config import ConfigError, is_loopback, load
from support import Site


def problems(site: Site, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(site.path, environ)
    return caught.value.problems


def test_the_version_is_the_one_of_the_package() -> None:
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    assert tomllib.loads(pyproject.read_text())["project"]["version"] == katago_mcp.__version__


def test_defaults_fill_what_the_file_leaves_out(site: Site) -> None:
    loaded = load(site.path, {})
    assert loaded.config.server.host == "127.0.0.1"
    assert loaded.config.katago.max_visits == 1000


def test_relative_paths_start_at_the_real_directory_of_the_file(site: Site, tmp_path: Path) -> None:
    release = tmp_path / "releases" / "1.0-abc"
    release.mkdir(parents=True)
    (release / "manifest.json").write_text("{}")
    (release / "config.json").write_text(json.dumps(site.document))
    link = tmp_path / "etc-config.json"
    link.symlink_to(release / "config.json")
    loaded = load(link, {})
    assert loaded.config.katago.config_path == release / site.engine_config.name
    assert loaded.config.cache.directory == release / "cache"
    assert loaded.release == "1.0-abc"


def test_without_a_manifest_there_is_no_release(site: Site) -> None:
    assert load(site.path, {}).release is None


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [
        ("katago", "maxVisit", "'maxVisits'"),
        ("katago", "max_visits", "'maxVisits'"),
        ("katago", "modelpath", "'modelPath'"),
        ("rateLimit", "requestsPerMin", "'requestsPerMinute'"),
    ],
)
def test_error_about_an_unknown_key_suggests_the_nearest(
    site: Site, section: str, key: str, nearest: str
) -> None:
    site.write(**{section: {key: 1}})
    (problem,) = problems(site)
    assert problem.startswith(f"{section}.{key}: unknown key: did you mean {nearest}")


def test_error_about_an_unknown_section_suggests_the_nearest(site: Site) -> None:
    site.write(ratelimit={"enabled": True})
    assert "did you mean 'rateLimit'" in problems(site)[0]


def test_the_value_of_an_unknown_key_is_not_repeated(site: Site) -> None:
    site.write(auth={"token": "a-secret-in-the-wrong-place"})
    assert "a-secret" not in " ".join(problems(site))


def test_all_problems_are_reported_together(site: Site) -> None:
    site.write(server={"port": 0}, katago={"maxTime": -1, "speed": 1}, cache={"enabled": "yes"})
    keys = {problem.split(":")[0] for problem in problems(site)}
    assert keys == {"server.port", "katago.maxTime", "katago.speed", "cache.enabled"}


def test_a_missing_key_is_named(site: Site) -> None:
    del site.document["katago"]["modelPath"]
    site.write()
    assert problems(site) == ("katago.modelPath: is required but missing: add it to the configuration",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is not valid JSON, line 1"),
        ("[]", "must contain a JSON object"),
        ('{"server": {"port": NaN}}', "NaN is not valid JSON"),
        ('{"server": {}, "server": {}}', "'server' occurs twice"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_error_about_an_invalid_file_gives_the_reason(site: Site, text: str, expected: str) -> None:
    site.path.write_text(text)
    (problem,) = problems(site)
    assert expected in problem


def test_bytes_that_are_not_utf8_are_explained(site: Site) -> None:
    site.path.write_bytes(b'{"server": "\xff"}')
    assert "byte 12 is not valid UTF-8" in problems(site)[0]


def test_a_missing_file_is_explained(site: Site) -> None:
    site.path.unlink()
    assert "cannot be read (No such file or directory)" in problems(site)[0]


def test_the_environment_overrides_the_file(site: Site) -> None:
    environ = {
        "KATAGO_SERVER_PORT": "9999",
        "KATAGO_KATAGO_MAX_VISITS": "321",
        "KATAGO_KATAGO_MAX_TIME": "1.5",
        "KATAGO_SERVER_ALLOWED_HOSTS": "a.example, b.example:*",
        "KATAGO_CACHE_ENABLED": "false",
        "KATAGO_RATE_LIMIT_REQUESTS_PER_MINUTE": "7",
        "KATAGO_KATAGO_DEFAULT_VISITS": "10",
    }
    config = load(site.path, environ).config
    assert config.server.port == 9999
    assert config.katago.max_visits == 321
    assert config.katago.max_time == 1.5
    assert config.server.allowed_hosts == ["a.example", "b.example:*"]
    assert config.cache.enabled is False
    assert config.rate_limit.requests_per_minute == 7


def test_error_about_an_unknown_variable_suggests_the_nearest(site: Site) -> None:
    (problem,) = problems(site, KATAGO_SERVER_PROT="1")
    assert problem.endswith("did you mean KATAGO_SERVER_PORT?")


def test_variable_of_no_section_is_ignored(site: Site) -> None:
    load(site.path, {"KATAGO_TEST_BINARY": "/x", "KATAGO_HOME": "/y"})


def test_error_about_an_invalid_variable_names_its_key(site: Site) -> None:
    (problem,) = problems(site, KATAGO_SERVER_PORT="many")
    assert problem.startswith("server.port: 'many' is not accepted")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "go.example.org"])
def test_non_loopback_address_needs_tokens(site: Site, host: str) -> None:
    site.write(server={"host": host})
    assert problems(site)[0].startswith(f"server.host: {host!r} is not a loopback address")


def test_the_credential_of_systemd_counts_as_tokens(site: Site, tmp_path: Path) -> None:
    site.write(server={"host": "0.0.0.0"})
    (tmp_path / "tokens.json").write_text("{}")
    loaded = load(site.path, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert loaded.tokens_file == tmp_path / "tokens.json"


@pytest.mark.parametrize("entry", ["*", "*:*", "*.example.org", "http://a", "a/b", "", "a:*:*"])
def test_hosts_must_be_explicit(site: Site, entry: str) -> None:
    site.write(server={"allowedHosts": [entry]})
    assert problems(site)[0].startswith(f"server.allowedHosts: {entry!r} is not accepted")


@pytest.mark.parametrize("entry", ["a.example", "a.example:*", "a.example:8080", "[2001:db8::1]:*"])
def test_hosts_may_carry_any_port(site: Site, entry: str) -> None:
    site.write(server={"allowedHosts": [entry]})
    load(site.path, {})


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"katago": {"defaultVisits": 2000}}, "katago.defaultVisits"),
        ({"katago": {"restartBackoffSeconds": 100}}, "katago.restartBackoffSeconds"),
        ({"server": {"maxSessions": 63}}, "server.maxSessionsPerToken"),
    ],
)
def test_values_that_contradict_each_other_are_named(
    site: Site, sections: dict[str, dict[str, object]], key: str
) -> None:
    site.write(**sections)
    assert problems(site)[0].startswith(f"{key}: ")


def test_both_ports_must_differ(site: Site) -> None:
    site.write(metrics={"port": site.port})
    assert problems(site)[0].startswith("metrics.port: ")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_loopback_addresses_are_recognised(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
