"""Monitoring of two hosts: what is scraped, what fires, and what a person or an intruder cannot read.

The tests depend on their order. Molecule has run site.yml before, twice.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.monitoring import host_metrics
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import panels, silences
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.recordings import RECORDINGS
from tests import browser, fleet, hosts

WATCHED, MONITOR = fleet.LAB.hosts()
PROMETHEUS = "http://127.0.0.1:9095"
# Two scrapes and an evaluation of everything.
SETTLED = 120
# Names of an expression: metrics and recordings, then the matchers of each.
_SELECTOR = re.compile(
    r"(?<![\w:\"])(?P<name>(?:katago|node|haproxy|probe|prometheus|alertmanager|instance|up)[\w:]*)(?:\{(?P<matchers>[^}]*)\})?"
)
# Labels look like names.
_LABELS = re.compile(r"\b(?:by|on|ignoring) ?\([^)]*\)")
_MATCHER = re.compile(r'(?P<label>\w+)(?P<operator>=~|!~|!=|=)"(?P<value>[^"]*)"')

ABSENT: Mapping[str, str] = {
    "haproxy_": "the scenario has no load balancer",
    "katago_host_gpu_memory": "the hosts have no GPU",
    "katago_host_gpu_temperature": "the hosts have no GPU",
    "katago_host_gpu_slowed": "the hosts have no GPU",
    "instance:katago_cache_hits:ratio1h": "only probes have used the cache, and they do not count",
}
"""Metrics without a series on these healthy hosts, and why."""
NO_SUCH_VALUE: Mapping[str, str] = {
    'up{job="load_balancer"}': "the scenario has no load balancer",
    'katago_inventory_host{backup="yes"}': "the scenario has no backups",
}


@pytest.fixture(scope="module")
def monitor() -> Any:
    return hosts.connect(MONITOR.name)


@pytest.fixture(scope="module")
def watched() -> Any:
    return hosts.connect(WATCHED.name)


def query(monitor: Any, expression: str) -> list[dict[str, Any]]:
    """The result of a query, a list of `metric` and `value`."""
    answer = json.loads(
        monitor.check_output(
            "curl --silent --get %s/api/v1/query --data-urlencode %s", PROMETHEUS, f"query={expression}"
        )
    )
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def firing(monitor: Any) -> set[tuple[str, str]]:
    """Name and host of every alert that fires."""
    found = query(monitor, 'ALERTS{alertstate="firing"}')
    return {(each["metric"]["alertname"], each["metric"].get("instance", "")) for each in found}


def eventually(condition: Any, seconds: float, what: str) -> float:
    """Wait until a condition holds; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(2)
    return time.monotonic() - began


def selectors() -> Iterator[tuple[str, str]]:
    """Name and matchers of every series that an expression reads."""
    read = [
        *(each.expression for each in ALERTS),
        *(each.expression for each in RECORDINGS),
        *(each.expression.replace(panels.HOST, ".*") for each in panels.PANELS),
    ]
    for expression in (_LABELS.sub(" ", each) for each in read):
        for match in _SELECTOR.finditer(expression):
            yield match["name"], match["matchers"] or ""


def test_every_target_is_up(monitor: Any) -> None:
    eventually(
        lambda: (found := query(monitor, "up")) and all(each["value"][1] == "1" for each in found),
        SETTLED,
        "every target is up",
    )
    up = {(each["metric"]["job"], each["metric"]["instance"]) for each in query(monitor, "up")}
    both = [WATCHED.name, MONITOR.name]
    assert {(job, name) for job in ("node", "katago", "reach", "tls") for name in both} <= up
    assert {(job, MONITOR.name) for job in ("prometheus", "alertmanager")} <= up


def test_second_run_in_check_mode_predicts_no_change() -> None:
    run = fleet.play("monitoring.yml", "--check")
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}, run.output


@pytest.mark.parametrize(("name", "matchers"), sorted(set(selectors())))
def test_every_name_and_label_of_an_expression_is_scraped(monitor: Any, name: str, matchers: str) -> None:
    if any(name.startswith(absent) for absent in ABSENT):
        assert query(monitor, name) == []
        return
    # Rates need two scrapes, and recordings an evaluation of those that they use.
    eventually(lambda: query(monitor, f"last_over_time({name}[10m])"), SETTLED, f"{name} has a series")
    series = query(monitor, f"last_over_time({name}[10m])")
    for match in _MATCHER.finditer(matchers):
        values = {each["metric"].get(match["label"]) for each in series}
        assert values != {None}, f"{name} has no label {match['label']}"
        if match["operator"] == "=" and f"{name}{{{match[0]}}}" not in NO_SUCH_VALUE:
            assert match["value"] in values, f"{name}{{{match[0]}}}: {values}"


