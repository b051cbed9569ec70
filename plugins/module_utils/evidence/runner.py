"""Runs the collectors on a host at the same time, each in its own process group, and redacts their output.

A collector that hangs, fails or never ends affects only its own item. At most the limit of an item is held in
memory. An item is returned only after it was redacted. An item that cannot be redacted is withheld.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import glob
import json
import os
import selectors
import signal
import subprocess
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    redaction,
    secret_names,
    secret_values,
    workers,
)
from ansible_collections.katago.fleet.plugins.module_utils.evidence.items import (
    REDACTION_SECONDS,
    SECONDS,
    Collector,
    Part,
    Tier,
    of,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import runtime
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets, http

_BLOCK = 1 << 16
_ERROR_BYTES = 2048
_LONGEST_PROBLEM = 300
_SERVICE_PROCESS_SECONDS = 1.0
_GRACE_SECONDS = 1.0
_REAPING_SECONDS = 0.05
_MOST_PROCESSES = 64
_NO_PROCESS = {"pid": "0", "group": f"system.slice/{paths.SERVICE_UNIT}"}
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "", "SYSTEMD_URLIFY": "0"}

Write = Callable[[bytes], None]


class CollectorError(Exception):
    """A collector got nothing, or not everything. The message says why."""


class Buffer:
    """Keeps the newest or the first `limit` bytes of its input. Holds at most one block more."""

    def __init__(self, limit: int, keep: Literal["newest", "first"]) -> None:
        self._limit, self._keep = limit, keep
        self._content = bytearray()
        self.total_bytes = 0

    @property
    def cut(self) -> bool:
        """Whether more than `limit` bytes were added."""
        return self.total_bytes > self._limit

    @property
    def full(self) -> bool:
        """Whether further input would not be kept."""
        return self.cut and self._keep == "first"

    def add(self, block: bytes) -> None:
        """Add a block. Drops what exceeds the limit."""
        self.total_bytes += len(block)
        self._content += block
        if self._keep == "newest":
            del self._content[: -self._limit]
        else:
            del self._content[self._limit :]

    def whole_lines(self, *, ended: bool) -> bytes:
        """The kept bytes, without incomplete lines: the redaction would not find half of a secret.

        `ended`: whether all of the input was read.
        """
        content = bytes(self._content)
        if self.cut and self._keep == "newest":
            content = content.partition(b"\n")[2]
        if self.full or not ended:
            content = content[: content.rfind(b"\n") + 1]
        return content


@dataclass(frozen=True)
class Raw:
    """The output of a collector, not redacted.

    `exit`: a command's status. `source_bytes`: the size of the whole output. `began`: start time by the
    host's clock, in seconds since the epoch; 0 if the collector could not be started. `deadline`: the
    seconds that it could use.
    """

    content: bytes
    seconds: float
    exit: int | None = None
    problem: str = ""
    source_bytes: int = 0
    began: float = 0.0
    deadline: float = 0.0


@dataclass
class _Running:
    collector: Collector
    pid: int
    pipes: dict[int, Buffer]
    began: float
    buffer: Buffer
    errors: Buffer
    began_at: float
    note: str = ""
    status: int | None = None
    process: subprocess.Popen[bytes] | None = None


class _Collection:
    """The collectors that are running, and the output of those that finished."""

    def __init__(self, end: float) -> None:
        self._selector = selectors.DefaultSelector()
        self._running: dict[str, _Running] = {}
        self._end = end
        self.raw: dict[str, Raw] = {}

    def start(self, collector: Collector) -> None:
        began_at, began = time.time(), time.monotonic()
        try:
            running = self._start(collector, began, began_at)
        except OSError as error:
            problem, deadline = _start_problem(error, collector), min(collector.seconds, self._end - began)
            self.raw[collector.name] = Raw(b"", 0.0, problem=problem, deadline=deadline)
            return
        self._running[collector.name] = running
        for pipe in running.pipes:
            os.set_blocking(pipe, False)
            self._selector.register(pipe, selectors.EVENT_READ, running)

    def wait(self) -> dict[str, Raw]:
        while self._running:
            now = time.monotonic()
            soonest = min(self._deadline(running) for running in self._running.values())
            reaping = any(not running.pipes for running in self._running.values())
            patience = min(_REAPING_SECONDS, soonest - now) if reaping else soonest - now
            for key, _ in self._selector.select(max(0.0, patience)):
                self._read(key.data, key.fd)
            now = time.monotonic()
            for running in list(self._running.values()):
                if running.buffer.full:
                    self._finish(running, "")
                elif not running.pipes and self._reap(running):
                    self._finish(running, _exit_problem(running), ended=True)
                elif now >= self._deadline(running):
                    self._finish(running, f"did not finish within {self._allowed_seconds(running):.3g} s")
        return self.raw

    def _start(self, collector: Collector, began: float, began_at: float) -> _Running:
        process, note = None, ""
        if collector.command:
            try:
                process, output, errors_pipe = _launch(collector.command)
            except FileNotFoundError:
                if not collector.fallback_files:
                    raise
                files = ", ".join(collector.fallback_files)
                note = f"{collector.command[0]} is not installed; read {files} instead"
        if process is None:
            pid, output, errors_pipe = _fork(_work(collector))
        else:
            pid = process.pid
        buffer, errors = Buffer(collector.limit, collector.keep), Buffer(_ERROR_BYTES, "newest")
        pipes = {output: buffer, errors_pipe: errors}
        return _Running(collector, pid, pipes, began, buffer, errors, began_at, note=note, process=process)

    def _deadline(self, running: _Running) -> float:
        return min(running.began + running.collector.seconds, self._end)

    def _allowed_seconds(self, running: _Running) -> float:
        return self._deadline(running) - running.began

    def _read(self, running: _Running, pipe: int) -> None:
        try:
            block = os.read(pipe, _BLOCK)
        except BlockingIOError:
            return
        if block:
            running.pipes[pipe].add(block)
        else:
            self._close(running, pipe)

    def _close(self, running: _Running, pipe: int) -> None:
        self._selector.unregister(pipe)
        os.close(pipe)
        del running.pipes[pipe]

    def _reap(self, running: _Running) -> bool:
        if running.process is not None:
            running.status = running.process.poll()
            return running.status is not None
        try:
            pid, status = os.waitpid(running.pid, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid:
            running.status = os.waitstatus_to_exitcode(status)
        return bool(pid)

    def _finish(self, running: _Running, problem: str, *, ended: bool = False) -> None:
        # Also kill processes that it started and left behind.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, signal.SIGKILL)
        for pipe in list(running.pipes):
            self._close(running, pipe)
        if not ended:
            self._reap(running)
        buffer, collector = running.buffer, running.collector
        problems = [running.note, problem]
        if buffer.cut:
            problems.append(f"the {collector.keep} {collector.limit} bytes are kept")
        del self._running[collector.name]
        self.raw[collector.name] = Raw(
            content=buffer.whole_lines(ended=ended),
            seconds=time.monotonic() - running.began,
            exit=running.status if running.process and ended else None,
            problem="; ".join(filter(None, problems)),
            source_bytes=buffer.total_bytes,
            began=running.began_at,
            deadline=self._allowed_seconds(running),
        )


def run_collectors(collectors: Sequence[Collector], seconds: float) -> dict[str, Raw]:
    """Run collectors at the same time, for at most `seconds`. Returns the output of each, by name."""
    collection = _Collection(time.monotonic() + seconds)
    for collector in collectors:
        collection.start(collector)
    return collection.wait()


def collect(tier: Tier, parts: Collection[Part]) -> Iterator[dict[str, Any]]:
    """Collect and redact every item of a tier for these parts of the host.

    An item has its `content`, packed by `pack`, or `withheld`: the reason why it must not leave the host.
    `redacted`: how many secrets were removed.
    """
    end = time.monotonic() + worst_seconds(tier)
    secrets = workers.Measuring()
    secrets.start("service_process", service_process, _SERVICE_PROCESS_SECONDS)
    # The results are read after the collectors have finished.
    patience = _SERVICE_PROCESS_SECONDS + SECONDS[tier] + _GRACE_SECONDS
    secrets.start("files", lambda: _encode_secrets(host_secrets.in_files(Path("/"))), patience)
    # One worker for each process: reading its arguments and environment can hang with the process.
    processes = {f"process-{pid}": pid for pid in host_secrets.unit_processes(paths.PROC)[:_MOST_PROCESSES]}
    for name, pid in processes.items():
        secrets.start(name, functools.partial(_process_secrets, pid), patience)
    secrets.wait({"service_process"}, at_most=_SERVICE_PROCESS_SECONDS)
    process = secrets.entries.get("service_process", {}).get("value", _NO_PROCESS)
    collectors = [collector.resolved(process) for collector in of(tier, parts)]
    raw = run_collectors(collectors, SECONDS[tier])
    results = secrets.results()
    redactor = redaction.Redactor(
        secret for name in ("files", *processes) for secret in _decode_secrets(results[name])
    )
    unknown = str(results["files"].get("unknown", ""))
    redactions = workers.Measuring()
    # On a slow host, the redaction may also use the time that the collectors left.
    patience = max(REDACTION_SECONDS[tier], end - time.monotonic())
    for collector in collectors:
        redact = functools.partial(redact_item, collector, raw[collector.name], redactor, unknown)
        redactions.start(collector.name, redact, patience)
    redacted = redactions.results()
    for collector in collectors:
        entry = redacted[collector.name]
        result = entry.get("value") or {"withheld": f"it could not be redacted: {entry['unknown']}"}
        output = raw[collector.name]
        yield {
            "name": collector.name,
            "exit": output.exit,
            "began": round(output.began, 3),
            "seconds": round(output.seconds, 3),
            "deadline": round(output.deadline, 3),
            "source_bytes": output.source_bytes,
            "problem": "",
            "redacted": 0,
            "withheld": "",
            **result,
        }


def worst_seconds(tier: Tier) -> float:
    """The most seconds that a tier takes on a host, also if everything hangs."""
    return _SERVICE_PROCESS_SECONDS + SECONDS[tier] + _GRACE_SECONDS + REDACTION_SECONDS[tier]


def service_process() -> dict[str, str]:
    """The service's main process and the path of its control group, from /proc."""
    processes = host_secrets.unit_processes(paths.PROC)
    for pid in processes:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if int(fields[1]) not in processes:
            groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            members = [line.split(":", 2)[2].strip("/") for line in groups]
            return {
                "pid": str(pid),
                "group": next(path for path in members if paths.SERVICE_UNIT in path),
            }
    return _NO_PROCESS


