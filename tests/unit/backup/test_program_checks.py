"""Programs check what no checksum covers; a check that does not answer gives `unknown`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import program_checks, survey
from ansible_collections.katago.fleet.plugins.module_utils.common import redaction
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    cache,
    config_check,
    host_secrets,
    journal,
)

# Prints the verdict that the test wrote into the configuration; fails without the unit's credentials.
COMMAND = """#!/bin/sh
test "$1 $2 $3 $4" = "validate --no-engine --json --config" || exit 64
test -e "$CREDENTIALS_DIRECTORY/tls.key" || exit 65
cat "$5"
! grep -q '"ok": false' "$5"
"""


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> release_layout.Layout:
    """A host with a release whose command prints the configuration as its verdict."""
    root = tmp_path / "katago-mcp"
    command = root / "releases" / "r" / "venv" / "bin" / "katago-mcp"
    command.parent.mkdir(parents=True)
    command.write_text(COMMAND)
    command.chmod(0o755)
    key = tmp_path / "key"
    key.touch()
    (root / "releases" / "r" / paths.SERVICE_UNIT).write_text(f"[Service]\nLoadCredential=tls.key:{key}\n")
    (root / "current").symlink_to("releases/r")
    monkeypatch.setattr(paths, "CONFIG", tmp_path / "config.json")
    monkeypatch.setattr(paths, "STATE", tmp_path)
    monkeypatch.setattr(host_secrets, "in_files", lambda _root: [])
    monkeypatch.setattr(host_secrets, "unit_processes", lambda _proc: [])
    return release_layout.Layout(root)


def check(layout: release_layout.Layout) -> Iterator[survey.Finding]:
    return program_checks.check_configuration(layout, paths.CONFIG, paths.STATE)


def write_verdict(*checks: tuple[str, bool, str]) -> None:
    report = [{"name": name, "ok": ok, "message": message} for name, ok, message in checks]
    paths.CONFIG.write_text(json.dumps({"ok": all(ok for _, ok, _ in checks), "checks": report}))


def test_valid_configuration_is_whole(layout: release_layout.Layout) -> None:
    write_verdict(("schema", True, ""))
    (finding,) = check(layout)
    assert (finding.item, finding.condition, finding.path) == ("schema", "whole", str(paths.CONFIG))


def test_invalid_configuration_is_damaged_and_the_releases_reasons_are_quoted(
    layout: release_layout.Layout,
) -> None:
    write_verdict(
        ("schema", False, "server.pork is no field"), ("network", True, ""), ("tls", False, "no certificate")
    )
    (finding,) = check(layout)
    assert finding.condition == "damaged"
    assert finding.message.endswith(
        "is not valid for the current release: server.pork is no field; no certificate"
    )


def test_secret_in_the_wrong_place_of_a_configuration_is_not_printed(
    layout: release_layout.Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = redaction.Secret(b"canary-Zq8xWv3k", "operator.token")
    monkeypatch.setattr(host_secrets, "in_files", lambda _root: [secret])
    monkeypatch.setattr(host_secrets, "unit_processes", lambda _proc: [])
    write_verdict(("schema", False, "server.port is 'canary-Zq8xWv3k'; give a number"))
    (finding,) = check(layout)
    assert "canary" not in finding.message
    assert "server.port is '[redacted" in finding.message

    def unknown(_root: Path) -> list[redaction.Secret]:
        raise host_secrets.ConfidentialError("the key cannot be read")

    monkeypatch.setattr(host_secrets, "in_files", unknown)
    (finding,) = check(layout)
    assert "canary" not in finding.message
    assert "the key cannot be read" in finding.message


def test_configuration_is_unknown_if_the_release_does_not_answer(
    layout: release_layout.Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("", "{}", "[]", '{"checks": [1], "ok": true}'):
        paths.CONFIG.write_text(text)
        (finding,) = check(layout)
        assert finding.condition == "unknown", text
    command = layout.current / "venv" / "bin" / "katago-mcp"
    command.write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(program_checks, "_SECONDS", 0.2)
    (finding,) = check(layout)
    assert finding.condition == "unknown"
    command.unlink()
    (finding,) = check(layout)
    assert finding.condition == "unknown"


def test_bare_host_has_no_configuration_to_check(tmp_path: Path) -> None:
    assert list(check(release_layout.Layout(tmp_path))) == []


def test_read_only_state_does_not_make_the_configuration_damaged(
    layout: release_layout.Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_verdict(("home_data_dir", False, "cannot be written"))
    assert config_check.checked(layout, paths.CONFIG, paths.STATE)["ok"] is False
    monkeypatch.setattr(config_check, "_is_read_only", lambda _path: True)
    assert config_check.checked(layout, paths.CONFIG, paths.STATE) == {"ok": True, "problems": []}


def test_cache_condition_comes_from_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = tmp_path / "answers.sqlite3"
    assert list(program_checks.check_cache(answers)) == []
    answers.touch()
    reports = {
        "whole": cache.Report(ok=True, entries=3, bytes=9, problems=[]),
        "damaged": cache.Report(ok=False, entries=3, bytes=9, problems=["page 7 is torn"]),
    }
    for condition, report in reports.items():
        monkeypatch.setattr(cache, "verified", lambda *_, report=report: report)
        (finding,) = program_checks.check_cache(answers)
        assert finding.condition == condition
    assert finding.message == f"{answers}: page 7 is torn"


def test_damaged_and_unverified_journal_files_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    verification = journal.Verification(whole=2)
    monkeypatch.setattr(journal, "verified", lambda *_: verification)
    assert [finding.condition for finding in program_checks.check_journal(paths.JOURNALS)] == ["whole"]
    verification.damaged["/var/log/journal/m/system.journal"] = "5616: Invalid hash"
    verification.left = 1
    damaged, unknown = program_checks.check_journal(paths.JOURNALS)
    assert (damaged.item, damaged.path) == ("journal", "/var/log/journal/m/system.journal")
    assert damaged.message == f"{damaged.path} is damaged: 5616: Invalid hash"
    assert unknown.condition == "unknown"
    assert unknown.message.startswith("1 journal files were not verified within")
    verification.damaged.clear()
    verification.whole = verification.left = 0
    assert list(program_checks.check_journal(paths.JOURNALS)) == []


def test_journal_that_cannot_be_verified_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "system.journal").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = program_checks.check_journal([tmp_path])
    assert finding.condition == "unknown"
    assert finding.message.startswith("the journal cannot be verified: ")
    assert "journalctl" in finding.message
