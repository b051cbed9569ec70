"""The console pages of Prometheus: the fleet on one page, and one page for a host.

Prometheus renders them with its own templates, so they work without Grafana. They load nothing, and have no
script: a chart is a row of bars whose heights the browser computes from the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import rules
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.panels import (
    HOST,
    PANELS,
    Panel,
    Unit,
    of,
)

FLEET_PAGE, HOST_PAGE = "consoles/fleet.html", "consoles/host.html"
BARS, BAR_MINUTES = 48, 15
"""A chart shows 12 hours."""
_REFRESH_SECONDS = 60
_NONE = "&ndash;"
"""A figure without a value."""
_FIRING = 'ALERTS{alertstate="firing",alertname!="MonitoringAlive"}'
_SINCE = f"(time() - ALERTS_FOR_STATE) and ignoring (alertstate) {_FIRING}"
# A list of names would grow with the alert, so the host is matched by its own name alone.
_HOST_OF_PAGE = "$host"

_FORMATS: dict[Unit, str] = {
    "per second": "{{ VALUE | humanize }}/s",
    "seconds": "{{ VALUE | humanizeDuration }}",
    "ratio": "{{ VALUE | humanizePercentage }}",
    "number": "{{ VALUE | humanize }}",
    "celsius": "{{ VALUE | humanize }} °C",
}
_FLEET_CHARTS = (
    Panel("Calls", "Requests", "per second", "sum(rate(katago_requests_total[5m]))", "Of all hosts."),
    Panel(
        "Failed calls",
        "Objectives",
        "ratio",
        'katago:objective_missed:ratio5m{objective="availability"}',
        "Share of calls that failed because of the service.",
    ),
    Panel(
        "Slow analyses",
        "Objectives",
        "ratio",
        'katago:objective_missed:ratio5m{objective="latency"}',
        "Share of analyses of one position that took longer than 10 s.",
    ),
)
_NOTES_OF_HOST = (
    ("katago_host_lock_since_timestamp_seconds{OWN} > 0", "locked by a procedure", "warn"),
    ("katago_host_override_active{OWN} == 1", "limits lowered", "warn"),
    ("katago_host_security_mode{OWN} == 1", "security mode", "bad"),
    (
        'max by (server) (haproxy_server_status{proxy="mcp",state=~"MAINT|DRAIN",server=HOST}) == 1',
        "out of rotation",
        "warn",
    ),
    ("katago_host_failed_units{OWN} > 0", "failed units", "warn"),
    ('katago_host_healing_status{status="stopped",OWN} == 1', "self-healing stopped", "bad"),
    ('katago_host_healing_status{status="paused",OWN} == 1', "self-healing paused", "warn"),
)
_NOTES_OF_FLEET_HEALING = (
    ("katago_host_fleet_healing_stopped{OWN} == 1", "stopped", "bad"),
    ("katago_host_fleet_healing_paused{OWN} == 1", "paused", "warn"),
    ("katago_host_fleet_healing_dry_run{OWN} == 1", "dry run", "warn"),
    ("katago_host_fleet_healing_escalated{OWN} == 1", "a person is needed", "bad"),
)
_PAUSED_SINCE = "katago_host_fleet_healing_paused_since_timestamp_seconds{OWN}"
_REPAIRED = 'katago_host_fleet_healing_repairs_total{result="repaired",OWN}'
_NOT_REPAIRED = 'katago_host_fleet_healing_repairs_total{result!="repaired",OWN}'
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --page: #ffffff;
  --box: #f6f8fa; --bar: #0969da; --ok: #116329; --warn: #7d4e00; --bad: #a40e26; }
@media (prefers-color-scheme: dark) { :root {
  --text: #e6edf3; --soft: #9198a1; --line: #3d444d; --page: #0d1117;
  --box: #151b23; --bar: #4493f8; --ok: #56d364; --warn: #e3b341; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1280px; padding: 1rem; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
p { margin: 0 0 .5rem; color: var(--soft); } a { color: inherit; }
table { width: 100%; border-collapse: collapse; } th, td { padding: .35rem .6rem; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; }
code { font: .9em ui-monospace, monospace; background: var(--box); padding: .1rem .3rem; border-radius: 4px; }
b { font-weight: 600; } .ok { color: var(--ok); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.none { color: var(--soft); font-weight: 400; }
.charts { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); }
figure { margin: 0; padding: .6rem .75rem; background: var(--box); border: 1px solid var(--line);
  border-radius: 6px; }
figcaption { display: flex; justify-content: space-between; gap: .5rem; }
figcaption b { white-space: nowrap; }
figure small { color: var(--soft); }
.bars { display: flex; align-items: flex-end; gap: 1px; height: 4rem; margin: .4rem 0 .2rem;
  border-bottom: 1px solid var(--line); }
.bars i { flex: 1; min-height: 1px; background: var(--bar);
  height: calc(var(--value) / var(--most) * 100%); }
.bars i.gap { background: none; }
@media (max-width: 640px) {
  thead { display: none; } tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--line); }
  td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .15rem 0;
    text-align: right; }
  td::before { content: attr(data-label); color: var(--soft); text-align: left; flex: none; }
}
"""


