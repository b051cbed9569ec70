"""The command line: exit statuses and output."""

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

import katago_mcp
from katago_mcp import validate as validation
from katago_mcp.cache import FILE, Cache
from katago_mcp.client import call
from katago_mcp.config import load
from katago_mcp.metrics import Metrics
from support import CLEAN_ENVIRON, Site


def validate(site: Site, *, engine: bool = True) -> dict[str, Any]:
    report = asyncio.run(validation.validate(site.path, CLEAN_ENVIRON, engine=engine))
    return report.as_json()


def checks(report: dict[str, Any]) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in report["checks"]}


def test_version_prints_version_and_release(site: Site) -> None:
    (site.directory / "manifest.json").write_text("{}")
    done = site.run("version", "--json", "--config", str(site.path))
    assert json.loads(done.stdout) == {
        "version": katago_mcp.__version__,
        "release": site.directory.name,
    }


@pytest.mark.parametrize("command", ["serve", "stdio"])
def test_each_configuration_problem_is_one_line_and_the_status_is_78(site: Site, command: str) -> None:
    site.write(server={"port": 0, "prot": 1}, logging={"level": "loud"})
    done = site.run(command, "--config", str(site.path))
    assert done.returncode == 78
    keys = sorted(line.split(":")[0] for line in done.stderr.splitlines())
    assert keys == ["logging.level", "server.port", "server.prot"]


def test_non_loopback_address_without_tokens_exits_with_status_78(site: Site) -> None:
    site.write(server={"host": "0.0.0.0"})
    done = site.run("serve", "--config", str(site.path))
    assert done.returncode == 78
    assert "no token is configured" in done.stderr


def test_invalid_tokens_file_exits_with_status_78(site: Site) -> None:
    (site.directory / "tokens.json").write_text('{"tokens": [{"name": "a"}]}')
    site.write(auth={"tokensFile": "tokens.json"})
    done = site.run("serve", "--config", str(site.path))
    assert done.returncode == 78
    assert "tokens.0.scopes: Field required" in done.stderr


