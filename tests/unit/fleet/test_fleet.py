"""The overview: what is worth saying about hosts, how it is shown, and what the inventory asks for."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.fleet import facts as overview_facts
from ansible_collections.katago.fleet.plugins.module_utils.fleet import measure
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.service import unit
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import assets
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet import (
    expected,
    findings,
    page,
    results,
    rotation,
    table,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.overview import Overview, duration
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks

NOW = datetime(2026, 1, 31, 8, 5, tzinfo=UTC)
LIMITS = findings.Thresholds()
ENGINE, NETWORK = "e" * 64, "f" * 64


def at(**ago: float) -> str:
    return timestamps.stamp(NOW - timedelta(**ago))


def certificate(days: float) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "go.example.org")])
    end = NOW + timedelta(days=days)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, end - timedelta(days=90), end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def healthy() -> dict[str, Any]:
    """The facts of a host about which there is nothing to say."""
    return {
        "undeployed": "",
        "release": {
            "current": "0.3.0-aaaaaaaaaaaa",
            "running": "0.3.0-aaaaaaaaaaaa",
            "since": at(days=3),
            "verdict": "good",
            "previous": "0.2.0-bbbbbbbbbbbb",
            "target": "0.2.0-bbbbbbbbbbbb",
            "version": "0.3.0",
            "engine_version": "1.18.1",
            "assets": {"engines": [ENGINE], "networks": [NETWORK]},
        },
        "service": {"active": "active", "started_at": 1.7e9, "ready": True, "reason": "", "override": None},
        "config": {"server": {"port": 8080}, "katago": {"binaryPath": "/opt/katago/x"}},
        "lock": None,
        "security": {"mode": None, "isolated": None},
        "backup": {
            "set_up": True,
            "last": {"at": at(hours=2), "ok": True, "message": "ok"},
            "verified_at": at(hours=2),
            "snapshot": "ab12cd34",
        },
        "certificate": None,
        "reboot": {
            "required": False,
            "packages": [],
            "running": "6.1.0-31-amd64",
            "newest": "6.1.0-31-amd64",
        },
        "clock": NOW.timestamp(),
        "driver": None,
    }


def host(**changes: Any) -> findings.Host:
    """A host; `FACT__KEY` changes a key of a fact, `FACT` a whole fact. Other names are fields of a host."""
    facts = healthy()
    fields: dict[str, Any] = {}
    for name, value in changes.items():
        fact, _, key = name.partition("__")
        if key:
            facts[fact][key] = value
        elif fact in facts:
            facts[fact] = value
        else:
            fields[name] = value
    entries = {name: {"value": value} for name, value in facts.items()}
    return findings.Host(overview_facts.read(entries), **fields)


def said(each: findings.Host) -> list[str]:
    return [
        f"{'!' if one.urgent else '-'} {one.kind}: {one.text}" for one in findings.of_host(each, LIMITS, NOW)
    ]


def test_there_is_nothing_to_say_about_a_healthy_host() -> None:
    assert said(host()) == []


MODE = {"since": at(hours=1), "who": "ops", "why": "unknown login", "isolated": True}
OVERRIDE = {"keys": {"katago.maxVisits": 200}, "expiresAt": at(hours=-1), "why": "load", "who": "ops"}
LOCK = {"owner": "ops@here", "procedure": "deploy", "run": "r", "since": at(minutes=5), "age_seconds": 300.0}


@pytest.mark.parametrize(
    ("changes", "expected_start"),
    [
        ({"undeployed": "katago-mcp is not deployed on this host"}, "! release: katago-mcp is not deployed"),
        ({"service__active": "failed"}, "! service: the service is failed"),
        (
            {"service__ready": False, "service__reason": "tuning"},
            "! service: the service is not ready: tuning",
        ),
        ({"service__ready": None}, "! service: the service is not ready: no reason given"),
        ({"release__running": "0.2.0-bb"}, "! release: it runs 0.2.0-bb, but the current release is 0.3.0-"),
        ({"release__verdict": "bad"}, "! release: 0.3.0-aaaaaaaaaaaa was rejected"),
        ({"release__verdict": None}, "- release: 0.3.0-aaaaaaaaaaaa is not validated"),
        ({"service__override": OVERRIDE}, "- limits: limits are lowered until "),
        ({"security": {"mode": MODE, "isolated": True}}, "! security: security mode since "),
        ({"lock": LOCK}, "- lock: locked by ops@here for deploy since "),
        ({"backup__set_up": False, "backups": True}, "- backup: backups are not set up"),
        ({"backup__verified_at": ""}, "! backup: there is no verified backup"),
        (
            {"backup__verified_at": at(hours=-1)},
            "! backup: the age of the last verified backup is unknown: its time is '2026-01-31T09:05:00Z'",
        ),
        (
            {"backup__verified_at": "yesterday"},
            "! backup: the age of the last verified backup is unknown: its time is 'yesterday'",
        ),
        ({"backup__verified_at": at(hours=27)}, "! backup: the last verified backup is 27 h 0 min old"),
        ({"backup__last": {"at": at(), "ok": False, "message": "disk full"}}, "! backup: the backup of "),
        (
            {"certificate": certificate(20)},
            "- certificate: its certificate expires at 2026-02-20T08:05:00Z, in 20",
        ),
        ({"certificate": certificate(-1)}, "! certificate: its certificate expired at 2026-01-30T08:05:00Z"),
        ({"certificate": "junk"}, "- certificate: its certificate cannot be read"),
        (
            {"reboot__required": True, "reboot__packages": ["libc6"]},
            "- reboot: the system asks for a reboot because",
        ),
        (
            {"reboot__newest": "6.1.0-32-amd64"},
            "- reboot: it runs the kernel 6.1.0-31-amd64, and 6.1.0-32-amd64",
        ),
        ({"skew": -7.0}, "- clock: its clock differs from the control node's by -7 s"),
        (
            {"built": "0.3.0-cccccccccccc"},
            "- drift: its release is 0.3.0-aaaaaaaaaaaa, the inventory builds 0.3.0-c",
        ),
        ({"unbuilt": "no engine"}, "- drift: the inventory's release is unknown: no engine"),
        ({"rotation": rotation.Rotation("out", "ops")}, "- rotation: out of rotation: ops"),
        (
            {"rotation": rotation.Rotation("down", "b sees it DOWN")},
            "! rotation: gets no requests: b sees it DOWN",
        ),
        ({"unreachable": "no answer: timed out"}, "! unreachable: no answer: timed out"),
    ],
)
def test_finding(changes: dict[str, Any], expected_start: str) -> None:
    (finding,) = said(host(**changes))
    assert finding.startswith(expected_start)


@pytest.mark.parametrize(
    "changes",
    [
        {"backup__verified_at": at(hours=25)},
        {"backup__set_up": False},
        {"certificate": certificate(22)},
        {"reboot__newest": ""},
        {"skew": 4.9},
        {"rotation": rotation.Rotation("in")},
        {"built": "0.3.0-aaaaaaaaaaaa"},
        {"release__running": None, "service__active": "active"},
    ],
)
def test_no_finding(changes: dict[str, Any]) -> None:
    assert said(host(**changes)) == []


def test_lock_of_a_dead_run_is_marked() -> None:
    (finding,) = said(host(lock={**LOCK, "life": "dead"}))
    assert finding.endswith("(5 min); that run is dead")


def test_facts_that_an_earlier_version_lacks_are_no_findings_and_unknown_ones_are() -> None:
    entries = {"release": {"value": healthy()["release"]}, "backup": {"unknown": "no answer within 15 s"}}
    each = findings.Host(overview_facts.read(entries))
    assert said(each) == ["- unknown: backup is unknown: no answer within 15 s"]


def test_malformed_fact_is_unknown_and_hides_no_other() -> None:
    entries = {"release": {"value": ["x"]}, "service": {"value": healthy()["service"]}}
    each = findings.Host(overview_facts.read(entries))
    assert said(each) == [
        "- unknown: release is unknown: the reported value is malformed: release is a list, not an object"
    ]


def of_fleet(**hosts: findings.Host) -> dict[str, list[str]]:
    return {
        name: [one.text for one in found] for name, found in findings.of_fleet(hosts, LIMITS, NOW).items()
    }


def test_hosts_with_another_version_than_most_are_reported() -> None:
    old = host(release__version="0.2.0")
    found = of_fleet(a=host(), b=host(), c=old)
    assert (found["a"], found["b"]) == ([], [])
    (text,) = found["c"]
    assert text.startswith(
        "it has server 0.2.0 with engine 1.18.1 and network ffffffffffff; 2 hosts have server 0.3.0"
    )


def test_all_hosts_are_reported_if_no_version_is_the_most_frequent() -> None:
    found = of_fleet(a=host(), b=host(release__version="0.2.0"))
    assert all(len(each) == 1 for each in found.values())


def test_releases_that_differ_only_by_the_device_are_not_mixed() -> None:
    other = host(release__current="0.3.0-dddddddddddd", release__running="0.3.0-dddddddddddd")
    assert of_fleet(a=host(), b=other) == {"a": [], "b": []}


ASKED: expected.Expected = {
    "version": "0.3.0",
    "engines": [ENGINE],
    "networks": [NETWORK],
    "config": {"server": {"port": 8080}, "katago": {"binaryPath": ""}},
}


def drift(asked: dict[str, Any], **changes: Any) -> list[str]:
    return expected.drift(host(**changes).facts.values, {**ASKED, **asked})  # type: ignore[typeddict-item]


def test_host_that_is_as_the_inventory_asks_has_not_drifted() -> None:
    assert drift({}) == []


@pytest.mark.parametrize(
    ("asked", "start"),
    [
        ({"version": "0.4.0"}, "the server has version 0.3.0, the inventory asks for 0.4.0"),
        ({"engines": ["a" * 64]}, "the engine is eeeeeeeeeeee, the inventory asks for aaaaaaaaaaaa"),
        ({"networks": ["a" * 64]}, "the network is ffffffffffff, the inventory asks for aaaaaaaaaaaa"),
        (
            {"networks": ["a" * 64, NETWORK]},
            "the network is ffffffffffff, the inventory asks for aaaaaaaaaaaa or",
        ),
        ({"config": {"server": {"port": 8081}}}, "server.port is 8080, the inventory asks for 8081"),
        ({"config": {"server": {"port": 8080, "x": 1}}}, "server.x is not set, the inventory asks for 1"),
    ],
)
def test_difference_from_the_inventory(asked: dict[str, Any], start: str) -> None:
    (text,) = drift(asked)
    assert text.startswith(start)


def test_settings_of_another_version_are_not_missed() -> None:
    asked = {"version": "0.4.0", "config": {"server": {"port": 8080, "new": 1}}}
    assert drift(asked) == ["the server has version 0.3.0, the inventory asks for 0.4.0"]


def test_settings_that_cannot_be_rendered_are_not_compared() -> None:
    assert drift({"config": {"server": {}}}) == []


def test_one_of_several_engines_is_enough() -> None:
    assert drift({"engines": ["a" * 64, ENGINE]}) == []


def test_many_differences_are_counted() -> None:
    here = {f"k{number}": number for number in range(9)}
    found = drift({"config": dict.fromkeys(here, -1)}, config=here)
    assert found[-1] == "4 more settings differ"


def test_what_cannot_be_rendered_is_not_compared() -> None:
    nothing = expected.of_inventory(version="", engines=[], networks=[], config=None)
    assert nothing == {}
    assert expected.drift(host().facts.values, nothing) == []


def test_asset_in_an_archive_is_known_only_after_its_download(tmp_path: Path) -> None:
    spec = {"source": "pypi", "requirement": "x==1", "member": "x/katago", "sha256": "a" * 64}
    assert assets.known_sha256(spec, tmp_path) == ""
    record = tmp_path / "downloads" / ("a" * 64) / digest.of_text("x/katago") / "sha256"
    record.parent.mkdir(parents=True)
    record.write_text(ENGINE)
    assert assets.known_sha256(spec, tmp_path) == ENGINE
    assert assets.known_sha256({"source": "url", "url": "x", "sha256": NETWORK}, tmp_path) == NETWORK


ENTRY = {"procedure": "restart", "who": "ops", "since": at(minutes=9), "why": "slow"}


@pytest.mark.parametrize(
    ("answer", "state", "why"),
    [
        ({"servers": {"a": {"serves": True, "status": "UP"}}, "out": {}}, "in", ""),
        ({"servers": {"a": {"serves": False, "status": "DOWN"}}, "out": {}}, "down", "b-1 sees it DOWN"),
        (
            {"servers": {"a": {"serves": False}}, "out": {"a": ENTRY}},
            "out",
            "ops took it out with restart at",
        ),
        ({"servers": {}, "out": {}}, "out", "b-1 does not have it"),
        ({"servers": None, "out": {}}, "unknown", "b-1 is not set up"),
        ({"unreachable": True, "msg": "first\nTimed out"}, "unknown", "b-1: Timed out"),
        ({"servers": {"a": {"serves": "yes"}}, "out": {}}, "unknown", "b-1: its answer is malformed"),
    ],
)
def test_rotation(answer: dict[str, Any], state: str, why: str) -> None:
    found = rotation.of_host("a", results.answers([{"_overview_balancer": "b-1", **answer}]))
    assert found.state == state
    assert found.why.startswith(why)


def test_worst_answer_of_the_load_balancers_counts() -> None:
    up = {"servers": {"a": {"serves": True}}, "out": {}}
    down = {"servers": {"a": {"serves": False}}, "out": {}}
    found = rotation.of_host(
        "a", results.answers([{"_overview_balancer": "1", **up}, {"_overview_balancer": "2", **down}])
    )
    assert found.state == "down"


def variables(facts: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    entries = {name: {"value": value} for name, value in (facts or healthy()).items()}
    return {"overview_facts": {"facts": entries, "expected": dict(ASKED), "skew": 0.1}, **more}


def test_unreachable_host_is_a_row() -> None:
    gone = {"overview_facts": {"unreachable": True, "msg": "Failed to connect\nssh: timed out"}}
    overview = Overview.of(results.gather({"a": variables(), "b": gone, "c": {}}, {}), LIMITS, NOW)
    assert overview.ordered == ["b", "c", "a"]
    assert overview.row("b").state == "unreachable"
    assert overview.findings["b"][0].text == "no answer: ssh: timed out"
    assert "3 hosts: 2 with urgent findings." in overview.headline


@pytest.mark.parametrize("started", [1e300, float("nan"), -1e18])
def test_start_that_is_no_time_makes_only_that_fact_unknown(started: float) -> None:
    each = host(service__started_at=started)
    assert [text for text in said(each) if "service.started_at is" in text] == said(each)
    overview = Overview.of({"a": each}, LIMITS, NOW)
    assert "service.started_at" in page.render(overview)


class _Unrendered(dict[str, Any]):
    """The variables of a host with a value that cannot be rendered."""

    def get(self, name: str, default: Any = None) -> Any:
        if name == "backup_repository":
            raise AnsibleError("there is no vault password")
        return super().get(name, default)


def test_repository_that_cannot_be_rendered_hides_no_host() -> None:
    (found,) = results.gather({"a": _Unrendered(variables())}, {}).values()
    assert found.backups


def test_state_of_a_unit_does_not_break_the_table() -> None:
    broken = host(service__active="\x1b[31m" + "x" * 300)
    text = table.render(Overview.of({"a": broken}, LIMITS, NOW))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= table.WIDTH


def test_answer_that_is_no_object_is_a_row_too() -> None:
    broken = {"overview_facts": {"facts": ["x"]}}
    overview = Overview.of(results.gather({"a": broken}, {}), LIMITS, NOW)
    assert overview.findings["a"][0].text.startswith("its answer is malformed")


def fleet(count: int) -> Overview:
    """A fleet with long names, one dead host, and a host whose texts try to break the output."""
    hosts: dict[str, Any] = {
        f"katago-{number}.rack-{number:03}.example.org": variables() for number in range(count)
    }
    facts = healthy()
    facts["lock"] = {**LOCK, "owner": "<script>alert(1)</script>\x1b[31m\n" + "x" * 300}
    facts["release"] |= {"version": "<b>9</b>", "running": "9.9.9-\x1b[0m<i>evil</i>" + "y" * 90}
    hosts["evil"] = variables(facts)
    hosts["dead"] = {}
    return Overview.of(results.gather(hosts, {}), LIMITS, NOW)


@pytest.mark.parametrize("count", [1, 48])
def test_table_fits_on_a_terminal(count: int) -> None:
    text = table.render(fleet(count))
    assert max(map(len, text.splitlines())) <= table.WIDTH
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[1].startswith("HOST ")
    assert lines[2].startswith("dead ")


def test_names_are_cut_in_the_middle() -> None:
    assert table.shortened("katago-1.rack-001.example.org", 12) == "katago~e.org"
    assert table.shortened("katago-1", 12) == "katago-1"


def test_json_is_complete_and_can_be_read_again() -> None:
    content = json.loads(json.dumps(fleet(2).as_dict()))
    assert content["schema"] == 1
    assert next(iter(content["hosts"])) == "dead"
    one = content["hosts"]["katago-0.rack-000.example.org"]
    assert one["facts"]["release"]["value"]["version"] == "0.3.0"
    assert one["findings"] == []
    assert one["row"]["state"] == "ready"


def test_page_escapes_everything_and_loads_nothing() -> None:
    html = page.render(fleet(2))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html
    assert not re.search(r"""(src|href)=|url\(|@import""", html)
    assert "default-src 'none'" in html
    assert "prefers-color-scheme:dark" in html


def test_page_of_a_review_stays_light() -> None:
    assert "prefers-color-scheme" not in blocks.as_html(blocks.Document("x", ()))


@pytest.mark.parametrize(
    ("seconds", "text"), [(59, "0 min"), (7140, "119 min"), (7200, "2 h"), (172800, "2 d")]
)
def test_short_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_releases_are_read_from_links_history_and_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "state", lambda: unit.State("inactive", 0))
    layout = Layout(tmp_path)
    for name in ("0.2.0-bb", "0.3.0-aa"):
        directory = layout.release(name)
        directory.mkdir(parents=True)
        manifest = {
            "name": name,
            "version": name[:5],
            "engine_version": "1.18.1",
            "files": {},
            "stands_on": {
                f"/opt/katago/engines/{ENGINE}": "x",
                f"/opt/katago/networks/{NETWORK}/net.bin.gz": "y",
            },
        }
        (directory / "manifest.json").write_text(json.dumps(manifest))
    layout.current.symlink_to("releases/0.3.0-aa")
    file = tmp_path / "history.jsonl"
    for record in (
        history.Record(at(days=9), "ops", "0.2.0-bb", None, "deployment"),
        history.Record(at(days=9), "ops", "0.2.0-bb", None, "validated", "good"),
        history.Record(at(days=2), "ops", "0.3.0-aa", "0.2.0-bb", "deployment"),
        history.Record(at(days=2), "ops", "0.3.0-aa", None, "validated", "good"),
    ):
        history.append(record, file)
    assert measure.release(layout, file) == {
        "current": "0.3.0-aa",
        "running": None,
        "since": at(days=2),
        "verdict": "good",
        "previous": "0.2.0-bb",
        "target": "0.2.0-bb",
        "version": "0.3.0",
        "engine_version": "1.18.1",
        "assets": {"engines": [ENGINE], "networks": [NETWORK]},
    }


def test_host_without_anything_has_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "state", lambda: unit.State("inactive", 0))
    read = measure.release(Layout(tmp_path), tmp_path / "history.jsonl")
    assert (read["current"], read["since"], "version" in read) == (None, "", False)
    backup = measure.backup(tmp_path / "settings.json", tmp_path / "state.json")
    assert backup == {"set_up": False, "last": None, "verified_at": "", "snapshot": ""}
    assert measure.certificate(Layout(tmp_path), tmp_path / "tls.crt") is None


def test_only_the_certificate_leaves_the_host(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.current.mkdir()
    (layout.current / "config.json").write_text('{"tls": {"enabled": true}}')
    text = certificate(30)
    key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    (tmp_path / "tls.crt").write_text(key + text + text)
    assert measure.certificate(layout, tmp_path / "tls.crt") == text


def test_reboot_is_read_from_the_system(tmp_path: Path) -> None:
    for name in ("vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-31-amd64", "initrd.img-7"):
        (tmp_path / name).touch()
    required = tmp_path / "reboot-required"
    required.touch()
    (tmp_path / "reboot-required.pkgs").write_text("linux-base\nlibc6\nlibc6\n")
    read = measure.reboot(tmp_path, required)
    assert (read["required"], read["packages"], read["newest"]) == (
        True,
        ["libc6", "linux-base"],
        "6.1.0-31-amd64",
    )