def test_prober_finds_right_answers(monitor: Any) -> None:
    for name in ("katago_probe_success", "katago_probe_correct"):
        assert {each["metric"]["instance"]: each["value"][1] for each in query(monitor, name)} == {
            WATCHED.name: "1",
            MONITOR.name: "1",
        }


def test_every_reading_of_the_hosts_succeeds(monitor: Any) -> None:
    failed = query(monitor, "katago_host_reading_ok == 0")
    assert failed == [], hosts.connect(WATCHED.name).check_output("journalctl -u katago-host-metrics -n 20")


def test_nothing_fires_while_healthy(monitor: Any) -> None:
    assert firing(monitor) == {("MonitoringAlive", "")}


def test_rules_are_evaluated_without_errors(monitor: Any) -> None:
    answer = json.loads(monitor.check_output("curl --silent %s/api/v1/rules", PROMETHEUS))
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert len(rules) == len(ALERTS) + len(RECORDINGS)
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []


def test_metrics_need_the_token_and_the_right_address(monitor: Any, watched: Any) -> None:
    url = f"https://{WATCHED.address}:9998/proxy?module=node"
    ask = "curl --silent --insecure --max-time 5 --output /dev/null --write-out %{http_code}"
    assert monitor.run(f"{ask} '{url}'").stdout == "401"
    token = "$(cat /etc/katago-exporters/token)"
    assert monitor.run(f"{ask} --header \"Authorization: Bearer {token}\" '{url}'").stdout == "200"
    # A host that does not monitor gets no connection, also with the token.
    other = f"https://{MONITOR.address}:9998/proxy?module=node"
    assert watched.run(f"{ask} --header \"Authorization: Bearer {token}\" '{other}'").stdout == "000"


def test_only_the_gateway_listens_beyond_loopback(monitor: Any) -> None:
    listening = monitor.check_output("ss --listening --tcp --numeric --processes --no-header")
    open_to_all = {
        line.split()[3].rpartition(":")[2]
        for line in listening.splitlines()
        if not re.match(r"(127\.|\[::1\])", line.split()[3])
    }
    assert open_to_all == {"22", "8080", "9090", "9998"}


@pytest.mark.parametrize(
    "unit",
    [
        *("katago-node-exporter", "katago-exporter-gateway", "katago-prometheus", "katago-alertmanager"),
        *("katago-blackbox-exporter", "katago-prober"),
    ],
)
def test_programs_run_in_a_sandbox(monitor: Any, unit: str) -> None:
    line = monitor.check_output("systemd-analyze security --no-pager %s | tail -1", f"{unit}.service")
    exposure = float(re.findall(r"\d+\.\d+", line)[0])
    assert exposure < 2.5, line


def test_pages_show_the_fleet_and_each_host(monitor: Any, tmp_path: Path) -> None:
    pages = {
        "fleet.html": (WATCHED.name, MONITOR.name, "answers", "ready"),
        f"host.html?host={WATCHED.name}": (WATCHED.name, "validated", "active"),
    }
    (tmp_path / "profile").mkdir()
    with browser.started(tmp_path / "profile") as chromium:
        for name, texts in pages.items():
            page = tmp_path / f"{name.partition('.')[0]}.html"
            page.write_text(monitor.check_output("curl --silent --fail %s", f"{PROMETHEUS}/consoles/{name}"))
            for width in (1280, 400):
                for dark in (False, True):
                    shown = chromium.show(page, width, dark=dark)
                    assert shown.page_width <= width
                    assert (shown.asked, shown.trouble) == ([page.as_uri()], [])
                    for text in texts:
                        assert text in shown.text


def test_metrics_of_self_healing_exist_before_it_is_set_up(monitor: Any) -> None:
    assert {each["value"][1] for each in query(monitor, "katago_host_healing_set_up")} == {"0"}
    for metric in host_metrics.METRICS:
        if "_healing_" in metric.name:
            hosts_of_metric = {each["metric"]["instance"] for each in query(monitor, metric.name)}
            assert hosts_of_metric == {WATCHED.name, MONITOR.name}