def test_valid_configuration_passes(site: Site) -> None:
    done = site.run("validate", "--config", str(site.path), "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (0, True)
    assert report["engineVersion"] == "1.18.1"
    assert report["network"] == "fake-b1c1"
    assert checks(report) == dict.fromkeys(
        ["config", "binary", "network", "engine_config", "engine", "analysis"], True
    )


def test_validate_starts_a_small_engine(site: Site) -> None:
    validate(site)
    argv = site.records()[0]["argv"]
    overrides = argv[argv.index("-override-config") + 1]
    assert "nnCacheSizePowerOfTwo=12" in overrides
    assert "numAnalysisThreads=1" in overrides


def test_without_engine_only_configuration_and_files_are_checked(site: Site) -> None:
    report = validate(site, engine=False)
    assert report["ok"]
    assert "engine" not in checks(report)
    assert site.records() == []


def test_all_problems_of_the_configuration_are_in_one_check(site: Site) -> None:
    site.write(server={"port": 0, "prot": 1})
    done = site.run("validate", "--config", str(site.path), "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (1, False)
    (check,) = report["checks"]
    assert (check["name"], check["ok"]) == ("config", False)
    assert "server.port" in check["message"]
    assert "server.prot" in check["message"]


def test_a_missing_file_is_named_with_its_key(site: Site) -> None:
    (site.directory / "net.bin.gz").unlink()
    report = validate(site)
    assert not report["ok"]
    (failed,) = (check for check in report["checks"] if not check["ok"])
    assert failed["name"] == "network"
    assert failed["message"].startswith("katago.modelPath: ")


def test_configured_human_network_is_checked(site: Site) -> None:
    site.write(katago={"humanModelPath": "human.bin.gz"})
    report = validate(site)
    (failed,) = (check for check in report["checks"] if not check["ok"])
    assert failed["name"] == "human_network"
    assert failed["message"].startswith("katago.humanModelPath: ")


def test_error_names_a_binary_that_is_not_executable(site: Site) -> None:
    site.write(katago={"binaryPath": "net.bin.gz"})
    report = validate(site)
    assert checks(report)["binary"] is False


def test_message_about_a_failed_start_contains_the_reason_of_the_engine(site: Site) -> None:
    site.behave(start="missing")
    report = validate(site)
    assert not report["ok"]
    (failed,) = (check for check in report["checks"] if not check["ok"])
    assert failed["name"] == "engine"
    assert "Could not open file, does not exist: net.bin.gz" in failed["message"]


@pytest.mark.parametrize("how", ["odd", "die", "refuse", "garbage"])
def test_engine_that_cannot_analyse_fails_validation(site: Site, how: str) -> None:
    site.behave(analysis=how)
    report = validate(site)
    assert not report["ok"]
    assert checks(report)["engine"] is True
    assert checks(report)["analysis"] is False


def test_text_output_is_a_table(site: Site) -> None:
    done = site.run("validate", "--config", str(site.path), "--no-engine")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith("ok    config")
    assert done.stdout.splitlines()[-1].startswith("valid ")


@pytest.mark.parametrize(
    ("stdin", "expected"),
    [
        ("", "stdin: "),
        (b"\xff", "stdin: "),
        ("[]", "stdin: "),
        ("{}", "url: Field required"),
        ('{"url": "ftp://x"}', "url: "),
        ('{"url": "http://x", "deadline": 0}', "deadline: "),
        ('{"url": "http://x", "protocol": "1999"}', "protocol: "),
        ('{"url": "http://x", "calls": [{}]}', "calls.0.tool: Field required"),
    ],
)
def test_invalid_request_is_explained(stdin: str | bytes, expected: str) -> None:
    assert expected in asyncio.run(call(stdin))["error"]


def test_error_about_an_invalid_request_does_not_contain_the_token(site: Site) -> None:
    request = {"url": "http://x", "token": ["secret-token"], "calls": 1}
    done = site.run("call", stdin=json.dumps(request))
    assert done.returncode == 1
    assert done.stderr == ""
    assert "secret-token" not in done.stdout


@pytest.mark.parametrize("protocol", ["auto", "2025", "2026"])
def test_missing_server_is_reported(site: Site, protocol: str) -> None:
    report = site.call(("getEngineStatus", {}), protocol=protocol, token="secret-token")
    assert report["ok"] is False
    assert report["error"]
    assert "secret-token" not in json.dumps(report)


@pytest.mark.anyio
async def test_first_analysis_over_stdio_waits_for_the_engine(site: Site) -> None:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "katago_mcp.cli", "stdio", "--config", str(site.path)],
        env=CLEAN_ENVIRON,
    )
    site.behave(start="work", seconds=1)
    position = {"boardXSize": 9, "boardYSize": 9}
    async with Client(parameters) as client:
        status = await client.call_tool("getEngineStatus", {})
        analysis = await client.call_tool("analyzePosition", {"position": position, "maxVisits": 10})
    assert status.structured_content is not None
    assert status.structured_content["state"] == "starting"
    assert analysis.structured_content is not None
    assert analysis.structured_content.get("visits") == 10, analysis


def filled(site: Site) -> Path:
    """A cache with three answers, and the path of its file."""

    async def fill() -> None:
        settings = load(site.path, {}).config.cache
        cache = Cache(lambda: settings, Metrics("1", None))
        for name in ("a", "b", "c"):
            await cache.put(name, {"answer": name})
        await cache.close()

    asyncio.run(fill())
    return site.directory / "cache" / FILE


def cache_command(site: Site, act: str) -> tuple[int, dict[str, Any]]:
    done = site.run("cache", act, "--config", str(site.path), "--json")
    return done.returncode, json.loads(done.stdout)


