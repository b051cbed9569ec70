"""Evidence is stored as it arrives, its manifest is correct after an interruption, all changes are found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.action import evidence, evidence_report
from ansible_collections.katago.fleet.plugins.module_utils.evidence import items, runner
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import (
    bundle,
    records,
    signing,
    table,
    verification,
)

AT = "2026-01-01T00:00:00Z"
ITEMS = {"memory.txt": b"MemFree: 1\n", "disk.txt": b"/dev/vda1\n", "empty.txt": b""}


@pytest.fixture
def signer(tmp_path: Path) -> signing.Signer:
    return signing.Signer.load(tmp_path / "key.pem")


@pytest.fixture
def evidence_in_progress(tmp_path: Path, signer: signing.Signer) -> bundle.Evidence:
    """New evidence that expects three items and a withheld one, and has none of them yet."""
    incident_records = records.Records(tmp_path / "records", "2026-01")
    return incident_records.begin_evidence("katago-1", AT, [*ITEMS, "argv.json"], signer)


@pytest.fixture
def stored(evidence_in_progress: bundle.Evidence) -> Path:
    """The directory of complete evidence with these items."""
    for name, content in ITEMS.items():
        evidence_in_progress.keep({"name": name, "problem": None, "withheld": None}, content)
    evidence_in_progress.keep({"name": "argv.json", "problem": None, "withheld": "it is binary data"}, None)
    evidence_in_progress.close(complete=True)
    return evidence_in_progress.directory


def problems(directory: Path) -> list[str]:
    return bundle.verify(directory, [verification.keys_beside(directory)]).problems


def lines(directory: Path) -> list[bytes]:
    return (directory / bundle.MANIFEST).read_bytes().splitlines(keepends=True)


def test_evidence_is_private_and_listed_and_never_overwritten(
    stored: Path, tmp_path: Path, signer: signing.Signer
) -> None:
    assert stored == tmp_path / "records" / "evidence" / "2026-01" / "katago-1" / "2026-01-01T000000Z"
    for path in (stored, *stored.parents[:4]):
        assert path.stat().st_mode & 0o777 == 0o700, path
    assert {path.stat().st_mode & 0o777 for path in stored.iterdir()} == {0o600}
    again = records.Records(tmp_path / "records", "2026-01").begin_evidence("katago-1", AT, [], signer)
    assert again.directory.name == "2026-01-01T000000Z-2"
    listed = {item["name"]: item for item in (json.loads(line)["entry"] for line in lines(stored)[1:-1])}
    assert listed["memory.txt"]["sha256"] == hashlib.sha256(ITEMS["memory.txt"]).hexdigest()
    assert listed["memory.txt"]["bytes"] == len(ITEMS["memory.txt"])
    assert (listed["argv.json"]["sha256"], listed["argv.json"]["withheld"]) == (None, "it is binary data")


def test_intact_evidence_is_verified_in_any_directory(stored: Path, tmp_path: Path) -> None:
    assert problems(stored) == []
    shutil.copytree(stored, tmp_path / "elsewhere")
    (key,) = (tmp_path / "records" / bundle.KEYS).iterdir()
    assert bundle.verify(tmp_path / "elsewhere", [key]).problems == []


@pytest.mark.parametrize("name", [name for name, content in ITEMS.items() if content])
def test_every_changed_byte_of_an_item_is_found(stored: Path, name: str) -> None:
    for position in range(len(ITEMS[name])):
        changed = bytearray(ITEMS[name])
        changed[position] ^= 1
        (stored / name).write_bytes(changed)
        assert problems(stored) == [f"{name} was changed: its sha256 does not match"]


def test_every_changed_byte_of_the_manifest_is_found(stored: Path) -> None:
    path = stored / bundle.MANIFEST
    content = path.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert problems(stored), content[position : position + 20]
    path.write_bytes(content)
    assert problems(stored) == []


def test_every_possible_change_of_a_byte_in_a_line_is_found(tmp_path: Path, signer: signing.Signer) -> None:
    evidence_in_progress = records.Records(tmp_path / "records", "i").begin_evidence("h", AT, [], signer)
    evidence_in_progress.close(complete=True)
    path = evidence_in_progress.directory / bundle.MANIFEST
    content = path.read_bytes()
    keys = list(verification.keys_beside(evidence_in_progress.directory).iterdir())
    with path.open("r+b", buffering=0) as file:
        for position in range(content.index(b"\n") + 1, len(content)):
            for other in range(256):
                os.pwrite(file.fileno(), bytes([other]), position)
                found = bundle.verify(evidence_in_progress.directory, keys).problems
                assert bool(found) == (other != content[position]), (position, other)
            os.pwrite(file.fileno(), content[position : position + 1], position)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_removed_moved_or_repeated_line_of_the_manifest_is_found(
    stored: Path, data: st.DataObject
) -> None:
    whole = lines(stored)
    changed = data.draw(st.lists(st.sampled_from(whole), max_size=8).filter(lambda each: each != whole))
    try:
        (stored / bundle.MANIFEST).write_bytes(b"".join(changed))
        assert problems(stored)
    finally:
        (stored / bundle.MANIFEST).write_bytes(b"".join(whole))


def swap(directory: Path) -> None:
    first, second = directory / "memory.txt", directory / "disk.txt"
    first.rename(directory / "x")
    second.rename(first)
    (directory / "x").rename(second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "memory.txt").unlink(), "memory.txt is missing"),
        (lambda path: (path / "new.txt").write_text("x"), "new.txt is not in the manifest"),
        (lambda path: (path / ".hidden").write_text("x"), ".hidden is not in the manifest"),
        (
            lambda path: (path / "empty.txt").write_text("x"),
            "empty.txt was changed: it has 1 bytes instead of 0",
        ),
        (lambda path: (path / "argv.json").write_text("x"), "argv.json is not in the manifest"),
        (swap, "memory.txt was changed"),
        (lambda path: (path / bundle.MANIFEST).unlink(), "manifest.jsonl cannot be read"),
        (lambda path: (path / bundle.MANIFEST).write_text(""), "manifest.jsonl is empty"),
    ],
)
def test_change_of_the_directory_is_found(stored: Path, change: Callable[[Path], Any], message: str) -> None:
    change(stored)
    assert any(message in problem for problem in problems(stored))


def test_manifest_signed_with_another_key_is_found(stored: Path, tmp_path: Path) -> None:
    other = signing.Signer.load(tmp_path / "other.pem")
    link, written = "", b""
    for line in lines(stored):
        entry = json.loads(line)["entry"]
        link = bundle.next_link(link, entry)
        written += bundle._line({"entry": entry, "link": link, "signature": other.sign(link.encode())})
    (stored / bundle.MANIFEST).write_bytes(written)
    assert problems(stored)[0].startswith("line 1 of manifest.jsonl is not signed by the key")


def test_missing_key_is_reported(stored: Path, tmp_path: Path) -> None:
    other = signing.Signer.load(tmp_path / "other.pem").publish(tmp_path)
    (problem,) = bundle.verify(stored, [other]).problems
    assert problem.startswith("the signing key")
    assert "was not found in" in problem
    assert "--key" in problem


def test_killed_run_leaves_a_correct_manifest(evidence_in_progress: bundle.Evidence) -> None:
    evidence_in_progress.keep({"name": "memory.txt"}, ITEMS["memory.txt"])
    finding = bundle.verify(
        evidence_in_progress.directory, [verification.keys_beside(evidence_in_progress.directory)]
    )
    assert finding.items == 1
    assert finding.absent == ["disk.txt", "empty.txt", "argv.json"]
    (problem,) = finding.problems
    assert "the run was interrupted, or the line was removed; missing items: disk.txt" in problem
    evidence_in_progress.close(complete=False, why="the host died")
    finding = bundle.verify(
        evidence_in_progress.directory, [verification.keys_beside(evidence_in_progress.directory)]
    )
    assert finding.problems == []
    assert "3 missing (the host died)" in finding.summary


def test_full_disk_leaves_a_correct_manifest(
    evidence_in_progress: bundle.Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence_in_progress.keep({"name": "memory.txt"}, ITEMS["memory.txt"])

    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[: len(content) // 2]))
    with pytest.raises(OSError, match="No space left on device"):
        evidence_in_progress.keep({"name": "disk.txt"}, ITEMS["disk.txt"])
    monkeypatch.undo()
    found = problems(evidence_in_progress.directory)
    assert "disk.txt is not in the manifest" in found
    assert not any("in the middle of a line" in problem for problem in found)


def test_incomplete_line_is_reported(evidence_in_progress: bundle.Evidence) -> None:
    with (evidence_in_progress.directory / bundle.MANIFEST).open("ab") as file:
        file.write(b'{"entry":')
    assert any(
        "ends in the middle of a line" in problem for problem in problems(evidence_in_progress.directory)
    )


def test_key_is_created_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "made" / "key.pem"
    first = signing.Signer.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert signing.fingerprint(signing.Signer.load(path).public) == signing.fingerprint(first.public)
    path.chmod(0o640)
    with pytest.raises(signing.SigningError, match=r"mode 0640, so other users can read it\. Run: chmod 600"):
        signing.Signer.load(path)
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(signing.SigningError, match="not a private key in PEM"):
        signing.Signer.load(path)


def test_verify_prints_problems_and_fails(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    above = stored.parent.parent.parent
    assert verification.main(["verify", str(above)]) == 0
    assert capsys.readouterr().out.startswith(
        f"intact  {stored}  katago-1, 2026-01, {AT}: 4 items, 1 withheld; key "
    )
    (stored / "disk.txt").unlink()
    assert verification.main(["verify", str(stored)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("FAILED")
    assert "        disk.txt is missing\n" in printed
    assert verification.main(["verify", str(above / "nowhere")]) == 1


@pytest.mark.parametrize(
    ("times", "offset", "uncertainty"),
    [((0, 101, 103, 4), 100, 1), ((0, 0.5, 1.5, 2), 0, 0.5), ((0, -119, -118, 2), -119.5, 0.5)],
)
def test_clock_offset_of_a_host_has_an_uncertainty(
    times: tuple[float, float, float, float], offset: float, uncertainty: float
) -> None:
    assert evidence.clock(*times) == {
        "clock_offset_seconds": offset,
        "clock_uncertainty_seconds": uncertainty,
    }


class Task:
    def __init__(self, **arguments: Any) -> None:
        self.args = arguments
        self.check_mode = False
        self.async_val = 0


class Host(evidence.ActionModule):
    """The action with prepared answers of the host. Everything else is Ansible's own."""

    def __init__(self, tmp_path: Path, *answers: Any, **arguments: Any) -> None:
        self._task = Task(
            records_dir=str(tmp_path / "records"),
            incident="2026-01",
            key=str(tmp_path / "key.pem"),
            **arguments,
        )
        self._answers = list(answers)
        self._supports_async = self._supports_check_mode = True
        self._connection = None

    def _execute_module(self, **_: Any) -> dict[str, Any]:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