def redact_item(
    collector: Collector, raw: Raw, redactor: redaction.Redactor, unknown: str = ""
) -> dict[str, Any]:
    """Redact an item. `unknown`: why the host's secrets could not be read; empty if they could."""
    if unknown and not collector.secret_free:
        return {"withheld": f"the secrets of this host could not be read: {unknown}"}
    content = raw.content
    if b"\0" in content:
        return {"withheld": "it is binary data, which cannot be redacted"}
    if raw.source_bytes and not content:
        return {
            "withheld": "only part of a line was read, which cannot be redacted"
            + _after(_problem(raw, redactor)),
        }
    if collector.journal:
        content = decode_journal(content)
    content, count = redactor.redact(content)
    # Functions redact some values themselves.
    count = max(count, content.count(b"[redacted"))
    return {"content": pack(content), "problem": _problem(raw, redactor), "redacted": count}


def pack(content: bytes) -> str:
    """Compress bytes and encode them as text."""
    return base64.b64encode(zlib.compress(content)).decode()


def unpack(packed: str, limit: int) -> bytes:
    """Unpack the text from `pack`. Raises ValueError if it is not valid, or has more than `limit` bytes."""
    try:
        inflating = zlib.decompressobj()
        content = inflating.decompress(base64.b64decode(packed, validate=True), limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes")
    return content


def decode_journal(lines: bytes) -> bytes:
    """journalctl's JSON with byte arrays decoded to text, so that the redaction finds secrets in them."""
    decoded = []
    for line in lines.splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if any(isinstance(value, list) for value in entry.values()):
                line = json.dumps({name: _text(value) for name, value in entry.items()}).encode()
        decoded.append(line + b"\n")
    return b"".join(decoded)


def _text(value: Any) -> Any:
    if isinstance(value, list):
        if value and all(isinstance(each, int) and 0 <= each < 256 for each in value):
            return bytes(value).decode(errors="replace")
        return [_text(each) for each in value]
    return value


def _after(text: str) -> str:
    return f": {text}" if text else ""


def _problem(raw: Raw, redactor: redaction.Redactor) -> str:
    """The problem of a collector, first redacted and then shortened."""
    text = redactor.redact(raw.problem.encode(errors="replace"))[0].decode(errors="replace")
    return redaction.end_of(" ".join(text.split()), _LONGEST_PROBLEM)


def _process_secrets(pid: int) -> list[tuple[str, str]]:
    return _encode_secrets(host_secrets.in_processes([pid], paths.PROC))


def _encode_secrets(secrets: Sequence[redaction.Secret]) -> list[tuple[str, str]]:
    return [(base64.b64encode(secret.value).decode(), secret.name) for secret in secrets]


def _decode_secrets(entry: Mapping[str, Any]) -> list[redaction.Secret]:
    return [redaction.Secret(base64.b64decode(value), name) for value, name in entry.get("value", [])]


def _start_problem(error: OSError, collector: Collector) -> str:
    return f"{collector.command[0] if collector.command else collector.name}: {error.strerror}"


def _exit_problem(running: _Running) -> str:
    if running.status == 0:
        return ""
    errors = running.errors
    message = errors.whole_lines(ended=True).decode(errors="replace").strip()
    if errors.cut and not message:
        message = "the error output is a single line that is too long to be redacted"
    if running.process is None:
        return message or "its process died"
    return f"status {running.status}: {message}".rstrip(": ")


def _launch(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start a command in its own process group. Returns it and the pipes with its output and its errors."""
    output, output_end = os.pipe()
    errors, errors_end = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output_end,
            stderr=errors_end,
            env={**os.environ, **_ENVIRONMENT},
            cwd="/",
            process_group=0,
        )
    except OSError:
        os.close(output)
        os.close(errors)
        raise
    finally:
        os.close(output_end)
        os.close(errors_end)
    return process, output, errors


def _fork(work: Callable[[Write], None]) -> tuple[int, int, int]:
    """Run a function in a new process. Returns its id and the pipes with its output and its errors."""
    output, output_end = os.pipe()
    errors, errors_end = os.pipe()
    try:
        pid = workers.fork(lambda: _collect(work, output_end, errors_end))
    except OSError:
        for pipe in (output, output_end, errors, errors_end):
            os.close(pipe)
        raise
    os.close(output_end)
    os.close(errors_end)
    return pid, output, errors


def _collect(work: Callable[[Write], None], output: int, errors: int) -> None:
    try:
        work(lambda content: workers.write_all(output, content))
    except Exception as error:
        message = _error_message(error).encode(errors="replace")
        os.write(errors, message if len(message) <= _ERROR_BYTES else type(error).__name__.encode())
        raise


def _error_message(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error) if isinstance(error, CollectorError) else f"{type(error).__name__}: {error}"


def _work(collector: Collector) -> Callable[[Write], None]:
    if collector.function:
        return _FUNCTIONS[collector.function]
    if collector.address:
        return lambda write: _request(collector, write)
    if collector.runtime:
        return lambda write: _ask_haproxy(collector.runtime, write)
    files = collector.fallback_files if collector.command else collector.files
    return lambda write: _read_files(files, collector, write)


def _read_files(files: Sequence[str], collector: Collector, write: Write) -> None:
    if len(files) == 1 and not glob.has_magic(files[0]):
        _copy(Path(files[0]), collector, write)
        return
    for pattern in files:
        matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207 (pathlib takes no absolute one)
        for path in matches:
            write(f"==> {path} <==\n".encode(errors="replace"))
            try:
                _copy(Path(path), collector, write)
            except OSError as error:
                write(f"{error.strerror}\n".encode())
            write(b"\n")


def _copy(path: Path, collector: Collector, write: Write) -> None:
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if collector.keep == "newest" and size > collector.limit:
            # Read one byte more than is kept, so that the buffer records that the file was cut.
            file.seek(size - collector.limit - 1)
        while block := file.read(_BLOCK):
            write(block)


def _request(collector: Collector, write: Write) -> None:
    """Request a path from the running service, at the address in the configuration of its process."""
    section, _, path = collector.address.partition(":")
    config = _configuration()
    answer = http.ask(
        config[section]["host"],
        config[section]["port"],
        path,
        seconds=collector.seconds,
        tls=section == "server" and http.secured(config),
        limit=collector.limit + 1,
    )
    if answer is None:
        raise CollectorError("no answer")
    write(answer[1])
    if answer[0] != 200:
        raise CollectorError(f"status {answer[0]}")


def _ask_haproxy(command: str, write: Write) -> None:
    """Ask HAProxy at its runtime socket."""
    try:
        write(runtime.Runtime(paths.HAPROXY_SOCKET).shown(command).encode())
    except LoadBalancerError as error:
        raise CollectorError(str(error)) from error


def _configuration() -> dict[str, Any]:
    try:
        text = Path(f"/proc/{service_process()['pid']}/cwd/config.json").read_text()
    except OSError:
        text = paths.CONFIG.read_text()
    config: dict[str, Any] = json.loads(text)
    return config


def _processes(write: Write) -> None:
    """Write a JSON line for each process in the unit's control group, then its arguments and environment.

    Arguments and environment come last, because reading them can hang with the process.
    """
    processes = host_secrets.unit_processes(paths.PROC)
    for pid in processes:
        directory = paths.PROC / str(pid)
        kernel = {
            name: _lines(directory / name)
            for name in ("status", "wchan", "io", "limits", "oom_score", "cgroup", "schedstat")
        }
        links = {name: _target(directory / name) for name in ("exe", "cwd")}
        write(
            json.dumps({"pid": pid, **links, "open_files": _count(directory / "fd"), **kernel}).encode()
            + b"\n"
        )
    for pid in processes:
        directory = paths.PROC / str(pid)
        arguments = host_secrets.texts(_bytes(directory / "cmdline"))
        values = list(secret_values.in_arguments(arguments))
        variables = host_secrets.as_variables(host_secrets.texts(_bytes(directory / "environ")))
        started = {
            "pid": pid,
            "arguments": [redaction.replace_values(argument, values) for argument in arguments],
            "environment": {
                name: redaction.MARK.decode() if secret_names.is_secret_variable(name) else value
                for name, value in variables.items()
            },
        }
        write(json.dumps(started).encode() + b"\n")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _lines(path: Path) -> list[str]:
    return _bytes(path).decode(errors="replace").splitlines()


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError as error:
        return f"({error.strerror})"


def _count(directory: Path) -> int | None:
    try:
        return sum(1 for _ in directory.iterdir())
    except OSError:
        return None


_FUNCTIONS: dict[str, Callable[[Write], None]] = {"processes": _processes}
