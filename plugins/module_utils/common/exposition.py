"""Writes Prometheus' text exposition format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metric:
    """A gauge: its name, its description, and the names of its labels."""

    name: str
    description: str
    labels: tuple[str, ...] = ()


@dataclass
class Samples:
    """Collects samples of metrics that are declared beforehand."""

    metrics: Iterable[Metric]
    _lines: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name = {metric.name: metric for metric in self.metrics}

    def add(self, name: str, value: float, /, **labels: str) -> None:
        """Add a sample. Raises KeyError or ValueError if the metric or its labels are not declared."""
        metric = self._by_name[name]
        if labels.keys() != set(metric.labels):
            raise ValueError(f"{name} has the labels {metric.labels}, not {tuple(labels)}")
        self._lines.setdefault(name, []).append(f"{name}{_written(labels)} {float(value):.16g}")

    def text(self) -> str:
        """All metrics in the order of their declaration, also those without a sample."""
        lines: list[str] = []
        for name, metric in self._by_name.items():
            lines += [f"# HELP {name} {metric.description}", f"# TYPE {name} gauge"]
            lines += self._lines.get(name, [])
        return "\n".join(lines) + "\n"


def _written(labels: Mapping[str, str]) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