def answer(tier: items.Tier, **changed: Any) -> dict[str, Any]:
    """A host's answer for a tier."""
    packed = [
        {
            "name": name,
            "exit": 0,
            "began": 100.2,
            "seconds": 0.1,
            "deadline": 5.0,
            "source_bytes": 3,
            "problem": "",
            "redacted": 0,
            "withheld": "",
            "content": runner.pack(b"got"),
        }
        for name in items.names(tier)
    ]
    times = {"began": 100.0, "ended": 101.0, "seconds": 1.0, "deadline": runner.worst_seconds(tier)}
    return {**times, "packed": packed, **changed}


@pytest.fixture(autouse=True)
def _without_ansible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})


def run(host: Host) -> dict[str, Any]:
    return host.run(None, {"inventory_hostname": "katago-1"})


GROUPS = {"katago": ["katago-1", "both"], "load_balancer": ["lb-1", "both"]}


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("katago-1", ["host", "service"]),
        ("lb-1", ["host", "load_balancer"]),
        ("both", ["host", "service", "load_balancer"]),
    ],
)
def test_items_are_those_of_the_hosts_groups(tmp_path: Path, host: str, parts: list[items.Part]) -> None:
    requested: list[Any] = []

    class Asked(Host):
        def _execute_module(self, **request: Any) -> dict[str, Any]:
            requested.append(request["module_args"])
            return super()._execute_module()

    Asked(tmp_path, answer("hot")).run(None, {"inventory_hostname": host, "groups": GROUPS})
    assert requested == [{"tier": "hot", "parts": parts}]
    (manifest,) = tmp_path.rglob("manifest.jsonl")
    expected = json.loads(manifest.read_text().splitlines()[0])["entry"]
    assert items.names("hot", of_parts=parts) in expected.values()
    assert ("haproxy-servers.csv" in items.names("hot", of_parts=parts)) == ("load_balancer" in parts)
    assert ("metrics.txt" in items.names("hot", of_parts=parts)) == ("service" in parts)


