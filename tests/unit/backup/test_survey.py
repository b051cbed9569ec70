"""One byte anywhere is found, by the same survey on a host and in a restored backup; no record is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.backup import survey as backup_survey
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import Known
from ansible_collections.katago.fleet.plugins.module_utils.backup.survey import Survey
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.release import history, layout
from tests.unit.deploy.test_certificates import pair

VERSION = "0.1.0"


def record(number: int, **more: Any) -> str:
    fields = {"at": f"2026-01-01T00:00:{number:02}Z", "who": "anna", "release": f"r{number}", "why": "x"}
    return json.dumps({**fields, "previous": None, "verdict": None, **more})


class Fake:
    """A host below a directory, whole."""

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
        given = {"config.json": "{}", "analysis.cfg": "x = 1", "katago-mcp.service": "[Service]\n"}
        inputs = {
            "stands_on": stands_on,
            "wheels": "w",
            "engine_version": "1.18.1",
            "files": {name: digest.of_text(text) for name, text in given.items()},
        }
        self.release = layout.name(VERSION, inputs)
        directory = f"opt/katago-mcp/releases/{self.release}"
        for name, text in given.items():
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


def test_whole_host_is_whole(host: Fake) -> None:
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
def test_one_byte_is_found_where_it_is(host: Fake, which: Callable[[Fake], Path], item: str) -> None:
    path = which(host)
    named = "/" + str(path.relative_to(host.root))
    kept = path.read_bytes()
    flip(path)
    (found,) = host.damaged(reference=lambda asked: kept if asked == named else None)
    assert (found.item, found.path, found.condition) == (item, named, "damaged")


def test_changed_manifest_is_not_believed(host: Fake) -> None:
    """One that was made to fit a changed file no longer fits its release's name."""
    (host.directory / "config.json").write_text('{"server": {}}')
    manifest = json.loads((host.directory / "manifest.json").read_text())
    manifest["files"]["config.json"] = digest.of_text('{"server": {}}')
    (host.directory / "manifest.json").write_text(json.dumps(manifest))
    (found,) = host.damaged()
    assert "cannot be judged" in found.words


def test_missing_and_added_files_are_told_apart(host: Fake) -> None:
    (host.directory / "analysis.cfg").unlink()
    host.write(f"opt/katago-mcp/releases/{host.release}/venv/lib/new.py", "")
    assert {each.condition for each in host.damaged()} == {"missing", "added"}


def test_backup_without_assets_is_judged_by_what_it_has(host: Fake) -> None:
    for path in (host.engine / "katago", host.network, host.directory / "venv/lib/cli.py"):
        path.unlink()
    assert host.damaged(assets=False) == []
    flip(host.directory / "config.json")
    assert [each.item for each in host.damaged(assets=False)] == ["release"]


def test_history_that_was_changed_within_a_value_is_found_by_its_backup(host: Fake) -> None:
    before = host.history.read_bytes()
    known = Known(len(before), digest.of_bytes(before))
    host.history.write_bytes(before.replace(b"anna", b"anne") + record(2).encode() + b"\n")
    assert [each.item for each in host.damaged()] == []
    assert [each.item for each in host.damaged(known=known)] == ["history"]


def test_tokens_must_know_the_hosts_own_one(host: Fake) -> None:
    host.write("etc/katago-mcp/credentials/operator.token", "a-token\n")
    (found,) = host.damaged()
    assert found.words.endswith("does not know the host's own token")


CERTIFICATE = ("/etc/katago-mcp/tls.crt", "/etc/katago-mcp/credentials/tls.key")


def served_with(host: Fake, pair: Sequence[str]) -> None:
    """Have the unit hand a certificate and its key over."""
    handed = "".join(f"LoadCredential={Path(path).name}:{path}\n" for path in CERTIFICATE)
    host.write(f"opt/katago-mcp/releases/{host.release}/katago-mcp.service", f"[Service]\n{handed}")
    for path, text in zip(CERTIFICATE, pair, strict=True):
        host.write(path.lstrip("/"), text)


def test_certificate_that_is_not_served_with_is_not_judged(host: Fake) -> None:
    assert list(Survey(root=host.root).certificate()) == []


def test_certificate_and_key_of_each_other_are_whole(host: Fake) -> None:
    served_with(host, pair())
    assert [each.condition for each in Survey(root=host.root).certificate()] == ["whole"]


