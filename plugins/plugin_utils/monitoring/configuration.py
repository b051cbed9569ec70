"""The configuration of Prometheus, Alertmanager and the blackbox exporter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import consoles, fleet, rules
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed

SERVER_NAME = "katago-exporters"
"""The name in the certificates of all gateways."""
INTERVAL = "15s"
MONITORS = "monitors.pem"
"""The certificates of the monitoring hosts, which the module writes."""
HEARTBEAT = "heartbeat"
NOBODY = "nobody"
HEALING = "fleet-healing"
MOST_ALERTS = 500
"""How many alerts a message for fleet healing has at most. The receiver rejects one of 1 MiB."""
_TOKEN = "/run/credentials/katago-prometheus.service/token"  # noqa: S105 (a file's name)
_KEY = "/run/credentials/katago-alertmanager.service/tls.key"
_BLACKBOX = ("reach", "tls")
"""The jobs of the blackbox exporter, which are also the names of its modules."""


@dataclass(frozen=True)
class Ports:
    """The ports of the programs on the loopback interface of a monitoring host."""

    prometheus: int
    alertmanager: int
    blackbox: int
    prober: int


@dataclass(frozen=True)
class Receiver:
    """Who is notified of which severities. `channels`: in Alertmanager's own format, as `webhook_configs`."""

    name: str
    severities: tuple[str, ...]
    channels: Mapping[str, Any]


@dataclass(frozen=True)
class Healing:
    """Where the program that repairs the fleet gets alerts. `port`: on the loopback interface."""

    port: int
    token: str


def files(
    hosts: Sequence[fleet.Host],
    *,
    monitor: str,
    ports: Ports,
    receivers: Sequence[Receiver],
    heartbeat: str,
    reference: str,
    name: str,
    healing: Healing | None = None,
) -> dict[str, str]:
    """All files by their path in the configuration's directory. `name`: of the fleet, a label of alerts."""
    jobs = fleet.targets(hosts, monitor)
    return {
        "prometheus.yml": _yaml(prometheus(jobs, ports, name)),
        "rules.yml": rules.rendered(reference=reference),
        "alertmanager.yml": _yaml(alertmanager(receivers, heartbeat, healing)),
        "blackbox.yml": _yaml(BLACKBOX),
        "cluster.yml": _yaml(cluster()),
        **consoles.pages(reference),
        **{f"targets/{job}.json": json.dumps(found, indent=1) + "\n" for job, found in sorted(jobs.items())},
    }


BLACKBOX: Mapping[str, Any] = {
    "modules": {
        "reach": {
            "prober": "tcp",
            "timeout": "5s",
            # An SSH server answers with its version, also without a login [RFC 4253, section 4.2].
            "tcp": {"query_response": [{"expect": "^SSH-2.0-"}]},
        },
        "tls": {
            "prober": "tcp",
            "timeout": "5s",
            # Only the end of the certificate matters here, not by whom it is signed.
            "tcp": {"tls": True, "tls_config": {"insecure_skip_verify": True}},
        },
    }
}


def prometheus(jobs: Iterable[str], ports: Ports, name: str) -> dict[str, Any]:
    """Prometheus' configuration for these jobs."""
    return {
        "global": {
            "scrape_interval": INTERVAL,
            "evaluation_interval": INTERVAL,
            "external_labels": {"fleet": name},
        },
        "rule_files": ["rules.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports.alertmanager}"]}]}]
        },
        "scrape_configs": [
            *(_scrape(job) for job in sorted(jobs) if job not in _BLACKBOX),
            *(_probed(job, ports) for job in _BLACKBOX),
            {
                "job_name": "probe",
                "static_configs": [{"targets": [f"127.0.0.1:{ports.prober}"]}],
                "metric_relabel_configs": [_about_host("katago_probe_.+")],
            },
        ],
    }


def _scrape(job: str) -> dict[str, Any]:
    relabelled = [_about_host("katago_inventory_.+")] if job == "node" else []
    return {
        "job_name": job,
        "scheme": "https",
        "metrics_path": "/proxy",
        "params": {"module": [job]},
        "authorization": {"credentials_file": _TOKEN},
        "tls_config": {"ca_file": "exporters.pem", "server_name": SERVER_NAME},
        "file_sd_configs": [{"files": [f"targets/{job}.json"]}],
        **({"metric_relabel_configs": relabelled} if relabelled else {}),
    }