def test_intact_cache_is_verified(site: Site) -> None:
    path = filled(site)
    status, report = cache_command(site, "verify")
    assert (status, report["ok"], report["entries"], report["problems"]) == (0, True, 3, [])
    assert report["file"] == str(path)
    assert report["bytes"] == 3 * len('{"answer":"a"}')


def test_missing_cache_is_intact(site: Site) -> None:
    assert cache_command(site, "verify")[0] == 0
    assert cache_command(site, "clear")[0] == 0
    assert not (site.directory / "cache").exists()


def test_cache_is_checked_without_tokens(site: Site) -> None:
    filled(site)
    site.write(server={"host": "0.0.0.0"}, tls={"enabled": True})
    assert site.run("validate", "--no-engine", "--config", str(site.path)).returncode != 0
    status, report = cache_command(site, "verify")
    assert (status, report["entries"]) == (0, 3)


def test_a_damaged_entry_is_counted(site: Site) -> None:
    with sqlite3.connect(filled(site)) as db:
        db.execute("UPDATE answers SET value = 'x' WHERE key = 'b'")
    status, report = cache_command(site, "verify")
    assert (status, report["ok"], report["damagedEntries"]) == (1, False, 1)


def test_expired_entry_is_counted_but_is_not_a_problem(site: Site) -> None:
    with sqlite3.connect(filled(site)) as db:
        db.execute("UPDATE answers SET created = 0 WHERE key = 'b'")
    status, report = cache_command(site, "verify")
    assert (status, report["expiredEntries"]) == (0, 1)


def test_file_that_is_not_a_database_is_quarantined_by_clear(site: Site) -> None:
    path = filled(site)
    path.write_bytes(b"not a database at all" * 300)
    status, report = cache_command(site, "verify")
    assert (status, report["ok"]) == (1, False)
    assert "file is not a database" in report["problems"][0]
    status, report = cache_command(site, "clear")
    assert status == 0
    assert report["quarantine"].startswith(f"{FILE}.damaged-")
    assert not path.exists()


def test_clear_reports_the_deleted_answers(site: Site) -> None:
    filled(site)
    status, report = cache_command(site, "clear")
    assert (status, report["before"]["entries"], report["after"]["entries"]) == (0, 3, 0)
    assert cache_command(site, "verify")[1]["entries"] == 0


def test_verify_and_clear_work_while_a_server_is_running(site: Site) -> None:
    with site.serving() as running:
        call = ("analyzePosition", {"position": {"moves": [["B", "G7"]]}})
        site.call(call)
        assert cache_command(site, "verify")[1]["entries"] == 1
        assert cache_command(site, "clear")[1]["before"]["entries"] == 1
        again = site.call(call)["results"][0]["structured"]
        assert again["cached"] is False
        assert running.metric("katago_cache_entries") == 1
        assert running.metric("katago_cache_errors_total") == 0


@pytest.mark.parametrize("act", ["verify", "clear"])
def test_cache_command_with_an_invalid_configuration_exits_with_status_78(site: Site, act: str) -> None:
    site.write(cache={"maxItems": 0})
    done = site.run("cache", act, "--config", str(site.path))
    assert done.returncode == 78
    assert done.stderr.startswith("cache.maxItems: ")


def test_text_output_about_the_cache_is_one_line(site: Site) -> None:
    filled(site)
    done = site.run("cache", "verify", "--config", str(site.path))
    assert done.stdout.startswith("ok  ")
    assert "3 answers" in done.stdout


def test_package_is_marked_as_typed() -> None:
    assert (Path(katago_mcp.__file__).parent / "py.typed").exists()


def test_validate_sends_a_request_under_every_allowed_name(site: Site) -> None:
    names = ["GO.example.org.", "katago.example:8443", "wild.example:*", "2001:db8::7"]
    site.write(server={"allowedHosts": names})
    done = site.run("validate", "--no-engine", "--json", "--config", str(site.path))
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["hosts"]["ok"], checks
    assert all(name in checks["hosts"]["message"] for name in names)
