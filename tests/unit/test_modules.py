"""What the modules decide on a host, apart from doing it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, transient_unit
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity, history, layout, pruning
from ansible_collections.katago.fleet.plugins.module_utils.release import links as release_links
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    credential_files,
    credentials,
    http,
    restart,
    switch,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit
from ansible_collections.katago.fleet.plugins.modules import (
    engine,
    engine_tuning,
    release_build,
    release_trial,
)

SCRIPT = "#!/bin/sh\necho 'KataGo v1.18.1'\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A plain executable that says that it is KataGo 1.18.1."""
    path = tmp_path / "source"
    path.write_text(SCRIPT)
    return path


def test_engine_is_installed_whole_and_sealed(source: Path, tmp_path: Path) -> None:
    directory = tmp_path / "engines" / "abc"
    engine.install(source, digest.of_file(source), "1.18.1", directory)
    assert engine.tree_digest(directory) == digest.of_path(directory)
    assert engine.binary(directory).stat().st_mode & 0o777 == 0o755
    assert [path.name for path in directory.parent.iterdir()] == ["abc"]


def test_engine_in_use_is_left_when_its_successor_is_refused(source: Path, tmp_path: Path) -> None:
    directory = tmp_path / "engines" / "abc"
    engine.install(source, digest.of_file(source), "1.18.1", directory)
    engine.binary(directory).write_text("damaged")
    for sha256, version in (("0" * 64, "1.18.1"), (digest.of_file(source), "1.17.0")):
        with pytest.raises(engine.EngineError):
            engine.install(source, sha256, version, directory)
        assert engine.binary(directory).read_text() == "damaged"
    assert [path.name for path in directory.parent.iterdir()] == ["abc"]


def test_damaged_engine_is_not_present(source: Path, tmp_path: Path) -> None:
    directory = tmp_path / "engines" / "abc"
    engine.install(source, digest.of_file(source), "1.18.1", directory)
    engine.binary(directory).write_text("damaged")
    assert engine.tree_digest(directory) == ""
    assert engine.tree_digest(tmp_path / "nowhere") == ""


def test_appimage_is_recognized_by_its_magic(tmp_path: Path) -> None:
    for content, expected in ((b"\x7fELF\x02\x01\x01\x00AI\x02", True), (b"#!/bin/sh", False)):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert engine.is_appimage(path) is expected


def test_current_is_the_last_link_of_a_switch() -> None:
    links = release_links.of_host(layout.Layout(Path("/opt/katago-mcp")), "0.1.0-aa")
    assert list(links.items())[-1] == (Path("/opt/katago-mcp/current"), "releases/0.1.0-aa")
    through = [target for path, target in links.items() if path != Path("/opt/katago-mcp/current")]
    assert all(target.startswith("/opt/katago-mcp/current/") for target in through)


def test_tokens_file_has_the_hosts_own_token_hashed() -> None:
    given = [{"name": "anna", "scopes": ["analyze"], "sha256": "aa"}]
    content = credential_files.tokens_file(given, "op-token-itself")
    assert [entry["name"] for entry in json.loads(content)["tokens"]] == ["anna", "operator"]
    assert "op-token-itself" not in content


@pytest.mark.parametrize(
    ("available", "gpu", "words"),
    [(999, None, "999 MB of memory"), (1000, None, None), (1000, 999, "GPU memory"), (1000, 1000, None)],
)
def test_second_engine_is_deferred_where_it_would_endanger_the_first(
    available: int, gpu: int | None, words: str | None
) -> None:
    reason = capacity.shortage(1000, available, gpu)
    assert (reason is None) == (words is None)
    assert words is None or words in str(reason)


def test_assets_that_a_release_depends_on_are_not_pruned(tmp_path: Path) -> None:
    a, b, c, d = (letter * 64 for letter in "abcd")
    for name in (f"engines/{a}", f"engines/{b}", f"networks/{c}", f"networks/{d}", "engines/notes"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "engines" / ("e" * 64)).write_text("a file")
    dependencies = {tmp_path / "engines" / a, tmp_path / "networks" / c / "net.bin.gz"}
    assert [path.name for path in pruning.unreferenced(tmp_path, dependencies)] == [b, d]


