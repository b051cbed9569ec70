"""The survey finds a changed byte anywhere, on a host and in a restored backup; merging loses no record."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.backup import survey as backup_survey
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import HistoryDigest
from ansible_collections.katago.fleet.plugins.module_utils.backup.survey import Survey
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.release import history, layout
from tests.unit.deploy.test_certificates import pair

VERSION = "0.1.0"


def record(number: int, **more: Any) -> str:
    fields = {"at": f"2026-01-01T00:00:{number:02}Z", "who": "anna", "release": f"r{number}", "why": "x"}
    return json.dumps({**fields, "previous": None, "verdict": None, **more})


class Fake:
    """An intact host, with its files in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.engine = self.write("opt/katago/engines/e/katago", "engine").parent
        self.write("opt/katago/engines/e/files.json", json.dumps(digest.of_tree(self.engine), indent=1))
        self.network = self.write("opt/katago/networks/n/net.bin.gz", "network")
        self.tuning = self.write("opt/katago/tuning/t/tuning.txt", "tuning")
        stands_on = {
            "/" + str(path.relative_to(root)): digest.of_path(path)
            for path in (self.engine, self.network, self.tuning)
        }
        small_files = {"config.json": "{}", "analysis.cfg": "x = 1", "katago-mcp.service": "[Service]\n"}
        inputs = {
            "stands_on": stands_on,
            "wheels": "w",
            "engine_version": "1.18.1",
            "files": {name: digest.of_text(text) for name, text in small_files.items()},
        }
        self.release = layout.name(VERSION, inputs)
        directory = f"opt/katago-mcp/releases/{self.release}"
        for name, text in small_files.items():
            self.write(f"{directory}/{name}", text)
        self.write(f"{directory}/venv/lib/cli.py", "code")
        self.directory = root / directory
        manifest = {
            **inputs,
            "name": self.release,
            "version": VERSION,
            "files": digest.of_tree(self.directory),
        }
        self.write(f"{directory}/manifest.json", json.dumps(manifest))
        for path, target in {
            "etc/katago-mcp/config.json": "/opt/katago-mcp/current/config.json",
            "usr/local/bin/katago-mcp": "/opt/katago-mcp/current/venv/bin/katago-mcp",
            "etc/systemd/system/katago-mcp.service": "/opt/katago-mcp/current/katago-mcp.service",
            "opt/katago-mcp/current": f"releases/{self.release}",
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(target)
        self.tokens = self.write(
            "etc/katago-mcp/credentials/tokens.json",
            json.dumps({"tokens": [{"name": "anna", "scopes": ["analyze"], "sha256": "ab" * 32}]}),
        )
        self.history = self.write("var/lib/katago-mcp/history.jsonl", record(1, release=self.release) + "\n")
        self.baseline = self.write("var/lib/katago-mcp/baseline.json", '{"median": 1}')

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def damaged(self, **survey: Any) -> list[backup_survey.Finding]:
        return backup_survey.damaged(Survey(root=self.root, **survey).findings([self.release]))


@pytest.fixture
def host(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 0x01
    path.write_bytes(content)


def test_intact_host_has_no_damage(host: Fake) -> None:
    findings = Survey(root=host.root).findings([host.release])
    assert backup_survey.damaged(findings) == []
    assert {each.item for each in findings} == {
        "links",
        "tokens",
        "history",
        "release",
        "engine",
        "network",
        "tuning",
    }


@pytest.mark.parametrize(
    ("which", "item"),
    [
        (lambda host: host.directory / "config.json", "release"),
        (lambda host: host.directory / "manifest.json", "release"),
        (lambda host: host.directory / "venv/lib/cli.py", "release"),
        (lambda host: host.engine / "katago", "engine"),
        (lambda host: host.engine / "files.json", "engine"),
        (lambda host: host.network, "network"),
        (lambda host: host.tuning, "tuning"),
        (lambda host: host.tokens, "tokens"),
        (lambda host: host.history, "history"),
        (lambda host: host.baseline, "state"),
    ],
)
def test_changed_byte_is_found_in_its_file(host: Fake, which: Callable[[Fake], Path], item: str) -> None:
    path = which(host)
    name = "/" + str(path.relative_to(host.root))
    content = path.read_bytes()
    flip(path)
    (finding,) = host.damaged(reference=lambda requested: content if requested == name else None)
    assert (finding.item, finding.path, finding.condition) == (item, name, "damaged")


def test_changed_manifest_is_not_trusted(host: Fake) -> None:
    """A manifest that was adapted to a changed file no longer matches the release's name."""
    (host.directory / "config.json").write_text('{"server": {}}')
    manifest = json.loads((host.directory / "manifest.json").read_text())
    manifest["files"]["config.json"] = digest.of_text('{"server": {}}')
    (host.directory / "manifest.json").write_text(json.dumps(manifest))
    (found,) = host.damaged()
    assert "cannot be checked without it" in found.message


def test_missing_and_added_files_are_distinguished(host: Fake) -> None:
    (host.directory / "analysis.cfg").unlink()
    host.write(f"opt/katago-mcp/releases/{host.release}/venv/lib/new.py", "")
    assert {each.condition for each in host.damaged()} == {"missing", "added"}


def test_backup_without_assets_is_checked_without_them(host: Fake) -> None:
    for path in (host.engine / "katago", host.network, host.directory / "venv/lib/cli.py"):
        path.unlink()
    assert host.damaged(assets=False) == []
    flip(host.directory / "config.json")
    assert [each.item for each in host.damaged(assets=False)] == ["release"]


def test_changed_value_in_the_history_is_found_by_comparing_with_the_backup(host: Fake) -> None:
    before = host.history.read_bytes()
    digest_at_backup = HistoryDigest(len(before), digest.of_bytes(before))
    host.history.write_bytes(before.replace(b"anna", b"anne") + record(2).encode() + b"\n")
    assert [each.item for each in host.damaged()] == []
    assert [each.item for each in host.damaged(last_history=digest_at_backup)] == ["history"]


def test_tokens_must_contain_the_hosts_operator_token(host: Fake) -> None:
    host.write("etc/katago-mcp/credentials/operator.token", "a-token\n")
    (found,) = host.damaged()
    assert found.message.endswith("does not contain the host's operator token")


CERTIFICATE = ("/etc/katago-mcp/tls.crt", "/etc/katago-mcp/credentials/tls.key")


def use_certificate(host: Fake, pair: Sequence[str]) -> None:
    """Install a certificate and its key, and have the unit pass them to the service."""
    directives = "".join(f"LoadCredential={Path(path).name}:{path}\n" for path in CERTIFICATE)
    host.write(f"opt/katago-mcp/releases/{host.release}/katago-mcp.service", f"[Service]\n{directives}")
    for path, text in zip(CERTIFICATE, pair, strict=True):
        host.write(path.lstrip("/"), text)


def test_unused_certificate_is_not_checked(host: Fake) -> None:
    assert list(Survey(root=host.root).certificate()) == []


def test_matching_certificate_and_key_are_whole(host: Fake) -> None:
    use_certificate(host, pair())
    assert [each.condition for each in Survey(root=host.root).certificate()] == ["whole"]


@pytest.mark.parametrize("damage", ["flip", "remove", "exchange"])
@pytest.mark.parametrize("place", CERTIFICATE)
def test_damage_to_certificate_or_key_restores_both(host: Fake, damage: str, place: str) -> None:
    backed_up = dict(zip(CERTIFICATE, pair(), strict=True))
    use_certificate(host, tuple(backed_up.values()))
    path = host.root / place.lstrip("/")
    if damage == "flip":
        flip(path)
    elif damage == "remove":
        path.unlink()
    else:
        path.write_text(pair()[CERTIFICATE.index(place)])
    found = list(Survey(root=host.root, reference=lambda name: backed_up[name].encode()).certificate())
    assert [(each.path, each.expected) for each in found] == [
        (name, digest.of_text(text)) for name, text in backed_up.items()
    ]
    condition = {each.path: each.condition for each in found}[place]
    assert condition == ("missing" if damage == "remove" else "damaged")
    assert "PRIVATE" not in str(found)


def test_certificate_in_the_backup_is_missing_on_a_bare_host(tmp_path: Path) -> None:
    found = list(Survey(root=tmp_path, reference=lambda _: b"x").certificate())
    assert [(each.path, each.condition) for each in found] == [(path, "missing") for path in CERTIFICATE]
    assert list(Survey(root=tmp_path).certificate()) == []


def test_tokens_in_the_backup_are_missing_on_a_bare_host(tmp_path: Path) -> None:
    tokens = "/etc/katago-mcp/credentials/tokens.json"
    found = list(Survey(root=tmp_path, reference=lambda path: b"{}" if path == tokens else None).tokens())
    assert [(each.item, each.path, each.condition) for each in found] == [("tokens", tokens, "missing")]
    assert list(Survey(root=tmp_path).tokens()) == []


def test_tokens_that_the_configuration_names_are_reported_missing(host: Fake) -> None:
    host.tokens.unlink()
    survey = Survey(root=host.root)
    assert list(survey.tokens()) == []
    config = {"auth": {"tokensFile": "/etc/katago-mcp/credentials/tokens.json"}}
    (host.directory / "config.json").write_text(json.dumps(config))
    assert [(each.item, each.condition) for each in survey.tokens()] == [("tokens", "missing")]


def test_missing_link_to_the_current_release_is_found_by_the_history(host: Fake) -> None:
    (host.root / "opt/katago-mcp/current").unlink()
    (found,) = host.damaged()
    assert (found.condition, found.expected) == ("missing", f"link:releases/{host.release}")


LINES = st.lists(st.integers(1, 59), min_size=1, max_size=8, unique=True)


@given(LINES, st.data())
def test_merging_histories_loses_no_readable_record(numbers: list[int], data: st.DataObject) -> None:
    """One line of the present history is damaged; all others, and all of the backup, are in the result."""
    lines = [record(number).encode() for number in numbers]
    backed_up = data.draw(st.integers(1, len(lines)))
    damaged = data.draw(st.integers(0, len(lines) - 1))
    present = [*lines]
    present[damaged] = data.draw(st.sampled_from([b"{", record(60).encode(), lines[damaged][:-5]]))
    old = b"\n".join(lines[:backed_up]) + b"\n"
    merged = backup_survey.merged_history(old, b"\n".join(present) + b"\n").splitlines()
    assert merged[:backed_up] == lines[:backed_up]
    expected = {line for number, line in enumerate(lines) if number != damaged}
    assert expected <= set(merged)
    assert all(backup_survey.is_record(line) for line in merged)


def test_histories_of_two_hosts_are_concatenated() -> None:
    one, two = record(1).encode() + b"\n", record(2).encode() + b"\n"
    assert backup_survey.merged_history(one, two) == one + two
    assert backup_survey.merged_history(one, b"") == one
    assert backup_survey.merged_history(b"", b"{\n" + two) == two


def test_record_of_this_version_is_accepted() -> None:
    written = history.Record("2026-01-01T00:00:00Z", "anna", "r", None, "x", "good", "restore")
    assert backup_survey.is_record(json.dumps(written.__dict__).encode())
    assert not backup_survey.is_record(b'{"at": "2026-01-01T00:00:00Z"}')
    assert not backup_survey.is_record(b"[]")