def pages(reference: str) -> dict[str, str]:
    """The pages by their path in the configuration's directory. `reference`: of alerts, a path or a URL."""
    return {FLEET_PAGE: fleet(reference), HOST_PAGE: host(reference)}


def fleet(reference: str) -> str:
    """The page of the fleet: what fires, the objectives, and every host in one line."""
    hosts = (
        ("Host", _link_to_host()),
        ("Probe", _state("max(katago_probe_success{OWN})", "answers", "fails")),
        ("Answers", _state("min(katago_probe_correct{OWN})", "right", "wrong")),
        ("Engine", _state("katago_engine_up{OWN}", "ready", "not ready")),
        ("Calls", _figure("sum(rate(katago_requests_total{OWN}[5m]))", "per second")),
        ("Failed", _figure("instance:katago_requests_failed:ratio5m{OWN}", "ratio")),
        ("Analysis, p95", _figure("max(instance:katago_analysis_seconds:p95_5m{OWN})", "seconds")),
        ("Memory available", _figure(_panel("Memory available"), "ratio")),
        ("Disk free", _figure(_panel("Disk free"), "ratio")),
        ("Version", _label("katago_host_release_info{OWN}", "version")),
        ("State", _notes()),
    )
    others = (
        ("Host", _link_to_host()),
        ("Reachable", _state('max(probe_success{job="reach",OWN})', "yes", "no")),
        ("Memory available", _figure(_panel("Memory available"), "ratio")),
        ("Disk free", _figure(_panel("Disk free"), "ratio")),
        ("Hosts in rotation", _figure('haproxy_backend_active_servers{proxy="mcp",OWN}', "number")),
    )
    healing = (
        ("Host", _link_to_host()),
        ("Program", _state("katago_host_fleet_healing_running{OWN}", "runs", "does not run")),
        ("State", _notes(_NOTES_OF_FLEET_HEALING)),
        (
            "Paused for",
            _figure(f"time() - ({_PAUSED_SINCE} > 0)", "seconds"),
        ),
        ("Repaired in 24 hours", _figure(f"sum(increase({_REPAIRED}[1d]))", "number")),
        ("Not repaired in 24 hours", _figure(f"sum(increase({_NOT_REPAIRED}[1d]))", "number")),
        ("Repairs left today", _figure('katago_host_fleet_healing_budget_left{period="day",OWN}', "number")),
    )
    body = [
        "<h1>{{ with .ExternalLabels.fleet }}{{ . }}{{ end }}: all hosts</h1>",
        f'<p>Of Prometheus at {{{{ with query "time()" }}}}{{{{ . | first | value | humanizeTimestamp }}}}'
        f"{{{{ end }}}}. Refreshed every {_REFRESH_SECONDS} s. What is silenced is also shown here.</p>",
        "<h2>Alerts that fire</h2>",
        _alerts(_SINCE, reference),
        "<h2>Objectives of 30 days</h2>",
        _objectives(),
        "<h2>The last 12 hours</h2>",
        _charts([*_FLEET_CHARTS, *of("Fleet healing")]),
        "<h2>Hosts of the fleet</h2>",
        _hosts("group by (instance) (katago_inventory_host)", hosts, "The inventory has none."),
        "<h2>Fleet healing</h2>",
        _hosts(
            "group by (instance) (katago_host_fleet_healing_set_up == 1)",
            healing,
            "It is not set up.",
        ),
        "<h2>Other hosts</h2>",
        _hosts(
            "group by (instance) (katago_inventory_target)"
            " unless on (instance) group by (instance) (katago_inventory_host)",
            others,
            "None.",
        ),
    ]
    return _page("Fleet", body)


