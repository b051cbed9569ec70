"""The `validate` command: checks a configuration, and tests it by starting an engine and analysing."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from katago_mcp import __version__, config, session_ids, tls
from katago_mcp.analysis import Analyst, Request
from katago_mcp.auth import Tokens
from katago_mcp.config import Loaded, TlsFiles
from katago_mcp.engine import Command
from katago_mcp.errors import Failure
from katago_mcp.gate import Gate
from katago_mcp.metrics import Metrics
from katago_mcp.notify import Notifier
from katago_mcp.positions import Position
from katago_mcp.settings import Settings
from katago_mcp.shared_connection import file_problems, password_file
from katago_mcp.supervisor import Supervisor

SMALL = {
    "nnCacheSizePowerOfTwo": "12",
    "nnMutexPoolSizePowerOfTwo": "10",
    "numAnalysisThreads": "1",
    "numSearchThreadsPerAnalysisThread": "1",
}
"""Settings with which a second engine fits beside a running one."""

_TIME_FACTOR = 10
"""Factor for time limits: the host may be busy, and the engine has just started."""


@dataclass
class Check:
    """The result of one check. `seconds` is its duration."""

    name: str
    ok: bool
    message: str
    seconds: float


@dataclass
class Report:
    """The results of all checks of a configuration, with version information."""

    release: str | None
    version: str = __version__
    engine_version: str | None = None
    network: str | None = None
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON: ok, release, version, engineVersion, network, checks."""
        return {
            "ok": self.ok,
            "release": self.release,
            "version": self.version,
            "engineVersion": self.engine_version,
            "network": self.network,
            "checks": [asdict(check) for check in self.checks],
        }

    def as_text(self) -> str:
        """The report as a table for people."""
        width = max(len(check.name) for check in self.checks)
        lines = [
            f"{'ok  ' if check.ok else 'FAIL'}  {check.name:{width}}  {check.seconds:6.2f} s  "
            + check.message.replace("\n", "\n" + " " * (width + 18))
            for check in self.checks
        ]
        verdict = "valid" if self.ok else "not valid"
        return "\n".join([*lines, f"{verdict} (version {self.version}, release {self.release})"])


async def validate(path: Path, environ: Mapping[str, str], *, engine: bool) -> Report:
    """Check the configuration at `path`. If `engine` is true, start an engine and analyse a position."""
    report = Report(release=config.release_of(path))
    started = time.monotonic()
    try:
        loaded = config.load(path, environ)
        if loaded.tokens_file is not None:
            Tokens(loaded.tokens_file)
        session_key = loaded.config.auth.session_key_file
        # A pre-flight validation may run as a user who cannot read the key.
        if session_key is not None and os.access(session_key, os.R_OK):
            session_ids.configured_keys(session_key)
        shared = loaded.config.shared_cache
        password = password_file(shared, environ.get("CREDENTIALS_DIRECTORY"))
        # As the key: a pre-flight validation may run before the files are installed.
        readable = all(path is None or os.access(path, os.R_OK) for path in (password, shared.ca_file))
        if shared.url is not None and readable and (problems := file_problems(shared, password)):
            raise config.ConfigError(problems)
    except config.ConfigError as error:
        report.checks.append(_check("config", started, "\n".join(error.problems), ok=False))
        return report
    report.checks.append(_check("config", started, f"{path} is valid"))
    _check_files(loaded, report)
    if loaded.tls is not None:
        report.checks.append(_check_certificate(loaded.tls))
    if loaded.config.server.allowed_hosts:
        report.checks.append(await _check_names(loaded))
    if engine and report.ok:
        await _check_engine(loaded, environ, report)
    return report


def _check(name: str, started: float, message: str, *, ok: bool = True) -> Check:
    return Check(name, ok, message, round(time.monotonic() - started, 3))


def _check_files(loaded: Loaded, report: Report) -> None:
    katago = loaded.config.katago

    def executable(path: Path) -> str | None:
        return None if os.access(path, os.X_OK) else "is not executable: run chmod a+x on it"

    def filled(path: Path) -> str | None:
        return None if path.stat().st_size > 0 else "is empty: install the network again"

    def anything(_: Path) -> str | None:
        return None

    files: list[tuple[str, str, Path, Callable[[Path], str | None]]] = [
        ("binary", "katago.binaryPath", katago.binary_path, executable),
        ("network", "katago.modelPath", katago.model_path, filled),
        ("engine_config", "katago.configPath", katago.config_path, anything),
    ]
    if katago.human_model_path is not None:
        files.append(("human_network", "katago.humanModelPath", katago.human_model_path, filled))
    for name, key, path, find_problem in files:
        started = time.monotonic()
        if not path.exists():
            problem: str | None = "does not exist: correct the path or install the file"
        elif not path.is_file():
            problem = "is not a regular file: set the path of the file itself"
        elif not os.access(path, os.R_OK):
            problem = "cannot be read: correct its owner or mode"
        else:
            problem = find_problem(path)
        message = f"{path} exists" if problem is None else f"{key}: {path} {problem}"
        report.checks.append(_check(name, started, message, ok=problem is None))
    if katago.home_data_dir is not None:
        started = time.monotonic()
        home = katago.home_data_dir
        writable = home.is_dir() and os.access(home, os.W_OK | os.X_OK)
        message = (
            f"{home} is writable"
            if writable
            else f"katago.homeDataDir: {home} is not a writable directory: create it or correct its owner"
        )
        report.checks.append(_check("home_data_dir", started, message, ok=writable))