def test_unfinished_builds_are_pruned_and_damaged_releases_are_kept(tmp_path: Path) -> None:
    for name in ("0.1.0-aa", "0.1.0-bb", ".damaged-0.1.0-cc"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    (tmp_path / "releases" / "0.1.0-aa" / layout.MANIFEST).write_text("{}")
    found = pruning.unfinished(layout.Layout(tmp_path))
    assert [path.name for path in found] == ["0.1.0-bb"]


def test_damaged_tuning_result_is_replaced(tmp_path: Path) -> None:
    path, new = engine_tuning.install("result", tmp_path)
    assert (path.read_text(), new, engine_tuning.is_whole(path)) == ("result", True, True)
    assert engine_tuning.install("result", tmp_path) == (path, False)
    path.write_text("damaged")
    assert not engine_tuning.is_whole(path)
    assert engine_tuning.install("result", tmp_path) == (path, True)


def test_only_a_complete_release_is_moved_aside(tmp_path: Path) -> None:
    directory = tmp_path / "0.1.0-aa"
    directory.mkdir()
    assert release_build.set_aside(directory) is None
    (directory / layout.MANIFEST).write_text("{}")
    aside = release_build.set_aside(directory)
    assert aside is not None
    assert aside.name.startswith(".damaged-0.1.0-aa-")
    assert not directory.exists()


@pytest.mark.parametrize("damage", ["no manifest", "a file", "a broken link"])
def test_release_in_use_is_moved_aside_whatever_its_damage(tmp_path: Path, damage: str) -> None:
    """The running service still uses its files, and a failed build must give them back."""
    directory = tmp_path / "0.1.0-aa"
    if damage == "no manifest":
        directory.mkdir()
        (directory / "config.json").write_text("{")
    elif damage == "a file":
        directory.write_text("")
    else:
        directory.symlink_to("nowhere")
    aside = release_build.set_aside(directory, in_use=True)
    assert aside is not None
    assert os.path.lexists(aside)
    assert not os.path.lexists(directory)
    assert release_build.set_aside(directory, in_use=True) is None


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff" * 40, b"short", b"two words of one damaged file \x00 of tokens"]
)
def test_damaged_token_of_the_host_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "operator.token"
    assert credential_files.present_token(path) is None
    path.write_bytes(content)
    assert credential_files.present_token(path) is None
    path.write_text("k" * 43 + "\n")
    assert credential_files.present_token(path) == "k" * 43


def test_file_that_is_no_text_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_bytes(b"\xff{")
    path.chmod(0o640)
    assert not credential_files.Kept("hashes", 0o640, os.getegid()).lies_at(path)


def test_file_in_the_place_of_a_link_is_kept_when_a_release_is_switched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, current = tmp_path / "etc" / "config.json", tmp_path / "current"
    config.parent.mkdir()
    config.write_text("by hand")
    current.mkdir()
    (current / "copied").write_text("by hand")
    targets = {config: str(current / "config.json"), current: "releases/0.1.0-aa"}
    monkeypatch.setattr(release_links, "of_host", lambda _, release: targets)
    record = history.Record("2026-01-01T00:00:00Z", "anna", "0.1.0-aa", None, "test")
    assert switch.switch(layout.Layout(tmp_path), record, tmp_path / "history.jsonl")
    assert release_links.damage(targets) == []
    (kept,) = config.parent.glob(".replaced-config.json-*")
    assert kept.read_text() == "by hand"
    (kept,) = tmp_path.glob(".replaced-current-*")
    assert (kept / "copied").read_text() == "by hand"


def test_unit_file_names_the_credentials_of_the_service() -> None:
    unit = "User=katago-mcp\nLoadCredential=tokens.json:/etc/t\nLoadCredential=tls.key:/etc/k\n"
    assert credentials.in_unit(unit) == {"tokens.json": Path("/etc/t"), "tls.key": Path("/etc/k")}