def host(reference: str) -> str:
    """The page of one host, which the parameter `host` names."""
    facts = (
        ("Version", _label("katago_host_release_info{OWN}", "version")),
        ("Release", _label("katago_host_release_info{OWN}", "release")),
        ("Verdict", _label("katago_host_release_verdict{OWN} == 1", "verdict")),
        ("Service", _state("katago_host_service_active{OWN}", "active", "not active")),
        ("Engine", _label("katago_engine_state{OWN} == 1", "state")),
        ("Verified backup", _age("katago_host_backup_verified_timestamp_seconds{OWN}", "never")),
        ("Certificate", _figure("instance:certificate_expiry:seconds{OWN}", "seconds")),
        ("Self-healing", _label("katago_host_healing_status{OWN} == 1", "status")),
        ("Reboot", _state("katago_host_reboot_required{OWN}", "required", "not required", good=0)),
        ("State", _notes()),
    )
    cells = "".join(_cell(name, content) for name, content in facts)
    heads = "".join(f"<th>{escape(name)}</th>" for name, _ in facts)
    body = [
        "{{ $host := .Params.host }}",
        '<p><a href="fleet.html">All hosts</a></p>',
        "<h1>{{ if $host }}{{ $host }}{{ else }}No host{{ end }}</h1>",
        "{{ if not $host }}<p>Name a host in the address: host.html?host=NAME</p>{{ else }}",
        "<h2>Alerts that fire</h2>",
        _alerts(f"({_SINCE}) and on (alertname, instance) ALERTS{{instance=HOST}}", reference, of_host=True),
        "<h2>Now</h2>",
        f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table>",
        "<h2>The last 12 hours</h2>",
        _charts([each for each in PANELS if HOST in each.expression], of_host=True),
        "{{ end }}",
    ]
    return _page("Host", body)


def _page(title: str, body: Sequence[str]) -> str:
    head = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}">'
        # Otherwise browsers ask for an icon.
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{_STYLE}</style></head><body>'
    )
    # Templates can only be defined outside of all others.
    return "\n".join([_COMMANDS, head, *body, "</body></html>"]).lstrip() + "\n"


def _query(expression: str) -> str:
    """A query in Go's template language. `HOST` in it stands for the name of the host as a string."""
    own = expression.replace("{OWN}", "{instance=HOST}").replace("OWN}", "instance=HOST}")
    if "HOST" not in own:
        return f"query `{own}`"
    return f"printf `{own.replace('HOST', '%[1]q')}` {_HOST_OF_PAGE} | query"


def _panel(title: str) -> str:
    """The expression of a panel for one host."""
    return _for_one(next(each for each in PANELS if each.title == title))


def _for_one(panel: Panel) -> str:
    return panel.expression.replace(f'instance=~"{HOST}"', "instance=HOST")