def silences_in_force(monitor: Any) -> list[dict[str, Any]]:
    """The silences of Alertmanager that have not ended."""
    found = json.loads(monitor.check_output("curl --silent http://127.0.0.1:9093/api/v2/silences"))
    return [each for each in found if each["status"]["state"] == "active"]


def test_restart_silences_its_host_while_it_runs(monitor: Any) -> None:
    assert silences_in_force(monitor) == []
    seen: list[dict[str, Any]] = []
    with ThreadPoolExecutor() as pool:
        running = pool.submit(fleet.play, "restart.yml", f"--limit={WATCHED.name}")
        while not running.done():
            seen += silences_in_force(monitor)
            time.sleep(0.5)
    run = running.result()
    assert run.returncode == 0, run.output
    of_host = [each for each in seen if {"instance", "server"} & {one["name"] for one in each["matchers"]}]
    assert of_host == seen != []
    for silence in seen:
        values = {one["name"]: one for one in silence["matchers"]}
        assert values.get("instance", values.get("server", {}))["value"] == WATCHED.name
        assert values["severity"] == {"name": "severity", "value": "P0", "isRegex": False, "isEqual": False}
        assert set(values["alertname"]["value"].split("|")) <= set(silences.CAUSED)
        assert silence["comment"].startswith(f"restart works on {WATCHED.name}, started by ")
    # What is left ends soon, so that the alerts of the restart can resolve.
    now = datetime.now(UTC)
    for silence in silences_in_force(monitor):
        assert datetime.fromisoformat(silence["endsAt"]) - now < timedelta(minutes=3)


def test_failed_restart_ends_its_silence(monitor: Any) -> None:
    eventually(lambda: silences_in_force(monitor) == [], 180, "the silence of the last restart ends")
    # Refused after the silence was set: the service would not start with a file that was changed.
    watched_host = hosts.connect(WATCHED.name)
    config = watched_host.check_output("readlink -f /opt/katago-mcp/current") + "/config.json"
    watched_host.check_output("cp --preserve %s /root/config.json && echo >> %s", config, config)
    try:
        run = fleet.play("restart.yml", f"--limit={WATCHED.name}")
    finally:
        watched_host.check_output("cp --preserve /root/config.json %s", config)
    assert run.returncode != 0, run.output
    assert silences_in_force(monitor) == []


def test_monitoring_that_is_down_does_not_stop_a_restart(monitor: Any) -> None:
    monitor.check_output("systemctl stop katago-alertmanager.service")
    try:
        run = fleet.play("restart.yml", f"--limit={WATCHED.name}")
    finally:
        monitor.check_output("systemctl start katago-alertmanager.service")
    assert run.returncode == 0, run.output
    assert f"Alerts about {WATCHED.name} are not silenced during restart" in run.output


def test_stopped_service_fires_and_resolves(monitor: Any, watched: Any) -> None:
    watched.check_output("systemctl stop katago-mcp.service")
    try:
        expected = {("ServiceDown", WATCHED.name), ("ProbeFailed", WATCHED.name)}
        eventually(lambda: expected <= firing(monitor), 240, "the alerts fire")
        alerts = json.loads(monitor.check_output("curl --silent http://127.0.0.1:9093/api/v2/alerts"))
        down = next(each for each in alerts if each["labels"]["alertname"] == "ServiceDown")
        assert down["annotations"]["command"] == f"bin/fleet triage -l {WATCHED.name}"
        assert down["annotations"]["runbook_url"] == "docs/reference/alerts.md#servicedown"
    finally:
        watched.check_output("systemctl start katago-mcp.service")
    eventually(lambda: firing(monitor) == {("MonitoringAlive", "")}, 240, "the alerts resolve")


def test_rejected_configuration_changes_nothing(monitor: Any) -> None:
    before = monitor.check_output("readlink /etc/katago-monitoring/current")
    receivers = [{"name": "team", "severities": ["P0"], "webhook_configs": [{"adress": "http://x"}]}]
    run = fleet.play(
        "monitoring.yml", f"--limit={MONITOR.name}", variables={"monitoring_receivers": receivers}
    )
    assert run.returncode != 0
    assert "amtool" in run.output and "adress" in run.output
    assert monitor.check_output("readlink /etc/katago-monitoring/current") == before