@pytest.mark.parametrize("damage", ["flip", "remove", "exchange"])
@pytest.mark.parametrize("place", CERTIFICATE)
def test_damage_to_one_of_the_pair_has_both_put_back(host: Fake, damage: str, place: str) -> None:
    kept = dict(zip(CERTIFICATE, pair(), strict=True))
    served_with(host, tuple(kept.values()))
    path = host.root / place.lstrip("/")
    if damage == "flip":
        flip(path)
    elif damage == "remove":
        path.unlink()
    else:
        path.write_text(pair()[CERTIFICATE.index(place)])
    found = list(Survey(root=host.root, reference=lambda name: kept[name].encode()).certificate())
    assert [(each.path, each.expected) for each in found] == [
        (name, digest.of_text(text)) for name, text in kept.items()
    ]
    condition = {each.path: each.condition for each in found}[place]
    assert condition == ("missing" if damage == "remove" else "damaged")
    assert "PRIVATE" not in str(found)


def test_bare_host_lacks_the_certificate_that_the_backup_has(tmp_path: Path) -> None:
    found = list(Survey(root=tmp_path, reference=lambda _: b"x").certificate())
    assert [(each.path, each.condition) for each in found] == [(path, "missing") for path in CERTIFICATE]
    assert list(Survey(root=tmp_path).certificate()) == []


def test_bare_host_lacks_the_tokens_that_the_backup_has(tmp_path: Path) -> None:
    tokens = "/etc/katago-mcp/credentials/tokens.json"
    found = list(Survey(root=tmp_path, reference=lambda path: b"{}" if path == tokens else None).tokens())
    assert [(each.item, each.path, each.condition) for each in found] == [("tokens", tokens, "missing")]
    assert list(Survey(root=tmp_path).tokens()) == []


def test_tokens_that_the_configuration_names_are_missed(host: Fake) -> None:
    host.tokens.unlink()
    survey = Survey(root=host.root)
    assert list(survey.tokens()) == []
    named = {"auth": {"tokensFile": "/etc/katago-mcp/credentials/tokens.json"}}
    (host.directory / "config.json").write_text(json.dumps(named))
    assert [(each.item, each.condition) for each in survey.tokens()] == [("tokens", "missing")]


def test_current_that_is_gone_is_told_by_the_history(host: Fake) -> None:
    (host.root / "opt/katago-mcp/current").unlink()
    (found,) = host.damaged()
    assert (found.condition, found.expected) == ("missing", f"link:releases/{host.release}")


LINES = st.lists(st.integers(1, 59), min_size=1, max_size=8, unique=True)


@given(LINES, st.data())
def test_nothing_readable_is_lost_when_histories_are_merged(numbers: list[int], data: st.DataObject) -> None:
    """Whatever one line of the present history was turned into, the others and the backup's all stay."""
    lines = [record(number).encode() for number in numbers]
    backed_up = data.draw(st.integers(1, len(lines)))
    damaged = data.draw(st.integers(0, len(lines) - 1))
    present = [*lines]
    present[damaged] = data.draw(st.sampled_from([b"{", record(60).encode(), lines[damaged][:-5]]))
    kept = b"\n".join(lines[:backed_up]) + b"\n"
    merged = backup_survey.merged_history(kept, b"\n".join(present) + b"\n").splitlines()
    assert merged[:backed_up] == lines[:backed_up]
    expected = {line for number, line in enumerate(lines) if number != damaged}
    assert expected <= set(merged)
    assert all(backup_survey.is_record(line) for line in merged)


def test_histories_of_two_hosts_follow_each_other() -> None:
    one, two = record(1).encode() + b"\n", record(2).encode() + b"\n"
    assert backup_survey.merged_history(one, two) == one + two
    assert backup_survey.merged_history(one, b"") == one
    assert backup_survey.merged_history(b"", b"{\n" + two) == two


def test_records_of_today_are_records() -> None:
    written = history.Record("2026-01-01T00:00:00Z", "anna", "r", None, "x", "good", "restore")
    assert backup_survey.is_record(json.dumps(written.__dict__).encode())
    assert not backup_survey.is_record(b'{"at": "2026-01-01T00:00:00Z"}')
    assert not backup_survey.is_record(b"[]")