def _formatted(unit: Unit, value: str) -> str:
    return _FORMATS[unit].replace("VALUE", value)


def _figure(expression: str, unit: Unit) -> str:
    shown = _formatted(unit, ". | value")
    return (
        f'{{{{ range {_query(expression)} }}}}{shown}{{{{ else }}}}<b class="none">{_NONE}</b>{{{{ end }}}}'
    )


def _state(expression: str, yes: str, no: str, *, good: int = 1) -> str:
    """A word for 1 and one for 0. `good`: which of them is as it should be."""
    classes = ("ok", "bad") if good == 1 else ("warn", "ok")
    return (
        f"{{{{ range {_query(expression)} }}}}{{{{ if eq (. | value) 1.0 }}}}"
        f'<b class="{classes[0]}">{yes}</b>{{{{ else }}}}<b class="{classes[1]}">{no}</b>{{{{ end }}}}'
        '{{ else }}<b class="none">no data</b>{{ end }}'
    )


def _label(expression: str, label: str) -> str:
    return (
        f"{{{{ range {_query(expression)} }}}}{{{{ .Labels.{label} }}}} {{{{ else }}}}"
        f'<b class="none">{_NONE}</b>{{{{ end }}}}'
    )


def _age(expression: str, never: str) -> str:
    return (
        f"{{{{ range {_query(f'time() - ({expression} > 0)')} }}}}{{{{ . | value | humanizeDuration }}}} ago"
        f'{{{{ else }}}}<b class="warn">{never}</b>{{{{ end }}}}'
    )


def _notes(notes: Sequence[tuple[str, str, str]] = _NOTES_OF_HOST) -> str:
    """What is unusual, in words."""
    return " ".join(
        f'{{{{ if {_query(expression)} }}}}<b class="{level}">{text}</b>{{{{ end }}}}'
        for expression, text, level in notes
    )


def _link_to_host() -> str:
    return '<a href="host.html?host={{ $host }}">{{ $host }}</a>'


def _cell(name: str, content: str) -> str:
    return f'<td data-label="{escape(name)}"><span>{content}</span></td>'


def _hosts(expression: str, columns: Sequence[tuple[str, str]], without: str) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name, _ in columns)
    cells = "".join(_cell(name, content) for name, content in columns)
    return (
        f"{{{{ with query `{expression}` }}}}<table><thead><tr>{heads}</tr></thead><tbody>"
        f'{{{{ range sortByLabel "instance" . }}}}{{{{ $host := .Labels.instance }}}}<tr>{cells}</tr>'
        f"{{{{ end }}}}</tbody></table>{{{{ else }}}}<p>{without}</p>{{{{ end }}}}"
    )


def _alerts(expression: str, reference: str, *, of_host: bool = False) -> str:
    """The table of alerts, each with its command. `expression`: seconds since each was noticed."""
    columns = (
        ("Severity", '<b class="{{ template "level" . }}">{{ .Labels.severity }}</b>'),
        ("Alert", _alert_name(reference)),
        ("About", _about()),
        ("For", "{{ . | value | humanizeDuration }}"),
        ("Next", '<code>{{ template "command" . }}</code>'),
    )
    heads = "".join(f"<th>{name}</th>" for name, _ in columns)
    cells = "".join(_cell(name, content) for name, content in columns)
    query = _query(expression) if of_host else f"query `{expression}`"
    return (
        f"{{{{ with {query} }}}}<table><thead><tr>{heads}</tr></thead><tbody>"
        f'{{{{ range sortByLabel "severity" . }}}}<tr>{cells}</tr>{{{{ end }}}}</tbody></table>'
        '{{ else }}<p><b class="ok">None</b></p>{{ end }}'
    )


def _alert_name(reference: str) -> str:
    if not reference.startswith(("http://", "https://")):
        return "{{ .Labels.alertname }}"
    return (
        f'<a href="{escape(reference)}#{{{{ .Labels.alertname | toLower }}}}">{{{{ .Labels.alertname }}}}</a>'
    )


