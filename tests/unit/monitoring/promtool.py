"""Runs `promtool test rules` on cases: series for the rules, and the alerts that must fire then."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

PROGRAM = Path("/usr/bin/promtool")
STEP = 15
"""Seconds between two samples, and between two evaluations."""
Kind = Literal["fires", "quiet", "missing", "reset"]


@dataclass(frozen=True)
class Case:
    """What an alert does for some series.

    `series`: values in promtool's notation by selector, one each `step` seconds. `at`: the second at which
    the alert is checked. `fires`: the labels of every alert that fires then, besides name and severity.
    """

    alert: str
    kind: Kind
    series: Mapping[str, str]
    at: int
    fires: tuple[Mapping[str, str], ...] = ()
    why: str = ""
    step: int = STEP

    @property
    def name(self) -> str:
        return f"{self.alert}-{self.kind}{f'-{self.why}' if self.why else ''}".replace(" ", "_")


def failures(rules: str, cases: Sequence[Case], severities: Mapping[str, str]) -> str:
    """What promtool reports about the cases that fail with these rules; empty if all pass."""
    groups = [group["name"] for group in yaml.safe_load(rules)["groups"]]
    with tempfile.TemporaryDirectory(prefix="katago-rules-") as directory:
        root = Path(directory)
        (root / "rules.yml").write_text(rules)
        files = []
        for step in sorted({case.step for case in cases}):
            files.append(f"tests-{step}.yml")
            (root / files[-1]).write_text(
                _document(step, [case for case in cases if case.step == step], severities, groups)
            )
        done = subprocess.run(
            [PROGRAM, "test", "rules", *files], cwd=root, capture_output=True, text=True, check=False
        )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _document(step: int, cases: Sequence[Case], severities: Mapping[str, str], groups: Sequence[str]) -> str:
    content = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{step}s",
        "group_eval_order": list(groups),
        "tests": [_test(case, severities) for case in cases],
    }
    return yaml.safe_dump(content, sort_keys=False, width=1000)


def _test(case: Case, severities: Mapping[str, str]) -> dict[str, Any]:
    firing = {"alertname": case.alert, "alertstate": "firing"}
    samples = [{**firing, "severity": severities[case.alert], **labels} for labels in case.fires]
    return {
        "name": case.name,
        "interval": f"{case.step}s",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": f"ALERTS{_selector(firing)}",
                "eval_time": f"{case.at}s",
                "exp_samples": [{"labels": f"ALERTS{_selector(labels)}", "value": 1} for labels in samples],
            }
        ],
    }


def _selector(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