@pytest.mark.parametrize(
    ("unit", "loaded", "reasons"),
    [
        ("LoadCredential=tls.crt:{}\n", b"new", []),
        ("LoadCredential=tls.crt:{}\n", b"old", ["its tls.crt differs from the one on disk"]),
        ("LoadCredential=tls.crt:{}\n", None, ["its tls.crt differs from the one on disk"]),
        ("", None, []),
        # An earlier release, which a rollback may lead to, gets its tokens from systemd.
        ("LoadCredential=tokens.json:{}\n", b"old", ["its tokens.json differs from the one on disk"]),
    ],
)
def test_service_with_outdated_credentials_is_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, loaded: bytes | None, reasons: list[str]
) -> None:
    (tmp_path / "tls.crt").write_text("new")
    monkeypatch.setattr(service_unit, "state", lambda: service_unit.State("active", 7))
    monkeypatch.setattr(service_unit, "running_release", lambda pid: "0.1.0-aa")
    monkeypatch.setattr(credentials, "loaded", lambda pid, name: loaded)
    assert restart.reasons("0.1.0-aa", unit.format(tmp_path / "tls.crt")) == reasons


def kept(certificate: str = "", group: int = 0) -> dict[Path, credential_files.Kept]:
    return credential_files.files(
        paths.CREDENTIALS, "hashes", "own-token", "a session key", certificate, "a key", group
    )


def test_secrets_are_for_root_alone_hashes_for_the_service_too_and_the_certificate_for_all() -> None:
    own = os.getegid()
    assert kept("a certificate", 77) == {
        Path("/etc/katago-mcp/credentials/operator.token"): credential_files.Kept("own-token\n", 0o600, own),
        Path("/etc/katago-mcp/credentials/tokens.json"): credential_files.Kept("hashes", 0o640, 77),
        Path("/etc/katago-mcp/credentials/session.key"): credential_files.Kept("a session key\n", 0o640, 77),
        Path("/etc/katago-mcp/credentials/tls.key"): credential_files.Kept("a key", 0o600, own),
        paths.PINNED_CERTIFICATE: credential_files.Kept("a certificate", 0o644, own),
    }
    assert [path.name for path in kept()] == ["operator.token", "tokens.json", "session.key"]


def test_password_of_the_shared_cache_is_for_the_service_and_its_certificate_for_all() -> None:
    files = credential_files.files(
        *(paths.CREDENTIALS, "hashes", "own-token", "a session key", "", "", 77),
        shared_cache_password="a password",
        shared_cache_ca="a certificate",
    )
    path = Path("/etc/katago-mcp/credentials/shared-cache.password")
    assert files[path] == credential_files.Kept("a password\n", 0o640, 77)
    path = Path("/etc/katago-mcp/shared-cache.crt")
    assert files[path] == credential_files.Kept("a certificate", 0o644, os.getegid())


def test_host_keeps_its_own_session_key(tmp_path: Path) -> None:
    path = tmp_path / "session.key"
    key = credential_files.own_session_key(path)
    assert len(key) == 64
    path.write_text(f"{key}\n")
    assert credential_files.own_session_key(path) == key
    path.write_text("damaged\n")
    assert credential_files.own_session_key(path) not in ("damaged", key)


def test_file_of_another_content_mode_or_group_is_replaced(tmp_path: Path) -> None:
    path, own = tmp_path / "tokens.json", os.getegid()
    wanted = credential_files.Kept("hashes", 0o640, own)
    assert not wanted.lies_at(path)
    wanted.write(path)
    assert (wanted.lies_at(path), path.read_text()) == (True, "hashes")
    assert not credential_files.Kept("others", 0o640, own).lies_at(path)
    assert not credential_files.Kept("hashes", 0o640, own + 1).lies_at(path)
    path.chmod(0o600)
    assert not wanted.lies_at(path)


def test_service_cannot_list_the_directory_of_its_tokens(tmp_path: Path) -> None:
    credentials.open_directory(tmp_path, os.getegid())
    assert credential_files.is_access(tmp_path, 0o710, os.getegid())


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"auth": {"tokensFile": "/etc/t"}}, Path("/etc/t")),
        ({"auth": {"tokensFile": None}}, None),
        ({"auth": "damaged"}, None),
        ({}, None),
    ],
)
def test_configuration_names_the_tokens_file(config: dict[str, Any], path: Path | None) -> None:
    assert credentials.tokens_file(config) == path