def _about() -> str:
    """The labels that say what an alert is about."""
    names = ("instance", "server", "mountpoint", "job", "device", "objective", "reading")
    return " ".join(f"{{{{ .Labels.{name} }}}}" for name in names)


def _commands() -> str:
    """Templates: the command of an alert, and the class of its severity."""
    lines = ['{{ define "command" }}{{ $name := .Labels.alertname }}{{ $instance := .Labels.instance }}']
    for number, alert in enumerate(ALERTS):
        command = rules.command_line(alert.command, "{{ $instance }}")
        lines.append(f'{{{{ {"else " if number else ""}if eq $name "{alert.name}" }}}}{escape(command)}')
    lines.append('{{ end }}{{ end }}{{ define "level" }}')
    lines.append('{{ if match "P[01]" .Labels.severity }}bad{{ else }}warn{{ end }}{{ end }}')
    return "".join(lines)


_COMMANDS = _commands()


def _objectives() -> str:
    columns = (
        ("Objective", "{{ .Labels.objective }}"),
        ("Missed", "{{ . | value | humanizePercentage }}"),
        (
            "Error budget left",
            "{{ range printf `katago:objective_budget:left{objective=%q}` .Labels.objective | query }}"
            "{{ . | value | humanizePercentage }}{{ end }}",
        ),
    )
    heads = "".join(f"<th>{name}</th>" for name, _ in columns)
    cells = "".join(_cell(name, content) for name, content in columns)
    return (
        "{{ with query `katago:objective_missed:ratio30d` }}"
        f"<table><thead><tr>{heads}</tr></thead><tbody>"
        f'{{{{ range sortByLabel "objective" . }}}}<tr>{cells}</tr>{{{{ end }}}}</tbody></table>'
        '{{ else }}<p class="none">Nobody has called the service yet.</p>{{ end }}'
    )


def _charts(panels: Sequence[Panel], *, of_host: bool = False) -> str:
    return f'<div class="charts">{"".join(_chart(panel, of_host=of_host) for panel in panels)}</div>'


def _chart(panel: Panel, *, of_host: bool) -> str:
    """Bars of one series. A time without a value is a gap."""
    expression = _for_one(panel) if of_host else panel.expression
    points = " or ".join(
        f"label_replace(last_over_time(({expression})[1m:1m]"
        f"{f' offset {number * BAR_MINUTES}m' if number else ''}"
        f'), "at", "{BARS - number:02d}", "", "")'
        for number in range(BARS)
    )
    times = " or ".join(
        f'label_replace(vector(0), "at", "{number:02d}", "", "")' for number in range(1, BARS + 1)
    )
    every = f"max by (at) ({points})"
    bars = f"({every}) or on (at) ({times}) * NaN"
    most = _query(f"max({every}) > 0")
    last = _query(f"max({expression})")
    now = _formatted(panel.unit, ". | value")
    return (
        f"<figure><figcaption><span>{escape(panel.title)}</span>"
        f"<b>{{{{ range {last} }}}}{now}{{{{ else }}}}{_NONE}{{{{ end }}}}</b></figcaption>"
        f'<div class="bars" style="--most: {{{{ range {most} }}}}{{{{ . | value }}}}'
        '{{ else }}1{{ end }}">'
        f'{{{{ range sortByLabel "at" ({_query(bars)}) }}}}'
        '{{ $value := printf "%v" (. | value) }}'
        '{{ if eq $value "NaN" }}<i class="gap"></i>'
        '{{ else }}<i style="--value: {{ . | value }}"></i>{{ end }}'
        f"{{{{ end }}}}</div><small>{{{{ range {most} }}}}Highest: {now}. {{{{ end }}}}"
        f"{escape(panel.meaning)}</small></figure>"
    )