def test_both_tiers_are_kept_and_verified(tmp_path: Path) -> None:
    result = run(Host(tmp_path, answer("hot"), answer("full"), tier="full"))
    assert result["complete"]
    assert [item["name"] for item in result["items"]] == items.names("hot", "full")
    assert {item["tier"] for item in result["items"]} == {"hot", "full"}
    assert {(item["began"], item["seconds"]) for item in result["items"]} == {(100.2, 0.1)}
    assert {item["deadline_seconds"] for item in result["items"]} == {5.0}
    assert {item["tier_seconds"] for item in result["items"]} == {1.0}
    assert {(item["tier"], item["tier_deadline_seconds"]) for item in result["items"]} == {
        (tier, runner.worst_seconds(tier)) for tier in items.TIERS
    }
    assert problems(Path(result["directory"])) == []


def test_hot_tier_is_stored_before_the_host_dies(tmp_path: Path) -> None:
    host = Host(tmp_path, answer("hot"), AnsibleConnectionFailure("it is gone"), tier="full")
    with pytest.raises(AnsibleConnectionFailure):
        run(host)
    (directory,) = verification.kept_below(tmp_path / "records" / "evidence")
    finding = bundle.verify(directory, [verification.keys_beside(directory)])
    assert finding.problems == []
    assert finding.items == len(items.names("hot"))
    assert finding.absent == items.names("full")
    assert "it is gone" in finding.why


