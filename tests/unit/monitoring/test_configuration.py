"""Targets and configurations from an inventory, as the programs themselves check them."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.action import monitoring_config as action
from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    commands,
    key_pair,
    prometheus,
    unit_state,
)
from ansible_collections.katago.fleet.plugins.module_utils.monitoring import alertmanager
from ansible_collections.katago.fleet.plugins.modules import monitoring_config, unit_current
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import configuration, fleet, rules
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed
from tests.ports import free_ports
from tests.stubs import module_result
from tests.unit.monitoring import alertmanagers

GROUPS = {
    "katago": ["katago-1", "katago-2"],
    "load_balancer": ["lb-1"],
    "monitoring": ["katago-2", "mon-1"],
    "other": ["x"],
}
PORTS = configuration.Ports(9095, 9093, 9115, 9177)
TOKEN = "t" * 32
PROGRAMS = ("promtool", "amtool", "prometheus-blackbox-exporter")
needs_programs = pytest.mark.skipif(
    not all(Path("/usr/bin", name).exists() for name in PROGRAMS), reason="the programs are not installed"
)


def variables(**more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The variables of all hosts, with the defaults of roles."""
    addresses = {"katago-1": "10.0.0.1", "katago-2": "10.0.0.2", "lb-1": "10.0.0.3", "mon-1": "fd00::4"}
    hostvars: dict[str, dict[str, Any]] = {
        name: {
            "fleet_address": address,
            "monitoring_listen_address": "0.0.0.0",
            **more.get(name.replace("-", "_"), {}),
        }
        for name, address in addresses.items()
    }
    return fleet.with_defaults(GROUPS, hostvars)


def found(**more: dict[str, Any]) -> list[fleet.Host]:
    return fleet.hosts(GROUPS, variables(**more))


def files(**more: Any) -> dict[str, str]:
    arguments: dict[str, Any] = {
        "receivers": [],
        "heartbeat": "",
        "reference": "docs/a.md",
        "name": "go",
        **more,
    }
    return configuration.files(found(), monitor="katago-2", ports=PORTS, **arguments)


def places(job: str, monitor: str = "katago-2") -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for target in fleet.targets(found(), monitor)[job]:
        result.setdefault(target["labels"]["instance"], []).extend(target["targets"])
    return result


def test_every_host_of_the_inventory_is_a_target() -> None:
    assert places("node") == {
        "katago-1": ["10.0.0.1:9998"],
        # The monitoring host reaches itself by loopback.
        "katago-2": ["127.0.0.1:9998"],
        "lb-1": ["10.0.0.3:9998"],
        "mon-1": ["[fd00::4]:9998"],
    }
    assert places("katago").keys() == {"katago-1", "katago-2"}
    assert places("load_balancer").keys() == {"lb-1"}
    # Monitoring hosts watch each other.
    assert places("prometheus").keys() == places("alertmanager").keys() == {"katago-2", "mon-1"}


def test_everything_with_a_certificate_is_tried() -> None:
    more: dict[str, dict[str, Any]] = {
        "katago_1": {"katago_mcp_tls_certificate": "a.pem", "katago_mcp_port": 8443},
        "lb_1": {"load_balancer_tls_certificate": "b.pem"},
    }
    tls = fleet.targets(fleet.hosts(GROUPS, variables(**more)), "mon-1")["tls"]
    named = {(each["labels"]["instance"], each["labels"]["endpoint"]): each["targets"] for each in tls}
    assert named["katago-1", "service"] == ["10.0.0.1:8443"]
    assert named["lb-1", "load_balancer"] == ["10.0.0.3:443"]
    assert named["katago-2", "exporters"] == ["10.0.0.2:9998"]
    assert len(named) == 6


def test_inventory_is_a_metric() -> None:
    text = fleet.inventory_metrics(found(katago_1={"backup_repository": "/srv/backup"}), "mon-1")
    scrape = prometheus.parse(text)
    assert scrape.value("katago_inventory_host", host="katago-1", prober="mon-1", backup="yes") == 1
    assert scrape.value("katago_inventory_host", host="katago-2", prober="mon-1", backup="no") == 1
    targets = {(each["host"], each["scrape"]) for each in scrape.labels("katago_inventory_target")}
    assert targets == {
        (host, job)
        for job in fleet.targets(found(), "x")
        if job not in ("reach", "tls")
        for host in places(job)
    }