def _probed(job: str, ports: Ports) -> dict[str, Any]:
    return {
        "job_name": job,
        "metrics_path": "/probe",
        "params": {"module": [job]},
        "file_sd_configs": [{"files": [f"targets/{job}.json"]}],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"target_label": "__address__", "replacement": f"127.0.0.1:{ports.blackbox}"},
        ],
    }


def _about_host(names: str) -> dict[str, Any]:
    """Metrics with a label `host` are about that host, not about the one that serves them."""
    return {
        "source_labels": ["__name__", "host"],
        "regex": f"({names});(.+)",
        "target_label": "instance",
        "replacement": "$2",
    }


def alertmanager(
    receivers: Sequence[Receiver], heartbeat: str, healing: Healing | None = None
) -> dict[str, Any]:
    """Alertmanager's configuration.

    `heartbeat`: the URL that must be called all the time; empty for none. `healing`: None if the fleet is not
    repaired from here.
    """
    routes: list[dict[str, Any]] = [
        {
            "matchers": ['alertname="MonitoringAlive"'],
            "receiver": HEARTBEAT if heartbeat else NOBODY,
            "group_wait": "0s",
            "group_interval": "1m",
            "repeat_interval": "1m",
        }
    ]
    routes += [
        {
            "matchers": [f'severity=~"{"|".join(each.severities)}"'],
            "receiver": each.name,
            # Others may want the same severity.
            "continue": True,
        }
        for each in receivers
    ]
    if healing:
        routes.append(
            {
                "matchers": [f'alertname=~"{"|".join(allowed.RESPONSES)}"'],
                "receiver": HEALING,
                # All alerts together, so that a storm of them is one message.
                "group_by": ["fleet"],
                "group_wait": "10s",
                "group_interval": "20s",
                # An alert that could not be handled is tried again.
                "repeat_interval": "3m",
                "continue": True,
            }
        )
    called = [{"url": heartbeat, "send_resolved": False}]
    return {
        "route": {
            "receiver": NOBODY,
            "group_by": ["instance"],
            "group_wait": "15s",
            "group_interval": "2m",
            "repeat_interval": "4h",
            "routes": routes,
        },
        "inhibit_rules": [
            # What a host does not serve is no news when the host is down, and so on.
            _inhibits("HostDown", "ServiceDown|EngineDown|ProbeFailed|LoadBalancerDown"),
            _inhibits("ServiceDown", "EngineDown|ProbeFailed|ErrorRate.+"),
            _inhibits("EngineDown", "ProbeFailed|ErrorRate.+"),
            _inhibits("ErrorRateCritical", "ErrorRateHigh|ErrorRateRaised"),
            _inhibits("ErrorRateHigh", "ErrorRateRaised"),
            _inhibits("CertificateExpiresSoon", "CertificateExpires"),
            _inhibits("DiskFull", "DiskFillsUp"),
            _inhibits("InodesFull", "InodesRunOut"),
        ],
        "receivers": [
            {"name": NOBODY},
            *([{"name": HEARTBEAT, "webhook_configs": called}] if heartbeat else []),
            *([_healer(healing)] if healing else []),
            *({"name": each.name, **each.channels} for each in receivers),
        ],
    }


def _healer(healing: Healing) -> dict[str, Any]:
    return {
        "name": HEALING,
        "webhook_configs": [
            {
                "url": f"http://127.0.0.1:{healing.port}/alerts",
                "max_alerts": MOST_ALERTS,
                "http_config": {"authorization": {"credentials": healing.token}},
            }
        ],
    }


def cluster() -> dict[str, Any]:
    """How Alertmanagers of several monitoring hosts trust each other: only their own certificates count."""
    own = {"cert_file": "/etc/katago-exporters/tls.crt", "key_file": _KEY}
    return {
        "tls_server_config": {
            **own,
            "client_ca_file": MONITORS,
            "client_auth_type": "RequireAndVerifyClientCert",
        },
        "tls_client_config": {**own, "ca_file": MONITORS, "server_name": SERVER_NAME},
    }


def _inhibits(source: str, targets: str) -> dict[str, Any]:
    return {
        "source_matchers": [f'alertname="{source}"'],
        "target_matchers": [f'alertname=~"{targets}"'],
        "equal": ["instance"],
    }


def _yaml(content: Mapping[str, Any]) -> str:
    # What comes from an inventory are subclasses of texts and lists, which YAML cannot represent.
    return yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, width=1000)