def _check_certificate(files: TlsFiles) -> Check:
    started = time.monotonic()
    try:
        certificate = tls.check(files)
    except config.ConfigError as error:
        return _check("certificate", started, "\n".join(error.problems), ok=False)
    problem = certificate.problem(datetime.now(UTC))
    if problem is not None:
        message = f"tls.certificateFile: {files.certificate} {problem}"
        return _check("certificate", started, message, ok=False)
    return _check("certificate", started, f"{files.certificate} is valid until {certificate.ends:%Y-%m-%d}")


async def _check_names(loaded: Loaded) -> Check:
    """Send a request under every allowed name, as clients write it, through the server's gate."""
    started = time.monotonic()
    server = loaded.config.server

    async def passed(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=204)(scope, receive, send)

    gate = Gate(passed, Settings(loaded.config))
    transport = httpx2.ASGITransport(app=gate)
    refused = []
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for entry in server.allowed_hosts:
            name = entry.removesuffix(":*")
            response = await client.get("/mcp", headers={"Host": name})
            if response.status_code != 204:
                refused.append(f"{name} ({response.status_code})")
    if refused:
        message = f"server.allowedHosts: requests under {', '.join(refused)} are refused: correct the names"
        return _check("hosts", started, message, ok=False)
    return _check("hosts", started, f"requests under {', '.join(server.allowed_hosts)} are accepted")


async def _check_engine(loaded: Loaded, environ: Mapping[str, str], report: Report) -> None:
    started = time.monotonic()
    async with _test_engine(loaded, environ) as (supervisor, analyst):
        state = await supervisor.wait_for("ready", "backoff", "config_error")
        status = supervisor.status()
        if state != "ready":
            message = f"the engine did not start: {status.reason}"
            report.checks.append(_check("engine", started, message, ok=False))
            return
        report.engine_version, report.network = status.version, status.network
        message = f"KataGo {status.version} with {status.network} is ready"
        report.checks.append(_check("engine", started, message))
        started = time.monotonic()
        visits = min(4, loaded.config.katago.max_visits)
        report.checks.append(await _check_analysis(analyst, visits, started))


@asynccontextmanager
async def _test_engine(
    loaded: Loaded, environ: Mapping[str, str]
) -> AsyncIterator[tuple[Supervisor, Analyst]]:
    katago = loaded.config.katago
    command = Command(
        binary=katago.binary_path,
        network=katago.model_path,
        config=katago.config_path,
        home=katago.home_data_dir,
        human_network=katago.human_model_path,
        overrides=SMALL,
    )
    metrics = Metrics(__version__, loaded.release)
    health = loaded.config.health
    longer_limits = {
        "katago": katago.model_copy(update={"max_time": katago.max_time * _TIME_FACTOR}),
        "health": health.model_copy(
            update={"heartbeat_timeout_seconds": health.heartbeat_timeout_seconds * _TIME_FACTOR}
        ),
    }
    settings = Settings(loaded.config.model_copy(update=longer_limits))
    supervisor = Supervisor(settings, metrics, Notifier({}), environ, command)
    analyst = Analyst(settings, supervisor, cache=None, metrics=metrics)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(supervisor.run())
        try:
            yield supervisor, analyst
        finally:
            supervisor.close()


async def _check_analysis(analyst: Analyst, visits: int, started: float) -> Check:
    """Analyse an empty board with a few visits, and check that the answer is plausible."""
    request = Request(Position(komi=7.5), max_visits=visits, top_moves=1, include_ownership=True)
    try:
        result = await analyst.analyze(request)
    except Failure as failure:
        return _check("analysis", started, f"the analysis failed: {failure}", ok=False)
    plausible = (
        result.next_player == "B"
        and result.turn_number == 0
        and result.visits >= 1
        and (visits == 1 or len(result.moves) == 1)
        and 0.01 < result.winrate < 0.99
        and abs(result.score_lead) < 40
        and len(result.ownership or []) == 361
    )
    summary = f"Black {result.winrate:.1%}, lead {result.score_lead:+.1f}, {result.visits} visits"
    if not plausible:
        return _check(
            "analysis", started, f"the answer is not plausible for an empty board: {summary}", ok=False
        )
    return _check("analysis", started, f"empty board: {summary}")