def test_prober_calls_hosts_and_load_balancers() -> None:
    more: dict[str, dict[str, Any]] = {
        "katago_1": {"katago_mcp_allowed_hosts": ["go.example.org:*"], "katago_mcp_port": 8081},
        "lb_1": {"load_balancer_names": ["go.example.org"]},
    }
    called = {each["host"]: each for each in fleet.probed(GROUPS, variables(**more))}
    assert called["katago-1"]["url"] == "http://10.0.0.1:8081/mcp"
    assert called["katago-1"]["name"] == "go.example.org:8081"
    assert called["lb-1"]["url"] == "http://10.0.0.3:80/mcp"
    assert called["katago-2"]["name"] == ""
    assert "mon-1" not in called


def test_prober_gets_a_token_that_may_only_analyse() -> None:
    tokens = [
        {"name": "a", "scopes": ["admin"], "token": "admin"},
        {"name": "b", "scopes": ["analyze"], "token": "analyst"},
    ]
    assert (
        fleet.token_to_analyse(variables(katago_1={"katago_mcp_tokens": tokens}), GROUPS["katago"])
        == "analyst"
    )
    assert fleet.token_to_analyse(variables(), GROUPS["katago"]) == ""


def test_host_that_cannot_be_reached_is_a_problem() -> None:
    hosts = found(
        katago_1={"monitoring_listen_address": "127.0.0.1"}, mon_1={"monitoring_listen_address": "::1"}
    )
    (problem,) = fleet.problems(hosts, TOKEN, "mon-1")
    assert "katago-1 listen on 127.0.0.1 only (monitoring_listen_address)" in problem
    assert list(fleet.problems(found(), TOKEN, "mon-1")) == []


def test_short_token_is_a_problem_that_does_not_show_it() -> None:
    (problem,) = fleet.problems(found(), "hunter2", "mon-1")
    assert "monitoring_token has 7 characters" in problem
    assert "hunter2" not in problem


