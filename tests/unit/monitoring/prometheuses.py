"""Runs a real Prometheus on the loopback interface over series that a test makes up."""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.ports import free_ports

PROGRAM, PROMTOOL = Path("/usr/bin/prometheus"), Path("/usr/bin/promtool")
_PATIENCE = 60.0
_STEP = 60

Values = Callable[[float], float | None]
"""The value of a series at a number of seconds before now; None for none."""


def openmetrics(series: Mapping[str, float | Values], seconds: int, now: float) -> str:
    """Samples of each minute of the last seconds, in the OpenMetrics format."""
    by_family: dict[str, list[str]] = {}
    for name, values in series.items():
        lines = by_family.setdefault(name.partition("{")[0], [])
        for age in range(seconds, -1, -_STEP):
            value = values(age) if callable(values) else values
            if value is not None:
                lines.append(f"{name} {value!r} {now - age:.3f}")
    families = (f"# TYPE {name} unknown\n" + "\n".join(lines) for name, lines in by_family.items())
    return "\n".join([*families, "# EOF", ""])


@contextlib.contextmanager
def prometheus(
    directory: Path, series: Mapping[str, float | Values], seconds: int, consoles: Mapping[str, str]
) -> Iterator[int]:
    """Run a Prometheus with these series and console pages until the block ends; its port."""
    (directory / "series").write_text(openmetrics(series, seconds, time.time()))
    for name, text in consoles.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    (directory / "prometheus.yml").write_text("global: {external_labels: {fleet: katago}}\n")
    data, log = directory / "data", directory / "log"
    subprocess.run(
        [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", directory / "series", data],
        check=True,
        capture_output=True,
    )
    (port,) = free_ports(1)
    command = [
        str(PROGRAM),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.console.templates={directory / 'consoles'}",
        f"--web.console.libraries={directory / 'consoles'}",
    ]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            end = time.monotonic() + _PATIENCE
            while True:
                try:
                    page(port, "/-/ready")
                except OSError:
                    assert process.poll() is None and time.monotonic() < end, log.read_text()
                    time.sleep(0.05)
                else:
                    break
            yield port
        finally:
            process.terminate()


def page(port: int, path: str) -> str:
    """A page as text. Raises AssertionError with the answer if Prometheus cannot render it."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=_PATIENCE) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code == 503:
            raise OSError("not ready") from None
        raise AssertionError(error.read().decode()) from None