@pytest.mark.parametrize("sick", [{"failed": True, "msg": "no memory"}, AnsibleConnectionFailure("gone")])
def test_procedure_without_evidence_is_refused_unless_it_is_allowed(tmp_path: Path, sick: Any) -> None:
    result = run(Host(tmp_path, sick, optional=True, procedure="restart", who="anna@control"))
    assert not result.get("failed")
    assert result["without"]
    event = json.loads(records.Records(tmp_path / "records", "2026-01").timeline.read_text())
    assert (event["procedure"], event["result"]) == ("restart", "begun")
    assert "Continues without evidence because of -e without_evidence=true" in event["message"]
    if isinstance(sick, dict):
        result = run(Host(tmp_path, sick))
        assert (result["failed"], result["refused"]) == (True, True)
        assert "no memory" in result["msg"]


def test_error_output_of_a_module_that_died_is_not_printed(tmp_path: Path) -> None:
    stderr = "Traceback:\nhunter2\nos.FileError: /x\njson.decoder.JSONDecodeError: no hunter2 at 3\n"
    result = run(Host(tmp_path, {"failed": True, "msg": "MODULE FAILURE", "module_stderr": stderr}))
    assert "could not collect it: its module died of JSONDecodeError" in result["msg"]
    assert "hunter2" not in result["msg"]
    result = run(Host(tmp_path, {"failed": True, "msg": "it was killed", "module_stderr": "hunter2"}))
    assert "could not collect it: it was killed" in result["msg"]


def test_procedure_is_refused_if_records_cannot_be_stored(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("a file")
    result = run(Host(tmp_path, answer("hot")))
    assert result["refused"]
    assert "The evidence cannot be stored" in result["msg"]


def test_only_requested_items_become_files(tmp_path: Path) -> None:
    sent = answer("hot")
    sent["packed"][0]["name"] = "../../escaped"
    sent["packed"][1]["content"] = "no base64"
    result = run(Host(tmp_path, sent))
    names = [item["name"] for item in result["items"]]
    assert "../../escaped" not in names
    damaged = next(item for item in result["items"] if item["name"] == items.names("hot")[1])
    assert damaged["withheld"].startswith("the data from the host is damaged")
    assert not list(tmp_path.rglob("escaped"))


def test_table_has_every_host(tmp_path: Path) -> None:
    sent = answer("hot")
    for position, changed in enumerate(
        (
            {"withheld": "it is binary data", "content": None},
            {"problem": "did not finish within 5 s"},
            {"problem": "/run/x: No such file or directory", "content": runner.pack(b""), "exit": None},
            {"problem": "the newest 1024 bytes are kept"},
        )
    ):
        sent["packed"][position] |= changed
    good = run(Host(tmp_path, sent))
    text = table.render({"katago-1": good, "katago-2": {"unreachable": True, "msg": "Timed out"}})
    assert text.splitlines() == [
        f"katago-1: ok. {len(sent['packed'])} items, 1 withheld, 1 failed, in {good['seconds']} s:"
        f" {good['directory']}",
        "    withheld  metrics.txt: it is binary data",
        "    failed    health.json: did not finish within 5 s",
        "    cut       processes.txt: larger than the limit",
        "    absent    ready.json: not on this host",
        "katago-2: unknown. no evidence was stored: Timed out",
    ]


class Summary(evidence_report.ActionModule):
    """The report with prepared arguments. Everything else is Ansible's own."""

    def __init__(self, tmp_path: Path) -> None:
        self._task = Task(records_dir=str(tmp_path / "records"), incident="2026-01", who="anna@control")


def test_report_records_every_host_and_fails_if_evidence_is_incomplete(tmp_path: Path) -> None:
    results = {"katago-1": {"evidence_result": run(Host(tmp_path, answer("hot")))}, "katago-2": {}}

    def summary(*names: str) -> dict[str, Any]:
        variables = {"hostvars": results, "ansible_play_hosts_all": list(names)}
        report: dict[str, Any] = Summary(tmp_path).run(None, variables)
        return report

    good = summary("katago-1")
    assert not good.get("failed")
    assert good["directories"] == [results["katago-1"]["evidence_result"]["directory"]]
    bad = summary("katago-1", "katago-2")
    assert bad["failed"]
    assert "The evidence of katago-2 is missing or incomplete." in bad["msg"]
    timeline = records.Records(tmp_path / "records", "2026-01").timeline.read_text().splitlines()
    events = [json.loads(line) for line in timeline]
    assert [(event["host"], event["result"]) for event in events] == [
        ("katago-1", "ok"),
        ("katago-1", "ok"),
        ("katago-2", "unknown"),
    ]
    assert {event["procedure"] for event in events} == {"evidence"}