@needs_programs
def test_programs_accept_the_configuration(tmp_path: Path) -> None:
    receivers, problems = action.parsed(
        [{"name": "team", "severities": ["P0", "P1"], "webhook_configs": [{"url": "http://127.0.0.1:1/"}]}]
    )
    assert problems == []
    healing = configuration.Healing(9099, "s" * 64)
    write(tmp_path, files(receivers=receivers, heartbeat="http://127.0.0.1:1/", healing=healing))
    assert monitoring_config.rejected(tmp_path) == ""
    # With all files that the configuration names, in the place of those of the running unit.
    config = tmp_path / "prometheus.yml"
    (tmp_path / "exporters.pem").write_text("")
    (tmp_path / "token").write_text(TOKEN)
    config.write_text(config.read_text().replace("/run/credentials/katago-prometheus.service/token", "token"))
    done = subprocess.run(
        ["promtool", "check", "config", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def write(directory: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)


@needs_programs
@pytest.mark.parametrize(
    ("name", "text", "program"),
    [
        ("prometheus.yml", "global: {scrape_interval: often}", "promtool"),
        ("rules.yml", "groups: [{name: a, rules: [{alert: A, expr: 'up =='}]}]", "promtool"),
        ("alertmanager.yml", "route: {receiver: nobody}", "amtool"),
        ("blackbox.yml", "modules: {a: {prober: magic, unknown: 1}}", "prometheus-blackbox-exporter"),
    ],
)
def test_damaged_file_is_rejected_by_its_program(tmp_path: Path, name: str, text: str, program: str) -> None:
    write(tmp_path, {**files(), name: text})
    assert monitoring_config.rejected(tmp_path).startswith(program)


def routed(labels: dict[str, str], tmp_path: Path, **more: Any) -> list[str]:
    """The receivers of an alert, as amtool finds them."""
    file = tmp_path / "alertmanager.yml"
    file.write_text(files(**more)["alertmanager.yml"])
    command = [
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={file}",
        *(f"{k}={v}" for k, v in labels.items()),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(",")


@needs_programs
def test_each_severity_reaches_everybody_who_wants_it(tmp_path: Path) -> None:
    hook = [{"url": "http://127.0.0.1:1/"}]
    receivers, _ = action.parsed(
        [
            {"name": "on-call", "severities": ["P0", "P1"], "webhook_configs": hook},
            {"name": "team", "severities": ["P0", "P3"], "webhook_configs": hook},
        ]
    )
    more = {"receivers": receivers, "heartbeat": "http://127.0.0.1:2/"}
    assert routed({"severity": "P0"}, tmp_path, **more) == ["on-call", "team"]
    assert routed({"severity": "P1"}, tmp_path, **more) == ["on-call"]
    assert routed({"severity": "P2"}, tmp_path, **more) == ["nobody"]
    assert routed({"alertname": "MonitoringAlive", "severity": "none"}, tmp_path, **more) == ["heartbeat"]


class Tagged(str):
    """A text as Ansible passes it from an inventory."""


def test_texts_of_an_inventory_are_written_as_texts() -> None:
    receivers, _ = action.parsed(
        [
            {
                "name": Tagged("team"),
                "severities": [Tagged("P0")],
                "webhook_configs": [{"url": Tagged("http://x/")}],
            }
        ]
    )
    written = files(receivers=receivers, heartbeat=Tagged("http://y/"), name=Tagged("go"))
    assert yaml.safe_load(written["prometheus.yml"])["global"]["external_labels"] == {"fleet": "go"}
    assert yaml.safe_load(written["alertmanager.yml"])["receivers"][-1]["name"] == "team"


def test_receiver_without_a_channel_is_a_problem() -> None:
    receivers, problems = action.parsed([{"name": "team", "severities": ["P0"]}, "mail"])
    assert receivers == []
    assert [problem.partition(" needs")[0] for problem in problems] == [
        "monitoring_receivers: entry 1",
        "monitoring_receivers: entry 2",
    ]


def test_inhibited_alerts_exist() -> None:
    names = {
        each["alert"]
        for group in yaml.safe_load(files()["rules.yml"])["groups"]
        for each in group["rules"]
        if "alert" in each
    }
    for rule in yaml.safe_load(files()["alertmanager.yml"])["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            for name in matcher.split('"')[1].split("|"):
                assert name in names or (
                    name.endswith(".+") and any(each.startswith(name[:-2]) for each in names)
                )


def test_certificates_of_earlier_runs_are_kept() -> None:
    content, unknown = monitoring_config.with_certificates(
        {"rules.yml": ""}, {"a": "A2\n", "b": ""}, {"a": "A1\n", "b": "B1\n", "gone": "G\n"}, ["a", "b", "c"]
    )
    assert content["exporters.pem"] == "A2\nB1\n"
    assert unknown == ["c"]
    assert "certificates/gone.pem" not in content


def test_configuration_is_switched_completely(tmp_path: Path) -> None:
    root = tmp_path / "etc"
    first, second = root / "configs" / "1", root / "configs" / "2"
    content = {"rules.yml": "a", "alertmanager.yml": "secret"}
    monitoring_config.write(first, content)
    monitoring_config.switch(root, first)
    assert monitoring_config.is_intact(root / "current", content)
    assert (first / "alertmanager.yml").stat().st_mode & 0o777 == 0o600
    monitoring_config.write(second, {**content, "rules.yml": "b"})
    monitoring_config.switch(root, second)
    assert (root / "current" / "rules.yml").read_text() == "b"
    assert not first.exists()
    (second / "targets.json").write_text(json.dumps([]))
    assert not monitoring_config.is_intact(root / "current", {**content, "rules.yml": "b"})


def started(at: float, *, active: bool = True, needs_reload: bool = False) -> unit_state.State:
    return unit_state.State(active, True, needs_reload, at, "a")


def test_unit_is_restarted_if_a_file_changed_after_its_start(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_text("")
    changed = file.stat().st_mtime
    missing = tmp_path / "missing"
    assert unit_current.needed(started(changed, active=False), [file]) == "started"
    assert unit_current.needed(started(int(changed) - 5), [missing, file]) == "restarted"
    # systemd reports whole seconds.
    assert unit_current.needed(started(int(changed)), [file]) == "kept"
    assert unit_current.needed(started(changed + 5), [file]) == "kept"
    assert unit_current.needed(started(changed + 5, needs_reload=True), [file]) == "reloaded"


@pytest.mark.parametrize("unit", ["x.timer", "x.service"])
def test_service_whose_file_changed_is_read_again_with_its_timer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unit: str
) -> None:
    states = {"x.timer": started(1), "x.service": started(0, active=False, needs_reload=True)}
    orders: list[str] = []
    monkeypatch.setattr(paths, "SYSTEM_UNITS", tmp_path)
    monkeypatch.setattr(unit_state, "read", states.__getitem__)
    monkeypatch.setattr(unit_current, "_SETTLE_SECONDS", 0)

    def ask(command: list[str], *_: float) -> tuple[int, str]:
        orders.append(" ".join(command[1:]))
        return 0, ""

    monkeypatch.setattr(commands, "ask", ask)
    states["x.service"] = replace(states["x.service"], active=unit == "x.service")
    result = module_result(monkeypatch, unit_current, units={unit: []})
    assert (result["changed"], result["actions"]) == (True, {unit: "reloaded"})
    assert orders == ["daemon-reload"]


def test_one_monitoring_host_opens_no_port_for_others() -> None:
    assert fleet.cluster_options({"mon-1": "10.0.0.4"}, "mon-1", 9094) == ["--cluster.listen-address="]


def test_monitoring_hosts_find_each_other_with_tls() -> None:
    addresses = {"mon-1": "10.0.0.4", "mon-2": "fd00::5"}
    assert fleet.cluster_options(addresses, "mon-2", 9094) == [
        "--cluster.listen-address=[fd00::5]:9094",
        "--cluster.peer=10.0.0.4:9094",
        "--cluster.tls-config=/etc/katago-monitoring/current/cluster.yml",
    ]


def test_name_in_the_place_of_an_address_is_a_problem_of_several_monitoring_hosts() -> None:
    hosts = found(mon_1={"fleet_address": "mon-1.fleet.test"})
    (problem,) = fleet.problems(hosts, TOKEN, "katago-2")
    assert "The address of mon-1 is the name mon-1.fleet.test" in problem
    alone = [host for host in hosts if host.name != "katago-2"]
    assert list(fleet.problems(alone, TOKEN, "mon-1")) == []


def test_only_monitoring_hosts_are_trusted_in_the_cluster() -> None:
    content, _ = monitoring_config.with_certificates({}, {"a": "A\n"}, {"m": "M\n"}, ["a", "m"], ["m"])
    assert content[configuration.MONITORS] == "M\n"
    assert content["exporters.pem"] == "A\nM\n"


def pair_of(directory: Path) -> Path:
    """A key and a certificate as the role makes them for each host."""
    directory.mkdir()
    key_pair.ensure(
        key_pair.Pair("certificate", directory / "tls.key", directory / "tls.crt", configuration.SERVER_NAME)
    )
    return directory


def cluster_file(directory: Path, trusted: str) -> str:
    (directory / configuration.MONITORS).write_text(trusted)
    text = yaml.safe_dump(configuration.cluster())
    for path in ("/etc/katago-exporters/tls.crt", "/run/credentials/katago-alertmanager.service/tls.key"):
        assert path in text
        text = text.replace(path, str(directory / Path(path).name))
    (directory / "cluster.yml").write_text(text)
    return str(directory / "cluster.yml")


@pytest.mark.skipif(not alertmanagers.PROGRAM.exists(), reason="Alertmanager is not installed")
def test_alertmanagers_share_silences_and_a_stranger_gets_none(tmp_path: Path) -> None:
    names = ("mon-1", "mon-2", "stranger")
    pairs = {name: pair_of(tmp_path / name) for name in names}
    trusted = "".join((pairs[name] / "tls.crt").read_text() for name in names[:2])
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with contextlib.ExitStack() as stack:
        web = {}
        for name, directory in pairs.items():
            options = [
                f"--cluster.listen-address=127.0.0.1:{ports[name]}",
                *(f"--cluster.peer=127.0.0.1:{ports[peer]}" for peer in names[:2] if peer != name),
                f"--cluster.tls-config={cluster_file(directory, trusted)}",
                *("--cluster.reconnect-interval=1s", "--cluster.settle-timeout=1s"),
                *("--cluster.gossip-interval=50ms", "--cluster.pushpull-interval=1s"),
            ]
            web[name] = stack.enter_context(alertmanagers.alertmanager(directory / "am", options=options))
        members = {"mon-1": 2, "mon-2": 2}
        wait_until(lambda: {name: peers(web[name]) for name in members} == members)
        silence = alertmanager.Silence(
            ({"name": "instance", "value": "a", "isRegex": False, "isEqual": True},), "ann", "restart"
        )
        now = datetime.now(UTC)
        (id,) = alertmanager.hold(alertmanager.Api(web["mon-1"]), [silence], now + timedelta(minutes=5))
        other = alertmanager.Api(web["mon-2"])
        wait_until(lambda: [each["id"] for each in other.silences("restart")] == [id])
        # The other one finds the silence of the same run, so it sets no second one, and ends it for both.
        assert alertmanager.hold(other, [silence], now + timedelta(minutes=4)) == [id]
        assert alertmanager.Api(web["stranger"]).silences("restart") == []
        assert {name: peers(web[name]) for name in members} == members
        alertmanager.end(other, [silence], timedelta())
        wait_until(lambda: alertmanager.Api(web["mon-1"]).silences("restart") == [])


def peers(port: int) -> int:
    return len(alertmanagers.ask(port, "/api/v2/status")["cluster"].get("peers", []))


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("name", allowed.RESPONSES)
def test_largest_message_for_the_healing_of_the_fleet_is_one_that_the_receiver_accepts(name: str) -> None:
    host, reference = f"{'x' * 60}.example.org", f"https://{'x' * 60}.example.org/docs/alerts.html"
    text = rules.rendered([next(each for each in ALERTS if each.name == name)], [], reference)
    (rule,) = (each for group in yaml.safe_load(text)["groups"] for each in group["rules"] if "alert" in each)
    notes = {key: re.sub(r"{{.*?}}", host, value) for key, value in rule["annotations"].items()}
    alert = {
        "status": "firing",
        "labels": {
            "alertname": name,
            "fleet": "x" * 30,
            "instance": host,
            "severity": "P1",
            "tool": "x" * 30,
        },
        "annotations": notes,
        "startsAt": "2026-11-30T03:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": f"http://{host}:9095/graph?g0.expr={quote(rule['expr'])}&g0.tab=1",
        "fingerprint": "0123456789abcdef",
    }
    # aiohttp, in which the receiver listens, rejects a larger body. Alertmanager would not send it again.
    assert configuration.MOST_ALERTS * len(json.dumps(alert)) < 1 << 20


def test_alerts_for_the_healing_of_the_fleet_are_one_message_with_a_token() -> None:
    healing = configuration.Healing(9099, "s" * 64)
    content = yaml.safe_load(files(healing=healing)["alertmanager.yml"])
    (route,) = [each for each in content["route"]["routes"] if each["receiver"] == configuration.HEALING]
    # All alerts have the label `fleet`, so they are one group.
    assert route["group_by"] == ["fleet"]
    # People are notified as well.
    assert route["continue"]
    (receiver,) = [each for each in content["receivers"] if each["name"] == configuration.HEALING]
    (webhook,) = receiver["webhook_configs"]
    assert webhook["url"] == "http://127.0.0.1:9099/alerts"
    assert webhook["http_config"]["authorization"]["credentials"] == "s" * 64
    assert configuration.HEALING not in files()["alertmanager.yml"]
