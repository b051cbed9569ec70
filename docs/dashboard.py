"""Grafana's dashboard of the fleet, from the panels that the console pages of Prometheus show too."""

from __future__ import annotations

from collections.abc import Mapping

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.table import Panel as TablePanel
from grafana_foundation_sdk.builders.timeseries import Panel as TimeseriesPanel
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import panels

_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
_HOSTS = "label_values(katago_inventory_host, instance)"
_FIRING = 'ALERTS{alertstate="firing",alertname!="MonitoringAlive"}'
_HEIGHT, _SPAN, _WHOLE = 8, 8, 24
_UNITS: Mapping[panels.Unit, str] = {
    "per second": "reqps",
    "seconds": "s",
    "ratio": "percentunit",
    "number": "short",
    "celsius": "celsius",
}


def text() -> str:
    """The dashboard as Grafana imports it."""
    builder = (
        Dashboard("KataGo fleet")
        .uid("katago-fleet")
        .tags(["katago"])
        .description("Made by docs/dashboard.py. Change the code, not this dashboard.")
        .readonly()
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("1m")
        .time("now-6h", "now")
        .with_variable(DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(
            QueryVariable("host")
            .label("Host")
            .datasource(_SOURCE)
            .query(_HOSTS)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
        .with_row(Row("Alerts"))
        .with_panel(
            TablePanel()
            .title("Alerts that fire")
            .description("What is silenced in Alertmanager is also shown here.")
            .datasource(_SOURCE)
            .height(_HEIGHT)
            .span(_WHOLE)
            .show_header(True)
            .with_target(Dataquery().expr(_FIRING).instant().format(PromQueryFormat.TABLE).ref_id("A"))
        )
    )
    for section in panels.SECTIONS:
        builder.with_row(Row(section))
        for panel in panels.of(section):
            builder.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(builder.build()) + "\n"


def _panel(panel: panels.Panel) -> TimeseriesPanel:
    return (
        TimeseriesPanel()
        .title(panel.title)
        .description(panel.meaning)
        .datasource(_SOURCE)
        .unit(_UNITS[panel.unit])
        .height(_HEIGHT)
        .span(_SPAN)
        .with_target(Dataquery().expr(panel.expression).legend_format(f"{{{{{panel.legend}}}}}").ref_id("A"))
    )