def test_trial_gets_the_credentials_that_the_service_will_have() -> None:
    parameters = {"tokens": [], "certificate": "c", "key": "k", "sandbox": {}, "user": "u", "deadline": 1}
    command = release_trial.command(parameters, Path("/opt/r"), engine=False)
    assert [line for line in command if "Credential" in line] == [
        "--property=LoadCredential=tls.crt:/run/katago-mcp-trial/tls.crt",
        "--property=LoadCredential=tls.key:/run/katago-mcp-trial/tls.key",
    ]


def test_trial_uses_the_new_tokens_and_not_those_of_the_running_service() -> None:
    given = [{"name": "anna", "scopes": ["analyze"], "sha256": "aa"}]
    parameters = {"tokens": given, "certificate": "", "key": "", "sandbox": {}, "user": "u", "deadline": 1}
    command = release_trial.command(parameters, Path("/opt/r"), engine=False)
    assert "--property=LoadCredential=tokens.json:/run/katago-mcp-trial/tokens.json" in command
    assert "--property=Environment=KATAGO_AUTH_TOKENS_FILE=" in command


def test_trial_has_the_environment_of_the_services_sandbox() -> None:
    sandbox = {"Environment": ["RUSTICL_ENABLE=iris"]}
    parameters = {"tokens": [], "certificate": "", "key": "", "sandbox": sandbox, "user": "u", "deadline": 1}
    command = release_trial.command(parameters, Path("/opt/r"), engine=True)
    assert "--property=Environment=RUSTICL_ENABLE=iris" in command


def trial_run(
    output: str, *, status: int = 0, log: str = "", stopped: str | None = None
) -> transient_unit.Run:
    return transient_unit.Run(status, output, log, f"it ended with status {status}", stopped)


GOOD = '{"ok": true, "checks": [{"name": "engine", "ok": true, "message": "is ready"}]}'
BAD = '{"ok": false, "checks": [{"name": "engine", "ok": false, "message": "did not start"}]}'


@pytest.mark.parametrize(
    ("tried", "problem"),
    [
        (trial_run(BAD, status=1), "- engine: did not start"),
        (trial_run("", status=9), "- validation: it ended with status 9. It wrote nothing."),
        (
            trial_run("", log="no_such_module\n", status=1),
            "- validation: it ended with status 1. Last log lines: no_",
        ),
        (
            trial_run("", stopped="it was stopped after 5 s"),
            "- validation: it was stopped after 5 s. It wrote nothing.",
        ),
        (trial_run("[]", status=1), "- validation: it ended with status 1. Last log lines: []"),
        (trial_run(GOOD, status=1), "- validation: it ended with status 1."),
        (trial_run('{"ok": false, "checks": []}', status=1), "- validation: it ended with status 1."),
    ],
)
def test_failed_trial_always_has_a_reason(tried: transient_unit.Run, problem: str) -> None:
    _, problems = release_trial.judged(tried)
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_trial_that_passed_has_no_problem() -> None:
    checks, problems = release_trial.judged(trial_run(GOOD))
    assert ([check["name"] for check in checks], problems) == (["engine"], [])


def test_secrets_in_the_words_of_a_trial_are_redacted() -> None:
    _, problems = release_trial.judged(trial_run("", status=1, log="password=canary-Zq8x\n"))
    assert "canary" not in problems[0]


@pytest.mark.parametrize(
    ("bound", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.3", "10.1.2.3")]
)
def test_bound_address_is_reached_from_the_host(bound: str, reached: str) -> None:
    assert http.reachable(bound) == reached


def test_process_tells_its_release_by_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "0.1.0-aa"
    directory.mkdir()
    monkeypatch.chdir(directory)
    assert service_unit.running_release(os.getpid()) == "0.1.0-aa"
    assert service_unit.running_release(0) is None
