"""The dashboard and the console pages: every name exists, and a real Prometheus renders every page."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.module_utils.monitoring import host_metrics, prober
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import consoles, fleet, panels
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.recordings import RECORDINGS
from tests.unit.monitoring import fleets, prometheuses

ROOT = Path(__file__).resolve().parents[3]
GRAFANA = ROOT / "roles" / "monitoring" / "files" / "grafana"
REFERENCE = "docs/reference/alerts.md"

needs_prometheus = pytest.mark.skipif(
    not (prometheuses.PROGRAM.exists() and prometheuses.PROMTOOL.exists()),
    reason="Prometheus is not installed",
)


def names(expression: str) -> set[str]:
    """The metrics and recordings of an expression, without what is in `by (...)` and in matchers."""
    bare = re.sub(r"\b(?:by|on|ignoring)\s*\([^)]*\)|\{[^}]*\}|\"[^\"]*\"", " ", expression)
    return set(re.findall(r"\b(?:(?:katago|node|haproxy|probe|instance)[\w:]*|up|ALERTS\w*)\b", bare))


def known() -> set[str]:
    """What the exporters have, what Prometheus computes, and what alerts read."""
    server = re.findall(r"^\| `(\w+)`", (ROOT / "docs/reference/metrics.md").read_text(), re.M)
    declared = {each.name for each in (*host_metrics.METRICS, *prober.METRICS, *fleet.METRICS)}
    expressions = [*(each.expression for each in ALERTS), *(each.expression for each in RECORDINGS)]
    used = {name for expression in expressions for name in names(expression)}
    return {*server, *declared, *used, *(each.name for each in RECORDINGS), "ALERTS", "ALERTS_FOR_STATE"}


def console_expressions() -> Iterator[str]:
    """Every query of the console pages, for some host."""
    for text in consoles.pages(REFERENCE).values():
        for expression in re.findall(r"`([^`]+)`", text):
            yield expression.replace("%[1]q", '"katago-1"').replace("%q", '"x"')


def dashboard_expressions() -> Iterator[str]:
    """Every query of the dashboard, for all hosts."""
    dashboard = json.loads((GRAFANA / "katago-fleet.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$host", ".*")


EXPRESSIONS = sorted({*console_expressions(), *dashboard_expressions()})


def test_every_name_of_a_query_exists() -> None:
    assert len(EXPRESSIONS) > len(panels.PANELS)
    used = {name for expression in EXPRESSIONS for name in names(expression)}
    assert used - known() == set()


@needs_prometheus
def test_every_query_is_valid(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(EXPRESSIONS)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        [prometheuses.PROMTOOL, "check", "rules", tmp_path / "rules.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:2000]


def test_dashboard_has_every_panel_and_no_address() -> None:
    text = (GRAFANA / "katago-fleet.json").read_text()
    titles = [panel["title"] for panel in json.loads(text)["panels"]]
    assert {*(each.title for each in panels.PANELS), *panels.SECTIONS, "Alerts that fire"} <= set(titles)
    assert "//" not in text


def test_provisioning_names_the_port_of_prometheus_and_the_directory_of_the_dashboard() -> None:
    (source,) = yaml.safe_load((GRAFANA / "datasource.yml").read_text())["datasources"]
    defaults = yaml.safe_load((ROOT / "roles/monitoring/defaults/main.yml").read_text())
    assert source["url"] == f"http://127.0.0.1:{defaults['monitoring_prometheus_port']}"
    (provider,) = yaml.safe_load((GRAFANA / "dashboards.yml").read_text())["providers"]
    documentation = (ROOT / "docs/monitoring.md").read_text()
    assert provider["options"]["path"] in documentation


class Page(HTMLParser):
    """What a page loads, its links, the cells of its tables by label, and the bars of its charts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[dict[str, str]] = []
        self.bars = self.gaps = 0
        self._label = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what matters about an element."""
        found = {name: value or "" for name, value in attributes}
        self.tags.add(tag)
        if tag == "a":
            self.links.append(found["href"])
        elif url := found.get("src") or found.get("href"):
            self.loaded.append(url)
        if tag == "tr":
            self.rows.append({})
        if tag == "td":
            self._label = found["data-label"]
            self.rows[-1][self._label] = ""
        if tag == "i":
            self.gaps += found.get("class") == "gap"
            self.bars += "--value" in found.get("style", "")

    def handle_endtag(self, tag: str) -> None:
        """Leave a cell."""
        if tag == "td":
            self._label = ""

    def handle_data(self, data: str) -> None:
        """Add to the cell."""
        if self._label:
            self.rows[-1][self._label] += data

    def row(self, **cells: str) -> dict[str, str]:
        """The row with these cells."""
        rows = [{name: text.strip() for name, text in row.items()} for row in self.rows]
        return next(row for row in rows if cells.items() <= row.items())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("prometheus")
    pages = consoles.pages(REFERENCE)
    with prometheuses.prometheus(directory, fleets.series(), fleets.SECONDS, pages) as port:
        yield port


def page(port: int, name: str) -> Page:
    return Page(prometheuses.page(port, f"/consoles/{name}"))


@needs_prometheus
def test_page_of_the_fleet_has_every_host_and_its_state(server: int) -> None:
    shown = page(server, "fleet.html")
    healthy, down = shown.row(Host="katago-1"), shown.row(Host="katago-2")
    assert (healthy["Probe"], healthy["Engine"], healthy["Version"]) == ("answers", "ready", "0.2.0")
    assert (down["Probe"], down["Engine"]) == ("fails", "not ready")
    assert down["State"] == "locked by a procedure"
    assert healthy["State"] == "self-healing paused"
    assert shown.row(Host="katago-3")["State"] == "out of rotation"
    assert shown.row(Host="lb-1")["Hosts in rotation"] == "1"
    assert shown.row(Host="katago-1", Failed="0.1%")["Calls"].endswith("/s")
    assert shown.row(Objective="latency")["Missed"] == "2.1%"


@needs_prometheus
def test_page_of_the_fleet_has_the_host_that_repairs_it_and_why_it_does_not(server: int) -> None:
    row = page(server, "fleet.html").row(Host="mon-1", Program="runs")
    assert row["State"].split() == ["paused", "dry", "run"]
    assert row["Paused for"].startswith("1d 2h")
    assert row["Not repaired in 24 hours"] == "0"
    assert row["Repairs left today"] == "6"


@needs_prometheus
def test_page_of_the_fleet_has_every_alert_with_its_command_the_severest_first(server: int) -> None:
    shown = page(server, "fleet.html")
    assert [row["Severity"] for row in shown.rows if "Severity" in row] == ["P1", "P2", "P3"]
    assert shown.row(Alert="ServiceDown")["Next"] == "bin/fleet triage -l katago-2"
    assert shown.row(Alert="DiskFillsUp")["About"].split() == ["katago-1", "/var/lib/katago-mcp"]


@needs_prometheus
def test_page_of_a_host_has_its_own_alerts_and_figures(server: int) -> None:
    shown = page(server, "host.html?host=katago-2")
    assert [row["Alert"] for row in shown.rows if "Alert" in row] == ["ServiceDown"]
    assert shown.row(Version="0.2.0")["Verdict"] == "validated"
    assert shown.row(Version="0.2.0")["Service"] == "not active"
    assert shown.row(Version="0.2.0")["Self-healing"] == "idle"


@needs_prometheus
def test_time_without_a_value_is_a_gap_in_a_chart(server: int) -> None:
    # katago-3 was down for an hour, in which nothing was analysed.
    without, all_hours = page(server, "host.html?host=katago-3"), page(server, "host.html?host=katago-1")
    hour = 60 // consoles.BAR_MINUTES
    assert without.bars == all_hours.bars - hour
    assert without.gaps == all_hours.gaps + hour


@needs_prometheus
@pytest.mark.parametrize(
    "name", ["fleet.html", "host.html?host=katago-1", "host.html", "host.html?host=gone"]
)
def test_page_loads_nothing_and_runs_nothing(server: int, name: str) -> None:
    shown = page(server, name)
    assert shown.loaded == ["data:,"]
    assert "script" not in shown.tags
    assert all(link.startswith(("fleet.html", "host.html?host=")) for link in shown.links)


@needs_prometheus
def test_host_in_the_address_is_only_text(server: int) -> None:
    text = prometheuses.page(server, "/consoles/host.html?host=%22%7D%20or%20up%3Cscript%3E1%3C/script%3E")
    assert "<script>" not in text


def test_alerts_lead_to_a_reference_with_an_address() -> None:
    text = consoles.fleet("https://docs.fleet.test/alerts.html")
    assert '<a href="https://docs.fleet.test/alerts.html#{{ .Labels.alertname | toLower }}">' in text


def test_every_section_has_panels() -> None:
    assert {each.section for each in panels.PANELS} == set(panels.SECTIONS)
